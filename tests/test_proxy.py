"""Proxies: which one is chosen, and tunnels through good, refusing and nonsensical ones."""

from __future__ import annotations

import base64
import logging
import socket
import ssl
import struct
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("trustme", reason="needs the extra testing")

import trustme

from allenhark_ws import Client, Closed, ConfigurationError, Event
from allenhark_ws._guard import Opening
from allenhark_ws._proxy import Proxy, choose_proxy
from allenhark_ws._target import authority
from allenhark_ws._transport import Transport
from allenhark_ws.errors import ConnectionFailed

from .patience import PATIENCE
from .peers import Waiting, closed_port, peer, read_exactly, read_head, settings, upgrade

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of this machine takes part."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def connect(url: str, **changes: Any) -> Transport:
    """Open a transport, real time and real waiting."""
    transport = Transport(settings(url=url, allow_insecure=True, **changes))
    waiting = Waiting()
    transport.open(waiting, waiting.wake)
    return transport


def failure(url: str, **changes: Any) -> str:
    """What an attempt fails with; neither the error nor what it is chained to may hold the credentials."""
    with pytest.raises(ConnectionFailed) as caught:
        connect(url, **changes)
    error: BaseException | None = caught.value
    while error is not None:
        assert "sesame" not in repr(error)
        error = error.__cause__ or error.__context__
    return caught.value.reason


# -- the choice -------------------------------------------------------------------------------------------------------


def choose(scheme: str = "wss", host: str = "api.example.com", port: int = 443, proxy: Any = None) -> str | None:
    """The proxy chosen, as a URL."""
    chosen = choose_proxy(settings(proxy=proxy), opening(), scheme, host, port)
    return None if chosen is None else str(chosen)


def opening() -> Opening:
    """The means of one attempt."""
    waiting = Waiting()
    return Opening(waiting, waiting.wake, time.monotonic, PATIENCE, time.monotonic() + PATIENCE)


@pytest.mark.parametrize(
    ("environment", "scheme", "chosen"),
    [
        ({}, "wss", None),
        ({"https_proxy": "http://one:8080"}, "wss", "http://one:8080"),
        ({"HTTPS_PROXY": "http://one:8080"}, "wss", "http://one:8080"),
        ({"https_proxy": "http://one:8080"}, "ws", None),
        ({"http_proxy": "http://two"}, "ws", "http://two:80"),
        ({"http_proxy": "http://two"}, "wss", None),
        ({"all_proxy": "socks5h://three"}, "wss", "socks5h://three:1080"),
        ({"all_proxy": "socks5h://three", "https_proxy": "one:3128"}, "wss", "http://one:3128"),
        ({"https_proxy": "http://one", "no_proxy": "example.com"}, "wss", None),
        ({"https_proxy": "http://one", "no_proxy": "api.example.com:443"}, "wss", None),
        ({"https_proxy": "http://one", "no_proxy": "other.example"}, "wss", "http://one:80"),
        ({"https_proxy": "http://one", "no_proxy": "*"}, "wss", None),
    ],
)
def test_choice_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], scheme: str, chosen: str | None
) -> None:
    """The environment decides by urllib's rules; a value without scheme means HTTP."""
    if "socks" in str(chosen):
        pytest.importorskip("python_socks", reason="needs the extra socks")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert choose(scheme) == chosen


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_no_proxy_of_the_environment_for_loopback(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Connections to this machine are direct, unless a proxy is given explicitly."""
    monkeypatch.setenv("all_proxy", "http://one:8080")
    assert choose("ws", host) is None
    assert choose("ws", host, proxy="http://two:1") == "http://two:1"


def test_an_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy given as argument, or False, makes the environment irrelevant."""
    monkeypatch.setenv("https_proxy", "http://one:8080")
    assert choose(proxy="http://[::1]:99") == "http://[::1]:99"
    assert choose(proxy=False) is None


@pytest.mark.parametrize(
    "value", ["https://user:sesame@one", "ftp://sesame", "http://user:sesame@one:port", "http://[sesame", "http://"]
)
def test_unusable_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """What cannot be used is named by its variable and not quoted, since it may hold credentials."""
    monkeypatch.setenv("https_proxy", value)
    assert "https_proxy" in failure("wss://api.example.com/")


def of_the_system(monkeypatch: pytest.MonkeyPatch, bypass: Callable[[str], bool], **proxies: str) -> None:
    """Have urllib find these proxies, and these exceptions, in the settings of macOS or Windows."""
    monkeypatch.setattr(urllib.request, "getproxies", lambda: proxies)
    monkeypatch.setattr(urllib.request, "proxy_bypass", bypass)


@pytest.mark.parametrize(("bypassed", "chosen"), [(False, "http://one:8080"), (True, None)])
def test_exceptions_of_the_system_are_looked_at_aside(
    monkeypatch: pytest.MonkeyPatch, bypassed: bool, chosen: str | None
) -> None:
    """Urllib looks the name up for them, which nothing can interrupt: on a thread of its own."""
    asked: list[tuple[str, str]] = []

    def bypass(target: str) -> bool:
        asked.append((target, threading.current_thread().name))
        return bypassed

    of_the_system(monkeypatch, bypass, https="http://one:8080")
    assert choose() == chosen
    assert asked == [("api.example.com:443", "allenhark-proxy")]
    assert choose("ws") is None
    assert len(asked) == 1


@pytest.mark.parametrize("system", [False, True], ids=["variables alone", "system"])
def test_variables_are_looked_at_in_place(monkeypatch: pytest.MonkeyPatch, system: bool) -> None:
    """They are compared as text, which takes no time; a thread would be for each connection."""
    asked: list[str] = []

    def bypass(_target: str) -> bool:
        asked.append(threading.current_thread().name)
        return False

    monkeypatch.setattr(urllib.request, "proxy_bypass", bypass)
    if not system:
        monkeypatch.setattr(urllib.request, "proxy_bypass_environment", bypass)
    monkeypatch.setenv("https_proxy", "http://one:8080")
    assert choose() == "http://one:8080"
    assert asked == [threading.current_thread().name]


def test_exceptions_that_take_too_long_hit_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the attempt was at is told, and the lookup is left behind."""
    release, phases = threading.Event(), list[str]()

    def bypass(_target: str) -> bool:
        phases.append(transport.phase)
        return release.wait(PATIENCE)

    of_the_system(monkeypatch, bypass, http="http://one:8080")
    transport = Transport(settings(url="ws://api.example.com/", allow_insecure=True, connect_timeout=0.1))
    waiting = Waiting()
    with pytest.raises(ConnectionFailed) as caught:
        transport.open(waiting, waiting.wake)
    release.set()
    assert caught.value.reason == "timed out after 0.1 s during the choice of a proxy for api.example.com:80"
    assert phases == ["choice of a proxy for api.example.com:80"]


def test_a_close_is_heard_while_exceptions_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the lookup takes."""
    entered, release = threading.Event(), threading.Event()

    def bypass(_target: str) -> bool:
        entered.set()
        return release.wait(PATIENCE)

    of_the_system(monkeypatch, bypass, https="http://one:8080")
    client = Client("k", url="wss://api.example.com/").start()
    assert entered.wait(PATIENCE)
    client.close(PATIENCE)
    ended = client._loop.ended
    release.set()
    assert ended


def test_credentials_are_decoded_and_hidden() -> None:
    """User name and password are percent-decoded and in no repr."""
    proxy = choose_proxy(settings(proxy="http://us%40er:se%3Asame@one:1"), opening(), "wss", "x.example", 443)
    assert proxy == Proxy("http", "one", 1, "us@er", "se:same")
    assert "same" not in repr(proxy)
    assert "same" not in str(proxy)


def test_authorities() -> None:
    """IPv6 addresses stand in brackets, without their zone."""
    assert authority("example.com", 1) == "example.com:1"
    assert authority("fe80::1%eth0", 1) == "[fe80::1]:1"


# -- HTTP -------------------------------------------------------------------------------------------------------------


def test_tunnel_with_credentials(caplog: pytest.LogCaptureFixture) -> None:
    """CONNECT names the server and carries the credentials; the upgrade goes through; the log has no credentials."""
    caplog.set_level(logging.DEBUG, "allenhark_ws")

    def script(conn: socket.socket) -> tuple[str, str]:
        request = read_head(conn)
        conn.sendall(b"HTTP/1.1 200 Connection established\r\nContent-Length: 0\r\n\r\n")
        return request, upgrade(conn)

    with peer(script) as server:
        connect("ws://api.example.com/v1", proxy=f"http://us%40er:se%3Asame@127.0.0.1:{server.port}").abort()
    request, upgraded = server.results[0]
    lines = request.split("\r\n")
    assert lines[:2] == ["CONNECT api.example.com:80 HTTP/1.1", "Host: api.example.com:80"]
    assert f"Proxy-Authorization: Basic {base64.b64encode(b'us@er:se:same').decode()}" in lines
    assert "Proxy-Authorization" not in upgraded
    assert "Host: api.example.com\r\n" in upgraded
    assert f"opening: tunnel done: proxy http://127.0.0.1:{server.port}" in caplog.messages
    assert not [text for text in caplog.messages if "same" in text or "us@" in text or "us%40" in text]


def test_tls_through_the_tunnel() -> None:
    """TLS is with the server, by its own name, and only inside the tunnel."""
    ca = trustme.CA()
    inside, outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    ca.issue_cert("api.example.com").configure_cert(inside)
    ca.configure_trust(outside)

    def script(conn: socket.socket) -> str:
        request = read_head(conn)
        conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with inside.wrap_socket(conn, server_side=True) as secured:
            upgrade(secured)
        return request

    with peer(script) as server:
        proxy = f"http://127.0.0.1:{server.port}"
        connect("wss://api.example.com/", proxy=proxy, ssl_context=outside).abort()
    assert server.results[0].startswith("CONNECT api.example.com:443 ")
    assert "Proxy-Authorization" not in server.results[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Who Are You\r\nProxy-Authenticate: Basic\r\n\r\n", "asks for credentials (HTTP 407)"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 999999999\r\n\r\nx", "answered CONNECT with HTTP 502"),
        (b"\x05\x00garbage\r\n\r\n", "is not HTTP"),
        (b"", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 Forged\r\n\r\n", "sent data nobody asked for"),
        (b"X" * 70_000, "bytes of headers"),
    ],
)
def test_http_proxies_that_refuse(answer: bytes, words: str) -> None:
    """Each refusal names the proxy, not the credentials, and is no failure of the server."""

    def script(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(answer)

    with peer(script) as server:
        reason = failure("ws://api.example.com/", proxy=f"http://user:sesame@127.0.0.1:{server.port}")
    assert words in reason
    assert f"the proxy http://127.0.0.1:{server.port}" in reason


def test_a_mute_proxy_hits_the_deadline() -> None:
    """The one deadline holds for the tunnel too."""
    hold = threading.Event()
    with peer(lambda conn: hold.wait(PATIENCE)) as server:
        proxy = f"http://127.0.0.1:{server.port}"
        assert "timed out after 1 s during the tunnel" in failure(
            "ws://api.example.com/", proxy=proxy, connect_timeout=1.0
        )
        hold.set()


def test_a_proxy_nobody_runs() -> None:
    """A proxy that cannot be reached is told as such."""
    with closed_port() as port:
        assert "refused" in failure("ws://api.example.com/", proxy=f"http://user:sesame@127.0.0.1:{port}")


# -- SOCKS ------------------------------------------------------------------------------------------------------------


def greet(conn: socket.socket, method: int = 0) -> None:
    """The first exchange of SOCKS 5 (RFC 1928, section 3)."""
    _, count = read_exactly(conn, 2)
    read_exactly(conn, count)
    conn.sendall(bytes([5, method]))


def read_request(conn: socket.socket) -> tuple[str, int]:
    """A SOCKS 5 request (RFC 1928, section 4): where to connect to."""
    _, _, _, kind = read_exactly(conn, 4)
    if kind == 3:
        host = read_exactly(conn, read_exactly(conn, 1)[0]).decode()
    else:
        host = socket.inet_ntop(
            *((socket.AF_INET, read_exactly(conn, 4)) if kind == 1 else (socket.AF_INET6, read_exactly(conn, 16)))
        )
    return host, struct.unpack("!H", read_exactly(conn, 2))[0]


GRANTED = b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01"


def test_socks5h_lets_the_proxy_look_the_name_up() -> None:
    """With socks5h the proxy gets the name."""
    pytest.importorskip("python_socks")

    def script(conn: socket.socket) -> tuple[str, int]:
        greet(conn)
        request = read_request(conn)
        conn.sendall(GRANTED)
        upgrade(conn)
        return request

    with peer(script) as server:
        connect("ws://api.example.com/", proxy=f"socks5h://127.0.0.1:{server.port}").abort()
    assert server.results == [("api.example.com", 80)]


def test_socks5_looks_the_name_up_here() -> None:
    """With socks5 the proxy gets an address; credentials are presented when asked for (RFC 1929)."""
    pytest.importorskip("python_socks")

    def script(conn: socket.socket) -> tuple[bytes, tuple[str, int]]:
        greet(conn, 2)
        credentials = read_exactly(conn, 3 + 4 + 6)
        conn.sendall(b"\x01\x00")
        request = read_request(conn)
        conn.sendall(GRANTED)
        upgrade(conn)
        return credentials, request

    with peer(script) as server:
        connect("ws://localhost:81/", proxy=f"socks5://user:sesame@127.0.0.1:{server.port}").abort()
    credentials, (host, port) = server.results[0]
    assert credentials == b"\x01\x04user\x06sesame"
    assert host in {"127.0.0.1", "::1"}
    assert port == 81


@pytest.mark.parametrize(
    ("scheme", "host", "tail"),
    [
        ("socks4", "127.0.0.2", b"\x7f\x00\x00\x02\x00"),
        ("socks4a", "api.example.com", b"\x00\x00\x00\x01\x00api.example.com\x00"),
    ],
)
def test_socks4(scheme: str, host: str, tail: bytes) -> None:
    """SOCKS 4 takes addresses, 4a names."""
    pytest.importorskip("python_socks")

    def script(conn: socket.socket) -> bytes:
        request = read_exactly(conn, 4 + len(tail))
        conn.sendall(b"\x00\x5a\x00\x00\x00\x00\x00\x00")
        upgrade(conn)
        return request

    with peer(script) as server:
        connect(f"ws://{host}/", proxy=f"{scheme}://127.0.0.1:{server.port}").abort()
    assert server.results[0] == b"\x04\x01\x00\x50" + tail


def test_socks4_has_no_ipv6() -> None:
    """A server with IPv6 addresses alone is out of reach for SOCKS 4."""
    pytest.importorskip("python_socks")
    with peer(lambda conn: conn.recv(1)) as server:
        reason = failure("ws://[2001:db8::1]/", proxy=f"socks4://127.0.0.1:{server.port}")
    assert "no IPv4 address" in reason


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\x05\x00\x05\x05\x00\x01\x7f\x00\x00\x01\x00\x01", "refused"),
        (b"\x05\xff", "No acceptable authentication"),
        (b"\x05\x02\x01\x01", "Username and password"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "Unexpected SOCKS version"),
        (b"\x05", "closed the connection"),
        (GRANTED[:0] + b"\x05\x00" + GRANTED + b"HTTP/1.1 101 Forged", "nobody asked for"),
    ],
)
def test_socks_proxies_that_refuse(answer: bytes, words: str) -> None:
    """Each refusal names the proxy, not the credentials."""
    pytest.importorskip("python_socks")

    def script(conn: socket.socket) -> None:
        conn.sendall(answer)
        conn.shutdown(socket.SHUT_WR)
        while conn.recv(100):
            pass

    with peer(script) as server:
        reason = failure("ws://api.example.com/", proxy=f"socks5h://user:sesame@127.0.0.1:{server.port}")
    assert words in reason
    assert f"the proxy socks5h://127.0.0.1:{server.port}" in reason


def test_credentials_too_long_for_socks() -> None:
    """What python-socks cannot encode is told without the credentials, whatever it raises."""
    pytest.importorskip("python_socks")

    def script(conn: socket.socket) -> None:
        conn.sendall(b"\x05\x02")
        conn.recv(1000)

    with peer(script) as server:
        proxy = f"socks5h://{'u' * 300}:sesame@127.0.0.1:{server.port}"
        reason = failure("ws://api.example.com/", proxy=proxy)
    assert "unusable reply or credentials" in reason


def test_a_mute_socks_proxy_hits_the_deadline() -> None:
    """The one deadline holds under python-socks too."""
    pytest.importorskip("python_socks")
    hold = threading.Event()
    with peer(lambda conn: hold.wait(PATIENCE)) as server:
        reason = failure("ws://api.example.com/", proxy=f"socks5h://127.0.0.1:{server.port}", connect_timeout=1.0)
        hold.set()
    assert "timed out after 1 s during the tunnel" in reason


def test_without_python_socks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra ends the client at once, with the command that installs it; nobody is connected to."""
    monkeypatch.setitem(sys.modules, "python_socks", None)
    monkeypatch.setenv("all_proxy", "socks5h://user:sesame@proxy.invalid:99")
    client = Client("k", url="wss://api.example.com/")
    heard: list[Event] = []
    client.on(Event, heard.append)
    with pytest.raises(ConfigurationError) as caught:
        client.connect()
    client.close()
    assert str(caught.value) == (
        'the proxy socks5h://proxy.invalid:99 needs python-socks 3.0 or later: pip install "allenhark-ws[socks]"'
    )
    assert client.error is caught.value
    assert heard == [Closed(caught.value)]


def test_a_python_socks_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot use our socket, and so would open its own without our deadline, counts as missing."""
    library = pytest.importorskip("python_socks.sync")

    class Old:
        def __init__(self, proxy_type: object, host: str, port: int) -> None:
            pytest.fail("used")

    monkeypatch.setattr(library, "Proxy", Old)
    with pytest.raises(ConfigurationError, match=r'pip install "allenhark-ws\[socks\]"'):
        connect("ws://api.example.com/", proxy="socks5://proxy.invalid:99")
