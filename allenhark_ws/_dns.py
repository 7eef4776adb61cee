"""Names to addresses, by the system's resolver: the first phase of opening a connection.

Neighbours: `_connect` asks for the server's or the proxy's addresses, `_proxy` where its protocol wants one, and
`_tcp` connects to them; `_guard` keeps the deadline.  It must never connect to anything.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import partial
from typing import Any

from ._guard import Opening, describe
from .errors import ConnectionFailed

__all__ = ["Address", "look_up"]

Address = tuple[socket.AddressFamily, tuple[object, ...]]
"""An address family and what `socket.connect` takes for it."""


def look_up(opening: Opening, host: str, port: int) -> list[Address]:
    """All addresses of a host, in the system's order of preference; an address literal needs no look-up.

    Raises:
        ConnectionFailed: the name has no address, or the deadline passed.
    """
    phase = f"DNS lookup of {host}"
    opening.tell("dns", "begun", host=host)
    found = _literal(host, port)
    cause: OSError | None = None
    if not found:
        try:
            found = _read(opening.aside(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM), "dns", phase))
        except OSError as error:
            cause = error
    if not found:
        raise ConnectionFailed(f"{phase}: {describe(cause) if cause else 'no addresses'}") from cause
    opening.tell("dns", "done", host=host, addresses=tuple(str(address[0]) for _family, address in found))
    return found


def _literal(host: str, port: int) -> list[Address]:
    """What an address literal says; nothing for a name, or for an interface by name, which the system knows."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return []
    if isinstance(address, ipaddress.IPv4Address):
        return [(socket.AF_INET, (host, port))]
    return [] if address.scope_id else [(socket.AF_INET6, (host, port, 0, 0))]


def _read(found: list[Any]) -> list[Address]:
    return [(family, address) for family, _type, _protocol, _name, address in found]
