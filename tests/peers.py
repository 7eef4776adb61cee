"""Scripted peers on loopback, a waiter and frame builders for the tests of the transport; nothing here sleeps."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from allenhark_ws.config import Settings

from . import fakes
from .patience import PATIENCE

if TYPE_CHECKING:
    from typing_extensions import Self

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def settings(**changes: Any) -> Settings:
    """Client settings for real sockets: those of the fakes, with the patience of these tests for opening."""
    return fakes.settings(**({"connect_timeout": PATIENCE} | changes))


class Waiting:
    """A waiter on `selectors` and an event, for one thread."""

    def __init__(self) -> None:
        self.woken = threading.Event()
        self.sockets: list[socket.socket] = []

    def wake(self) -> None:
        """Make a wait without a socket return."""
        self.woken.set()

    def __call__(self, sock: socket.socket | None, mask: int, deadline: float) -> bool:
        """Wait as the loop would."""
        timeout = max(0.0, min(deadline - time.monotonic(), PATIENCE))
        if sock is None:
            self.woken.wait(timeout)
            self.woken.clear()
            return False
        self.sockets.append(sock)
        with selectors.DefaultSelector() as selector:
            selector.register(sock, mask)
            return bool(selector.select(timeout))


class Clock:
    """Time that moves when told."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time."""
        return self.now


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, reserved: int = 0, masked: bool = False) -> bytes:
    """One frame as a server sends it; the switches make it wrong."""
    first = opcode | (0x80 if final else 0) | reserved << 4
    flag = 0x80 if masked else 0
    if len(payload) < 126:
        head = struct.pack("!BB", first, flag | len(payload))
    elif len(payload) < 65536:
        head = struct.pack("!BBH", first, flag | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, flag | 127, len(payload))
    return head + (b"\0\0\0\0" if masked else b"") + payload


def close_frame(code: int, reason: bytes = b"") -> bytes:
    """A close frame with a code."""
    return frame(CLOSE, struct.pack("!H", code) + reason)


def read_exactly(conn: socket.socket, size: int) -> bytes:
    """Exactly so many bytes."""
    data = b""
    while len(data) < size:
        more = conn.recv(size - len(data))
        if not more:
            raise EOFError(f"{len(data)} of {size} bytes")
        data += more
    return data


def read_frame(conn: socket.socket) -> tuple[int, bytes]:
    """One masked frame as the client sends it: opcode and payload; fails when it is not masked."""
    first, second = read_exactly(conn, 2)
    assert first & 0xF0 == 0x80
    assert second & 0x80
    length = second & 0x7F
    if length == 126:
        length = struct.unpack("!H", read_exactly(conn, 2))[0]
    elif length == 127:
        length = struct.unpack("!Q", read_exactly(conn, 8))[0]
    mask = read_exactly(conn, 4)
    payload = read_exactly(conn, length)
    return first & 0x0F, bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def read_head(conn: socket.socket) -> str:
    """One HTTP request head."""
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        data += read_exactly(conn, 1)
    return data.decode()


def accept_value(request: str) -> str:
    """The Sec-WebSocket-Accept that belongs to a request (RFC 6455, section 4.2.2)."""
    key = next(line.split(": ")[1] for line in request.splitlines() if line.startswith("Sec-WebSocket-Key: "))
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()  # noqa: S324 - the RFC's choice


def upgrade(conn: socket.socket, *extra: str, behind: bytes = b"") -> str:
    """Answer the upgrade as a good server does; returns the request."""
    request = read_head(conn)
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_value(request)}",
        *extra,
        "",
        "",
    ]
    conn.sendall("\r\n".join(lines).encode() + behind)
    return request


def reset(conn: socket.socket) -> None:
    """Close with a TCP reset."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


Script = Callable[[socket.socket], Any]


class Peer:
    """A listener on loopback that runs one script per connection, in order, on its own thread."""

    def __init__(self, scripts: tuple[Script, ...], context: ssl.SSLContext | None, host: str) -> None:
        self.listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.listener.settimeout(PATIENCE)
        self.port: int = self.listener.getsockname()[1]
        self.results: list[Any] = []
        self.error: BaseException | None = None
        self._scripts = scripts
        self._context = context
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            for script in self._scripts:
                conn, _ = self.listener.accept()
                conn.settimeout(PATIENCE)
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a reset must not overtake what was sent
                self.results.append(self._serve(conn, script))
        except BaseException as error:  # noqa: BLE001 - raised again in the test's own thread
            self.error = error

    def _serve(self, conn: socket.socket, script: Script) -> Any:
        """Run the script; a client that resets the connection, as closing with unread input does, ends it with None."""
        with conn, contextlib.suppress(ConnectionError):
            if self._context is None:
                return script(conn)
            with self._context.wrap_socket(conn, server_side=True) as secured:
                return script(secured)
        return None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._thread.join(PATIENCE * 2)
        self.listener.close()
        if self.error is not None and exc[0] is None:
            raise self.error


def peer(*scripts: Script, context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Peer:
    """A `Peer` to be used in a ``with``; leaving it waits for the scripts and raises what went wrong in them."""
    return Peer(scripts, context, host)


@contextlib.contextmanager
def closed_port() -> Generator[int]:
    """A port of 127.0.0.1 on which nobody listens, kept from others by being bound."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]
