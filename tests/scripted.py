"""A scripted server in place of the network, a clock that skips waiting, and short ways to clients; nothing sleeps."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any

from allenhark_ws import AllenHarkError, Backoff, Client
from allenhark_ws._aside import Waiter
from allenhark_ws._transport import Batch
from allenhark_ws.config import Settings
from allenhark_ws.errors import ConnectionLost

from .fakes import FakeClock, settings
from .patience import PATIENCE

if TYPE_CHECKING:
    from typing_extensions import Self

    from allenhark_ws.testing import Simulator

QUICK = Backoff(initial=0.001, maximum=0.002)
"""Retries without waiting worth the name."""


def price(mint: str, value: float = 1.0) -> dict[str, Any]:
    """A ``price_update``."""
    return {"type": "price_update", "mint": mint, "price": value, "volume": 2.0, "timestamp": "2024-01-15T10:30:00Z"}


def client_of(sim: Simulator, key: Any = None, **changes: Any) -> Client:
    """A client of the simulator that retries quickly, and is as patient as the tests."""
    patient = dict.fromkeys(("connect_timeout", "pong_timeout", "send_timeout"), PATIENCE)
    values: dict[str, Any] = {"url": sim.url, "ssl_context": sim.ssl_context, "backoff": QUICK} | patient | changes
    return Client(sim.api_key if key is None else key, **values)


def run_aside(function: Callable[[], object]) -> threading.Thread:
    """Run a function on a thread of its own; join it."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def outcome(function: Callable[[], object]) -> object:
    """What a function returned or raised."""
    try:
        return function()
    except BaseException as error:  # noqa: BLE001 - it is what is asked for
        return error


def outcome_aside(function: Callable[[], object]) -> object:
    """What a function returned or raised on another thread."""
    results: list[object] = []
    thread = run_aside(lambda: results.append(outcome(function)))
    thread.join(PATIENCE)
    assert results, "it did not come back"
    return results[0]


class JumpingClock(FakeClock):
    """A clock whose waits take no time: when nothing is ready it jumps to their end, as far as `run` allows.

    Attributes:
        waits: the timeout of every wait, in order: one for each turn of the loop.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []
        self._budget = 0.0
        self._changed = threading.Condition()
        self._parked = False

    def wait(self, selector: selectors.BaseSelector, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Jump, or when there is nothing left to jump, wait to be woken."""
        self.waits.append(timeout)
        ready = selector.select(0)
        if ready or timeout == 0:
            return ready
        with self._changed:
            jump = self._budget if timeout is None else min(timeout, self._budget)
            self._budget -= jump
            self.advance(jump)
            if jump and jump == timeout:
                return []
            self._parked = True
            self._changed.notify_all()
        ready = selector.select(PATIENCE)
        with self._changed:
            self._parked = False
        return ready

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Keep the loop from beginning its first turn inside the ``with``."""
        gate, wait = threading.Event(), self.wait

        def held(selector: selectors.BaseSelector, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
            assert gate.wait(PATIENCE)
            return wait(selector, timeout)

        self.wait = held
        yield
        gate.set()

    def run(self, seconds: float, wake: Callable[[], None]) -> None:
        """Let so many seconds pass, and wait until the loop has done all that was due in them."""
        with self._changed:
            self._budget += seconds
            self._parked = False
        wake()
        self.settle()

    def settle(self) -> None:
        """Wait until the loop has nothing to do."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._parked, PATIENCE)


class Wire:
    """One scripted connection; a socket pair makes it readable.

    Attributes:
        sent: the messages the client sent.
        left: how the client left: ``("close", code)`` for an orderly end, ``("abort", code)`` for the other.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self.pending = False
        self.wants_write = False
        self.backlog = 0
        self.send_deadline: float | None = None
        self.phase = ""
        self.sent: list[dict[str, Any]] = []
        self.left: list[tuple[str, int | None]] = []
        self._inbox: deque[bytes] = deque()
        self._end: ConnectionLost | None = None

    def open(self, wait: Waiter, wake: Callable[[], None]) -> None:
        """As the server's script says."""
        self.sock, self._far = socket.socketpair()
        self.sock.setblocking(False)
        try:
            self._server.script_of_open(wait)
        except BaseException:
            self._release()
            raise

    def push(self, *messages: Mapping[str, Any] | bytes, end: ConnectionLost | None = None) -> None:
        """Let the client receive messages, all in one read, and then perhaps the end."""
        self._inbox.extend(m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages)
        self._end = end
        self._far.send(b"x")

    def send(self, payload: bytes) -> None:
        """Note what was sent, and answer."""
        message = json.loads(payload)
        with self._server.changed:
            self.sent.append(message)
            self._server.changed.notify_all()
        if message["type"] == "ping" and self._server.pongs:
            self.push({"type": "pong"})

    def write(self) -> None:
        """Nothing is ever left to write."""

    def expire(self) -> None:
        """Nothing ever expires."""

    def receive(self) -> Batch:
        """All that was pushed."""
        self._server.before_receive()
        self.sock.recv(4096)
        messages = [self._inbox.popleft() for _ in range(len(self._inbox))]
        if self._end is not None:
            self._release()
        return Batch(messages, len(messages), self._end)

    def close(self, code: int, reason: str, wait: Waiter, deadline: float) -> None:
        """Note it."""
        self._leave("close", code)

    def linger(self, wait: Waiter, deadline: float) -> None:
        """As the server's script says."""
        self._server.linger(wait, deadline)

    def abort(self, code: int | None = None) -> None:
        """Note it."""
        self._leave("abort", code)

    def disown(self) -> None:
        """Release the descriptors."""
        self._release()

    def _leave(self, how: str, code: int | None) -> None:
        with self._server.changed:
            self.left.append((how, code))
            self._server.changed.notify_all()
        self._release()

    def _release(self) -> None:
        self.sock.close()
        self._far.close()


class ScriptedServer:
    """Makes the connections of one client.

    Attributes:
        wires: those made so far, failed ones included.
        refusals: what the coming attempts to open raise, one each.
        hang: whether attempts to open wait until they are interrupted.
        pongs: whether pings are answered.
        before_receive: called before every read.
        linger: what a failed connection's last moments are.
    """

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.refusals: deque[BaseException] = deque()
        self.hang = False
        self.pongs = True
        self.before_receive: Callable[[], object] = lambda: None
        self.linger: Callable[[Waiter, float], object] = lambda wait, deadline: None
        self.changed = threading.Condition()

    def connect(self, settings: Settings, redact: Callable[[str], str]) -> Wire:
        """The client's transport factory."""
        wire = Wire(self)
        with self.changed:
            self.wires.append(wire)
            self.changed.notify_all()
        return wire

    def script_of_open(self, wait: Waiter) -> None:
        """Refuse, hang, or let in."""
        while self.hang:
            wait(None, 0, float("inf"))
        if self.refusals:
            raise self.refusals.popleft()

    def wait_for(self, predicate: Callable[[], object]) -> None:
        """Wait until it holds, looking after every message and every end."""
        with self.changed:
            assert self.changed.wait_for(predicate, PATIENCE)

    def kinds(self, number: int = -1) -> list[str]:
        """The types of what was sent on a connection, the last one by default."""
        return [message["type"] for message in self.wires[number].sent]


class Scripted:
    """A client over a `ScriptedServer` and a `JumpingClock`; closed on leaving the ``with``."""

    def __init__(self, **changes: Any) -> None:
        self.server = ScriptedServer()
        self.clock = JumpingClock()
        self.client = Client._over(settings(**changes), self.server.connect, self.clock, lambda: 1.0)

    @property
    def wire(self) -> Wire:
        """The latest connection."""
        return self.server.wires[-1]

    def ready(self) -> Scripted:
        """Connected, and idle."""
        self.client.connect(PATIENCE)
        self.clock.settle()
        return self

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run(seconds, self.client._loop.wake)

    def settle(self) -> None:
        """Let the loop do what it was asked."""
        self.run(0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()


def chain(error: BaseException | None) -> list[BaseException]:
    """An error with its causes and contexts."""
    found: list[BaseException] = []
    todo = [error]
    while todo:
        each = todo.pop()
        if each is not None and each not in found:
            found.append(each)
            todo += [each.__cause__, each.__context__]
    return found


def threads_of(client: Client) -> list[threading.Thread]:
    """The threads of the client that are alive."""
    callbacks = client._loop.callbacks
    threads = [client._loop._thread, None if callbacks is None else callbacks._thread]
    return [thread for thread in threads if thread is not None and thread.is_alive()]


def await_end(client: Client) -> AllenHarkError | None:
    """Wait until the client has ended, whatever its callbacks do; its terminal error if there is one."""
    assert client._loop.wait_for(lambda: False, time.monotonic() + PATIENCE)
    return client.error
