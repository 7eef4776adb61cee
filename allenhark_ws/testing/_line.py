"""One connection in memory: what a client's loop takes for a transport, and a simulated server's end of it.

Nothing is opened but a socket pair, by which the loop hears that there is something to read.  Neighbours: `_virtual`
makes it, `_conversation` says what the server answers.  It must never open a port.
"""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, field, frozen

from .. import ConnectionFailed, ConnectionLost
from ._conversation import Conversation

__all__ = ["Exchange", "Line"]


class Exchange(Protocol):
    """Where lines end: the server."""

    def connect(self, line: Line) -> Conversation | None:
        """A client calls: begin a conversation, or None to refuse."""

    def hear(self, line: Line, frame: str) -> None:
        """The client said something."""

    def hung_up(self, line: Line) -> None:
        """The client left."""


class _Binary(bytes):
    """The payload of a binary frame: whatever is not exactly `bytes` counts as one."""


@frozen
class _Batch:
    """What one read brought."""

    messages: Sequence[bytes]
    frames: int
    end: ConnectionLost | None


@define(eq=False)
class Line:
    """A connection; the methods up to `disown` are the loop's, see `_ports.Transport`, the others the server's.

    Attributes:
        redact: takes the client's key out of a text.
        conversation: what was said on it.
    """

    _exchange: Exchange
    redact: Callable[[str], str]
    conversation: Conversation = field(init=False)
    phase: str = field(default="", init=False)
    wants_write: bool = field(default=False, init=False)
    backlog: int = field(default=0, init=False)
    send_deadline: float | None = field(default=None, init=False)
    _ends: tuple[socket.socket, socket.socket] | None = field(default=None, init=False)
    _inbox: deque[bytes] = field(factory=deque[bytes], init=False)
    _lost: ConnectionLost | None = field(default=None, init=False)

    def open(self, wait: object, wake: object) -> None:  # noqa: ARG002 - takes no time, so there is nothing to wait for
        """Be accepted, or refused.

        Raises:
            ConnectionFailed: refused, or there are no file descriptors left.  Nothing stays open.
        """
        try:
            self._ends = near, far = socket.socketpair()
        except OSError as error:
            text = f"no virtual line: {error.strerror or error} (close some files, or allow more: ulimit -n)"
            raise ConnectionFailed(text) from error.with_traceback(None)
        near.setblocking(False)
        far.setblocking(False)
        conversation = self._exchange.connect(self)
        if conversation is None:
            self.disown()
            raise ConnectionFailed("the virtual simulator refuses connections")
        self.conversation = conversation

    @property
    def sock(self) -> socket.socket:
        """Readable when there is something to receive."""
        return self._both[0]

    @property
    def pending(self) -> bool:
        """Whether there is something to receive."""
        return bool(self._inbox) or self._lost is not None

    def send(self, payload: bytes) -> None:
        """Say something to the server, which hears and answers at once."""
        self._exchange.hear(self, payload.decode())

    def write(self) -> None:
        """Nothing is ever left to write."""

    def expire(self) -> None:
        """Nothing ever expires."""

    def receive(self) -> _Batch:
        """All that came."""
        with contextlib.suppress(BlockingIOError):
            self.sock.recv(65_536)
        messages = [self._inbox.popleft() for _ in range(len(self._inbox))]
        lost, self._lost = self._lost, None
        if lost is not None:
            self.disown()
        return _Batch(messages, len(messages), lost)

    def close(self, code: int, reason: str, wait: object, deadline: float) -> None:  # noqa: ARG002 - likewise
        """Leave in good order."""
        self.abort(code)

    def linger(self, wait: object, deadline: float) -> None:
        """The server needs no time to hear our last word."""

    def abort(self, code: int | None = None) -> None:  # noqa: ARG002 - the conversation is over, whatever the code
        """Leave."""
        self._exchange.hung_up(self)
        self._inbox.clear()
        self._lost = None
        self.disown()

    def disown(self) -> None:
        """Release the descriptors."""
        for end in self._ends or ():
            end.close()

    # --- The server's end

    def say(self, message: str | bytes) -> None:
        """Let the client receive a message."""
        self._inbox.append(message.encode() if isinstance(message, str) else _Binary(message))
        self._ring()

    def hang_up(self, loss: ConnectionLost) -> None:
        """End the connection."""
        self._lost = loss
        self._ring()

    def _ring(self) -> None:
        _, far = self._both
        with contextlib.suppress(OSError):  # full: it is readable already; closed: nobody listens
            far.send(b"\0")

    @property
    def _both(self) -> tuple[socket.socket, socket.socket]:
        if self._ends is None:
            raise RuntimeError("this line was not opened")
        return self._ends
