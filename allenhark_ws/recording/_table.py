"""Data events as rows: which columns there are, and what an event puts into them.

Neighbours: `_convert` writes them.  It must never open a file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, cast

import attrs

from ..channels import Transactions
from ..events import DataEvent, TradeExecuted

__all__ = ["COLUMNS", "Row", "row"]

Row = tuple[Any, ...]
"""The values of one event, in the order of `COLUMNS`; None where it has none."""

COLUMNS: Final[Mapping[str, type]] = MappingProxyType(
    {
        "received_at": datetime,
        "event_type": str,
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

``event_type`` is the event's class.  ``timestamp`` is the server's, of a price or a trade.  ``data`` is JSON, of a bot
update that is no trade; a trade has its ``signature`` and ``profit`` instead.  ``wallet`` is there when the message
names one.  Documented fields without a column of their own are in ``data`` too.
"""


def row(event: DataEvent) -> Row:
    """What an event puts into the columns."""
    values = {"received_at": event.received_at, "event_type": type(event).__name__, **_fields(event)}
    return tuple(values.get(name) for name in COLUMNS)


def _fields(event: DataEvent) -> dict[str, Any]:
    """The documented fields, by their columns."""
    fields = {a.name: getattr(event, a.name) for a in attrs.fields(type(event)) if a.eq}
    data = fields.pop("data", None)
    if isinstance(data, TradeExecuted):
        fields |= {"signature": data.signature, "profit": data.profit, "timestamp": data.timestamp}
        data = None
    without = {name: value for name, value in fields.items() if name not in COLUMNS}
    if data is not None or without:
        fields["data"] = _json({**(data or {}), **without})
    if isinstance(event.channel, Transactions):
        fields["wallet"] = event.channel.wallet
    return {name: _text(value) if isinstance(value, str) else value for name, value in fields.items()}


def _json(fields: Mapping[str, Any]) -> str:
    """As JSON, which has no word for what was too large for a float: that is the text ``"Infinity"``."""
    try:
        return json.dumps(fields, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(fields, default=_plain), parse_constant=str))


def _plain(value: object) -> object:
    """What JSON has in the place of a value that it has no word for."""
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else str(value)


def _text(text: str) -> str:
    """The text as UTF-8 can have it: JSON lets half a character through that no file takes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
