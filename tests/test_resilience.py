"""End to end against the simulator, plain and over TLS: losses, slow consumers, bad servers, bad callbacks."""

from __future__ import annotations

import itertools
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

for needed in ("websockets", "trustme"):
    pytest.importorskip(needed, reason="needs the extra testing")


from allenhark_ws import (
    AuthenticationError,
    Backoff,
    Bot,
    CallbackError,
    Client,
    Closed,
    Connected,
    ConnectionFailed,
    Disconnected,
    Event,
    EventsDropped,
    Gap,
    InvalidMessage,
    LifecycleEvent,
    Price,
    PriceUpdate,
    Reconnecting,
    SlowCallback,
    SlowConsumer,
    State,
    Stream,
    Transactions,
    UnknownMessage,
)

from .patience import PATIENCE
from .scripted import await_end, client_of, outcome, price, run_aside
from .simulators import Simulator

CHANNELS = (Price("m"), Bot("b"), Transactions("w"))


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def sim(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A simulator of its own for each test."""
    with Simulator(tls=request.param) as simulator:
        yield simulator


@pytest.fixture
def silent_log() -> Iterator[None]:
    """Errors that a test provokes on purpose stay out of the report."""
    logging.getLogger("allenhark_ws").propagate = False
    yield
    logging.getLogger("allenhark_ws").propagate = True


def descriptors() -> int:
    """How many files this process has open; 0 where that cannot be told."""
    directory = Path("/proc/self/fd")
    return len(list(directory.iterdir())) if directory.exists() else 0


def until(stream: Stream[Any], kind: type[Event]) -> list[Any]:
    """Events up to and including the first of a kind."""
    events: list[Any] = []
    while not events or not isinstance(events[-1], kind):
        events.append(stream.get(timeout=PATIENCE))
    return events


def names(events: list[Any]) -> list[str]:
    """The names of the events' classes."""
    return [type(event).__name__ for event in events]


# --- Losses


def lose(sim: Simulator, number: int) -> int:
    """Take the connection away, each time in another way; the close code that must be told."""
    if number % 25 == 24:
        sim.mute_pongs()
        return 1006
    if number % 3 == 0:
        sim.reset()
        return 1006
    code = (None, 1000, 1001, 1012, 4000)[number % 5]
    sim.close(code, "" if code is None else "bye")
    return code or 1005


def await_return(sim: Simulator, client: Client, number: int) -> None:
    """Wait until a client that has come back so many times notices its loss, let pongs go again, and wait for it."""
    sim.wait_for(lambda: client.state is not State.READY or client.stats.reconnects > number)
    sim.mute_pongs(on=False)
    sim.wait_for(lambda: client.stats.reconnects > number)


def check_losses(events: list[Any], codes: list[int]) -> None:
    """For each loss: the last price before it, then `Disconnected`, `Reconnecting`…, `Connected`, `Gap`, in place."""
    rest = iter(events)
    for number, code in enumerate(codes):
        assert next(rest).price == number
        lost = next(rest)
        assert (type(lost), lost.code) == (Disconnected, code)
        tries = list(itertools.takewhile(lambda event: not isinstance(event, Connected), rest))
        assert tries
        assert [retry.attempt for retry in tries] == list(range(1, len(tries) + 1))
        gap = next(rest)
        assert isinstance(gap, Gap)
        assert gap.cause is lost.cause
        assert gap.channels == set(CHANNELS)
        assert gap.ended_at >= gap.started_at
    assert names(list(rest)) in ([], ["Closed"])


def test_fifty_losses_in_a_row(sim: Simulator) -> None:
    """Every connection is subscribed completely and once; every consumer finds the gap in its place; nothing leaks."""
    called: list[Any] = []
    codes: list[int] = []
    with client_of(sim, heartbeat_interval=0.1, pong_timeout=2.0) as client:
        streams = [client.stream(*CHANNELS, LifecycleEvent), client.stream(PriceUpdate, LifecycleEvent)]
        client.on(PriceUpdate, called.append)
        client.on(LifecycleEvent, called.append)
        threads, files = threading.active_count(), descriptors()
        for number in range(50):
            sim.wait_for(lambda: sim.subscriptions == set(CHANNELS))
            sim.publish(price("m", float(number)))
            client.flush()
            codes.append(lose(sim, number))
            await_return(sim, client, number)
        client.flush()
        sim.wait_for(lambda: threading.active_count() <= threads and descriptors() <= files)
    check_losses(called, codes)
    for stream in streams:
        check_losses(list(stream), codes)
    requests = [Counter(str(m) for m in messages if m["type"] == "subscribe") for messages in sim.history]
    assert [sorted(asked.values()) for asked in requests if asked] == [[1, 1, 1]] * 51
    assert sim.violations == []


def test_a_server_that_is_away_for_long(sim: Simulator) -> None:
    """However often it refuses, the client comes back, and nobody has to do anything."""
    with client_of(sim) as client:
        stream = client.stream(Price("m"), LifecycleEvent)
        client.flush()
        sim.refuse()
        sim.reset()
        for _ in range(20):
            until(stream, Reconnecting)
        assert client.stats.attempts >= 15
        assert client.stats.connected_since is None
        sim.refuse(on=False)
        events = until(stream, Gap)
        assert events[-2].attempt >= 20
        client.flush()
        sim.publish(price("m"))
        assert isinstance(stream.get(timeout=PATIENCE), PriceUpdate)
        assert client.stats.attempts == 0


def test_max_attempts_end_the_client(sim: Simulator) -> None:
    """With the last failure as cause; streams raise it once drained."""
    backoff = Backoff(initial=0.001, maximum=0.001, max_attempts=3)
    with client_of(sim, backoff=backoff) as client:
        stream = client.stream(LifecycleEvent)
        sim.refuse()
        sim.reset()
        assert names(until(stream, Closed)) == ["Disconnected", *["Reconnecting"] * 3, "Closed"]
        error = outcome(stream.get)
        assert isinstance(error, ConnectionFailed)
        assert error is client.error
        assert error.attempts == 3


def test_a_key_that_is_revoked(sim: Simulator) -> None:
    """Once it has been READY, the first rejection is retried, the second is final."""
    with client_of(sim) as client:
        stream = client.stream(Disconnected, Closed)
        sim.reject_auth("key revoked")
        sim.reset()
        assert names(until(stream, Closed)) == ["Disconnected", "Closed"]
        assert isinstance(client.error, AuthenticationError)
        assert outcome(stream.get) is client.error


def test_edits_during_a_loss_reach_the_next_connection(sim: Simulator) -> None:
    """The wanted channels are the truth, whenever they were edited."""
    with client_of(sim) as client:
        dropped = client.subscribe(Price("old"))
        client.flush()
        sim.refuse()
        sim.reset()
        sim.wait_for(lambda: client.state is not State.READY)
        dropped.close()
        client.subscribe(Price("new"))
        sim.refuse(on=False)
        client.flush()
        assert sim.subscriptions == client.subscriptions == {Price("new")}
    assert sim.violations == []


def test_many_threads_edit_through_losses(sim: Simulator) -> None:
    """Server and wanted set agree in the end, and no subscription was sent twice on a connection."""
    with client_of(sim) as client:

        def edit(mine: int) -> None:
            for n in range(30):
                with client.subscribe(Price(f"{mine}-{n}"), Price("shared")):
                    kept = client.subscribe(Price(f"{mine}-kept"))
                    client.stream(Price(f"{mine}-stream"), maxsize=1).close()
                if n < 29:
                    kept.close()

        threads = [run_aside(partial(edit, mine)) for mine in range(4)]
        for _ in range(5):
            sim.reset()
            client.flush(PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
        client.flush(PATIENCE)
        assert sim.subscriptions == client.subscriptions == {Price(f"{mine}-kept") for mine in range(4)}
    assert sim.violations == []


# --- Callbacks


@pytest.mark.parametrize("how", ["sleeps", "raises", "exits"])
def test_a_bad_callback_delays_nothing(sim: Simulator, how: str, silent_log: None) -> None:
    """Heartbeats go out and streams are fed while a callback sleeps, raises or calls `sys.exit`."""
    gate = threading.Event()

    def bad(_: Event) -> None:
        if how == "raises":
            raise ValueError
        if how == "exits":
            raise SystemExit(1)
        gate.wait(PATIENCE)

    with client_of(sim, heartbeat_interval=0.05) as client:
        stream = client.stream(Price("m"))
        reports: Stream[Any] = client.stream(CallbackError, SlowCallback)
        client.on(PriceUpdate, bad)
        client.flush()
        for n in range(20):
            sim.publish(price("m", float(n)))
            assert stream.get(timeout=PATIENCE).price == n
        seen = len(sim.received)
        sim.wait_for(lambda: len(sim.received) >= seen + 10)
        if how == "sleeps":
            slow = reports.get(timeout=PATIENCE)
            assert (type(slow), slow.callback) == (SlowCallback, bad)
            assert slow.seconds >= 1
            assert client.stats.callback_backlog >= 18
        else:
            errors = [reports.get(timeout=PATIENCE) for _ in range(20)]
            assert {type(report.error) for report in errors} == {ValueError if how == "raises" else SystemExit}
            assert client.stats.callback_errors == 20
        assert client.stats.reconnects == 0
        gate.set()


def test_a_slow_inline_callback_is_reported_when_it_returns() -> None:
    """It does delay everything, and is told of afterwards."""
    with Simulator() as sim, client_of(sim, inline_callbacks=True) as client:
        reports = client.stream(SlowCallback)
        never = threading.Event()
        client.on(UnknownMessage, lambda _: never.wait(1.01))
        sim.send_raw('{"type":"go"}')
        assert reports.get(timeout=PATIENCE).seconds >= 1.01


# --- Slow consumers


def test_a_blocking_stream_loses_nothing(sim: Simulator) -> None:
    """A reader that starts late and a flood: pings go on meanwhile, every event arrives."""
    total = 3000
    with client_of(sim, heartbeat_interval=0.05) as client:
        stream = client.stream(Price("m"), maxsize=10, overflow="block")
        lifecycle = client.stream(LifecycleEvent)
        client.flush()
        publisher = run_aside(lambda: [sim.publish(price("m", float(n))) for n in range(total)])
        sim.wait_for(lambda: stream.qsize() == 10)
        seen = len(sim.received)
        sim.wait_for(lambda: len(sim.received) >= seen + 10)
        assert [stream.get(timeout=PATIENCE).price for _ in range(total)] == [float(n) for n in range(total)]
        publisher.join(PATIENCE)
        assert client.flush() > 0
        assert (stream.dropped, stream.high_water) == (0, 10)
        assert lifecycle.empty()


def test_close_while_blocked(sim: Simulator) -> None:
    """Nobody reads; `close()` returns all the same, and what had arrived can be read."""
    with client_of(sim) as client:
        stream = client.stream(Price("m"), maxsize=3, overflow="block")
        client.flush()
        for n in range(100):
            sim.publish(price("m", float(n)))
        sim.wait_for(lambda: stream.qsize() == 3)
    prices = [event.price for event in stream]
    assert len(prices) >= 3
    assert prices == [float(n) for n in range(len(prices))]


@pytest.mark.parametrize(
    ("overflow", "kept"),
    [("drop_oldest", [7.0, 8.0, 9.0]), ("drop_newest", [0.0, 1.0, 2.0]), ("latest", [9.0])],
)
def test_full_streams(sim: Simulator, overflow: Any, kept: list[float]) -> None:
    """What each policy keeps of ten prices of one mint, and what it counts."""
    with client_of(sim) as client:
        stream = client.stream(Price("m"), maxsize=3, overflow=overflow)
        reports = client.stream(EventsDropped)
        client.flush()
        for n in range(10):
            sim.publish(price("m", float(n)))
        client.flush()
        assert [event.price for event in stream.get_batch(10)] == kept
        lost = 0 if overflow == "latest" else 7
        assert (stream.dropped, client.stats.dropped) == (lost, lost)
        assert stream.conflated == (9 if overflow == "latest" else 0)
        client.flush()
        told = [reports.get_nowait() for _ in range(reports.qsize())]
        assert sum(report.count for report in told) == lost
        assert {report.consumer for report in told} <= {stream.name}


def test_error_overflow_of_a_stream_and_of_callbacks(sim: Simulator) -> None:
    """A stream ends alone; the callbacks' buffer ends the client."""
    gate = threading.Event()
    with client_of(sim, callback_buffer=5, callback_overflow="error") as client:
        stream = client.stream(Price("m"), maxsize=2, overflow="error")
        client.flush()
        for n in range(3):
            sim.publish(price("m", float(n)))
        client.flush()
        assert [stream.get().price for _ in range(2)] == [0.0, 1.0]
        assert isinstance(outcome(stream.get), SlowConsumer)
        client.flush()
        assert sim.subscriptions == frozenset()
        closed: list[Event] = []
        client.on(Closed, closed.append)
        client.subscribe(Price("m"), callback=lambda _: gate.wait(PATIENCE))
        client.flush()
        for n in range(10):
            sim.publish(price("m", float(n)))
        error = await_end(client)
        gate.set()
        assert isinstance(error, SlowConsumer)
        client.close()
        assert closed == [Closed(error)]


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "latest", "block"])
def test_full_callback_buffers(sim: Simulator, overflow: Any) -> None:
    """The callback thread's queue knows the same policies."""
    gate, entered, got = threading.Event(), threading.Event(), []

    def slow(event: PriceUpdate) -> None:
        entered.set()
        gate.wait(PATIENCE)
        got.append(event.price)

    with client_of(sim, callback_buffer=2, callback_overflow=overflow) as client:
        reports = client.stream(EventsDropped)
        client.subscribe(Price("m"), callback=slow)
        client.flush()
        sim.publish(price("m", 0.0))
        assert entered.wait(PATIENCE)
        for n in range(1, 10):
            sim.publish(price("m", float(n)))
        if overflow != "block":
            client.flush()
        gate.set()
        client.flush()
        sim.wait_for(lambda: client.stats.callback_backlog == 0)
    expected = {"drop_oldest": [0.0, 8.0, 9.0], "drop_newest": [0.0, 1.0, 2.0], "latest": [0.0, 9.0]}
    assert got == expected.get(overflow, [float(n) for n in range(10)])
    assert client.stats.dropped == (7 if overflow.startswith("drop") else 0)
    assert {report.consumer for report in reports} <= {"callbacks"}


# --- Bad servers


def test_odd_messages_leave_the_connection_up(sim: Simulator) -> None:
    """One event each, in order, with the frame's bytes."""
    frames: list[str | bytes] = [
        "{",
        "[]",
        '{"a":1}',
        '{"type":7}',
        '{"type":"price_update","mint":"m"}',
        b"\x00",
        '{"type":"auth_success"}',
    ]
    with client_of(sim) as client:
        stream = client.stream(InvalidMessage, UnknownMessage)
        for each in frames:
            sim.send_raw(each)
        client.flush()
        events = [stream.get_nowait() for _ in range(stream.qsize())]
        assert names(events) == [*["InvalidMessage"] * 6, "UnknownMessage"]
        assert [event.raw for event in events] == [
            each if isinstance(each, bytes) else each.encode() for each in frames
        ]
        assert (client.stats.invalid, client.stats.unknown, client.stats.reconnects) == (6, 1, 0)


def test_a_message_that_is_too_large(sim: Simulator) -> None:
    """The connection is dropped and comes back."""
    with client_of(sim, max_message_size=1000) as client:
        stream = client.stream(LifecycleEvent)
        sim.send_raw("x" * 1001)
        assert names(until(stream, Gap))[0] == "Disconnected"
        assert client.flush() > 0


def test_a_server_that_stops_reading(sim: Simulator) -> None:
    """What cannot be sent in time ends the connection, and everything is said again on the next."""
    with client_of(sim, send_timeout=0.2, heartbeat_interval=30.0) as client:
        stream = client.stream(Disconnected, Gap)
        client.flush()
        sim.stall()
        wanted = [Price(f"{n:01000d}") for n in range(8000)]
        client.subscribe(*wanted)
        assert names(until(stream, Disconnected)) == ["Disconnected"]
        sim.stall(on=False)
        client.flush(PATIENCE)
        assert sim.subscriptions == set(wanted)


def test_close_codes_and_reasons_reach_the_consumer(sim: Simulator) -> None:
    """As the server sent them."""
    with client_of(sim) as client:
        stream = client.stream(Disconnected)
        sim.close(4711, "maintenance at noon")
        lost = stream.get(timeout=PATIENCE)
        assert (lost.code, lost.reason) == (4711, "maintenance at noon")
        assert lost.will_retry_in is not None


def test_two_clients_do_not_mind_each_other(sim: Simulator) -> None:
    """Each has its threads, its connection and its channels."""
    with client_of(sim) as one, client_of(sim) as other:
        first, second = one.stream(Price("a")), other.stream(Price("b"))
        one.flush()
        other.flush()
        sim.publish(price("a"))
        sim.publish(price("b"))
        one.flush()
        one.close()
        other.flush()
        assert [event.mint for event in first] == ["a"]
        assert [second.get_nowait().mint, second.qsize()] == ["b", 0]
        assert isinstance(other, Client)
