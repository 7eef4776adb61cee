"""Names to addresses, by the system's resolver: the first phase of opening a connection.

Neighbours: `_connect` asks for the server's or the proxy's addresses, `_proxy` where its protocol wants one, and
`_tcp` connects to them; `_guard` keeps the deadline.  It must never connect to anything.
"""

from __future__ import annotations

import socket
from functools import partial

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
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:
        found = []
    cause: OSError | None = None
    if not found:
        try:
            found = opening.aside(partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM), "dns", phase)
        except OSError as error:
            cause = error
    if not found:
        raise ConnectionFailed(f"{phase}: {describe(cause) if cause else 'no addresses'}") from cause
    opening.tell("dns", "done", host=host, addresses=tuple(str(address[0]) for *_kind, address in found))
    return [(family, address) for family, _type, _protocol, _name, address in found]
