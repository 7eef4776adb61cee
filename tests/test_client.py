"""The public verbs: in every state, from every kind of thread, with right and with wrong arguments."""

from __future__ import annotations

import contextlib
import copy
import gc
import logging
import pickle
import queue
import socket
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from decimal import Decimal
from functools import partial
from typing import Any, cast

import pytest

pytest.importorskip("websockets", reason="needs the extra testing")


from allenhark_ws import (
    AuthenticationError,
    Backoff,
    Bot,
    CallbackError,
    CertificateRejected,
    Channel,
    Client,
    ClientClosed,
    Closed,
    ConfigurationError,
    Connected,
    ConnectionFailed,
    ConnectTimeout,
    Event,
    FlushTimeout,
    HandshakeRejected,
    LifecycleEvent,
    Price,
    PriceUpdate,
    Reconnecting,
    RequestRejected,
    State,
    Stats,
    Stream,
    StreamClosed,
    Subscription,
    Transactions,
    UnknownMessage,
    _process,
)
from allenhark_ws._loop import FlushTicket
from allenhark_ws._router import Router

from . import peers
from .patience import PATIENCE
from .scripted import (
    Scripted,
    await_end,
    chain,
    client_of,
    outcome,
    outcome_aside,
    price,
    run_aside,
    threads_of,
)
from .simulators import Simulator

FOREVER = Backoff(initial=1000.0, maximum=1000.0)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A simulator of its own for each test."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def mute_port() -> Iterator[int]:
    """A port where TCP connects and nobody ever answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def callback(_: Event) -> None:
    """Does nothing."""


VERBS: dict[str, Callable[[Client], object]] = {
    "start": Client.start,
    "reconnect": Client.reconnect,
    "subscribe": lambda client: client.subscribe(Price("m"), callback=callback),
    "unsubscribe": lambda client: client.unsubscribe(Price("m")),
    "on": lambda client: client.on(Event, callback),
    "off": lambda client: client.off(callback),
    "stream": lambda client: client.stream(Price("m")),
    "latest": lambda client: client.latest(Price("m")),
    "state": lambda client: client.state,
    "subscriptions": lambda client: client.subscriptions,
    "stats": lambda client: client.stats,
    "error": lambda client: client.error,
    "repr": repr,
}
"""Every verb that waits for nothing; `close` has tests of its own."""

RETURNS: dict[str, Any] = {
    "start": Client,
    "reconnect": type(None),
    "subscribe": Subscription,
    "unsubscribe": type(None),
    "on": type(callback),
    "off": type(None),
    "stream": Stream,
    "latest": type(None),
    "state": State,
    "subscriptions": frozenset,
    "stats": Stats,
    "error": (type(None), ConnectionFailed),
    "repr": str,
}
FINAL = {"start", "reconnect", "subscribe", "stream", "connect", "flush"}
"""Verbs that a closed client refuses."""
WAITING: dict[str, Callable[[Client], object]] = {"connect": Client.connect, "flush": Client.flush}


@contextlib.contextmanager
def in_state(state: str) -> Generator[Client]:
    """A client in a state in which it stays by itself."""
    with Scripted(backoff=FOREVER) as s:
        if state == "CONNECTING":
            s.server.hang = True
            s.client.start()
            s.server.wait_for(lambda: s.server.wires)
        elif state == "READY":
            s.ready()
        elif state == "BACKOFF":
            s.server.refusals.append(ConnectionFailed("refused"))
            s.client.start()
            s.settle()
        elif state == "CLOSED":
            s.client.close()
        assert s.client.state.name == state
        yield s.client


@pytest.mark.parametrize("run", [outcome, outcome_aside], ids=["main thread", "other thread"])
@pytest.mark.parametrize("state", ["IDLE", "CONNECTING", "READY", "BACKOFF"])
@pytest.mark.parametrize("verb", VERBS)
def test_verbs_in_open_states(verb: str, state: str, run: Callable[[Callable[[], object]], object]) -> None:
    """None of them waits or fails, whatever the client is doing."""
    with in_state(state) as client:
        assert isinstance(run(lambda: VERBS[verb](client)), RETURNS[verb])


@pytest.mark.parametrize("inline", [False, True], ids=["callback thread", "I/O thread"])
@pytest.mark.parametrize("verb", VERBS)
def test_verbs_in_callbacks(verb: str, inline: bool) -> None:
    """They work on our own threads too."""
    with Scripted(inline_callbacks=inline) as s:
        results: queue.SimpleQueue[object] = queue.SimpleQueue()
        s.client.on(UnknownMessage, lambda _: results.put(outcome(lambda: VERBS[verb](s.client))))
        s.ready()
        s.wire.push({"type": "go"})
        assert isinstance(results.get(timeout=PATIENCE), RETURNS[verb])


@pytest.mark.parametrize("how", ["closed", "failed"])
@pytest.mark.parametrize("verb", [*VERBS, *WAITING])
def test_closed_is_final(verb: str, how: str) -> None:
    """What begins something raises the terminal error or `ClientClosed`; what ends or asks something still works."""
    with Scripted(backoff=Backoff(max_attempts=1)) as s:
        if how == "failed":
            s.server.refusals.append(ConnectionFailed("refused"))
            assert isinstance(outcome(s.client.connect), ConnectionFailed)
        s.client.close()
        result = outcome(lambda: (VERBS | WAITING)[verb](s.client))
        if verb not in FINAL:
            assert isinstance(result, RETURNS[verb])
        elif how == "failed":
            assert result is s.client.error
        else:
            assert isinstance(result, ClientClosed)
        assert s.client.state is State.CLOSED


@pytest.mark.parametrize("inline", [False, True], ids=["callback thread", "I/O thread"])
def test_closed_is_final_in_the_last_callback(inline: bool) -> None:
    """`Closed` is delivered to a client that has ended already."""
    with Scripted(inline_callbacks=inline) as s:
        results: list[object] = []
        for verb in sorted(FINAL - WAITING.keys()):
            s.client.on(Closed, lambda _, verb=verb: results.append(outcome(lambda: VERBS[verb](s.client))))
        s.client.on(Closed, lambda _: s.client.close())
        s.ready()
        s.client.close()
        assert [type(result) for result in results] == [ClientClosed] * 4
        assert s.client.stats.callback_errors == 0


def test_reading_what_is_queued_after_the_end(sim: Simulator) -> None:
    """A closed client's streams can be drained; then iteration ends quietly and `get` says so."""
    with client_of(sim) as client:
        stream = client.stream(Price("m"))
        client.flush()
        sim.publish(price("m"))
        client.flush()
    assert [event.price for event in stream] == [1.0]
    with pytest.raises(StreamClosed):
        stream.get()


class ClosingRouter:
    """A router whose client is closed by somebody just before a stream is added."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._router = client._router

    def add_queue(self, *arguments: Any) -> None:
        """Close, and go on as if nothing were."""
        self._client.close()
        self._router.add_queue(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)


def test_a_stream_made_while_the_client_ends_ends_too() -> None:
    """It must not wait for an end that was told already."""
    with Scripted() as s:
        s.ready()
        s.client._router = ClosingRouter(s.client)  # type: ignore[assignment]
        stream = s.client.stream(PriceUpdate)
        assert isinstance(outcome(lambda: stream.get(timeout=PATIENCE)), StreamClosed)


def test_edits_before_the_start_cost_no_memory() -> None:
    """A program that subscribes, streams and flushes without end, and starts late, begins with what it wants then."""
    with Scripted() as s:
        s.client.subscribe(Price("kept"))
        for _ in range(1000):
            s.client.subscribe(Price("m")).close()
            s.client.subscribe(Price("n"))
            s.client.unsubscribe(Price("n"))
            s.client.stream(Price("o")).close()
            assert isinstance(outcome(lambda: s.client.flush(0)), FlushTimeout)
        assert len(s.client._loop._driver.mailbox) < 10
        s.client.subscribe(Price("last"))
        s.ready()
        s.client.flush(PATIENCE)
        assert [m["mint"] for m in s.wire.sent if m["type"] == "subscribe"] == ["kept", "last"]


def test_a_stream_forgotten_before_the_start_lets_go_of_its_channel() -> None:
    """At once for whoever looks, at no cost in memory, and nothing of it is left at the start."""
    with Scripted() as s:
        kept = s.client.stream(Price("kept"))
        for _ in range(1000):
            s.client.stream(Price("m"), Price("kept"))
        gc.collect()
        assert len(s.client._loop._driver.mailbox) < 10
        assert s.client.subscriptions == {Price("kept")}
        s.client.stream(Price("n"))
        gc.collect()
        s.ready()
        s.client.flush(PATIENCE)
        assert [m["mint"] for m in s.wire.sent if m["type"] == "subscribe"] == ["kept"]
        assert kept.empty()


class ForestallingRouter:
    """A router whose event comes the very moment a channel is wanted."""

    def __init__(self, s: Scripted) -> None:
        self._s = s
        self._router = s.client._router

    def hold(self, *arguments: Any) -> None:
        """Want it, and deliver."""
        self._router.hold(*arguments)
        self._s.wire.push(price("m"))
        self._s.settle()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)


def test_the_first_event_of_a_channel_is_not_lost() -> None:
    """Stream and callback are in their places before the channel is asked for."""
    with Scripted(inline_callbacks=True) as s:
        s.ready()
        s.client._router = ForestallingRouter(s)  # type: ignore[assignment]
        called: list[Event] = []
        stream = s.client.stream(Price("m"))
        assert stream.qsize() == 1
        s.client.subscribe(Price("m"), callback=called.append)
        assert len(called) == 1


# --- Connecting


def test_connect_returns_the_client_and_may_be_repeated(sim: Simulator) -> None:
    """On a READY client it returns at once."""
    with client_of(sim) as client:
        assert client.state is State.READY
        assert client.connect() is client
        assert client.connect(0) is client
        assert client.start() is client
    assert [m["type"] for m in sim.received] == ["auth", "ping"]


def test_connect_retries_within_its_timeout(sim: Simulator) -> None:
    """A server that is away for a moment is no failure."""
    sim.refuse()
    with contextlib.closing(client_of(sim)) as client:
        tries = client.stream(Reconnecting)
        thread = run_aside(lambda: client.connect(PATIENCE))
        for _ in range(3):
            tries.get(timeout=PATIENCE)
        sim.refuse(on=False)
        thread.join(PATIENCE)
        assert client.state is State.READY


def test_connect_timeout_closes_the_client_and_tells_the_last_failure(sim: Simulator) -> None:
    """`ConnectTimeout` is the terminal error from then on; the last failure is its cause."""
    sim.refuse()
    client = client_of(sim)
    with pytest.raises(ConnectTimeout) as caught:
        client.connect(0.1)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert isinstance(error.__cause__, ConnectionFailed)
    assert error.timeout == 0.1
    assert error.attempts
    assert client.error is error
    assert client.state is State.CLOSED
    for verb in FINAL:
        assert outcome(partial((VERBS | WAITING)[verb], client)) is error
    assert outcome(client.run_forever) is error


def give_up_at(client: Client, phase: str) -> ConnectTimeout:
    """Let the first attempt get as far as that, and connect in vain."""
    client.start()
    while client._loop.phase != phase:
        threading.Event().wait(0.001)
    with pytest.raises(ConnectTimeout) as caught:
        client.connect(0.05)
    assert client.state is State.CLOSED
    return caught.value


@pytest.mark.parametrize(("scheme", "phase"), [("ws", "WebSocket upgrade at"), ("wss", "TLS handshake with")])
def test_connect_timeout_during_the_first_attempt(mute_port: int, scheme: str, phase: str) -> None:
    """Without any failure yet the cause and the text say what it was at."""
    where = f"127.0.0.1:{mute_port}"
    error = give_up_at(Client("k", url=f"{scheme}://{where}/"), f"{phase} {where}")
    assert error.reason == f"the first attempt was still under way: {phase} {where}"
    assert isinstance(error.__cause__, ConnectionFailed)
    assert error.__cause__.reason == error.reason


def test_connect_timeout_while_the_key_is_asked_for(mute_port: int) -> None:
    """Likewise: a program's own function may be what takes so long."""
    answer = threading.Event()
    client = Client(lambda: str(answer.wait(PATIENCE)), url=f"ws://127.0.0.1:{mute_port}/")
    assert give_up_at(client, "calling api_key").reason.endswith("still under way: calling api_key")
    answer.set()


def test_connect_timeout_before_the_first_pong(sim: Simulator) -> None:
    """Likewise: whether the key was accepted is not known."""
    sim.mute_pongs()
    reason = give_up_at(client_of(sim), "waiting for the first pong").reason
    assert reason.endswith("still under way: waiting for the first pong")


def test_connect_timeout_defaults_to_the_setting(mute_port: int) -> None:
    """`connect()` without a timeout takes `connect_timeout`."""
    with pytest.raises(ConnectTimeout, match=r"0\.05 s"):
        Client("k", url=f"ws://127.0.0.1:{mute_port}/", connect_timeout=0.05).connect()


def test_connect_on_a_client_closed_meanwhile(mute_port: int) -> None:
    """Whoever waits is told."""
    client = Client("k", url=f"ws://127.0.0.1:{mute_port}/")
    results: list[object] = []
    thread = run_aside(lambda: results.append(outcome(lambda: client.connect(PATIENCE))))
    while client.state is State.IDLE:
        threading.Event().wait(0.001)
    client.close()
    thread.join(PATIENCE)
    assert [type(result) for result in results] == [ClientClosed]


def test_a_wrong_key_raises_at_once(sim: Simulator) -> None:
    """In the user's thread, and it ends the client."""
    client = client_of(sim, "wrong")
    with pytest.raises(AuthenticationError, match="invalid API key") as caught:
        client.connect(PATIENCE)
    assert client.error is caught.value
    assert outcome(client.run_forever) is caught.value
    assert len(sim.history) == 1


def test_a_wrong_key_raises_in_with_and_run_forever(sim: Simulator) -> None:
    """The other two ways to begin."""
    with pytest.raises(AuthenticationError), client_of(sim, "wrong"):
        pytest.fail("the body must not run")
    with pytest.raises(AuthenticationError):
        client_of(sim, "wrong").run_forever()


def test_an_unverified_certificate_raises_at_once() -> None:
    """The system's certificates do not know the simulator's authority."""
    with Simulator(tls=True) as sim, pytest.raises(CertificateRejected, match="localhost"):
        client_of(sim, ssl_context=None).connect(PATIENCE)


@pytest.mark.parametrize("status", [401, 403])
def test_http_refusal_of_the_key_raises_at_once(status: int) -> None:
    """401 and 403 on the upgrade are of the terminal class."""

    def refuse(conn: socket.socket) -> None:
        peers.read_head(conn)
        conn.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())

    with peers.peer(refuse) as server, pytest.raises(AuthenticationError) as caught:
        Client("k", url=f"ws://127.0.0.1:{server.port}/").connect(PATIENCE)
    assert caught.value.code == status


def test_other_http_statuses_are_retried_until_the_attempts_are_used_up() -> None:
    """`max_attempts` ends the client with `ConnectionFailed`, the last failure its cause."""

    def busy(conn: socket.socket) -> None:
        peers.read_head(conn)
        conn.sendall(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")

    backoff = Backoff(initial=0.001, maximum=0.001, max_attempts=2)
    with peers.peer(busy, busy) as server, pytest.raises(ConnectionFailed) as caught:
        Client("k", url=f"ws://127.0.0.1:{server.port}/", backoff=backoff).connect(PATIENCE)
    assert caught.value.attempts == 2
    assert isinstance(caught.value.__cause__, HandshakeRejected)


# --- Closing


@pytest.mark.parametrize("state", ["IDLE", "CONNECTING", "READY", "BACKOFF", "CLOSED"])
def test_close_in_every_state(state: str) -> None:
    """It ends the client, tells every consumer last of all, leaves no thread, and may be repeated."""
    with in_state(state) as client:
        told: list[Event] = []
        client.on(Closed, told.append)
        stream = client.stream(LifecycleEvent) if state != "CLOSED" else None
        client.close()
        client.close()
        assert client.state is State.CLOSED
        assert client.error is None
        assert client.stats.connected_since is None
        if stream is not None:
            assert list(stream) == told == [Closed(None)]
        assert threads_of(client) == []


def test_close_from_many_threads_at_once(sim: Simulator) -> None:
    """All of them return, and `Closed` comes once."""
    client = client_of(sim).connect()
    told: list[Event] = []
    client.on(Closed, told.append)
    threads = [run_aside(client.close) for _ in range(16)]
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert told == [Closed(None)]


def test_close_of_a_client_never_started_delivers_on_the_callback_thread() -> None:
    """A stuck handler of `Closed` does not hang `close()` there either."""
    with Scripted() as s:
        gate, names = threading.Event(), []
        s.client.on(Closed, lambda _: (names.append(threading.current_thread().name), gate.wait(PATIENCE)))
        s.client.close(0.05)
        assert s.client.state is State.CLOSED
        gate.set()
        s.client.close()
        s.client._loop.callbacks.join(time.monotonic() + PATIENCE)
        assert [name.partition("-")[0] for name in names] == ["allenhark"]


@pytest.mark.parametrize("inline", [False, True], ids=["callback thread", "I/O thread"])
def test_close_in_a_callback(sim: Simulator, inline: bool) -> None:
    """It neither waits for itself nor keeps what is queued from being delivered."""
    with client_of(sim, inline_callbacks=inline) as client:
        got: list[str] = []

        @client.on(PriceUpdate)
        def first(event: PriceUpdate) -> None:
            got.append(type(event).__name__)
            client.close()

        client.on(Closed, lambda event: got.append(type(event).__name__))
        client.subscribe(Price("m"))
        client.flush()
        sim.publish(price("m"))
        await_end(client)
    assert got == ["PriceUpdate", "Closed"]
    assert first is not None


def test_close_delivers_what_is_queued_for_callbacks(sim: Simulator) -> None:
    """All events that had arrived, in order, and `Closed` behind them."""
    got: list[Any] = []
    gate = threading.Event()
    client = client_of(sim).connect()
    client.on(Closed, got.append)
    client.subscribe(Price("m"), callback=lambda event: (gate.wait(PATIENCE), got.append(event.price)))
    client.flush()
    for n in range(200):
        sim.publish(price("m", float(n)))
    client.flush()
    gate.set()
    client.close()
    assert got == [*map(float, range(200)), Closed(None)]


def test_errors_of_the_last_callbacks_are_told(sim: Simulator) -> None:
    """Of those that run while the client closes too, before `Closed`."""
    got: list[object] = []
    gate = threading.Event()

    def note(told: Any) -> None:
        got.append(told.event.price)

    client = client_of(sim).connect()
    client.on(CallbackError, note)
    client.on(Closed, got.append)
    client.subscribe(Price("m"), callback=lambda _: gate.wait(PATIENCE) and 1 / 0)
    client.flush()
    for n in range(3):
        sim.publish(price("m", float(n)))
    client.flush()
    closing = run_aside(client.close)
    sim.wait_for(lambda: sim.connections == 0)
    gate.set()
    closing.join(PATIENCE)
    assert got == [0.0, 1.0, 2.0, Closed(None)]


@pytest.mark.parametrize("inline", [False, True])
def test_an_error_of_the_last_callback_is_let_go(sim: Simulator, inline: bool) -> None:
    """Nobody is told of it any more, so nobody keeps what its traceback holds."""
    held: list[weakref.ref[object]] = []

    class Large:
        pass

    def bad(_: Event) -> None:
        large = Large()
        held.append(weakref.ref(large))
        raise ValueError

    client = client_of(sim, inline_callbacks=inline)
    client.on(Closed, bad)
    logging.getLogger("allenhark_ws").propagate = False
    try:
        with client:
            pass
    finally:
        logging.getLogger("allenhark_ws").propagate = True
    gc.collect()
    assert client.stats.callback_errors == 1
    assert held[0]() is None


def test_close_with_a_stuck_callback_gives_up_at_the_deadline(sim: Simulator) -> None:
    """The connection is closed properly all the same."""
    gate, entered = threading.Event(), threading.Event()
    client = client_of(sim).connect()
    client.subscribe(Price("m"), callback=lambda _: (entered.set(), gate.wait(PATIENCE)))
    client.flush()
    sim.publish(price("m"))
    assert entered.wait(PATIENCE)
    client.close(0.1)
    assert client.state is State.CLOSED
    sim.wait_for(lambda: sim.connections == 0)
    gate.set()


@pytest.mark.parametrize("tls", [False, True])
def test_close_with_a_mute_server_is_bounded(tls: bool) -> None:
    """A server that never answers our close frame costs a second, however long `close` might take."""
    with Simulator(tls=tls) as sim:
        client = client_of(sim).connect()
        sim.stall()
        thread = run_aside(lambda: client.close(timeout=1000.0))
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert client.state is State.CLOSED


@pytest.mark.parametrize("inline", [False, True])
def test_close_with_a_mute_server_tells_everybody_in_time(inline: bool) -> None:
    """Less time than the goodbye may take is not all spent on it: `Closed` is told before `close` returns."""
    with Simulator() as sim:
        client = client_of(sim, inline_callbacks=inline).connect()
        told: list[Event] = []
        client.on(Closed, told.append)
        stream = client.stream(Closed)
        sim.stall()
        client.close(0.9)
        assert told == [Closed(None)]
        assert list(stream) == told


def test_a_client_that_may_not_wait_is_closed_at_once(sim: Simulator) -> None:
    """`close(0)` does not wait for the threads, but closed is final."""
    client = client_of(sim).connect()
    client.close(0)
    assert client.state is client.stats.state is State.CLOSED
    client.close()


def test_close_while_tcp_is_accepted_and_nothing_else(mute_port: int) -> None:
    """The hanging upgrade is interrupted."""
    client = Client("k", url=f"ws://127.0.0.1:{mute_port}/").start()
    client.close()
    assert not client._loop._thread.is_alive()


def test_close_during_name_resolution(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up cannot be interrupted, so it is left behind."""
    gate, asked = threading.Event(), threading.Event()

    def look_up(host: str, *_: object, flags: int = 0, **__: object) -> list[Any]:
        if not flags:
            asked.set()
            gate.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_NONAME, "no such host")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    client = Client("k", url="wss://server.invalid/", proxy=False).start()
    assert asked.wait(PATIENCE)
    client.close()
    assert not client._loop._thread.is_alive()
    gate.set()


def test_start_when_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is closed for good, and says why; nothing hangs."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with Scripted() as s:
        stream = s.client.stream(LifecycleEvent)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            error = outcome(s.client.connect)
        assert isinstance(error, ClientClosed)
        assert isinstance(error.__cause__, RuntimeError)
        assert s.client.state is State.CLOSED
        assert list(stream) == [Closed(None)]


def test_start_when_there_are_no_descriptors_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise."""

    def refuse() -> None:
        raise OSError(24, "Too many open files")

    with Scripted() as s:
        monkeypatch.setattr(socket, "socketpair", refuse)
        assert isinstance(outcome(s.client.start), ClientClosed)
        assert s.client.state is State.CLOSED


def interrupting(name: str, *, started: bool) -> Callable[[threading.Thread], None]:
    """`threading.Thread.start`, with Ctrl-C just before or after the thread of this name is started."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        named = thread.name.startswith(name)
        if started or not named:
            start(thread)
        if named:
            raise KeyboardInterrupt

    return interrupted


@pytest.mark.parametrize(
    ("name", "started"), [("allenhark-callbacks", False), ("allenhark-callbacks", True), ("allenhark-io", False)]
)
def test_ctrl_c_before_the_background_thread_runs(monkeypatch: pytest.MonkeyPatch, name: str, *, started: bool) -> None:
    """The client ends, since nothing runs that could end it later."""
    with Scripted() as s:
        stream = s.client.stream(LifecycleEvent)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupting(name, started=started))
            assert isinstance(outcome(s.client.start), KeyboardInterrupt)
        assert s.client.state is State.CLOSED
        assert list(stream) == [Closed(None)]
        s.client.close()
        assert threads_of(s.client) == []


def test_ctrl_c_when_the_background_thread_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client goes on, and can be closed like any other."""
    with Scripted() as s:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", interrupting("allenhark-io", started=True))
            assert isinstance(outcome(s.client.start), KeyboardInterrupt)
        assert s.ready().client.state is State.READY


def test_closing_an_unstarted_client_at_exit_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that is exiting can start none; streams end as ever."""
    with Scripted() as s:
        called: list[Event] = []
        s.client.on(Closed, called.append)
        stream = s.client.stream(LifecycleEvent)
        monkeypatch.setattr(_process, "_exiting", [True])
        s.client.close()
        assert list(stream) == [Closed(None)]
        assert called == []


# --- run_forever


def test_run_forever_returns_when_the_client_is_closed(sim: Simulator) -> None:
    """Quietly; and everything queued for callbacks was delivered by then."""
    client = client_of(sim)
    got: list[Event] = []
    client.on(Closed, got.append)
    client.on(Connected, lambda _: client.close())
    client.run_forever()
    assert got == [Closed(None)]
    with pytest.raises(ClientClosed):
        client.run_forever()


def test_run_forever_raises_a_later_terminal_error(sim: Simulator) -> None:
    """A key revoked twice in a row ends a client that was READY."""
    client = client_of(sim)
    client.on(Connected, lambda _: (sim.reject_auth(), sim.reset()))
    with pytest.raises(AuthenticationError):
        client.run_forever()


def test_run_forever_in_a_callback_is_refused(sim: Simulator) -> None:
    """The callbacks would wait for themselves."""
    with client_of(sim) as client:
        results: queue.SimpleQueue[object] = queue.SimpleQueue()
        client.on(UnknownMessage, lambda _: results.put(outcome(client.run_forever)))
        sim.send_raw('{"type":"go"}')
        assert isinstance(results.get(timeout=PATIENCE), RuntimeError)


# --- Subscriptions


def test_a_channel_is_subscribed_once_for_all_its_consumers(sim: Simulator) -> None:
    """First in subscribes, last out unsubscribes, whoever they are."""
    with client_of(sim) as client:
        first = client.subscribe(Price("m"), Bot("b"))
        second = client.subscribe(Price("m"))
        stream = client.stream(Price("m"))
        client.flush()
        assert sim.subscriptions == {Price("m"), Bot("b")}
        first.close()
        first.close()
        second.close()
        client.flush()
        assert sim.subscriptions == client.subscriptions == {Price("m")}
        stream.close()
        client.flush()
        assert sim.subscriptions == client.subscriptions == frozenset()
        requests = [(m["type"], m["channel"]) for m in sim.received if "channel" in m]
    assert requests == [("subscribe", "price"), ("subscribe", "bot"), ("unsubscribe", "bot"), ("unsubscribe", "price")]
    assert sim.violations == []


def test_unsubscribe_drops_a_channel_whatever_holds_it(sim: Simulator) -> None:
    """Handles and streams that held it lose nothing else, and do not bring it back."""
    with client_of(sim) as client, client.subscribe(Price("m"), Price("n")) as handle:
        stream = client.stream(Price("m"))
        client.unsubscribe(Price("m"), Price("unknown"))
        client.flush()
        assert sim.subscriptions == {Price("n")}
        again = client.subscribe(Price("m"))
        stream.close()
        handle.close()
        client.flush()
        assert sim.subscriptions == {Price("m")}
        assert again.channels == (Price("m"),)
        assert repr(again) == "<Subscription Price(mint='m')>"


def test_subscriptions_made_before_the_start_go_out_with_the_connection(sim: Simulator) -> None:
    """In the order in which they were wanted; those given up again do not."""
    client = client_of(sim)
    client.subscribe(Transactions("w"))
    with client.subscribe(Bot("b")):
        client.subscribe(Price("m"))
    with client:
        client.flush()
        assert [m["channel"] for m in sim.received if "channel" in m] == ["transactions", "price"]


def test_a_dropped_handle_stays_subscribed(sim: Simulator) -> None:
    """It is the explicit `close()` that undoes."""
    with client_of(sim) as client:
        client.subscribe(Price("m"))
        client.flush()
        assert client.subscriptions == {Price("m")}


def test_subscription_callbacks_get_their_channels_only(sim: Simulator) -> None:
    """And no more after `close()`."""
    with client_of(sim) as client:
        got: list[str] = []
        handle = client.subscribe(Price("a"), Price("b"), callback=lambda event: got.append(event.mint))
        client.subscribe(Price("c"))
        client.flush()
        for mint in "abc":
            sim.publish(price(mint))
        client.flush()
        sim.wait_for(lambda: got == ["a", "b"])
        client.subscribe(Price("a"))
        handle.close()
        client.flush()
        sim.publish(price("a"))
        client.flush()
    assert got == ["a", "b"]


def test_on_matches_base_classes_and_channels_and_subscribes_nothing(sim: Simulator) -> None:
    """As a decorator and as a plain call, both returning the callback; `off` undoes all of one."""
    with client_of(sim) as client:
        got: list[str] = []

        @client.on(Event)
        def everything(event: Event) -> None:
            got.append(f"all {type(event).__name__}")

        def one(event: PriceUpdate) -> None:
            got.append(f"one {event.mint}")

        assert client.on(Price("m"), one) is one
        assert client.on(PriceUpdate, one) is one
        assert callable(everything)
        assert client.subscriptions == frozenset()
        client.subscribe(Price("m"), Price("n"))
        client.flush()
        sim.publish(price("m"))
        sim.wait_for(lambda: "one m" in got)
        client.off(one)
        sim.publish(price("n"))
        client.flush()
    assert [entry for entry in got if "Pong" not in entry] == [
        "all PriceUpdate",
        "one m",
        "all PriceUpdate",
        "all Closed",
    ]


def test_latest(sim: Simulator) -> None:
    """The last event of a wanted channel, without any consumer; forgotten with the channel."""
    with client_of(sim) as client:
        client.subscribe(Price("m"))
        assert client.latest(Price("m")) is None
        client.flush()
        sim.publish(price("m", 1.0))
        sim.publish(price("m", 2.0))
        client.flush()
        assert client.latest(Price("m")) == client.latest(Price("m"))
        assert client.latest(Price("m")).price == 2.0
        assert client.latest(Price("n")) is None
        client.unsubscribe(Price("m"))
        assert client.latest(Price("m")) is None


def test_a_stream_without_kinds_gets_every_data_event(sim: Simulator) -> None:
    """And nothing else, and subscribes nothing."""
    with client_of(sim) as client:
        stream = client.stream()
        client.subscribe(Price("m"), Bot("b"))
        client.flush()
        sim.publish(price("m"))
        sim.publish({"type": "bot_update", "botId": "b", "event": "started", "data": {}})
        client.flush()
        assert [type(stream.get_nowait()).__name__ for _ in range(2)] == ["PriceUpdate", "BotUpdate"]
        assert stream.empty()


# --- flush


def test_flush_returns_the_round_trip(sim: Simulator) -> None:
    """In seconds, and the server has seen everything before it."""
    with client_of(sim) as client:
        client.subscribe(*(Price(f"m{n}") for n in range(100)))
        assert 0 < client.flush() < PATIENCE
        assert len(sim.subscriptions) == 100


def test_a_flush_leaves_nothing_to_the_collector(sim: Simulator) -> None:
    """Errors may be large: they go with the exception that told them."""
    with client_of(sim) as client:
        client.flush(PATIENCE)
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                client.flush(PATIENCE)
            tickets = [each for each in gc.get_objects() if isinstance(each, FlushTicket)]
        finally:
            gc.enable()
    assert tickets == []


def test_flush_waits_for_ready_over_a_reconnect(sim: Simulator) -> None:
    """Its ping was lost with the connection; the next connection's is what counts."""
    with client_of(sim) as client:
        sim.mute_pongs()
        results: list[object] = []
        thread = run_aside(lambda: results.append(outcome(lambda: client.flush(PATIENCE))))
        sim.wait_for(lambda: [m["type"] for m in sim.received].count("ping") == 2)
        sim.reset()
        sim.mute_pongs(on=False)
        thread.join(PATIENCE)
        assert isinstance(results[0], float)
        assert client.stats.reconnects == 1


def test_flush_timeout(sim: Simulator) -> None:
    """Also of a client that was never started; the client stays as it is."""
    with client_of(sim) as client:
        sim.mute_pongs()
        with pytest.raises(FlushTimeout) as caught:
            client.flush(0.05)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.timeout == 0.05
        assert client.state is State.READY
    with contextlib.closing(client_of(sim)) as idle, pytest.raises(FlushTimeout):
        idle.flush(0)


def test_flush_raises_what_the_server_answered(sim: Simulator) -> None:
    """`RequestRejected` carries the errors, once."""
    with client_of(sim) as client:
        errors = client.stream(Connected, UnknownMessage)
        client.subscribe(Price("nonsense"))
        sim.wait_for(lambda: sim.subscriptions)
        sim.send_error("no such mint", 404)
        with pytest.raises(RequestRejected, match="no such mint") as caught:
            client.flush()
        assert [(e.message, e.code) for e in caught.value.errors] == [("no such mint", 404)]
        client.flush()
        assert errors.empty()


def test_flush_of_a_client_that_ends_meanwhile(sim: Simulator) -> None:
    """It does not wait for its timeout."""
    with client_of(sim) as client:
        sim.mute_pongs()
        results: list[object] = []
        thread = run_aside(lambda: results.append(outcome(lambda: client.flush(1000))))
        sim.wait_for(lambda: [m["type"] for m in sim.received].count("ping") == 2)
    thread.join(PATIENCE)
    assert [type(result) for result in results] == [ClientClosed]


def test_events_published_before_the_pong_are_in_streams_when_flush_returns(sim: Simulator) -> None:
    """So a test may publish, flush and read without waiting."""
    with client_of(sim) as client:
        stream = client.stream(Price("m"))
        client.flush()
        for round_ in range(1, 21):
            for n in range(50):
                sim.publish(price("m", float(n)))
            client.flush()
            assert stream.qsize() == 50 * round_


# --- Settings


def test_settings_from_the_environment(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ALLENHARK_API_KEY` and `ALLENHARK_WS_URL` stand in for the two arguments."""
    monkeypatch.setenv("ALLENHARK_API_KEY", sim.api_key)
    monkeypatch.setenv("ALLENHARK_WS_URL", sim.url)
    with Client() as client:
        assert client.state is State.READY
    monkeypatch.delenv("ALLENHARK_API_KEY")
    with pytest.raises(ConfigurationError, match="ALLENHARK_API_KEY"):
        Client()


def test_the_vendors_endpoint_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without argument and environment."""
    monkeypatch.delenv("ALLENHARK_WS_URL", raising=False)
    assert repr(Client("k")) == "<Client for wss://api.allenhark.com/v1/ws IDLE, 0 channels>".replace("for ", "")


def test_decimal_numbers(sim: Simulator) -> None:
    """Every digit of the frame."""
    with client_of(sim, decimal=True) as client:
        stream = client.stream(Price("m"))
        client.flush()
        sim.send_raw(
            '{"type":"price_update","mint":"m","price":0.10000000000000000000001,"volume":1e3,"timestamp":"2024-01-15T10:30:00Z"}'
        )
        assert stream.get(timeout=PATIENCE).price == Decimal("0.10000000000000000000001")


def test_headers_travel_with_the_upgrade() -> None:
    """As they were given."""
    requests: list[str] = []

    def note(conn: socket.socket) -> None:
        requests.append(peers.read_head(conn))

    with peers.peer(note) as server:
        url = f"ws://127.0.0.1:{server.port}/x?y=1"
        client = Client("k", url=url, headers={"X-Team": "blue"}, backoff=Backoff(max_attempts=1))
        assert isinstance(outcome(lambda: client.connect(PATIENCE)), ConnectionFailed)
    assert requests[0].startswith("GET /x?y=1 HTTP/1.1\r\n")
    assert "X-Team: blue\r\n" in requests[0]


def test_proxy_false_goes_direct(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says."""
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with client_of(sim, proxy=False) as client:
        assert client.state is State.READY


def test_max_send_rate_reaches_the_server_in_full(sim: Simulator) -> None:
    """Pacing loses and repeats nothing."""
    with client_of(sim, max_send_rate=500.0) as client:
        client.subscribe(*(Price(f"m{n}") for n in range(50)))
        client.flush()
        assert len(sim.subscriptions) == 50
    assert sim.violations == []


WRONG_SETTINGS: list[dict[str, Any]] = [
    {"api_key": 7},
    {"api_key": ""},
    {"api_key": b"key"},
    {"url": "http://127.0.0.1/"},
    {"url": "ws://example.com/"},
    {"url": 7},
    *(
        {name: value}
        for name in ("heartbeat_interval", "pong_timeout", "connect_timeout", "send_timeout")
        for value in (0, -1, "1", None, True, float("nan"), float("inf"))
    ),
    {"backoff": 1},
    {"decimal": "yes"},
    {"callback_buffer": 0},
    {"callback_buffer": 1.5},
    {"callback_overflow": "explode"},
    {"inline_callbacks": 1},
    {"max_send_rate": 0},
    {"ssl_context": "cert.pem"},
    {"proxy": True},
    {"proxy": "ftp://x"},
    {"headers": [1]},
    {"headers": {"Host": "x"}},
    {"max_message_size": -1},
    {"allow_insecure": None},
]


@pytest.mark.parametrize("wrong", WRONG_SETTINGS, ids=repr)
def test_wrong_settings_are_refused_on_construction(wrong: dict[str, Any]) -> None:
    """With a `ConfigurationError` that names the argument."""
    with pytest.raises(ConfigurationError) as caught:
        Client(**({"api_key": "k"} | wrong))
    name = next(iter(wrong))
    assert name in str(caught.value) or "API key" in str(caught.value)


class Token(Price):
    """A user's own kind of channel."""


async def awaited(event: Event) -> None:
    """Does nothing unless it is awaited."""


def iterated(event: Event) -> Iterator[Event]:
    """Does nothing unless it is gone through."""
    yield event


class Awaited:
    """Likewise an object."""

    async def __call__(self, event: Event) -> None:
        """Does nothing unless it is awaited."""


WRONG_CALLS: dict[str, Callable[[Client], object]] = {
    "connect(text)": lambda c: c.connect("1"),  # type: ignore[arg-type]
    "connect(negative)": lambda c: c.connect(-1),
    "connect(nan)": lambda c: c.connect(float("nan")),
    "connect(infinite)": lambda c: c.connect(float("inf")),
    "close(None)": lambda c: c.close(None),  # type: ignore[arg-type]
    "close(negative)": lambda c: c.close(-0.1),
    "close(True)": lambda c: c.close(True),
    "flush(text)": lambda c: c.flush("1"),  # type: ignore[arg-type]
    "flush(negative)": lambda c: c.flush(-1),
    "subscribe()": lambda c: c.subscribe(),
    "subscribe(text)": lambda c: c.subscribe("m"),  # type: ignore[call-overload]
    "subscribe(class)": lambda c: c.subscribe(Price),  # type: ignore[call-overload]
    "subscribe(base)": lambda c: c.subscribe(Channel()),
    "subscribe(subclass)": lambda c: c.subscribe(Token("m")),
    "subscribe(list)": lambda c: c.subscribe([Price("m")]),  # type: ignore[call-overload]
    "subscribe(callback=7)": lambda c: c.subscribe(Price("m"), callback=7),  # type: ignore[call-overload]
    "subscribe(callback=async)": lambda c: c.subscribe(Price("m"), callback=awaited),
    "on(async)": lambda c: c.on(Price("m"), awaited),
    "on(generator)": lambda c: c.on(Price("m"), iterated),
    "on(async object)": lambda c: c.on(Price("m"), Awaited()),
    "unsubscribe()": lambda c: c.unsubscribe(),
    "unsubscribe(event)": lambda c: c.unsubscribe(PriceUpdate),  # type: ignore[arg-type]
    "on(text)": lambda c: c.on("price"),  # type: ignore[call-overload]
    "on(other class)": lambda c: c.on(cast("Any", int), callback),
    "on(kind, 7)": lambda c: c.on(Event, 7),  # type: ignore[call-overload]
    "on(kind)(7)": lambda c: c.on(Event)(7),  # type: ignore[arg-type]
    "off(7)": lambda c: c.off(7),  # type: ignore[arg-type]
    "stream(text)": lambda c: c.stream("price"),  # type: ignore[call-overload]
    "stream(maxsize=0)": lambda c: c.stream(maxsize=0),
    "stream(maxsize=1.5)": lambda c: c.stream(maxsize=1.5),  # type: ignore[call-overload]
    "stream(overflow)": lambda c: c.stream(overflow="explode"),  # type: ignore[call-overload]
    "latest(text)": lambda c: c.latest("m"),  # type: ignore[arg-type]
    "latest(subclass)": lambda c: c.latest(Token("m")),
    "latest(event class)": lambda c: c.latest(PriceUpdate),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("call", WRONG_CALLS)
def test_wrong_arguments_are_refused_at_once(call: str) -> None:
    """With a `TypeError` or `ValueError` that says what to pass, and without any effect."""
    with Scripted() as s:
        error = outcome(lambda: WRONG_CALLS[call](s.client))
        assert isinstance(error, (TypeError, ValueError))
        assert len(str(error)) > 20
        assert s.client.state is State.IDLE
        assert s.client.subscriptions == frozenset()


def test_huge_timeouts_are_no_error(sim: Simulator) -> None:
    """More than a lock can wait for."""
    with client_of(sim).connect(1e300) as client:
        assert client.flush(10**400) > 0
        client.close(1e300)


def test_a_client_is_neither_copied_nor_pickled() -> None:
    """It owns threads and a socket."""
    with Scripted() as s:
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            assert isinstance(outcome(partial(attempt, s.client)), TypeError)


def test_errors_raised_again_do_not_grow(sim: Simulator) -> None:
    """The terminal error is one object; each raise starts its traceback anew and chains nothing to it."""
    client = client_of(sim, "wrong")
    first = outcome(client.connect)
    assert isinstance(first, AuthenticationError)
    lengths = set()
    for _ in range(5):
        with pytest.raises(AuthenticationError) as caught:
            client.start()
        lengths.add(len(caught.traceback))
    assert len(lengths) == 1
    assert chain(first) == [first]


def test_a_subscribe_that_ctrl_c_cuts_off_leaves_no_callback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has a handle to take it back with."""
    calls: list[str] = []

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with Scripted() as s:
        s.ready()
        with monkeypatch.context() as patched:
            patched.setattr(Router, "hold", cut_off)
            with pytest.raises(KeyboardInterrupt):
                s.client.subscribe(Price("m"), callback=lambda _: calls.append("cut off"))
        s.client.subscribe(Price("m"), callback=lambda _: calls.append("again"))
        s.wire.push(price("m"))
        s.client.flush(PATIENCE)
        s.client.close()
        assert calls == ["again"]
