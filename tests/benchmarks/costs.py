"""Where the time of one message goes: the client's parts, one added to the other, in one thread, without a socket."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from functools import partial
from statistics import median
from typing import Any, Final

from allenhark_ws import BotUpdate, PriceUpdate, TransactionConfirmed
from allenhark_ws._codec import Codec
from allenhark_ws._counters import Counters
from allenhark_ws._dispatch import CallbackThread, InlineCallbacks
from allenhark_ws._frames import FrameReader
from allenhark_ws._queue import EventQueue
from allenhark_ws._router import Router
from allenhark_ws.channels import Channel, Transactions

from ..peers import TEXT, frame
from .peers import raw_decoder
from .report import Table
from .rounds import Contender, Plan, installed
from .wire import channels, payloads
from .worker import SPEED

__all__ = ["run"]

_BATCH: Final = 400
"""Messages that one read of 64 KiB brings."""
_AT: Final = datetime(2026, 1, 2, tzinfo=timezone.utc)

LIMIT: Final = "the limit: msgspec decodes, the user is called"

Step = Callable[[], object]
Callback = Callable[[Any], object]


class _Nobody:
    """Has no connection to keep up to date."""

    def want(self, channels: list[Channel]) -> None:
        """Channels became wanted."""

    def unwant(self, channels: list[Channel]) -> None:
        """Channels are wanted no more."""

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
    """The parts of the client, each fed with the same read."""

    def __init__(self) -> None:
        self._mix = payloads("mix", 50)[:_BATCH]
        self._data = b"".join(frame(TEXT, payload) for payload in self._mix)
        self._reader, self._codec, self._decode = FrameReader(1 << 20), Codec(), raw_decoder().decode
        self._wallet = next(channel for channel in channels() if isinstance(channel, Transactions))

    def cut(self) -> Sequence[bytes]:
        """The frames alone."""
        return self._reader.feed(self._data).messages

    def limit(self) -> None:
        """What a program without a library would do."""
        decode = self._decode
        for payload in self.cut():
            _user(decode(payload))

    def make(self) -> None:
        """Events one after the other."""
        make, wallet = self._codec.lane.make, self._wallet
        for payload in self.cut():
            make(payload, _AT, wallet)

    def deliver(self, router: Router) -> None:
        """All that the background thread does with a read."""
        router.express(self._codec.lane.incoming(self.cut()), self._codec.lane, _AT, self._wallet)

    def inline(self, callback: Callback | None) -> Step:
        """The same, with a callback for each kind of event or without."""
        return partial(self.deliver, _router(InlineCallbacks(Counters(), _user), callback))

    def thread(self) -> Step:
        """What the background thread and the callback thread do, one after the other."""
        sink = CallbackThread("costs", Counters(), EventQueue("callbacks", 10 * _BATCH, "drop_oldest"), _user)
        router = _router(sink, _user)

        def both() -> None:
            self.deliver(router)
            for _ in self._mix:
                sink._call_back(sink.queue.take())

        return both

    def steps(self) -> dict[str, Step]:
        """Each does what the one before does, and something more, but for the limit, which makes no events."""
        return {
            "frames are cut out of a read": self.cut,
            LIMIT: self.limit,
            "events are made, one after the other": self.make,
            "events are made and remembered, in one loop": self.inline(None),
            "inline: and the user is called, by the clock": self.inline(_user),
            "callback thread: handed over and called, by the clock": self.thread(),
        }


def run(plan: Plan) -> Iterator[Table]:
    """Measure the steps, interleaved."""
    plan.say("Costs")
    if not installed((Contender("costs", "", SPEED),), plan.say):
        return
    steps = _Parts().steps()
    took: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(max(1, plan.rounds * plan.messages // (100 * _BATCH))):
        for name, step in steps.items():
            begun = time.perf_counter()
            step()
            took[name].append((time.perf_counter() - begun) / _BATCH * 1e9)
    limit = took[LIMIT]
    rows = tuple(
        (name, f"{median(each):,.0f}", f"{median(one / other for one, other in zip(each, limit, strict=True)):.2f}")
        for name, each in took.items()
    )
    note = "Nanoseconds for each message of the mix, in batches as one read brings them; the limit = 1."
    yield Table("Costs", note, ("", "ns", "ratio"), rows)
