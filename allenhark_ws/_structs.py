"""The fast lane on msgspec, the ``speed`` extra: a quarter of the standard library's time for each message.

msgspec reads a frame into a tagged `Struct`, strictly: it refuses a key that is not documented, a value of another
type, a repeated ``type`` that says otherwise, and bytes that are not UTF-8.  So whatever it accepts has the documented
keys and nothing else, and means the same to the plain way.  Timestamps are texts to it, each of which is read once:
looking it up costs half of what msgspec takes to read it again (measured), and nothing rounds its digits.  Neighbours:
`_codec` asks it before all else where msgspec is installed, `_dicts` is asked about what it refuses, `_lanes` is what
a lane is, `_twins` are what it fills.  It must never accept a frame that the plain way would read otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from . import _twins
from ._lanes import (
    LARGEST_PAYLOAD,
    MANY,
    Lane,
    Make,
    Moments,
    Names,
    Reading,
    as_they_are,
    joined,
    parted,
)
from ._strict import Misfit, moment
from .channels import Transactions
from .events import BotUpdate, PriceUpdate, TradeExecuted, TransactionConfirmed

__all__ = ["msgspec_lane"]


class _Price(msgspec.Struct, tag_field="type", tag="price_update", forbid_unknown_fields=True, gc=False):
    mint: str
    price: float
    volume: float
    timestamp: str


class _Transaction(msgspec.Struct, tag_field="type", tag="transaction_confirmed", forbid_unknown_fields=True, gc=False):
    signature: str
    status: str
    slot: int


class _Trade(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    signature: str
    profit: float
    timestamp: str


class _Bot(msgspec.Struct, tag_field="type", tag="bot_update", rename="camel", forbid_unknown_fields=True, gc=False):
    bot_id: str
    event: str
    data: _Trade


_REFUSALS: Final = (msgspec.MsgspecError, ValueError, RecursionError, Misfit)
"""What reading raises: its own errors, which are no `ValueError` in old versions, one for what is not UTF-8, ours."""


_USUAL: Final = frozenset(map(len, ("2024-01-15T10:30:00Z", "2024-01-15T10:30:00.123Z", "2024-01-15T10:30:00.123456Z")))
"""Characters of the timestamps that msgspec reads as `_strict.moment` does, in a quarter of its time."""


def _moment(text: str, _type: object) -> datetime:
    """`_strict.moment`."""
    if len(text) in _USUAL and text[-1] == "Z":
        try:
            found: datetime = msgspec.convert(text, datetime)
        except msgspec.ValidationError:
            pass  # some of these are read all the same; the others are told better
        else:
            if "\0" not in text:  # where msgspec stops reading
                return found
    return moment(text, None)


class _Reader:
    """Payloads into messages, one by one or all those of a read at once."""

    def __init__(self) -> None:
        self.decode = msgspec.json.Decoder(_Price | _Transaction | _Bot).decode
        self._decode_array = msgspec.json.Decoder(list[_Price | _Transaction | _Bot | int]).decode

    def read(self, payloads: Sequence[bytes]) -> Iterable[Any]:
        """The message of each payload, or None."""
        messages = self._read_together(payloads) if len(payloads) >= MANY else None
        return map(self._read_one, payloads) if messages is None else messages

    def _read_together(self, payloads: Sequence[bytes]) -> list[Any] | None:
        """All messages at once, none of which has an array in it; None when one of the payloads is something else."""
        array = joined(payloads)
        if array is None:
            return None
        try:
            found = self._decode_array(array)
        except _REFUSALS:
            return None
        return parted(found, payloads)

    def _read_one(self, payload: bytes) -> Any:
        if type(payload) is bytes and len(payload) <= LARGEST_PAYLOAD:
            try:
                return self.decode(payload)
            except _REFUSALS:
                pass
        return None


class _Maker:
    """Makes an event of one payload: the plain twin of what the hot path does with `_Reader.read`.

    Args:
        decode: makes the message of a payload, or raises one of `_REFUSALS`.
        otherwise: the lane to ask about whatever msgspec refuses.
    """

    def __init__(self, decode: Callable[[bytes], Any], otherwise: Make) -> None:
        self._decode = decode
        self._otherwise = otherwise
        self.moments = Moments(_moment)
        self.names = Names()

    def make(self, payload: bytes, received_at: datetime, wallet: Transactions | None) -> Any:
        """The event, or None."""
        if type(payload) is not bytes or len(payload) > LARGEST_PAYLOAD:
            return None
        message: Any
        try:
            message = self._decode(payload)
            if type(message) is _Price:
                return self._price(message, payload, received_at)
            if type(message) is _Transaction:
                return self._transaction(message, payload, received_at, wallet)
            if message.event == "trade_executed":
                return self._bot(message, payload, received_at)
        except _REFUSALS:
            pass
        return self._otherwise(payload, received_at, wallet)

    def _price(self, message: _Price, payload: bytes, received_at: datetime) -> Any:
        event = _twins.PRICE()
        event.raw = payload
        event.received_at = received_at
        event.mint = self.names[message.mint]
        event.price = message.price
        event.volume = message.volume
        event.timestamp = self.moments[message.timestamp]
        event.__class__ = PriceUpdate
        return event

    def _transaction(
        self, message: _Transaction, payload: bytes, received_at: datetime, wallet: Transactions | None
    ) -> Any:
        event = _twins.TRANSACTION()
        event.raw = payload
        event.received_at = received_at
        event.signature = message.signature
        event.status = self.names[message.status]
        event.slot = message.slot
        event.channel = wallet
        event.__class__ = TransactionConfirmed
        return event

    def _bot(self, message: _Bot, payload: bytes, received_at: datetime) -> Any:
        trade = _twins.TRADE()
        trade.signature = message.data.signature
        trade.profit = message.data.profit
        trade.timestamp = self.moments[message.data.timestamp]
        trade._undeclared = None  # noqa: SLF001 - a trade in the making
        trade.__class__ = TradeExecuted
        event = _twins.BOT()
        event.raw = payload
        event.received_at = received_at
        event.bot_id = self.names[message.bot_id]
        event.event = "trade_executed"
        event.data = trade
        event.__class__ = BotUpdate
        return event


def msgspec_lane(otherwise: Make) -> Lane:
    """The lane for `float` numbers.

    Args:
        otherwise: the lane to ask about whatever msgspec refuses.
    """
    reader = _Reader()
    maker = _Maker(reader.decode, otherwise)
    reading = Reading(
        reader.read, as_they_are, _Price, _Transaction, _Bot, otherwise, moments=maker.moments, names=maker.names
    )
    return Lane(maker.make, reading)
