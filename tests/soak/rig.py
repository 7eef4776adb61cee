"""A client, a fault proxy and a simulator in a row, with a publisher at the one end and a ledger at the other."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from allenhark_ws import (
    Backoff,
    Bot,
    Channel,
    Client,
    InvalidMessage,
    LifecycleEvent,
    Price,
    ServerError,
    Transactions,
    UnknownMessage,
)
from allenhark_ws.testing import FaultProxy, Simulator

from .ledger import Entry, Ledger

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CHANNELS", "PATIENCE", "Publisher", "Resources", "Rig"]

CHANNELS: Final[tuple[Channel, ...]] = (Price("P1"), Bot("B1"), Price("P2"), Transactions("W1"))
PATIENCE: Final = 30.0
"""Seconds to wait for what has to happen."""
_NOWHERE: Final = "2024-01-15T10:30:00Z"


@frozen
class Resources:
    """What the process holds.

    Attributes:
        threads: Python threads.
        descriptors: open file descriptors, or 0 where the system does not tell.
        memory: resident bytes, or 0 where the system does not tell.
    """

    threads: int
    descriptors: int
    memory: int

    @classmethod
    def now(cls) -> Resources:
        """Look."""
        process = Path("/proc/self")
        if not process.is_dir():
            return cls(threading.active_count(), 0, 0)
        pages = int((process / "statm").read_text(encoding="ascii").split()[1])
        return cls(threading.active_count(), len(list((process / "fd").iterdir())), pages * os.sysconf("SC_PAGESIZE"))

    def is_all_that_is_left(self, within: float = PATIENCE) -> bool:
        """Whether the process comes down to so many threads and descriptors.

        It is asked until it has, since a thread that has been joined, or that others have left behind, may be seen for
        a moment longer.

        Args:
            within: seconds.
        """
        deadline, moment = time.monotonic() + within, threading.Event()
        while time.monotonic() < deadline:
            now = Resources.now()
            if now.threads <= self.threads and now.descriptors <= self.descriptors:
                return True
            moment.wait(0.01)
        return False


def _message(channel: Channel, number: int) -> dict[str, Any]:
    """A message of the channel that carries the number twice, so that half of one is noticed."""
    if isinstance(channel, Price):
        return {"type": "price_update", "mint": channel.mint, "price": number, "volume": number, "timestamp": _NOWHERE}
    if isinstance(channel, Bot):
        data = {"number": number, "again": number}
        return {"type": "bot_update", "botId": channel.bot_id, "event": "numbered", "data": data}
    assert isinstance(channel, Transactions)
    kind, wallet = "transaction_confirmed", channel.wallet
    return {"type": kind, "wallet": wallet, "signature": str(number), "status": "confirmed", "slot": number}


class Publisher:
    """Sends numbered events, one channel after the other: one when asked, or a stream of them on a thread of its own.

    Args:
        simulator: what sends them.
        ledger: where to note them.
        pause: seconds between two of a stream.
    """

    def __init__(self, simulator: Simulator, ledger: Ledger, pause: float = 0.002) -> None:
        self._simulator = simulator
        self._ledger = ledger
        self._pause = pause
        self._lock = threading.Lock()
        self._number = 0
        self._idle = threading.Event()
        self._thread: threading.Thread | None = None

    def publish(self) -> int:
        """Send the next event; returns its number."""
        with self._lock:
            self._number += 1
            entry = Entry(self._number)
            channel = CHANNELS[self._number % len(CHANNELS)]
            self._ledger.sending(entry)
            before = self._subscriber(channel)
            audience = self._simulator.publish(_message(channel, entry.number))
            certain = before if before == self._subscriber(channel) else None
            self._ledger.was_sent(entry, audience, certain)
            return entry.number

    def _subscriber(self, channel: Channel) -> int | None:
        """The newest connection that has this channel: the one the client reads, or the last that it read.

        A client subscribes only once it has heard a first pong, so what older connections get it cannot read any more.
        """
        conversations = self._simulator._journal._conversations
        newest = (one for one in reversed(conversations) if channel in one.subscriptions)
        return next((one.number for one in newest), None)

    def start(self) -> None:
        """Begin a stream."""
        self._idle.clear()
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the stream; nothing when there is none."""
        self._idle.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)
            self._thread = None

    def _run(self) -> None:
        while not self._idle.wait(self._pause):
            self.publish()


class Rig:
    """All of it, to be used in a ``with``: entered, the client is READY and subscribed; left, everything has stopped.

    Args:
        tls: let the client speak TLS with the simulator.
        pause: seconds between two events of the publisher's stream.
        settings: of the client, other than quick ones.
    """

    def __init__(self, *, tls: bool = False, pause: float = 0.002, **settings: Any) -> None:
        self.simulator = Simulator(tls=tls)
        self.proxy: FaultProxy
        self.client: Client
        self.ledger = Ledger(frozenset(CHANNELS))
        self.publisher = Publisher(self.simulator, self.ledger, pause)
        self._settings = {
            "heartbeat_interval": 0.1,
            "pong_timeout": 1.0,
            "connect_timeout": 1.0,
            "backoff": Backoff(initial=0.01, maximum=0.05),
            **settings,
        }
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self.simulator.start()
        self.proxy = FaultProxy(self.simulator.url).start()
        key, context = self.simulator.api_key, self.simulator.ssl_context
        self.client = Client(key, url=self.proxy.url, ssl_context=context, **self._settings)
        told = (LifecycleEvent, InvalidMessage, UnknownMessage, ServerError)
        self._stream = self.client.stream(*CHANNELS, *told, maxsize=1_000_000, overflow="error")
        self._watcher.start()
        self.client.connect(PATIENCE)
        self.wait_for(self._all_subscribed)
        return self

    def __exit__(self, *exc: object) -> None:
        self.publisher.stop()
        self.client.close()
        self._watcher.join(PATIENCE)
        self.proxy.stop()
        self.simulator.stop()
        self.ledger.close()

    def _watch(self) -> None:
        for event in self._stream:
            self.ledger.hear(event)

    def _all_subscribed(self) -> bool:
        return self.simulator.subscriptions == set(CHANNELS)

    def wait_for(self, predicate: Callable[[], object]) -> None:
        """Wait for something in simulator or client.

        Raises:
            TimeoutError: it did not come.
        """
        self.simulator.wait_for(predicate, PATIENCE)

    def see(self, count: int) -> None:
        """Wait until so many more events were seen, with a stream of them going on.

        Raises:
            TimeoutError: they did not come.
        """
        goal = self.ledger.seen + count
        self.wait_for(lambda: self.ledger.seen >= goal)

    def has_lost(self, times: int) -> bool:
        """Whether the client has told of so many losses."""
        return self.ledger.losses >= times

    def recover(self) -> None:
        """Heal everything, and wait until the last event sent is seen, on every channel.

        Raises:
            TimeoutError: the client did not come back.
        """
        self.publisher.stop()
        self.proxy.heal()
        patience = itertools.count(1)
        self.wait_for(lambda: self._round_trip(0.02 * next(patience)))

    def _round_trip(self, timeout: float) -> bool:
        """Whether one more event on every channel gets through in time; each try sends its own."""
        numbers = [self.publisher.publish() for _ in CHANNELS]
        return self.ledger.wait_for(lambda: self.ledger.last_seen == numbers[-1], timeout)

    def verdict(self) -> list[str]:
        """What was wrong, in words, once the rig is left; empty for a good client."""
        ledger = self.ledger
        wrong = [*ledger.complaints, *self.simulator.violations, *self._unrestored()]
        if ledger.lost_outside or ledger.repeated or ledger.complaint_count:
            wrong.append(
                f"{ledger.lost_outside} lost outside, {ledger.repeated} repeated, {ledger.complaint_count} odd"
            )
        return wrong

    def _unrestored(self) -> list[str]:
        """The connections on which the wanted channels were not asked for once each, in their order, behind auth."""
        wanted = list(map(_subscribe, CHANNELS))
        wrong = []
        for number, messages in enumerate(self.simulator.history, start=1):
            asked = [message for message in messages if message["type"] not in ("auth", "ping")]
            opening = [message["type"] for message in messages[:2]]
            if asked != wanted[: len(asked)] or opening != ["auth", "ping"][: len(opening)]:
                wrong.append(f"on connection {number} the client asked {asked}")
        return wrong


def _subscribe(channel: Channel) -> dict[str, str]:
    if isinstance(channel, Price):
        return {"type": "subscribe", "channel": "price", "mint": channel.mint}
    if isinstance(channel, Bot):
        return {"type": "subscribe", "channel": "bot", "botId": channel.bot_id}
    assert isinstance(channel, Transactions)
    return {"type": "subscribe", "channel": "transactions", "wallet": channel.wallet}
