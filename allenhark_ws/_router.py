"""Where events go: callbacks, streams and the last event of each channel; and which channels all of them want.

The client owns the router, the background threads hold it weakly: so a client that nobody holds any more can be
collected, callbacks and all.  Its tables may be edited from any thread; events are delivered by the I/O thread alone.
Neighbours: `client` edits it, `_loop` delivers through it, `_dispatch` asks it for the callbacks of an event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Protocol

from attrs import define, field, frozen

from ._counters import Counters
from ._queue import EventQueue
from ._routes import Kind, RouteTable
from ._wanted import Wanted
from .channels import Channel
from .errors import AllenHarkError, SlowConsumer
from .events import DataEvent, Event, EventsDropped

__all__ = ["Callback", "CallbackSink", "Delivery", "Edits", "Router", "dropping_report"]

Callback = Callable[[Any], object]


class CallbackSink(Protocol):
    """Whoever runs the callbacks: the callback thread's queue, or the I/O thread itself."""

    def put(self, events: Sequence[Event]) -> int:
        """Take the events; how many were lost."""

    @property
    def queue(self) -> EventQueue | None:
        """The queue that may fill up, if there is one."""


class Edits(Protocol):
    """Who reconciles the server with what is wanted; the first two only take note, `wake` makes it happen."""

    def want(self, channels: list[Channel]) -> None: ...

    def unwant(self, channels: list[Channel]) -> None: ...

    def wake(self) -> None: ...


@frozen
class Delivery:
    """What came of delivering a batch.

    Attributes:
        done: how many events were delivered; fewer than given when a blocking consumer is full.
        reports: consumers that started to lose events.
        failure: the callback buffer was full and its policy is to end the client.
    """

    done: int
    reports: list[EventsDropped]
    failure: SlowConsumer | None


@define(eq=False)
class Router:
    """The consumers of one client.

    Args:
        counters: where dropped events are counted.
        sink: who runs the callbacks.
        edits: who is told which channels became wanted or unwanted; in the order of the edits, since that happens under
            the router's lock.
    """

    _counters: Counters
    _sink: CallbackSink
    _edits: Edits
    _callbacks: RouteTable[Callback] = field(factory=RouteTable, init=False)
    _queues: RouteTable[EventQueue] = field(factory=RouteTable, init=False)
    _wanted: Wanted = field(factory=Wanted, init=False)
    _latest: dict[Channel, DataEvent] = field(factory=dict, init=False)
    _lock: threading.RLock = field(factory=threading.RLock, init=False)

    # --- Editing, from any thread

    def add_callback(self, token: Hashable, kinds: Iterable[Kind], callback: Callback) -> None:
        """Call the callback with every event of these kinds."""
        self._callbacks.add(token, kinds, callback)

    def remove_callback(self, token: Hashable) -> None:
        """Undo one registration."""
        self._callbacks.remove(token)

    def remove_callbacks(self, callback: Callback) -> None:
        """Undo all registrations of a callback."""
        for token in self._callbacks.tokens_of(callback):
            self._callbacks.remove(token)

    def callbacks_for(self, event: Event) -> tuple[Callback, ...]:
        """The callbacks of an event, in order of registration."""
        return self._callbacks.match(event)

    def add_queue(self, token: Hashable, kinds: Iterable[Kind], queue: EventQueue) -> None:
        """Put every event of these kinds into the queue."""
        self._queues.add(token, kinds, queue)

    def hold(self, holder: Hashable, channels: Iterable[Channel]) -> None:
        """The holder wants the channels."""
        with self._lock:
            added = self._wanted.hold(holder, channels)
            if added:
                self._edits.want(added)
        self._edits.wake()

    def release(self, holder: Hashable) -> None:
        """The holder is gone: its queue, and the channels that nobody else wants."""
        self._queues.remove(holder)
        with self._lock:
            self._unwanted(self._wanted.release(holder))
        self._edits.wake()

    def drop(self, channels: Iterable[Channel]) -> None:
        """Nobody wants the channels any more, whoever held them."""
        with self._lock:
            self._unwanted(self._wanted.drop(channels))
        self._edits.wake()

    def _unwanted(self, channels: list[Channel]) -> None:
        for channel in channels:
            self._latest.pop(channel, None)
        if channels:
            self._edits.unwant(channels)

    @property
    def wanted(self) -> frozenset[Channel]:
        """The wanted channels."""
        with self._lock:
            return self._wanted.channels()

    def latest(self, channel: Channel) -> DataEvent | None:
        """The last event of a wanted channel."""
        return self._latest.get(channel)

    # --- Delivering, from the I/O thread

    def deliver(self, events: Sequence[Event], *, force: bool = False) -> Delivery:
        """Hand each event to its consumers, in order, one batch per consumer.

        Args:
            events: what to deliver.
            force: do not stop where a blocking consumer is full; for the end, when nothing else will come.
        """
        batches: dict[EventQueue, list[Event]] = {}
        called: list[Event] = []
        rooms: dict[EventQueue, int] = {}
        done = 0
        for event in events:
            queues = self._queues.match(event)
            wants_call = bool(self._callbacks.match(event))
            if not force and not self._fits(queues, rooms, wants_call=wants_call):
                break
            done += 1
            if isinstance(event, DataEvent):
                self._remember(event)
            for queue in queues:
                batches.setdefault(queue, []).append(event)
            if wants_call:
                called.append(event)
        return self._hand_over(done, batches, called)

    def _fits(self, queues: tuple[EventQueue, ...], rooms: dict[EventQueue, int], *, wants_call: bool) -> bool:
        """Whether every blocking consumer of an event has room for it; reserves it if so."""
        callbacks = self._sink.queue if wants_call else None
        blocking = [queue for queue in (*queues, callbacks) if queue is not None and queue.blocking]
        for queue in blocking:
            if queue not in rooms:
                rooms[queue] = queue.room()
        if any(rooms[queue] <= 0 for queue in blocking):
            return False
        for queue in blocking:
            rooms[queue] -= 1
        return True

    def _remember(self, event: DataEvent) -> None:
        channel = event.channel
        if channel is not None and channel in self._wanted:
            self._latest[channel] = event

    def _hand_over(self, done: int, batches: dict[EventQueue, list[Event]], called: list[Event]) -> Delivery:
        for queue, batch in batches.items():
            self._counters.dropped += queue.put(batch)
        if called:
            self._counters.dropped += self._sink.put(called)
        touched = list(batches)
        failure = None
        if called and self._sink.queue is not None:
            touched.append(self._sink.queue)
            failure = self._sink.queue.failure
        reports = [report for queue in touched if (report := dropping_report(queue)) is not None]
        self._release_failed(batches)
        return Delivery(done, reports, failure)

    def _release_failed(self, queues: Iterable[EventQueue]) -> None:
        for queue in queues:
            if queue.failure is not None:
                for token in self._queues.tokens_of(queue):
                    self.release(token)

    def finish(self, error: AllenHarkError | None) -> None:
        """Nothing more will come: let every stream end once it is drained."""
        for queue in self._queues.targets():
            queue.finish(error)


def dropping_report(queue: EventQueue, *, recovered: bool = False) -> EventsDropped | None:
    """The report of a queue that started to lose events, or has recovered; None when there is no news."""
    count = queue.take_report(recovered=recovered)
    return None if count is None else EventsDropped(count, queue.name)
