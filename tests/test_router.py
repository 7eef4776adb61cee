"""The router: who gets what, who wants what, the latest events, blocking consumers, and the end."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

import pytest
from attrs import define, field

from allenhark_ws._counters import Counters
from allenhark_ws._express import Inline
from allenhark_ws._queue import Drained, EventQueue
from allenhark_ws._router import Delivery, Router, dropping_report
from allenhark_ws._routes import RouteTable, key_of
from allenhark_ws.channels import Bot, Channel, Price, Transactions
from allenhark_ws.errors import ClientClosed, SlowConsumer
from allenhark_ws.events import (
    BotUpdate,
    Closed,
    Connected,
    DataEvent,
    Event,
    EventsDropped,
    LifecycleEvent,
    Pong,
    PriceUpdate,
    TransactionConfirmed,
)

WHEN = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)


def price(mint: str, value: float = 1.0) -> PriceUpdate:
    """A price of a mint."""
    return PriceUpdate(mint, value, 0.0, WHEN)


@define(eq=False)
class Sink:
    """Takes the events for callbacks, into its queue if it has one."""

    queue: EventQueue | None = None
    events: list[Event] = field(factory=list[Event])

    def put(self, events: Sequence[Event]) -> int:
        """Take the events."""
        self.events.extend(events)
        return 0 if self.queue is None else self.queue.put(events)

    @property
    def inline(self) -> Inline | None:
        """Nothing is called here and now."""
        return None


@define(eq=False)
class Edits:
    """Remembers what became wanted and unwanted, and how often somebody was woken."""

    log: list[tuple[str, list[Channel] | frozenset[Channel]]] = field(
        factory=list[tuple[str, "list[Channel] | frozenset[Channel]"]]
    )
    wakes: int = 0

    def want(self, channels: list[Channel]) -> None:
        """Channels became wanted."""
        self.log.append(("want", channels))

    def unwant(self, channels: list[Channel]) -> None:
        """Channels are wanted no more."""
        self.log.append(("unwant", channels))

    def restate(self, channels: frozenset[Channel]) -> None:
        """All that is wanted."""
        self.log.append(("restate", channels))

    def wake(self) -> None:
        """Now."""
        self.wakes += 1


@define(eq=False)
class Bench:
    """A router and its neighbours."""

    counters: Counters = field(factory=Counters)
    sink: Sink = field(factory=Sink)
    edits: Edits = field(factory=Edits)
    router: Router = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.router = Router(self.counters, self.sink, self.edits)

    def queue(self, *kinds: Any, maxsize: int = 100, overflow: str = "drop_oldest", name: str = "q") -> EventQueue:
        """A queue for the kinds; its token is its name."""
        queue = EventQueue(name, maxsize, overflow)
        self.router.add_queue(name, kinds, queue)
        return queue


@pytest.fixture
def bench() -> Bench:
    """A router without a callback queue."""
    return Bench()


def drain(queue: EventQueue) -> list[Event]:
    """Everything that is queued."""
    return queue.take_batch(1_000, 0.0) if len(queue) else []


def ignore(_event: Event) -> None:
    """A callback."""


# --- Delivering


def test_each_consumer_gets_its_events_in_order(bench: Bench) -> None:
    """Queues and callbacks get what they are registered for, in the order of arrival."""
    everything, prices, one = (
        bench.queue(Event, name="everything"),
        bench.queue(PriceUpdate, name="prices"),
        bench.queue(Price("b"), name="one"),
    )
    bench.router.add_callback("c", [Price("a"), LifecycleEvent], ignore)
    events = [price("a"), Connected(1, 0.1), price("b"), Pong(), price("a")]
    assert bench.router.deliver(events) == Delivery(5, [], None)
    assert drain(everything) == events
    assert drain(prices) == [price("a"), price("b"), price("a")]
    assert drain(one) == [price("b")]
    assert bench.sink.events == [price("a"), Connected(1, 0.1), price("a")]
    assert bench.router.callbacks_for(price("a")) == (ignore,)
    assert bench.router.callbacks_for(price("b")) == ()


def test_one_batch_per_queue(bench: Bench) -> None:
    """However many events a read brought, a queue's lock is taken once, and the sink is called once."""
    puts: list[int] = []

    class Counting(EventQueue):
        def put(self, events: Sequence[Event]) -> int:
            puts.append(len(events))
            return super().put(events)

    bench.router.add_queue("q", [PriceUpdate], Counting("q", 10, "drop_oldest"))
    bench.router.deliver([price("a"), Pong(), price("b")])
    assert puts == [2]
    assert bench.sink.events == []


def test_queue_with_overlapping_kinds_gets_an_event_once(bench: Bench) -> None:
    """A stream on a channel and on its class."""
    queue = bench.queue(Price("a"), PriceUpdate, Event)
    bench.router.deliver([price("a")])
    assert drain(queue) == [price("a")]


def test_removed_callbacks_get_nothing(bench: Bench) -> None:
    """By token one registration, by callback all of them."""
    bench.router.add_callback(1, [PriceUpdate], ignore)
    bench.router.add_callback(2, [Pong], ignore)
    bench.router.remove_callback(1)
    bench.router.deliver([price("a"), Pong()])
    assert bench.sink.events == [Pong()]
    bench.router.add_callback(3, [PriceUpdate], ignore)
    bench.router.remove_callbacks(ignore)
    bench.router.deliver([price("a"), Pong()])
    assert bench.sink.events == [Pong()]


def test_transactions_of_unknown_and_known_wallets(bench: Bench) -> None:
    """Known: that wallet's consumers; unknown: every one of a wallet."""
    first, second = bench.queue(Transactions("v"), name="v"), bench.queue(Transactions("w"), name="w")
    known = TransactionConfirmed("known", "confirmed", 1, channel=Transactions("v"))
    unknown = TransactionConfirmed("unknown", "confirmed", 2)
    bench.router.deliver([known, unknown])
    assert drain(first) == [known, unknown]
    assert drain(second) == [unknown]


# --- Losing


def test_dropped_events_are_counted_and_reported_once(bench: Bench) -> None:
    """The report names the consumer, and comes when dropping begins."""
    queue = bench.queue(PriceUpdate, maxsize=2)
    assert bench.router.deliver([price("a")] * 5) == Delivery(5, [EventsDropped(3, "q")], None)
    assert bench.router.deliver([price("a")] * 2) == Delivery(2, [], None)
    assert bench.counters.dropped == queue.dropped == 5
    drain(queue)
    assert dropping_report(queue, recovered=True) == EventsDropped(2, "q")
    assert dropping_report(queue, recovered=True) is None


def test_failed_stream_lets_go_of_everything(bench: Bench) -> None:
    """A stream with ``overflow="error"`` that is full gives its channels back and gets nothing more."""
    queue = bench.queue(Price("a"), maxsize=1, overflow="error")
    bench.router.hold("q", [Price("a")])
    delivery = bench.router.deliver([price("a", 1), price("a", 2)])
    assert delivery == Delivery(2, [EventsDropped(1, "q")], None)
    assert bench.router.wanted == frozenset()
    assert bench.edits.log == [("want", [Price("a")]), ("unwant", [Price("a")])]
    bench.router.deliver([price("a", 3)])
    assert drain(queue) == [price("a", 1)]
    assert bench.counters.dropped == 1


def test_full_callback_queue_fails_the_client() -> None:
    """The failure is handed up; the report as well."""
    queue = EventQueue("callbacks", 1, "error")
    bench = Bench(sink=Sink(queue))
    bench.router.add_callback(1, [PriceUpdate], ignore)
    assert bench.router.deliver([price("a")]).failure is None
    delivery = bench.router.deliver([price("b")])
    assert isinstance(delivery.failure, SlowConsumer)
    assert delivery.reports == [EventsDropped(1, "callbacks")]


# --- Blocking


def test_blocking_consumer_holds_up_what_does_not_fit(bench: Bench) -> None:
    """Delivery stops at the first event without room, for everybody; order is kept."""
    blocking = bench.queue(PriceUpdate, maxsize=2, overflow="block", name="blocking")
    other = bench.queue(Event, name="other")
    events = [price("a"), Pong(), price("b"), Pong(), price("c"), Pong()]
    assert bench.router.deliver(events).done == 4
    assert bench.router.deliver(events[4:]).done == 0
    assert drain(other) == events[:4]
    blocking.take()
    assert bench.router.deliver(events[4:]).done == 2
    assert drain(blocking) == [price("b"), price("c")]
    assert drain(other) == events[4:]


def test_blocking_consumers_reserve_nothing_when_one_is_full(bench: Bench) -> None:
    """One of two has no room: neither gets the event, now or twice."""
    full, free = (bench.queue(PriceUpdate, maxsize=n, overflow="block", name=str(n)) for n in (1, 5))
    assert bench.router.deliver([price("a"), price("b")]).done == 1
    assert (drain(full), drain(free)) == ([price("a")], [price("a")])
    assert bench.router.deliver([price("b")]).done == 1
    assert (drain(full), drain(free)) == ([price("b")], [price("b")])


def test_blocking_callback_queue() -> None:
    """The callbacks' queue blocks like a stream, for events that callbacks want, and no others."""
    queue = EventQueue("callbacks", 1, "block")
    bench = Bench(sink=Sink(queue))
    bench.router.add_callback(1, [PriceUpdate], ignore)
    assert bench.router.deliver([Pong(), price("a"), Pong(), price("b")]).done == 3
    assert drain(queue) == [price("a")]


def test_force_stops_nowhere(bench: Bench) -> None:
    """At the end a blocking consumer gets the rest, whatever its limit."""
    queue = bench.queue(PriceUpdate, maxsize=1, overflow="block")
    assert bench.router.deliver([price("a"), price("b")], force=True).done == 2
    assert drain(queue) == [price("a"), price("b")]


# --- The end


def test_closed_is_delivered_alone_and_last(bench: Bench) -> None:
    """What led up to it, reports included, comes before; after it nothing comes."""
    queue = bench.queue(Event, maxsize=3)
    assert bench.router.deliver([price("a"), Closed()]).done == 1
    assert bench.router.deliver([EventsDropped(1, "other"), Closed()]).done == 1
    assert bench.router.deliver([Closed()]) == Delivery(1, [], None)
    assert bench.router.deliver([price("b"), Pong()]) == Delivery(2, [], None)
    assert drain(queue) == [price("a"), EventsDropped(1, "other"), Closed()]


@pytest.mark.parametrize("force", [False, True])
def test_nothing_follows_closed_in_its_batch(bench: Bench, *, force: bool) -> None:
    """What was held back together with it is done with, and nobody gets it; what came before it all get."""
    bench.router.add_callback("c", [Event], ignore)
    everything, lifecycle = bench.queue(Event, name="everything"), bench.queue(LifecycleEvent, name="lifecycle")
    batch: list[Event] = [price("a"), Closed(), price("b"), EventsDropped(1, "other"), Closed()]
    assert bench.router.deliver(batch, force=force) == Delivery(1, [], None)
    assert bench.router.deliver(batch[1:], force=force) == Delivery(4, [], None)
    assert drain(everything) == bench.sink.events == [price("a"), Closed()]
    assert drain(lifecycle) == [Closed()]


def test_no_report_follows_closed(bench: Bench) -> None:
    """Even when `Closed` itself pushes an event out."""
    queue = bench.queue(Event, maxsize=1)
    bench.router.deliver([price("a")])
    assert bench.router.deliver([Closed()]) == Delivery(1, [], None)
    assert drain(queue) == [Closed()]
    assert bench.counters.dropped == 1


def test_closed_that_is_held_up_comes_later(bench: Bench) -> None:
    """A full blocking consumer holds `Closed` up like any event."""
    queue = bench.queue(Event, maxsize=1, overflow="block")
    assert bench.router.deliver([price("a"), Closed()]).done == 1
    assert bench.router.deliver([Closed()]).done == 0
    assert bench.router.deliver([Closed()], force=True).done == 1
    assert drain(queue) == [price("a"), Closed()]


@pytest.mark.parametrize("error", [None, ClientClosed()])
def test_finish_ends_every_stream(bench: Bench, error: ClientClosed | None) -> None:
    """Those that exist, and those that are made while the client ends."""
    before = bench.queue(Event, name="before")
    bench.router.finish(error)
    after = bench.queue(Event, name="after")
    for queue in (before, after):
        with pytest.raises(Drained) as end:
            queue.take()
        assert end.value.error is error


# --- Wanting


def test_edits_are_told_once_per_change(bench: Bench) -> None:
    """First holder in, last holder out; nobody is woken for nothing."""
    router = bench.router
    router.hold(1, [Price("a"), Bot("b")])
    router.hold(2, [Price("a")])
    router.hold(3, [])
    assert router.wanted == frozenset({Price("a"), Bot("b")})
    router.release(1)
    router.release(3)
    router.release(2)
    assert bench.edits.log == [
        ("want", [Price("a"), Bot("b")]),
        ("unwant", [Bot("b")]),
        ("unwant", [Price("a")]),
    ]
    assert bench.edits.wakes == 3


class InterruptedEdits(Edits):
    """Ctrl-C comes with the first thing it is told."""

    interruptions: int = 1
    told: bool = False

    def want(self, channels: list[Channel]) -> None:
        """Take note before the interruption, or not at all."""
        if self.interruptions:
            self.interruptions -= 1
            if self.told:
                super().want(channels)
            raise KeyboardInterrupt
        super().want(channels)


@pytest.mark.parametrize("told", [False, True])
def test_ctrl_c_leaves_nothing_that_is_held_but_not_told(told: bool) -> None:
    """A subscribe cut off on either side of telling the session is undone, so that the next one is told."""
    edits = InterruptedEdits()
    edits.told = told
    router = Router(Counters(), Sink(), edits)
    with pytest.raises(KeyboardInterrupt):
        router.hold(1, [Price("a"), Bot("b")])
    assert router.wanted == frozenset()
    router.hold(2, [Bot("b")])
    cut_off = [("want", [Price("a"), Bot("b")])] if told else []
    assert edits.log == [*cut_off, ("restate", frozenset()), ("want", [Bot("b")])]


def test_ctrl_c_before_the_latest_is_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that is held already but has no place for its last event is let go of all the same."""
    monkeypatch.setattr("allenhark_ws._router.key_of", interrupted_once(key_of))
    with pytest.raises(KeyboardInterrupt):
        bench.router.hold(1, [Price("a")])
    assert bench.router.wanted == frozenset()
    bench.router.hold(2, [Price("a")])
    bench.router.deliver([price("a")])
    assert bench.router.latest(Price("a")) == price("a")


class InterruptedUnwant(Edits):
    """Ctrl-C comes instead of the first news that something is not wanted any more."""

    interruptions: int = 1

    def unwant(self, channels: list[Channel]) -> None:
        """Take no note the first time."""
        if self.interruptions:
            self.interruptions -= 1
            raise KeyboardInterrupt
        super().unwant(channels)


@pytest.mark.parametrize("verb", ["release", "drop"])
def test_ctrl_c_before_it_is_told_what_is_not_wanted(verb: str) -> None:
    """All that is wanted is told instead; the rest is as if it had come later, and doing it again changes nothing."""
    edits = InterruptedUnwant()
    router = Router(Counters(), Sink(), edits)
    router.add_callback(1, [Price("a")], ignore)
    router.hold(1, [Price("a")])
    router.hold(2, [Price("b")])
    router.deliver([price("a"), price("b")])
    undo: Callable[[], None] = {
        "release": lambda: router.release(1),
        "drop": lambda: router.unsubscribe([Price("a")]),
    }[verb]
    with pytest.raises(KeyboardInterrupt):
        undo()
    assert router.wanted == {Price("b")}
    assert edits.log[-1] == ("restate", frozenset({Price("b")}))
    assert edits.wakes == 3
    assert (router.latest(Price("a")), router.latest(Price("b"))) == (None, price("b"))
    undo()
    router.hold(3, [Price("a")])
    assert edits.log[-2:] == [("restate", frozenset({Price("b")})), ("want", [Price("a")])]


def test_ctrl_c_before_anything_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wanted stays as it was, with the last event of it, and is told again."""
    edits = Edits()
    router = Router(Counters(), Sink(), edits)
    router.hold(1, [Price("a")])
    router.deliver([price("a")])
    monkeypatch.setattr(RouteTable, "remove", interrupted_once(RouteTable.remove))
    with pytest.raises(KeyboardInterrupt):
        router.release(1)
    assert edits.log[-1] == ("restate", frozenset({Price("a")}))
    assert router.latest(Price("a")) == price("a")


def test_ctrl_c_before_the_latest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not wanted any more is not remembered, when the edit that should have seen to it was cut off."""
    router = Router(Counters(), Sink(), Edits())
    router.hold(1, [Price("a"), Price("b")])
    router.hold(2, [Price("b")])
    router.deliver([price("a"), price("b")])
    monkeypatch.setattr("allenhark_ws._router.key_of", interrupted_once(key_of))
    with pytest.raises(KeyboardInterrupt):
        router.release(1)
    assert (router.latest(Price("a")), router.latest(Price("b"))) == (None, price("b"))


class InterruptedTwice(InterruptedUnwant):
    """And again instead of the whole of it."""

    interruptions: int = 2

    def restate(self, channels: frozenset[Channel]) -> None:
        """Take no note the second time."""
        if self.interruptions:
            self.interruptions -= 1
            raise KeyboardInterrupt
        super().restate(channels)


def test_ctrl_c_while_mending() -> None:
    """The next edit does it first."""
    edits = InterruptedTwice()
    router = Router(Counters(), Sink(), edits)
    router.hold(1, [Price("a")])
    with pytest.raises(KeyboardInterrupt):
        router.release(1)
    assert edits.log == [("want", [Price("a")])]
    router.hold(2, [Price("b")])
    assert edits.log[1:] == [("restate", frozenset()), ("want", [Price("b")])]


def test_a_finalizer_lets_go_while_it_is_mended() -> None:
    """What it tells is overtaken by what was about to be told; so the whole is told again."""
    edits = InterruptedUnwant()
    router = Router(Counters(), Sink(), edits)
    for holder, channel in enumerate([Price("a"), Price("b"), Price("c")]):
        router.hold(holder, [channel])
    restate, finalizers = edits.restate, [lambda: router.release(1)]

    def interfered(channels: frozenset[Channel]) -> None:
        while finalizers:
            finalizers.pop()()
        restate(channels)

    edits.restate = interfered
    with pytest.raises(KeyboardInterrupt):
        router.release(0)
    assert router.wanted == {Price("c")}
    assert edits.log[-1] == ("restate", frozenset({Price("c")}))


def interrupted_once(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, but Ctrl-C comes instead of its first call."""
    interruptions = iter([KeyboardInterrupt])

    def call(*arguments: Any) -> Any:
        for interruption in interruptions:
            raise interruption
        return function(*arguments)

    return call


def test_drop_unsubscribes_whoever_holds(bench: Bench) -> None:
    """Once, and what nobody wants is no edit."""
    router = bench.router
    router.hold(1, [Price("a")])
    router.hold(2, [Price("a")])
    router.unsubscribe([Price("a"), Price("z")])
    router.unsubscribe([Price("a")])
    assert bench.edits.log == [("want", [Price("a")]), ("unwant", [Price("a")])]
    assert bench.edits.wakes == 2


def test_drop_takes_the_subscriptions_callbacks_along(bench: Bench) -> None:
    """A subscription that is dropped does not come back with the next one; other channels and streams stay."""
    router = bench.router
    router.add_callback("sub", [Price("a"), Price("b")], ignore)
    router.hold("sub", [Price("a"), Price("b")])
    queue = bench.queue(Price("a"))
    router.hold("q", [Price("a")])
    router.unsubscribe([Price("a")])
    router.deliver([price("a"), price("b")])
    assert bench.sink.events == [price("b")]
    assert drain(queue) == [price("a")]
    router.unsubscribe([Price("b")])
    assert router._callbacks.targets() == []


def test_release_takes_the_queue_out(bench: Bench) -> None:
    """A closed stream gets nothing more."""
    queue = bench.queue(PriceUpdate)
    bench.router.release("q")
    bench.router.deliver([price("a")])
    assert drain(queue) == []


# --- The latest


@pytest.mark.parametrize(
    ("channel", "first", "second"),
    [
        (Price("a"), price("a", 1), price("a", 2)),
        (Bot("b"), BotUpdate("b", "one", {}), BotUpdate("b", "two", {})),
        (
            Transactions("w"),
            TransactionConfirmed("1", "confirmed", 1, channel=Transactions("w")),
            TransactionConfirmed("2", "confirmed", 2, channel=Transactions("w")),
        ),
    ],
)
def test_latest_of_a_wanted_channel(bench: Bench, channel: Channel, first: DataEvent, second: DataEvent) -> None:
    """The last event, without any consumer; none before the first, and none once nobody wants it."""
    router = bench.router
    router.deliver([first])
    assert router.latest(channel) is None
    router.hold(1, [channel])
    assert router.latest(channel) is None
    router.deliver([first, second])
    assert router.latest(channel) is second
    router.release(1)
    assert router.latest(channel) is None
    router.hold(2, [channel])
    assert router.latest(channel) is None
    router.deliver([second])
    router.unsubscribe([channel])
    assert router.latest(channel) is None


def test_latest_of_a_transaction_without_wallet(bench: Bench) -> None:
    """It is nobody's latest."""
    bench.router.hold(1, [Transactions("v"), Transactions("w")])
    bench.router.deliver([TransactionConfirmed("1", "confirmed", 1)])
    assert bench.router.latest(Transactions("v")) is None


def test_latest_is_kept_for_wanted_channels_only(bench: Bench) -> None:
    """Distinct mints of a hostile server leave nothing behind."""
    bench.router.hold(1, [Price("a")])
    bench.router.deliver([price(f"hostile-{number}") for number in range(1_000)])
    assert {cls: list(kept) for cls, kept in bench.router._cells.items() if kept} == {PriceUpdate: ["a"]}


# --- Holding


class Probe:
    """A token; while a table looks it up, it lets another thread try the lock and then edits, as a finalizer may."""

    def __init__(self, router: Router) -> None:
        self.router = router
        self.free: list[bool] = []

    def __hash__(self) -> int:
        other = threading.Thread(target=self._try, daemon=True)
        other.start()
        other.join(60.0)
        self.router.remove_callback("gone")
        self.router.release("gone")
        return 1

    def _try(self) -> None:
        free = self.router._lock.acquire(blocking=False)
        self.free.append(free)
        if free:
            self.router._lock.release()


def test_an_edit_within_an_edit_has_all_locks_already(bench: Bench) -> None:
    """A finalizer that runs inside one table and edits the others must not wait for a thread that waits for it."""
    router = bench.router
    probe = Probe(router)
    router.add_callback(probe, [PriceUpdate], ignore)
    router.add_queue(probe, [PriceUpdate], EventQueue("q", 1, "block"))
    router.remove_callback(probe)
    router.release(probe)
    assert probe.free
    assert not any(probe.free)


def test_router_is_held_by_nobody_it_knows() -> None:
    """With the client gone, nothing keeps the router: no queue, no callback, no neighbour, no collector needed."""
    bench = Bench()
    queue = bench.queue(Event)
    bench.router.add_callback(1, [Event], ignore)
    bench.router.deliver([price("a")])
    router, sink, edits = weakref.ref(bench.router), bench.sink, bench.edits
    gc.disable()
    try:
        del bench
        assert router() is None
    finally:
        gc.enable()
    assert (len(queue), len(sink.events), edits.wakes) == (1, 1, 0)


def test_edits_while_events_are_delivered(bench: Bench) -> None:
    """Streams and wanted channels come and go on other threads; what stays gets everything in order."""
    steady = bench.queue(PriceUpdate, maxsize=100_000, name="steady")
    begin = threading.Barrier(3)

    def edit(name: str) -> None:
        begin.wait(60.0)
        for _ in range(200):
            bench.queue(Price("a"), maxsize=3, name=name)
            bench.router.hold(name, [Price("a")])
            bench.router.unsubscribe([Price("a")])
            bench.router.release(name)

    threads = [threading.Thread(target=edit, args=(name,), daemon=True) for name in ("x", "y")]
    for thread in threads:
        thread.start()
    begin.wait(60.0)
    sent = [price("a", float(number)) for number in range(3_000)]
    for start in range(0, 3_000, 10):
        assert bench.router.deliver(sent[start : start + 10]).done == 10
    for thread in threads:
        thread.join(60.0)
    assert drain_all(steady) == sent
    assert bench.router.wanted == frozenset()
    assert bench.router.latest(Price("a")) is None
    wanted = sum(len(channels) for verb, channels in bench.edits.log if verb == "want")
    assert wanted == sum(len(channels) for verb, channels in bench.edits.log if verb == "unwant") > 0


def drain_all(queue: EventQueue) -> list[Event]:
    """Everything that is queued, however much."""
    return queue.take_batch(1_000_000, 0.0)
