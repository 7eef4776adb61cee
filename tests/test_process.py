"""What processes do to clients: signals, forks, exits; and clients that nobody holds any more."""

from __future__ import annotations

import contextlib
import gc
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("websockets", reason="needs the extra testing")


from allenhark_ws import Closed, Event, Price, PriceUpdate, State, _process

from .patience import PATIENCE
from .processes import Script, posix, without_torn_imports
from .scripted import client_of, price
from .simulators import Simulator


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A simulator of its own for each test."""
    with Simulator() as simulator:
        yield simulator


# --- Ctrl-C


@posix
@pytest.mark.parametrize("inline", [False, True], ids=["callback thread", "I/O thread"])
def test_ctrl_c_ends_run_forever_beside_a_stuck_callback(sim: Simulator, inline: bool) -> None:
    """Within a second of the signal, and the process with it, though a callback sleeps a minute."""
    text = f"""
    client = Client("test-key", url=url, inline_callbacks={inline})
    def stuck(event):
        say("stuck")
        never.wait()
    client.on(Connected, stuck)
    try:
        client.run_forever()
    except KeyboardInterrupt:
        say("interrupted", client.state.name if not {inline} else "CLOSED")
    """
    with Script(sim.url, text) as script:
        assert script.line() == "stuck"
        script.interrupt()
        assert script.end() == (0, "interrupted CLOSED", "")


@posix
@pytest.mark.parametrize(
    "wait",
    [
        "client.stream(Price('m')).get()",
        "next(iter(client.stream(Price('m'))))",
        "client.stream(Price('m')).get_batch(5)",
        "client.flush(600)",
        "Client('test-key', url=url).connect(600)",
    ],
)
def test_ctrl_c_interrupts_every_wait(sim: Simulator, wait: str) -> None:
    """Inside a ``with``, which closes the client; a callback is stuck all the while."""
    text = f"""
    with Client("test-key", url=url) as client:
        client.on(UnknownMessage, lambda event: (say("stuck"), never.wait()))
        say("ready")
        sys.stdin.readline()
        {wait}
    """
    with Script(sim.url, text) as script:
        assert script.line() == "ready"
        sim.send_raw('{"type":"go"}')
        assert script.line() == "stuck"
        sim.mute_pongs()
        script.tell()
        if "flush" in wait or "connect" in wait:
            sim.wait_for(lambda: [m["type"] for m in sim.received].count("ping") == 2)
        script.interrupt()
        code, _, err = script.end()
        assert code == -signal.SIGINT
        assert err.splitlines()[-1].startswith("KeyboardInterrupt")
        assert err.count("Traceback") == 1


TORN = """
import _io, importlib._bootstrap_external as external, sys

class Torn:
    def __getattr__(self, name):
        return getattr(_io, name)

    def open_code(self, path):
        file = _io.open_code(path)
        raise KeyboardInterrupt

external._io = Torn()
try:
    import colorsys
except KeyboardInterrupt:
    pass
external._io = _io
"""
"""An import that is interrupted just when its file is open, as a signal does it once in many thousand times."""


def test_what_a_torn_import_says_is_not_judged() -> None:
    """The interpreter's complaint is found as it writes it, and cut, and nothing else is."""
    command = [sys.executable, "-W", "error", "-c", TORN + "print('kept', file=sys.stderr)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stderr.count("Traceback") == 1
    assert "colorsys" in done.stderr
    assert without_torn_imports(f"before\n{done.stderr}after\n") == "before\nkept\nafter\n"


@pytest.mark.parametrize("mode", ["r", "rb", "w"])
def test_what_a_program_leaves_open_is_judged(tmp_path: Path, mode: str) -> None:
    """A file of its own, and a module's that it opened itself as text."""
    path = tmp_path / ("day.jsonl" if mode == "rb" else "module.py")
    path.touch()
    command = [sys.executable, "-W", "error", "-c", f"open({str(path)!r}, {mode!r})"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert path.name in done.stderr
    assert without_torn_imports(done.stderr) == done.stderr


@posix
def test_ctrl_c_while_entering_a_with(sim: Simulator) -> None:
    """The body does not run, and the client is closed."""
    text = """
    client = Client("test-key", url=url, connect_timeout=600, pong_timeout=600)
    try:
        say("ready")
        with client:
            say("body")
    except KeyboardInterrupt:
        say(client.state.name, threading.active_count())
    """
    sim.mute_pongs()
    with Script(sim.url, text) as script:
        assert script.line() == "ready"
        sim.wait_for(lambda: sim.received)
        script.interrupt()
        assert script.end() == (0, "CLOSED 1", "")


# --- Exit


@pytest.mark.parametrize("start", ["start", "connect"])
def test_exit_without_close(sim: Simulator, start: str) -> None:
    """Code 0, nothing on stderr, at once; callbacks are still told of the end."""
    text = f"""
    client = Client("test-key", url=url)
    client.on(Closed, lambda event: say(event))
    client.{start}()
    """
    with Script(sim.url, text) as script:
        assert script.end() == (0, "Closed(error=None)", "")


def test_exit_with_a_stuck_callback(sim: Simulator) -> None:
    """It is given a second, no more."""
    text = """
    client = Client("test-key", url=url)
    stuck = threading.Event()
    client.on(Connected, lambda event: (stuck.set(), never.wait()))
    client.connect()
    stuck.wait(60)
    """
    with Script(sim.url, text) as script:
        assert script.end() == (0, "", "")


def test_exit_while_connecting_and_in_backoff(sim: Simulator) -> None:
    """Neither holds the interpreter up."""
    text = """
    waiting = threading.Event()
    client = Client("test-key", url=url, backoff=Backoff(initial=1000, maximum=1000)).start()
    import socket
    with socket.create_server(("127.0.0.1", 0)) as listener:
        other = Client("test-key", url=f"ws://127.0.0.1:{listener.getsockname()[1]}/").start()
        listener.accept()[0].close()
    """
    sim.refuse()
    with Script(sim.url, text) as script:
        assert script.end()[::2] == (0, "")


def test_start_during_exit(sim: Simulator) -> None:
    """No thread may be started then: `ClientClosed`, not a hang or a crash."""
    text = """
    import atexit
    def late():
        for verb in ("start", "connect", "reconnect", "run_forever"):
            try:
                getattr(client, verb)()
            except ClientClosed as error:
                say(verb, "exiting" in str(error) or "closed" in str(error))
    # Handlers run in reverse order; ours was registered when the package was imported.
    import allenhark_ws._process as process
    atexit.unregister(process._at_exit)
    atexit.register(late)
    atexit.register(process._at_exit)
    client = Client("test-key", url=url)
    """
    with Script(sim.url, text) as script:
        expected = "start True\nconnect True\nreconnect True\nrun_forever True"
        assert script.end() == (0, expected, "")


def test_a_client_used_by_a_thread_that_outlives_the_main_one(sim: Simulator) -> None:
    """The interpreter waits for the user's own threads; until then the client works."""
    text = """
    def work():
        threading.main_thread().join()
        with client:
            say("flushed", client.flush() > 0)
    client = Client("test-key", url=url).connect()
    threading.Thread(target=work).start()
    """
    with Script(sim.url, text) as script:
        assert script.end() == (0, "flushed True", "")


# --- Forks


@posix
def test_a_forked_child_cannot_use_the_client_and_does_no_harm(sim: Simulator) -> None:
    """Every verb raises `ClientClosed`, `close()` does nothing, a new client works, the parent goes on receiving."""
    text = """
    client = Client("test-key", url=url).connect()
    idle = Client("test-key", url=url)
    stream, handle = client.stream(Price("m")), client.subscribe(Price("m"))
    client.flush()
    child = os.fork()
    if child == 0:
        verbs = {
            "start": client.start, "connect": client.connect, "flush": client.flush, "reconnect": client.reconnect,
            "run_forever": client.run_forever, "stream": client.stream, "get": stream.get,
            "subscribe": lambda: client.subscribe(Price("n")), "unsubscribe": lambda: client.unsubscribe(Price("m")),
            "on": lambda: client.on(Event), "off": lambda: client.off(print),
            "latest": lambda: client.latest(Price("m")), "idle": idle.start,
        }
        for name, verb in verbs.items():
            try:
                verb()
            except ClientClosed:
                continue
            say("wrong", name)
        handle.close()
        stream.close()
        client.close()
        idle.close()
        assert client.state is State.CLOSED and not client.subscriptions and repr(client) and client.stats
        del client, stream, handle, idle
        gc.collect()
        with Client("test-key", url=url) as own:
            say("child", own.flush() > 0)
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    say("status", status)
    say("parent", stream.get(timeout=60).price, client.flush() > 0, client.stats.reconnects)
    client.close()
    """
    with Script(sim.url, text) as script:
        assert script.line() == "child True"
        assert script.line() == "status 0"
        assert sim.subscriptions == {Price("m")}
        sim.publish(price("m", 7.0))
        assert script.end() == (0, "parent 7.0 True 0", "")
    assert sim.violations == []


@posix
@pytest.mark.parametrize("phase", ["connected", "connecting"])
def test_a_forked_child_keeps_none_of_the_parents_descriptors(sim: Simulator, phase: str) -> None:
    """Socket, wake-up and selector are closed there, and wake-ups harmless; the parent's own copies go on working."""
    text = f"""
    import socket
    listener = socket.create_server(("127.0.0.1", 0))
    connecting = {phase == "connecting"}
    client = Client("test-key", url=f"ws://127.0.0.1:{{listener.getsockname()[1]}}/" if connecting else url)
    loop, driver = client._loop, client._loop._driver
    network, sleeper = driver.network, driver.sleeper
    if connecting:
        client.start()
        far = listener.accept()[0]
        far.recv(1)
        (near,) = network.candidate._opening.sockets
    else:
        client.connect()
        near = network.transport.sock
    wakeup = sleeper._wakeup
    numbers = [sock.fileno() for sock in (near, wakeup.receiver, wakeup._sender, sleeper._selector)]

    def is_open(number):
        try:
            os.fstat(number)
        except OSError:
            return False
        return True

    child = os.fork()
    if child == 0:
        say(*map(is_open, numbers), sleeper._wakeup, network.transport, network.candidate, sleeper._watched)
        loop.wake()
        loop.release_orphan(None)
        os._exit(0)
    say(os.waitpid(child, 0)[1], *map(is_open, numbers))
    if connecting:
        far.close()
    else:
        say("flushed", client.flush() > 0, client.stats.reconnects)
    listener.close()
    client.close()
    """
    with Script(sim.url, text) as script:
        flushed = [] if phase == "connecting" else ["flushed True 0"]
        said = ["False False False False None None None None", "0 True True True True", *flushed]
        assert script.end() == (0, "\n".join(said), "")
    assert sim.violations == []


@posix
def test_a_child_does_not_wait_for_a_wake_up_that_was_under_way(sim: Simulator) -> None:
    """The lock that a thread held at the fork is never released there: whoever wakes must not want it."""
    text = """
    client = Client("test-key", url=url).connect()
    loop, held, done = client._loop, threading.Event(), threading.Event()
    def wake(wakeup):
        with wakeup._lock:
            held.set()
            done.wait(60)
    thread = threading.Thread(target=wake, args=(loop._driver.sleeper._wakeup,))
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        loop.wake()
        os._exit(0)
    done.set()
    thread.join()
    say(os.waitpid(child, 0)[1], client.flush() > 0)
    client.close()
    """
    with Script(sim.url, text) as script:
        assert script.end() == (0, "0 True", "")


@posix
def test_forks_while_the_client_is_busy(sim: Simulator) -> None:
    """Whatever lock a thread held at that moment, the child does not hang on it."""
    text = """
    client = Client("test-key", url=url).connect()
    client.subscribe(Price("m"), callback=lambda event: None)
    stream = client.stream(Price("m"), maxsize=10)
    say("ready")
    for _ in range(10):
        child = os.fork()
        if child == 0:
            client.close()
            stream.close()
            try:
                client.flush()
            except ClientClosed:
                sys.exit(0)
            sys.exit(1)
        assert os.waitpid(child, 0)[1] == 0
    say("done", client.flush() > 0)
    client.close()
    """
    with Script(sim.url, text) as script:
        assert script.line() == "ready"
        sim.wait_for(lambda: sim.subscriptions)
        while sim.connections:
            for n in range(100):
                sim.publish(price("m", float(n)))
        assert script.end() == (0, "done True", "")


@posix
@pytest.mark.parametrize("inline", [False, True], ids=["callback thread", "I/O thread"])
def test_a_fork_in_a_callback(sim: Simulator, inline: bool) -> None:
    """The child returns from the callback, calls no other and ends; the parent and its connection go on."""
    text = f"""
    client = Client("test-key", url=url, inline_callbacks={inline})
    parent, children, called, third = os.getpid(), [], [], threading.Event()
    def fork(event):
        if event.type == "first":
            while not {inline} and client.stats.callback_backlog < 2:
                pass
            children.append(os.fork())
            if children == [0]:
                for verb in (client.flush, client.connect):
                    try:
                        verb()
                    except ClientClosed:
                        continue
                    say("not refused in the child", verb)
    def note(event):
        called.append(event.type)
        if os.getpid() != parent:
            say("called in the child", event.type)
        if event.type == "third":
            third.set()
    client.on(UnknownMessage, fork)
    client.on(UnknownMessage, note)
    client.connect()
    say("ready")
    third.wait()
    client.flush()
    say("status", os.waitpid(children[0], 0)[1], *called, client.flush() > 0, client.stats.reconnects)
    client.off(note)
    client.close()
    """
    with Script(sim.url, text) as script:
        assert script.line() == "ready"
        for kind in ("first", "second", "third"):
            sim.send_raw(f'{{"type":"{kind}"}}')
        assert script.end() == (0, "status 0 first second third True 0", "")


@posix
def test_a_fork_before_a_retry(sim: Simulator) -> None:
    """The child does not go on to dial the server, and says nothing; the parent does."""
    text = """
    client = Client("test-key", url=url, inline_callbacks=True)
    children = []
    def fork(event):
        if not children:
            children.append(os.fork())
    client.on(Reconnecting, fork)
    client.connect()
    client.reconnect()
    client.flush()
    say("status", os.waitpid(children[0], 0)[1], client.state.name, client.stats.reconnects)
    client.close()
    """
    with Script(sim.url, text) as script:
        assert script.end() == (0, "status 0 READY 1", "")


# --- Forgotten clients


@contextlib.contextmanager
def without_collector() -> Generator[None]:
    """Reference counts alone."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def our_threads() -> list[threading.Thread]:
    """The threads of all clients."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("allenhark-")]


def await_no_threads() -> None:
    """Wait until the threads of all clients have ended."""
    for thread in our_threads():
        thread.join(PATIENCE)
    assert our_threads() == []


def test_a_forgotten_client_is_collected_at_once(sim: Simulator) -> None:
    """Its thread ends, the server is told goodbye, and a warning says so."""
    with without_collector():
        client = client_of(sim).connect()
        handle = client.subscribe(Price("m"), callback=print)
        client.on(Event, id)
        client.flush()
        reference = weakref.ref(client)
        del handle
        with pytest.warns(ResourceWarning, match=r"unclosed Client for ws://127\.0\.0\.1"):
            del client
        assert reference() is None
    await_no_threads()
    sim.wait_for(lambda: sim.connections == 0)


def test_a_client_whose_callback_refers_to_it_is_collected_by_the_collector(sim: Simulator) -> None:
    """The threads do not hold it, so the cycle is garbage."""
    client = client_of(sim).connect()
    client.on(PriceUpdate, lambda _, client=client: client.close())
    client.flush()
    reference = weakref.ref(client)
    del client
    with pytest.warns(ResourceWarning, match="unclosed"):
        gc.collect()
    assert reference() is None
    await_no_threads()


def test_subscriptions_hold_their_client(sim: Simulator) -> None:
    """A program that keeps only the handle stays connected."""
    with without_collector():
        handle = client_of(sim).connect().subscribe(Price("m"))
        sim.wait_for(lambda: sim.subscriptions)
        with pytest.warns(ResourceWarning):
            del handle
    await_no_threads()


def test_streams_hold_their_client(sim: Simulator) -> None:
    """``for event in Client().connect().stream(…)`` works."""
    with without_collector():
        stream = client_of(sim).connect().stream(Price("m"))
        sim.wait_for(lambda: sim.subscriptions)
        sim.publish(price("m"))
        assert stream.get(timeout=PATIENCE).price == 1.0
        with pytest.warns(ResourceWarning):
            del stream
    await_no_threads()


def test_a_forgotten_stream_releases_its_channel(sim: Simulator) -> None:
    """And is fed no longer."""
    with without_collector(), client_of(sim) as client:
        stream = client.stream(Price("m"))
        client.flush()
        assert sim.subscriptions == {Price("m")}
        del stream
        client.flush()
        client.flush()
        assert sim.subscriptions == client.subscriptions == frozenset()


@pytest.mark.parametrize("state", ["reconnecting", "blocked"])
def test_forgotten_in_the_middle_of_something(sim: Simulator, state: str) -> None:
    """A backoff is ended; a callback that is stuck holds only its own thread."""
    gate, entered = threading.Event(), threading.Event()

    def stuck(_: object) -> None:
        entered.set()
        gate.wait(PATIENCE)

    client = client_of(sim, callback_buffer=1, callback_overflow="block").connect()
    loop = client._loop
    if state == "blocked":
        client.subscribe(Price("m"), callback=stuck)
        client.flush()
        for _ in range(10):
            sim.publish(price("m"))
        assert entered.wait(PATIENCE)
    else:
        sim.refuse()
        sim.reset()
        sim.wait_for(lambda: loop.state is not State.READY)
    gc.collect()
    with pytest.warns(ResourceWarning):
        del client
    loop._thread.join(PATIENCE)
    assert loop.ended
    gate.set()
    await_no_threads()


def test_closed_clients_leave_nothing(sim: Simulator) -> None:
    """No thread, no descriptor, no object, no warning."""
    with without_collector():
        client_of(sim).connect().close()
        descriptors = _descriptors()
        references = []
        for _ in range(10):
            client = client_of(sim)
            client.on(Closed, print)
            client.on(Closed, id)
            client.off(print)
            with client:
                client.flush()
            references.append(weakref.ref(client))
            del client
        assert [reference() for reference in references] == [None] * 10
        sim.wait_for(lambda: sim.connections == 0 and _descriptors() <= descriptors)
    assert our_threads() == []


def _descriptors() -> int:
    directory = Path("/proc/self/fd")
    return len(list(directory.iterdir())) if directory.exists() else 0


# --- The registry


class FakeLoop:
    """Counts what it is told."""

    def __init__(self, until: float | None = None) -> None:
        self.until = until
        self.told: list[tuple[str, float]] = []

    def disown(self) -> None:
        """Note it."""
        self.told.append(("disown", 0.0))

    def request_close(self, deadline: float) -> float:
        """Note it; an earlier deadline counts."""
        self.told.append(("close", deadline))
        return deadline if self.until is None else self.until

    def join(self, deadline: float) -> None:
        """Note it."""
        self.told.append(("join", deadline))


def test_exit_closes_all_loops_before_it_waits_for_any(monkeypatch: pytest.MonkeyPatch) -> None:
    """All within one second together; one whose deadline has passed is not waited for again."""
    monkeypatch.setattr(_process, "_enrolled", {})
    monkeypatch.setattr(_process, "_exiting", [])
    fresh, closed, forgotten = FakeLoop(), FakeLoop(until=5.0), FakeLoop()
    for loop in (fresh, closed, forgotten):
        _process.enrol(loop)
    del forgotten, loop
    assert len(_process._enrolled) == 2
    assert not _process.is_exiting()
    before = time.monotonic()
    _process._at_exit()
    assert _process.is_exiting()
    (_, deadline), (_, until) = fresh.told
    assert [kind for kind, _ in fresh.told] == ["close", "join"]
    assert before < deadline <= time.monotonic() + 1.0
    assert until == deadline
    assert closed.told == [("close", deadline), ("join", 5.0)]


def test_a_fork_disowns_all_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the child; they are not closed."""
    monkeypatch.setattr(_process, "_enrolled", {})
    loops: list[Any] = [FakeLoop(), FakeLoop()]
    for loop in loops:
        _process.enrol(loop)
    _process._in_child()
    assert not _process._enrolled
    assert [loop.told for loop in loops] == [[("disown", 0.0)]] * 2


def test_a_loop_that_fails_keeps_no_other_from_being_disowned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever order they are in; none is enrolled any more, and the failure is not hidden."""

    class Failing(FakeLoop):
        def disown(self) -> None:
            super().disown()
            raise OSError("Bad file descriptor")

    monkeypatch.setattr(_process, "_enrolled", {})
    loops: list[Any] = [FakeLoop(), Failing(), Failing(), FakeLoop()]
    for loop in loops:
        _process.enrol(loop)
    with pytest.raises(OSError, match="Bad file descriptor"):
        _process._in_child()
    assert not _process._enrolled
    assert [loop.told for loop in loops] == [[("disown", 0.0)]] * 4


@posix
def test_a_child_disowns_every_client_where_selectors_are_not_inherited(sim: Simulator) -> None:
    """As kqueues are not: closing one fails there, and all clients are at their end all the same."""
    text = """
    import selectors
    class Foreign(selectors.DefaultSelector):
        def close(self, parent=os.getpid()):
            super().close()
            if os.getpid() != parent:
                raise OSError(9, "Bad file descriptor")
    selectors.DefaultSelector = Foreign
    clients = [Client("test-key", url=url).connect() for _ in range(3)]
    child = os.fork()
    if child == 0:
        say(*[client.state.name for client in clients], *[client._loop._driver.network.transport for client in clients])
        os._exit(0)
    say(os.waitpid(child, 0)[1], *[client.flush() > 0 for client in clients])
    for client in clients:
        client.close()
    """
    with Script(sim.url, text) as script:
        assert script.end() == (0, "CLOSED CLOSED CLOSED None None None\n0 True True True", "")
