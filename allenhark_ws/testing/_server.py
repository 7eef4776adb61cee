"""The simulator's server: sockets, connections and faults; all of it runs on the simulator's thread.

The `websockets` package does the WebSocket work, `_conversation` the protocol on top.  Sockets are accepted by a
listener of our own, so that new ones can be refused before TLS and none outlives the server.  Neighbours: `_simulator`
calls the coroutines here, `_journal` gets what was heard.  It must never be called on another thread, but through
`_thread`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timezone
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import define, field

from .. import Channel
from ._conversation import Conversation, Manners, to_json

try:
    from websockets.asyncio.server import Server as WebSocketServer
    from websockets.asyncio.server import ServerConnection, broadcast, serve
    from websockets.exceptions import ConnectionClosed, WebSocketException
    from websockets.frames import Close
    from websockets.protocol import State
except ImportError:
    raise ImportError(
        'the simulator needs the package websockets, version 14 or later: pip install "allenhark-ws[testing]"',
        name="websockets",
    ) from None

if TYPE_CHECKING:
    import ssl

    from websockets.http11 import Request, Response

    from ._feed import Feed
    from ._journal import Journal

__all__ = ["PATH", "Listener", "Server", "check_close"]

PATH: Final = "/v1/ws"
"""The path of the vendor's endpoint; any other is answered with 404."""

_MAX_MESSAGE: Final = 16 * 2**20
"""Bytes; far above anything a client has to say."""
_MAX_QUEUE: Final = 2**31
"""Frames; never reached, since flow control of the package's own would resume what `Server.stall` has paused."""
_CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the client to answer a close frame before its connection is cut."""
_GRACE: Final = 0.3
"""The same when the whole server goes down."""
_FEED_TICK: Final = 0.05
"""Seconds between looks at what the feed has to say."""
_FEED_BACKLOG: Final = 2**20
"""Bytes unsent to a client beyond which the feed skips it; a stalled reader must not fill our memory."""
_MAX_CONTROL: Final = 125
"""Bytes that a control frame may carry (RFC 6455, section 5.5)."""
_RESET: Final = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
"""SO_LINGER on, 0 seconds: closing sends RST instead of FIN, on POSIX and in Windows' layout."""

# Clients that vanish in mid-handshake are our business here, not news for the user's console.
# Outside the hierarchy of loggers, since it would log every message, auth included.
_log = logging.Logger("allenhark_ws.testing")  # noqa: LOG001 - on purpose
_log.addHandler(logging.NullHandler())


class Listener(socket.socket):
    """A listening socket that knows the sockets it accepted, and can refuse."""

    def __init__(self, port: int) -> None:
        # Protocol named: asyncio sets TCP_NODELAY on what this accepts; else answers over TLS wait 40 ms for an ACK.
        super().__init__(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.refusing = False
        self.accepted: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        try:
            if os.name == "posix":  # on Windows the option would let two servers share the port
                self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind(("127.0.0.1", port))
            self.listen(128)
        except BaseException:
            self.close()
            raise

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept, or cut the connection at once while refusing; asyncio goes on after ConnectionAbortedError."""
        connection, address = super().accept()
        if self.refusing:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.close()
            raise ConnectionAbortedError("refused by the simulator")
        self.accepted.add(connection)
        return connection, address

    @property
    def open(self) -> list[socket.socket]:
        """The accepted sockets that are not closed yet."""
        return [connection for connection in self.accepted if connection.fileno() != -1]


class _Connection(ServerConnection):
    """A connection of the `websockets` package that shows its transport, from before the upgrade to the end."""

    def __init__(self, server: Server, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._simulated = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._simulated.opened(cast("asyncio.Transport", transport))

    def connection_lost(self, exc: Exception | None) -> None:
        self._simulated.lost(self.transport)
        super().connection_lost(exc)


@define(eq=False)
class _Peer:
    """One client after the upgrade: its connection, its conversation, and what is on its way to it."""

    connection: ServerConnection
    conversation: Conversation
    _outbox: deque[tuple[float, str | bytes]] = field(factory=deque[tuple[float, str | bytes]])
    _timer: asyncio.TimerHandle | None = None
    unheard: deque[str | bytes] = field(factory=deque[str | bytes])

    @property
    def open(self) -> bool:
        """Whether neither side has begun to close."""
        return self.connection.state is State.OPEN

    def send(self, data: str | bytes, delay: float) -> None:
        """Send after so many seconds; never before what was sent earlier."""
        if not delay and not self._outbox:
            broadcast([self.connection], data)
            return
        due = asyncio.get_running_loop().time() + delay
        self._outbox.append((max(due, self._outbox[-1][0]) if self._outbox else due, data))
        self._arm()

    def flush(self) -> None:
        """Send at once what is on its way."""
        self._disarm()
        while self._outbox:
            broadcast([self.connection], self._outbox.popleft()[1])

    def drop(self) -> None:
        """Forget what is on its way."""
        self._disarm()
        self._outbox.clear()

    def _arm(self) -> None:
        if self._timer is None and self._outbox:
            self._timer = asyncio.get_running_loop().call_at(self._outbox[0][0], self._send_head)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send_head(self) -> None:
        self._timer = None
        broadcast([self.connection], self._outbox.popleft()[1])
        self._arm()


class Server:
    """The server while it is open; coroutines and callbacks of one event loop, not safe to use from other threads."""

    def __init__(self, listener: Listener, manners: Manners, journal: Journal, feed: Feed | None) -> None:
        self._listener = listener
        self._manners = manners
        self._journal = journal
        self._feed = feed
        self._feed_timer: asyncio.TimerHandle | None = None
        self._websocket_server: WebSocketServer | None = None
        self._transports: dict[asyncio.Transport, asyncio.Future[None]] = {}
        self._peers: dict[Conversation, _Peer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stalled = False
        self._delay = 0.0

    async def open(self, ssl_context: ssl.SSLContext | None) -> None:
        """Begin to serve on the listener, with TLS if there is a context."""
        self._websocket_server = await serve(
            self._handle,
            sock=self._listener,
            ssl=ssl_context,
            process_request=_check_path,
            create_connection=cast("type[ServerConnection]", self._connection),
            compression=None,
            open_timeout=None,
            ping_interval=None,
            close_timeout=_CLOSE_TIMEOUT,
            max_size=_MAX_MESSAGE,
            max_queue=_MAX_QUEUE,
            logger=_log,
        )

    async def shut(self) -> None:
        """Say goodbye to everybody (1001), cut who does not answer soon, and close the listener."""
        if self._websocket_server is None:
            return
        if self._feed_timer is not None:
            self._feed_timer.cancel()
        # A connection accepted just now must have its transport before asyncio's server is closed, or it never gets one
        # and its socket stays open (seen on CPython 3.12).
        self._listener.refusing = True
        await asyncio.sleep(0)
        self._websocket_server.close(close_connections=False)
        self._dismiss(1001, "")
        await asyncio.sleep(0)  # the farewells are written now
        if not self._stalled:
            await _all_done(self._transports.values(), _GRACE)
        await self._cut(list(self._transports))
        for connection in self._listener.open:  # still in their TLS handshake: asyncio shows no transport yet
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        await _all_done([asyncio.ensure_future(self._websocket_server.wait_closed())], _GRACE)

    def opened(self, transport: asyncio.Transport) -> None:
        """A connection was accepted, its TLS handshake is done, its upgrade is still to come."""
        loop = asyncio.get_running_loop()
        self._transports[transport] = loop.create_future()
        if sys.version_info >= (3, 11):
            self._pause_if_stalled(transport)
        else:  # CPython 3.10 begins to read right after this callback, paused or not
            loop.call_soon(self._pause_if_stalled, transport)

    def _pause_if_stalled(self, transport: asyncio.Transport) -> None:
        if self._stalled:
            transport.pause_reading()

    def lost(self, transport: asyncio.Transport) -> None:
        """A connection is gone."""
        self._transports.pop(transport).set_result(None)

    async def send(self, data: str | bytes, wanted: Callable[[Conversation], bool]) -> int:
        """Send a frame, text or binary by the type of `data`, to the wanted clients; return how many they are."""
        peers = [peer for peer in self._peers.values() if peer.open and wanted(peer.conversation)]
        for peer in peers:
            peer.send(data, self._delay)
        return len(peers)

    async def close(self, code: int | None, reason: str) -> None:
        """Send a close frame to every client; what was delayed and unsent is dropped."""
        self._dismiss(code, reason)
        await asyncio.sleep(0)  # lets the tasks just made write their frames

    async def reset(self) -> None:
        """Cut every connection with a TCP RST."""
        for transport in self._transports:
            raw = transport.get_extra_info("socket")
            with suppress(OSError):  # one that is closing by itself may have no socket any more
                if raw is not None:
                    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        await self._cut(list(self._transports))

    async def refuse(self, on: bool) -> None:
        """Refuse new connections, or accept them again."""
        self._listener.refusing = on

    async def stall(self, on: bool) -> None:
        """Stop reading, new connections' upgrades included, or read on."""
        self._stalled = on
        for transport in self._transports:
            if on:
                transport.pause_reading()
            else:
                transport.resume_reading()
        if not on:
            for peer in list(self._peers.values()):
                while peer.unheard:
                    self._hear(peer, peer.unheard.popleft())

    async def delay(self, seconds: float) -> None:
        """Send every message so much later; 0 also sends at once what is on its way."""
        self._delay = seconds
        if not seconds:
            for peer in self._peers.values():
                peer.flush()

    async def mute_pongs(self, on: bool) -> None:
        """Answer no pings, or answer them again, those that waited first."""
        self._manners.pongs = not on
        for peer in () if on else self._peers.values():
            for answer in peer.conversation.answer_withheld(datetime.now(timezone.utc)):
                peer.send(to_json(answer), self._delay)

    async def reject_auth(self, refusal: dict[str, Any] | None) -> None:
        """Answer every auth with this error, or go by the key again."""
        self._manners.refusal = refusal

    def _connection(self, *args: Any, **options: Any) -> _Connection:
        return _Connection(self, *args, **options)

    async def _handle(self, connection: ServerConnection) -> None:
        """Live one connection, from the upgrade to its end."""
        peer = _Peer(connection, self._journal.begin())
        self._peers[peer.conversation] = peer
        try:
            async for frame in connection:
                if self._stalled:
                    peer.unheard.append(frame)  # read before the stall, in the same gulp as what came before
                else:
                    self._hear(peer, frame)
        except ConnectionClosed:
            pass
        finally:
            self._forget(peer)

    def _hear(self, peer: _Peer, frame: str | bytes) -> None:
        if peer.conversation not in self._peers:
            return  # said after our close frame
        now = datetime.now(timezone.utc)
        heard = self._journal.hear(peer.conversation, frame, self._manners, now)
        if heard.reply is not None:
            peer.send(to_json(heard.reply), self._delay)
        if self._feed is not None and self._feed_timer is None and peer.conversation.subscriptions:
            self._feed_timer = asyncio.get_running_loop().call_later(_FEED_TICK, self._feed_all)

    def _feed_all(self) -> None:
        """Send what the feed has to say by now, and come again while anybody listens."""
        self._feed_timer = None
        channels = self._journal.subscriptions
        if self._feed is None or not channels:
            return
        loop = asyncio.get_running_loop()
        for channel in self._feed.due(channels, loop.time()):
            self._feed_one(channel, self._feed.next_message(channel, datetime.now(timezone.utc)))
        self._feed_timer = loop.call_later(_FEED_TICK, self._feed_all)

    def _feed_one(self, channel: Channel, message: dict[str, Any]) -> None:
        data = to_json(message)
        for peer in self._peers.values():
            unsent = peer.connection.transport.get_write_buffer_size()
            if channel in peer.conversation.subscriptions and unsent < _FEED_BACKLOG:
                peer.send(data, self._delay)

    def _dismiss(self, code: int | None, reason: str) -> None:
        for peer in list(self._peers.values()):
            self._forget(peer)
            # None is not in the annotation there, but goes straight to the protocol's send_close(), which takes it.
            farewell = peer.connection.close(cast("int", code), reason)
            task = asyncio.ensure_future(farewell)
            self._tasks.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(self._tasks.discard)

    async def _cut(self, transports: Iterable[asyncio.Transport]) -> None:
        gone = [self._transports[transport] for transport in transports]
        for peer in list(self._peers.values()):
            self._forget(peer)
        for transport in transports:
            transport.abort()
        await _all_done(gone, _GRACE)

    def _forget(self, peer: _Peer) -> None:
        self._peers.pop(peer.conversation, None)
        peer.drop()
        self._journal.end(peer.conversation)


def check_close(code: int | None, reason: str) -> None:
    """Raise ValueError for what a close frame cannot carry (RFC 6455, sections 5.5 and 7.4)."""
    if code is None:
        if reason:
            raise ValueError("a close frame without a code cannot carry a reason: pass a code too")
        return
    try:
        payload = Close(code, reason).serialize()
    except (WebSocketException, TypeError) as problem:
        raise ValueError(f"{code!r} is no close code that may be sent: use 1000, or 4000 to 4999") from problem
    if len(payload) > _MAX_CONTROL:
        raise ValueError(f"the close reason is {len(payload) - 2} bytes of UTF-8, at most {_MAX_CONTROL - 2} fit")


async def _all_done(futures: Iterable[asyncio.Future[None]], timeout: float) -> None:
    waiting = list(futures)
    if waiting:
        await asyncio.wait(waiting, timeout=timeout)


def _check_path(connection: ServerConnection, request: Request) -> Response | None:
    if request.path.partition("?")[0] == PATH:
        return None
    return connection.respond(HTTPStatus.NOT_FOUND, f"the simulator serves {PATH} only\n")
