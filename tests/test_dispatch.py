"""Running callbacks: errors of every kind, slowness by a fake clock, expiry, the end, and what is not kept alive."""

from __future__ import annotations

import functools
import gc
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

import pytest
from attrs import define, field

from allenhark_ws._counters import Counters
from allenhark_ws._dispatch import SLOW, CallbackThread, InlineCallbacks
from allenhark_ws._queue import EventQueue
from allenhark_ws._router import Router
from allenhark_ws.channels import Price
from allenhark_ws.errors import SlowConsumer
from allenhark_ws.events import CallbackError, Closed, DataEvent, Event, Pong, PriceUpdate, ServerEvent, SlowCallback

from .fakes import NoEdits
from .patience import PATIENCE

WHEN = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)


def price(mint: str) -> PriceUpdate:
    """A price of a mint."""
    return PriceUpdate(mint, 1.0, 0.0, WHEN)


@define
class Clock:
    """Monotonic seconds that pass when the test says so."""

    seconds: float = 100.0

    def __call__(self) -> float:
        """Now."""
        return self.seconds


@define(eq=False)
class Bench:
    """A callback thread, or inline callbacks, with a router in front and a list for the reports."""

    inline: bool = False
    maxsize: int = 1_000
    overflow: str = "drop_oldest"
    clock: Clock = field(factory=Clock)
    counters: Counters = field(factory=Counters)
    reports: list[Event] = field(factory=list[Event])
    unreported: deque[Event] = field(factory=deque[Event])
    thread: CallbackThread = field(init=False)
    router: Router = field(init=False)
    sink: CallbackThread | InlineCallbacks = field(init=False)

    def __attrs_post_init__(self) -> None:
        queue = EventQueue("callbacks", self.maxsize, self.overflow)
        self.thread = CallbackThread(
            "allenhark-callbacks-test", self.counters, queue, self.reports.append, self.clock, self.unreported
        )
        inline = InlineCallbacks(self.counters, self.reports.append, self.clock)
        self.sink = inline if self.inline else self.thread
        self.router = Router(self.counters, self.sink, NoEdits())
        self.sink.attach(weakref.ref(self.router))

    def on(self, kind: type[Event], callback: Callable[..., object]) -> None:
        """Register a callback."""
        self.router.add_callback(object(), [kind], callback)

    def deliver(self, *events: Event) -> None:
        """Deliver events, each on its own."""
        for event in events:
            self.router.deliver([event])

    def end(self) -> None:
        """Finish; everything that is queued is called here and now, as the thread would."""
        self.thread.finish()
        self.thread.run()


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL + 1, logger="allenhark_ws")


@pytest.fixture(params=[False, True], ids=["thread", "inline"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Both ways to run callbacks; what both must do is tested on both."""
    return Bench(inline=request.param)


def soon() -> float:
    """A deadline that a passing test never reaches."""
    return time.monotonic() + PATIENCE


def wait(event: threading.Event) -> None:
    """Wait for something that must happen."""
    assert event.wait(PATIENCE)


class Telling(threading.Condition):
    """A condition that tells when somebody begins to wait on it; once told, the lock is free."""

    def __init__(self, lock: Any, tell: Callable[[], object]) -> None:
        super().__init__(lock)
        self.tell = tell

    def wait(self, timeout: float | None = None) -> bool:
        """Wait; whoever acquires the lock afterwards finds the waiter waiting."""
        self.tell()
        return super().wait(timeout)


# --- Calling


def test_order_of_arrival_and_of_registration(bench: Bench) -> None:
    """Each event is finished before the next; its callbacks run in the order in which they were registered."""
    calls: list[tuple[str, Event]] = []
    for name in ("first", "second"):
        bench.on(PriceUpdate, lambda event, name=name: calls.append((name, event)))
    bench.router.deliver([price("a"), price("b")])
    bench.end()
    assert calls == [
        ("first", price("a")),
        ("second", price("a")),
        ("first", price("b")),
        ("second", price("b")),
    ]


def test_overlapping_registrations_call_once(bench: Bench) -> None:
    """One callback, several kinds that match: one call."""
    calls: list[Event] = []
    for kind in (PriceUpdate, DataEvent, Event):
        bench.on(kind, calls.append)
    bench.deliver(price("a"))
    bench.end()
    assert calls == [price("a")]


def test_callback_removed_by_another_is_not_called(bench: Bench) -> None:
    """`off` in a callback holds at once, for the event under way too."""
    calls: list[str] = []

    def later(_event: Event) -> None:
        calls.append("later")

    def remover(_event: Event) -> None:
        calls.append("remover")
        bench.router.remove_callbacks(later)

    def last(_event: Event) -> None:
        calls.append("last")

    for callback in (remover, later, last):
        bench.on(PriceUpdate, callback)
    bench.deliver(price("a"))
    bench.end()
    assert calls == ["remover", "last"]


def test_method_registered_twice_loses_one_registration(bench: Bench) -> None:
    """Each mention of a method is a new object; the other registration holds, until it goes as well."""

    class Handler:
        def __init__(self) -> None:
            self.seen: list[Event] = []

        def handle(self, event: Event) -> None:
            self.seen.append(event)

    handler, tokens = Handler(), [1, 2]
    bench.on(PriceUpdate, lambda _: bench.router.remove_callback(tokens.pop(0)))
    bench.router.add_callback(1, [PriceUpdate], handler.handle)
    bench.router.add_callback(2, [Price("a"), Price("b")], handler.handle)
    bench.deliver(price("a"), price("b"))
    bench.end()
    assert handler.seen == [price("a")]


def test_callback_removed_by_itself(bench: Bench) -> None:
    """A callback may want one event only."""
    calls: list[Event] = []

    def once(event: Event) -> None:
        calls.append(event)
        bench.router.remove_callbacks(once)

    bench.on(PriceUpdate, once)
    bench.deliver(price("a"), price("b"))
    bench.end()
    assert calls == [price("a")]


def test_callback_registered_in_a_callback(bench: Bench) -> None:
    """It begins with the next event."""
    calls: list[str] = []

    def second(event: PriceUpdate) -> None:
        calls.append(f"second {event.mint}")

    def first(event: PriceUpdate) -> None:
        calls.append(f"first {event.mint}")
        if event.mint == "a":
            bench.on(PriceUpdate, second)

    bench.on(PriceUpdate, first)
    bench.deliver(price("a"), price("b"))
    bench.end()
    assert calls == ["first a", "first b", "second b"]


def test_without_a_router_nothing_is_called(bench: Bench) -> None:
    """Its client is gone, or was never there."""
    calls: list[Event] = []
    bench.on(Event, calls.append)
    sink, bench.router = bench.sink, Router(Counters(), bench.sink, NoEdits())
    gc.collect()
    sink.put([price("a")])
    bare = InlineCallbacks(Counters(), calls.append)
    bare.put([price("a")])
    bench.end()
    assert calls == []


# --- Errors


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_whatever_a_callback_raises(bench: Bench, kind: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, reported and logged with its traceback; the other callbacks and the next event are called."""
    caplog.set_level(logging.ERROR, logger="allenhark_ws")
    calls: list[Event] = []
    error = kind("private")

    def failing(_event: Event) -> None:
        raise error

    bench.on(PriceUpdate, failing)
    bench.on(PriceUpdate, calls.append)
    bench.deliver(price("a"), price("b"))
    bench.end()
    assert calls == [price("a"), price("b")]
    assert bench.counters.callback_errors == 2
    assert bench.reports == [CallbackError(failing, price(mint), error) for mint in "ab"]
    (first, _) = caplog.records
    assert first.exc_info is not None
    assert first.exc_info[1] is error
    assert first.getMessage().endswith(f"failing raised {kind.__name__}")


def test_error_in_the_handler_of_errors_is_only_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """There is no report of a report, without end."""
    caplog.set_level(logging.ERROR, logger="allenhark_ws")

    def failing(_event: Event) -> None:
        raise ValueError

    bench.on(CallbackError, failing)
    bench.deliver(CallbackError(print, price("a"), ValueError()))
    bench.end()
    assert bench.reports == []
    assert bench.counters.callback_errors == 1
    assert len(caplog.records) == 1


class Hostile:
    """A callback whose every attribute raises, and whose repr must not be asked for."""

    def __call__(self, _event: Event) -> None:
        """Fail."""
        raise LookupError

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(name)

    def __repr__(self) -> str:
        raise AssertionError("asked for its repr")


def test_callback_with_hostile_attributes(bench: Bench) -> None:
    """Accounting for an error runs more of the user's code, which may fail as well."""
    calls: list[Event] = []
    bench.on(PriceUpdate, Hostile())
    bench.on(PriceUpdate, calls.append)
    bench.deliver(price("a"), price("b"))
    bench.end()
    assert calls == [price("a"), price("b")]
    assert [type(report) for report in bench.reports] == [CallbackError, CallbackError]


class Nameless:
    """A callback that is an object: it has no name of its own."""

    def __call__(self, _event: Event) -> None:
        """Fail."""
        raise LookupError


def test_object_is_logged_under_its_class(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """Never under its repr, which is the user's to fill."""
    caplog.set_level(logging.ERROR, logger="allenhark_ws")
    bench.on(PriceUpdate, Nameless())
    bench.deliver(price("a"))
    bench.end()
    assert caplog.records[0].getMessage() == "callback Nameless raised LookupError"


# --- Slowness


def test_inline_callback_is_reported_when_it_returns() -> None:
    """Nobody can watch it while it runs; just under the limit is nothing."""
    bench = Bench(inline=True)
    durations = iter([SLOW - 0.1, SLOW + 1.5])

    def slow(_event: Event) -> None:
        bench.clock.seconds += next(durations)

    bench.on(PriceUpdate, slow)
    bench.deliver(price("a"), price("b"))
    assert bench.reports == [SlowCallback(slow, 2.5)]
    assert bench.sink.queue is None


def test_inline_handler_of_slowness_is_not_reported() -> None:
    """A slow handler of `SlowCallback` would be called for itself without end."""
    bench = Bench(inline=True)

    def slow(_event: Event) -> None:
        bench.clock.seconds += 2 * SLOW

    bench.on(SlowCallback, slow)
    bench.deliver(SlowCallback(print, 1.5))
    assert bench.reports == []


def test_slow_callback_is_told_once_per_call() -> None:
    """While it runs, once it has run for a second; then the watch goes on for the next one."""
    bench = Bench()
    seen: list[object] = []
    thread, clock = bench.thread, bench.clock

    def slow(_event: Event) -> None:
        seen.append(thread.overdue(clock.seconds + SLOW - 0.01))
        seen.append(thread.watch_at(clock.seconds + 0.3) == clock.seconds + SLOW)
        clock.seconds += SLOW
        seen.append(thread.overdue(clock.seconds + 0.5))
        seen.append(thread.overdue(clock.seconds + 9.0))
        seen.append(thread.watch_at(clock.seconds) == clock.seconds + SLOW)

    bench.on(PriceUpdate, slow)
    bench.deliver(price("a"), price("b"))
    bench.end()
    assert seen == [None, True, SlowCallback(slow, 1.5), None, True] * 2
    assert thread.overdue(clock.seconds + 100.0) is None


def test_slow_handler_of_slowness_is_not_reported() -> None:
    """Neither on the callback thread."""
    bench = Bench()
    seen: list[object] = []

    def slow(_event: Event) -> None:
        bench.clock.seconds += 2 * SLOW
        seen.append(bench.thread.overdue(bench.clock.seconds))

    bench.on(SlowCallback, slow)
    bench.deliver(SlowCallback(print, 1.5))
    bench.end()
    assert seen == [None]


def test_idle_thread_needs_no_watch() -> None:
    """With something queued and nothing running there is a next look; a thread that waits for events needs none."""
    bench = Bench()
    bench.on(PriceUpdate, lambda _event: None)
    bench.deliver(price("a"))
    assert bench.thread.watch_at(5.0) == 5.0 + SLOW
    bench.thread.queue.take()
    waiting, queue = threading.Semaphore(0), bench.thread.queue

    queue._changed = Telling(queue._lock, waiting.release)
    bench.thread.start()
    assert waiting.acquire(timeout=PATIENCE)
    assert bench.thread.watch_at(5.0) is None
    bench.thread.finish()
    bench.thread.join(soon())


# --- The thread


def test_thread_is_a_daemon_with_a_telling_name() -> None:
    """Callbacks run there, and it knows itself."""
    bench = Bench()
    seen: list[tuple[str, bool, bool]] = []

    def look(_event: Event) -> None:
        current = threading.current_thread()
        seen.append((current.name, current.daemon, bench.thread.runs_here()))

    bench.on(PriceUpdate, look)
    assert not bench.thread.runs_here()
    bench.thread.start()
    bench.deliver(price("a"))
    bench.thread.finish()
    bench.thread.join(soon())
    assert seen == [("allenhark-callbacks-test", True, True)]
    assert not bench.thread.runs_here()


def test_join_waits_until_everything_is_delivered() -> None:
    """From any thread; a thread that was never started is not waited for."""
    bench, release, entered = Bench(), threading.Event(), threading.Event()
    calls: list[Event] = []
    joined: list[int] = []
    bench.thread.join(soon())

    def hold(event: Event) -> None:
        entered.set()
        wait(release)
        calls.append(event)

    def join() -> None:
        bench.thread.join(soon())
        joined.append(len(calls))

    bench.on(PriceUpdate, hold)
    bench.thread.start()
    bench.deliver(price("a"), price("b"), price("c"))
    bench.thread.finish()
    wait(entered)
    other = threading.Thread(target=join, daemon=True)
    other.start()
    bench.thread.join(time.monotonic() - 1.0)
    assert joined == []
    release.set()
    other.join(PATIENCE)
    assert joined == [3]


def test_join_gives_up_at_the_deadline() -> None:
    """A callback that hangs holds nobody up for longer."""
    bench, release, entered = Bench(), threading.Event(), threading.Event()

    def hang(_event: Event) -> None:
        entered.set()
        wait(release)

    bench.on(PriceUpdate, hang)
    bench.thread.start()
    bench.deliver(price("a"))
    wait(entered)
    bench.thread.join(time.monotonic() - 1.0)
    bench.thread.join(time.monotonic() + 0.01)
    assert not release.is_set()
    release.set()
    bench.thread.finish()
    bench.thread.join(soon())


# --- Forks


def test_after_a_fork_nothing_is_called(bench: Bench) -> None:
    """The callback that forked returns, and that was all: no other callback or event, no waiting, no `Closed`."""
    calls: list[Event] = []

    def fork(event: Event) -> None:
        calls.append(event)
        bench.sink.disown()

    bench.on(Event, fork)
    bench.on(Event, calls.append)
    bench.router.deliver([price("a"), price("b")])
    bench.deliver(Closed())
    if not bench.inline:
        bench.thread.start()
        bench.thread.join(soon())
        assert not bench.thread._thread.is_alive()
    assert calls == [price("a")]


# --- The end


def test_expired_events_are_dropped_but_closed(bench: Bench) -> None:
    """From the deadline on only `Closed` is delivered; the earliest deadline counts; what is late is counted."""
    bench = Bench()
    calls: list[Event] = []

    def take(event: Event) -> None:
        calls.append(event)
        bench.clock.seconds += 1.0

    bench.on(Event, take)
    bench.deliver(price("a"), price("b"), price("c"), price("d"), Closed())
    bench.thread.expire_at(bench.clock.seconds + 9.0)
    bench.thread.expire_at(bench.clock.seconds + 2.0)
    bench.thread.expire_at(bench.clock.seconds + 5.0)
    bench.end()
    assert calls == [price("a"), price("b"), Closed()]
    assert bench.counters.dropped == 2


@pytest.mark.parametrize("too_late", [False, True])
def test_errors_that_nobody_took_any_more(too_late: bool) -> None:
    """They come before `Closed`, behind what is queued, unless it is too late for them."""
    bench = Bench()
    calls: list[Event] = []
    bench.on(Event, calls.append)
    told = CallbackError(print, price("a"), ValueError())
    bench.unreported.append(told)
    bench.deliver(*[price("b")] * (not too_late), Closed())
    if too_late:
        bench.thread.expire_at(bench.clock.seconds)
    bench.end()
    assert calls == ([Closed()] if too_late else [price("b"), told, Closed()])
    assert bench.counters.dropped == too_late


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "latest", "block", "error"])
def test_closed_is_delivered_whatever_the_overflow(overflow: str) -> None:
    """A full buffer loses other events; the last one has a place of its own."""
    bench = Bench(maxsize=1, overflow=overflow)
    calls: list[Event] = []
    bench.on(Event, calls.append)
    bench.router.deliver([price("a"), Pong(), price("b")], force=True)
    bench.router.deliver([Closed()], force=True)
    bench.end()
    assert calls[-1] == Closed()
    assert len(calls) - 1 + bench.counters.dropped == 3


def test_failed_buffer_waits_for_the_end() -> None:
    """After `SlowConsumer` the thread delivers what is queued, and then `Closed`, which comes later."""
    bench = Bench(maxsize=1, overflow="error")
    drained, calls = threading.Event(), list[Event]()

    def take(event: Event) -> None:
        calls.append(event)
        drained.set()

    bench.on(Event, take)
    delivery = bench.router.deliver([price("a"), price("b")])
    assert isinstance(delivery.failure, SlowConsumer)
    bench.thread.start()
    wait(drained)
    bench.deliver(Closed(delivery.failure))
    bench.thread.finish()
    bench.thread.join(soon())
    assert calls == [price("a"), Closed(delivery.failure)]


def test_thread_that_fails_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    """Should the thread itself fail, it says so, and a full blocking buffer lets the I/O thread go on."""
    caplog.set_level(logging.CRITICAL, logger="allenhark_ws")
    bench = Bench(maxsize=1, overflow="block")

    def broken() -> float:
        raise ArithmeticError

    bench.thread._clock = broken
    bench.thread.expire_at(1.0)
    bench.on(PriceUpdate, lambda _event: None)
    bench.deliver(price("a"))
    bench.thread.run()
    assert "callback thread failed" in caplog.text
    assert bench.router.deliver([price("b"), price("c")]).done > 0
    assert bench.thread.queue.would_wait is False


# --- Holding


def test_waiting_thread_keeps_no_router_alive() -> None:
    """Between events the thread holds neither the router nor a callback, also when one has raised."""
    bench, waiting = Bench(), threading.Semaphore(0)
    queue = bench.thread.queue

    queue._changed = Telling(queue._lock, waiting.release)
    bench.thread.start()
    assert waiting.acquire(timeout=PATIENCE)

    class Failing:
        def __call__(self, _event: Event) -> None:
            raise ValueError

    callback = Failing()
    bench.on(PriceUpdate, callback)
    bench.deliver(price("a"))
    assert waiting.acquire(timeout=PATIENCE)
    thread, router, held = bench.thread, weakref.ref(bench.router), weakref.ref(callback)
    reports = bench.reports
    gc.disable()
    try:
        del bench, callback
        assert router() is None
        assert held() is not None
        reports.clear()
        assert held() is None
    finally:
        gc.enable()
        thread.finish()
        thread.join(soon())


def again(router: Router, event: Event) -> None:
    """A callback, once bound to a router, that refers to it."""
    router.deliver([event])


def test_router_may_be_collected_while_its_callbacks_refer_to_it() -> None:
    """A cycle through a callback is the collector's to find, the thread waiting or not."""
    bench = Bench()
    bench.on(Event, functools.partial(again, bench.router))
    thread, gone = bench.thread, weakref.ref(bench.router)
    thread.start()
    del bench
    assert gone() is not None
    gc.collect()
    assert gone() is None
    thread.put([price("a")])
    thread.finish()
    thread.join(soon())


def test_many_events_through_the_thread_in_order() -> None:
    """Under load nothing is lost, nothing is doubled, order is kept."""
    bench = Bench(maxsize=100_000)
    calls: list[Event] = []
    bench.on(DataEvent, calls.append)
    bench.on(ServerEvent, calls.append)
    bench.thread.start()
    sent: Sequence[Event] = [price(str(number)) if number % 3 else Pong() for number in range(3_000)]
    for start in range(0, 3_000, 30):
        bench.router.deliver(sent[start : start + 30])
    bench.thread.finish()
    bench.thread.join(soon())
    assert calls == sent
