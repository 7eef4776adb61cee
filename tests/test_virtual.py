"""`VirtualSimulator`: whole clients whose time is the test's; everything here is exact, nothing waits for a clock."""

from __future__ import annotations

import gc
import socket
import threading
import weakref
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("websockets", reason="needs the extra testing")

from allenhark_ws import (
    AuthenticationError,
    Backoff,
    Bot,
    CallbackError,
    ClientClosed,
    Closed,
    ConfigurationError,
    ConnectionFailed,
    Disconnected,
    Event,
    Gap,
    InvalidMessage,
    LifecycleEvent,
    Pong,
    Price,
    PriceUpdate,
    Reconnecting,
    ServerError,
    State,
    Transactions,
)
from allenhark_ws.testing import VirtualSimulator, _time

from .fakes import FewDescriptors
from .patience import PATIENCE
from .scripted import outcome, price, run_aside

M = Price("M")
START = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)


@pytest.fixture
def sim() -> Iterator[VirtualSimulator]:
    """A virtual simulator; its clients are closed afterwards."""
    with VirtualSimulator() as simulator:
        yield simulator


@pytest.fixture(params=[False, True], ids=["callback thread", "inline"])
def inline(request: pytest.FixtureRequest) -> bool:
    """Where callbacks run."""
    return bool(request.param)


def drained(stream: Any) -> list[Any]:
    """Everything that is queued."""
    return [stream.get_nowait() for _ in range(stream.qsize())]


def test_what_was_published_has_been_called_back(sim: VirtualSimulator, inline: bool) -> None:
    """When `publish` returns, callbacks have returned and streams are filled; the time is the virtual one."""
    client = sim.client(inline_callbacks=inline)
    seen: list[PriceUpdate] = []
    stream = client.stream(M)
    client.subscribe(M, callback=seen.append)
    client.connect()
    for number in range(100):
        assert sim.publish(price("M", number)) == 1
        assert seen[-1].price == number
    assert drained(stream) == seen
    assert seen[-1].received_at == sim.now == START
    assert sim.publish(price("other")) == 0


def test_callbacks_that_act_are_waited_for(sim: VirtualSimulator, inline: bool) -> None:
    """What a callback asks for is done, and what came of that too, before the call returns."""
    client = sim.client(inline_callbacks=inline)
    seen: list[Event] = []

    def follow(update: PriceUpdate) -> None:
        number = int(update.price)
        client.subscribe(Bot(f"b{number}"))
        if number == 3:
            client.reconnect()

    client.subscribe(M, callback=follow)
    client.on(Gap, seen.append)
    client.connect()
    for number in range(5):
        sim.publish(price("M", number))
        assert sim.subscriptions == {M, *(Bot(f"b{n}") for n in range(number + 1))}
        assert len(seen) == (number >= 3)
    assert sim.violations == []


def test_a_slow_callback_is_waited_for(sim: VirtualSimulator) -> None:
    """However long it takes in real time; in virtual time it takes none, so it is not reported as slow."""
    client = sim.client()
    entered, gate, done = threading.Event(), threading.Event(), threading.Event()
    told = client.stream(LifecycleEvent)

    def wait(_update: PriceUpdate) -> None:
        entered.set()
        gate.wait(PATIENCE)
        done.set()

    client.subscribe(M, callback=wait)
    client.connect()
    sim.advance(7200)
    drained(told)
    publishing = run_aside(lambda: [sim.publish(price("M")), done.is_set() or pytest.fail("not waited for")])
    assert entered.wait(PATIENCE)
    client.flush(PATIENCE)  # meanwhile the client looks at how long its callbacks take
    gate.set()
    publishing.join(PATIENCE)
    sim.advance(3600)
    assert drained(told) == []


def test_publish_tells_of_a_typing_error(sim: VirtualSimulator, caplog: pytest.LogCaptureFixture) -> None:
    """As the simulator on loopback does: it is sent, and a warning says what does not fit."""
    with sim.client() as client, client.stream(M, InvalidMessage) as stream:
        client.connect()
        assert sim.publish({**price("M"), "price": "1"}) == 1
        assert [type(event) for event in stream.get_batch(9, 0)] == [InvalidMessage]
    (record,) = [record for record in caplog.records if record.name == "allenhark_ws.testing"]
    assert record.levelname == "WARNING"


def test_the_last_callback_is_waited_for(sim: VirtualSimulator) -> None:
    """That of `Closed`, which comes when the client has ended."""
    client, gate, told = sim.client(), threading.Event(), list[Closed]()

    def wait(event: Closed) -> None:
        gate.wait(0.1)
        told.append(event)

    client.on(Closed, wait)
    sim.reject_auth()
    client.start()
    sim.advance(0)
    assert [event.error for event in told] == [client.error]


def test_a_callback_that_never_returns_is_told(sim: VirtualSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait for it is bounded, and the text says what to look for."""
    client, gate = sim.client(), threading.Event()
    client.subscribe(M, callback=lambda _: gate.wait(PATIENCE))
    client.connect()
    with monkeypatch.context() as patch:
        patch.setattr(_time, "_PATIENCE", 0.05)
        with pytest.raises(TimeoutError, match="is a callback, or an api_key callable"):
            sim.publish(price("M"))
    gate.set()


@pytest.mark.parametrize("inline_callbacks", [False, True])
def test_a_callback_must_not_use_it(sim: VirtualSimulator, inline_callbacks: bool) -> None:
    """It would wait for itself; that is an error at once."""
    client = sim.client(inline_callbacks=inline_callbacks)
    errors: list[CallbackError] = []
    client.on(CallbackError, errors.append)
    client.subscribe(M, callback=lambda _: sim.advance(1))
    client.connect()
    sim.publish(price("M"))
    (told,) = errors
    assert isinstance(told.error, RuntimeError)
    assert "none may use it" in str(told.error)
    assert sim.now == START


def test_a_day_of_heartbeats(sim: VirtualSimulator) -> None:
    """A ping every 30 seconds, at its very moment, each answered."""
    client = sim.client()
    pongs = client.stream(Pong)
    client.connect()
    sim.advance(24 * 3600)
    told = [pong.timestamp for pong in drained(pongs)]
    assert told == [START + timedelta(seconds=30 * number) for number in range(24 * 120 + 1)]
    assert sim.now == START + timedelta(days=1)
    assert client.stats.rtt_avg == client.stats.clock_offset == 0.0


def test_a_mute_server_is_dropped_at_the_second(sim: VirtualSimulator) -> None:
    """Thirty seconds to the ping, ten to the verdict, and not a moment sooner."""
    client = sim.client()
    losses = client.stream(Disconnected)
    client.connect()
    sim.mute_pongs()
    sim.advance(39.9)
    assert client.state is State.READY
    sim.advance(0.1)
    assert losses.get_nowait().cause.reason == "nothing arrived within 10 s after a ping"
    sim.mute_pongs(False)
    assert client.state is State.READY
    assert client.stats.reconnects == 1


def test_backoff_has_no_jitter(sim: VirtualSimulator) -> None:
    """Each wait is the longest that `Backoff` allows, and the gap is as long as all of them."""
    client = sim.client(backoff=Backoff(initial=1.0, maximum=8.0, multiplier=2.0))
    stream = client.stream(Reconnecting, Gap)
    client.subscribe(M)
    client.connect()
    sim.advance(60)
    sim.refuse()
    sim.reset()
    sim.advance(1 + 2 + 4 + 8)
    sim.refuse(False)
    sim.advance(8)
    *retries, gap = drained(stream)
    assert [retry.delay for retry in retries] == [0, 1, 2, 4, 8, 8]
    assert isinstance(gap, Gap)
    assert gap.duration == 23
    assert (gap.started_at, gap.ended_at) == (START + timedelta(seconds=60), START + timedelta(seconds=83))
    assert sim.subscriptions == {M}


def test_attempts_that_are_used_up(sim: VirtualSimulator) -> None:
    """The terminal error comes when the last wait is over."""
    client = sim.client(backoff=Backoff(initial=1.0, max_attempts=3))
    sim.refuse()
    client.start()
    sim.advance(2.9)
    assert client.state is State.BACKOFF
    sim.advance(0.1)
    assert isinstance(client.error, ConnectionFailed)
    assert client.error.attempts == 3
    with pytest.raises(ConnectionFailed, match="gave up after 3 failed attempts"):
        client.connect()


def test_without_descriptors_an_attempt_fails(sim: VirtualSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told and made again; the server knows nothing of it."""
    few = FewDescriptors()
    monkeypatch.setattr("allenhark_ws.testing._line.socket", few)
    client = sim.client()
    retries = client.stream(Reconnecting)
    client.start()
    sim.advance(0)
    cause = retries.get_nowait().cause
    assert isinstance(cause, ConnectionFailed)
    assert "no virtual line: Too many open files (close some files, or allow more" in str(cause)
    assert isinstance(cause.__cause__, OSError)
    assert (sim.connections, sim.history) == (0, ())
    sim.advance(1)
    assert client.state is State.READY
    assert (sim.connections, len(sim.history), few.asked) == (1, 1, 2)


def test_a_refused_line_leaves_nothing_open(sim: VirtualSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptors are released at once."""
    pairs: list[tuple[socket.socket, socket.socket]] = []

    def pair() -> tuple[socket.socket, socket.socket]:
        pairs.append(socket.socketpair())
        return pairs[-1]

    monkeypatch.setattr("allenhark_ws.testing._line.socket", SimpleNamespace(socketpair=pair))
    sim.refuse()
    sim.client().start()
    sim.advance(1)
    assert {end.fileno() for both in pairs for end in both} <= {-1}


def test_a_wrong_key(sim: VirtualSimulator) -> None:
    """It is refused as by the simulator; so is a good one when the server says so."""
    with pytest.raises(AuthenticationError, match="invalid API key"):
        sim.client("wrong").connect()
    sim.reject_auth("key expired", code=401)
    with pytest.raises(AuthenticationError, match="key expired"):
        sim.client().connect()
    sim.reject_auth(None)
    assert sim.client().connect().state is State.READY


def test_a_key_that_rotates(sim: VirtualSimulator) -> None:
    """The callable is asked on a thread of its own, on every connection; that is waited for."""
    asked: list[str] = []

    def key() -> str:
        threading.Event().wait(0.01)
        asked.append(sim.api_key)
        return sim.api_key

    client = sim.client(key).connect()
    for _ in range(3):
        sim.advance(60)
        sim.reset()
        assert client.state is State.READY
    assert len(asked) == 4


def test_close_codes_and_errors_arrive(sim: VirtualSimulator) -> None:
    """As from a server on the network; the key is redacted in a reason."""
    client = sim.client()
    stream = client.stream(Disconnected, ServerError, InvalidMessage)
    client.connect()
    sim.send_error("no such channel", code=7)
    assert sim.send_raw("nonsense") == 1
    assert sim.send_raw(b"{}") == 1
    sim.advance(30)  # stable, so that the client comes back at once
    sim.close(1012, f"bye {sim.api_key}")
    sim.advance(30)
    sim.close(None)
    sim.advance(30)
    sim.reset()
    error, text, binary, *losses = drained(stream)
    assert (error.message, error.code) == ("no such channel", 7)
    assert text.reason.startswith("not JSON")
    assert binary.reason.startswith("binary frame")
    assert [(loss.code, loss.reason) for loss in losses] == [(1012, "bye [redacted]"), (1005, ""), (1006, "")]
    assert client.stats.reconnects == 3


def test_what_the_server_has_seen(sim: VirtualSimulator) -> None:
    """Members look at what the client has said by now, without a wait in between."""
    client = sim.client().connect()
    client.subscribe(M, Transactions("W"))
    assert sim.subscriptions == {M, Transactions("W")}
    client.unsubscribe(M)
    assert sim.subscriptions == {Transactions("W")}
    assert sim.connections == 1
    sim.reset()
    assert sim.connections == 0
    sim.advance(1)
    kinds = [[message["type"] for message in connection] for connection in sim.history]
    assert kinds == [["auth", "ping", "subscribe", "subscribe", "unsubscribe"], ["auth", "ping", "subscribe"]]
    assert sim.received == [message for connection in sim.history for message in connection]
    client.close()
    assert (sim.connections, sim.subscriptions) == (0, frozenset())
    assert sim.violations == []


def test_several_clients_share_the_time(sim: VirtualSimulator) -> None:
    """Each beats at its own pace, one that ended disturbs nobody."""
    slow, quick = sim.client(heartbeat_interval=60.0).connect(), sim.client(heartbeat_interval=7.0).connect()
    sim.client("wrong").start()
    sim.client().connect().close()
    sim.advance(420)
    assert [stats.messages_sent for stats in (slow.stats, quick.stats)] == [2 + 7, 2 + 60]
    assert sim.connections == 2


def test_a_blocked_stream_is_rest(sim: VirtualSimulator) -> None:
    """A full stream with ``overflow="block"`` holds the connection up until somebody reads; nothing is lost."""
    client = sim.client()
    stream = client.stream(M, maxsize=1, overflow="block")
    client.connect()
    for number in range(4):
        sim.publish(price("M", number))
    sim.advance(3600)
    assert client.state is State.READY
    assert [stream.get(timeout=PATIENCE).price for _ in range(4)] == [0, 1, 2, 3]


def test_flush_and_close_take_no_time(sim: VirtualSimulator) -> None:
    """The verbs that wait for the server are answered at once."""
    client = sim.client().connect()
    assert client.flush(PATIENCE) == 0.0
    client.close()
    assert sim.now == START
    with pytest.raises(ClientClosed):
        client.flush()


def test_leaving_closes_the_clients() -> None:
    """Whatever state they are in; what their callbacks are told last is `Closed`."""
    told: list[LifecycleEvent] = []
    with VirtualSimulator() as sim:
        clients = [sim.client().connect(), sim.client()]
        clients[0].on(LifecycleEvent, told.append)
    assert [client.state for client in clients] == [State.CLOSED, State.CLOSED]
    assert [type(event).__name__ for event in told] == ["Closed"]


def test_the_simulator_holds_its_clients(sim: VirtualSimulator) -> None:
    """A test may let go of them; afterwards nobody holds them."""
    reference = weakref.ref(sim.client().connect())
    gc.collect()
    assert reference() is not None
    assert sim.connections == 1
    sim.close_clients()
    assert sim.connections == 0
    gc.collect()
    assert reference() is None


def test_other_threads_may_use_the_client(sim: VirtualSimulator) -> None:
    """A thread that waits on a stream gets what is published."""
    client = sim.client()
    stream, seen = client.stream(M), list[float]()
    thread = run_aside(lambda: seen.extend(float(update.price) for update in stream))
    client.connect()
    for number in range(10):
        sim.publish(price("M", number))
    client.close()
    thread.join(PATIENCE)
    assert seen == list(range(10))


def test_the_start_is_the_users(sim: VirtualSimulator) -> None:
    """Any aware moment, told in UTC."""
    east = timezone(timedelta(hours=5))
    other = VirtualSimulator(start=datetime(2030, 1, 1, 5, tzinfo=east))
    assert other.now == datetime(2030, 1, 1, tzinfo=timezone.utc)
    assert other.now.tzinfo is timezone.utc
    assert repr(other) == "<VirtualSimulator at 2030-01-01 00:00:00, clients: 0>"


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (lambda _: VirtualSimulator(()), "at least one key"),
        (lambda _: VirtualSimulator(start=datetime(2024, 1, 1)), "aware datetime"),  # noqa: DTZ001 - the mistake
        (lambda sim: sim.client(url="ws://127.0.0.1:1/"), "takes no url"),
        (lambda sim: sim.client(heartbeat_interval=0), "heartbeat_interval"),
        (lambda sim: sim.advance(-1), "0 or more"),
        (lambda sim: sim.advance(float("nan")), "finite, got nan"),
        (lambda sim: sim.publish({"type": "pong"}), "send_raw"),
        (lambda sim: sim.send_raw(3), "text or bytes"),
        (lambda sim: sim.close(1006), "no close code"),
    ],
)
def test_mistakes(sim: VirtualSimulator, mistake: Any, told: str) -> None:
    """Each is told at once, with what to do."""
    error = outcome(lambda: mistake(sim))
    assert isinstance(error, (ValueError, TypeError, ConfigurationError))
    assert told in str(error)
