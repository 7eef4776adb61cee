"""Data events as rows: which columns there are, and what an event puts into them.

Neighbours: `_convert` writes them.  It must never open a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from ..events import BotUpdate, DataEvent, PriceUpdate, TradeExecuted, TransactionConfirmed

__all__ = ["COLUMNS", "Row", "row"]

Row = tuple[Any, ...]
"""The values of one event, in the order of `COLUMNS`; None where it has none."""

COLUMNS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "received_at": datetime,
        "type": str,
        "timestamp": datetime,
        "mint": str,
        "price": float,
        "volume": float,
        "bot_id": str,
        "event": str,
        "data": str,
        "signature": str,
        "profit": float,
        "status": str,
        "slot": int,
        "wallet": str,
    }
)
"""Every column and its type; times are UTC.

``type`` is that of the message.  ``timestamp`` is the server's, of a price or a trade.  ``data`` is JSON, of a bot
update that is no trade; a trade has its ``signature`` and ``profit`` instead.  ``wallet`` is there when the message
names one.
"""


def row(event: DataEvent) -> Row:
    """What an event puts into the columns."""
    values = {"received_at": event.received_at, **_fields(event)}
    return tuple(values.get(name) for name in COLUMNS)


def _fields(event: DataEvent) -> dict[str, Any]:
    if isinstance(event, PriceUpdate):
        return {
            "type": "price_update",
            "timestamp": event.timestamp,
            "mint": _text(event.mint),
            "price": event.price,
            "volume": event.volume,
        }
    if isinstance(event, BotUpdate):
        fields = {"type": "bot_update", "bot_id": _text(event.bot_id), "event": _text(event.event)}
        return fields | _bot_data(event.data)
    if isinstance(event, TransactionConfirmed):
        return {
            "type": "transaction_confirmed",
            "signature": _text(event.signature),
            "status": _text(event.status),
            "slot": event.slot,
            "wallet": None if event.channel is None else _text(event.channel.wallet),
        }
    raise TypeError(f"{type(event).__name__} has no columns")


def _bot_data(data: TradeExecuted | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(data, TradeExecuted):
        return {"signature": _text(data.signature), "profit": data.profit, "timestamp": data.timestamp}
    return {"data": json.dumps(data, default=dict)}


def _text(text: str) -> str:
    """The text as UTF-8 can have it: JSON lets half a character through that no file takes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
