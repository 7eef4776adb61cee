"""TCP to whichever of a host's addresses answers first: attempts side by side, one started after another (RFC 8305).

Neighbours: `_connect` has the addresses looked up and calls `connect_tcp`; `_guard` keeps the deadline, by whose waiter
all waiting is done.  It must never look up a name or speak on a connection.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import selectors
import socket
from collections import deque
from collections.abc import Iterable
from typing import Final

from attrs import define, field

from ._dns import Address
from ._guard import Opening, describe
from ._target import authority
from .errors import ConnectionFailed

__all__ = ["connect_tcp"]

STAGGER: Final = 0.25
"""Seconds an address gets before the next one is tried beside it (RFC 8305, section 5)."""

_SLICE: Final = 0.05
"""Seconds to wait on one of several connecting sockets before looking at the others: the waiter takes one at a time."""

_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR, getattr(errno, "WSAEWOULDBLOCK", 0)})


def _interleave(addresses: Iterable[Address]) -> Iterable[Address]:
    """Families by turns, the first one's first, so that a dead IPv6 costs one stagger (RFC 8305, section 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address[0], []).append(address)
    turns = itertools.zip_longest(*families.values())
    return [address for turn in turns for address in turn if address is not None]


@define
class _Race:
    """Connection attempts to the addresses of one host, started one after another, running side by side."""

    opening: Opening
    waiting: deque[Address]
    name: str
    running: deque[tuple[socket.socket, Address]] = field(factory=deque[tuple[socket.socket, Address]])
    failures: list[str] = field(factory=list[str])
    cause: OSError | None = None
    next_start: float = -math.inf

    def run(self) -> socket.socket:
        phase = f"TCP connect to {self.name}"
        while self.waiting or self.running:
            now = self.opening.check(phase)
            if self.waiting and (not self.running or now >= self.next_start):
                self._start(self.waiting.popleft())
                self.next_start = now + STAGGER
            winner = self._look(self._wait(now))
            if winner is not None:
                return winner
        raise ConnectionFailed(f"TCP connect to {'; '.join(self.failures)}") from self.cause

    def _start(self, address: Address) -> None:
        family, where = address
        self.opening.tell("tcp", "begun", address=_spell(address))
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # a family this machine does not have
            self._failed(address, error)
            return
        self.opening.sockets.append(sock)
        sock.setblocking(False)
        self.running.append((sock, address))
        code = sock.connect_ex(where)
        if code and code not in _UNDER_WAY:
            self.running.pop()
            sock.close()
            self._failed(address, _system_error(code))

    def _wait(self, now: float) -> socket.socket | None:
        """Wait on the attempts by turns; returns the one that came to an end, if it was its turn."""
        if not self.running:
            return None
        until = min(self.opening.deadline, self.next_start) if self.waiting else self.opening.deadline
        if len(self.running) > 1:
            until = min(until, now + _SLICE)
        self.running.rotate(-1)
        sock = self.running[-1][0]
        return sock if self.opening.wait(sock, selectors.EVENT_WRITE, until) else None

    def _look(self, ready: socket.socket | None) -> socket.socket | None:
        """Go through all attempts: the first that is connected wins, failed ones are dropped."""
        for attempt in list(self.running):
            sock, address = attempt
            error = _outcome(sock, ended=sock is ready)
            if error is None:
                self.opening.tell("tcp", "done", address=_spell(address))
                return sock
            if not isinstance(error, BlockingIOError):
                self.running.remove(attempt)
                sock.close()
                self._failed(address, error)
        return None

    def _failed(self, address: Address, error: OSError) -> None:
        self.failures.append(f"{_spell(address)}: {describe(error)}")
        self.cause = error
        self.opening.tell("tcp", "failed", address=_spell(address), reason=describe(error))


def _spell(address: Address) -> str:
    host, port = address[1][:2]
    return authority(str(host), int(str(port)))


def _system_error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def _outcome(sock: socket.socket, *, ended: bool) -> OSError | None:
    """How a connection attempt stands: None connected, `BlockingIOError` under way, else what it failed with."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        return _system_error(code)
    try:
        peer = sock.getpeername()
    except OSError as error:
        return error if ended else BlockingIOError()
    # a free local port can be chosen as source of a connection to itself; nobody listens there
    return _system_error(errno.ECONNREFUSED) if peer == sock.getsockname() else None


def connect_tcp(opening: Opening, addresses: Iterable[Address], name: str) -> socket.socket:
    """Connect to whichever address answers first: staggered, families interleaved (RFC 8305).

    Raises:
        ConnectionFailed: none did; its cause is the last one's `OSError`.
    """
    race = _Race(opening, deque(_interleave(addresses)), name)
    sock = race.run()
    for loser, _ in race.running:
        if loser is not sock:
            loser.close()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    return sock
