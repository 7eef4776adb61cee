"""Opening one connection, phase by phase under one deadline: DNS, TCP, proxy, TLS and the WebSocket upgrade.

A phase is a file: `_dns`, `_tcp`, `_proxy`, `_tls`, `_upgrade`; `_guard` has the deadline and the byte cap of them all.
Foreign errors become this package's in each; those whose text may hold what a server sent are not chained.
Neighbours: `_transport` calls `open_connection`.  It must never leave a socket open when it fails.
"""

from __future__ import annotations

import socket

from ._dns import look_up
from ._guard import Opening
from ._proxy import choose_proxy, tunnel
from ._target import Target, ascii_host, authority
from ._tcp import connect_tcp
from ._tls import start_tls
from ._upgrade import upgrade
from .config import Settings

__all__ = ["open_connection"]


def open_connection(settings: Settings, opening: Opening) -> tuple[socket.socket, bytes]:
    """Open a connection up to and including the upgrade.

    Returns:
        The non-blocking socket (an `ssl.SSLSocket` for ``wss://``) and the bytes that came after the response head.

    Raises:
        ConnectionFailed: any phase failed; `HandshakeRejected`, `AuthenticationError` and `CertificateRejected` are
            its special cases.  All sockets are closed then.
        ConfigurationError: the library for the proxy is missing.
        Interrupted: the waiter said so; all sockets are closed then too.
    """
    try:
        target = Target.of(settings.url)
        sock = _reach(settings, opening, target)
        if target.scheme == "wss":
            sock = start_tls(settings, opening, sock, target)
        return sock, upgrade(settings, opening, sock, target)
    except BaseException:
        opening.close_all()
        raise


def _reach(settings: Settings, opening: Opening, target: Target) -> socket.socket:
    """A TCP connection to the server, direct or through a proxy."""
    opening.tell("proxy", "begun", host=target.host)
    proxy = choose_proxy(settings, opening, target.scheme, target.host, target.port)
    opening.tell("proxy", "done", proxy="" if proxy is None else str(proxy))
    if proxy is None:
        return connect_tcp(opening, look_up(opening, target.host, target.port), authority(target.host, target.port))
    addresses = look_up(opening, ascii_host(proxy.host), proxy.port)
    sock = connect_tcp(opening, addresses, f"the proxy {proxy}")
    opening.tell("tunnel", "begun", proxy=str(proxy))
    tunnel(opening, sock, proxy, target.host, target.port)
    opening.tell("tunnel", "done", proxy=str(proxy))
    return sock
