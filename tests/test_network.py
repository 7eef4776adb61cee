"""The session's commands done to the network: opening, with the key asked for first, sending, and hanging up."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field, fields

from allenhark_ws._aside import Interrupted, Waiter
from allenhark_ws._counters import Counters
from allenhark_ws._network import Network
from allenhark_ws._ports import Batch
from allenhark_ws._redact import Redactor
from allenhark_ws._session import Drop, Session
from allenhark_ws._sleeper import Sleeper
from allenhark_ws.config import Secret, Settings
from allenhark_ws.errors import ConfigurationError, ConnectionFailed
from allenhark_ws.state import State

from .fakes import START, FakeClock, settings
from .patience import PATIENCE
from .peers import Waiting
from .scripted import chain


@define(eq=False)
class Line:
    """A transport that notes what is done to it, in a log that others may write to as well.

    Attributes:
        script: what opening does, with the waiter that it is given.
    """

    log: list[Any]
    script: Callable[[Waiter], object] = lambda wait: None
    pending: bool = False
    wants_write: bool = False
    backlog: int = 0
    send_deadline: float | None = None
    phase: str = ""

    @property
    def sock(self) -> socket.socket:
        """Nobody asks here."""
        raise NotImplementedError

    def open(self, wait: Waiter, wake: Callable[[], None]) -> None:
        """As the script says."""
        self.log.append(("open", wake))
        self.script(wait)

    def send(self, payload: bytes) -> None:
        """Note it."""
        self.log.append(("send", json.loads(payload)))

    def write(self) -> None:
        """Nothing is ever left to write."""

    def expire(self) -> None:
        """Nothing ever expires."""

    def receive(self) -> Batch:
        """Nothing is ever read."""
        raise NotImplementedError

    def close(self, code: int, reason: str, wait: Waiter, deadline: float) -> None:
        """Note it."""
        self.log.append(("close", code, reason, wait, deadline))

    def linger(self, wait: Waiter, deadline: float) -> None:
        """Note it."""
        self.log.append(("linger", deadline))

    def abort(self, code: int | None = None) -> None:
        """Note it."""
        self.log.append(("abort", code))

    def disown(self) -> None:
        """Note it."""
        self.log.append("disown")


class Bed(Sleeper):
    """A sleeper that notes when its socket is let go of."""

    def __init__(self, clock: FakeClock, log: list[Any]) -> None:
        super().__init__(clock)
        self.log = log

    def unwatch(self) -> None:
        """Note it."""
        self.log.append("unwatch")
        super().unwatch()


def refuse(wait: Waiter) -> None:
    """A script that fails."""
    raise ConnectionFailed("refused")


@define(eq=False)
class Bench:
    """A network with what it works with; the session is CONNECTING."""

    settings: Settings = field(factory=settings)
    script: Callable[[Waiter], object] = lambda wait: None
    log: list[Any] = field(factory=list[Any])
    lines: list[Line] = field(factory=list[Line])
    given: list[tuple[Settings, Callable[[str], str]]] = field(factory=lambda: [])
    clock: FakeClock = field(factory=FakeClock)
    counters: Counters = field(factory=Counters)
    redactor: Redactor = field(factory=Redactor)
    attend: Callable[[socket.socket | None, int, float], bool] = lambda sock, mask, deadline: True
    session: Session = field(init=False)
    sleeper: Bed = field(init=False)
    network: Network = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.session = Session(self.settings, self.counters, lambda: 1.0)
        self.session.start(START)
        self.session.tick(START)
        self.sleeper = Bed(self.clock, self.log)
        self.network = Network(
            self.settings,
            self.session,
            self.counters,
            self.redactor,
            self._connect,
            self.clock,
            self.sleeper,
            self._attend,
        )

    def _connect(self, settings: Settings, redact: Callable[[str], str]) -> Line:
        self.given.append((settings, redact))
        self.lines.append(Line(self.log, self.script))
        return self.lines[-1]

    def _attend(self, sock: socket.socket | None, mask: int, deadline: float) -> bool:
        return self.attend(sock, mask, deadline)

    def opened(self) -> Bench:
        """With an open connection, and nothing in the log."""
        self.network.open()
        self.log.clear()
        return self


def asking(ask: Callable[[], object], attend: Any = None) -> Bench:
    """A bench whose key is a callable's; a thread that ends wakes the one who waits, as in the loop."""
    bench = Bench(settings(api_key=Secret(ask)))
    waiting = Waiting()
    bench.attend = attend or waiting
    bench.sleeper.wake = waiting.wake
    return bench


def test_what_it_comes_to_hold_is_no_argument() -> None:
    """A network begins with nothing."""
    arguments = {"settings", "session", "counters", "redactor", "connect", "clock", "sleeper", "attend"}
    assert {attribute.alias for attribute in fields(Network) if attribute.init} == arguments


# --- Opening


def test_what_an_attempt_is_at() -> None:
    """As the connection being opened says, once the key is there; nothing of an attempt that has not begun."""
    phases: list[str] = []

    def look(_wait: Waiter) -> None:
        phases.append(bench.network.phase)
        bench.lines[0].phase = "DNS lookup of a"
        phases.append(bench.network.phase)

    def ask() -> str:
        phases.append(bench.network.phase)
        return "key"

    bench = asking(ask)
    bench.script = look
    phases.append(bench.network.phase)
    bench.network.open()
    assert [*phases, bench.network.phase] == [
        *("", "calling api_key", "calling api_key", "DNS lookup of a", "waiting for the first pong")
    ]
    of_a_text = Bench()
    of_a_text.script = lambda _wait: phases.append(of_a_text.network.phase)
    of_a_text.network.open()
    assert phases[-1] == ""


def test_an_opened_connection_is_the_transport_and_told() -> None:
    """Made with the settings and the redactor, and given the sleeper's wake-up; nothing is a candidate any more."""
    bench = Bench()
    bench.network.open()
    assert bench.network.transport is bench.lines[0]
    assert bench.network.candidate is None
    assert bench.given == [(bench.settings, bench.redactor)]
    assert bench.log == [("open", bench.sleeper.wake)]
    assert bench.session.next_deadline() == START.mono + bench.settings.pong_timeout  # it waits for the first pong


def test_the_session_is_told_the_time_at_which_it_was_open() -> None:
    """Not that at which opening began."""
    bench = Bench()
    bench.script = lambda wait: bench.clock.advance(7.0)
    bench.network.open()
    assert bench.session.next_deadline() == START.mono + 7.0 + bench.settings.pong_timeout


def test_while_it_is_being_opened_it_is_the_candidate() -> None:
    """And nothing can be sent yet."""
    bench, seen = Bench(), list[Any]()
    bench.script = lambda wait: seen.append((bench.network.candidate is bench.lines[0], bench.network.transport))
    bench.network.open()
    assert seen == [(True, None)]


def test_a_failure_is_told_without_its_frames() -> None:
    """Errors may live for long, and those frames hold the whole network."""
    bench = Bench(script=refuse)
    bench.network.open()
    assert (bench.network.transport, bench.network.candidate) == (None, None)
    assert bench.session.state is State.BACKOFF
    failure = bench.session.last_failure
    assert str(failure).startswith("refused")
    assert failure is not None
    assert failure.__traceback__ is None


def test_what_is_no_failure_of_the_network_is_not_hidden() -> None:
    """A fault of ours passes through, to the loop's safety net; no candidate is left behind."""

    def fail(wait: Waiter) -> None:
        raise LookupError("a bug")

    bench = Bench(script=fail)
    with pytest.raises(LookupError, match="a bug"):
        bench.network.open()
    assert (bench.network.transport, bench.network.candidate) == (None, None)
    assert bench.session.state is State.CONNECTING


def test_the_waiter_of_opening_is_the_loops() -> None:
    """Its questions and answers pass unchanged."""
    bench, asked, answers = Bench(), list[Any](), list[bool]()
    verdicts = [True, False]

    def attend(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        asked.append((sock, mask, deadline))
        return verdicts[len(asked) - 1]

    bench.attend = attend
    with socket.socket() as sock:
        bench.script = lambda wait: answers.extend([wait(sock, 1, 1234.5), wait(None, 0, 5.0)])
        bench.network.open()
        assert asked == [(sock, 1, 1234.5), (None, 0, 5.0)]
    assert answers == verdicts


def test_one_dropped_while_it_is_being_opened_is_interrupted_and_not_told() -> None:
    """The waiter says so to the transport, which releases itself; the session has gone on by then."""
    bench, seen = Bench(), list[BaseException]()

    def attend(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        bench.network.drop(Drop())
        return True

    def wait_once(wait: Waiter) -> None:
        try:
            wait(None, 0, 0.0)
        except Interrupted as error:
            seen.append(error)
            raise

    bench.attend, bench.script = attend, wait_once
    bench.network.open()
    assert len(seen) == 1
    assert (bench.network.transport, bench.network.candidate) == (None, None)
    assert (bench.session.state, bench.session.next_deadline()) == (State.CONNECTING, None)
    assert ("abort", None) not in bench.log


def test_a_drop_is_of_one_connection() -> None:
    """The next one to be opened is wanted again."""
    bench = Bench()
    bench.network.drop(Drop())
    bench.script = lambda wait: wait(None, 0, 0.0)
    bench.network.open()
    assert bench.network.transport is bench.lines[0]


# --- The key


def test_the_key_is_known_before_anything_is_opened() -> None:
    """A server that echoes it in its refusal is redacted already."""
    bench, seen = Bench(), list[str]()
    bench.script = lambda wait: seen.append(bench.redactor("no such key: test-key"))
    bench.network.open()
    assert seen == ["no such key: [redacted]"]


def test_a_plain_key_is_used_as_it_is() -> None:
    """There is nothing to ask, so no thread is started."""

    class Plain(Secret):
        def current(self) -> Secret:
            raise AssertionError

    bench = Bench(settings(api_key=Plain("test-key")))
    bench.opened().network.send_auth()
    assert bench.log == [("send", {"type": "auth", "apiKey": "test-key"})]


def test_a_callable_is_asked_aside_for_every_connection() -> None:
    """On a thread of its own, since it may take its time; the key it gave is the one that is sent and redacted."""
    threads: list[str] = []

    def ask() -> str:
        threads.append(threading.current_thread().name)
        return f"key-number-{len(threads)}"

    bench = asking(ask)
    bench.opened().network.send_auth()
    assert bench.log == [("send", {"type": "auth", "apiKey": "key-number-1"})]
    bench.network.hang_up()
    bench.opened().network.send_auth()
    bench.network.send_auth()
    assert [sent["apiKey"] for _, sent in bench.log] == ["key-number-2"] * 2
    assert threads == ["allenhark-api-key"] * 2
    assert bench.redactor("key-number-1 key-number-2") == "[redacted] [redacted]"


def test_a_callable_that_raises_is_a_failed_attempt() -> None:
    """Its error's class and place are told; its text, which may hold the key, is nowhere in the chain."""

    def ask() -> str:
        raise LookupError("not found: sk_live_secret")

    bench = asking(ask)
    bench.network.open()
    failure = bench.session.last_failure
    place = f"test_network.py:{ask.__code__.co_firstlineno + 1}"
    assert isinstance(failure, ConnectionFailed)
    assert failure.reason == f"the api_key callable failed: LookupError in {place}"
    assert chain(failure) == [failure]
    assert (bench.session.state, bench.log) == (State.BACKOFF, [])  # nothing was opened


def test_no_thread_for_the_callable(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not called on ours, where it might hang."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    bench = asking(lambda: "key")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    bench.network.open()
    problem = "the api_key callable failed: this process can start no more threads"
    assert str(bench.session.last_failure).startswith(problem)


def test_an_error_of_our_own_is_not_told_as_the_callables() -> None:
    """What the thread does while it waits for the key may fail, too, and ends the client as ever."""
    release = threading.Event()

    def attend(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        raise ZeroDivisionError

    bench = asking(lambda: str(release.wait(PATIENCE)), attend)
    with pytest.raises(ZeroDivisionError):
        bench.network.open()
    release.set()
    assert bench.session.last_failure is None


def test_a_callable_that_gives_no_key_ends_the_client() -> None:
    """Asking again would not help: it is the program that is wrong."""
    bench = asking(lambda: 7)
    bench.network.open()
    assert isinstance(bench.session.error, ConfigurationError)
    assert (bench.session.state, bench.log, bench.network.candidate) == (State.CLOSED, [], None)


def test_a_callable_has_the_connect_timeout() -> None:
    """Counted from when it is asked, on the loop's clock."""
    release, deadlines = threading.Event(), list[float]()
    bench = asking(lambda: str(release.wait(PATIENCE)))

    def attend(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        deadlines.append(deadline)
        bench.clock.advance(bench.settings.connect_timeout)
        return False

    bench.attend = attend
    bench.network.open()
    release.set()
    assert deadlines == [START.mono + bench.settings.connect_timeout]
    timeout = f"it took longer than connect_timeout={bench.settings.connect_timeout:g} s"
    assert str(bench.session.last_failure).startswith(f"the api_key callable failed: {timeout};")


def test_a_callable_that_times_out_by_itself() -> None:
    """It is that which failed."""

    def raises() -> str:
        raise TimeoutError

    bench = asking(raises)
    bench.network.open()
    assert str(bench.session.last_failure).startswith("the api_key callable failed: TimeoutError in test_network.py:")


def test_a_callable_is_not_waited_for_when_nobody_wants_the_connection() -> None:
    """A `close()` is heard in every phase."""
    release, waits = threading.Event(), list[float]()
    bench = asking(lambda: str(release.wait(PATIENCE)))

    def attend(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        if waits:  # it should have been interrupted
            release.set()
        waits.append(deadline)
        bench.network.drop(Drop(1000, final=True))
        return False

    bench.attend = attend
    bench.network.open()
    release.set()
    assert (len(waits), bench.session.state, bench.session.last_failure) == (1, State.CONNECTING, None)
    assert (bench.network.transport, bench.network.candidate, bench.log) == (None, None, [])


# --- Sending


def test_without_a_connection_nothing_is_sent_or_counted() -> None:
    """Nor is there anything that could be full or late."""
    bench = Bench()
    bench.network.send(b'{"type":"ping"}')
    bench.network.send_auth()
    assert (bench.log, bench.counters.messages_sent) == ([], 0)
    bench.opened().network.discard()  # whose key is still known
    bench.log.clear()
    bench.network.send_auth()
    assert (bench.log, bench.counters.messages_sent) == ([], 0)
    assert (bench.network.has_room, bench.network.send_deadline) == (True, None)


def test_what_is_sent_is_counted() -> None:
    """The auth message, too."""
    bench = Bench().opened()
    bench.network.send_auth()
    bench.network.send(b'{"type":"ping"}')
    assert bench.log == [("send", {"type": "auth", "apiKey": "test-key"}), ("send", {"type": "ping"})]
    assert bench.counters.messages_sent == 2


@pytest.mark.parametrize(("backlog", "room"), [(0, True), (65_535, True), (65_536, False), (65_537, False)])
def test_room(backlog: int, room: bool) -> None:
    """Requests wait while so many bytes do, which bounds the buffer."""
    bench = Bench().opened()
    bench.lines[0].backlog = backlog
    assert bench.network.has_room is room


def test_the_deadline_of_what_was_sent_is_the_transports() -> None:
    """It alone knows what is still on its way out."""
    bench = Bench().opened()
    assert bench.network.send_deadline is None
    bench.lines[0].send_deadline = 1007.0
    assert bench.network.send_deadline == 1007.0


# --- Hanging up


@pytest.mark.parametrize("code", [None, 1000, 1002])
def test_a_connection_given_up_is_left_at_once(code: int | None) -> None:
    """With its close code or without a word, never waiting; no longer watched when its socket is closed."""
    bench = Bench().opened()
    bench.network.drop(Drop(code))
    assert bench.log == ["unwatch", ("abort", code)]
    assert bench.network.transport is None


@pytest.mark.parametrize(("code", "told"), [(None, 1000), (1000, 1000), (1002, 1002)])
@pytest.mark.parametrize(("by", "deadline"), [(float("inf"), 1001.0), (1000.25, 1000.25)])
def test_the_last_connection_ends_with_a_handshake(code: int | None, told: int, by: float, deadline: float) -> None:
    """The server has a moment to answer; `close(timeout)` may leave it less."""
    bench = Bench().opened()
    bench.network.goodbye_by = by
    bench.network.drop(Drop(code, final=True))
    assert bench.log == ["unwatch", ("close", told, "", bench.sleeper.sleep_on, deadline)]
    assert bench.network.transport is None


@pytest.mark.parametrize("final", [True, False])
def test_dropping_no_connection_does_nothing(final: bool) -> None:
    """Likewise hanging up, and letting go."""
    bench = Bench()
    bench.network.drop(Drop(1000, final))
    bench.network.hang_up()
    assert bench.network.discard() is None
    bench.network.disown()
    assert bench.log == []


def test_hanging_up_is_without_a_word() -> None:
    """For when the loop itself is at its end."""
    bench = Bench().opened()
    bench.network.hang_up()
    assert bench.log == ["unwatch", ("abort", None)]
    assert bench.network.transport is None


def test_a_discarded_connection_is_the_callers() -> None:
    """Not watched any more, but neither closed nor aborted."""
    bench = Bench().opened()
    assert bench.network.discard() is bench.lines[0]
    assert (bench.log, bench.network.transport) == (["unwatch"], None)


def test_a_forked_child_says_nothing_on_the_wire() -> None:
    """It only lets go of the descriptors."""
    bench = Bench().opened()
    bench.network.disown()
    assert bench.log == ["disown"]
    assert bench.network.transport is None


def test_a_child_forked_while_a_connection_is_being_opened_lets_go_of_that() -> None:
    """Its descriptors are open as well."""
    bench = Bench()

    def fork(wait: Waiter) -> None:
        bench.log.clear()
        bench.network.disown()
        bench.log.append(bench.network.candidate)

    bench.script = fork
    bench.network.open()
    assert bench.log == ["disown", None]
