"""The fast lane on msgspec, the ``speed`` extra: a quarter of the standard library's time for each message.

msgspec reads a frame into a tagged `Struct`, strictly: it refuses a key that is not documented, a value of another
type, a repeated ``type`` that says otherwise, and bytes that are not UTF-8.  So whatever it accepts has the documented
keys and nothing else, and means the same to the plain way, but for timestamps: those that are not in UTC, and those
with more digits than microseconds, which it rounds where ours are cut, are left to `_lanes`, whose rules hold here too.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Any, Final

import msgspec

from . import _twins
from ._lanes import Lane, Names
from .channels import Transactions
from .events import BotUpdate, PriceUpdate, TradeExecuted, TransactionConfirmed

__all__ = ["msgspec_lane"]


class _Price(msgspec.Struct, tag_field="type", tag="price_update", forbid_unknown_fields=True, gc=False):
    mint: str
    price: float
    volume: float
    timestamp: _Moment


class _Transaction(msgspec.Struct, tag_field="type", tag="transaction_confirmed", forbid_unknown_fields=True, gc=False):
    signature: str
    status: str
    slot: int


class _Trade(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    signature: str
    profit: float
    timestamp: _Moment


class _Bot(msgspec.Struct, tag_field="type", tag="bot_update", rename="camel", forbid_unknown_fields=True, gc=False):
    bot_id: str
    event: str
    data: _Trade


_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


_REFUSALS: Final = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding raises: its own errors, which are no `ValueError` in old versions, and one for what is not UTF-8."""


def _is_exact(payload: bytes, tail: int) -> bool:
    """Whether a payload that was accepted has a timestamp whose digits cannot have been rounded.

    No other key than ``timestamp`` ends with a p, and a quote inside a text would have a backslash before it: so the
    timestamp begins at the mark that is looked for, and has at most the 27 characters of
    ``2024-01-15T10:30:00.123456Z``; a time zone written longer leaves room for fewer digits.

    Args:
        payload: a message whose every key is documented.
        tail: bytes from the last character of the timestamp to the end.
    """
    return payload.find(b'p":"', -31 - tail) >= 0 or payload.find(b'p": "', -32 - tail) >= 0


def msgspec_lane(otherwise: Lane) -> Lane:
    """The lane for `float` numbers.

    One long function on purpose: every call in it would be made for every message.

    Args:
        otherwise: the lane to ask about whatever msgspec refuses.
    """
    decode = msgspec.json.Decoder(_Price | _Transaction | _Bot).decode
    names, utc = Names(), timezone.utc
    price_twin, transaction_twin, bot_twin, trade_twin = _twins.PRICE, _twins.TRANSACTION, _twins.BOT, _twins.TRADE

    def build(  # noqa: PLR0911 - three kinds, and ways out of each
        payload: bytes, received_at: datetime, wallet: Transactions | None
    ) -> Any:  # what twins become
        if type(payload) is not bytes:
            return None
        try:
            message = decode(payload)
            kind = type(message)
            if kind is _Price:
                moment = message.timestamp
                if moment.tzinfo is not utc or not (payload.find(b'p":"', -33) >= 0 or _is_exact(payload, 2)):
                    return otherwise(payload, received_at, wallet)
                event = price_twin()
                event.raw = payload
                event.received_at = received_at
                event.mint = names[message.mint]
                event.price = message.price
                event.volume = message.volume
                event.timestamp = moment
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
            data = message.data
            moment = data.timestamp
            if message.event != "trade_executed" or moment.tzinfo is not utc or not _is_exact(payload, 3):
                return otherwise(payload, received_at, wallet)
            trade = trade_twin()
            trade.signature = data.signature
            trade.profit = data.profit
            trade.timestamp = moment
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
        except _REFUSALS:
            pass
        return otherwise(payload, received_at, wallet)

    return build
