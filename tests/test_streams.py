"""Streams: the reading half of `queue.Queue`, its ends, its guards, and what it holds."""

from __future__ import annotations

import contextlib
import gc
import queue
import signal
import threading
import time
import weakref
from collections.abc import Hashable
from datetime import datetime, timezone
from typing import Any

import pytest
from attrs import define, field

from allenhark_ws._queue import EventQueue
from allenhark_ws.errors import AllenHarkError, AuthenticationError, ClientClosed, SlowConsumer, StreamClosed
from allenhark_ws.events import Event, PriceUpdate
from allenhark_ws.streams import Stream

from .patience import PATIENCE
from .scripted import outcome_aside, run_aside

WHEN = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)


def price(mint: str, value: float = 1.0) -> PriceUpdate:
    """A price of a mint."""
    return PriceUpdate(mint, value, 0.0, WHEN)


@define(eq=False, weakref_slot=True)
class Owner:
    """What a stream asks of its client."""

    forked: bool = False
    on_io_thread: bool = False
    released: list[Hashable] = field(factory=list[Hashable])

    @property
    def _loop(self) -> Owner:
        return self

    def _check_process(self) -> None:
        if self.forked:
            raise ClientClosed

    def _check_may_wait(self, verb: str) -> None:
        if self.on_io_thread:
            raise RuntimeError(verb)

    def _release(self, holder: Hashable) -> None:
        self.released.append(holder)


@define(eq=False)
class Bench:
    """A stream with its owner, its queue, and a list of the holders that were orphaned."""

    maxsize: int = 10
    overflow: str = "drop_oldest"
    owner: Owner = field(factory=Owner)
    orphans: list[Hashable] = field(factory=list[Hashable])
    events: EventQueue = field(init=False)
    stream: Stream[Any] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.events = EventQueue("stream-1(Price)", self.maxsize, self.overflow)
        self.stream = Stream(self.owner, self.events, "holder", self.orphans.append)  # type: ignore[arg-type]


@pytest.fixture
def bench() -> Bench:
    """An open stream on an empty queue."""
    return Bench()


# --- As queue.Queue


def test_get(bench: Bench) -> None:
    """The oldest first, however it is asked for."""
    events = [price(mint) for mint in "abcd"]
    bench.events.put(events)
    stream = bench.stream
    assert (stream.qsize(), stream.empty()) == (4, False)
    assert [stream.get(), stream.get(block=False), stream.get(timeout=5), stream.get_nowait()] == events
    assert (stream.qsize(), stream.empty()) == (0, True)


def test_nothing_came(bench: Bench) -> None:
    """`queue.Empty`, without a trace of what is behind; an empty list for a batch."""
    for get in (
        bench.stream.get_nowait,
        lambda: bench.stream.get(False),
        lambda: bench.stream.get(timeout=0),
        lambda: bench.stream.get(timeout=0.001),
    ):
        with pytest.raises(queue.Empty) as caught:
            get()
        assert caught.value.__context__ is None
    assert bench.stream.get_batch(5, timeout=0) == []
    assert bench.stream.get_batch(5, timeout=0.001) == []


def test_get_batch(bench: Bench) -> None:
    """As many as there are, up to the limit."""
    events = [price(mint) for mint in "abc"]
    bench.events.put(events)
    assert bench.stream.get_batch(2) == events[:2]
    assert bench.stream.get_batch(2, timeout=1.5) == events[2:]


@pytest.mark.parametrize("timeout", [-1, -0.001, float("-inf"), float("nan"), -(10**400)])
def test_negative_timeouts(bench: Bench, timeout: float) -> None:
    """They are refused, as by `queue.Queue`, also when an event is there; without blocking nobody looks at them."""
    bench.events.put([price("a")])
    with pytest.raises(ValueError, match="negative"):
        bench.stream.get(timeout=timeout)
    with pytest.raises(ValueError, match="negative"):
        bench.stream.get_batch(1, timeout)
    assert bench.stream.get(block=False, timeout=timeout) == price("a")


@pytest.mark.parametrize("timeout", ["1", True, object()])
def test_timeouts_that_are_no_numbers(bench: Bench, timeout: Any) -> None:
    """They are refused with a text that says what to pass."""
    with pytest.raises(TypeError, match="seconds or None"):
        bench.stream.get(timeout=timeout)


@pytest.mark.parametrize(("count", "error"), [(0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError)])
def test_batch_sizes(bench: Bench, count: Any, error: type[Exception]) -> None:
    """At least one event, in whole numbers."""
    with pytest.raises(error, match="max_items"):
        bench.stream.get_batch(count)


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e9, 1e300, 10**400, 3600])
def test_long_waits(bench: Bench, timeout: float | None) -> None:
    """However long somebody is willing to wait, an event or the end comes first."""
    got: list[Event] = []
    thread = threading.Thread(target=lambda: got.append(bench.stream.get(timeout=timeout)), daemon=True)
    thread.start()
    bench.events.put([price("a")])
    thread.join(PATIENCE)
    assert got == [price("a")]
    bench.events.finish()
    with pytest.raises(StreamClosed):
        bench.stream.get_batch(1, timeout)


# --- The end


def test_closed_stream_is_drained_then_closed(bench: Bench) -> None:
    """What is queued can be read; then `get` says so, as often as it is asked, without a trace of what is behind."""
    bench.events.put([price("a")])
    bench.stream.close()
    bench.events.put([price("b")])
    assert bench.stream.get() == price("a")
    for get in (bench.stream.get, bench.stream.get_nowait, lambda: bench.stream.get_batch(3)):
        with pytest.raises(StreamClosed, match="stream-1") as caught:
            get()
        assert caught.value.__context__ is None


def test_iteration_ends_quietly(bench: Bench) -> None:
    """When the stream or the client was closed."""
    bench.events.put([price("a"), price("b")])
    bench.stream.close()
    assert list(bench.stream) == [price("a"), price("b")]
    assert list(bench.stream) == []


@pytest.mark.parametrize("error", [AuthenticationError("no"), ClientClosed()])
def test_terminal_error_is_raised_by_all(bench: Bench, error: AllenHarkError) -> None:
    """When the client failed, reading and iterating end with its error, the very one, once all is drained."""
    bench.events.put([price("a")])
    bench.events.finish(error)
    got: list[Event] = []
    with pytest.raises(type(error)) as caught:
        got.extend(bench.stream)
    assert caught.value is error
    for get in (bench.stream.get, bench.stream.get_nowait, lambda: bench.stream.get_batch(3)):
        with pytest.raises(type(error)) as caught:
            get()
        assert caught.value is error
        assert error.__context__ is None


def test_slow_consumer() -> None:
    """``overflow="error"``: what is queued can be read, then it is raised by all."""
    bench = Bench(maxsize=1, overflow="error")
    bench.events.put([price("a"), price("b")])
    assert bench.stream.dropped == 1
    seen: list[Event] = []
    with pytest.raises(SlowConsumer, match="stream-1"):
        seen.extend(bench.stream)
    with pytest.raises(SlowConsumer):
        bench.stream.get()


def test_close_releases_once(bench: Bench) -> None:
    """Closing is idempotent, and leaves nothing for the finalizer to do."""
    with bench.stream as stream:
        assert bench.owner.released == []
    stream.close()
    assert bench.owner.released == ["holder"]
    bench.stream = stream = None  # type: ignore[assignment]
    gc.collect()
    assert bench.orphans == []


@pytest.mark.parametrize("step", ["_check_process", "_release"])
def test_close_cut_short_can_be_made_again(bench: Bench, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C half-way leaves a stream that lets go of everything when it is closed once more, or forgotten."""

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    forgotten = Bench()
    with monkeypatch.context() as patch:
        patch.setattr(Owner, step, interrupt)
        for stream in (bench.stream, forgotten.stream):
            with pytest.raises(KeyboardInterrupt):
                stream.close()
    bench.stream.close()
    bench.stream = forgotten.stream = stream = None  # type: ignore[assignment]
    gc.collect()
    assert (bench.owner.released, bench.orphans) == (["holder"], [])
    assert (forgotten.owner.released, forgotten.orphans) == ([], ["holder"])


def test_forgotten_stream_releases_its_channels(bench: Bench) -> None:
    """At once, without the collector; its client is not asked, for it may be gone as well."""
    gc.disable()
    try:
        bench.stream = None  # type: ignore[assignment]
        assert bench.orphans == ["holder"]
    finally:
        gc.enable()
    assert bench.owner.released == []


def read_to_the_end(stream: Stream[Any], *, ended: bool) -> None:
    """Read an empty stream in every way that does not wait."""
    with pytest.raises(StreamClosed if ended else queue.Empty):
        stream.get_nowait()
    with pytest.raises(StreamClosed) if ended else contextlib.nullcontext():
        assert stream.get_batch(1, 0) == []
    if ended:
        assert list(stream) == []


@pytest.mark.parametrize("ended", [True, False])
def test_reading_leaves_no_cycle(*, ended: bool) -> None:
    """A stream that has raised is collected with its client at once: frames and errors do not hold each other."""
    bench = Bench()
    if ended:
        bench.events.finish()
    gc.disable()
    try:
        read_to_the_end(bench.stream, ended=ended)
        stream, owner = weakref.ref(bench.stream), weakref.ref(bench.owner)
        del bench
        assert stream() is None
        assert owner() is None
    finally:
        gc.enable()


# --- Guards


def test_stream_of_a_forked_client(bench: Bench) -> None:
    """In the child reading raises and closing does nothing, whoever held the queue's lock when it was forked."""
    bench.events.put([price("a")])
    bench.owner.forked = True
    for get in (bench.stream.get, bench.stream.get_nowait, lambda: bench.stream.get_batch(1), lambda: [*bench.stream]):
        with pytest.raises(ClientClosed):
            get()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with bench.events._lock:
            held.set()
            done.wait(PATIENCE)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(PATIENCE)
    with bench.stream:
        pass
    assert not done.is_set()
    done.set()
    thread.join(PATIENCE)
    assert bench.owner.released == []


@pytest.mark.parametrize("where", ["before the loop", "in the loop"])
def test_iterating_in_a_forked_child_touches_no_lock(where: str) -> None:
    """It raises at once, whoever held the queue's lock when it was forked: in the child nobody gives it back."""
    bench = Bench(overflow="latest")
    bench.events.put([price("a"), price("b")])
    events = iter(bench.stream)
    if where == "in the loop":
        assert next(events) == price("a")
    bench.owner.forked = True
    with bench.events._lock:
        assert isinstance(outcome_aside(lambda: next(events)), ClientClosed)


class Watched(PriceUpdate):
    """A price that a weak reference can be had of."""

    __slots__ = ("__weakref__",)


def test_an_iterator_that_waits_keeps_no_event(bench: Bench) -> None:
    """What it gave before is its user's alone: the one that lay there, and the one that was waited for."""
    taken: list[weakref.ref[Any]] = []

    def read() -> None:
        for event in bench.stream:
            taken.append(weakref.ref(event))
            del event

    reader = run_aside(read)
    deadline = time.monotonic() + PATIENCE
    bench.events.put([Watched("a", 1.0, 0.0, WHEN), Watched("b", 1.0, 0.0, WHEN)])
    for count in (2, 3):
        while not (len(taken) == count and bench.events.idle):
            assert time.monotonic() < deadline
        assert [event() for event in taken] == [None] * count
        bench.events.put([Watched("c", 1.0, 0.0, WHEN)])
    bench.events.finish()
    reader.join(PATIENCE)
    assert not reader.is_alive()


def test_waiting_on_the_thread_that_fills_the_queue(bench: Bench) -> None:
    """It is refused; what needs no waiting is not."""
    bench.owner.on_io_thread = True
    for get in (bench.stream.get, lambda: bench.stream.get(timeout=1), lambda: bench.stream.get_batch(1)):
        with pytest.raises(RuntimeError, match="wait on a stream"):
            get()
    with pytest.raises(queue.Empty):
        bench.stream.get_nowait()
    assert bench.stream.get_batch(1, 0) == []
    bench.events.put([price("a")])
    bench.stream.close()
    assert list(bench.stream) == [price("a")]


def interrupted_get(stream: Stream[Any], timeout: float | None) -> None:
    """Wait on an empty stream, and press Ctrl-C."""
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    stream.get(timeout=timeout)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="interval timers are POSIX")
@pytest.mark.parametrize("timeout", [None, 3600.0])
def test_ctrl_c_interrupts_a_wait(bench: Bench, timeout: float | None) -> None:
    """The reader gets its KeyboardInterrupt, and the stream goes on working."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    rescue = threading.Timer(PATIENCE, bench.events.finish)
    rescue.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted_get(bench.stream, timeout)
    finally:
        rescue.cancel()
        signal.signal(signal.SIGALRM, before)
    bench.events.put([price("a")])
    assert bench.stream.get(timeout=PATIENCE) == price("a")


# --- What it tells


def test_counts() -> None:
    """Dropped, conflated, the most that were queued, and all that in its repr."""
    bench = Bench(maxsize=2, overflow="latest")
    bench.events.put([price("a", 1), price("a", 2), price("b"), price("c")])
    stream = bench.stream
    assert (stream.dropped, stream.conflated, stream.high_water, stream.qsize()) == (1, 1, 2, 2)
    assert stream.name == "stream-1(Price)"
    assert repr(stream) == "<stream-1(Price): 2 of 2 queued, 1 dropped>"


def test_several_readers(bench: Bench) -> None:
    """Each event goes to exactly one of the threads that iterate, and all of them end."""
    bench = Bench(maxsize=100_000)
    seen: list[list[float]] = [[], [], []]
    begin = threading.Barrier(4)

    def read(into: list[float]) -> None:
        begin.wait(PATIENCE)
        into.extend(event.price for event in bench.stream)

    threads = [threading.Thread(target=read, args=(into,), daemon=True) for into in seen]
    for thread in threads:
        thread.start()
    begin.wait(PATIENCE)
    for start in range(0, 3_000, 10):
        bench.events.put([price("a", float(number)) for number in range(start, start + 10)])
    bench.stream.close()
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(number for part in seen for number in part) == [float(number) for number in range(3_000)]
    assert all(part == sorted(part) for part in seen)
