"""One connection through the fault proxy: two sockets, a pipe for each direction, and what happens to their bytes.

All of it runs on the proxy's thread and must never block it: sockets are non-blocking, waits are the event loop's.  A
pipe reads no more than it may hold, so a receiver that does not read slows its sender down as TCP would.  Neighbours:
`_relay` makes the pairs and tells them what the faults are.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Final

from attrs import define, field, frozen

__all__ = ["Faults", "Mute", "Offset", "Pace", "Pair", "Tally", "reset"]

_READ_SIZE: Final = 65_536
_MAX_HELD: Final = 262_144
"""Bytes a pipe holds back before it stops reading."""
_RESET: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""SO_LINGER on, 0 seconds: closing sends RST instead of FIN, on POSIX and in Windows' layout."""


def reset(sock: socket.socket) -> None:
    """Close with a TCP RST."""
    with suppress(OSError):  # some systems refuse the option once the peer has reset
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


@frozen
class Pace:
    """How fast bytes may go.

    Attributes:
        size: how many at a time.
        seconds: per byte.
    """

    size: int
    seconds: float


@frozen(eq=False)
class Offset:
    """A place in a stream of bytes; a new one starts the count again, so two of the same number are not equal.

    Attributes:
        value: how many bytes come before it.
    """

    value: int


@frozen
class Faults:
    """What happens to the bytes of one direction; see the methods of `FaultProxy` of the same names."""

    latency: float = 0.0
    pace: Pace | None = None
    cut: Offset | None = None
    corrupt: Offset | None = None
    blackhole: bool = False
    stall: bool = False


@define(eq=False)
class Tally:
    """Bytes handed on in one direction, over all connections."""

    sent: int = 0


class _End(Enum):
    """How a socket that is read came to its end."""

    FIN = "the peer has said all it has to say"
    RESET = "the connection broke"


@define(eq=False)
class _Pipe:
    """One direction of a connection.

    What was read waits in a queue with the time of its arrival, so that another latency is one for what is on its way
    too.  The end of the source is told to the sink behind the last byte.  A pipe that has lost a byte hands on nothing
    more: TCP delivers no stream with a hole.
    """

    _source: socket.socket
    _sink: socket.socket
    _pair: Pair
    _tally: Tally
    _faults: Faults
    _loop: asyncio.AbstractEventLoop = field(factory=asyncio.get_running_loop, init=False)
    _queue: deque[tuple[float, memoryview]] = field(factory=deque[tuple[float, memoryview]], init=False)
    _held: int = field(default=0, init=False)
    _cut_in: int | None = field(default=None, init=False)
    _flip_in: int | None = field(default=None, init=False)
    _last_sent: tuple[float, int] = field(default=(0.0, 0), init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _blocked: bool = field(default=False, init=False)
    _mute: bool = field(default=False, init=False)
    _end: _End | None = field(default=None, init=False)
    _told: bool = field(default=False, init=False)
    _detached: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._count_anew(Faults())

    @property
    def done(self) -> bool:
        """Whether the source has ended and there is nobody left to tell."""
        return self._end is not None and self._told

    def change(self, faults: Faults) -> None:
        """Other faults from now on."""
        former, self._faults = self._faults, faults
        self._count_anew(former)
        if faults.blackhole and self._queue:
            self._lose()
        self.review()

    def _count_anew(self, former: Faults) -> None:
        cut, corrupt = self._faults.cut, self._faults.corrupt
        if cut is not former.cut:
            self._cut_in = None if cut is None else cut.value
        if corrupt is not former.corrupt:
            self._flip_in = None if corrupt is None else corrupt.value

    def review(self) -> None:
        """Do what can be done now, and arrange to be called for the rest."""
        if not self._detached:
            self._write()
        if not self._detached:  # the end of it may have been reached
            self._watch()

    def finish(self) -> None:
        """Send FIN at once; what is queued is lost, what still comes is discarded."""
        self._lose()
        self._tell_end()

    def detach(self) -> None:
        """Leave the event loop; the sockets may be closed then."""
        self._detached = True
        self._disarm()
        self._loop.remove_reader(self._source)
        self._loop.remove_writer(self._sink)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lose(self) -> None:
        self._mute = True
        self._queue.clear()
        self._held = 0

    def _tell_end(self) -> None:
        self._told = True
        with suppress(OSError):  # it is gone itself
            self._sink.shutdown(socket.SHUT_WR)

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            data = self._source.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end = _End.RESET
        else:
            if data:
                self._take(data)
            else:
                self._end = _End.FIN
        self.review()

    def _take(self, data: bytes) -> None:
        if self._faults.blackhole:
            self._lose()
        if self._mute:
            return
        data = self._cut_short(self._flip(data))
        if data:
            self._queue.append((self._loop.time(), memoryview(data)))
            self._held += len(data)

    def _flip(self, data: bytes) -> bytes:
        """Turn all bits of the byte at the offset, once."""
        place = self._flip_in
        if place is None:
            return data
        if place >= len(data):
            self._flip_in = place - len(data)
            return data
        self._flip_in = None
        return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]

    def _cut_short(self, data: bytes) -> bytes:
        if self._cut_in is not None:
            data = data[: self._cut_in]
            self._cut_in -= len(data)
        return data

    # -- writing ------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        self._blocked = False
        while self._queue:
            now = self._loop.time()
            if now < self._due or not self._send_head(now):
                return
        self._conclude()

    @property
    def _due(self) -> float:
        """When the head of the queue may go."""
        due, pace = self._queue[0][0] + self._faults.latency, self._faults.pace
        if pace is None:
            return due
        at, size = self._last_sent
        return max(due, at + size * pace.seconds)

    def _send_head(self, now: float) -> bool:
        """Send of the head what the pace allows; False when the sink takes nothing now."""
        arrived, data = self._queue[0]
        pace = self._faults.pace
        try:
            sent = self._sink.send(data if pace is None else data[: pace.size])
        except (BlockingIOError, InterruptedError):
            self._blocked = True
            return False
        except OSError:  # nobody is there to hear it, nor the end
            self._lose()
            self._told = True
            return True
        self._tally.sent += sent
        self._held -= sent
        self._queue[0] = arrived, data[sent:]
        if sent == len(data):
            self._queue.popleft()
        self._last_sent = now, sent if pace is not None else 0
        return True

    def _conclude(self) -> None:
        """All that was read has gone: let the sink know if that was all there is, unless nothing gets through."""
        if self._cut_in == 0 and not self._told:
            self._pair.hang_up()
        elif self._end is not None and not self._told and not self._faults.blackhole:
            if self._end is _End.RESET:
                self._pair.reset()
                return
            self._tell_end()
        self._pair.close_if_done()

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Have the event loop call for whatever is awaited."""
        self._disarm()
        if self._end is None and not self._faults.stall and self._held < _MAX_HELD:
            self._loop.add_reader(self._source, self._read)
        else:
            self._loop.remove_reader(self._source)
        if self._blocked:
            self._loop.add_writer(self._sink, self.review)
            return
        self._loop.remove_writer(self._sink)
        if self._queue:
            self._timer = self._loop.call_at(self._due, self.review)


class Pair:
    """A client's connection and the one made to the server for it.

    Args:
        client: the accepted socket.
        server: the socket connected to the target.
        faults: of the two directions, the one to the server first.
        tallies: likewise.
        on_close: called once both sockets are closed.
    """

    def __init__(
        self,
        client: socket.socket,
        server: socket.socket,
        faults: tuple[Faults, Faults],
        tallies: tuple[Tally, Tally],
        on_close: Callable[[Pair], None],
    ) -> None:
        self._sockets = (client, server)
        self._on_close = on_close
        self._closed = False
        for sock in self._sockets:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a drop at a time, and no frame late
        self._pipes = (
            _Pipe(client, server, self, tallies[0], faults[0]),
            _Pipe(server, client, self, tallies[1], faults[1]),
        )

    def begin(self) -> None:
        """Start to hand bytes on."""
        for pipe in self._pipes:
            pipe.review()

    def change(self, faults: tuple[Faults, Faults]) -> None:
        """Other faults from now on."""
        for pipe, fault in zip(self._pipes, faults, strict=True):
            pipe.change(fault)

    def hang_up(self) -> None:
        """Send FIN to both sides, and wait for theirs."""
        for pipe in self._pipes:
            pipe.finish()
        for pipe in self._pipes:
            pipe.review()

    def reset(self) -> None:
        """Send RST to both sides."""
        self._end(reset)

    def close(self) -> None:
        """Close both sides."""
        self._end(socket.socket.close)

    def close_if_done(self) -> None:
        """Close once both directions have ended."""
        if all(pipe.done for pipe in self._pipes):
            self.close()

    def _end(self, end: Callable[[socket.socket], None]) -> None:
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes:
            pipe.detach()
        for sock in self._sockets:
            end(sock)
        self._on_close(self)


class Mute:
    """A client's connection that nobody answers: what it says is discarded until it leaves.

    Args:
        client: the accepted socket.
        on_close: called once it is closed.
    """

    def __init__(self, client: socket.socket, on_close: Callable[[Mute], None]) -> None:
        self._client = client
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()

    def begin(self) -> None:
        """Start to listen."""
        self._loop.add_reader(self._client, self._read)

    def _read(self) -> None:
        try:
            over = not self._client.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            over = False
        except OSError:
            over = True
        if over:
            self.close()

    def change(self, _faults: tuple[Faults, Faults]) -> None:
        """Faults make no difference to it."""

    def hang_up(self) -> None:
        """Send FIN, and wait for the client's."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Send RST."""
        self._end(reset)

    def close(self) -> None:
        """Close it."""
        self._end(socket.socket.close)

    def _end(self, end: Callable[[socket.socket], None]) -> None:
        self._loop.remove_reader(self._client)
        end(self._client)
        self._on_close(self)
