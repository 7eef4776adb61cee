"""`to_dataframe`: events as a pandas table with the same columns and dtypes whatever the events are.

Neighbours: `streams` hands its queued events over.  pandas comes with the extra ``notebook`` and is loaded by the call.
It must never load pandas before that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from decimal import Decimal
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from ._hints import Later
from .events import BotUpdate, DataEvent, Event, TradeExecuted, TransactionConfirmed

if TYPE_CHECKING:
    import pandas as pd
else:
    pd = Later("pandas")

__all__ = ["to_dataframe"]

_MOMENT: Final = "datetime64[us, UTC]"
"""Microseconds, as Python's: nanoseconds would not reach beyond 2262, and a server may say any year."""

_TEXT: Final = "string[python]"
"""The same with and without pyarrow, which refuses what JSON can spell and UTF-8 cannot: half a surrogate pair."""

_MONEY: Final = ("price", "volume", "profit")
_DTYPES: Final = {
    "event_type": _TEXT,
    "mint": _TEXT,
    "price": "float64",
    "volume": "float64",
    "bot_id": _TEXT,
    "event": _TEXT,
    "data": "object",
    "signature": _TEXT,
    "profit": "float64",
    "wallet": _TEXT,
    "status": _TEXT,
    "slot": "Int64",
    "received_at": _MOMENT,
    "other": "object",
}
"""The columns in order, and the dtype of each; those of `_MONEY` are objects when they hold `Decimal`."""

_SLOTS: Final = range(-(2**63), 2**63)
"""What fits into the column of slots; no slot of Solana's comes near its end, but a server may send any number."""


def to_dataframe(events: Iterable[Event], *, decimal: bool | None = None) -> pd.DataFrame:
    """The events as a table, a row each, in order.

    The index, ``timestamp``, is the server's time of each event in UTC, and for an event that has none when it was
    received; lifecycle events and events made by hand may have neither (``NaT``).  The columns are always these:

    ============================== ======================= =============================================================
    column                         dtype                   content
    ============================== ======================= =============================================================
    event_type                     string                  the event's class
    mint                           string                  of a `PriceUpdate`
    price, volume                  float64 or object       of a `PriceUpdate`
    bot_id, event                  string                  of a `BotUpdate`
    data                           object                  the mapping of a `BotUpdate` that is no trade
    signature                      string                  of a trade, or of a `TransactionConfirmed`
    profit                         float64 or object       of a trade
    wallet, status                 string                  of a `TransactionConfirmed`; the wallet when it is known
    slot                           Int64                   of a `TransactionConfirmed`
    received_at                    datetime64[us, UTC]     when it was read off the wire
    other                          object                  a dict of the documented fields that have no column, or None
    ============================== ======================= =============================================================

    What an event does not have is missing: ``NaN``, ``NaT``, ``pandas.NA``, and None in columns of objects.

    Args:
        events: any iterable.  A `Stream` is read to its end; `Stream.to_dataframe` takes only what is queued now.
        decimal: price, volume and profit are columns of `Decimal` (objects) if true, of floats if false; None: of
            `Decimal` if any of the events has one.

    Raises:
        ImportError: pandas is missing; the text says what to install.
        TypeError: something is no event.

    Example:
        >>> table = to_dataframe([TransactionConfirmed("5VERv8…", "confirmed", 250123456)])
        >>> table[["signature", "slot"]].values.tolist()
        [['5VERv8…', 250123456]]
    """
    pandas = _load()
    if not isinstance(events, Iterable):
        raise TypeError(f"to_dataframe() takes an iterable of events, got {type(events).__name__}: pass a list")
    moments, columns = _columns(events)
    money = [columns[name] for name in _MONEY]
    if decimal is None:
        decimal = any(isinstance(value, Decimal) for values in money for value in values)
    for values in money:
        values[:] = [None if value is None else _exact(value) if decimal else float(value) for value in values]
    dtypes = {**_DTYPES, **dict.fromkeys(_MONEY, "object")} if decimal else _DTYPES
    index = _times(pandas, moments)
    index.name = "timestamp"
    columns["received_at"] = _times(pandas, columns["received_at"])
    series = {name: pandas.Series(columns[name], index, dtype) for name, dtype in dtypes.items()}
    table: pd.DataFrame = pandas.DataFrame(series, index)
    return table


def _load() -> ModuleType:
    try:
        import pandas  # noqa: ICN001, PLC0415 - an extra, and heavy; `pd` is what type checkers read above
    except ModuleNotFoundError as error:
        if error.name != "pandas":
            raise
        raise ImportError('to_dataframe() needs pandas: pip install "allenhark-ws[notebook]"', name="pandas") from None
    return pandas


def _exact(value: float | Decimal) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _times(pandas: ModuleType, moments: list[datetime | None]) -> Any:
    """An index of moments in UTC, built of numpy's, which reach as far as Python's."""
    naive = [None if moment is None else _utc(moment).replace(tzinfo=None) for moment in moments]
    return pandas.DatetimeIndex(pandas.Series(naive, dtype="object").to_numpy().astype("datetime64[us]"), tz="UTC")


def _utc(moment: datetime) -> datetime:
    """As on the wire, a time without a zone is UTC."""
    return moment if moment.tzinfo in (None, timezone.utc) else moment.astimezone(timezone.utc)


def _columns(events: Iterable[Event]) -> tuple[list[datetime | None], dict[str, list[Any]]]:
    """The moment of each event, and the values of each column, None where an event has none."""
    moments: list[datetime | None] = []
    columns: dict[str, list[Any]] = {name: [] for name in _DTYPES}
    appends = [(name, values.append) for name, values in columns.items()]
    for event in events:
        moment, row = _row(event)
        moments.append(moment)
        for name, append in appends:
            append(row.get(name))
    return moments, columns


def _row(event: Event) -> tuple[datetime | None, dict[str, Any]]:
    """The moment of an event, and its values by column."""
    if not isinstance(event, Event):
        raise TypeError(f"to_dataframe() takes events, got {type(event).__name__} among them")
    fields = _documented(event)
    received_at = getattr(event, "received_at", None)
    moment = fields.pop("timestamp", None) or received_at
    row = {name: fields.pop(name) for name in _DTYPES if name in fields} if isinstance(event, DataEvent) else {}
    if "slot" in row and row["slot"] not in _SLOTS:
        fields["slot"] = row.pop("slot")
    row.update(event_type=type(event).__name__, received_at=received_at, other=fields or None)
    return moment, row


def _documented(event: Event) -> dict[str, Any]:
    """The fields of an event by name, a trade's among those of its update, a confirmation's wallet too."""
    fields = _fields(event)
    if isinstance(event, BotUpdate) and isinstance(event.data, TradeExecuted):
        fields |= _fields(fields.pop("data"))
    if isinstance(event, TransactionConfirmed) and event.channel is not None:
        fields["wallet"] = event.channel.wallet
    return fields


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in value.__attrs_attrs__ if field.repr}
