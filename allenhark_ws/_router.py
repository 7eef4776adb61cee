"""Where events go: callbacks, streams and the last event of each channel; and which channels all of them want.

The client owns the router, the background threads hold it weakly: so a client that nobody holds any more can be
collected, callbacks and all.  Its tables may be edited from any thread; events are delivered by the I/O thread, or
by whoever closes a client that was never started.  Neighbours: `client` edits it, `_outlet` and `_intake` deliver
through it, `_dispatch` asks it for the callbacks of an event.  It must never call a user's function under its lock.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Protocol

from attrs import Factory, define, field, frozen

from ._counters import Counters
from ._express import Inline, express
from ._lanes import Incoming, Lane
from ._locks import held_here
from ._places import Callback, Cell, Places
from ._queue import EventQueue
from ._routes import CHANNELS, Kind, RouteTable, event_key, key_of
from ._wanted import Wanted
from .channels import Channel, Transactions
from .errors import AllenHarkError, SlowConsumer
from .events import BotUpdate, Closed, DataEvent, Event, EventsDropped, PriceUpdate, TransactionConfirmed

__all__ = ["Callback", "CallbackSink", "Delivery", "Edits", "Router", "dropping_report", "no_router"]


class CallbackSink(Protocol):
    """Whoever runs the callbacks: the callback thread's queue, or the I/O thread itself."""

    @abstractmethod
    def put(self, events: Sequence[Event]) -> int:
        """Take the events; how many were lost."""

    @property
    def queue(self) -> EventQueue | None:
        """The queue that may fill up, if there is one."""

    @property
    def inline(self) -> Inline | None:
        """Itself, if it runs callbacks here and now."""


class Edits(Protocol):
    """Who reconciles the server with what is wanted; `wake` makes it happen, the others only take note."""

    def want(self, channels: list[Channel]) -> None: ...

    def unwant(self, channels: list[Channel]) -> None: ...

    def restate(self, channels: frozenset[Channel]) -> None: ...

    def wake(self) -> None: ...


@define
class Delivery:
    """What came of delivering a batch.

    Attributes:
        done: how many events were delivered; fewer than given when a blocking consumer is full.
        reports: consumers that started to lose events.
        failure: the callback buffer was full and its policy is to end the client.
        left: payloads that `Router.express` does not deliver.
    """

    done: int
    reports: list[EventsDropped]
    failure: SlowConsumer | None
    left: list[bytes] = Factory(lambda: [])


@frozen
class _End:
    """That nothing more will come, and the error if that is one."""

    error: AllenHarkError | None


@define(eq=False)
class _Batches:
    """What goes to whom: the events of each queue, those for callbacks, how many were sorted, the room that is left."""

    done: int = 0
    queues: dict[EventQueue, list[Event]] = field(factory=lambda: {})
    called: list[Event] = field(factory=lambda: [])
    rooms: dict[EventQueue, int] = field(factory=lambda: {})

    def of_queue(self, queue: EventQueue) -> list[Event]:
        """The batch of one queue."""
        found = self.queues.get(queue)
        if found is None:
            found = self.queues[queue] = []
        return found


def _no_cells() -> dict[type[Event], dict[str, Cell]]:
    return {cls: {} for cls, _ in CHANNELS.values()}


@define(eq=False)
class Router:
    """The consumers of one client.

    Args:
        counters: where dropped events are counted.
        sink: who runs the callbacks.
        edits: who is told which channels became wanted or unwanted; in the order of the edits, since that happens under
            the router's lock.

    Attributes:
        places: where the events of each channel go; renewed by every edit.
    """

    _counters: Counters
    _sink: CallbackSink
    _edits: Edits
    # One lock for all tables: a finalizer that edits them may run while any of them is being edited.
    _lock: threading.RLock = field(factory=threading.RLock, init=False)
    _callbacks: RouteTable[Callback] = field(
        default=Factory(lambda self: RouteTable(self._lock), takes_self=True), init=False
    )
    _queues: RouteTable[EventQueue] = field(
        default=Factory(lambda self: RouteTable(self._lock), takes_self=True), init=False
    )
    # Of the queues those that block, which are asked for room before every read, by their tokens.
    _blocking: dict[Hashable, EventQueue] = field(factory=dict[Hashable, EventQueue], init=False)
    _wanted: Wanted = field(factory=Wanted, init=False)
    _is_cut_off: bool = field(default=False, init=False)  # an edit was, and what depends on it is not mended yet
    _cells: dict[type[Event], dict[str, Cell]] = field(factory=_no_cells, init=False)
    places: Places = field(init=False)
    _end: _End | None = field(default=None, init=False)
    _closed: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        """After an edit: whatever was found before may be out of date."""
        self.places = Places(self._callbacks, self._queues, self._cells, self._blocking)

    def disown(self) -> None:
        """In a forked child, and without a lock: nobody gets anything any more."""
        self.places = Places(RouteTable(), RouteTable(), _no_cells(), {})

    # --- Editing, from any thread

    def add_callback(self, token: Hashable, kinds: Iterable[Kind], callback: Callback) -> None:
        """Call the callback with every event of these kinds."""
        self._callbacks.add(token, kinds, callback)
        self._renew()

    def remove_callback(self, token: Hashable) -> None:
        """Undo one registration."""
        self._callbacks.remove(token)
        self._renew()

    def remove_callbacks(self, callback: Callback) -> None:
        """Undo all registrations of a callback."""
        for token in self._callbacks.tokens_of(callback):
            self._callbacks.remove(token)
        self._renew()

    def callbacks_for(self, event: Event) -> tuple[Callback, ...]:
        """The callbacks of an event, in order of registration."""
        if type(event) is PriceUpdate:
            return self.places.price[event.mint].callbacks
        if type(event) is TransactionConfirmed:
            return self.places.transaction[None if event.channel is None else event.channel.wallet].callbacks
        if type(event) is BotUpdate:
            return self.places.bot[event.bot_id].callbacks
        return self._callbacks.match(event)

    def add_queue(self, token: Hashable, kinds: Iterable[Kind], queue: EventQueue) -> None:
        """Put every event of these kinds into the queue; nothing, and it ends, when nothing more will come."""
        with self._lock:
            if queue.blocking:
                self._blocking[token] = queue  # before anything comes to it
            self._queues.add(token, kinds, queue)
            self._renew()
            end = self._end
        if end is not None:
            queue.finish(end.error)

    def hold(self, holder: Hashable, channels: Iterable[Channel]) -> None:
        """The holder wants the channels."""
        self._edit(partial(self._hold, holder, channels))

    def release(self, holder: Hashable) -> None:
        """The holder is gone: its queue, and the channels that nobody else wants."""
        self._edit(partial(self._release, holder))

    def unsubscribe(self, channels: Iterable[Channel]) -> None:
        """Nobody wants the channels any more, whoever held them; callbacks that were subscribed with them lose them.

        Streams stay as they are: what they named they get again should somebody want it again.
        """
        self._edit(partial(self._unsubscribe, tuple(channels)))

    def _edit(self, edit: Callable[[], list[Channel]]) -> None:
        """Edit what is wanted, with all that depends on it, whole in the end even if Ctrl-C cuts it off."""
        with self._lock:
            try:
                self._mend()
                edited = edit()
            except BaseException:
                self._is_cut_off = True
                self._mend()
                raise
        if edited:
            self._edits.wake()

    def _hold(self, holder: Hashable, channels: Iterable[Channel]) -> list[Channel]:
        try:
            added = self._wanted.hold(holder, channels)
            for channel in added:
                cls, key = key_of(channel)
                self._cells[cls][key] = Cell()
            if added:
                self._renew()
                self._edits.want(added)
        except BaseException:
            self._wanted.release(holder)
            raise
        return added

    def _release(self, holder: Hashable) -> list[Channel]:
        self._queues.remove(holder)
        self._blocking.pop(holder, None)
        removed = self._wanted.release(holder)
        self._unwant(removed)
        return removed

    def _unsubscribe(self, channels: tuple[Channel, ...]) -> list[Channel]:
        lost: dict[Hashable, list[Channel]] = {}
        for channel, holders in self._wanted.holders_of(channels).items():
            for holder in holders:
                lost.setdefault(holder, []).append(channel)
        for holder, theirs in lost.items():
            self._callbacks.narrow(holder, theirs)
        removed = self._wanted.unwant(channels)
        self._unwant(removed)
        return removed

    def _unwant(self, channels: list[Channel]) -> None:
        for channel in channels:
            cls, key = key_of(channel)
            self._cells[cls].pop(key, None)
        if channels:
            self._edits.unwant(channels)
        self._renew()

    def _mend(self) -> None:
        """If an edit was cut off, by Ctrl-C: make all else agree with what is wanted, and tell the whole of that.

        Done by the next edit if this is cut off, too; and again if a finalizer has made an edit meanwhile.
        """
        while self._is_cut_off:
            wanted = self._wanted.channels()
            kept = set(map(key_of, wanted))
            for cls, cells in self._cells.items():
                for key in list(cells):
                    if (cls, key) not in kept:
                        cells.pop(key, None)
            for cls, key in kept:
                self._cells[cls].setdefault(key, Cell())
            self._renew()
            self._edits.restate(wanted)
            self._edits.wake()
            self._is_cut_off = self._wanted.channels() != wanted

    @property
    def wanted(self) -> frozenset[Channel]:
        """The wanted channels."""
        with self._lock:
            return self._wanted.channels()

    def latest(self, channel: Channel) -> DataEvent | None:
        """The last event of a wanted channel."""
        cls, key = key_of(channel)
        cell = self._cells[cls].get(key)
        return None if cell is None else cell.event

    @property
    def is_held_here(self) -> bool:
        """Whether the caller's thread holds the lock of the tables, or of a stream's queue."""
        return held_here(self._lock) or any(queue.is_held_here for queue in self._queues.targets())

    # --- Delivering, from the I/O thread

    def deliver(self, events: Sequence[Event], *, force: bool = False) -> Delivery:
        """Hand each event to its consumers, in order, one batch per consumer.

        `Closed` goes alone, so that whatever reports led up to it come before; after it nothing is delivered.

        Args:
            events: what to deliver.
            force: do not stop where a blocking consumer is full; for the end, when nothing else will come.
        """
        if self._closed:
            return Delivery(len(events), [], None)
        batches = _Batches()
        with self._lock:
            for event in events:
                if not self._assign(event, batches, force=force):
                    break
        return self._hand_over(batches.queues, batches.called, batches.done)

    def _assign(self, event: Event, into: _Batches, *, force: bool) -> bool:
        """Put the event into the batches of its consumers, and among the latest; False if it cannot go now."""
        if self._closed:  # nothing comes after `Closed`, in the same batch either
            into.done += 1
            return True
        cls, key = type(event), event_key(event)
        last = cls is Closed
        if last and into.done:
            return False
        queues = self._queues.find(cls, key)
        called = bool(self._callbacks.find(cls, key))
        if not force and not self._reserve(queues, into.rooms, called=called):
            return False
        self._closed = last
        into.done += 1
        cell = None if key is None else self._cells[cls].get(key)
        if cell is not None and isinstance(event, DataEvent):
            cell.event = event
        for queue in queues:
            into.of_queue(queue).append(event)
        if called:
            into.called.append(event)
        return True

    def _reserve(self, queues: tuple[EventQueue, ...], rooms: dict[EventQueue, int], *, called: bool) -> bool:
        """Whether every blocking consumer of an event has room for it; takes it if so."""
        blocking = [queue for queue in queues if queue.blocking]
        if called and self._sink.queue is not None and self._sink.queue.blocking:
            blocking.append(self._sink.queue)
        for queue in blocking:
            if queue not in rooms:
                rooms[queue] = queue.ask_room()
            if rooms[queue] <= 0:
                return False
        for queue in blocking:
            rooms[queue] -= 1
        return True

    def _hand_over(self, queues: Mapping[EventQueue, list[Event]], called: list[Event], done: int = 0) -> Delivery:
        """Put the batches; reports and failures come only of what was lost."""
        reports: list[EventsDropped] = []
        failure = None
        for queue, batch in queues.items():
            if self._count(queue.put(batch)):
                self._report(queue, reports)
                self._release_if_failed(queue)
        sink = self._sink.queue
        if called and self._count(self._sink.put(called)) and sink is not None:
            self._report(sink, reports)
            failure = sink.failure
        return Delivery(done, [] if self._closed else reports, failure, [])

    def express(self, incoming: Incoming, lane: Lane, received_at: datetime, wallet: Transactions | None) -> Delivery:
        """Deliver data events as fast as that goes; see `_express`.

        Args:
            incoming: frames of a READY connection; as many as are delivered, and `Delivery.left`, are taken.
            lane: makes the events.
            received_at: when the frames were read.
            wallet: the only wallet subscribed, or None.

        Returns:
            What came of it; `left` has the first payload that the lane does not know, or all when a blocking consumer
            may have no room for them.
        """
        queues = self.places.queues
        if self._closed or not self._has_room(queues.blocking, incoming):
            return Delivery(0, [], None, list(incoming.payloads))
        inline = None if queues.exist else self._sink.inline  # streams get their batch before any callback runs
        done = express(incoming, lane, received_at, wallet, router=self, inline=inline)
        self._counters.count_data(done.prices, done.transactions, done.bots)
        delivery = self._hand_over(done.queues, done.called)
        if done.odd is not None:
            delivery.left.append(done.odd)
        return delivery

    def _has_room(self, blocking: tuple[EventQueue, ...], incoming: Incoming) -> bool:
        """Whether no blocking consumer could be given more than it takes."""
        sink = self._sink.queue
        if sink is not None and sink.blocking and sink.ask_room() < len(incoming):
            return False
        return not blocking or all(queue.ask_room() >= len(incoming) for queue in blocking)

    def _count(self, lost: int) -> int:
        self._counters.dropped += lost
        return lost

    @staticmethod
    def _report(queue: EventQueue, reports: list[EventsDropped]) -> None:
        report = dropping_report(queue)
        if report is not None:
            reports.append(report)

    def _release_if_failed(self, queue: EventQueue) -> None:
        if queue.failure is not None:
            for token in self._queues.tokens_of(queue):
                self.release(token)

    def finish(self, error: AllenHarkError | None) -> None:
        """Nothing more will come: let every stream end once it is drained."""
        with self._lock:
            self._end = _End(error)
            queues = self._queues.targets()
        for queue in queues:
            queue.finish(error)


def dropping_report(queue: EventQueue, *, recovered: bool = False) -> EventsDropped | None:
    """The report of a queue that started to lose events, or has recovered; None when there is no news."""
    count = queue.take_report(recovered=recovered)
    return None if count is None else EventsDropped(count, queue.name)


def no_router() -> None:
    """Stands for the reference to a router before there is one, or when it is another process's."""
