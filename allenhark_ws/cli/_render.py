"""How an event looks: as one line of JSON, and as one line for a person.

Neighbours: `_demo` prints what this makes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import attrs
from rich.text import Text

from allenhark_ws import (
    BotUpdate,
    Channel,
    Closed,
    Connected,
    Event,
    LifecycleEvent,
    PriceUpdate,
    ServerEvent,
    TradeExecuted,
    TransactionConfirmed,
)

__all__ = ["as_json", "as_text"]


def as_json(event: Event) -> str:
    """The event's documented fields, its class as ``"event_type"`` and, off the wire, when it was received."""
    fields = {"event_type": type(event).__name__, **_fields(event)}
    received_at = getattr(event, "received_at", None)
    if received_at is not None:
        fields["received_at"] = received_at
    return json.dumps(fields, default=_plain, ensure_ascii=False)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in attrs.fields(type(value)) if field.repr}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (TradeExecuted, Channel)):
        return _fields(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, frozenset):
        return sorted(value, key=repr)
    return str(value) if isinstance(value, BaseException) else getattr(value, "__qualname__", repr(value))


def as_text(event: Event) -> Text:
    """One line for a person; the colours show on a terminal only."""
    name = type(event).__name__
    return Text.assemble(_clock(event), "  ", (f"{name:<21}", _style(event)), _detail(event))


def _clock(event: Event) -> str:
    moment: datetime | None = getattr(event, "received_at", None)
    return " " * 12 if moment is None else f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def _style(event: Event) -> str:
    if isinstance(event, PriceUpdate):
        return "cyan"
    if isinstance(event, BotUpdate):
        return "magenta"
    if isinstance(event, TransactionConfirmed):
        return "green"
    return "yellow" if isinstance(event, (LifecycleEvent, ServerEvent)) else ""


def _short(identifier: str) -> str:
    return identifier if len(identifier) <= 12 else f"{identifier[:4]}…{identifier[-4:]}"


def _detail(event: Event) -> str:
    if isinstance(event, PriceUpdate):
        return f"{_short(event.mint)}  price {event.price:<14g} volume {event.volume:g}"
    if isinstance(event, BotUpdate):
        data = event.data
        told = f"profit {data.profit:+g}  {_short(data.signature)}" if isinstance(data, TradeExecuted) else repr(data)
        return f"{event.bot_id}  {event.event}  {told}"
    if isinstance(event, TransactionConfirmed):
        return f"{_short(event.signature)}  {event.status}  slot {event.slot}"
    if isinstance(event, Connected):
        return f"attempt {event.attempt}, round trip {event.rtt * 1000:.2f} ms"
    if isinstance(event, Closed):
        return "by us" if event.error is None else str(event.error)
    return ", ".join(f"{key} {value}" for key, value in _fields(event).items())
