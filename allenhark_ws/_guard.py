"""What every phase of opening a connection stands on: one deadline, one byte cap, one translation of errors.

`Opening` knows the deadline and every socket made so far; `GuardedSocket` gives libraries that read and write in
blocking style a socket that keeps to both.  Neighbours: `_connect` and the phases it names open through them,
`_transport` holds the `Opening` so that a forked child can let go of its sockets.  A peer that drips must never get
more time than the one deadline.
"""

from __future__ import annotations

import logging
import os
import re
import selectors
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar, cast

from attrs import define, field, frozen

from ._aside import NoThread, TookTooLong, Waiter, call_aside
from ._log import log
from .errors import ConnectionFailed

__all__ = ["GuardedSocket", "Head", "Opening", "describe", "disown", "wanted_mask"]

T = TypeVar("T")

_logger = logging.getLogger("allenhark_ws")

MAX_HEAD: Final = 65_536
"""Bytes an HTTP response head may have; far above what servers send, and all that endless headers can cost."""

_READ_SIZE: Final = 16_384
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")
_SOURCE_LINE: Final = re.compile(r" \(_ssl\.c:\d+\)$")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: |$)")


def describe(error: OSError) -> str:
    """A foreign error in a few words, without its number, file or line."""
    text = getattr(error, "reason", None)  # an SSLError's reason is its text without the frills
    text = text or _SOURCE_LINE.sub("", error.strerror or "")
    if not text:
        return type(error).__name__
    words = str(text).replace("_", " ")
    if words.isupper():
        return words.lower()
    return words if words[:2].isupper() else words[:1].lower() + words[1:]


def disown(sock: socket.socket) -> None:
    """Close this process's copy of the descriptor and nothing else: no shutdown, no TLS alert, nothing on the wire."""
    descriptor = sock.detach()
    if descriptor >= 0:
        os.close(descriptor)


@define
class Opening:
    """One connection being opened.

    Attributes:
        wait: the loop's waiter.
        wake: makes it return; for helper threads.
        clock: monotonic seconds.
        timeout: seconds all phases together may take.
        deadline: when that is over, on `clock`.
        sockets: every socket made for it, to be closed on any failure.
        phase: what is going on, in words.
    """

    wait: Waiter
    wake: Callable[[], None]
    clock: Callable[[], float]
    timeout: float
    deadline: float
    sockets: list[socket.socket] = field(factory=list[socket.socket])
    phase: str = ""

    def check(self, phase: str) -> float:
        """The time now, as the phase goes on.

        Raises:
            ConnectionFailed: the deadline passed.
        """
        self.phase = phase
        now = self.clock()
        if now >= self.deadline:
            raise self.timed_out(phase)
        return now

    def tell(self, step: str, outcome: str, **facts: object) -> None:
        """Log at DEBUG how a step of opening goes, the facts on the record: for whoever wants to see where it gets to.

        Args:
            step: ``dns``, ``proxy``, ``tcp``, ``tunnel``, ``tls`` or ``upgrade``.
            outcome: ``begun``, ``done`` or, for one address of several, ``failed``.
            facts: what is known of it, as text, numbers, tuples of them, or bytes; never a secret.
        """
        if _logger.isEnabledFor(logging.DEBUG):
            words = ", ".join(f"{name} {_spelt(fact)}" for name, fact in facts.items() if not isinstance(fact, bytes))
            opening = {"step": step, "outcome": outcome, "facts": facts}
            log(logging.DEBUG, "opening: %s %s: %s", step, outcome, words, extra={"opening": opening})

    def timed_out(self, phase: str) -> ConnectionFailed:
        """The error that says so."""
        return ConnectionFailed(f"timed out after {self.timeout:g} s during the {phase}")

    def until_ready(self, sock: socket.socket, mask: int, phase: str) -> None:
        """Wait for the socket, but not beyond the deadline.

        The clock is looked at first, so a peer that keeps the socket ready with a byte now and then gains nothing.

        Raises:
            ConnectionFailed: the deadline passed.
        """
        self.check(phase)
        while not self.wait(sock, mask, self.deadline):
            self.check(phase)

    def aside(self, function: Callable[[], T], name: str, phase: str) -> T:
        """`call_aside` within the deadline.

        Raises:
            ConnectionFailed: the deadline passed, or there is no thread for it.
            Exception: what the function raised.
        """
        self.phase = phase
        failure = self.timed_out(phase)
        try:
            return call_aside(
                function, name=name, wait=self.wait, wake=self.wake, deadline=self.deadline, clock=self.clock
            )
        except TookTooLong:
            pass
        except NoThread:
            failure = ConnectionFailed(f"this process can start no more threads, which the {phase} needs")
        raise failure

    def close_all(self) -> None:
        """Close every socket made so far."""
        for sock in self.sockets:
            sock.close()

    def disown_all(self) -> None:
        """`disown` every socket made so far."""
        for sock in list(self.sockets):
            disown(sock)


def _spelt(fact: object) -> str:
    """A fact as a log shows it."""
    return " ".join(map(str, cast("tuple[object, ...]", fact))) if isinstance(fact, tuple) else str(fact) or "none"


@frozen
class Head:
    """An HTTP response's head.

    Attributes:
        status: the status code.
        headers: values by lower-case name; those of repeated names are joined with commas (RFC 9110, section 5.2).
    """

    status: int
    headers: Mapping[str, str]


def _parse_head(data: bytes) -> Head | None:
    """Read a response head; None when it is not HTTP/1.  Lines that are no header are skipped."""
    first, *lines = data.replace(b"\r\n", b"\n").split(b"\n")
    match = _STATUS_LINE.match(first)
    if match is None:
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon and name and name == name.strip():
            name, value = name.lower(), value.strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Head(int(match[1]), headers)


@define(eq=False)
class GuardedSocket:
    """A non-blocking socket in blocking clothes: reads and writes wait through the `Opening`, never past its deadline.

    Every failure leaves it as a `ConnectionFailed` that names the phase, so no library in between needs to be trusted
    to report one.  What was read beyond what was asked for stays in `rest`.

    Attributes:
        sock: the socket under it.
        opening: gives the deadline.
        phase: what is going on, for error texts.
    """

    sock: socket.socket
    opening: Opening
    phase: str
    rest: bytearray = field(factory=bytearray)

    def recv(self, size: int) -> bytes:
        """At least one and at most `size` bytes.

        Raises:
            ConnectionFailed: the peer closed, the connection broke, or the deadline passed.
        """
        if not self.rest:
            self._fill()
        data = bytes(self.rest[:size])
        del self.rest[:size]
        return data

    def send(self, data: bytes) -> int:
        """Write all of the data; returns its length.

        Raises:
            ConnectionFailed: the connection broke, or the deadline passed.
        """
        left = bytes(data)
        while left:
            left = left[self._until_done(partial(self.sock.send, left), selectors.EVENT_WRITE) :]
        return len(data)

    sendall = send

    def gettimeout(self) -> float | None:
        """None: it looks like a blocking socket; the deadline is not a per-operation timeout."""
        return None

    def close(self) -> None:
        """Close the socket under it."""
        self.sock.close()

    def read_head(self) -> Head:
        """Read one HTTP response head and no body.

        Raises:
            ConnectionFailed: it is no HTTP, larger than 64 KiB, or as `recv`.
        """
        searched = 0
        while (end := _END_OF_HEAD.search(self.rest, max(0, searched - 3))) is None and len(self.rest) < MAX_HEAD:
            searched = len(self.rest)
            self._fill()
        if end is None or end.end() > MAX_HEAD:
            raise ConnectionFailed(f"{self.phase}: the answer has more than {MAX_HEAD} bytes of headers")
        data = bytes(self.rest[: end.start()])
        del self.rest[: end.end()]
        head = _parse_head(data)
        if head is None:
            raise ConnectionFailed(f"{self.phase}: the answer is not HTTP/1.1")
        return head

    def _fill(self) -> None:
        data = self._until_done(partial(self.sock.recv, _READ_SIZE), selectors.EVENT_READ)
        if not data:
            raise ConnectionFailed(f"{self.phase}: the peer closed the connection")
        self.rest += data

    def _until_done(self, operation: Callable[[], T], mask: int) -> T:
        """Repeat a non-blocking operation until it was possible."""
        while True:
            self.opening.check(self.phase)
            try:
                return operation()
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as blocked:
                wanted = wanted_mask(blocked, mask)
            except OSError as error:
                raise ConnectionFailed(f"{self.phase}: {describe(error)}") from error
            self.opening.until_ready(self.sock, wanted, self.phase)


def wanted_mask(blocked: OSError, mask: int) -> int:
    """What to wait for: TLS may have to read before it can write, and the other way round."""
    if isinstance(blocked, ssl.SSLWantReadError):
        return selectors.EVENT_READ
    return selectors.EVENT_WRITE if isinstance(blocked, ssl.SSLWantWriteError) else mask
