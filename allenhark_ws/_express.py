"""The hot path: build, route and call in one loop.

Whatever is not a data event of a READY connection, or might have to wait for room, is left to the plain way, which is
decoding with `_codec` and `Router.deliver`; the tests hold one against the other.  Everything in it stands here, not in
methods, because a call costs as much as a lookup.

Where the time goes, in nanoseconds of processor time for a message of the documented mix that comes from a socket, each
line with all of the lines above it (CPython 3.11; ``python -m tests.benchmarks costs``)::

      487  the socket is read, frames are cut
      865  and decoded, those of one read together
      923  and the user is called, with what was decoded
    1,211  with an object that has every field of an event
    1,294  which is a frozen event: its class is swapped (attrs' ``__init__`` takes four times as long to fill one)
    1,775  with a timestamp that is a `datetime`, sent where it should go, remembered as the latest, by the clock

A raw loop that cuts and decodes and calls nobody takes 984.  So a frozen event for each message, and nothing else, is
0.76 of the speed of that; the rest takes it to 0.55, and is three lookups (timestamp, place, text of the status) and
the clock, 100 to 150 of it, which has to be read for every call, or the report could not say whose callback was slow.
In a client it is 1,900: turns of the loop, and a processor that has more to remember.

With the callback thread's part, in one thread, it is 2,151.  In two threads it is 2,600, and 2,350 where both have to
share one processor (``python -m tests.benchmarks throughput``): what they hand over moves from one to the other.

Neighbours: `_router` runs it and hands over what it collects, a lane of `_lanes` builds what it cannot, `_places`
knows where events go, `_dispatch` has the plain way to call back.  It must never give a consumer what the plain way
would not.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Protocol

from attrs import define

from . import _twins
from ._lanes import Incoming, Lane
from ._places import Callback, Place, Places
from ._queue import EventQueue
from ._strict import Misfit
from .channels import Transactions
from .events import BotUpdate, Event, PriceUpdate, TradeExecuted, TransactionConfirmed

__all__ = ["SLOW", "Collected", "Inline", "express"]

SLOW = 1.0
"""A callback that runs longer than this many seconds is reported."""


_EVENTS: Final = frozenset({PriceUpdate, BotUpdate, TransactionConfirmed})
"""What a lane may have made already."""

_NOWHERE: Final = Place.of((), (), None, None)


class Inline(Protocol):
    """Callbacks that are run here and now; see `_dispatch.InlineCallbacks`."""

    clock: Callable[[], float]

    def failed(self, callback: Callback, event: Event, error: BaseException) -> None: ...

    def was_slow(self, callback: Callback, event: Event, seconds: float) -> None: ...

    def call_others(self, callbacks: tuple[Callback, ...], event: Event) -> None: ...


@define(eq=False)
class Collected:
    """What the loop leaves to be done.

    Attributes:
        queues: the events of each queue.
        called: the events for the callback thread.
        prices: how many price updates there were; likewise `transactions` and `bots`.
        odd: the payload that stopped the loop, which the lane does not know; None when it came to its end.
    """

    queues: dict[EventQueue, list[Event]]
    called: list[Event]
    prices: int = 0
    transactions: int = 0
    bots: int = 0
    odd: bytes | None = None


class HasPlaces(Protocol):
    """A router: its places are renewed by every edit, so that they are looked up for every event."""

    @property
    def places(self) -> Places: ...


def express(  # noqa: C901, PLR0912, PLR0913, PLR0915 - one loop on purpose: see above
    incoming: Incoming,
    lane: Lane,
    received_at: datetime,
    wallet: Transactions | None,
    *,
    router: HasPlaces,
    inline: Inline | None,
) -> Collected:
    """Deliver the payloads, up to the first that is no data event.

    Args:
        incoming: what was read; as many as are delivered, and the odd one, are taken.
        lane: makes the events.
        received_at: when the frames were read.
        wallet: the only wallet subscribed, or None.
        router: knows where events go.
        inline: runs the callbacks, or None to collect their events.
    """
    queues: dict[EventQueue, list[Event]] = {}
    called: list[Event] = []
    collected = Collected(queues, called)
    prices = transactions = bots = 0
    clock = float if inline is None else inline.clock
    reading = lane.reading
    price, transaction, bot, otherwise = reading.price, reading.transaction, reading.bot, reading.otherwise
    moments, names = reading.moments, reading.names
    price_twin, transaction_twin, bot_twin, trade_twin = _twins.PRICE, _twins.TRANSACTION, _twins.BOT, _twins.TRADE
    only = None if wallet is None else wallet.wallet
    place = _NOWHERE
    event: Any  # which a twin becomes
    text = status = None  # the timestamp and the status before; most often the next one is the same
    moment: Any = None
    since = clock()
    for payload, message in reading.build(incoming.pairs, received_at, wallet):
        kind = type(message)  # pyright: ignore[reportUnknownVariableType]
        try:
            if kind is price:
                if message.timestamp != text:
                    moment = moments[message.timestamp]
                    text = message.timestamp
                place = router.places.price[message.mint]
                event = price_twin()
                event.raw = payload
                event.received_at = received_at
                event.mint = place.key or message.mint
                event.price = message.price
                event.volume = message.volume
                event.timestamp = moment
                event.__class__ = PriceUpdate
                prices += 1
            elif kind is transaction:
                if message.status != status:
                    status = names[message.status]
                place = router.places.transaction[only]
                event = transaction_twin()
                event.raw = payload
                event.received_at = received_at
                event.signature = message.signature
                event.status = status
                event.slot = message.slot
                event.channel = wallet
                event.__class__ = TransactionConfirmed
                transactions += 1
            elif kind is bot and message.event == "trade_executed":
                data = message.data
                if data.timestamp != text:
                    moment = moments[data.timestamp]
                    text = data.timestamp
                place = router.places.bot[message.bot_id]
                trade = trade_twin()
                trade.signature = data.signature
                trade.profit = data.profit
                trade.timestamp = moment
                trade._undeclared = None  # noqa: SLF001 - a trade in the making
                trade.__class__ = TradeExecuted
                event = bot_twin()
                event.raw = payload
                event.received_at = received_at
                event.bot_id = place.key or message.bot_id
                event.event = "trade_executed"
                event.data = trade
                event.__class__ = BotUpdate
                bots += 1
            else:
                event = None
        except Misfit:  # it is no timestamp
            event = None
        if event is None:
            event = message if kind in _EVENTS else otherwise(payload, received_at, wallet)
            if type(event) is PriceUpdate:
                prices += 1
                place = router.places.price[event.mint]
            elif type(event) is TransactionConfirmed:
                transactions += 1
                place = router.places.transaction[None if event.channel is None else event.channel.wallet]
            elif type(event) is BotUpdate:
                bots += 1
                place = router.places.bot[event.bot_id]
            else:
                collected.odd = payload
                break
        cell = place.cell
        if cell is not None:
            cell.event = event
        if place.queues is not None:
            for queue in place.queues:
                if queue in queues:
                    queues[queue].append(event)
                else:
                    queues[queue] = [event]
        callback = place.first
        if callback is None:
            continue
        if inline is None:
            called.append(event)
            continue
        try:
            callback(event)
        except BaseException as error:  # noqa: BLE001 - SystemExit too must not end the thread silently
            inline.failed(callback, event, error)
        now = clock()
        if now - since >= SLOW:
            inline.was_slow(callback, event, now - since)
        since = now
        if place.more:
            inline.call_others(place.callbacks, event)
            since = clock()
    collected.prices, collected.transactions, collected.bots = prices, transactions, bots
    return collected
