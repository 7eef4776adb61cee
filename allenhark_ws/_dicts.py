"""The fast lane of a bare install: the C scanner behind `json`, and events made of the dicts that it gives.

Of the 3,300 ns that a message takes here, from the socket to the user's function, the scanner needs 1,240; msgspec
reads one in 480 (``python -m tests.benchmarks costs``).  Neighbours: `_codec` takes this lane where msgspec is not
installed or numbers are `Decimal`, `_structs` asks it about whatever it refuses, `_lanes` is what a lane is, `_twins`
are what it fills.  It must never give an event that the plain way would not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from . import _twins
from ._frozen import freeze
from ._json import is_object, scanner
from ._lanes import (
    LARGEST_PAYLOAD,
    MANY,
    MAX_DEPTH,
    Lane,
    Moments,
    Names,
    is_shallow,
    joined,
    parted,
    undeclared,
)
from ._strict import Misfit, decimal_number, float_number, json_type, text, whole_number
from .channels import Transactions
from .events import BotUpdate, DataEvent, PriceUpdate, TradeExecuted, TransactionConfirmed

__all__ = ["stdlib_lane"]

_Message = dict[str, Any]

_MAX: Final = sys.float_info.max
_MIN: Final = -_MAX

_SHORT: Final = len('{"":}') * MAX_DEPTH
"""Bytes below which no objects in a payload, if it has no array, can be nested too deeply."""


class _Reader:
    """Payloads into dicts, one by one or all those of a read at once.

    Args:
        decimal: numbers become exact `Decimal` instead of `float`.
    """

    def __init__(self, *, decimal: bool) -> None:
        self._scan = scanner(decimal=decimal)

    def read(self, payloads: Sequence[bytes]) -> Iterable[Any]:
        """What each payload is, or None."""
        found = self._read_together(payloads) if len(payloads) >= MANY else None
        return map(self.read_one, payloads) if found is None else found

    def _read_together(self, payloads: Sequence[bytes]) -> list[Any] | None:
        """All at once; None unless each of them is short and surely one value without an array: see `BORDER`."""
        if max(map(len, payloads)) >= _SHORT:
            return None
        array = joined(payloads)
        if array is None or array.count(b"[") > 1:
            return None
        found = self._value(array)
        return None if found is None else parted(found, payloads)

    def read_one(self, payload: bytes) -> Any:
        """What the payload is, or None."""
        if type(payload) is not bytes or len(payload) > LARGEST_PAYLOAD or not is_shallow(payload):
            return None
        return self._value(payload)

    def _value(self, payload: bytes) -> Any:
        try:
            text = str(payload, "utf-8")
            found, end = self._scan(text, 0)
        except (ValueError, StopIteration, RecursionError):
            return None
        return found if end == len(text) else None


class _Maker:
    """Makes events of dicts.

    Args:
        decimal: numbers are exact `Decimal` instead of `float`.
    """

    def __init__(self, *, decimal: bool) -> None:
        self._number = decimal_number if decimal else float_number
        self._sure = None if decimal else float  # the type of a number that need only be looked at for being finite
        self._moments = Moments()
        self._names = Names()

    def build(
        self, pairs: Iterable[tuple[bytes, Any]], received_at: datetime, wallet: Transactions | None
    ) -> Iterator[tuple[bytes, Any]]:
        """Each payload with its event, or with None.

        One loop, since it takes nine tenths of the time of a call for each event and another for each number.
        """
        sure, number, names, moments = self._sure, self._number, self._names, self._moments
        price, transaction, bot = _twins.PRICE, _twins.TRANSACTION, _twins.BOT
        before, moment = object(), None  # the last timestamp; most often the next one is the same
        for payload, message in pairs:
            event: Any = None
            try:
                kind = message["type"]
                if kind == "price_update":
                    event = price()
                    event.mint = names[message["mint"]]
                    value = message["price"]
                    event.price = value if type(value) is sure and _MIN <= value <= _MAX else number(value, None)
                    value = message["volume"]
                    event.volume = value if type(value) is sure and _MIN <= value <= _MAX else number(value, None)
                    if message["timestamp"] != before:
                        moment = moments[message["timestamp"]]
                        before = message["timestamp"]
                    event.timestamp = moment
                    event.raw = payload
                    event.received_at = received_at
                    event.__class__ = PriceUpdate
                elif kind == "transaction_confirmed":
                    event = transaction()
                    value = message["signature"]
                    event.signature = value if type(value) is str else text(value, None)
                    event.status = names[message["status"]]
                    value = message["slot"]
                    event.slot = value if type(value) is int else whole_number(value, None)
                    event.channel = wallet if len(message) == 4 else _named(message) or wallet
                    event.raw = payload
                    event.received_at = received_at
                    event.__class__ = TransactionConfirmed
                elif kind == "bot_update":
                    event = bot()
                    event.bot_id = names[message["botId"]]
                    event.event = names[message["event"]]
                    event.data = self._data(message["event"], message["data"])
                    event.raw = payload
                    event.received_at = received_at
                    event.__class__ = BotUpdate
            except (KeyError, TypeError, Misfit):
                event = None
            yield payload, event

    def _data(self, name: str, data: Any) -> Any:
        """The trade, or the data as they are when there is none or they do not fit one."""
        if not is_object(data):
            raise Misfit("an object", json_type(data))
        if name != "trade_executed":
            return freeze(data)
        trade = _twins.TRADE()
        try:
            value = data["signature"]
            trade.signature = value if type(value) is str else text(value, None)
            value = data["profit"]
            trade.profit = value if type(value) is self._sure and _MIN <= value <= _MAX else self._number(value, None)
            trade.timestamp = self._moments[data["timestamp"]]
        except (KeyError, TypeError, Misfit):
            return freeze(data)
        trade._undeclared = None if len(data) == 3 else undeclared(data)  # noqa: SLF001 - a trade in the making
        trade.__class__ = TradeExecuted
        return trade


def _named(message: _Message) -> Transactions | None:
    """The channel of the wallet that a transaction names, if it does."""
    wallet = message.get("wallet")
    return Transactions(wallet) if type(wallet) is str and wallet.strip() else None


def stdlib_lane(*, decimal: bool) -> Lane:
    """The lane that needs no extra: the C scanner behind `json`, without the two regular expressions in front of it.

    Args:
        decimal: numbers become exact `Decimal` instead of `float`.
    """
    reader, maker = _Reader(decimal=decimal), _Maker(decimal=decimal)

    def make(payload: bytes, received_at: datetime, wallet: Transactions | None) -> DataEvent | None:
        [(_, event)] = maker.build([(payload, reader.read_one(payload))], received_at, wallet)
        made: DataEvent | None = event
        return made

    return Lane.of_events(make, reader.read, maker.build)
