"""What the loop needs of the world, as protocols and a clock: the ports that tests and replays plug into.

Neighbours: `_driver` and `_network` work through these; `_transport` is the real connection, `Clock` the real time.  It
must never import a real connection: importing the package loads no TLS.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Final, Protocol

from ._aside import Waiter
from ._instant import Instant
from .config import Settings
from .errors import ConnectionLost

__all__ = ["Batch", "Clock", "Instant", "Tap", "Transport", "TransportFactory"]

_LONGEST_SLEEP: Final = 86_400.0
"""Seconds of a single wait at most: the system's waits take no more than some weeks, intervals may be longer."""


class Clock:
    """Both clocks of the machine, and the one place where time passes; tests pass their own."""

    def now(self) -> Instant:
        """The moment: monotonic seconds, and aware UTC."""
        return Instant(time.monotonic(), datetime.now(timezone.utc))

    def wait(self, selector: selectors.BaseSelector, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep until something is ready, or for `timeout` seconds, None for ever; what is ready."""
        return selector.select(None if timeout is None else min(timeout, _LONGEST_SLEEP))


class Batch(Protocol):
    """What one read of the socket brought; see `_transport.Batch`."""

    @property
    def messages(self) -> Sequence[bytes]: ...

    @property
    def frames(self) -> int: ...

    @property
    def end(self) -> ConnectionLost | None: ...


class Transport(Protocol):
    """One connection; see `_transport.Transport`, of which this is what the loop needs."""

    @property
    def phase(self) -> str: ...

    @property
    def sock(self) -> socket.socket: ...

    @property
    def pending(self) -> bool: ...

    @property
    def wants_write(self) -> bool: ...

    @property
    def backlog(self) -> int: ...

    @property
    def send_deadline(self) -> float | None: ...

    def open(self, wait: Waiter, wake: Callable[[], None]) -> None: ...

    def send(self, payload: bytes) -> None: ...

    def write(self) -> None: ...

    def expire(self) -> None: ...

    def receive(self) -> Batch: ...

    def close(self, code: int, reason: str, wait: Waiter, deadline: float) -> None: ...

    def linger(self, wait: Waiter, deadline: float) -> None: ...

    def abort(self, code: int | None = None) -> None: ...

    def disown(self) -> None: ...


class Tap(Protocol):
    """Who gets all that is received, undecoded; see `recording.Recorder`.  Nothing here may wait."""

    def put(self, at: datetime, messages: Sequence[bytes], /) -> None: ...

    def finish(self) -> None: ...

    def join(self, deadline: float, /) -> bool: ...

    def disown(self) -> None: ...


TransportFactory = Callable[[Settings, Callable[[str], str]], Transport]
