"""The fast lane on msgspec, the ``speed`` extra: a quarter of the standard library's time for each message.

msgspec reads a frame into a tagged `Struct`, strictly: it refuses a key that is not documented, a value of another
type, a repeated ``type`` that says otherwise, and bytes that are not UTF-8.  So whatever it accepts has the documented
keys and nothing else, and means the same to the plain way.  Its own timestamps are rounded where ours are cut, so that
they stay text until it is clear that there is nothing to round.  The rules of `_lanes` hold here.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Final

import msgspec

from . import _twins
from ._lanes import Lane, Moments, Names
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


_EXACT: Final = len("2024-01-15T10:30:00.123456Z")
"""Characters that a timestamp may have and still be exact: a time zone written longer leaves room for fewer digits."""


def _moment(text: str, _type: object) -> datetime:
    """`_strict.moment`, in a quarter of its time for the usual spellings.

    Raises:
        Misfit, ValueError: it is no timestamp.
    """
    if len(text) <= _EXACT:
        found = msgspec.convert(text, datetime)
        if found.tzinfo is timezone.utc:
            return found
    return moment(text, None)


def msgspec_lane(otherwise: Lane) -> Lane:
    """The lane for `float` numbers.

    One long function on purpose: every call in it would be made for every message.

    Args:
        otherwise: the lane to ask about whatever msgspec refuses.
    """
    decode = msgspec.json.Decoder(_Price | _Transaction | _Bot).decode
    moments, names = Moments(_moment), Names()
    price_twin, transaction_twin, bot_twin, trade_twin = _twins.PRICE, _twins.TRANSACTION, _twins.BOT, _twins.TRADE

    def build(payload: bytes, received_at: datetime, wallet: Transactions | None) -> Any:  # what twins become
        if type(payload) is not bytes:
            return None
        try:
            message = decode(payload)
            kind = type(message)
            if kind is _Price:
                event = price_twin()
                event.raw = payload
                event.received_at = received_at
                event.mint = names[message.mint]
                event.price = message.price
                event.volume = message.volume
                event.timestamp = moments[message.timestamp]
                event.__class__ = PriceUpdate
                return event
            if kind is _Transaction:
                event = transaction_twin()
                event.raw = payload
                event.received_at = received_at
                event.signature = message.signature
                event.status = names[message.status]
                event.slot = message.slot
                event.channel = wallet
                event.__class__ = TransactionConfirmed
                return event
            if message.event != "trade_executed":
                return otherwise(payload, received_at, wallet)
            data = message.data
            trade = trade_twin()
            trade.signature = data.signature
            trade.profit = data.profit
            trade.timestamp = moments[data.timestamp]
            trade._undeclared = None  # noqa: SLF001 - a trade in the making
            trade.__class__ = TradeExecuted
            event = bot_twin()
            event.raw = payload
            event.received_at = received_at
            event.bot_id = names[message.bot_id]
            event.event = "trade_executed"
            event.data = trade
            event.__class__ = BotUpdate
            return event  # noqa: TRY300 - an `else` would need a flag
        except (ValueError, RecursionError, Misfit):
            pass
        return otherwise(payload, received_at, wallet)

    return build
