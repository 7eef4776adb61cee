"""The fault proxy while it runs: its port, its connections, its faults; all of it on the proxy's thread.

Neighbours: `_proxy` calls the methods here, through `_thread`; `_pipe` moves the bytes.  It must never be called on
another thread.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Container, Iterable
from functools import partial
from typing import Any, Final

from attrs import define, evolve, field

from ._pipe import Faults, Mute, Offset, Pair, Tally, reset

__all__ = ["BOTH", "TO_CLIENT", "TO_SERVER", "Address", "Record", "Relay", "bind"]

TO_SERVER: Final = (0,)
TO_CLIENT: Final = (1,)
BOTH: Final = (0, 1)
"""Directions, as places in a pair of faults."""

Address = tuple[socket.AddressFamily, Any]
"""An address family and what `socket.connect` takes for it."""


@define(eq=False)
class Record:
    """What has happened over all connections, of all runs.

    Attributes:
        accepted: how many connections were accepted.
        tallies: the bytes handed on, to the server first.
    """

    accepted: int = 0
    tallies: tuple[Tally, Tally] = field(factory=lambda: (Tally(), Tally()))


def bind(family: socket.AddressFamily, port: int) -> socket.socket:
    """A socket that holds the port on loopback and does not listen yet: connecting to it is refused.

    Raises:
        OSError: the port is taken.
    """
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows the option would let two proxies share the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


class Relay:
    """Accepts, connects to the target, and lets faults happen; not safe to use from other threads.

    Args:
        port: a socket from `bind`, owned from now on.
        targets: the server's addresses, tried in order.
        record: where to count.
    """

    def __init__(self, port: socket.socket, targets: Iterable[Address], record: Record) -> None:
        self._port = port
        self._targets = tuple(targets)
        self._record = record
        self._loop = asyncio.get_running_loop()
        self._faults = (Faults(), Faults())
        self._hanging = False
        self._listening = False
        self._connections: set[Pair | Mute] = set()
        self._joining: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections) + len(self._joining)

    # -- the port -----------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Begin to accept; nothing when that was begun already."""
        if not self._listening:
            self._listening = True
            self._port.listen(128)
            self._loop.add_reader(self._port, self._accept)

    def _deafen(self) -> None:
        """Stop to accept, and keep the port."""
        if self._listening:
            self._accept()  # those whose connect() has returned are connections, not refused ones
            self._listening = False
            self._loop.remove_reader(self._port)
            family, number = self._port.family, self._port.getsockname()[1]
            self._port.close()
            self._port = bind(family, number)

    def _accept(self) -> None:
        while self._listening:
            try:
                client, _ = self._port.accept()
            except OSError:  # nobody there any more
                return
            client.setblocking(False)
            self._record.accepted += 1
            self._welcome(client)

    def _welcome(self, client: socket.socket) -> None:
        if self._hanging:
            self._add(Mute(client, self._connections.discard))
            return
        task = self._loop.create_task(self._join(client))
        self._joining.add(task)
        task.add_done_callback(partial(_abandon, client))  # cancelled before its first step, it would close nothing
        task.add_done_callback(self._joining.discard)

    def _add(self, connection: Pair | Mute) -> None:
        self._connections.add(connection)
        connection.begin()

    async def _join(self, client: socket.socket) -> None:
        """Connect to the server for this client, who is reset when that does not work."""
        for family, address in self._targets:
            server = socket.socket(family, socket.SOCK_STREAM)
            server.setblocking(False)
            try:
                await self._loop.sock_connect(server, address)
            except OSError:
                server.close()
            except BaseException:
                server.close()
                raise
            else:
                self._add(Pair(client, server, self._faults, self._record.tallies, self._connections.discard))
                return
        reset(client)

    # -- faults -------------------------------------------------------------------------------------------------------

    def set(self, directions: Container[int], **changes: Any) -> None:
        """Change these fields of the `Faults` of these directions."""
        up, down = (evolve(now, **changes) if at in directions else now for at, now in enumerate(self._faults))
        self._change((up, down))

    def _change(self, faults: tuple[Faults, Faults]) -> None:
        self._faults = faults
        for connection in list(self._connections):
            connection.change(faults)

    def mark(self, directions: Container[int], kind: str, value: int | None) -> None:
        """Set `cut` or `corrupt`; a place counts from now on each connection."""
        self.set(directions, **{kind: None if value is None else Offset(value)})

    def refuse(self, *, on: bool) -> None:
        """Refuse new connections, or accept them again."""
        if on:
            self._deafen()
        else:
            self.listen()

    def hang(self, *, on: bool) -> None:
        """Leave new connections unanswered, or hand them on again."""
        self._accept()
        self._hanging = on

    def rst(self) -> None:
        """Reset every connection."""
        self._end_all(lambda connection: connection.reset())

    def fin(self) -> None:
        """End every connection with FIN."""
        self._end_all(lambda connection: connection.hang_up())

    def _end_all(self, end: Callable[[Pair | Mute], None]) -> None:
        self._accept()
        for task in self._joining:
            task.cancel()
        for connection in list(self._connections):
            end(connection)

    def heal(self) -> None:
        """Switch every fault off."""
        self.listen()
        self.hang(on=False)
        self._change((Faults(), Faults()))

    def shut(self) -> None:
        """Close everything."""
        self._loop.remove_reader(self._port)
        self._listening = False
        self._port.close()
        self._end_all(lambda connection: connection.close())


def _abandon(client: socket.socket, task: asyncio.Task[None]) -> None:
    if task.cancelled():
        reset(client)
