"""One WebSocket connection, non-blocking, for one thread: the only place where bytes meet the network.

Nothing here sleeps or selects: opening and closing wait through the function the loop gives, and in between the loop
calls `receive` and `write` when the socket is ready.  A connection is opened once; the next one is a new `Transport`.
Neighbours: `_network` opens, sends and closes, `_driver` reads and writes on; `_connect` does the opening, `_frames`
the frames.  It must never be touched by two threads: an SSLSocket breaks.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from attrs import Factory, define
from websocket import ABNF

from ._aside import Interrupted, Waiter
from ._connect import open_connection
from ._frames import MAX_PONGS, NO_STATUS, CloseReceived, FrameReader, Violation
from ._guard import Opening, describe, disown
from ._proxy import load as load_for_proxies
from .config import Settings
from .errors import AllenHarkError, ConnectionFailed, ConnectionLost

__all__ = ["Batch", "Transport", "load"]

READ_SIZE: Final = 98_304
"""Bytes per read; measured: with 64 KiB messages take up to a tenth longer, since there are more turns of the loop and
hand-offs to threads; with more their events outgrow the processor's cache before the callback thread has them."""

_MAX_MESSAGES: Final = 1_024
"""Messages of one turn: more than one read of honest ones; each of 30,000 empty ones costs as much as any other."""

_MOST_RECORDS: Final = 64
"""TLS records of one read: a peer that puts each message into its own is read a turn's worth at a time, too."""

_WRITE_SIZE: Final = 65_536
_MAX_DRAIN: Final = 1_048_576
"""Bytes to discard when the connection is failed, so that closing with unread input does not reset the connection and
take our close frame with it."""

_MAX_DISCARD: Final = 16_777_216
"""Bytes to discard while waiting for the peer's close frame; more than any backlog in flight."""

_MAX_CLOSE_REASON: Final = 123
_short = struct.Struct("!H").pack


@define
class Batch:
    """What one `Transport.receive` brought; not frozen, since one is made for every read.

    Attributes:
        messages: payloads in order: text as `bytes`, binary as `BinaryMessage`.
        frames: complete frames of any kind that this read brought, or 1 where messages are left of an earlier one; any
            is proof of life.
        end: why the connection is over, or None; told once.
    """

    messages: list[bytes] = Factory(lambda: [])
    frames: int = 0
    end: ConnectionLost | None = None


def _close_payload(code: int | None, reason: str = "") -> bytes:
    """A close frame's payload (RFC 6455, section 5.5.1): nothing without a code; the reason cut to fit."""
    if code is None or code == NO_STATUS:
        return b""
    text = reason.encode()[:_MAX_CLOSE_REASON].decode(errors="ignore")
    return _short(code) + text.encode()


def _lost(reason: str, error: OSError) -> ConnectionLost:
    """A loss with its cause; the traceback goes, since its frames hold what was being sent."""
    lost = ConnectionLost(f"{reason}: {describe(error)}")
    lost.__cause__ = error.with_traceback(None)
    return lost


def _without_frames(error: AllenHarkError) -> AllenHarkError:
    """The error without the frames it came through: they hold the loop and the settings, errors may live for long."""
    if error.__cause__ is not None:
        error.__cause__.__traceback__ = None
    return error.with_traceback(None)


def load(settings: Settings) -> None:
    """Import on the caller's thread what a connection will need beyond this module: the I/O thread imports nothing.

    A fork while another thread imports copies the locks of what is being imported, and not the thread: an import of the
    same would never end in the child.
    """
    load_for_proxies(settings)


class Transport:
    """One connection's life: `open`, then `receive`, `send` and `write` as the socket allows, then `close` or `abort`.

    Args:
        settings: the client's settings.
        clock: monotonic seconds.
        redact: takes secrets out of a text the server sent.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.monotonic,
        redact: Callable[[str], str] = str,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._redact = redact
        self._reader = FrameReader(settings.max_message_size)
        self._opening: Opening | None = None
        self._sock: socket.socket | None = None
        self._open = False
        self._early = b""  # received, not yet parsed
        self._parsed: list[bytes] = []  # parsed, not yet handed out
        self._out = bytearray()  # frames to send
        self._send_deadline: float | None = None
        self._owed = 0  # bytes of `_out` that must have gone by then
        self._pongs: deque[bytes] = deque(maxlen=MAX_PONGS)  # the pings to answer once `_out` has gone
        self._close_sent = False
        self._broken: ConnectionLost | None = None  # reported once everything readable was read
        self._last: CloseReceived | Violation | None = None  # acted on once the messages before it were
        self._allowance = settings.max_message_size + _MAX_DRAIN  # bytes still read from a broken connection
        self._write_needs_read = False
        self._read_needs_write = False
        self._look_again = False
        self._at_end = False  # found behind bytes that go first

    # -- opening ------------------------------------------------------------------------------------------------------

    def open(self, wait: Waiter, wake: Callable[[], None]) -> None:
        """Connect, within `Settings.connect_timeout` for everything together.

        Args:
            wait: the loop's waiter.
            wake: makes it return; called from the thread that resolves names.

        Raises:
            ConnectionFailed: it did not work, or one of its special cases `HandshakeRejected`, `AuthenticationError`
                and `CertificateRejected`.  Nothing stays open.
            Interrupted: the waiter raised it.  Nothing stays open.
        """
        timeout = self._settings.connect_timeout
        self._opening = Opening(wait, wake, self._clock, timeout, self._clock() + timeout)
        try:
            self._sock, self._early = open_connection(self._settings, self._opening)
            self._open = True
        except AllenHarkError as error:
            raise _without_frames(error) from error.__cause__
        except OSError as error:  # setsockopt on a socket that was reset meanwhile (macOS), for one
            failure = ConnectionFailed(f"opening the connection: {describe(error)}")
            raise _without_frames(failure) from error.with_traceback(None)
        finally:
            self._opening = None

    @property
    def phase(self) -> str:
        """What `open` is doing, in words; empty before and afterwards."""
        opening = self._opening  # which ends while another thread asks
        return "" if opening is None else opening.phase

    # -- what the loop asks -------------------------------------------------------------------------------------------

    @property
    def sock(self) -> socket.socket:
        """The socket, for the loop's selector; closed once the connection is over."""
        if self._sock is None:
            raise RuntimeError("this transport was not opened")
        return self._sock

    @property
    def pending(self) -> bool:
        """Whether `receive` has something to tell without waiting for the socket."""
        if not self._open:
            return False
        if self._early or self._parsed or self._broken is not None or self._last is not None:
            return True
        if self._look_again or self._at_end:
            return True
        # what TLS has decrypted already never makes the socket readable again
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    @property
    def wants_write(self) -> bool:
        """Whether to call `write` when the socket is writable."""
        return self._open and self._broken is None and (self._read_needs_write or self._can_write)

    @property
    def _can_write(self) -> bool:
        return bool(self._out) and not self._write_needs_read

    @property
    def backlog(self) -> int:
        """Bytes queued that the kernel has not taken yet."""
        return len(self._out)

    @property
    def send_deadline(self) -> float | None:
        """When what was queued must have gone, with `Settings.send_timeout` for each queueful; None when nothing is."""
        return self._send_deadline

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, payload: bytes) -> None:
        """Queue one text message and write what the socket takes at once.

        Never raises: a failed write is told by `receive`, after all that can still be read.
        """
        self._queue(payload, ABNF.OPCODE_TEXT)
        self.write()

    def write(self) -> None:
        """Write on what is queued, as far as the socket takes it; never raises."""
        if self._read_needs_write:
            self._read_needs_write, self._look_again = False, True
        self._write_needs_read = False
        while self._open and self._broken is None and self._refill():
            try:
                sent = self.sock.send(self._out[:_WRITE_SIZE])
            except (BlockingIOError, ssl.SSLWantWriteError):
                return
            except ssl.SSLWantReadError:
                self._write_needs_read = True
                return
            except OSError as error:
                self._break(_lost("sending failed", error))
                return
            del self._out[:sent]
            self._owed -= sent
            if self._owed <= 0:
                self._expect_progress()

    def expire(self) -> None:
        """Give the connection up as broken, since `send_deadline` passed; told by `receive`."""
        self._break(
            ConnectionLost(f"not sent within {self._settings.send_timeout:g} s: the server does not take our messages")
        )

    def _queue(self, payload: bytes, opcode: int) -> None:
        if not self._open or self._broken is not None or self._close_sent:
            return
        self._out += ABNF.create_frame(payload, opcode).format()
        if self._send_deadline is None:
            self._expect_progress()

    def _expect_progress(self) -> None:
        """All that is queued now must go within `Settings.send_timeout`; what comes later gets its time after that."""
        self._owed = len(self._out)
        self._send_deadline = self._clock() + self._settings.send_timeout if self._owed else None

    def _refill(self) -> bool:
        """Whether there is something to write.

        Pongs go only when all else has gone, and only the latest pings get one: a peer that pings without reading costs
        so many frames of memory.
        """
        if not self._out:
            while self._pongs:
                self._queue(self._pongs.popleft(), ABNF.OPCODE_PONG)
        return bool(self._out)

    def _queue_close(self, payload: bytes) -> None:
        """Queue the one close frame this side sends; nothing may follow it (RFC 6455, section 5.5.1)."""
        self._queue(payload, ABNF.OPCODE_CLOSE)
        self._pongs.clear()
        self._close_sent = True

    def _break(self, lost: ConnectionLost) -> None:
        """Nothing can be sent any more; what was received before is read still."""
        if self._open and self._broken is None:
            self._broken = lost
            self._out.clear()
            self._pongs.clear()
            self._send_deadline = None

    # -- receiving ----------------------------------------------------------------------------------------------------

    def receive(self) -> Batch:
        """Read at most 96 KiB without blocking, parse them and answer pings; never raises.

        Nothing is read while an earlier read has left messages: these are the batch then.
        The batch's `end` is a `ConnectionLost`: with the server's code and (redacted) reason when a close frame came,
        1005 when it had no code, else 1006.  Every later call does nothing; `linger` closes the socket where that is
        not done yet.  An end behind messages is told by a later call, so that those can still be answered.
        """
        if not self._open or self._close_sent:
            return Batch()
        if self._parsed:
            return Batch(self._next_messages(), frames=1)
        if self._last is not None:
            return Batch(end=self._finish(self._last))
        self._look_again = False
        was_broken = self._broken is not None
        data = self._read()
        if data is None:
            if self._write_needs_read:  # TLS may have read what the write waited for
                self.write()
            return Batch(end=self._finish_broken() if was_broken else None)
        if not data:
            return Batch(end=self._finish_broken())
        return self._parse(data)

    def _read(self) -> bytes | None:
        """The next bytes, b"" at the end, None when there are none now."""
        if self._early:
            data, self._early = self._early, b""
            return data
        if self._at_end:
            return b""
        found = self._read_once(READ_SIZE)
        return self._read_on(found) if found and isinstance(self._sock, ssl.SSLSocket) else found

    def _read_on(self, data: bytes) -> bytes:
        """Read further records: TLS gives one at a time, 16 KiB at most (RFC 8446, section 5.1).

        With a turn of the loop for each, messages took 1.3 times as long (measured, records of 16 KiB).
        """
        parts, room = [data], READ_SIZE - len(data)
        while room > 0 and len(parts) < _MOST_RECORDS:
            more = self._read_once(room)
            if not more:
                self._at_end = more is not None
                break
            parts.append(more)
            room -= len(more)
        return b"".join(parts)

    def _read_once(self, size: int) -> bytes | None:
        """Like `_read`, by one call of the system's."""
        try:
            data = self.sock.recv(size)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except ssl.SSLWantWriteError:
            self._read_needs_write = True
            return None
        except OSError as error:
            return self._read_failed(error)
        if self._broken is not None:
            self._allowance -= len(data)
            return data if self._allowance > 0 else b""
        return data

    def _read_failed(self, error: OSError) -> bytes | None:
        """A reset can be reported ahead of bytes that came before it: only the second failure is the end."""
        if self._broken is not None:
            return b""
        self._break(_lost("the connection broke", error))
        return None

    def _parse(self, data: bytes) -> Batch:
        parsed = self._reader.feed(data)
        self._pongs += parsed.pongs
        if self._pongs or self._out:
            self.write()
        self._last = parsed.end
        self._parsed = parsed.messages
        if parsed.end is None or parsed.messages:
            return Batch(self._next_messages(), parsed.frames)
        return Batch(frames=parsed.frames, end=self._finish(parsed.end))

    def _next_messages(self) -> list[bytes]:
        """As many as one turn of the loop takes; the rest waits, and the socket with it."""
        messages = self._parsed
        self._parsed = messages[_MAX_MESSAGES:]
        return messages[:_MAX_MESSAGES] if self._parsed else messages

    def _finish(self, end: CloseReceived | Violation) -> ConnectionLost:
        return self._finish_closed(end) if isinstance(end, CloseReceived) else self._finish_violated(end)

    def _finish_broken(self) -> ConnectionLost:
        lost = self._broken or ConnectionLost("the TCP connection ended without a close frame")
        self._release()
        return lost

    def _finish_closed(self, close: CloseReceived) -> ConnectionLost:
        """Answer the peer's close frame with its own code (RFC 6455, section 5.5.1)."""
        self.abort(close.code)
        reason = self._redact(close.reason)
        code = "without a code" if close.code == NO_STATUS else f"with code {close.code}"
        text = f"the server closed the connection {code}" + (f": {reason}" if reason else "")
        return ConnectionLost(text, close.code, reason)

    def _finish_violated(self, violation: Violation) -> ConnectionLost:
        """Fail the connection (RFC 6455, section 7.1.7): our close frame goes out, `linger` sees it off."""
        self._leave_word(violation.code)
        return ConnectionLost(f"the server broke the WebSocket protocol: {violation.text}")

    # -- ending -------------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str, wait: Waiter, deadline: float) -> None:
        """Make the closing handshake (RFC 6455, section 7.1.2), then release the socket.

        What still arrives is discarded.  Never raises and never outlasts the deadline (or a large byte cap), whatever
        the peer does.

        Args:
            code: the close code to send.
            reason: the reason to send, cut to 123 bytes of UTF-8.
            wait: the loop's waiter.
            deadline: when to give up on the peer, on the clock.
        """
        self._parsed = []
        if self._last is not None:  # the peer's close is here already
            self._finish(self._last)
        else:
            self._queue_close(_close_payload(code, reason))
        self.linger(wait, deadline)

    def linger(self, wait: Waiter, deadline: float) -> None:
        """After `receive` told an end: let our close frame arrive, then release the socket; nothing when that is done.

        A socket that is closed while the peer still sends resets the connection, and the reset can overtake the close
        frame.  So what comes is discarded until the peer ends the connection (RFC 6455, section 7.1.1), the deadline or
        a large byte cap.  Never raises.

        Args:
            wait: the loop's waiter; the rest is given up when it raises `Interrupted`.
            deadline: when to give up on the peer, on the clock.
        """
        if self._open:
            self._see_off(wait, deadline)

    def _see_off(self, wait: Waiter, deadline: float) -> None:
        """Send what is queued and discard what comes, until the peer has ended too, or its time is up."""
        self._last = None  # told, or overtaken by our own end: nothing is pending for its sake
        self.write()
        self._allowance = _MAX_DISCARD
        with contextlib.suppress(Interrupted):
            while self._open and self._clock() < deadline:
                if self._discard():
                    break
                if not self.pending:
                    mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.wants_write else 0)
                    wait(self.sock, mask, deadline)
                self.write()
        self._release()

    def _discard(self) -> bool:
        """Read once and throw it away; whether that was the last: the peer's close, the end, or more than enough."""
        self._look_again = False
        data = self._read()
        if data is None:
            return self._broken is not None
        self._allowance -= len(data)
        return not data or self._allowance <= 0 or self._reader.feed(data).end is not None

    def abort(self, code: int | None = None) -> None:
        """Release the socket at once; with a code, after trying to send a close frame without waiting.  Idempotent."""
        if not self._open:
            return
        if code is not None and self._leave_word(code):
            self._drain()
        self._release()

    def _leave_word(self, code: int) -> bool:
        """Send our close frame and, when that has gone, the end of our half; False when nobody is there any more."""
        self._queue_close(_close_payload(code))
        self.write()
        try:
            if not self._out:
                self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def _drain(self) -> None:
        """Discard what came: closing with unread input sends a reset, which can overtake our close frame."""
        left = _MAX_DRAIN
        with contextlib.suppress(OSError):
            while left > 0 and (data := self.sock.recv(READ_SIZE)):
                left -= len(data)

    def _release(self) -> None:
        self._open = False
        self._early = b""
        self._parsed = []
        self._out.clear()
        self._pongs.clear()
        self._broken = self._last = self._send_deadline = None
        if self._sock is not None:
            self._sock.close()

    def disown(self) -> None:
        """In a forked child: let go of the descriptors, leaving the parent's connection as it is.  Idempotent."""
        self._open = False
        opening, sock = self._opening, self._sock
        if opening is not None:
            opening.disown_all()
        if sock is not None:
            disown(sock)
