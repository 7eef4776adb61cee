"""How an event looks: as one line of JSON, as one line for a person, and as talk.

What a server sends must never command the terminal: it is shown as printable text only.  Neighbours: `_demo` and
`_tail` print what this makes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final, cast

from rich.text import Text

from allenhark_ws import (
    BotUpdate,
    Channel,
    Closed,
    Connected,
    Disconnected,
    Event,
    EventsDropped,
    Gap,
    InvalidMessage,
    LifecycleEvent,
    PriceUpdate,
    Reconnecting,
    ServerError,
    ServerEvent,
    TradeExecuted,
    TransactionConfirmed,
)

__all__ = ["Trend", "as_json", "as_talk", "as_text", "printable"]


def as_json(event: Event) -> str:
    """The event's documented fields and its class as ``"event_type"``.

    Off the wire also when it was received, keys that are not documented as ``"extra"``, if any, and the channel of a
    transaction where that is known.  In ASCII, whatever the locale.  Times are all of one form, with microseconds.  A
    number that was too large for a float, for which JSON has no word, is the text ``"Infinity"``.
    """
    fields = {"event_type": type(event).__name__, **_fields(event)}
    if isinstance(event, TransactionConfirmed) and event.channel is not None:
        fields["wallet"] = event.channel.wallet
    extra = getattr(event, "extra", None)
    if extra:
        fields["extra"] = extra
    received_at = getattr(event, "received_at", None)
    if received_at is not None:
        fields["received_at"] = received_at
    try:
        return json.dumps(fields, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(fields, default=_plain), parse_constant=str))


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in value.__attrs_attrs__ if field.repr}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (TradeExecuted, Channel)):
        return _fields(value)
    if isinstance(value, Mapping):
        return dict(cast("Mapping[object, Any]", value))
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[object]", value), key=repr)
    return str(value) if isinstance(value, BaseException) else getattr(value, "__qualname__", repr(value))


class Trend:
    """Whether a price went up or down since the last one of its token."""

    def __init__(self) -> None:
        self._last: dict[str, float | Decimal] = {}

    def of(self, event: Event) -> str:
        """``"up"``, ``"down"``, or an empty text where there is nothing to compare."""
        if not isinstance(event, PriceUpdate):
            return ""
        before = self._last.get(event.mint, event.price)
        self._last[event.mint] = event.price
        return "" if event.price == before else "up" if event.price > before else "down"


_TRENDS: Final = {"up": ("▲", "green"), "down": ("▼", "red"), "": (" ", "cyan")}


def as_text(event: Event, trend: str = "") -> Text:
    """One line for a person, of 80 columns as a rule; the colours show on a terminal only.

    Args:
        event: what to show.
        trend: of a price, as `Trend` tells it.
    """
    name = type(event).__name__
    text = Text.assemble((_clock(event), "dim"), " ", (f"{name:<21}", _style(event)))
    if isinstance(event, PriceUpdate):
        arrow, style = _TRENDS[trend]
        text.append(f"{printable(_short(event.mint))}  {arrow} ").append(
            f"{_number(event.price):<12}", style=f"bold {style}"
        )
        return text.append(f" volume {_number(event.volume)}")
    return text.append(printable(_detail(event)))


def _number(value: float | Decimal) -> str:
    """A float with nine digits, which is more than prices have; a Decimal with every digit it came with."""
    return f"{value:f}" if isinstance(value, Decimal) else f"{value:.9g}"


def printable(text: str) -> str:
    """The text with everything that would move a cursor or ring a bell spelt out."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def as_talk(event: Event) -> tuple[str, str] | None:
    """What there is to say on stderr of an event, and in which style; None: nothing."""
    text, style = "", "yellow"
    if isinstance(event, Connected):
        text, style = f"connected, round trip {event.rtt * 1000:.1f} ms", "green"
    elif isinstance(event, Disconnected):
        text = f"connection lost: {event.cause.reason}"
    elif isinstance(event, Reconnecting):
        reason = getattr(event.cause, "reason", event.cause)
        text = f"attempt {event.attempt - 1} failed: {reason}; " if event.attempt > 1 else ""
        text += f"connecting again {_in_time(event.delay)}"
    elif isinstance(event, Gap):
        between = f"between {event.started_at:%H:%M:%S} and {event.ended_at:%H:%M:%S} UTC"
        text = f"gap: events of {event.duration:.1f} s may be missing, {between}"
    elif isinstance(event, EventsDropped):
        text, style = f"{event.count} lost by {event.consumer}", "red"
    elif isinstance(event, ServerError):
        code = "" if event.code is None else f" ({event.code})"
        text, style = f"the server says: error{code}: {event.message}", "red"
    elif isinstance(event, InvalidMessage):
        text, style = f"not a message: {event.reason}", "red"
    return (printable(text), style) if text else None


def _in_time(seconds: float) -> str:
    return f"in {seconds:.1f} s" if seconds >= 0.05 else "at once"


def _clock(event: Event) -> str:
    """When it was received, in UTC; of what is not received, as the client's own events, now."""
    moment: datetime = getattr(event, "received_at", None) or datetime.now(timezone.utc)
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


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
    if isinstance(event, BotUpdate):
        data = event.data
        if isinstance(data, TradeExecuted):  # of an event that has no other name
            return f"{event.bot_id}  trade profit {data.profit:+}  {_short(data.signature)}"
        return f"{event.bot_id}  {event.event}  {data!r}"
    if isinstance(event, TransactionConfirmed):
        return f"{_short(event.signature)}  {event.status}  slot {event.slot}"
    if isinstance(event, Connected):
        return f"attempt {event.attempt}, round trip {event.rtt * 1000:.2f} ms"
    if isinstance(event, Closed):
        return "by us" if event.error is None else str(event.error)
    return ", ".join(f"{key} {value}" for key, value in _fields(event).items())
