"""The background thread over a scripted server and a clock that skips waiting: turns, deadlines, holding, ends."""

from __future__ import annotations

import contextlib
import gc
import logging
import re
import selectors
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from allenhark_ws import (
    AuthenticationError,
    Backoff,
    CallbackError,
    Channel,
    Client,
    ClientClosed,
    Closed,
    ConfigurationError,
    Connected,
    ConnectionFailed,
    ConnectionLost,
    Disconnected,
    Event,
    Gap,
    LifecycleEvent,
    Pong,
    Price,
    PriceUpdate,
    Reconnecting,
    SlowCallback,
    SlowConsumer,
    State,
    Stream,
    UnknownMessage,
)
from allenhark_ws._aside import Interrupted, Waiter
from allenhark_ws._ports import Clock
from allenhark_ws._session import Session
from allenhark_ws._transport import Batch
from allenhark_ws.config import Secret

from .fakes import LogKeeper, settings
from .patience import PATIENCE
from .scripted import (
    Scripted,
    ScriptedServer,
    await_end,
    outcome,
    outcome_aside,
    price,
    run_aside,
    threads_of,
)

LOST = ConnectionLost("the cable was cut")


def kinds_of(events: list[Any]) -> list[str]:
    """The names of the events' classes."""
    return [type(event).__name__ for event in events]


def drained(stream: Any) -> list[Any]:
    """Everything that is queued."""
    return [stream.get_nowait() for _ in range(stream.qsize())]


def test_an_idle_client_turns_twice_per_heartbeat() -> None:
    """Between two pings the loop sleeps: one turn to send a ping, one to read its pong, and nothing else."""
    with Scripted(heartbeat_interval=30.0) as s:
        s.ready()
        before = len(s.clock.waits)
        s.run(3600)
        assert s.server.kinds().count("ping") == 1 + 120
        assert len(s.clock.waits) - before <= 2 * 120 + 2


def test_an_idle_client_in_backoff_sleeps_to_the_next_try() -> None:
    """One wait per retry, as long as the backoff says."""
    with Scripted(backoff=Backoff(initial=64.0, maximum=64.0)) as s:
        s.server.refusals.extend(ConnectionFailed("no") for _ in range(10))
        s.client.start()
        s.settle()
        before = len(s.clock.waits)
        s.run(64 * 5)
        assert len(s.server.wires) == 1 + 5
        assert s.clock.waits[before:].count(64.0) >= 5
        assert len(s.clock.waits) - before <= 2 * 5 + 2


def test_an_interval_longer_than_the_system_can_wait() -> None:
    """A heartbeat of a thousand years does not bring the thread down, on the machine's own clock."""
    far = settings(heartbeat_interval=3e10, pong_timeout=3e10)
    with Client._over(far, ScriptedServer().connect, Clock()) as client:
        client.flush(PATIENCE)
        assert client.state is State.READY


def test_heartbeats_are_sent_on_time() -> None:
    """The first ping opens the connection, then one comes every interval."""
    with Scripted(heartbeat_interval=7.0) as s:
        s.ready()
        s.run(6.5)
        assert s.server.kinds() == ["auth", "ping"]
        s.run(0.5)
        assert s.server.kinds() == ["auth", "ping", "ping"]


def test_a_mute_server_is_dropped_after_the_pong_timeout() -> None:
    """Silence after a ping ends the connection, and a new one follows with a gap."""
    with Scripted(heartbeat_interval=30.0, pong_timeout=10.0) as s:
        events = s.client.stream(Disconnected, Reconnecting, Connected, Gap)
        s.ready()
        drained(events)
        s.server.pongs = False
        s.run(39.9)
        assert events.empty()
        s.server.pongs = True
        s.run(1)
        assert kinds_of(drained(events)) == ["Disconnected", "Reconnecting", "Connected", "Gap"]
        assert s.server.wires[0].left == [("abort", None)]


def doze(s: Scripted, meanwhile: Callable[[], object]) -> None:
    """Stop the process for an hour between a wait of the loop and what it does then; the server goes on meanwhile."""
    wait = s.clock.wait

    def dozing(selector: selectors.BaseSelector, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        s.clock.wait = wait
        ready = wait(selector, timeout)
        s.clock.advance(3600)
        meanwhile()
        return ready

    s.clock.wait = dozing
    s.settle()  # on to the wait
    s.settle()  # out of it


def test_what_came_while_the_process_was_stopped_is_proof_of_life() -> None:
    """A process that wakes after the deadline reads what lies there before it judges; the connection goes on."""
    with Scripted() as s:
        events = s.client.stream(LifecycleEvent, PriceUpdate)
        s.ready()
        s.server.pongs = False
        s.run(30)
        assert s.server.kinds().count("ping") == 2
        s.server.pongs = True
        drained(events)
        doze(s, lambda: s.wire.push(price("m"), {"type": "pong"}))
        assert kinds_of(drained(events)) == ["PriceUpdate"]
        assert s.server.kinds().count("ping") == 3
        s.run(30)
        assert s.server.kinds().count("ping") == 4
        assert len(s.server.wires) == 1


@pytest.mark.parametrize("where", ["in the socket", "decrypted"])
def test_a_long_message_is_read_whole_before_life_is_judged(where: str) -> None:
    """What was sent in time may take more than one read, and TLS may hold the rest."""
    with Scripted() as s:
        events = s.client.stream(LifecycleEvent, PriceUpdate)
        s.ready()
        s.server.pongs = False
        s.run(30)
        s.server.pongs = True
        drained(events)
        whole, parts = s.wire.receive, [Batch()] * 3

        def receive() -> Batch:
            if not parts:
                s.wire.pending = False
                s.wire._far.send(b"x")
                return whole()
            if where == "decrypted":
                s.wire.pending = True
                with contextlib.suppress(BlockingIOError):
                    s.wire.sock.recv(4096)
            return parts.pop()

        s.wire.receive = receive
        doze(s, lambda: s.wire.push(price("m"), {"type": "pong"}))
        assert kinds_of(drained(events)) == ["PriceUpdate"]
        assert len(s.server.wires) == 1


def test_a_process_that_was_stopped_notices_a_dead_connection() -> None:
    """Nothing lies there: the ping was not answered, so the connection is given up at once."""
    with Scripted() as s:
        events = s.client.stream(LifecycleEvent)
        s.ready()
        s.server.pongs = False
        s.run(30)
        drained(events)
        doze(s, lambda: None)
        assert kinds_of(drained(events)) == ["Disconnected", "Reconnecting"]
        assert s.server.wires[0].left == [("abort", None)]


def test_a_socket_that_takes_again_after_a_stop_is_written_before_it_is_given_up() -> None:
    """The deadline of what is to be sent is judged by a look at the socket too."""
    with Scripted() as s:
        s.ready()
        done: list[str] = []

        def written() -> None:
            done.append("write")
            s.wire.wants_write, s.wire.send_deadline = False, None

        def takes_again() -> None:
            s.wire.wants_write = True

        s.wire.write, s.wire.expire = written, lambda: done.append("expire")
        s.wire.send_deadline = s.clock.now().mono + 10
        doze(s, takes_again)
        assert done == ["write"]


def test_the_wall_clock_changes_nothing() -> None:
    """Turning the wall clock back a year neither drops nor delays anything."""
    with Scripted() as s:
        s.ready()
        s.clock.set_wall(s.clock.now().wall.replace(year=2020))
        s.run(31)
        assert s.server.kinds() == ["auth", "ping", "ping"]
        assert s.client.state is State.READY


def test_order_across_a_loss_in_one_read() -> None:
    """Data, the loss behind it, and the recovery arrive in this order in every consumer."""
    with Scripted() as s:
        stream = s.client.stream(Price("m"), LifecycleEvent)
        called: list[Event] = []
        s.client.on(Event, called.append)
        s.ready()
        s.wire.push(price("m", 1.0), price("m", 2.0), end=LOST)
        s.run(1)
        s.wire.push(price("m", 3.0))
        s.settle()
        expected = [
            "Connected",
            "PriceUpdate",
            "PriceUpdate",
            "Disconnected",
            "Reconnecting",
            "Connected",
            "Gap",
            "PriceUpdate",
        ]
        assert kinds_of(drained(stream)) == expected
        s.client.close()
        assert [name for name in kinds_of(called) if name != "Pong"] == [*expected, "Closed"]


def test_messages_behind_a_rejection_are_not_heard() -> None:
    """What the same read brought after a rejected key belongs to a connection that was given up."""
    with Scripted() as s:
        s.server.pongs = False
        stream = s.client.stream(PriceUpdate)
        s.client.start()
        s.server.wait_for(lambda: s.server.wires and "ping" in s.server.kinds())
        s.wire.push({"type": "error", "message": "bad key"}, price("m"))
        assert isinstance(await_end(s.client), AuthenticationError)
        assert isinstance(outcome(stream.get_nowait), AuthenticationError)


def test_a_blocked_stream_holds_reading_but_not_the_heartbeat() -> None:
    """While a blocking stream is full nothing is read, pings go on, silence proves nothing; then all is delivered."""
    with Scripted(heartbeat_interval=30.0, pong_timeout=10.0) as s:
        stream = s.client.stream(Price("m"), maxsize=2, overflow="block")
        s.ready()
        s.wire.push(*(price("m", float(n)) for n in range(5)))
        s.settle()
        s.run(300)
        assert stream.qsize() == 2
        assert s.server.kinds().count("ping") == 1 + 10
        assert s.client.state is State.READY
        assert [stream.get(timeout=PATIENCE).price for _ in range(5)] == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert s.client.flush(PATIENCE) == 0.0


def test_liveness_is_judged_again_after_a_block() -> None:
    """Once reading goes on the server has the pong timeout anew, and then it is dropped."""
    with Scripted(heartbeat_interval=30.0, pong_timeout=10.0) as s:
        stream = s.client.stream(Price("m"), Disconnected, maxsize=1, overflow="block")
        s.ready()
        s.server.pongs = False
        s.wire.push(price("m"), price("m"))
        s.run(100)
        drained(stream)
        s.settle()
        drained(stream)
        s.run(9.9)
        assert stream.empty()
        s.run(0.2)
        assert kinds_of(drained(stream)) == ["Disconnected"]


def test_no_retry_begins_while_a_consumer_blocks() -> None:
    """A loss behind held events waits for the consumer, and so does the connection after it."""
    with Scripted() as s:
        stream = s.client.stream(Price("m"), LifecycleEvent, maxsize=1, overflow="block")
        s.client.start()
        assert isinstance(stream.get(timeout=PATIENCE), Connected)
        s.clock.settle()
        s.wire.push(price("m", 1.0), price("m", 2.0), end=LOST)
        s.run(600)
        assert len(s.server.wires) == 1
        assert [stream.get(timeout=PATIENCE).price for _ in range(2)] == [1.0, 2.0]
        assert [type(stream.get(timeout=PATIENCE)) for _ in range(2)] == [Disconnected, Reconnecting]
        s.run(60)
        assert [type(stream.get(timeout=PATIENCE)) for _ in range(2)] == [Connected, Gap]


def test_close_works_while_a_consumer_blocks() -> None:
    """A full blocking stream neither delays the end nor loses anything by it."""
    with Scripted() as s:
        stream = s.client.stream(Price("m"), LifecycleEvent, maxsize=1, overflow="block")
        s.client.start()
        stream.get(timeout=PATIENCE)
        s.clock.settle()
        s.wire.push(*(price("m", float(n)) for n in range(3)))
        s.settle()
        s.client.close()
        assert kinds_of(list(stream)) == ["PriceUpdate", "PriceUpdate", "PriceUpdate", "Closed"]


def test_closing_a_blocking_stream_lets_the_others_go_on() -> None:
    """Its reader gone, a full stream holds nobody up."""
    with Scripted() as s:
        blocking = s.client.stream(Price("m"), maxsize=1, overflow="block")
        other = s.client.stream(PriceUpdate)
        s.ready()
        s.wire.push(*(price("m", float(n)) for n in range(4)))
        s.settle()
        assert other.qsize() == 1
        blocking.close()
        s.settle()
        assert other.qsize() == 4


def test_a_blocking_callback_buffer_loses_nothing() -> None:
    """`callback_overflow="block"` stops reading until the callbacks have caught up."""
    with Scripted(callback_buffer=1, callback_overflow="block") as s:
        gate, got = threading.Event(), []

        def slow(event: Any) -> None:
            gate.wait(PATIENCE)
            got.append(event.price)

        s.client.on(PriceUpdate, slow)
        s.ready()
        s.wire.push(*(price("m", float(n)) for n in range(10)))
        s.settle()
        s.run(60)
        assert s.server.kinds().count("ping") == 3
        gate.set()
        s.client.flush(PATIENCE)
        s.client.close()
        assert got == [float(n) for n in range(10)]
        assert s.client.stats.dropped == 0


def test_a_callback_buffer_that_must_not_overflow_ends_the_client() -> None:
    """`callback_overflow="error"`: `SlowConsumer` is the terminal error; streams read what they have, then raise it."""
    with Scripted(callback_buffer=2, callback_overflow="error") as s:
        gate = threading.Event()
        s.client.on(PriceUpdate, lambda _: gate.wait(PATIENCE))
        stream = s.client.stream(PriceUpdate)
        s.ready()
        s.wire.push(*(price("m", float(n)) for n in range(10)))
        error = await_end(s.client)
        gate.set()
        assert isinstance(error, SlowConsumer)
        assert error.consumer == "callbacks"
        assert outcome(s.client.flush) is error
        while not isinstance(last := outcome(stream.get_nowait), BaseException):
            assert isinstance(last, PriceUpdate)
        assert last is error


def test_a_stream_that_must_not_overflow_ends_alone() -> None:
    """A stream with `overflow="error"` fails by itself: its channel is released, the client goes on."""
    with Scripted() as s:
        stream = s.client.stream(Price("m"), maxsize=2, overflow="error")
        s.ready()
        s.wire.push(*(price("m", float(n)) for n in range(5)))
        s.settle()
        assert [stream.get().price for _ in range(2)] == [0.0, 1.0]
        assert isinstance(outcome(stream.get), SlowConsumer)
        assert s.client.subscriptions == frozenset()
        assert s.server.kinds()[-1] == "unsubscribe"
        assert s.client.state is State.READY


def test_slow_callback_is_reported_while_it_runs() -> None:
    """After a second, once; the heartbeat and the streams do not wait for it."""
    with Scripted() as s:
        gate, entered = threading.Event(), threading.Event()
        s.clock._now = s.clock._now._replace(mono=time.monotonic())
        s.client.on(PriceUpdate, lambda _: (entered.set(), gate.wait(PATIENCE)))
        stream = s.client.stream(SlowCallback, PriceUpdate)
        s.ready()
        s.wire.push(price("m"))
        assert isinstance(stream.get(timeout=PATIENCE), PriceUpdate)
        assert entered.wait(PATIENCE)
        s.run(95)
        slow = drained(stream)
        assert kinds_of(slow) == ["SlowCallback"]
        assert slow[0].seconds >= 1
        assert s.server.kinds().count("ping") == 1 + 3
        gate.set()


def test_a_failing_thread_releases_everybody() -> None:
    """A bug in the loop is logged and ends the client with an error that says so; nobody is left waiting."""
    handler = LogKeeper()
    logger = logging.getLogger("allenhark_ws")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with Scripted() as s:
            s.ready()
            s.server.pongs = False
            stream = s.client.stream(PriceUpdate, Closed)
            called: list[Event] = []
            s.client.on(Closed, called.append)
            s.server.before_receive = lambda: 1 / 0
            s.wire.push(price("m"))
            error = await_end(s.client)
            assert isinstance(error, ClientClosed)
            assert isinstance(error.__cause__, ZeroDivisionError)
            assert error.__cause__.__traceback__ is None
            assert outcome(s.client.flush) is error
            assert stream.get(timeout=PATIENCE) == Closed(error)
            assert outcome(stream.get) is error
            s.client.close()
            assert called == [Closed(error)]
            assert s.wire.left == [("abort", None)]
    finally:
        logger.removeHandler(handler)
        logger.propagate = True
    assert [record.levelname for record in handler.records] == ["CRITICAL"]


def test_start_and_close_at_once_opens_nothing_for_long() -> None:
    """A `close()` posted before the thread took its first breath interrupts the attempt that `start()` began."""
    with Scripted() as s:
        s.server.hang = True
        events = s.client.stream(LifecycleEvent)
        with s.clock.held():
            s.client.start()
            closing = run_aside(s.client.close)
            while len(s.client._loop._driver.mailbox) < 2:
                assert closing.is_alive()
        closing.join(PATIENCE)
        assert kinds_of(list(events)) == ["Closed"]
        assert s.clock.waits
        assert threads_of(s.client) == []


def test_mail_is_read_while_a_connection_is_opened() -> None:
    """What is asked for meanwhile is done, and a `reconnect()` gives the attempt up for another."""
    with Scripted() as s:
        s.server.hang = True
        s.client.start()
        s.server.wait_for(lambda: s.server.wires)
        s.client.subscribe(Price("m"))
        s.client.reconnect()
        s.server.wait_for(lambda: len(s.server.wires) == 2)
        assert s.client.subscriptions == {Price("m")}
        s.server.hang = False
        s.client.reconnect()
        s.client.connect(PATIENCE)
        s.server.wait_for(lambda: "subscribe" in s.server.kinds())


def test_reconnect_on_a_client_never_started_only_starts_it() -> None:
    """There is no loss to tell of, and nothing is tried twice."""
    with Scripted() as s:
        events = s.client.stream(LifecycleEvent)
        s.server.hang = True
        s.client.reconnect()
        s.server.wait_for(lambda: s.server.wires)
        s.settle()
        s.server.hang = False
        s.settle()
        first = events.get(timeout=PATIENCE)
        assert first == Connected(1, 0.0)
        s.clock.settle()
        assert len(s.server.wires) == 1
        assert events.empty()


def test_reconnect_drops_a_connection_and_comes_back() -> None:
    """It is a loss like any other, announced to the server by a close frame."""
    with Scripted() as s:
        s.ready()
        events = s.client.stream(LifecycleEvent)
        s.client.reconnect()
        s.run(1)
        assert kinds_of(drained(events)) == ["Disconnected", "Reconnecting", "Connected", "Gap"]
        assert s.server.wires[0].left == [("abort", 1000)]


def test_reconnect_ends_a_backoff() -> None:
    """The next try comes at once instead of after the wait."""
    with Scripted(backoff=Backoff(initial=1000.0, maximum=1000.0)) as s:
        s.server.refusals.append(ConnectionFailed("no"))
        s.client.start()
        s.settle()
        before = s.client.state
        assert before is State.BACKOFF
        s.client.reconnect()
        s.settle()
        assert s.client.state is State.READY


def test_a_failed_connection_lingers_until_something_is_asked() -> None:
    """The loss is told before our close frame is seen off, and whoever wants something ends that at once."""
    lingering, interrupted = threading.Event(), threading.Event()

    def linger(wait: Waiter, deadline: float) -> None:
        lingering.set()
        try:
            while True:
                wait(None, 0, deadline)
        except Interrupted:
            interrupted.set()

    with Scripted() as s:
        s.ready()
        events = s.client.stream(LifecycleEvent)
        s.server.linger = linger
        s.wire.push(end=ConnectionLost("the server broke the WebSocket protocol"))
        assert lingering.wait(PATIENCE)
        assert isinstance(events.get(timeout=PATIENCE), Disconnected)
        s.client.close()
        assert interrupted.is_set()


def test_an_edit_before_the_start_may_be_interrupted_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler that uses the client while an edit is taken note of loses neither that one nor its own."""
    with Scripted() as s:
        want, mints = s.client._loop.session.want, ["two", "three"]

        def interrupted(_session: object, channels: list[Channel]) -> None:
            want(channels)
            if mints:
                s.client.subscribe(Price(mints.pop(0)))

        monkeypatch.setattr(Session, "want", interrupted)
        s.client.subscribe(Price("one"))
        assert s.client.subscriptions == {Price("one"), Price("two"), Price("three")}
        s.ready()
        s.server.wait_for(lambda: s.server.kinds().count("subscribe") == 3)


def test_room_that_comes_while_a_failed_connection_lingers_is_heard() -> None:
    """A full consumer gets what it held up, though its news of room came in the connection's last moments."""
    lingering = threading.Event()

    def linger(wait: Waiter, deadline: float) -> None:
        lingering.set()
        wait(None, 0, deadline)

    with Scripted() as s:
        s.ready()
        events = s.client.stream(PriceUpdate, Disconnected, maxsize=1, overflow="block")
        s.server.linger = linger
        s.wire.push(price("m"))
        s.settle()
        s.wire.push(end=ConnectionLost("the server broke the WebSocket protocol"))
        assert lingering.wait(PATIENCE)
        assert isinstance(events.get(timeout=PATIENCE), PriceUpdate)
        assert isinstance(events.get(timeout=PATIENCE), Disconnected)


def test_thousands_of_subscriptions_go_out_in_turns() -> None:
    """All of them, once each, in the order in which they were wanted."""
    channels = [Price(f"m{n}") for n in range(2000)]
    with Scripted() as s:
        s.client.subscribe(*channels)
        s.ready()
        s.client.flush(PATIENCE)
        sent = [m["mint"] for m in s.wire.sent if m["type"] == "subscribe"]
        assert sent == [c.mint for c in channels]


def test_a_full_send_buffer_holds_requests_back() -> None:
    """No request is added while too many bytes wait to be sent; they follow when there is room."""
    with Scripted() as s:
        s.ready()
        s.wire.backlog = 1_000_000
        s.client.subscribe(Price("m"))
        s.run(1)
        assert s.server.kinds() == ["auth", "ping"]
        s.wire.backlog = 0
        s.settle()
        assert s.server.kinds() == ["auth", "ping", "subscribe"]


def test_max_send_rate_paces_requests() -> None:
    """Ten per second, as the session has it, on the loop's clock."""
    with Scripted(max_send_rate=10.0) as s:
        s.client.subscribe(*(Price(f"m{n}") for n in range(20)))
        s.ready()
        s.run(1.0)
        assert 7 <= s.server.kinds().count("subscribe") <= 10
        s.run(1.5)
        assert s.server.kinds().count("subscribe") == 20


def test_what_falls_due_in_an_inline_callback_is_done_before_the_next_read() -> None:
    """A callback that takes longer than the heartbeat delays a ping by itself, not by the one after it too."""
    with Scripted(heartbeat_interval=30.0, inline_callbacks=True) as s:
        pings: list[int] = []

        @s.client.on(PriceUpdate)
        def slow(_: Event) -> None:
            pings.append(s.server.kinds().count("ping"))
            s.clock.advance(30.0)
            if len(pings) < 4:
                s.wire.push(price("m"))

        s.ready()
        s.wire.push(price("m"))
        s.settle()
        assert slow is not None
        assert pings == [1, 2, 3, 4]


def test_data_that_leave_something_to_write_are_not_all_there_is_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS can want to write because of what it has read (`SSLWantWriteError`); the socket is watched for it at once."""
    with Scripted() as s:
        s.ready()
        wire, writes = s.wire, []

        def write() -> None:
            writes.append(wire.wants_write)
            wire.wants_write = False

        monkeypatch.setattr(wire, "write", write)
        s.server.before_receive = lambda: setattr(wire, "wants_write", True)
        wire.push(price("m"))
        s.settle()
        assert writes == [True]


def test_what_waits_for_room_goes_when_a_read_has_made_it() -> None:
    """A write that waited for TLS to read goes on within the read of data; what waited for room follows it at once."""
    with Scripted() as s:
        s.ready()
        wire = s.wire
        wire.backlog = 1_000_000
        s.client.subscribe(Price("m"))
        s.settle()
        s.server.before_receive = lambda: setattr(wire, "backlog", 0)
        wire.push(price("m"))
        s.settle()
        assert s.server.kinds() == ["auth", "ping", "subscribe"]


def test_stats_after_known_traffic() -> None:
    """Every count is what went over the wire."""
    with Scripted() as s:
        s.client.on(PriceUpdate, lambda _: 1 / 0)
        s.ready()
        frames = [b'{"type":"price_update"}', b'{"type":"news"}', b"\xff", b"[]"]
        s.wire.push(price("m"), *frames)
        s.settle()
        s.wire.push({"type": "pong"}, end=LOST)
        s.run(5)
        s.client.flush(PATIENCE)
        stats = s.client.stats
        assert stats.state is State.READY
        assert (stats.invalid, stats.unknown, stats.reconnects, stats.attempts) == (3, 1, 1, 0)
        assert {name: stats.received_by_type[name] for name in ("price_update", "news", "pong")} == {
            "price_update": 1,
            "news": 1,
            "pong": 4,
        }
        assert stats.messages_received == sum(stats.received_by_type.values()) == 1 + 4 + 4
        assert stats.messages_sent == sum(len(wire.sent) for wire in s.server.wires)
        assert stats.connected_since is not None
        assert (stats.rtt_last, stats.rtt_min, stats.rtt_avg, stats.clock_offset) == (0.0, 0.0, 0.0, None)
        assert stats.dropped == 0
        s.client.close()
        assert s.client.stats.callback_errors == 1
        assert s.client.stats.callback_backlog == 0
        assert s.client.stats.connected_since is None


def test_the_callback_backlog_counts_what_waits() -> None:
    """Events behind a callback that is stuck."""
    with Scripted() as s:
        gate, entered = threading.Event(), threading.Event()

        def stuck(_: Event) -> None:
            entered.set()
            gate.wait(PATIENCE)

        s.client.on(PriceUpdate, stuck)
        s.ready()
        s.wire.push(price("m"), price("m"), price("m"))
        assert entered.wait(PATIENCE)
        assert s.client.stats.callback_backlog == 2
        gate.set()


def test_reports_that_lead_to_reports_leave_the_loop_its_turns() -> None:
    """Each is a turn's work, so that whatever else is asked for comes between two of them."""
    endless = 10_000
    with Scripted(inline_callbacks=True) as s:
        handled: list[CallbackError] = []

        @s.client.on(CallbackError)
        def again(event: CallbackError) -> None:
            handled.append(event)
            if len(handled) == 1:
                s.client.close()
            if len(handled) < endless:
                s.client._loop.report(event)

        s.ready()
        s.client._loop.report(CallbackError(again, Pong(), ValueError()))
        await_end(s.client)
        assert len(handled) < endless


def test_the_earliest_deadline_counts() -> None:
    """Whoever closes with more patience, later, changes nothing."""
    with Scripted() as s:
        now = time.monotonic()
        deadlines = (now + 20.0, now + 10.0, now + 30.0)
        assert [s.client._loop.request_close(deadline) for deadline in deadlines] == [
            now + 20.0,
            now + 10.0,
            now + 10.0,
        ]


@pytest.mark.parametrize("inline", [False, True])
def test_callback_errors_are_reported_and_cost_nothing_else(inline: bool) -> None:
    """Whatever a callback raises, `SystemExit` included, the next event comes; errors in a handler are only logged."""
    logging.getLogger("allenhark_ws").propagate = False
    try:
        with Scripted(inline_callbacks=inline) as s:
            reports = s.client.stream(CallbackError)
            later: list[Event] = []
            errors = [SystemExit(3), KeyboardInterrupt(), ValueError("x")]

            def bad(event: PriceUpdate) -> None:
                raise errors[int(event.price)]

            @s.client.on(CallbackError)
            def worse(event: CallbackError) -> None:
                raise RuntimeError

            s.client.on(PriceUpdate, bad)
            s.client.on(PriceUpdate, later.append)
            s.ready()
            s.wire.push(*(price("m", float(n)) for n in range(3)))
            got = [reports.get(timeout=PATIENCE) for _ in range(3)]
            assert [report.error for report in got] == errors
            assert all(report.callback is bad and isinstance(report.event, PriceUpdate) for report in got)
            s.client.close()
            assert len(later) == 3
            assert s.client.stats.callback_errors == 6
            assert worse is not None
    finally:
        logging.getLogger("allenhark_ws").propagate = True


@pytest.mark.parametrize("early", [False, True], ids=["that closes", "of an attempt"])
def test_errors_of_the_last_inline_callbacks_are_told(early: bool) -> None:
    """Before `Closed`: of a message that is told because the attempt ends, and of one whose callback closes."""
    logging.getLogger("allenhark_ws").propagate = False
    try:
        with Scripted(inline_callbacks=True) as s:
            told: list[object] = []

            def bad(_: UnknownMessage) -> None:
                s.client.close()
                raise ValueError

            s.client.on(CallbackError, lambda report: told.append(report.callback))
            s.client.on(Closed, told.append)
            s.client.on(UnknownMessage, bad)
            if early:
                s.server.pongs = False
                s.client.start()
                s.settle()
            else:
                s.ready()
            s.wire.push({"type": "news"})
            if early:
                s.settle()
                s.client.close()
            await_end(s.client)
            assert told == [bad, Closed(None)]
    finally:
        logging.getLogger("allenhark_ws").propagate = True


def test_key_callable_is_asked_for_every_connection() -> None:
    """Each connection authenticates with what the callable gives then."""
    keys = iter(["one", "two", "three"])
    with Scripted(api_key=Secret(lambda: next(keys))) as s:
        s.ready()
        for _ in range(2):
            s.client.reconnect()
            s.run(1)
        assert [wire.sent[0]["apiKey"] for wire in s.server.wires] == ["one", "two", "three"]


def test_a_raising_key_callable_is_retried() -> None:
    """A key store that is away for a moment is no reason to give up; what it raised and where is told."""
    answers: list[Any] = [OSError("vault is down"), SystemExit(1), "good"]

    def ask() -> str:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return str(answer)

    with Scripted(api_key=Secret(ask)) as s:
        events: Stream[Any] = s.client.stream(Reconnecting, Connected)
        s.client.start()
        s.run(30)
        first, second, third = (events.get(timeout=PATIENCE) for _ in range(3))
        assert isinstance(first.cause, ConnectionFailed)
        assert re.fullmatch(r"the api_key callable failed: OSError in test_loop\.py:\d+", first.cause.reason)
        assert second.cause.reason.startswith("the api_key callable failed: SystemExit in ")
        assert third.attempt == 3


def test_what_a_key_callable_raises_is_not_chained() -> None:
    """Its text may hold the key: neither the failure nor its context tells it."""

    def ask() -> str:
        raise OSError("the vault refused sk-secret")

    with Scripted(api_key=Secret(ask)) as s:
        events = s.client.stream(Reconnecting)
        s.client.start()
        cause = events.get(timeout=PATIENCE).cause
        assert (cause.__cause__, cause.__context__, cause.__traceback__) == (None, None, None)
        assert "sk-secret" not in str(cause)


@pytest.mark.parametrize("nonsense", [None, 7, "", "  ", b"key", "a\nb"])
def test_a_key_callable_that_returns_no_key(nonsense: object) -> None:
    """That is a mistake in the program: the client ends with `ConfigurationError`, which does not show the value."""
    with Scripted(api_key=Secret(lambda: nonsense)) as s:
        error = outcome(lambda: s.client.connect(PATIENCE))
        assert isinstance(error, ConfigurationError)
        assert "api_key" in str(error)
        assert s.client.error is error


def test_a_slow_key_callable_is_interrupted_by_close() -> None:
    """It is asked on a thread of its own, so nothing waits for it."""
    gate = threading.Event()
    with Scripted(api_key=Secret(lambda: gate.wait(PATIENCE) and "key")) as s:
        s.client.start()
        s.server.wait_for(lambda: s.server.wires)
        s.client.close()
        assert s.client.state is State.CLOSED
        assert not s.client._loop._thread.is_alive()
        gate.set()


def test_a_slow_key_callable_is_given_up_after_the_connect_timeout() -> None:
    """Then the attempt has failed and is retried."""
    gate = threading.Event()
    with Scripted(api_key=Secret(lambda: gate.wait(PATIENCE) and "key"), connect_timeout=5.0) as s:
        events = s.client.stream(Reconnecting)
        s.client.start()
        s.server.wait_for(lambda: s.server.wires)
        s.run(6)
        cause = events.get(timeout=PATIENCE).cause
        assert cause.reason == "the api_key callable failed: it took longer than connect_timeout=5 s"
        gate.set()


def test_close_timeout_drops_late_callbacks_but_delivers_closed() -> None:
    """What was not delivered by the deadline is counted as dropped; `Closed` comes last all the same."""
    with Scripted() as s:
        gate, entered, got = threading.Event(), threading.Event(), []

        def slow(event: Event) -> None:
            got.append(event)
            entered.set()
            gate.wait(PATIENCE)

        s.client.on(PriceUpdate, slow)
        s.client.on(Closed, got.append)
        s.ready()
        s.wire.push(*(price("m", float(n)) for n in range(5)))
        assert entered.wait(PATIENCE)
        s.settle()
        s.client.close(0)
        gate.set()
        s.client._loop.callbacks.join(time.monotonic() + PATIENCE)
        assert kinds_of(got) == ["PriceUpdate", "Closed"]
        assert s.client.stats.dropped == 4


def test_a_mailbox_is_not_filled_after_the_end() -> None:
    """Edits of a client that has ended leave nothing behind."""
    with Scripted() as s:
        subscription = s.client.subscribe(Price("m"))
        s.ready()
        s.client.close()
        subscription.close()
        s.client.unsubscribe(Price("m"))
        s.client._loop.wake()
        assert not s.client._loop._driver.mailbox


def test_flush_timeout_forgets_the_request() -> None:
    """A flush that gave up leaves nothing to be answered."""
    with Scripted() as s:
        s.ready()
        s.server.pongs = False
        assert isinstance(outcome(lambda: s.client.flush(0)), TimeoutError)
        s.settle()
        assert not s.client._loop.session._flushes


def test_events_before_the_pong_are_in_the_stream_when_flush_returns() -> None:
    """Also when one read brought them all."""
    with Scripted() as s:
        stream = s.client.stream(PriceUpdate)
        s.ready()
        s.server.pongs = False
        done: list[object] = []
        thread = threading.Thread(target=lambda: done.extend([s.client.flush(PATIENCE), stream.qsize()]))
        thread.start()
        s.server.wait_for(lambda: s.server.kinds().count("ping") == 2)
        s.wire.push(price("a"), price("b"), {"type": "pong"}, price("c"))
        thread.join(PATIENCE)
        assert done[1] in {2, 3}


def test_a_forgotten_client_dies_at_once() -> None:
    """Threads and loop hold no client; without a cycle of the user's making reference counting alone collects it."""
    gc.collect()
    gc.disable()
    try:
        s = Scripted().ready()
        s.client.subscribe(Price("m"), callback=print)
        client, loop = weakref.ref(s.client), s.client._loop
        with pytest.warns(ResourceWarning, match="unclosed Client"):
            del s
        assert client() is None
        loop.join(time.monotonic() + PATIENCE)
        assert loop.ended
    finally:
        gc.enable()


def test_a_forgotten_client_that_is_connecting_ends() -> None:
    """The attempt is given up."""
    s = Scripted()
    server, loop = s.server, s.client._loop
    server.hang = True
    s.client.start()
    server.wait_for(lambda: server.wires)
    with pytest.warns(ResourceWarning):
        del s
    loop.join(time.monotonic() + PATIENCE)
    assert loop.ended


@pytest.mark.parametrize("ended", ["closed", "never started", "failed"])
def test_no_warning_for_a_client_that_holds_nothing(ended: str) -> None:
    """Only a running client is worth a `ResourceWarning`; here it would be an error."""
    s = Scripted(api_key=Secret(lambda: None))
    if ended == "closed":
        s.client.close()
    elif ended == "failed":
        assert isinstance(outcome(s.client.connect), ConfigurationError)
    del s
    gc.collect()


@pytest.mark.parametrize("where", ["connect", "get", "iteration", "flush"])
def test_a_client_that_failed_is_collected(where: str) -> None:
    """Its error has the frames of whoever it was raised to, which hold client and stream; nothing else holds those."""
    s = Scripted(api_key=Secret(lambda: None))
    stream = s.client.stream(Price("m"))
    s.client.start()
    await_end(s.client)
    s.client._loop.join(time.monotonic() + PATIENCE)
    verb: dict[str, Callable[[], object]] = {
        "connect": s.client.connect,
        "get": stream.get,
        "iteration": partial(list, stream),
        "flush": s.client.flush,
    }
    assert isinstance(outcome(verb[where]), ConfigurationError)
    client, forgotten = weakref.ref(s.client), weakref.ref(stream)
    del s, stream, verb
    gc.collect()
    assert (client(), forgotten()) == (None, None)


def test_inline_callbacks_run_on_the_loops_thread_in_order() -> None:
    """No other thread is started for them."""
    with Scripted(inline_callbacks=True) as s:
        names: list[str] = []
        s.client.on(PriceUpdate, lambda _: names.append(threading.current_thread().name))
        s.ready()
        s.wire.push(price("m"), price("m"))
        s.settle()
        assert len(names) == 2
        assert all(name.startswith("allenhark-io") for name in names)
        assert [thread.name for thread in threads_of(s.client)] == names[:1]


@pytest.mark.parametrize("verb", ["connect", "flush", "run_forever", "get"])
def test_waiting_in_an_inline_callback_is_refused(verb: str) -> None:
    """It would wait for itself."""
    with Scripted(inline_callbacks=True) as s:
        stream, results = s.client.stream(Pong), []
        call = stream.get if verb == "get" else getattr(s.client, verb)
        s.client.on(PriceUpdate, lambda _: results.append(outcome(call)))
        s.ready()
        drained(stream)
        s.wire.push(price("m"))
        s.settle()
        assert [type(result) for result in results] == [RuntimeError]


def test_an_inline_callback_may_close_and_edit() -> None:
    """Verbs that need not wait work on the loop's own thread."""
    with Scripted(inline_callbacks=True) as s:
        closed: list[Event] = []
        s.client.on(Closed, closed.append)

        @s.client.on(PriceUpdate)
        def act(_: Event) -> None:
            s.client.subscribe(Price("n"))
            s.client.unsubscribe(Price("m"))
            s.client.close()
            assert isinstance(outcome(s.client.start), ClientClosed)

        s.client.subscribe(Price("m"))
        s.ready()
        s.wire.push(price("m"))
        await_end(s.client)
        assert closed == [Closed(None)]
        assert s.client.stats.callback_errors == 0
        assert act is not None


def test_a_stuck_inline_callback_does_not_hang_close() -> None:
    """`close()` from elsewhere gives up at its deadline."""
    with Scripted(inline_callbacks=True) as s:
        gate, entered = threading.Event(), threading.Event()

        @s.client.on(PriceUpdate)
        def stuck(_: Event) -> None:
            entered.set()
            gate.wait(PATIENCE)

        s.ready()
        s.wire.push(price("m"))
        assert entered.wait(PATIENCE)
        assert outcome_aside(lambda: s.client.close(0.05)) is None
        assert stuck is not None
        gate.set()
