"""What to do about a failure, in words that a user can act on.

A table from what is known of the failure to the advice; the first line that fits is given.  Neighbours: `_steps` knows
at which step a connection failed.  It must never look anything up itself.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Callable
from typing import Final

from attrs import frozen

from allenhark_ws import AuthenticationError, CertificateRejected, HandshakeRejected

__all__ = ["advice"]


@frozen
class _Line:
    step: str
    fits: Callable[[Exception], bool]
    text: str


def _says(pattern: str) -> Callable[[Exception], bool]:
    """The reason holds one of the words."""
    words = re.compile(pattern, re.IGNORECASE)
    return lambda error: words.search(getattr(error, "reason", str(error))) is not None


def _errno(*numbers: int) -> Callable[[Exception], bool]:
    """The system's error, one of these, is behind it."""
    return lambda error: getattr(error.__cause__, "errno", None) in numbers


def _status(*statuses: int) -> Callable[[Exception], bool]:
    def fits(error: Exception) -> bool:
        status = error.code if isinstance(error, AuthenticationError) else getattr(error, "status", None)
        return status in statuses

    return fits


def _always(_error: Exception) -> bool:
    return True


def _eai(*names: str) -> tuple[int, ...]:
    return tuple(getattr(socket, name) for name in names if hasattr(socket, name))


_LINES: Final = (
    _Line("proxy", _says("python-socks"), "install it, or unset the variable (https_proxy, http_proxy or all_proxy)"),
    _Line(
        "proxy",
        _says("^timed out"),
        "the name server does not answer, which the system asks for its proxy's exceptions: look at the network, a VPN",
    ),
    _Line("proxy", _always, "correct or unset the variable (https_proxy, http_proxy or all_proxy); see also no_proxy"),
    _Line("dns", _says("possible host name"), "correct the host name in the URL"),
    _Line(
        "dns",
        _errno(*_eai("EAI_NONAME", "EAI_NODATA")),
        "no such host: look for a typing error in the URL; if it is right, this network's name server may not know it",
    ),
    _Line(
        "dns",
        _errno(*_eai("EAI_AGAIN", "EAI_FAIL")),
        "the name server does not answer: is this machine online?  Look at VPN, Wi-Fi, /etc/resolv.conf",
    ),
    _Line("dns", _always, "the name server does not answer in time: look at the network, a VPN, /etc/resolv.conf"),
    _Line(
        "tcp",
        _errno(errno.ECONNREFUSED, getattr(errno, "WSAECONNREFUSED", errno.ECONNREFUSED)),
        "the machine is there, but nothing listens on that port, or a firewall refuses: check host and port in the URL",
    ),
    _Line(
        "tcp",
        _errno(errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL),
        "there is no route to it: is this machine online?  Look at the network, a VPN, IPv6",
    ),
    _Line(
        "tcp",
        _says("timed out"),
        "nothing comes back: a firewall drops the packets, or the host is down; if you need a proxy, set https_proxy",
    ),
    _Line("tcp", _always, "check host and port in the URL, and the network"),
    _Line("tunnel", _says("407"), "put user name and password into the proxy's URL: http://user:password@host:port"),
    _Line(
        "tunnel",
        _always,
        "the proxy does not let it through: ask who runs it to allow this host and port, or try without (no_proxy)",
    ),
    _Line(
        "tls",
        _says("expired"),
        "the server's operator has to renew it; if it is valid by its date, correct this machine's clock",
    ),
    _Line("tls", _says("not yet valid"), "correct this machine's clock"),
    _Line(
        "tls",
        _says("hostname mismatch|ip address mismatch|doesn't match"),
        "it belongs to another host: correct the host name in the URL; else something answers in the server's place",
    ),
    _Line(
        "tls",
        lambda error: isinstance(error, CertificateRejected),
        "nobody that this machine trusts vouches for it.  If the issuer is your company or antivirus, it reads along: "
        "get its CA certificate and pass --ca-file (or set SSL_CERT_FILE); the same for a private authority.  "
        "Otherwise somebody may be in between: do not send your key",
    ),
    _Line(
        "tls",
        _says("wrong version number|http request|record layer|unknown protocol|packet length"),
        "what answers there speaks no TLS: a wrong port, a server for ws:// instead of wss://, or a login page",
    ),
    _Line(
        "tls",
        _says("alert|unsupported protocol|no protocols|handshake failure|protocol version"),
        "the two cannot agree on TLS: is the host name right, and this machine's OpenSSL not too old?",
    ),
    _Line(
        "tls", _says("timed out"), "it accepts the connection but does not answer: a firewall, or an overloaded server"
    ),
    _Line("tls", _always, "it hung up during TLS: a firewall that filters by host name, or a wrong port"),
    _Line(
        "upgrade",
        _status(401, 403, 407),
        "refused before a key was sent, which comes after the upgrade: a firewall or gateway, an address or country "
        "that is not allowed, or a wrong path in the URL",
    ),
    _Line("upgrade", _status(404, 405, 410), "there is no WebSocket at that path: AllenHark's ends in /v1/ws"),
    _Line("upgrade", _status(400, 426), "it does not take this for a WebSocket: a proxy in between, or a wrong path"),
    _Line("upgrade", _status(429), "too many connections or attempts: end other clients, wait, then try again"),
    _Line(
        "upgrade",
        lambda error: isinstance(error, HandshakeRejected) and error.status >= 500,
        "the server, or the gateway before it, is in trouble: wait, and look at AllenHark's status",
    ),
    _Line(
        "upgrade",
        lambda error: isinstance(error, HandshakeRejected) and 300 <= error.status <= 399,
        "redirects are not followed, they could carry the key elsewhere: put the right address into the URL",
    ),
    _Line(
        "upgrade",
        lambda error: isinstance(error, HandshakeRejected),
        "this is a web page, no WebSocket: a wrong path, or a network's login page",
    ),
    _Line("upgrade", _says("not HTTP"), "what listens there is no web server: check the port in the URL"),
    _Line("upgrade", _says("does not verify|not asked for"), "something in between changes the answer"),
    _Line(
        "upgrade",
        _says("timed out"),
        "connected, but no answer: an overloaded server, or one that expects wss://",
    ),
    _Line("upgrade", _always, "it hung up instead of answering: a server that expects TLS (wss://), or a filter"),
    _Line(
        "auth",
        lambda error: isinstance(error, AuthenticationError),
        "compare ALLENHARK_API_KEY, or the key file, with the key in your account: the whole of it, not revoked",
    ),
    _Line("auth", _always, "the server ended the connection before it accepted the key: wait, then try again"),
    _Line(
        "pong",
        _always,
        "the upgrade worked, then silence: a key that is ignored, an endpoint that speaks another protocol, or a proxy "
        "that holds messages back",
    ),
)


def advice(step: str, error: Exception) -> str:
    """What to do about an error at a step."""
    return next((line.text for line in _LINES if line.step == step and line.fits(error)), "")
