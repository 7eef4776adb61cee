"""Opening one connection: DNS, TCP, proxy, TLS and the WebSocket upgrade, under one deadline.

Neighbours: `_transport` calls `open_connection`; `_guard` keeps the deadline and the byte cap, `_proxy` makes tunnels.
Foreign errors become this package's here.  Those whose text may hold what a server sent are not chained.
"""

from __future__ import annotations

import errno
import ipaddress
import itertools
import math
import os
import re
import selectors
import socket
import ssl
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

from attrs import define, field, frozen
from websocket import WebSocket, WebSocketException

from ._guard import Address, GuardedSocket, Head, Opening, describe, look_up, wanted_mask
from ._proxy import authority, choose_proxy, tunnel
from .config import Settings
from .errors import AuthenticationError, CertificateRejected, ConnectionFailed, HandshakeRejected

__all__ = ["Target", "connect_tcp", "open_connection", "parse_retry_after", "wrap"]

STAGGER: Final = 0.25
"""Seconds an address gets before the next one is tried beside it (RFC 8305, section 5)."""

_SLICE: Final = 0.05
"""Seconds to wait on one of several connecting sockets before looking at the others: the waiter takes one at a time."""

_UNDER_WAY: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR, getattr(errno, "WSAEWOULDBLOCK", 0)})
_PORTS: Final = {"wss": 443, "ws": 80}
_SECONDS: Final = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]*)?")
_SWITCHING_PROTOCOLS: Final = 101
_AUTHENTICATION: Final = frozenset({401, 403})
_ASKS_TO_WAIT: Final = frozenset({429, 503})
_MAX_INTERIM: Final = 16
"""Interim answers read before the true one; a flood of them would never let go of the loop."""

_UNREQUESTED: Final = ("sec-websocket-extensions", "sec-websocket-protocol")


@frozen
class Target:
    """Where a connection goes.

    Attributes:
        scheme: ``wss`` or ``ws``.
        host: host name in ASCII (IDNA) form, or address without brackets.
        port: the port.
        resource: path and query for the request line, percent-encoded.
    """

    scheme: str
    host: str
    port: int
    resource: str

    @classmethod
    def of(cls, url: str) -> Target:
        """Take a URL apart.

        Raises:
            ConnectionFailed: its host name cannot exist (a label of more than 63 characters, for one).
        """
        parts = urlsplit(url)
        # websocket-client would drop what follows a semicolon, so that goes percent-encoded too
        resource = quote(parts.path or "/", safe="/%:@!$&'()*+,=~")
        if parts.query:
            resource += "?" + quote(parts.query, safe="/%:@!$&'()*+,=~;?")
        return cls(parts.scheme, _ascii_host(parts.hostname or ""), parts.port or _PORTS[parts.scheme], resource)

    @property
    def host_header(self) -> str:
        """The Host header's value; the scheme's own port is left out."""
        whole = authority(self.host, self.port)
        return whole.rpartition(":")[0] if self.port == _PORTS[self.scheme] else whole

    @property
    def server_name(self) -> str:
        """The name TLS asks for and verifies: without an IPv6 zone or a trailing dot."""
        return self.host.partition("%")[0].rstrip(".")


def _ascii_host(host: str) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        pass
    raise ConnectionFailed(f"{host!r} is not a possible host name; check the URL")


def open_connection(settings: Settings, opening: Opening) -> tuple[socket.socket, bytes]:
    """Open a connection up to and including the upgrade.

    Returns:
        The non-blocking socket (an `ssl.SSLSocket` for ``wss://``) and the bytes that came after the response head.

    Raises:
        ConnectionFailed: any phase failed; `HandshakeRejected`, `AuthenticationError` and `CertificateRejected` are
            its special cases.  All sockets are closed then.
        Interrupted: the waiter said so; all sockets are closed then too.
    """
    try:
        target = Target.of(settings.url)
        sock = _reach(settings, opening, target)
        if target.scheme == "wss":
            sock = _start_tls(settings, opening, sock, target)
        return sock, _upgrade(settings, opening, sock, target)
    except BaseException:
        opening.close_all()
        raise


def _reach(settings: Settings, opening: Opening, target: Target) -> socket.socket:
    """A TCP connection to the server, direct or through a proxy."""
    opening.tell("proxy", "begun", host=target.host)
    proxy = choose_proxy(settings, target.scheme, target.host, target.port)
    opening.tell("proxy", "done", proxy="" if proxy is None else str(proxy))
    if proxy is None:
        return connect_tcp(opening, look_up(opening, target.host, target.port), authority(target.host, target.port))
    addresses = look_up(opening, _ascii_host(proxy.host), proxy.port)
    sock = connect_tcp(opening, addresses, f"the proxy {proxy}")
    opening.tell("tunnel", "begun", proxy=str(proxy))
    tunnel(opening, sock, proxy, target.host, target.port)
    opening.tell("tunnel", "done", proxy=str(proxy))
    return sock


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
    running: deque[tuple[socket.socket, Address]] = field(factory=deque)
    failures: list[str] = field(factory=list)
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


def _start_tls(settings: Settings, opening: Opening, sock: socket.socket, target: Target) -> ssl.SSLSocket:
    """Wrap the socket and shake hands, verifying the certificate as the context says.

    Raises:
        CertificateRejected: the certificate does not verify.
        ConnectionFailed: anything else.
    """
    phase = f"TLS handshake with {authority(target.host, target.port)}"
    opening.tell("tls", "begun", server_name=target.server_name)
    try:
        context = settings.ssl_context or ssl.create_default_context()  # raises for an SSLKEYLOGFILE it cannot write
        secured = wrap(context, sock, target.server_name)
        opening.sockets.append(secured)
        _shake_hands(opening, secured, phase)
    except ssl.SSLCertVerificationError as error:
        raise CertificateRejected(error.verify_message, target.server_name) from error
    except OSError as error:
        raise ConnectionFailed(f"{phase}: {describe(error)}") from error
    except ValueError as error:
        raise ConnectionFailed(f"{phase}: {error}") from error
    if not isinstance(secured, ssl.SSLSocket):  # a context of its own making could return a socket in clear
        raise ConnectionFailed(f"{phase}: ssl_context gave a socket without TLS")
    cipher = secured.cipher() or ("",)
    certificate = secured.getpeercert(binary_form=True) or b""
    opening.tell("tls", "done", version=secured.version() or "", cipher=cipher[0], certificate=certificate)
    return secured


def wrap(context: ssl.SSLContext, sock: socket.socket, server_name: str) -> ssl.SSLSocket:
    """`SSLContext.wrap_socket` that leaves nothing open when it fails.

    On a connection that was reset meanwhile it raises after taking the descriptor over; the half-made socket then lives
    on in the traceback alone (CPython 3.10 to 3.13).
    """
    try:
        return context.wrap_socket(sock, server_hostname=server_name, do_handshake_on_connect=False)
    except BaseException as error:
        traceback = error.__traceback__
        while traceback is not None:
            half_made = traceback.tb_frame.f_locals.get("self")
            if isinstance(half_made, ssl.SSLSocket):
                half_made.close()
            traceback = traceback.tb_next
        raise


def _shake_hands(opening: Opening, secured: ssl.SSLSocket, phase: str) -> None:
    while True:
        opening.check(phase)
        try:
            secured.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as blocked:
            wanted = wanted_mask(blocked, selectors.EVENT_READ)
        else:
            return
        opening.until_ready(secured, wanted, phase)


@define(eq=False)
class _UpgradeSocket(GuardedSocket):
    """The guarded socket as websocket-client sees it during the upgrade.

    It reads the response head itself and raises for every status but 101, so that library never gets to redirects or
    error bodies; of a good head it hands on what is needed to verify the upgrade, without cookies to be stored.
    """

    _answer: bytes | None = None

    def recv(self, size: int) -> bytes:
        """Serve the verified head, and nothing behind it."""
        if self._answer is None:
            self._answer = self._read_answer()
        data, self._answer = self._answer[:size], self._answer[size:]
        return data

    def _read_answer(self) -> bytes:
        for _ in range(_MAX_INTERIM + 1):
            head = self.read_head()
            if head.status >= 200 or head.status == _SWITCHING_PROTOCOLS:
                break
        else:  # RFC 9110, section 15.2
            raise ConnectionFailed(f"{self.phase}: more than {_MAX_INTERIM} interim answers")
        _check_answer(head, self.phase)
        lines = [f"{name}: {value}" for name, value in head.headers.items() if name != "set-cookie"]
        return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode()


def _check_answer(head: Head, phase: str) -> None:
    """Refuse every answer that is no upgrade, or is one to something else than was asked for (RFC 6455, 4.1)."""
    if head.status in _AUTHENTICATION:
        raise AuthenticationError(f"HTTP {head.status} on the WebSocket upgrade", head.status)
    if head.status != _SWITCHING_PROTOCOLS:
        retry_after = parse_retry_after(head.headers) if head.status in _ASKS_TO_WAIT else None
        raise HandshakeRejected(head.status, cast("Any", head.headers), retry_after=retry_after)
    for name in _UNREQUESTED:
        if name in head.headers:
            raise ConnectionFailed(f"{phase}: the server answered with {name}, which was not asked for")


def _upgrade(settings: Settings, opening: Opening, sock: socket.socket, target: Target) -> bytes:
    """Make the WebSocket upgrade; returns what was received behind the response head."""
    guarded = _UpgradeSocket(sock, opening, f"WebSocket upgrade at {authority(target.host, target.port)}")
    opening.tell("upgrade", "begun", host=target.host_header)
    # The URL names a host that cannot exist: websocket-client adds the cookies its process-wide jar has for the host.
    # The true one goes into the Host header.
    try:
        WebSocket().connect(  # type: ignore[no-untyped-call]
            f"ws://allenhark-ws.invalid{target.resource}",
            socket=guarded,
            host=target.host_header,
            header=[f"{name}: {value}" for name, value in settings.headers.items()],
            suppress_origin=True,
            redirect_limit=0,
        )
    except WebSocketException:
        refused = True
    else:
        refused = False
    if refused:  # raised out here: the foreign text holds what the server sent
        raise ConnectionFailed(
            f"{guarded.phase}: the server's 101 response does not verify (Upgrade, Connection, Sec-WebSocket-Accept)"
        )
    opening.tell("upgrade", "done", host=target.host_header)
    return bytes(guarded.rest)


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait by a response's ``Retry-After`` (RFC 9110, section 10.2.3), at least 0.

    None without a usable one.  A date counts from the response's own ``Date``, so that a wrong clock here changes
    nothing; without it, from `now`, which is this machine's clock unless given.
    """
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return max(0.0, float(text))
    until = _http_date(text)
    if until is None:
        return None
    since = _http_date(headers.get("date", "")) or now or datetime.now(timezone.utc)
    return max(0.0, (until - since).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
