"""Where the time of one message goes: the client's parts, one added to the other, on what a socket brings.

Over a socket, since a processor learns what it does again and again with the same bytes: the same parts, fed with one
read all the time, look a third cheaper.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from statistics import median
from typing import Any, Final

from allenhark_ws import BotUpdate, PriceUpdate, TradeExecuted, TransactionConfirmed, _twins
from allenhark_ws._codec import Codec
from allenhark_ws._counters import Counters
from allenhark_ws._dispatch import CallbackThread, InlineCallbacks
from allenhark_ws._frames import FrameReader
from allenhark_ws._queue import EventQueue
from allenhark_ws._router import Router
from allenhark_ws.channels import Channel, Transactions

from .feed import Feed
from .peers import raw_count, raw_socket
from .probes import Count
from .report import Table
from .rounds import Contender, Plan, installed
from .wire import GO_FRAME, channels
from .worker import SPEED

__all__ = ["run"]

_READ: Final = 65_536
_AT: Final = datetime(2026, 1, 2, tzinfo=timezone.utc)

LIMIT: Final = "the limit: a raw loop cuts and decodes, and calls nobody"

Step = Callable[[Sequence[bytes]], object]
"""Does something with the payloads of one read."""
Callback = Callable[[Any], object]


class _Nobody:
    """Has no connection to keep up to date."""

    def want(self, channels: list[Channel]) -> None:
        """Channels became wanted."""

    def unwant(self, channels: list[Channel]) -> None:
        """Channels are wanted no more."""

    def restate(self, channels: frozenset[Channel]) -> None:
        """All that is wanted."""

    def wake(self) -> None:
        """Now."""


def _router(sink: CallbackThread | InlineCallbacks, callback: Callback | None) -> Router:
    """A router with every channel wanted, and with one callback for each kind of event."""
    router = Router(Counters(), sink, _Nobody())
    sink.attach(weakref.ref(router))
    router.hold("costs", channels())
    if callback is not None:
        for kind in (PriceUpdate, BotUpdate, TransactionConfirmed):
            router.add_callback(kind, (kind,), callback)
    return router


def _user(_event: Any) -> None:
    """The user's code."""


class _Parts:
    """The parts of the client, each fed with the payloads of one read."""

    def __init__(self, engine: str = "auto") -> None:
        self.lane = Codec(engine=engine).lane
        self._wallet = next(channel for channel in channels() if isinstance(channel, Transactions))

    def cut(self, payloads: Sequence[bytes]) -> None:
        """The frames alone."""

    def decode(self, payloads: Sequence[bytes]) -> None:
        """Messages, kept by nobody."""
        for _ in self.lane.reading.read(payloads):
            pass

    def call(self, payloads: Sequence[bytes]) -> None:
        """The user gets messages, which are no events."""
        for message in self.lane.reading.read(payloads):
            _user(message)

    def fill(self, payloads: Sequence[bytes], *, frozen: bool) -> None:
        """The user gets events with all that is in them, as messages have it."""
        reading = self.lane.reading
        for payload, message in zip(payloads, reading.read(payloads), strict=True):
            kind = type(message)
            if kind is reading.price:
                event = _twins.PRICE()
                event.raw = payload
                event.received_at = _AT
                event.mint = message.mint
                event.price = message.price
                event.volume = message.volume
                event.timestamp = message.timestamp
                if frozen:
                    event.__class__ = PriceUpdate
            elif kind is reading.transaction:
                event = _twins.TRANSACTION()
                event.raw = payload
                event.received_at = _AT
                event.signature = message.signature
                event.status = message.status
                event.slot = message.slot
                event.channel = self._wallet
                if frozen:
                    event.__class__ = TransactionConfirmed
            elif kind is reading.bot:
                data = message.data
                trade = _twins.TRADE()
                trade.signature = data.signature
                trade.profit = data.profit
                trade.timestamp = data.timestamp
                trade._undeclared = None
                if frozen:
                    trade.__class__ = TradeExecuted
                event = _twins.BOT()
                event.raw = payload
                event.received_at = _AT
                event.bot_id = message.bot_id
                event.event = message.event
                event.data = trade
                if frozen:
                    event.__class__ = BotUpdate
            else:  # the last ones of a read that are odd
                continue
            _user(event)

    def inline(self, callback: Callback | None) -> Step:
        """All that the background thread does, with a callback for each kind of event or without."""
        return partial(self._deliver, _router(InlineCallbacks(Counters(), _user), callback))

    def _deliver(self, router: Router, payloads: Sequence[bytes]) -> None:
        router.express(self.lane.incoming(payloads), self.lane, _AT, self._wallet)

    def thread(self) -> Step:
        """What the background thread and the callback thread do, one after the other."""
        sink = CallbackThread("costs", Counters(), EventQueue("callbacks", _READ, "drop_oldest"), _user)
        router = _router(sink, _user)

        def both(payloads: Sequence[bytes]) -> None:
            self._deliver(router, payloads)
            sink.call_back(sink.queue.queued())

        return both

    def steps(self) -> dict[str, Step]:
        """Each does what the one before does, and something more."""
        return {
            "frames are read and cut": self.cut,
            "… decoded": self.decode,
            "… given to the user": self.call,
            "… as objects with every field": partial(self.fill, frozen=False),
            "… which are frozen events": partial(self.fill, frozen=True),
            "events with times as datetimes, routed, remembered, for nobody": self.inline(None),
            "inline: … given to the user, by the clock": self.inline(_user),
            "callback thread: … handed over and given to the user, by the clock": self.thread(),
            "bare install: frames are read, cut and decoded": _BARE.decode,
            "bare install, inline: everything": _BARE.inline(_user),
        }


_BARE: Final = _Parts("stdlib")


def _raw(url: str, messages: int) -> float:
    """Nanoseconds of processor time for each message in the raw loop."""
    probe = Count(messages)
    raw_count(url, probe)
    return probe.result()["cpu"] / messages * 1e9


def _step(url: str, messages: int, step: Step) -> float:
    """The same for a step."""
    reader, taken = FrameReader(1 << 20), 0
    with raw_socket(url) as conn:
        conn.sendall(GO_FRAME)
        begun = time.thread_time()
        while taken < messages:
            payloads = reader.feed(conn.recv(_READ)).messages
            step(payloads)
            taken += len(payloads)
        return (time.thread_time() - begun) / taken * 1e9


def run(plan: Plan) -> Iterator[Table]:
    """Measure the steps, interleaved."""
    plan.say("Costs")
    if not installed((Contender("costs", "", SPEED),), plan.say):
        return
    took: dict[str, list[float]] = {}
    with Feed() as feed:
        url = feed.url("mix", messages=plan.messages, close=1)
        for _ in range(plan.rounds):
            took.setdefault(LIMIT, []).append(_raw(url, plan.messages))
            for name, step in _Parts().steps().items():
                took.setdefault(name, []).append(_step(url, plan.messages, step))
    limit = took[LIMIT]
    rows = tuple(
        (name, f"{median(each):,.0f}", f"{median(other / one for one, other in zip(each, limit, strict=True)):.2f}")
        for name, each in took.items()
    )
    note = "Nanoseconds of processor time for each message of the mix, in one thread; speed, the limit = 1."
    yield Table("Costs", note, ("", "ns", "speed"), rows)
