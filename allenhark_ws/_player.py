"""A recording in the place of a network: a transport that reads files, and the clock that goes with it.

Frames come in groups that were received at the same moment; one group is read ahead and given out when it is due.
Neighbours: `_replay` makes both, `_driver` takes them for a connection and the time (`_ports`), `recording` reads the
files.  It must never know who listens, but for whether anybody does.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Final

from attrs import Factory, define, field

from ._aside import Waiter
from ._instant import Instant
from ._ports import Clock
from .errors import ConnectionFailed, ConnectionLost, RecordingError
from .recording import Group, Reader

__all__ = ["MAX_FRAMES", "PlayedClock", "Player"]

MAX_FRAMES: Final = 1_024
"""Frames of one turn of the loop, as of a live connection."""


@define(eq=False)
class PlayedClock(Clock):
    """The real monotonic time, and the time of what was played last.

    Attributes:
        wall: when the frames that were played last were received; None before the first.
        due: when the next ones are to be played, monotonic seconds, if that was not yet when they were asked for last.
    """

    _real: Clock
    wall: datetime | None = None
    due: float | None = None

    def now(self) -> Instant:
        """The moment."""
        mono, wall = self._real.now()
        return Instant(mono, self.wall or wall)

    def wait(self, selector: selectors.BaseSelector, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep as the loop asks, but not longer than until the next frames are due."""
        if self.due is not None:
            left = max(0.0, self.due - self._real.now().mono)  # it may have passed since they were asked for
            timeout = left if timeout is None else min(timeout, left)
        return self._real.wait(selector, timeout)


@define(eq=False)
class _Batch:
    """What one turn plays; see `_ports.Batch`."""

    messages: list[bytes] = Factory(list[bytes])
    frames: int = 0
    end: ConnectionLost | None = None


@define(eq=False)
class Player:
    """The transport: reads ahead by one group of frames and gives it out when it is due.

    Attributes:
        held_back: nothing is played before `has_audience`.
        has_audience: somebody listens.
    """

    _paths: list[str]
    _speed: float
    _clock: PlayedClock
    held_back: bool = False
    has_audience: bool = False
    phase: str = field(default="", init=False)
    wants_write: bool = field(default=False, init=False)
    backlog: int = field(default=0, init=False)
    send_deadline: float | None = field(default=None, init=False)
    _sockets: tuple[socket.socket, ...] = field(default=(), init=False)
    _reader: Reader | None = field(default=None, init=False)
    _group: Group | None = field(default=None, init=False)
    _due: float | None = field(default=None, init=False)
    _error: RecordingError | None = field(default=None, init=False)

    @property
    def sock(self) -> socket.socket:
        """One that is never ready: the clock says when to go on."""
        return self._sockets[0]

    @property
    def pending(self) -> bool:
        """Whether the next frames are due; if only the time holds them up, the clock is told when that is over."""
        if self.held_back and not self.has_audience:
            return False
        waits = self._due is not None and self._due > self._clock.now().mono
        self._clock.due = self._due if waits else None
        return not waits

    def open(self, wait: Waiter, wake: Callable[[], None]) -> None:
        """Open the files; what goes wrong with them is told at the end of what can be played.

        Raises:
            ConnectionFailed: there are no file descriptors left.  Nothing stays open.
        """
        try:
            self._sockets = socket.socketpair()
        except OSError as error:
            text = f"the replay cannot begin: {error.strerror or error} (close some files, or allow more: ulimit -n)"
            raise ConnectionFailed(text) from error.with_traceback(None)
        try:
            self._reader = Reader(self._paths, self._note)
        except (OSError, RecordingError) as error:  # it was there when the client was made
            self._fail(error)
        self._group = self._next_group()
        if self._group is not None:
            self._clock.wall = self._group.at

    def receive(self) -> _Batch:
        """The next frames; at the end, why it is."""
        group = self._group
        if group is None:
            return _Batch(end=self._end())
        at, raws = group
        self._clock.wall = at
        if len(raws) > MAX_FRAMES:
            self._group = Group(at, raws[MAX_FRAMES:])
            return _Batch(raws[:MAX_FRAMES], 1)
        self._group = following = self._next_group()
        if self._speed:
            distance = 0.0 if following is None else (following.at - at).total_seconds()
            began = self._clock.now().mono if self._due is None else self._due
            self._due = began + max(0.0, distance) / self._speed
        return _Batch(raws, 1)

    def _next_group(self) -> Group | None:
        try:
            return None if self._reader is None else self._reader.next_group()
        except (OSError, RecordingError) as error:
            self._fail(error)
            return None

    def _note(self, error: RecordingError) -> None:
        if self._error is None:
            self._error = error
        else:
            self._error.count += 1

    def _fail(self, error: OSError | RecordingError) -> None:
        """Nothing more can be read."""
        if isinstance(error, OSError):
            path = self._paths[0] if self._reader is None else self._reader.path
            failure = RecordingError(path, f"it cannot be read: {error.strerror or error}")
            failure.__cause__ = error.with_traceback(None)
            error = failure
        self._error = self._error or error.with_traceback(None)

    def _end(self) -> ConnectionLost:
        end = ConnectionLost("the recording is at its end")
        end.__cause__ = self._error
        return end

    def send(self, payload: bytes) -> None:
        """Nobody listens."""

    def write(self) -> None:
        """Nothing is ever left to write."""

    def expire(self) -> None:
        """Nothing ever expires."""

    def close(self, code: int, reason: str, wait: Waiter, deadline: float) -> None:
        """Release the files."""
        self._release()

    def linger(self, wait: Waiter, deadline: float) -> None:
        """Likewise."""
        self._release()

    def abort(self, code: int | None = None) -> None:
        """Likewise."""
        self._release()

    def disown(self) -> None:
        """Likewise."""
        self._release()

    def _release(self) -> None:
        for sock in self._sockets:
            sock.close()
        if self._reader is not None:
            with contextlib.suppress(ValueError):  # forked while the other process reads
                self._reader.close()
