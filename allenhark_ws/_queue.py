"""The bounded queue between the I/O thread and one consumer, with what happens when it is full.

The I/O thread puts whole batches, one lock for each; the consumer takes.  Neighbours: `streams` and `_dispatch` read
from it, `_router` puts into it.  It must never hold a client, a callback or a socket: only events and the two hooks it
was given.
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from ._locks import held_here, wait_slices
from .config import OVERFLOW_POLICIES
from .errors import AllenHarkError, SlowConsumer
from .events import Event, LifecycleEvent, PriceUpdate

__all__ = ["Drained", "EventQueue", "TimedOut"]


class Drained(Exception):
    """Nothing is queued and nothing will come; `error` says why if that is an error."""

    def __init__(self, error: AllenHarkError | None) -> None:
        super().__init__(error)
        self.error = error


class TimedOut(Exception):
    """Nothing came in time."""


class _Buffer(Protocol):
    """What holds the events and decides which are lost; `take` takes care of itself, the rest runs under the lock."""

    conflated: int

    def __len__(self) -> int: ...

    @abstractmethod
    def fill(self, events: Sequence[Event]) -> int:
        """Take the events in order; how many were lost by it."""

    @abstractmethod
    def take(self) -> Event:
        """Remove the oldest.

        Raises:
            IndexError: there is none.
        """


class _Fifo:
    """Everything in order of arrival; whole batches cost one call.

    Events are taken without the lock, at a fifth of the price: `deque.popleft` is atomic, so that whoever fills must
    reckon with a deque that shrinks at any moment, and with nothing else.
    """

    def __init__(self, maxsize: int, overflow: str) -> None:
        self.conflated = 0
        self._maxsize = maxsize
        self._overflow = overflow
        self._events: deque[Event] = deque()
        self.take = self._events.popleft

    def __len__(self) -> int:
        return len(self._events)

    def fill(self, events: Sequence[Event]) -> int:
        excess = len(self._events) + len(events) - self._maxsize
        if excess <= 0 or self._overflow == "block":
            self._events.extend(events)
            return 0
        if self._overflow == "drop_oldest":
            self._events.extend(events)
            return self._drop()
        kept = max(0, len(events) - excess)
        self._events.extend(events[:kept])
        return len(events) - kept

    def _drop(self) -> int:
        """Drop the oldest beyond the limit; how many there were."""
        dropped = 0
        with contextlib.suppress(IndexError):  # the consumer was faster
            while len(self._events) > self._maxsize:
                self._events.popleft()
                dropped += 1
        return dropped


class _Conflating:
    """One unread price per mint, at the place of the first; everything else in order of arrival.

    A lifecycle event is a border: a price from after a loss never takes a place before the `Gap` that tells of it.

    Every event has a number, the key of one ordered mapping.  A second one keeps the prices alone, so that the oldest
    is found without a search; a third says which price a new one of its mint may replace.
    """

    def __init__(self, maxsize: int, lock: threading.RLock) -> None:
        self.conflated = 0
        self._maxsize = maxsize
        self._lock = lock
        self._events: OrderedDict[int, Event] = OrderedDict()
        self._prices: OrderedDict[int, str] = OrderedDict()
        self._replaceable: dict[str, int] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._events)

    def fill(self, events: Sequence[Event]) -> int:
        return sum(self._add(event) for event in events)

    def _add(self, event: Event) -> int:
        """Queue one event; how many were lost by it."""
        mint = event.mint if isinstance(event, PriceUpdate) else None
        if mint is not None and mint in self._replaceable:
            self._events[self._replaceable[mint]] = event
            self.conflated += 1
            return 0
        full = len(self._events) >= self._maxsize
        if full:
            self._evict()
        self._number += 1
        self._events[self._number] = event
        if mint is not None:
            self._prices[self._number] = mint
            self._replaceable[mint] = self._number
        elif isinstance(event, LifecycleEvent):
            self._replaceable.clear()
        return int(full)

    def _evict(self) -> None:
        """The oldest price goes first, then the oldest event."""
        oldest = next(iter(self._prices or self._events))
        del self._events[oldest]
        self._forget_price(oldest)

    def take(self) -> Event:
        with self._lock:
            if not self._events:
                raise IndexError("nothing is queued")
            # Forgotten first: what Ctrl-C leaves half done is an event that nothing replaces, not a place without one.
            self._forget_price(next(iter(self._events)))
            return self._events.popitem(last=False)[1]

    def _forget_price(self, number: int) -> None:
        mint = self._prices.get(number)
        if mint is not None and self._replaceable.get(mint) == number:
            del self._replaceable[mint]
        self._prices.pop(number, None)


def _nothing(*_arguments: object) -> None:
    """The hook of nobody."""


class EventQueue:
    """A thread-safe, bounded queue of events with one producer.

    Args:
        name: the consumer's name, for reports and errors.
        maxsize: how many events it holds, at least 1.
        overflow: what happens when it is full: ``"drop_oldest"``, ``"drop_newest"``, ``"latest"``, ``"block"`` or
            ``"error"``; `Client.stream` describes them.
        on_room: called, on the consumer's thread, when a producer that found the queue full can go on.
        on_recovered: called with the queue, on the consumer's thread, when the queue was dropping and has fallen below
            half.

    Raises:
        TypeError: `maxsize` is not a whole number.
        ValueError: `maxsize` is below 1, or `overflow` is none of the five.
    """

    def __init__(
        self,
        name: str,
        maxsize: int,
        overflow: str,
        *,
        on_room: Callable[[], None] = _nothing,
        on_recovered: Callable[[EventQueue], None] = _nothing,
    ) -> None:
        if isinstance(maxsize, bool) or not isinstance(maxsize, int):
            raise TypeError(f"maxsize takes a whole number, got {type(maxsize).__name__}")
        if maxsize < 1:
            raise ValueError(f"maxsize must be at least 1, got {maxsize}: every queue is bounded")
        if overflow not in OVERFLOW_POLICIES:
            raise ValueError(f"overflow must be one of {', '.join(OVERFLOW_POLICIES)}, got {overflow!r}")
        self.name = name
        self.maxsize = maxsize
        self.overflow = overflow
        self.blocking = overflow == "block"
        self.dropped = 0
        self.high_water = 0
        self.failure: SlowConsumer | None = None
        self._on_room = on_room
        self._on_recovered = on_recovered
        # Reentrant: a signal handler, or a finalizer, may close the stream whose reader it interrupts.
        self._lock = threading.RLock()
        self._buffer: _Buffer = _Conflating(maxsize, self._lock) if overflow == "latest" else _Fifo(maxsize, overflow)
        self._take = self._buffer.take
        self._changed = threading.Condition(self._lock)
        self._waiting = 0
        self._producer_waits = False
        self._dropping = False
        self._news = False
        self._spell = 0  # of dropping: how many there were, and of which the end was told
        self._recovered = 0
        self._unreported = 0
        self._finished = False
        self._error: AllenHarkError | None = None

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def conflated(self) -> int:
        """How many unread prices were replaced by newer ones."""
        return self._buffer.conflated

    @property
    def idle(self) -> bool:
        """Whether the consumer is waiting and there is nothing for it."""
        with self._lock:
            return self._waiting > 0 and not self._buffer

    @property
    def would_wait(self) -> bool:
        """Whether taking would have to wait: nothing is queued, and something may still come."""
        return not (self._finished or self._buffer)

    @property
    def is_held_here(self) -> bool:
        """Whether the caller's thread holds the lock."""
        return held_here(self._lock)

    # --- The producer's side

    def ask_room(self) -> int:
        """How many events fit without dropping, for a blocking queue; when none does, `on_room` will be called.

        Without the lock, since the caller holds the router's: a finalizer that runs under this queue's may wait for
        that.  The flag goes up before the look, so whoever takes an event after the look sees it.
        """
        self._producer_waits = True
        free = self.maxsize if self._finished else self.maxsize - len(self._buffer)
        if free > 0:
            self._producer_waits = False
        return free

    def put(self, events: Sequence[Event]) -> int:
        """Queue the events in order; how many were lost by it.

        A blocking queue takes them all: its producer asks for `room` before.
        """
        with self._lock:
            if self._finished:
                return 0
            lost = self._buffer.fill(events)
            queued = len(self._buffer)
            self.high_water = max(self.high_water, queued)
            if lost:
                self._lose(lost)
            if self._waiting:
                self._changed.notify(self._waiting)
            return lost

    def _lose(self, lost: int) -> None:
        self.dropped += lost
        self._unreported += lost
        if not self._dropping:
            self._dropping = self._news = True
            self._spell += 1
        if self.overflow == "error":
            self.failure = SlowConsumer(self.name, self.maxsize)
            self._finished = True
            self._error = self.failure

    def take_report(self, *, recovered: bool = False) -> int | None:
        """How many events were lost since the last report, when there is news: dropping began, or ended."""
        with self._lock:
            if not (self._dropping if recovered else self._news):
                return None
            self._news = False
            if recovered:
                self._dropping = False
            count, self._unreported = self._unreported, 0
            return count

    def finish(self, error: AllenHarkError | None = None) -> None:
        """Nothing more will come; what is queued can still be taken.  The first end counts."""
        with self._lock:
            if not self._finished:
                self._finished = True
                self._error = error
            self._changed.notify_all()
        self._on_room()

    # --- The consumer's side

    def take(self, timeout: float | None = None) -> Any:
        """Remove and return the oldest event, waiting for one up to `timeout` seconds, None for ever.

        Raises:
            TimedOut: nothing came in time.
            Drained: nothing will come.
        """
        event: Event | None
        try:
            event = self._take()
        except IndexError:
            event = None
        if event is None:  # not in the `except`: Ctrl-C in the wait would seem to come of there being nothing
            event = self._wait_and_take(timeout)
        if self._producer_waits or self._dropping:
            self._tell()
        return event

    def queued(self) -> Iterator[Any]:
        """Remove and give event by event, until nothing is queued."""
        take = self._take
        event: Event | None
        while True:
            try:
                event = take()
            except IndexError:
                return
            if self._producer_waits or self._dropping:
                self._tell()
            yield event
            event = None  # whoever waits for the next one must not keep this one

    def __iter__(self) -> Iterator[Any]:
        """Remove and give event by event, waiting for each, until nothing will come."""
        with contextlib.suppress(Drained):
            while True:
                yield from self.queued()
                yield self.take()

    def take_batch(self, most: int, timeout: float | None = None) -> list[Any]:
        """Like `take`, for as many events as there are, up to `most`; waits for the first one only."""
        events = self._take_up_to(most)
        if not events:
            events = [self._wait_and_take(timeout)]
            events += self._take_up_to(most - 1)
        self._tell()
        return events

    def _take_up_to(self, most: int) -> list[Event]:
        events: list[Event] = []
        with contextlib.suppress(IndexError):
            while len(events) < most:
                events.append(self._take())
        return events

    def _wait_and_take(self, timeout: float | None) -> Event:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._tell()  # again: Ctrl-C may have cut it off, or `put` have dropped while its events were taken already
        with self._lock:
            self._waiting += 1
            try:
                while True:
                    with contextlib.suppress(IndexError):
                        return self._take()
                    if self._finished:
                        raise Drained(self._error)
                    if not wait_slices(self._changed, deadline):
                        raise TimedOut
            finally:
                self._waiting -= 1

    def _tell(self) -> None:
        """Tell whom it concerns what taking has changed, without the lock."""
        with self._lock:
            hooks = self._hooks()
        for hook in hooks:
            hook()

    def _hooks(self) -> list[Callable[[], None]]:
        """Whom to tell, once the lock is released.

        Nothing is taken for told here: Ctrl-C may come before the hooks are called.
        """
        hooks: list[Callable[[], None]] = []
        if self._producer_waits and len(self._buffer) < self.maxsize:
            hooks.append(self._on_room)
        below_half = 2 * len(self._buffer) < self.maxsize
        if self._dropping and below_half and self._recovered != self._spell and self.failure is None:
            hooks.append(partial(self._tell_recovered, self._spell))
        return hooks

    def _tell_recovered(self, spell: int) -> None:
        self._on_recovered(self)
        self._recovered = spell
