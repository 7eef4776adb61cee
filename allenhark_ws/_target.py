"""Where a connection goes: a URL taken apart, spelt as HTTP and TLS want it.

Neighbours: `_connect` makes the target, `_proxy`, `_tls` and `_upgrade` spell with it.  It must never ask for an
address: that is `_dns`'s.
"""

from __future__ import annotations

import codecs
import ipaddress
from typing import Final
from urllib.parse import quote, urlsplit

from attrs import frozen

from .errors import ConnectionFailed

__all__ = ["Target", "ascii_host", "authority"]

_PORTS: Final = {"wss": 443, "ws": 80}

codecs.lookup("idna")  # loaded here, or else by the first name looked up, on a helper thread: see `_transport.load`


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
        return cls(parts.scheme, ascii_host(parts.hostname or ""), parts.port or _PORTS[parts.scheme], resource)

    @property
    def host_header(self) -> str:
        """The Host header's value; the scheme's own port is left out."""
        whole = authority(self.host, self.port)
        return whole.rpartition(":")[0] if self.port == _PORTS[self.scheme] else whole

    @property
    def server_name(self) -> str:
        """The name TLS asks for and verifies: without an IPv6 zone or a trailing dot."""
        return self.host.partition("%")[0].rstrip(".")


def ascii_host(host: str) -> str:
    """A host name in ASCII (IDNA) form; an address as it is.

    Raises:
        ConnectionFailed: there can be no such name.
    """
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


def authority(host: str, port: int) -> str:
    """``host:port`` as URLs and Host headers write it, IPv6 addresses in brackets and without their zone."""
    return f"[{host.partition('%')[0]}]:{port}" if ":" in host else f"{host}:{port}"
