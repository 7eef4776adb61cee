"""How clients, streams, statistics and events look in a notebook: small HTML tables, as strings.

Every value passes through `text`, which escapes it: what a server says must not become markup.  Colours are the page's
own, but for a few that are legible on white and on black alike; styles stand at the elements, since a notebook keeps
them there when it is saved.  Neighbours: the ``_repr_html_`` of those classes hand themselves over; `notebook` builds
the live table of the same pieces.  It must never keep what it is given, nor need an extra.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import Enum
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from ._words import counted

if TYPE_CHECKING:
    from .client import Client, Subscription
    from .streams import Stream

__all__ = [
    "BAD",
    "GOOD",
    "MUTED",
    "WARNING",
    "client_html",
    "milliseconds",
    "state_badge",
    "stream_html",
    "subscription_html",
    "table",
    "text",
    "value_html",
]

GOOD: Final = "#178f4b"
BAD: Final = "#d33b40"
WARNING: Final = "#a16f0b"
"""Legible on white and on the dark theme's black: contrast 4 or more with both."""

MUTED: Final = "opacity:.65"
"""The style of what is less important: paler, whatever the page's colour is."""

_LONGEST: Final = 300
"""Characters shown of one value: a message may be a megabyte."""

_MAX_ITEMS: Final = 8
"""Channels shown of a set: it may hold thousands."""

_TABLE: Final = "border-collapse:collapse;border:none;margin:.2em 0;color:inherit;font-variant-numeric:tabular-nums"
_ROW: Final = "background:transparent;border:none"
_NAME: Final = f"text-align:left;padding:.1em 1.2em .1em 0;border:none;font-weight:normal;vertical-align:top;{MUTED}"
_VALUE: Final = "text-align:left;padding:.1em 0;border:none;vertical-align:top;overflow-wrap:anywhere"


def text(value: object) -> str:
    """The value as HTML that shows its text and does nothing else; the end of a long one is cut off."""
    told = str(value)
    rest = len(told) - _LONGEST
    return escape(told) if rest <= 0 else f"{escape(told[:_LONGEST])}… ({counted(rest, 'more character')})"


def table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A title over names and values.

    Args:
        title: HTML.
        rows: each a name, plain, and its value, HTML.
    """
    body = "".join(
        f'<tr style="{_ROW}"><th style="{_NAME}" scope="row">{escape(name)}</th><td style="{_VALUE}">{value}</td></tr>'
        for name, value in rows
    )
    return f'<div style="margin:.2em 0"><div>{title}</div><table style="{_TABLE}"><tbody>{body}</tbody></table></div>'


def _title(name: str, rest: str = "") -> str:
    return f"<strong>{escape(name)}</strong> {rest}"


# --- Values


def milliseconds(seconds: float | None) -> str:
    """Seconds, told as milliseconds; a dash for None."""
    return "—" if seconds is None else f"{seconds * 1000:,.2f} ms"


def _plain(value: object) -> str:
    """The text of one field."""
    if value is None:
        return "—"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds")
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool) or not isinstance(value, int):
        return getattr(value, "__qualname__", None) or str(value)
    return f"{value:,}" if abs(value) < 10**18 else str(value)[:_LONGEST]


def _channels(channels: Iterable[object]) -> str:
    told = sorted(map(repr, channels))
    return "<br>".join(map(text, told[:_MAX_ITEMS])) + _more(len(told)) or "none"


def _more(count: int) -> str:
    return f"<br>and {count - _MAX_ITEMS:,} more" if count > _MAX_ITEMS else ""


def _field(name: str, value: object) -> str:
    if name in ("rtt", "rtt_last", "rtt_min", "rtt_avg", "clock_offset") and isinstance(value, (float, int)):
        return milliseconds(value)
    if name == "data" and attrs.has(type(value)):
        return "<br>".join(f"{escape(name)} {told}" for name, told in _fields(value))
    if isinstance(value, frozenset):
        return _channels(cast("frozenset[object]", value))
    if isinstance(value, Mapping):
        return _mapping(cast("Mapping[object, Any]", value))
    return text(_plain(value))


def _mapping(value: Mapping[Any, Any]) -> str:
    told = [f"{text(key)}: {text(_plain(item))}" for key, item in islice(value.items(), _MAX_ITEMS)]
    return "<br>".join(told) + _more(len(value)) or "—"


def _fields(value: Any) -> list[tuple[str, str]]:
    names = [field.name for field in value.__attrs_attrs__ if field.repr]
    return [(name, _field(name, getattr(value, name))) for name in names]


def value_html(value: Any) -> str:
    """An event, or a `Stats`: its documented fields, and when it was received."""
    rows = _fields(value)
    received_at = getattr(value, "received_at", None)
    if received_at is not None:
        rows.append(("received_at", text(_plain(received_at))))
    return table(_title(type(value).__name__), rows)


# --- Things with a life


def state_badge(state: str) -> str:
    """The name of a state behind a dot that is green only when all is well."""
    colour = {"READY": GOOD, "CLOSED": BAD}.get(state, WARNING)
    return f'<span style="color:{colour}">●</span> {escape(state)}'


def client_html(client: Client, where: str) -> str:
    """Where a client stands, what it wants and what it has counted; `where` is its URL without what may be secret."""
    stats, channels = client.stats, client.subscriptions
    rows = [
        ("url", text(where)),
        (f"channels ({len(channels):,})", _channels(channels)),
        ("connected since", text(_plain(stats.connected_since))),
        ("received", f"{counted(stats.messages_received, 'message')}, {counted(stats.bytes_received, 'byte')}"),
        ("sent", counted(stats.messages_sent, "message")),
        ("round trip", f"last {milliseconds(stats.rtt_last)}, mean {milliseconds(stats.rtt_avg)}"),
        ("reconnects", f"{stats.reconnects:,}"),
        ("dropped", f"{stats.dropped:,}"),
        ("not understood", f"{stats.unknown:,} unknown, {stats.invalid:,} invalid"),
        (
            "callbacks",
            f"{counted(stats.callback_backlog, 'event')} waiting, {counted(stats.callback_errors, 'error')}",
        ),
    ]
    if client.error is not None:
        rows.append(("error", text(client.error)))
    return table(_title(type(client).__name__.lstrip("_"), state_badge(stats.state.name)), rows)


def stream_html(stream: Stream[Any], maxsize: int, overflow: str) -> str:
    """What a stream takes, how much is queued, and what was lost."""
    rows = [
        ("kinds", "<br>".join(text(_kind(kind)) for kind in stream.kinds[:_MAX_ITEMS]) + _more(len(stream.kinds))),
        ("queued", f"{stream.qsize():,} of {maxsize:,}, {stream.high_water:,} at most so far"),
        ("dropped", f"{stream.dropped:,}"),
        ("conflated", f"{stream.conflated:,}"),
        ("overflow", text(overflow)),
    ]
    return table(_title("Stream", text(stream.name.partition("(")[0])), rows)


def _kind(kind: object) -> str:
    return kind.__name__ if isinstance(kind, type) else repr(kind)


def subscription_html(subscription: Subscription) -> str:
    """The channels of a subscription."""
    channels = subscription.channels
    return table(_title("Subscription"), [(f"channels ({len(channels):,})", _channels(channels))])
