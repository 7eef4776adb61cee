"""The WebSocket upgrade: the one HTTP request of a connection, and what a server may answer to it.

websocket-client makes the request and verifies the answer; the answer's head is read here.  Neighbours: `_connect`
calls `upgrade`; `_guard` reads heads, within deadline and byte cap.  Foreign errors whose text may hold what a server
sent must never be chained.
"""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

from attrs import define
from websocket import WebSocket, WebSocketException

from ._guard import GuardedSocket, Head, Opening
from ._target import Target, authority
from .config import Settings
from .errors import AuthenticationError, ConnectionFailed, HandshakeRejected

__all__ = ["parse_retry_after", "upgrade"]

_SECONDS: Final = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]*)?")
_SWITCHING_PROTOCOLS: Final = 101
_AUTHENTICATION: Final = frozenset({401, 403})
_ASKS_TO_WAIT: Final = frozenset({429, 503})
_MAX_INTERIM: Final = 16
"""Interim answers read before the true one; a flood of them would never let go of the loop."""

_UNREQUESTED: Final = ("sec-websocket-extensions", "sec-websocket-protocol")
_VERIFIED: Final = ("upgrade", "connection", "sec-websocket-accept")
"""What websocket-client asks of a head: it reads byte by byte, and gets no more than this."""


@define(eq=False)
class _UpgradeSocket(GuardedSocket):
    """The guarded socket as websocket-client sees it during the upgrade.

    It reads the response head itself and raises for every status but 101, so that library never gets to redirects or
    error bodies; of a good head it hands on what is needed to verify the upgrade, without cookies to be stored.
    """

    _answer: io.BytesIO | None = None

    def recv(self, size: int) -> bytes:
        """Serve the verified head, and nothing behind it."""
        if self._answer is None:
            self._answer = io.BytesIO(self._read_answer())
        return self._answer.read(size)

    def _read_answer(self) -> bytes:
        for _ in range(_MAX_INTERIM + 1):
            head = self.read_head()
            if head.status >= 200 or head.status == _SWITCHING_PROTOCOLS:
                break
        else:  # RFC 9110, section 15.2
            raise ConnectionFailed(f"{self.phase}: more than {_MAX_INTERIM} interim answers")
        _check_answer(head, self.phase)
        lines = [f"{name}: {head.headers[name]}" for name in _VERIFIED if name in head.headers]
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


def upgrade(settings: Settings, opening: Opening, sock: socket.socket, target: Target) -> bytes:
    """Make the WebSocket upgrade; returns what was received behind the response head."""
    guarded = _UpgradeSocket(sock, opening, f"WebSocket upgrade at {authority(target.host, target.port)}")
    opening.tell("upgrade", "begun", host=target.host_header)
    websocket: Any = WebSocket()  # not typed
    # The URL names a host that cannot exist: websocket-client adds the cookies its process-wide jar has for the host.
    # The true one goes into the Host header.
    try:
        websocket.connect(
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
