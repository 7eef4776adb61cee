"""`FaultProxy`: a TCP proxy on loopback that does to a connection what networks do.

Neighbours: `_thread` carries what happens in `_relay`; `_simulator` is the server it usually stands before.  It must
never touch a connection itself: those belong to the proxy's thread.
"""

from __future__ import annotations

import ipaddress
import math
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from .. import ConfigurationError
from .._hints import Self
from ._pipe import Pace
from ._relay import BOTH, TO_CLIENT, TO_SERVER, Address, Record, Relay, bind
from ._thread import LoopThread

__all__ = ["Direction", "FaultProxy"]

_T = TypeVar("_T")

Direction = Literal["to_server", "to_client", "both"]
"""Whose bytes a fault strikes: the client's, on their way to the server; the server's; or both."""

_DIRECTIONS: Final[dict[str, tuple[int, ...]]] = {"to_server": TO_SERVER, "to_client": TO_CLIENT, "both": BOTH}
_PORTS: Final = {"ws": 80, "wss": 443, "http": 80, "https": 443}
_ANSWER_TIMEOUT: Final = 10.0
"""Seconds to wait for the proxy's thread; every operation takes milliseconds."""
_THROTTLE_TICK: Final = 0.02
"""Seconds between the portions of a throttled connection."""


class FaultProxy:
    """A TCP proxy on loopback before a server on loopback, with faults that can be switched at any time.

    It hands bytes on as they come, end of stream and reset included, and knows nothing of what they mean: TLS passes
    through, encrypted.  Connect the client to `url` instead of the server's.

    Use it as a context manager, or call `start` and `stop`.  All members may be used from any thread; a fault has taken
    effect when the call returns, on the connections that are open and on later ones.  Faults add up (but `drip` and
    `throttle` replace each other), last until they are switched off, and end with `stop`.  A stopped proxy can be
    started again: it keeps its port and its counters.

    Not more than 256 KiB wait in it per connection and direction; then it stops reading, as TCP would.

    Args:
        target: the server's URL, or its ``host:port``; `url` has the same form.  The host has to be this machine's
            loopback, by name or address, since for the certificate's sake `url` names the same one.
        port: the port to listen on; 0: a free one.

    Raises:
        ConfigurationError: an argument cannot be used.

    Example:
        >>> with FaultProxy(simulator.url) as proxy, Client(url=proxy.url) as client:
        ...     losses = client.stream(Disconnected)
        ...     proxy.rst()
        ...     losses.get(timeout=5).code
        1006
    """

    def __init__(self, target: str, *, port: int = 0) -> None:
        self._parts = _split(target)
        self._host, self._target_port = _checked_target(self._parts)
        self._port = _checked_port(port)
        self._record = Record()
        self._lock = threading.RLock()
        self._running: tuple[LoopThread, Relay] | None = None

    def start(self) -> Self:
        """Begin to accept, and return the proxy; does nothing when it runs already.  The server need not run yet.

        Raises:
            OSError: the port is taken, or the target's name has no address.
        """
        with self._lock:
            if self._running is None:
                targets = _look_up(self._host, self._target_port)
                family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
                self._launch(bind(family, self._port), targets)
        return self

    def _launch(self, port: socket.socket, targets: list[Address]) -> None:
        thread = None
        try:
            self._port = port.getsockname()[1]
            thread = LoopThread(f"allenhark fault proxy on port {self._port}")
            self._running = thread, thread.call(_open(port, targets, self._record), _ANSWER_TIMEOUT)
        except BaseException:
            port.close()
            if thread is not None:
                thread.stop(_ANSWER_TIMEOUT)
            raise

    def stop(self) -> None:
        """Close every connection, the port and the thread; does nothing when it does not run."""
        with self._lock:
            if self._running is None:
                return
            try:
                self._run(Relay.shut)
            finally:
                (thread, _), self._running = self._running, None
                thread.stop(_ANSWER_TIMEOUT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        place = f"port {self._port}" if self._running else "stopped"
        return f"<{type(self).__name__} {place}, connections: {self.connections}>"

    # -- what it is and has seen --------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where to connect to: the target with the proxy's port.

        Raises:
            RuntimeError: not started yet, and the port is to be chosen then.
        """
        if not self._port:
            raise RuntimeError(f"the proxy has no port yet: {_HOW_TO_START}")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return _joined(self._parts._replace(netloc=f"{host}:{self._port}"))

    @property
    def accepted(self) -> int:
        """How many connections were accepted, from the beginning."""
        return self._settled().accepted

    @property
    def connections(self) -> int:
        """How many clients are connected now; one that has left counts until its leaving got through to the server."""
        with self._lock:
            return 0 if self._running is None else self._run(lambda relay: relay.connections)

    @property
    def bytes_to_server(self) -> int:
        """How many bytes were handed on to the server, from the beginning."""
        return self._settled().tallies[0].sent

    @property
    def bytes_to_client(self) -> int:
        """How many bytes were handed on to clients, from the beginning."""
        return self._settled().tallies[1].sent

    def _settled(self) -> Record:
        """The counters, once the proxy's thread has done what it is at: what has arrived anywhere is counted."""
        with self._lock:
            if self._running is not None:
                self._run(lambda _relay: None)
        return self._record

    # -- slow ---------------------------------------------------------------------------------------------------------

    def latency(self, seconds: float, direction: Direction = "both") -> None:
        """Hand every byte on so much later, in order; what is on its way keeps to it too.

        Args:
            seconds: 0 switches it off and sends at once what is on its way.
            direction: where; with both, a question and its answer take twice as long.

        Raises:
            ValueError: `seconds` is negative or not finite, or there is no such direction.
            RuntimeError: the proxy is not started.
        """
        self._set(direction, latency=_seconds("latency", seconds))

    def throttle(self, bytes_per_second: float | None, direction: Direction = "both") -> None:
        """Hand on at most so many bytes a second, per connection.

        Args:
            bytes_per_second: above 0; None switches `throttle` and `drip` off.
            direction: where.

        Raises:
            ValueError: the rate is not above 0 and finite, or there is no such direction.
            RuntimeError: the proxy is not started.
        """
        if bytes_per_second is not None and not 0 < bytes_per_second < math.inf:
            raise ValueError(f"throttle() takes bytes per second, above 0 and finite, or None, got {bytes_per_second}")
        pace = None
        if bytes_per_second is not None:
            pace = Pace(max(1, round(bytes_per_second * _THROTTLE_TICK)), 1 / bytes_per_second)
        self._set(direction, pace=pace)

    def drip(self, seconds: float | None = 0.01, direction: Direction = "both") -> None:
        """Hand on one byte at a time, each in a TCP segment of its own.

        Args:
            seconds: between two bytes; None switches `drip` and `throttle` off.
            direction: where.

        Raises:
            ValueError: `seconds` is negative or not finite, or there is no such direction.
            RuntimeError: the proxy is not started.
        """
        self._set(direction, pace=None if seconds is None else Pace(1, _seconds("drip", seconds)))

    def stall(self, on: bool = True, direction: Direction = "both") -> None:
        """Read nothing, until the sender's and our buffers are full and it has to wait; nothing is lost.

        Raises:
            ValueError: there is no such direction.
            RuntimeError: the proxy is not started.
        """
        self._set(direction, stall=on)

    # -- broken -------------------------------------------------------------------------------------------------------

    def blackhole(self, on: bool = True, direction: Direction = "both") -> None:
        """Swallow everything, the ends of connections included, while both sides believe that it arrives.

        A connection that lost a byte stays mute in that direction when this is switched off, since TCP delivers no
        stream with a hole; only its end gets through then.

        Raises:
            ValueError: there is no such direction.
            RuntimeError: the proxy is not started.
        """
        self._set(direction, blackhole=on)

    def cut(self, after: int | None, direction: Direction = "to_client") -> None:
        """Hand on so many bytes more and then end the connection, with FIN to both sides.

        The count is each connection's own: from now on, or from its first byte if it is opened later.

        Args:
            after: bytes, 0 or more; None switches it off.
            direction: whose bytes are counted.

        Raises:
            ValueError: `after` is negative, or there is no such direction.
            RuntimeError: the proxy is not started.
        """
        self._mark("cut", after, direction)

    def corrupt(self, offset: int | None, direction: Direction = "to_client") -> None:
        """Turn all bits of one byte on each connection.

        Args:
            offset: how many bytes come before it, 0 or more, counted as for `cut`; None switches it off.
            direction: whose bytes are counted.

        Raises:
            ValueError: `offset` is negative, or there is no such direction.
            RuntimeError: the proxy is not started.
        """
        self._mark("corrupt", offset, direction)

    def rst(self) -> None:
        """Cut every open connection with a TCP RST to both sides; what is on its way is lost.

        Raises:
            RuntimeError: the proxy is not started.
        """
        self._run(Relay.rst)

    def fin(self) -> None:
        """End every open connection with a TCP FIN to both sides; what is on its way is lost.

        Raises:
            RuntimeError: the proxy is not started.
        """
        self._run(Relay.fin)

    # -- closed -------------------------------------------------------------------------------------------------------

    def refuse(self, on: bool = True) -> None:
        """Stop to listen, so that new connections are refused; existing ones stay, and the port is kept.

        Raises:
            RuntimeError: the proxy is not started.
        """
        self._run(lambda relay: relay.refuse(on=on))

    def hang_on_accept(self, on: bool = True) -> None:
        """Accept new connections and say nothing, without a connection to the server; existing ones stay.

        Those accepted meanwhile stay mute when it is switched off.

        Raises:
            RuntimeError: the proxy is not started.
        """
        self._run(lambda relay: relay.hang(on=on))

    def heal(self) -> None:
        """Switch every fault off, in both directions.

        Raises:
            RuntimeError: the proxy is not started.
        """
        self._run(Relay.heal)

    def _set(self, direction: str, **changes: float | Pace | bool | None) -> None:
        where = _checked_direction(direction)
        self._run(lambda relay: relay.set(where, **changes))

    def _mark(self, kind: str, value: int | None, direction: str) -> None:
        where = _checked_direction(direction)
        if value is not None and value < 0:
            raise ValueError(f"{kind}() takes a number of bytes, 0 or more, or None, got {value!r}")
        self._run(lambda relay: relay.mark(where, kind, value))

    def _run(self, action: Callable[[Relay], _T]) -> _T:
        """Do something on the proxy's thread, one thing at a time."""
        with self._lock:
            if self._running is None:
                raise RuntimeError(f"the proxy is not started: {_HOW_TO_START}")
            thread, relay = self._running
            return thread.call(_do(action, relay), _ANSWER_TIMEOUT)


_HOW_TO_START: Final = "use it in a with statement, or call start()"


async def _open(port: socket.socket, targets: list[Address], record: Record) -> Relay:
    relay = Relay(port, targets, record)
    relay.listen()
    return relay


async def _do(action: Callable[[Relay], _T], relay: Relay) -> _T:
    return action(relay)


def _split(target: str) -> SplitResult:
    return urlsplit(target if "://" in target else f"//{target}")


def _joined(parts: SplitResult) -> str:
    return parts.geturl().removeprefix("//")


def _checked_target(parts: SplitResult) -> tuple[str, int]:
    """Host and port of the target, which has to be on this machine."""
    host = parts.hostname or ""
    try:
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        port = None
    if not port or not _is_loopback(host):
        raise ConfigurationError(
            "FaultProxy(target) takes the URL or host:port of a server on this machine's loopback, such as "
            f'Simulator.url or "127.0.0.1:8765", got {_joined(parts)!r}'
        )
    return host, port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _look_up(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _type, _protocol, _name, address in found]


def _checked_port(port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigurationError(f"FaultProxy(port=…) takes 0 (any free one) or a port up to 65535, got {port!r}")
    return port


def _checked_direction(direction: str) -> tuple[int, ...]:
    if direction not in _DIRECTIONS:
        raise ValueError(f'direction takes "to_server", "to_client" or "both", got {direction!r}')
    return _DIRECTIONS[direction]


def _seconds(name: str, value: float) -> float:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name}() takes seconds, 0 or more and finite, got {value!r}")
    return value
