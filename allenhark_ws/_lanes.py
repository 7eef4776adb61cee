"""The fast lanes of the codec: frames of the documented kinds, straight into events.

A lane takes a payload and gives the event, or None for whatever it is not sure of: another kind of message, a value
that is not of its documented type, a spelling off the beaten track.  `_codec` decodes those by the plain way, which
also says what is wrong with them.  A lane must never give an event that the plain way would not; it raises nothing.
This one stands on the standard library alone; `_structs` has the one on msgspec.  Neighbours: `_codec` asks it before
the plain way, `_express` reads with it, `_twins` are what it fills, `_strict` reads what it is not sure of.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import repeat
from operator import length_hint
from typing import Any, Final

from attrs import frozen

from . import _twins
from ._frozen import freeze
from ._json import scanner
from ._strict import Misfit, decimal_number, float_number, moment
from .channels import Transactions
from .events import BotUpdate, DataEvent, PriceUpdate, TradeExecuted, TransactionConfirmed

__all__ = [
    "LARGEST_PAYLOAD",
    "MAX_DEPTH",
    "Incoming",
    "Lane",
    "Make",
    "Moments",
    "Names",
    "Reading",
    "is_shallow",
    "stdlib_lane",
    "undeclared",
]

Make = Callable[[bytes, datetime, "Transactions | None"], "DataEvent | None"]
"""``make(payload, received_at, wallet)``: the arguments of `Codec.decode`."""

MAX_DEPTH: Final = 100
"""Objects and arrays inside each other that a message may have (RFC 8259, section 9 lets a reader set a limit).

What lies deeper could be decoded here and then be neither copied nor pickled by its user, who may stand on a deeper
stack: `deepcopy` needs five calls a level (measured), and Python allows a thousand in all.
"""

_SHORT: Final = 2 * MAX_DEPTH
"""Bytes below which a payload cannot be nested too deeply."""

LARGEST_PAYLOAD: Final = 65_536
"""Bytes of the largest payload for a fast lane, which does not look at how much memory its values take."""

_MAX_MOMENTS: Final = 1024
_LONGEST_MOMENT: Final = 35
"""Characters of ``2024-01-15T10:30:00.123456789+00:00``; what is longer is not worth remembering."""

_MOST: Final = sys.float_info.max
_LEAST: Final = -_MOST


def is_shallow(payload: bytes) -> bool:
    """Whether its size or its brackets tell that nothing in it is nested too deeply; most payloads are short."""
    return len(payload) < _SHORT or payload.count(b"[") + payload.count(b"{") <= MAX_DEPTH


class Moments(dict[str, datetime]):
    """Timestamps read before: a server's clock ticks far slower than its messages come.

    Reading one takes 0.4 µs, finding it here a tenth of that, and the events share it.  ``moments[text]`` raises what
    the reader raises when the text is no timestamp.

    Args:
        read: reads a timestamp; `_strict.moment`, or what gives the same sooner.
    """

    def __init__(self, read: Callable[[Any, Any], datetime] = moment) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: str) -> datetime:
        found = self._read(text, None)
        if len(text) <= _LONGEST_MOMENT:
            if len(self) >= _MAX_MOMENTS:
                self.clear()
            self[text] = found
        return found


_MAX_NAMES: Final = 16_384
_LONGEST_NAME: Final = 64
"""Characters; a mint or a wallet has 44."""


class Names(dict[str, str]):
    """Texts that come again and again, each kept once: mints, bot ids, what happened.

    A queued price is 90 bytes lighter for it, and finding its place is faster: the text that was kept knows its hash.
    """

    def __missing__(self, text: str) -> str:
        if len(text) <= _LONGEST_NAME:
            if len(self) >= _MAX_NAMES:
                self.clear()
            self[text] = text
        return text


@frozen(eq=False)
class Reading:
    """The first half of a lane, for a loop that does the second itself: a payload becomes a message, not yet an event.

    A message is an object with attributes: `mint`, `price`, `volume`, `timestamp`; or `signature`, `status`, `slot`; or
    `bot_id`, `event`, and `data` with `signature`, `profit`, `timestamp`.  Timestamps are texts.

    Attributes:
        read: makes a message of each payload, or something else; raises nothing.
        price: the class of the messages of one kind; likewise `transaction` and `bot`.
        otherwise: makes the events of all that `read` did not make a message of.
        moments: timestamps read before.
        names: texts read before.
    """

    read: Callable[[Sequence[bytes]], Iterable[Any]]
    price: type
    transaction: type
    bot: type
    otherwise: Make
    moments: Moments
    names: Names


class _NoMessage:
    """The class of no message."""


@frozen(eq=False)
class Incoming:
    """The payloads of one read on their way to consumers, each beside its message; whoever takes one takes both.

    Attributes:
        payloads: those that nobody took yet.
        pairs: they and their messages.
    """

    payloads: Iterator[bytes]
    pairs: Iterator[tuple[bytes, Any]]

    def __len__(self) -> int:
        """How many nobody took yet."""
        return length_hint(self.payloads)


@frozen(eq=False)
class Lane:
    """A way to make events.

    Attributes:
        make: makes an event, or None.
        reading: the same in two halves.
    """

    make: Make
    reading: Reading

    @classmethod
    def whole(cls, make: Make) -> Lane:
        """A lane whose halves cannot be had apart: nothing is a message."""
        reading = Reading(lambda _payloads: repeat(None), _NoMessage, _NoMessage, _NoMessage, make, Moments(), Names())
        return cls(make, reading)

    def incoming(self, payloads: Sequence[bytes]) -> Incoming:
        """The payloads, read, for the hot path."""
        waiting = iter(payloads)
        return Incoming(waiting, zip(waiting, self.reading.read(payloads), strict=False))

    def __call__(self, payload: bytes, received_at: datetime, wallet: Transactions | None) -> DataEvent | None:
        """Make an event, or None."""
        return self.make(payload, received_at, wallet)


_Message = dict[str, Any]
_Maker = Callable[[_Message, bytes, datetime, "Transactions | None"], "DataEvent | None"]


class _Makers:
    """What makes an event of a message that is a `dict`; they raise `KeyError` or `Misfit` for what does not fit."""

    def __init__(self, *, decimal: bool) -> None:
        self._number = decimal_number if decimal else float_number
        self._sure = None if decimal else float  # the type of a number that need not be looked at again
        self._moments = Moments()
        self._names = Names()
        self.by_type: dict[str, _Maker] = {
            "price_update": self._price,
            "bot_update": self._bot,
            "transaction_confirmed": self._transaction,
        }

    def _price(self, message: _Message, payload: bytes, received_at: datetime, _wallet: object) -> Any:
        event = _twins.PRICE()
        event.raw = payload
        event.received_at = received_at
        event.mint = mint = self._names[message["mint"]]
        price, volume = message["price"], message["volume"]
        event.price = price if type(price) is self._sure and _LEAST <= price <= _MOST else self._number(price, None)
        event.volume = (
            volume if type(volume) is self._sure and _LEAST <= volume <= _MOST else self._number(volume, None)
        )
        event.timestamp = self._moments[message["timestamp"]]
        event.__class__ = PriceUpdate
        return event if type(mint) is str else None

    def _bot(self, message: _Message, payload: bytes, received_at: datetime, _wallet: object) -> Any:
        bot_id, name, data = message["botId"], message["event"], message["data"]
        if not (type(bot_id) is type(name) is str and type(data) is dict):
            return None
        event = _twins.BOT()
        event.raw = payload
        event.received_at = received_at
        event.bot_id = self._names[bot_id]
        event.event = self._names[name]
        event.data = (self._trade(data) if name == "trade_executed" else None) or freeze(data)
        event.__class__ = BotUpdate
        return event

    def _trade(self, data: Any) -> TradeExecuted | None:
        """The trade, or None when the data do not fit."""
        trade = _twins.TRADE()
        try:
            trade.signature = signature = data["signature"]
            trade.profit = self._number(data["profit"], None)
            trade.timestamp = self._moments[data["timestamp"]]
        except (KeyError, TypeError, Misfit):
            return None
        trade._undeclared = None if len(data) == 3 else undeclared(data)  # noqa: SLF001 - a trade in the making
        trade.__class__ = TradeExecuted
        return trade if type(signature) is str else None

    def _transaction(
        self, message: _Message, payload: bytes, received_at: datetime, wallet: Transactions | None
    ) -> Any:
        event = _twins.TRANSACTION()
        event.raw = payload
        event.received_at = received_at
        event.signature = signature = message["signature"]
        event.status = status = self._names[message["status"]]
        event.slot = slot = message["slot"]
        named = message.get("wallet")
        event.channel = Transactions(named) if type(named) is str and named.strip() else wallet
        event.__class__ = TransactionConfirmed
        return event if type(signature) is type(status) is str and type(slot) is int else None


def undeclared(data: _Message) -> _Message:
    """The keys of a trade's data that the vendor's page does not declare."""
    return {key: value for key, value in data.items() if key not in ("signature", "profit", "timestamp")}


def stdlib_lane(*, decimal: bool) -> Lane:
    """The lane that needs no extra: the C scanner behind `json`, without the two regular expressions in front of it.

    Args:
        decimal: numbers become exact `Decimal` instead of `float`.
    """
    scan = scanner(decimal=decimal)
    makers = _Makers(decimal=decimal).by_type

    def build(payload: bytes, received_at: datetime, wallet: Transactions | None) -> DataEvent | None:
        if type(payload) is not bytes:
            return None
        if len(payload) >= _SHORT and (len(payload) > LARGEST_PAYLOAD or not is_shallow(payload)):
            return None
        try:
            text = str(payload, "utf-8")
            message, end = scan(text, 0)
            if end != len(text):
                return None
            return makers[message["type"]](message, payload, received_at, wallet)
        except (ValueError, TypeError, KeyError, StopIteration, RecursionError, Misfit):
            return None

    return Lane.whole(build)
