"""Proxies: which one to use, and the tunnel through it.

Neighbours: `_connect` connects to the proxy's address and hands the guarded socket over; `_guard` keeps the deadline.
A text made here must never hold the credentials of a proxy URL.
"""

from __future__ import annotations

import base64
import contextlib
import inspect
import socket
from functools import partial
from types import ModuleType
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from attrs import field, frozen

from ._aside import Interrupted
from ._dns import look_up
from ._guard import GuardedSocket, Opening
from ._target import authority
from .config import INSTALL_SOCKS, Settings, is_loopback
from .errors import ConfigurationError, ConnectionFailed

__all__ = ["Proxy", "choose_proxy", "load", "tunnel"]

_DEFAULT_PORTS: Final = {"http": 80, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}
_PROXY_AUTHENTICATION_REQUIRED: Final = 407


@frozen
class Proxy:
    """A proxy server.

    Attributes:
        scheme: ``http``, ``socks4``, ``socks4a``, ``socks5`` or ``socks5h``.
        host: its host name or address.
        port: its port.
        username: percent-decoded, or None.
        password: percent-decoded, or None.
    """

    scheme: str
    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{authority(self.host, self.port)}"


def load(settings: Settings) -> None:
    """Import what `choose_proxy` and `tunnel` may need; see `_transport.load`."""
    by_environment = _is_by_environment(settings, urlsplit(settings.url).hostname or "")
    if by_environment:
        _urllib()
    if by_environment or settings.proxy:
        _python_socks()


def _is_by_environment(settings: Settings, host: str) -> bool:
    return settings.proxy is None and not is_loopback(host)


def _urllib() -> Any:
    """Urllib's functions for proxies; those for the variables alone are not documented."""
    from urllib import request  # noqa: PLC0415 - heavy, and not needed by all

    return request


def choose_proxy(settings: Settings, opening: Opening, scheme: str, host: str, port: int) -> Proxy | None:
    """The proxy for this server, None for a direct connection.

    Raises:
        ConnectionFailed: the environment names a proxy that cannot be used, or the deadline passed.
        ConfigurationError: it is a SOCKS proxy, and the library for those is missing: trying again would not help.
    """
    proxy: Proxy | None = None
    if isinstance(settings.proxy, str):
        proxy = _parse(settings.proxy, "proxy")
    elif _is_by_environment(settings, host):
        proxy = _from_environment(opening, "https" if scheme == "wss" else "http", authority(host, port))
    if proxy is not None and proxy.scheme != "http":
        _need_python_socks(proxy)
    return proxy


def _from_environment(opening: Opening, kind: str, target: str) -> Proxy | None:
    """By urllib's rules: ``https_proxy`` or ``http_proxy``, else ``all_proxy``; not for hosts in ``no_proxy``.

    Without such variables, on macOS and Windows, what the system's settings say.
    """
    proxies = _urllib().getproxies()
    name = kind if kind in proxies else "all"
    if name not in proxies or _is_bypassed(opening, target):
        return None
    url = proxies[name].strip()
    return _parse(url if "://" in url else f"http://{url}", f"{name}_proxy")


def _is_bypassed(opening: Opening, target: str) -> bool:
    """Whether the server is to be reached directly.

    The exceptions in the settings of macOS and Windows can be addresses, with which urllib compares the server's: it
    looks the name up, for as long as that takes.  The variables are compared as text.
    """
    urllib = _urllib()
    ask = partial(urllib.proxy_bypass, target)
    if urllib.proxy_bypass is urllib.proxy_bypass_environment or urllib.getproxies_environment():
        return bool(ask())
    return bool(opening.aside(ask, "proxy", f"choice of a proxy for {target}"))


def _parse(url: str, source: str) -> Proxy:
    parts = _split(url)
    if parts is None or not parts.hostname:
        raise ConnectionFailed(f"the proxy URL in {source} is malformed; write it as http://host:port")
    if parts.scheme not in _DEFAULT_PORTS:
        known = ", ".join(_DEFAULT_PORTS)
        raise ConnectionFailed(f"the proxy URL in {source} must start with one of {known}, followed by ://")
    return Proxy(
        parts.scheme,
        parts.hostname,
        parts.port or _DEFAULT_PORTS[parts.scheme],
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
    )


def _split(url: str) -> SplitResult | None:
    """Split a URL; None if it is none (the ValueError's text would quote it, credentials included)."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def tunnel(opening: Opening, sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Have the proxy connect the socket through to the server.

    Raises:
        ConnectionFailed: it would not, answered nonsense, or the deadline passed.
    """
    guarded = GuardedSocket(sock, opening, f"tunnel through the proxy {proxy}")
    if proxy.scheme == "http":
        _connect_http(guarded, proxy, authority(host, port))
    else:
        _connect_socks(guarded, proxy, host, port)
    if guarded.rest:  # neither TLS nor the upgrade lets the server speak first: it would be the proxy injecting
        raise ConnectionFailed(f"{guarded.phase}: the proxy sent data nobody asked for")


def _connect_http(guarded: GuardedSocket, proxy: Proxy, target: str) -> None:
    """CONNECT (RFC 9110, section 9.3.6; RFC 6455, section 4.1), with Basic credentials (RFC 7617)."""
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.username is not None:
        pair = f"{proxy.username}:{proxy.password or ''}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}")
    guarded.send("\r\n".join([*lines, "", ""]).encode())
    status = guarded.read_head().status
    if status == _PROXY_AUTHENTICATION_REQUIRED:
        raise ConnectionFailed(
            f"{guarded.phase}: it asks for credentials (HTTP 407); put the right ones into the proxy's URL"
        )
    if not 200 <= status <= 299:
        raise ConnectionFailed(f"{guarded.phase}: it answered CONNECT with HTTP {status}")


@frozen
class _Connected:
    """Stands in for a proxy in front of the proxy, so that python-socks uses the socket we connected and guard."""

    guarded: GuardedSocket

    def connect(self, *, dest_host: str, dest_port: int, timeout: float) -> GuardedSocket:  # noqa: ARG002 - its interface
        return self.guarded


def _python_socks() -> ModuleType | None:
    """The library for SOCKS; None without it, or with one older than 3.0, which cannot use a socket of ours."""
    with contextlib.suppress(ImportError):
        import python_socks.sync  # noqa: PLC0415 - an extra, needed by few

        if "forward" in inspect.signature(python_socks.sync.Proxy).parameters:
            return python_socks
    return None


def _need_python_socks(proxy: Proxy) -> ModuleType:
    """The library for SOCKS.

    Raises:
        ConfigurationError: it is not installed, or too old.
    """
    library = _python_socks()
    if library is None:
        raise ConfigurationError(f"the proxy {proxy} needs python-socks 3.0 or later: {INSTALL_SOCKS}")
    return library


def _connect_socks(guarded: GuardedSocket, proxy: Proxy, host: str, port: int) -> None:
    library = _need_python_socks(proxy)
    kind = library.ProxyType.SOCKS4 if proxy.scheme.startswith("socks4") else library.ProxyType.SOCKS5
    by_name = proxy.scheme in {"socks4a", "socks5h"}
    target = host if by_name else _resolve(guarded.opening, host, port, proxy.scheme)
    front = _Connected(guarded)
    problem = ""
    try:
        library.sync.Proxy(
            kind, proxy.host, proxy.port, proxy.username, proxy.password, rdns=True, forward=front
        ).connect(target, port, timeout=guarded.opening.timeout)
    except (ConnectionFailed, Interrupted):
        raise
    except library.ProxyError as error:  # its texts are the library's own
        problem = str(error)
    except Exception as error:  # noqa: BLE001 - a reply out of turn or unfit credentials make it raise anything
        problem = f"unusable reply or credentials ({type(error).__name__})"
    if problem:
        raise ConnectionFailed(f"{guarded.phase}: {problem}")


def _resolve(opening: Opening, host: str, port: int, scheme: str) -> str:
    """The server's address, looked up here as ``socks4`` and ``socks5`` demand, within the deadline."""
    addresses = look_up(opening, host, port)
    for family, address in addresses:
        if family == socket.AF_INET or scheme == "socks5":
            return str(address[0])
    raise ConnectionFailed(f"{host} has no IPv4 address, and a socks4 proxy can reach no other; use socks5h")
