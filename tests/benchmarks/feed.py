"""The server, in a process of its own: it knows just enough of the protocol, and then sends as fast as it can.

What a connection gets is said in its request: ``/mix?messages=N&mints=M`` or ``/prices?…`` sends so many messages at
once, ``/stamped?messages=N&rate=R`` sends them at a pace, each with the time it was sent; ``&close=1`` closes behind
them; ``/`` sends nothing.  It begins with the first message that has ``"go"`` in it.  Pings are answered with a pong
that tells how many subscriptions were read.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from attrs import frozen

from ..peers import CLOSE, PING, PONG, TEXT, close_frame, frame, upgrade
from . import wire
from .process import command, environment

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Feed", "main"]

_NEVER: Final = threading.Event()
"""Waited for with a timeout, to let time pass."""

_SPIN: Final = 200_000
"""Nanoseconds before a message is due in which the server does not sleep: waking up takes too long."""


@frozen
class Order:
    """What one connection asked for.

    Attributes:
        kind: ``mix``, ``prices``, ``stamped``, or empty for nothing.
        messages: how many.
        mints: different tokens among them.
        rate: messages per second, of ``stamped``.
        close: whether to close behind them.
    """

    kind: str
    messages: int
    mints: int
    rate: int
    close: bool

    @classmethod
    def read(cls, request: str) -> Order:
        """From the head of the request."""
        target = urlsplit(request.split(" ", 2)[1])
        asked = dict(parse_qsl(target.query))
        messages, mints, rate, close = (int(asked.get(name, 0)) for name in ("messages", "mints", "rate", "close"))
        return cls(target.path.strip("/"), messages, mints or wire.MINTS, rate, close == 1)

    def prepare(self) -> None:
        """Make beforehand what takes time."""
        if self.kind in ("mix", "prices"):
            wire.payloads(self.kind, self.mints)

    def send(self, conn: socket.socket) -> None:
        """Send it all."""
        if self.kind == "stamped":
            _pace(conn, self.messages, self.rate)
        elif self.kind:
            for piece in wire.pieces(self.kind, self.mints, self.messages):
                conn.sendall(piece)
        if self.close:
            conn.sendall(close_frame(1000))


def _pace(conn: socket.socket, messages: int, rate: int) -> None:
    """Send messages at equal distances, each with the moment before it goes out; lateness is not made up for."""
    now, interval = time.monotonic_ns, 1_000_000_000 // rate
    due = now()
    for _ in range(messages):
        due = max(due + interval, now())
        _NEVER.wait(max(0, due - now() - _SPIN) / 1e9)
        while now() < due:
            pass
        conn.sendall(wire.stamped(now()))


def _messages(reader: BufferedReader) -> Iterator[tuple[int, bytes]]:
    """The frames of a client, opcode and payload, none of them fragmented, until it goes."""
    while len(head := reader.read(2)) == 2:
        length = head[1] & 0x7F
        if length == 126:
            length = int.from_bytes(reader.read(2), "big")
        mask, payload = reader.read(4), reader.read(length)
        key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
        yield head[0] & 0x0F, (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")


def _converse(conn: socket.socket) -> None:
    order = Order.read(upgrade(conn))
    order.prepare()
    subscribed = 0
    for opcode, payload in _messages(conn.makefile("rb")):
        if opcode == CLOSE:
            conn.sendall(frame(CLOSE, payload))
            return
        if opcode == PING:
            conn.sendall(frame(PONG, payload))
        elif opcode == TEXT and payload == b'{"type":"ping"}':
            pong = b'{"type":"pong","timestamp":"2024-01-15T10:30:00Z","subscribed":%d}' % subscribed
            conn.sendall(frame(TEXT, pong))
        elif opcode == TEXT and b'"go"' in payload:
            order.send(conn)
        elif opcode == TEXT:
            subscribed += b'"subscribe"' in payload


def _serve(conn: socket.socket, context: ssl.SSLContext | None) -> None:
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with conn, contextlib.suppress(OSError):  # a client that has seen enough simply goes
        if context is None:
            _converse(conn)
        else:
            with context.wrap_socket(conn, server_side=True) as secured:
                _converse(secured)


def _accept(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=_serve, args=(conn, context), daemon=True).start()


def main() -> None:
    """Serve until stdin ends; the port goes to stdout, the certificate comes as the only argument."""
    context = None
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1])
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=(listener, context), daemon=True).start()
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    sys.stdin.read()


class Feed:
    """The running server, to be used in a ``with``.

    Args:
        tls: speak TLS, with a certificate made for the occasion; needs trustme.
    """

    def __init__(self, *, tls: bool = False) -> None:
        self.authority: str | None = None
        """The file of the certificate authority to trust."""
        self._tls = tls
        self._port = 0
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._exit:
            certificate = [self._make_certificate()] if self._tls else []
            process = subprocess.Popen(
                command("feed", *certificate),
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self._exit.enter_context(process)
            assert process.stdout is not None
            self._port = int(process.stdout.readline())
            self._exit = self._exit.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._exit.close()

    def _make_certificate(self) -> str:
        import trustme  # noqa: PLC0415 - of the extra testing, and only for TLS

        folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory()))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        self.authority = str(folder / "authority.pem")
        certificate = folder / "certificate.pem"
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        return str(certificate)

    def url(self, kind: str = "", **asked: int) -> str:
        """Where to connect to for such traffic."""
        scheme = "wss" if self._tls else "ws"
        query = f"?{urlencode(asked)}" if asked else ""
        return f"{scheme}://127.0.0.1:{self._port}/{kind}{query}"
