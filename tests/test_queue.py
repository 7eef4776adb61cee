"""The bounded queue: five policies against a plain list, ends, waits, reports and several threads."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from datetime import datetime, timezone
from itertools import count
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws._queue import Drained, EventQueue, TimedOut
from allenhark_ws.errors import ClientClosed, SlowConsumer
from allenhark_ws.events import BotUpdate, Connected, Event, PriceUpdate, TradeExecuted

from .patience import PATIENCE

WHEN = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)
POLICIES = ("drop_oldest", "drop_newest", "latest", "block", "error")


def price(mint: str, value: float = 1.0) -> PriceUpdate:
    """A price of a mint."""
    return PriceUpdate(mint, value, 0.0, WHEN)


def bot(number: int) -> BotUpdate:
    """A bot update told from others by its number."""
    return BotUpdate("bot", "event", {"number": number})


def number_of(event: Event) -> int:
    """The number of a bot update."""
    assert isinstance(event, BotUpdate)
    assert not isinstance(event.data, TradeExecuted)
    number: int = event.data["number"]
    return number


@contextlib.contextmanager
def interrupted_at(line: int, file: str, functions: tuple[str, ...]) -> Generator[None]:
    """Ctrl-C comes before the so-manieth line that these functions of a file run, if they run so many."""
    lines = count(1)

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        if not (frame.f_code.co_filename.endswith(file) and frame.f_code.co_name in functions):
            return None
        if event == "line" and next(lines) == line:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def drain(queue: EventQueue) -> list[Event]:
    """Everything that is queued, oldest first."""
    return queue.take_batch(10_000, 0.0) if len(queue) else []


@contextlib.contextmanager
def running(*targets: Callable[[], object]) -> Generator[list[threading.Thread]]:
    """Run the functions on threads; every one must have ended by itself in the end."""
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    yield threads
    for thread in threads:
        thread.join(PATIENCE)
    assert not [thread for thread in threads if thread.is_alive()]


class Watched(threading.Condition):
    """A condition that tells when somebody begins to wait on it; once told, the lock is free."""

    def __init__(self, lock: threading.RLock) -> None:
        super().__init__(lock)
        self.entered = threading.Semaphore(0)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait; whoever acquires the lock after `entered` finds the waiter waiting."""
        self.entered.release()
        return super().wait(timeout)


def watched(queue: EventQueue) -> Watched:
    """Make the waits of a queue visible."""
    queue._changed = Watched(queue._lock)
    return queue._changed


# --- Construction


@pytest.mark.parametrize("maxsize", [True, 1.0, "1", None])
def test_maxsize_is_a_whole_number(maxsize: object) -> None:
    """Anything but an integer is refused at once."""
    with pytest.raises(TypeError, match="whole number"):
        EventQueue("q", maxsize, "block")  # type: ignore[arg-type]


@pytest.mark.parametrize("maxsize", [0, -1])
def test_maxsize_is_at_least_one(maxsize: int) -> None:
    """There is no unbounded queue."""
    with pytest.raises(ValueError, match="at least 1"):
        EventQueue("q", maxsize, "block")


def test_unknown_policy_is_refused() -> None:
    """The text names the five that exist."""
    with pytest.raises(ValueError, match="drop_oldest, drop_newest, latest, block, error, got 'newest'"):
        EventQueue("q", 1, "newest")


# --- The five policies, by example


@pytest.mark.parametrize("policy", POLICIES)
def test_order_is_kept_below_the_limit(policy: str) -> None:
    """While there is room every policy is a plain queue and loses nothing."""
    queue = EventQueue("q", 5, policy)
    events = [bot(1), price("a"), bot(2), price("b"), bot(3)]
    assert queue.put(events[:2]) == 0
    assert queue.put(events[2:]) == 0
    assert len(queue) == queue.high_water == 5
    assert [queue.take() for _ in events] == events
    assert (queue.dropped, queue.conflated, len(queue)) == (0, 0, 0)


def test_drop_oldest() -> None:
    """The oldest events make room for new ones."""
    queue = EventQueue("q", 3, "drop_oldest")
    assert queue.put([bot(1), bot(2)]) == 0
    assert queue.put([bot(3), bot(4), bot(5)]) == 2
    assert drain(queue) == [bot(3), bot(4), bot(5)]
    assert (queue.dropped, queue.high_water) == (2, 3)


def test_drop_newest() -> None:
    """What does not fit is lost, what is queued stays."""
    queue = EventQueue("q", 3, "drop_newest")
    assert queue.put([bot(1), bot(2)]) == 0
    assert queue.put([bot(3), bot(4), bot(5)]) == 2
    assert queue.put([bot(6)]) == 1
    assert drain(queue) == [bot(1), bot(2), bot(3)]
    assert (queue.dropped, queue.high_water) == (3, 3)


def test_latest_conflates_in_place() -> None:
    """A price takes the place of the unread one of its mint; other events queue as they are."""
    queue = EventQueue("q", 10, "latest")
    queue.put([price("a", 1), bot(1), price("b", 1), price("a", 2), bot(1), price("a", 3)])
    assert drain(queue) == [price("a", 3), bot(1), price("b", 1), bot(1)]
    assert (queue.conflated, queue.dropped, queue.high_water) == (2, 0, 4)


def test_latest_does_not_conflate_with_what_was_read() -> None:
    """Once read, a price is followed by the next one."""
    queue = EventQueue("q", 10, "latest")
    queue.put([price("a", 1)])
    assert queue.take() == price("a", 1)
    queue.put([price("a", 2)])
    assert queue.take() == price("a", 2)
    assert queue.conflated == 0


def test_latest_evicts_prices_first_then_the_oldest() -> None:
    """When full the oldest price goes, whatever is older beside; without prices, the oldest event."""
    queue = EventQueue("q", 3, "latest")
    queue.put([bot(1), price("a"), price("b")])
    assert queue.put([bot(2)]) == 1
    assert queue.put([bot(3)]) == 1
    assert queue.put([bot(4)]) == 1
    assert queue.put([price("c")]) == 1
    assert drain(queue) == [bot(3), bot(4), price("c")]
    assert (queue.dropped, queue.high_water) == (4, 3)


def test_latest_the_age_of_a_price_is_that_of_its_place() -> None:
    """Conflation does not make a price younger: it is still the first to go."""
    queue = EventQueue("q", 2, "latest")
    queue.put([price("a", 1), price("b", 1), price("a", 2), price("c", 1)])
    assert drain(queue) == [price("b", 1), price("c", 1)]


def test_latest_replaces_even_when_full() -> None:
    """A conflated price needs no room."""
    queue = EventQueue("q", 1, "latest")
    assert queue.put([price("a", 1), price("a", 2)]) == 0
    assert drain(queue) == [price("a", 2)]


def test_latest_does_not_conflate_across_a_lifecycle_event() -> None:
    """A price from after a loss stays behind the gap that tells of it; both prices are evictable."""
    queue = EventQueue("q", 4, "latest")
    connected = Connected(1, 0.1)
    queue.put([price("a", 1), connected, price("a", 2), price("a", 3), price("b", 1)])
    assert queue.conflated == 1
    assert queue.put([price("c", 1), price("a", 4)]) == 1
    assert drain(queue) == [connected, price("a", 4), price("b", 1), price("c", 1)]


def test_latest_outlives_a_take_that_ctrl_c_cuts_short() -> None:
    """Wherever it is cut off, the producer finds the queue in order."""
    for line in range(1, 20):
        queue = EventQueue("q", 2, "latest")
        queue.put([price("a", 1.0), price("b", 1.0)])
        with contextlib.suppress(KeyboardInterrupt), interrupted_at(line, "_queue.py", ("take", "_forget_price")):
            queue.take()
        queue.put([price("c"), price("d")])
        assert len(queue) == 2
        assert drain(queue)[-1] == price("d")
        assert queue.put([price("a", 3.0), price("a", 4.0)]) == 0
        assert drain(queue) == [price("a", 4.0)]


def test_block_takes_everything_and_tells_its_room() -> None:
    """The producer asks before; what it puts nevertheless, at the end, is not lost."""
    queue = EventQueue("q", 2, "block")
    assert queue.ask_room() == 2
    assert queue.put([bot(1), bot(2), bot(3)]) == 0
    assert queue.ask_room() == -1
    assert drain(queue) == [bot(1), bot(2), bot(3)]
    assert (queue.dropped, queue.high_water) == (0, 3)


def test_block_calls_on_room_once_when_there_is_some() -> None:
    """A producer that found no room is told when it can go on, until it looks; one that did not ask is not."""
    calls: list[int] = []
    queue = EventQueue("q", 1, "block", on_room=lambda: calls.append(len(queue)))
    queue.put([bot(1), bot(2)])
    queue.take()
    assert calls == []
    assert queue.ask_room() == 0
    queue.take()
    assert calls == [0]
    assert queue.ask_room() == 1
    queue.put([bot(3)])
    queue.take()
    assert calls == [0]


class Interrupted(list[object]):
    """A hook that notes what it is told; the first time Ctrl-C cuts it off before it has heard anything."""

    def __init__(self) -> None:
        super().__init__()
        self._due = True

    def __call__(self, queue: object = None) -> None:
        """Be told."""
        if self._due:
            self._due = False
            raise KeyboardInterrupt
        self.append(queue)


@pytest.mark.parametrize("left", [0, 1])
@pytest.mark.parametrize("batched", [False, True])
def test_ctrl_c_does_not_swallow_the_news_of_room(*, batched: bool, left: int) -> None:
    """The producer is told by the next read, also by one that finds nothing: only the producer can end its wait."""
    told = Interrupted()
    queue = EventQueue("q", 1 + left, "block", on_room=told)
    queue.put([bot(n) for n in range(1 + left)])
    assert queue.ask_room() == 0

    def take() -> object:
        return queue.take_batch(1, 0.0) if batched else queue.take(0.0)

    with pytest.raises(KeyboardInterrupt):
        take()
    assert told == []
    with contextlib.nullcontext() if left else pytest.raises(TimedOut):
        take()
    assert len(told) == 1


def test_ctrl_c_does_not_swallow_the_news_of_recovery() -> None:
    """It is told by the next read, once; so is every later recovery."""
    told = Interrupted()
    queue = EventQueue("q", 4, "drop_oldest", on_recovered=told)
    for _ in range(2):
        queue.put([bot(n) for n in range(6)])
        while len(queue):
            with contextlib.suppress(KeyboardInterrupt):
                queue.take()
        assert told == [queue]
        assert queue.take_report(recovered=True) == 2
        told.clear()


@pytest.mark.parametrize("batched", [False, True])
def test_recovery_before_the_drop_is_noted_is_told_by_the_next_look(*, batched: bool) -> None:
    """A consumer that empties the queue while the producer still drops hears of no drop: its next look tells."""
    told: list[EventQueue] = []
    queue = EventQueue("q", 1, "drop_oldest", on_recovered=told.append)
    fill = queue._buffer.fill

    def fill_and_lose_to_the_consumer(events: Sequence[Event]) -> int:
        lost = fill(events)
        assert queue.take() is events[-1]
        return lost

    queue._buffer.fill = fill_and_lose_to_the_consumer
    assert queue.put([bot(1), bot(2)]) == 1
    assert told == []
    with pytest.raises(TimedOut):
        queue.take_batch(1, 0.0) if batched else queue.take(0.0)
    assert told == [queue]


def test_news_of_recovery_that_ends_late_is_not_the_next_one() -> None:
    """The producer may have heard, and the queue be dropping again, before the hook has returned."""
    told: list[int | None] = []

    def hear(queue: EventQueue) -> None:
        told.append(queue.take_report(recovered=True))
        if len(told) == 1:
            queue.put([bot(n) for n in range(5)])

    queue = EventQueue("q", 2, "drop_oldest", on_recovered=hear)
    queue.put([bot(n) for n in range(5)])
    while len(queue):
        queue.take()
    assert told == [3, 3]


def test_block_overfull_has_no_room_until_below_the_limit() -> None:
    """The hook waits for real room."""
    calls: list[int] = []
    queue = EventQueue("q", 1, "block", on_room=lambda: calls.append(len(queue)))
    queue.put([bot(1), bot(2)])
    assert queue.ask_room() == -1
    queue.take()
    assert calls == []
    queue.take()
    assert calls == [0]


def test_room_is_told_while_another_thread_has_the_lock() -> None:
    """The producer asks under a lock that the holder, in a finalizer, may be waiting for."""
    queue = EventQueue("q", 2, "block")
    queue.put([bot(1)])
    rooms: list[int] = []
    with queue._lock, running(lambda: rooms.append(queue.ask_room())):
        pass
    assert rooms == [1]


def test_room_that_comes_just_after_the_look() -> None:
    """The producer that found none is told of it, although nothing kept the consumer out meanwhile."""
    calls: list[None] = []
    queue = EventQueue("q", 2, "block", on_room=lambda: calls.append(None))
    queue.put([bot(1), bot(2)])

    class Taking(int):
        def __sub__(self, length: int) -> int:
            queue.take()
            return int(self) - length

    queue.maxsize = Taking(2)
    assert queue.ask_room() == 0
    assert calls == [None]


def test_block_finished_has_room_for_nothing() -> None:
    """A finished queue holds nobody up: it says that it has room, and takes nothing."""
    calls: list[None] = []
    queue = EventQueue("q", 2, "block", on_room=lambda: calls.append(None))
    queue.put([bot(1), bot(2)])
    assert queue.ask_room() == 0
    queue.finish()
    assert calls == [None]
    assert queue.ask_room() == 2
    assert queue.put([bot(3)]) == 0
    assert drain(queue) == [bot(1), bot(2)]
    assert calls == [None]


def test_error_can_be_read_then_fails() -> None:
    """What is queued can be read; then, and ever after, it is `SlowConsumer`."""
    queue = EventQueue("name", 2, "error")
    assert queue.put([bot(1)]) == 0
    assert queue.put([bot(2), bot(3), bot(4)]) == 2
    assert queue.put([bot(5)]) == 0
    assert isinstance(queue.failure, SlowConsumer)
    assert (queue.failure.consumer, queue.failure.maxsize, queue.dropped) == ("name", 2, 2)
    queue.finish(ClientClosed())
    assert [queue.take(), queue.take()] == [bot(1), bot(2)]
    for _ in range(2):
        with pytest.raises(Drained) as end:
            queue.take()
        assert end.value.error is queue.failure


@pytest.mark.parametrize(
    ("policy", "kept", "lost"),
    [
        ("drop_oldest", [bot(5)], 4),
        ("drop_newest", [bot(1)], 4),
        ("latest", [bot(5)], 4),
        ("block", [bot(1), bot(2), bot(3), bot(4), bot(5)], 0),
        ("error", [bot(1)], 4),
    ],
)
def test_batch_larger_than_a_queue_of_one(policy: str, kept: list[Event], lost: int) -> None:
    """The smallest queue and a batch several times its size."""
    queue = EventQueue("q", 1, policy)
    assert queue.put([bot(n) for n in range(1, 6)]) == lost
    assert drain(queue) == kept
    assert queue.dropped == lost
    assert queue.high_water == len(kept)


# --- The five policies, against a plain list


class Model:
    """What a queue must do, event by event, on a plain list."""

    def __init__(self, maxsize: int, policy: str) -> None:
        self.maxsize, self.policy = maxsize, policy
        self.events: list[Event] = []
        self.dropped = self.conflated = self.high_water = 0
        self.failed = False

    def put(self, event: Event) -> None:
        """Take one event."""
        unread = [e.mint for e in self.events if isinstance(e, PriceUpdate)]
        if self.policy == "latest" and isinstance(event, PriceUpdate) and event.mint in unread:
            mints = [e.mint if isinstance(e, PriceUpdate) else None for e in self.events]
            self.events[mints.index(event.mint)] = event
            self.conflated += 1
        elif self.policy == "block" or (len(self.events) < self.maxsize and not self.failed):
            self.events.append(event)
        else:
            self.dropped += 1
            self.failed = self.policy == "error"
            self.make_room(event)
        self.high_water = max(self.high_water, len(self.events))

    def make_room(self, event: Event) -> None:
        """One is lost."""
        if self.policy in ("drop_newest", "error"):
            return
        prices = [i for i, e in enumerate(self.events) if isinstance(e, PriceUpdate)]
        del self.events[prices[0] if prices and self.policy == "latest" else 0]
        self.events.append(event)


EVENTS = st.one_of(st.builds(price, st.sampled_from("abc"), st.floats(0, 9)), st.builds(bot, st.integers(0, 9)))
STEPS = st.lists(st.one_of(st.lists(EVENTS, min_size=1, max_size=8), st.integers(1, 6)), max_size=12)


@pytest.mark.parametrize("policy", POLICIES)
@given(maxsize=st.integers(1, 5), steps=STEPS)
def test_any_sequence_equals_the_model(policy: str, maxsize: int, steps: list[list[Event] | int]) -> None:
    """Whatever is put and taken: same events, same order, same counts as the plain list."""
    queue, model = EventQueue("q", maxsize, policy), Model(maxsize, policy)
    for step in steps:
        if isinstance(step, int):
            expected, model.events = model.events[:step], model.events[step:]
            assert (queue.take_batch(step, 0.0) if len(queue) else []) == expected
        elif not model.failed:
            before = model.dropped
            for event in step:
                model.put(event)
            assert queue.put(step) == model.dropped - before
        assert len(queue) == len(model.events)
        assert (queue.dropped, queue.conflated) == (model.dropped, model.conflated)
        assert queue.high_water == model.high_water
    assert drain(queue) == model.events


# --- Reports


def test_reports_begin_and_recovery() -> None:
    """One report when dropping begins, one when the queue has fallen below half; each counts what was lost since."""
    recovered: list[EventQueue] = []
    queue = EventQueue("q", 4, "drop_oldest", on_recovered=recovered.append)
    queue.put([bot(n) for n in range(4)])
    assert queue.take_report() is None
    queue.put([bot(4), bot(5)])
    assert queue.take_report() == 2
    queue.put([bot(6), bot(7), bot(8)])
    assert queue.take_report() is None
    queue.take_batch(2)
    assert recovered == []
    queue.take()
    assert recovered == [queue]
    queue.take()
    assert recovered == [queue]
    assert queue.take_report(recovered=True) == 3
    assert queue.take_report(recovered=True) is None
    queue.put([bot(n) for n in range(5)])
    assert queue.take_report() == 1


def test_recovery_before_the_first_report_is_told_after_it() -> None:
    """A consumer that catches up before the start was reported is told of both, in order, and nothing is lost."""
    recovered: list[EventQueue] = []
    queue = EventQueue("q", 2, "drop_oldest", on_recovered=recovered.append)
    queue.put([bot(n) for n in range(5)])
    drain(queue)
    assert recovered == [queue]
    assert queue.take_report() == 3
    assert queue.take_report(recovered=True) == 0


def test_recovery_is_nothing_without_dropping() -> None:
    """A queue that never dropped has not recovered either."""
    queue = EventQueue("q", 2, "drop_oldest")
    queue.put([bot(1)])
    queue.take()
    assert queue.take_report(recovered=True) is None


def test_failed_queue_never_recovers() -> None:
    """After `SlowConsumer` there is a beginning, and no recovery: it will not take anything again."""
    recovered: list[EventQueue] = []
    queue = EventQueue("q", 2, "error", on_recovered=recovered.append)
    queue.put([bot(1), bot(2), bot(3)])
    assert queue.take_report() == 1
    drain(queue)
    assert recovered == []


def test_hooks_have_defaults() -> None:
    """A queue without hooks recovers and makes room all the same."""
    queue = EventQueue("q", 1, "drop_oldest")
    queue.put([bot(1), bot(2)])
    assert queue.ask_room() == 0
    assert queue.take() == bot(2)
    assert queue.take_report(recovered=True) == 1


def test_hooks_run_without_the_lock() -> None:
    """A hook may ask another thread that needs the queue."""
    answers: list[int] = []

    def ask() -> None:
        with running(lambda: answers.append(queue.ask_room())):
            pass

    queue = EventQueue("q", 1, "block", on_room=ask)
    queue.put([bot(1)])
    queue.ask_room()
    queue.take()
    assert answers == [1]


# --- Ends and waits


def test_finish_drains_then_ends() -> None:
    """What is queued can be taken; then `Drained` without an error; nothing more is taken in."""
    queue = EventQueue("q", 5, "drop_oldest")
    queue.put([bot(1), bot(2)])
    assert not queue.would_wait
    queue.finish()
    queue.finish(ClientClosed())
    assert queue.put([bot(3)]) == 0
    assert queue.take_batch(5) == [bot(1), bot(2)]
    assert not queue.would_wait
    with pytest.raises(Drained) as end:
        queue.take_batch(5)
    assert end.value.error is None


def test_take_batch_takes_at_most_so_many() -> None:
    """A batch is what is there, up to the limit, oldest first."""
    queue = EventQueue("q", 5, "drop_oldest")
    queue.put([bot(1), bot(2), bot(3)])
    assert queue.take_batch(2) == [bot(1), bot(2)]
    assert queue.take_batch(2) == [bot(3)]


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.001])
def test_take_times_out(timeout: float) -> None:
    """An empty queue raises `TimedOut` when the time is over, at once when there was none."""
    queue = EventQueue("q", 1, "drop_oldest")
    assert queue.would_wait
    with pytest.raises(TimedOut):
        queue.take(timeout)
    with pytest.raises(TimedOut):
        queue.take_batch(1, timeout)


@pytest.mark.parametrize("timeout", [None, PATIENCE, 1e300])
def test_put_wakes_a_waiting_reader(timeout: float | None) -> None:
    """A reader sleeps until an event comes; no timeout is too long for the platform."""
    queue = EventQueue("q", 1, "drop_oldest")
    condition, got = watched(queue), list[Event]()
    idle = [queue.idle]
    with running(lambda: got.append(queue.take(timeout))):
        assert condition.entered.acquire(timeout=PATIENCE)
        idle.append(queue.idle)
        queue.put([bot(1)])
        idle.append(queue.idle)
    assert idle == [False, True, False]
    assert got == [bot(1)]


def test_finish_wakes_every_waiting_reader() -> None:
    """All readers are told of the end, with its error."""
    queue, error = EventQueue("q", 1, "drop_oldest"), ClientClosed()
    condition, ends = watched(queue), list[object]()

    def read() -> None:
        with pytest.raises(Drained) as end:
            queue.take()
        ends.append(end.value.error)

    with running(read, read, read):
        for _ in range(3):
            assert condition.entered.acquire(timeout=PATIENCE)
        queue.finish(error)
    assert ends == [error] * 3


def test_reader_that_was_woken_in_vain_waits_again() -> None:
    """Two waiting readers and one event: one gets it, the other goes on waiting."""
    queue = EventQueue("q", 5, "drop_oldest")
    condition, got = watched(queue), list[Event]()
    with running(lambda: got.append(queue.take()), lambda: got.append(queue.take())):
        for _ in range(2):
            assert condition.entered.acquire(timeout=PATIENCE)
        queue.put([bot(0)])
        assert condition.entered.acquire(timeout=PATIENCE)
        queue.put([bot(1)])
    assert sorted(number_of(event) for event in got) == [0, 1]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals to threads are POSIX")
@pytest.mark.parametrize("closing", [True, False])
def test_signal_handler_may_use_the_queue(*, closing: bool) -> None:
    """Ctrl-C breaks a wait off; a handler that finishes the queue instead ends it, even while its lock is held."""
    queue = EventQueue("q", 1, "drop_oldest")
    condition = watched(queue)
    main = threading.main_thread().ident
    assert main is not None

    def handler(*_arguments: object) -> None:
        if not closing:
            raise KeyboardInterrupt
        with queue._lock:
            queue.finish()

    before = signal.signal(signal.SIGUSR1, handler)
    try:

        def interrupt() -> None:
            assert condition.entered.acquire(timeout=PATIENCE)
            with queue._lock:  # which is free once the main thread sleeps
                pass
            signal.pthread_kill(main, signal.SIGUSR1)

        with running(interrupt), pytest.raises(Drained if closing else KeyboardInterrupt):
            queue.take()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert not queue.idle
    assert queue.put([bot(1)]) == 0
    assert len(queue) == (0 if closing else 1)


# --- Threads


@pytest.mark.parametrize("batched", [True, False])
def test_each_event_goes_to_exactly_one_reader(*, batched: bool) -> None:
    """A producer of batches and several readers: none lost, none twice, each reader sees the order of arrival."""
    queue = EventQueue("q", 100_000, "drop_oldest")
    seen: list[list[int]] = [[], [], [], []]
    begin = threading.Barrier(5)

    def read(into: list[int]) -> None:
        begin.wait(PATIENCE)
        while True:
            try:
                events = queue.take_batch(7, PATIENCE) if batched else [queue.take(PATIENCE)]
            except Drained:
                return
            into.extend(number_of(event) for event in events)

    with running(*[lambda into=into: read(into) for into in seen]):
        begin.wait(PATIENCE)
        for start in range(0, 5_000, 25):
            queue.put([bot(number) for number in range(start, start + 25)])
        queue.finish()
    assert sorted(number for part in seen for number in part) == list(range(5_000))
    assert all(part == sorted(part) for part in seen)


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest", "latest"])
def test_nothing_is_unaccounted_for_under_load(policy: str) -> None:
    """Put is read, dropped or conflated, whatever the threads do; the limit is never exceeded."""
    queue = EventQueue("q", 10, policy)
    read: list[Event] = []

    def consume() -> None:
        while True:
            try:
                read.extend(queue.take_batch(3, PATIENCE))
            except Drained:
                return

    with running(consume, consume):
        for number in range(1_000):
            queue.put([price(f"m{number % 13}"), bot(number), price(f"m{number % 7}"), bot(number)])
        queue.finish()
    assert len(read) + queue.dropped + queue.conflated == 4_000
    assert 0 < queue.high_water <= 10


def test_blocking_producer_loses_nothing() -> None:
    """A producer that asks for room and waits for `on_room` hands over everything, within the limit."""
    room = threading.Semaphore(0)
    queue = EventQueue("q", 3, "block", on_room=room.release)
    read: list[Event] = []
    sent = [bot(number) for number in range(500)]

    def consume() -> None:
        read.extend(queue.take(PATIENCE) for _ in sent)

    with running(consume):
        rest = sent
        while rest:
            free = queue.ask_room()
            if free > 0:
                queue.put(rest[:free])
                rest = rest[free:]
            else:
                assert room.acquire(timeout=PATIENCE)
    assert read == sent
    assert queue.high_water <= 3
