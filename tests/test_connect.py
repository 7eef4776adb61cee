"""Opening a connection: every phase against good, bad, mute and dripping peers, under one deadline."""

from __future__ import annotations

import contextlib
import errno
import gc
import logging
import os
import selectors
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("trustme", reason="needs the extra testing")

import trustme
from websocket._handshake import CookieJar

from allenhark_ws._aside import Interrupted
from allenhark_ws._connect import open_connection
from allenhark_ws._dns import look_up
from allenhark_ws._guard import MAX_HEAD, GuardedSocket, Opening, describe, disown, wanted_mask
from allenhark_ws._target import Target
from allenhark_ws._tcp import _outcome, connect_tcp
from allenhark_ws._tls import _shake_hands, wrap
from allenhark_ws._transport import Transport
from allenhark_ws._upgrade import _UpgradeSocket, parse_retry_after
from allenhark_ws.errors import AuthenticationError, CertificateRejected, ConnectionFailed, HandshakeRejected

from .patience import PATIENCE
from .peers import (
    TEXT,
    Clock,
    Waiting,
    accept_value,
    closed_port,
    frame,
    peer,
    read_head,
    reset,
    settings,
    upgrade,
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


def opening(wait: Any = None, timeout: float = PATIENCE, clock: Callable[[], float] = time.monotonic) -> Opening:
    """The means of one attempt."""
    waiting = Waiting()
    return Opening(wait or waiting, waiting.wake, clock, timeout, clock() + timeout)


def connect(url: str, **changes: Any) -> Transport:
    """Open a transport, real time and real waiting."""
    transport = Transport(settings(url=url, **changes))
    waiting = Waiting()
    transport.open(waiting, waiting.wake)
    return transport


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server's context with a certificate for the names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's context that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def answer(head: str, body: bytes = b"") -> Callable[[socket.socket], str]:
    """A script that answers the upgrade with a head of its own."""

    def script(conn: socket.socket) -> str:
        request = read_head(conn)
        conn.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        return request

    return script


def failure(url: str, **changes: Any) -> ConnectionFailed:
    """The error an attempt ends with; it must be chained to nothing that could hold what a server sent."""
    with pytest.raises(ConnectionFailed) as caught:
        connect(url, **changes)
    error = caught.value
    assert isinstance(error.__cause__, (OSError, type(None)))
    assert error.__context__ in (None, error.__cause__)
    return error


# -- what is told -----------------------------------------------------------------------------------------------------


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the package logs, at every level."""
    caplog.set_level(logging.DEBUG, "allenhark_ws")
    return caplog


def told(log: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, Any]]]:
    """Each step with its outcome and its facts, as a program reads them."""
    found = [vars(record)["opening"] for record in log.records]
    return [(each["step"], each["outcome"], each["facts"]) for each in found]


def test_every_step_is_logged_with_its_facts(authority: trustme.CA, log: pytest.LogCaptureFixture) -> None:
    """Who listens at DEBUG learns when each step begins and ends, and what came of it, the certificate included."""
    with peer(upgrade, context=server_context(authority, "localhost")) as server:
        connect(f"wss://localhost:{server.port}/", ssl_context=trusting(authority)).abort()
    steps = told(log)
    done = {step: facts for step, outcome, facts in steps if outcome == "done"}
    assert [step for step, outcome, _ in steps if outcome == "begun" and step != "tcp"] == [
        "proxy",
        "dns",
        "tls",
        "upgrade",
    ]
    assert [step for step, outcome, _ in steps if outcome == "done"] == ["proxy", "dns", "tcp", "tls", "upgrade"]
    assert done["proxy"] == {"proxy": ""}
    assert "127.0.0.1" in done["dns"]["addresses"]
    assert done["tcp"] == {"address": f"127.0.0.1:{server.port}"}
    assert done["tls"]["version"] == "TLSv1.3"
    assert done["tls"]["cipher"].startswith("TLS_")  # RFC 8446, appendix B.4
    assert b"localhost" in done["tls"]["certificate"]
    assert ssl.DER_cert_to_PEM_cert(done["tls"]["certificate"]).startswith("-----BEGIN CERTIFICATE-----")


def test_an_address_that_fails_is_logged_with_its_reason(log: pytest.LogCaptureFixture) -> None:
    """Each address that was tried is told of, and the steps behind it are not."""
    with closed_port() as port:
        failure(f"ws://127.0.0.1:{port}/")
    facts = {"address": f"127.0.0.1:{port}", "reason": "connection refused"}
    assert told(log)[-2:] == [("tcp", "begun", {"address": f"127.0.0.1:{port}"}), ("tcp", "failed", facts)]


def test_the_texts_of_the_steps_hold_their_facts(log: pytest.LogCaptureFixture) -> None:
    """A person reads the same, but for bytes."""
    opening().tell("tls", "done", version="TLSv1.3", certificate=b"DER")
    assert log.messages == ["opening: tls done: version TLSv1.3"]


# -- the request ------------------------------------------------------------------------------------------------------


def test_the_request_is_what_was_asked_for() -> None:
    """Path, query and headers go out as given, without origin and without cookies of a process-wide jar."""
    CookieJar.set("stolen=1; domain=127.0.0.1")
    try:
        with peer(lambda conn: upgrade(conn, "Set-Cookie: mine=1; domain=127.0.0.2")) as server:
            url = f"ws://127.0.0.1:{server.port}/v1/ws;v=1/ä?a=b&c=%20;d"
            connect(url, headers={"X-Tenant": "seven", "Cookie": "own=1"}).abort()
        assert ".127.0.0.2" not in CookieJar.jar
    finally:
        CookieJar.jar.clear()
    lines = server.results[0].split("\r\n")
    assert lines[0] == "GET /v1/ws%3Bv=1/%C3%A4?a=b&c=%20;d HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines
    assert "X-Tenant: seven" in lines
    assert [line for line in lines if line.startswith("Cookie")] == ["Cookie: own=1"]
    assert not any(line.startswith("Origin") for line in lines)


@pytest.mark.parametrize(
    ("url", "target", "host_header"),
    [
        ("wss://api.example.com", Target("wss", "api.example.com", 443, "/"), "api.example.com"),
        ("wss://api.example.com:8443/x", Target("wss", "api.example.com", 8443, "/x"), "api.example.com:8443"),
        ("wss://api.example.com:80/", Target("wss", "api.example.com", 80, "/"), "api.example.com:80"),
        ("ws://[::1]/x?y", Target("ws", "::1", 80, "/x?y"), "[::1]"),
        ("ws://[::1]:443/", Target("ws", "::1", 443, "/"), "[::1]:443"),
        ("wss://bücher.example/", Target("wss", "xn--bcher-kva.example", 443, "/"), "xn--bcher-kva.example"),
    ],
)
def test_targets(url: str, target: Target, host_header: str) -> None:
    """Default ports, IPv6 literals and international names."""
    config = settings(url=url, allow_insecure=True)
    assert Target.of(config.url) == target
    assert target.host_header == host_header


def test_the_name_tls_asks_for() -> None:
    """Neither a zone nor a trailing dot is part of it."""
    assert Target("wss", "fe80::1%eth0", 443, "/").server_name == "fe80::1"
    assert Target("wss", "fe80::1%eth0", 443, "/").host_header == "[fe80::1]"
    assert Target("wss", "example.com.", 443, "/").server_name == "example.com"


def test_an_impossible_host_name() -> None:
    """A label of more than 63 characters cannot be looked up."""
    assert "not a possible host name" in failure(f"wss://{'x' * 64}.example/").reason


# -- the response -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("length", ["100000000000", "garbage", "-1"])
def test_the_key_is_not_accepted(status: int, length: str) -> None:
    """401 and 403 are an AuthenticationError, whatever body is announced or sent."""
    script = answer(f"HTTP/1.1 {status} No\nContent-Length: {length}", b"sesame" * 1000)
    with peer(script) as server:
        error = failure(f"ws://127.0.0.1:{server.port}/")
    assert isinstance(error, AuthenticationError)
    assert error.code == status
    assert "sesame" not in str(error)


def test_an_endless_body_does_not_hide_the_status() -> None:
    """The body is not read, so one without end costs nothing."""

    def script(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            try:
                conn.sendall(b"4\r\nmore\r\n" * 1000)
            except OSError:
                return

    with peer(script) as server:
        error = failure(f"ws://127.0.0.1:{server.port}/")
    assert isinstance(error, HandshakeRejected)
    assert error.status == 503


def test_rejections_carry_headers_and_retry_after() -> None:
    """Any other status is a HandshakeRejected with the headers in lower case and the wait asked for."""
    with peer(answer("HTTP/1.1 429 Slow Down\nRetry-After: 7\nX-Why: too many\nX-Why: really\nnonsense")) as server:
        error = failure(f"ws://127.0.0.1:{server.port}/")
    assert isinstance(error, HandshakeRejected)
    assert error.status == 429
    assert error.retry_after == 7
    assert error.headers == {"retry-after": "7", "x-why": "too many, really"}


@pytest.mark.parametrize(("status", "seconds"), [(429, 7), (503, 7), (502, None), (504, None), (404, None)])
def test_which_rejections_ask_to_wait(status: int, seconds: float | None) -> None:
    """Too many requests and no service do; with any other status the header is one like the rest."""
    with peer(answer(f"HTTP/1.1 {status} No\nRetry-After: 7")) as server:
        error = failure(f"ws://127.0.0.1:{server.port}/")
    assert isinstance(error, HandshakeRejected)
    assert (error.status, error.retry_after) == (status, seconds)


@pytest.mark.parametrize("status", [200, 301, 302, 307, 308, 404, 500])
def test_no_redirect_is_followed(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    """Whatever is no 101 is the end; the place a redirect names is not visited, nor so much as looked up."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def seen(host: str, *args: Any, **options: Any) -> list[Any]:
        asked.append(host)
        return resolve("127.0.0.1", *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", seen)
    with peer(answer(f"HTTP/1.1 {status} Elsewhere\nLocation: ws://elsewhere.invalid/")) as server:
        error = failure(f"ws://localhost:{server.port}/")
    assert set(asked) == {"localhost"}
    assert isinstance(error, HandshakeRejected)
    assert error.status == status


GOOD = "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (GOOD, "does not verify"),
        (f"{GOOD}\nSec-WebSocket-Accept: c2VzYW1l", "does not verify"),
        ("HTTP/1.1 101 Switching Protocols\nUpgrade: websocket", "does not verify"),
        (f"{GOOD}\nSec-WebSocket-Extensions: permessage-deflate", "sec-websocket-extensions"),
        (f"{GOOD}\nSec-WebSocket-Protocol: chat", "sec-websocket-protocol"),
        ("SSH-2.0-OpenSSH", "not HTTP"),
        ("HTTP/1.1 what", "not HTTP"),
        ("\xff\xfe", "not HTTP"),
    ],
)
def test_answers_that_are_no_upgrade(head: str, words: str) -> None:
    """A 101 that does not verify, or grants what was not asked for, and what is no HTTP, are refused."""
    with peer(answer(head)) as server:
        error = failure(f"ws://127.0.0.1:{server.port}/")
    assert type(error) is ConnectionFailed
    assert words in error.reason
    assert f"WebSocket upgrade at 127.0.0.1:{server.port}" in error.reason


def upgrading(head: bytes) -> _UpgradeSocket:
    """What websocket-client reads when the server sends that."""
    canned: Any = _Canned(head.replace(b"\n", b"\r\n"))
    return _UpgradeSocket(canned, opening(), "upgrade")


def test_of_a_head_only_what_verifies_it_is_handed_on() -> None:
    """To a library that reads it byte by byte, and would keep its cookies."""
    sock = upgrading(b"%b\nX: %b\nSet-Cookie: a=b\nSec-WebSocket-Accept: c\n\n" % (GOOD.encode(), b"x" * 60_000))
    lines = ["TTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: Upgrade", "sec-websocket-accept: c"]
    assert (sock.recv(1), sock.recv(1_000)) == (b"H", "\r\n".join([*lines, "", ""]).encode())
    assert sock.recv(1) == b""


def test_a_head_is_handed_on_without_copies_of_the_rest() -> None:
    """However large it is, a byte costs a byte."""
    sock = upgrading(b"%b, %b\n\n" % (GOOD.encode(), b"x" * 60_000))
    sock.recv(1)
    tracemalloc.start()
    try:
        sock.recv(1)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000


def test_interim_responses_without_end() -> None:
    """Sixteen are read; a server that sends more could keep the client from hearing a close() until the deadline."""

    def script(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 17)

    with peer(script) as server:
        assert "more than 16 interim answers" in failure(f"ws://127.0.0.1:{server.port}/").reason


@pytest.mark.parametrize("status", [100, 103, 199])
def test_interim_responses_are_skipped(status: int) -> None:
    """An informational response may come before the real one (RFC 9110, section 15.2)."""

    def script(conn: socket.socket) -> None:
        request = read_head(conn)
        conn.sendall(b"HTTP/1.1 %d Early Hints\r\nLink: </x>\r\n\r\n" % status * 16)
        head = f"{GOOD}\nSec-WebSocket-Accept: {accept_value(request)}\n\n".replace("\n", "\r\n")
        conn.sendall(head.encode() + frame(TEXT, b"hello"))

    with peer(script) as server:
        transport = connect(f"ws://127.0.0.1:{server.port}/")
        transport.abort()


def test_endless_headers_cost_bounded_memory() -> None:
    """A response head without end is given up after 64 KiB."""

    def script(conn: socket.socket) -> int:
        read_head(conn)
        sent = 0
        try:
            conn.sendall(b"HTTP/1.1 101 Switching Protocols\r\n")
            while True:
                conn.sendall(b"X-More: of the same\r\n" * 100)
                sent += 2100
        except OSError:
            return sent

    with peer(script) as server:
        error = failure(f"ws://127.0.0.1:{server.port}/")
    assert f"more than {MAX_HEAD} bytes" in error.reason


def test_a_peer_that_closes_instead_of_answering() -> None:
    """The end of the connection during the upgrade says so."""
    with peer(read_head) as server:
        error = failure(f"ws://127.0.0.1:{server.port}/")
    assert "the peer closed the connection" in error.reason


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "120"}, 120),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:00 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": "Wed, 21 Oct 2015 07:27:30 GMT"}, 60),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 -0000", "date": "garbage"}, 30),
        ({"retry-after": "Wed, 99 Oct 2015 07:28:30 GMT"}, None),
        ({"retry-after": "1 Jan 9999999999999999 1:1:1 +0000"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds or a date, counted from the response's own date if it has one; nonsense is None."""
    assert parse_retry_after(headers, datetime(2015, 10, 21, 7, 28, tzinfo=timezone.utc)) == seconds


# -- TLS --------------------------------------------------------------------------------------------------------------


def test_tls_by_name(authority: trustme.CA) -> None:
    """The certificate is verified against the name in the URL and the socket is a TLS socket."""
    with peer(upgrade, context=server_context(authority, "localhost")) as server:
        transport = connect(f"wss://localhost:{server.port}/", ssl_context=trusting(authority))
        assert isinstance(transport.sock, ssl.SSLSocket)
        transport.abort()


def serve_badly(conn: socket.socket, context: ssl.SSLContext) -> None:
    """A TLS handshake that the client breaks off."""
    with contextlib.suppress(OSError), context.wrap_socket(conn, server_side=True) as secured:
        secured.recv(1)


def test_unknown_authority(authority: trustme.CA) -> None:
    """A certificate by an issuer nobody trusts is rejected."""
    context = server_context(authority, "127.0.0.1")
    with peer(lambda conn: serve_badly(conn, context)) as server:
        error = failure(f"wss://127.0.0.1:{server.port}/")
    assert isinstance(error, CertificateRejected)
    assert error.host == "127.0.0.1"


def test_wrong_host(authority: trustme.CA) -> None:
    """A certificate for somebody else is rejected."""
    context = server_context(authority, "other.example")
    with peer(lambda conn: serve_badly(conn, context)) as server:
        error = failure(f"wss://localhost:{server.port}/", ssl_context=trusting(authority))
    assert isinstance(error, CertificateRejected)
    assert error.host == "localhost"
    assert "localhost" in error.reason


@pytest.mark.parametrize("words", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b""])
def test_a_server_without_tls(words: bytes) -> None:
    """Something that speaks no TLS is a plain failure that names the phase."""

    def script(conn: socket.socket) -> None:
        conn.recv(100)
        conn.sendall(words)

    with peer(script) as server:
        error = failure(f"wss://127.0.0.1:{server.port}/")
    assert type(error) is ConnectionFailed
    assert error.reason.startswith(f"TLS handshake with 127.0.0.1:{server.port}: ")


def test_a_context_that_cannot_be_used() -> None:
    """What it raises is reported, not raised bare."""

    class Picky(ssl.SSLContext):
        def wrap_socket(self, *args: Any, **kwargs: Any) -> Any:
            raise ValueError("check_hostname requires server_hostname")

    with peer(lambda conn: None) as server, pytest.raises(ConnectionFailed, match="TLS handshake with"):
        connect(f"wss://127.0.0.1:{server.port}/", ssl_context=Picky(ssl.PROTOCOL_TLS_CLIENT))


def test_a_key_log_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The standard library opens SSLKEYLOGFILE for every default context; its error is a failed attempt, not a bug."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "missing" / "keys"))
    with peer(lambda conn: None) as server:
        error = failure(f"wss://127.0.0.1:{server.port}/", ssl_context=None)
    assert error.reason == f"TLS handshake with 127.0.0.1:{server.port}: no such file or directory"
    assert isinstance(error.__cause__, FileNotFoundError)


def test_a_context_that_gives_no_tls() -> None:
    """A context whose sockets are not TLS sockets is never used to talk in clear."""

    class Fake:
        def do_handshake(self) -> None:
            pass

        def close(self) -> None:
            pass

    class Careless(ssl.SSLContext):
        def wrap_socket(self, sock: socket.socket, *args: Any, **kwargs: Any) -> Any:
            return Fake()

    with peer(lambda conn: None) as server:
        error = failure(f"wss://127.0.0.1:{server.port}/", ssl_context=Careless(ssl.PROTOCOL_TLS_CLIENT))
    assert "without TLS" in error.reason


@pytest.mark.parametrize(
    ("blocked", "mask"),
    [(ssl.SSLWantReadError(), selectors.EVENT_READ), (ssl.SSLWantWriteError(), selectors.EVENT_WRITE)],
)
def test_shaking_hands_takes_turns(blocked: OSError, mask: int) -> None:
    """It waits for what TLS waits for, as often as need be."""
    left, masks = [blocked, blocked], []

    class Shy:
        def do_handshake(self) -> None:
            if left:
                raise left.pop()

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        masks.append(mask)
        return True

    shy: Any = Shy()
    _shake_hands(opening(wait), shy, "TLS handshake")
    assert masks == [mask, mask]


# -- TCP and DNS ------------------------------------------------------------------------------------------------------


def test_refused() -> None:
    """A refused connection names the address and the reason."""
    with closed_port() as port:
        error = failure(f"ws://127.0.0.1:{port}/")
    assert error.reason == f"TCP connect to 127.0.0.1:{port}: connection refused"
    assert isinstance(error.__cause__, ConnectionRefusedError)


def test_unknown_host() -> None:
    """A name without address is a failure of the look-up; this one is too long for any resolver to be asked."""
    name = ".".join(["x" * 60] * 5)
    error = failure(f"wss://{name}/", proxy=False)
    assert error.reason.startswith(f"DNS lookup of {name}: ")


class _Answered(Opening):
    """An attempt whose helper thread brings what `answer` returns or raises."""

    answer: Callable[[], Any]

    def aside(self, function: Callable[[], Any], name: str, phase: str) -> Any:
        """The answer."""
        return self.answer()


def answered(answer: Callable[[], Any]) -> Opening:
    """An attempt with that answer."""
    waiting = Waiting()
    attempt = _Answered(waiting, waiting.wake, time.monotonic, PATIENCE, time.monotonic() + PATIENCE)
    attempt.answer = answer
    return attempt


def test_what_the_resolver_says_is_told() -> None:
    """The resolver's own words are in the failure, which has its error as cause."""

    def refuse() -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(ConnectionFailed, match=r"^DNS lookup of a\.invalid: name or service not known") as caught:
        look_up(answered(refuse), "a.invalid", 443)
    assert isinstance(caught.value.__cause__, socket.gaierror)


def test_a_resolver_that_finds_nothing() -> None:
    """No addresses and no error is a failure too."""
    with pytest.raises(ConnectionFailed, match=r"^DNS lookup of a\.invalid: no addresses") as caught:
        look_up(answered(list), "a.invalid", 443)
    assert caught.value.__cause__ is None


def test_an_address_literal_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked, on whatever thread."""
    monkeypatch.delattr(socket, "getaddrinfo")
    assert look_up(answered(list), "127.0.0.1", 443) == [(socket.AF_INET, ("127.0.0.1", 443))]
    assert look_up(answered(list), "::1", 443) == [(socket.AF_INET6, ("::1", 443, 0, 0))]


def test_an_interface_by_name_is_looked_up() -> None:
    """The system knows its number."""
    found = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 443, 0, 7))
    assert look_up(answered(lambda: [found]), "fe80::1%lo", 443) == [(socket.AF_INET6, ("fe80::1", 443, 0, 7))]


def v4(port: int, host: str = "127.0.0.1") -> Any:
    """An IPv4 address as `connect_tcp` takes it."""
    return socket.AF_INET, (host, port)


def test_dead_first_address_then_a_good_one() -> None:
    """A refused address is passed over at once."""
    with closed_port() as dead, peer(lambda conn: conn.recv(1)) as server:
        sock = connect_tcp(opening(), [v4(dead), v4(server.port)], "test")
        assert sock.getpeername() == ("127.0.0.1", server.port)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), "small messages go at once"
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), "the system notices a machine that is gone"
        sock.close()


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """A listener whose queue is full: connecting to it hangs, as to a machine that drops packets."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    for _ in range(3):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    return listener, fillers


def test_silent_first_address_then_a_good_one() -> None:
    """An address that does not answer costs one stagger, not the deadline; its attempt is given up."""
    listener, fillers = full_listener()
    with listener, peer(lambda conn: conn.recv(1)) as server:
        attempt = opening()
        addresses = [v4(listener.getsockname()[1]), v4(listener.getsockname()[1]), v4(server.port)]
        sock = connect_tcp(attempt, addresses, "test")
        assert sock.getpeername() == ("127.0.0.1", server.port)
        assert [other.fileno() for other in attempt.sockets if other is not sock] == [-1, -1]
        sock.close()
    for filler in fillers:
        filler.close()


def test_all_addresses_silent_ends_at_the_deadline() -> None:
    """The one deadline holds for all addresses together."""
    listener, fillers = full_listener()
    clock = Clock()

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        assert mask == selectors.EVENT_WRITE
        clock.now = deadline
        return False

    attempt = opening(wait, 10, clock)
    with listener, pytest.raises(ConnectionFailed, match="timed out after 10 s during the TCP connect to test"):
        connect_tcp(attempt, [v4(listener.getsockname()[1])] * 3, "test")
    attempt.close_all()
    for filler in fillers:
        filler.close()


def test_when_each_address_is_tried_and_looked_at() -> None:
    """One by itself gets a quarter of a second; beside others each is looked at by turns, every twentieth of one."""
    listener, fillers = full_listener()
    clock = Clock()
    attempt = opening(None, 1.0, clock)
    waits = []

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        clock.now = round(deadline, 2)  # without what is lost in sums of decimals
        waits.append((attempt.sockets.index(cast("socket.socket", sock)), round(deadline - 1000, 2)))
        return False

    attempt.wait = wait
    with listener, pytest.raises(ConnectionFailed, match="timed out after 1 s during the TCP connect to test"):
        connect_tcp(attempt, [v4(listener.getsockname()[1])] * 3, "test")
    attempt.close_all()
    for filler in fillers:
        filler.close()
    assert waits[0] == (0, 0.25)
    assert waits[1:6] == [(0, 0.3), (1, 0.35), (0, 0.4), (1, 0.45), (0, 0.5)]
    assert waits[6:12] == [(1, 0.55), (0, 0.6), (2, 0.65), (1, 0.7), (0, 0.75), (2, 0.8)]
    assert waits[-1][1] == 1.0
    assert len(attempt.sockets) == 3


def test_a_single_address_is_waited_for_until_the_deadline() -> None:
    """There is nothing else to look at meanwhile."""
    listener, fillers = full_listener()
    clock = Clock()
    deadlines = []

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        deadlines.append(deadline)
        clock.now = deadline
        return False

    attempt = opening(wait, 10, clock)
    with listener, pytest.raises(ConnectionFailed, match="timed out"):
        connect_tcp(attempt, [v4(listener.getsockname()[1])], "test")
    attempt.close_all()
    for filler in fillers:
        filler.close()
    assert deadlines == [1010.0]


def test_families_take_turns() -> None:
    """Addresses are tried with families interleaved, and all failures are told."""
    with closed_port() as port:
        six = (socket.AF_INET6, ("::1", port, 0, 0))
        with pytest.raises(ConnectionFailed) as caught:
            connect_tcp(opening(), [six, six, v4(port), v4(port)], "test")
    tried = [
        part.split("]:")[0].split(":")[0] for part in caught.value.reason.removeprefix("TCP connect to ").split("; ")
    ]
    assert tried == ["[", "127.0.0.1", "[", "127.0.0.1"]


def test_an_address_that_fails_at_once() -> None:
    """Where the system says no without waiting, as to a broadcast address, the next one follows at once."""
    with peer(lambda conn: conn.recv(1)) as server:
        sock = connect_tcp(opening(), [v4(9, "255.255.255.255"), v4(server.port)], "test")
        sock.close()
    waiting = Waiting()
    with pytest.raises(ConnectionFailed) as caught:
        connect_tcp(opening(waiting), [v4(9, "255.255.255.255")], "test")
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno in {errno.EACCES, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL}
    assert waiting.sockets == []


def test_a_family_this_machine_does_not_have() -> None:
    """An address no socket can be made for is one more failure."""
    with peer(lambda conn: conn.recv(1)) as server:
        sock = connect_tcp(opening(), [(9999, ("x", 1)), v4(server.port)], "test")  # type: ignore[list-item]
        sock.close()


def test_a_connection_to_itself_is_refused() -> None:
    """Connecting to a free port of this machine can meet the own socket, which is no server."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.connect(sock.getsockname())
        error = _outcome(sock, ended=True)
    assert error is not None
    assert error.errno == errno.ECONNREFUSED


def tls_error(text: str, reason: str | None = None) -> ssl.SSLError:
    """An error as OpenSSL's come; some have no reason beside their text."""
    error = ssl.SSLError(1, text)
    error.reason = reason  # type: ignore[assignment]
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        pytest.param(OSError(errno.ECONNREFUSED, "Connection refused"), "connection refused", id="no number"),
        pytest.param(socket.gaierror(-2, "Name or service not known"), "name or service not known", id="name"),
        pytest.param(ConnectionResetError(), "ConnectionResetError", id="no text"),
        pytest.param(OSError("only this"), "OSError", id="no number and text"),
        pytest.param(OSError(errno.EINVAL, "IPv6 is off"), "IPv6 is off", id="two capitals"),
        pytest.param(
            tls_error("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)", "WRONG_VERSION_NUMBER"),
            "wrong version number",
            id="reason instead of text",
        ),
        pytest.param(tls_error("The handshake failed (_ssl.c:999)"), "the handshake failed", id="no source line"),
        pytest.param(
            tls_error("EOF occurred in violation of protocol (_ssl.c:1006)"),
            "EOF occurred in violation of protocol",
            id="abbreviation",
        ),
        pytest.param(tls_error("", "EE_KEY_TOO_SMALL"), "ee key too small", id="all capitals"),
    ],
)
def test_texts_of_errors(error: OSError, text: str) -> None:
    """Foreign errors are told in a few words, without numbers, files and lines, to be read in mid-sentence."""
    assert describe(error) == text


# -- one deadline -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_mute_server_hits_the_deadline(scheme: str) -> None:
    """A server that accepts and says nothing is left at the deadline; the phase is named."""
    hold = threading.Event()
    with peer(lambda conn: hold.wait(PATIENCE)) as server:
        error = failure(f"{scheme}://127.0.0.1:{server.port}/", connect_timeout=1.0)
        hold.set()
    phase = "TLS handshake with" if scheme == "wss" else "WebSocket upgrade at"
    assert error.reason == f"timed out after 1 s during the {phase} 127.0.0.1:{server.port}"


def test_a_dripping_server_hits_the_deadline() -> None:
    """A byte at every wait keeps no handshake alive: the clock decides."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    clock = Clock()
    drips = iter(b"HTTP/1.1 101 Switching Protocols\r\n" + b"X" * 1000)

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        clock.now += 1
        theirs.send(bytes([next(drips)]))
        return True

    with ours, theirs:
        guarded = GuardedSocket(ours, opening(wait, 10, clock), "upgrade")
        with pytest.raises(ConnectionFailed, match="timed out after 10 s during the upgrade"):
            guarded.read_head()
    assert clock.now == 1010


def test_a_hanging_look_up_hits_the_deadline() -> None:
    """The look-up is under the deadline too, and named."""
    clock = Clock()
    attempt = opening(None, 10, clock)
    hold = threading.Event()

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        clock.now = deadline
        return False

    attempt.wait = wait
    with pytest.raises(ConnectionFailed, match="timed out after 10 s during the DNS lookup of x"):
        attempt.aside(lambda: hold.wait(PATIENCE), "dns", "DNS lookup of x")
    hold.set()


def test_no_thread_for_a_call_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not made on ours, where it might hang; a later attempt may have one."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    error = failure("ws://localhost:1/")
    assert error.reason == "this process can start no more threads, which the DNS lookup of localhost needs"


def test_a_large_request_waits_until_it_can_be_written() -> None:
    """Writing waits as reading does, and fails with the phase in its text."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    data = b"x" * 3_000_000
    received = []

    def read_all() -> None:
        left = len(data)
        while left:
            left -= len(theirs.recv(65536))
        received.append(True)

    reader = threading.Thread(target=read_all, daemon=True)
    guarded = GuardedSocket(ours, opening(), "test")
    assert guarded.gettimeout() is None
    reader.start()
    assert guarded.send(data) == len(data)
    reader.join(PATIENCE)
    assert received
    theirs.close()
    with pytest.raises(ConnectionFailed, match=r"test: broken pipe|test: connection reset"):
        guarded.sendall(data)
    guarded.close()


# -- changes of mind --------------------------------------------------------------------------------------------------


class InterruptedAt:
    """A waiter that interrupts at its n-th call."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.waiting = Waiting()

    def __call__(self, sock: socket.socket | None, mask: int, deadline: float) -> bool:
        """Wait, or interrupt."""
        self.left -= 1
        if self.left < 0:
            raise Interrupted
        return self.waiting(sock, mask, deadline)


def test_wrapping_a_reset_connection_leaves_nothing_open() -> None:
    """The error passes, and the descriptor that TLS had taken over already is closed."""
    with peer(reset) as server:
        sock = socket.create_connection(("127.0.0.1", server.port))
        sock.setblocking(False)
        assert Waiting()(sock, selectors.EVENT_READ, time.monotonic() + PATIENCE)
        descriptor = sock.fileno()
        with pytest.raises(OSError, match="reset"):
            wrap(ssl.create_default_context(), sock, "localhost")
        assert sock.fileno() == -1
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(descriptor)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_interrupted_in_each_phase(authority: trustme.CA, scheme: str) -> None:
    """Wherever the interruption hits, it passes and leaves no socket open."""
    context = server_context(authority, "localhost")

    def script(conn: socket.socket) -> None:
        try:
            if scheme == "ws":
                upgrade(conn)
            else:
                with context.wrap_socket(conn, server_side=True) as secured:
                    upgrade(secured)
        except (OSError, EOFError):
            pass

    def silent(conn: socket.socket) -> None:
        while conn.recv(65_536):
            pass

    waits = 0
    interruptions = 0
    while True:
        wait = InterruptedAt(waits)
        with peer(script if waits else silent) as server:  # a quick answer may save a wait, no answer never does
            url = f"{scheme}://localhost:{server.port}/"
            attempt = opening(wait)
            attempt.wake = wait.waiting.wake
            try:
                sock, _ = open_connection(settings(url=url, ssl_context=trusting(authority)), attempt)
            except Interrupted:
                assert all(made.fileno() == -1 for made in attempt.sockets)
                interruptions += 1
                if not attempt.sockets:  # before it connected: let the peer go
                    socket.create_connection(("127.0.0.1", server.port)).close()
            else:
                sock.close()
                break
        waits += 1
    gc.collect()
    assert interruptions == waits >= 1


def test_disown_while_opening() -> None:
    """A child forked while a connection is being opened can let go of its sockets."""
    transport_box: list[Transport] = []

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        assert sock is not None
        transport_box[0].disown()
        assert sock.fileno() == -1
        raise Interrupted

    with peer(lambda conn: None) as server:
        transport_box.append(Transport(settings(url=f"ws://127.0.0.1:{server.port}/")))
        with pytest.raises(Interrupted):
            transport_box[0].open(wait, lambda: None)


# -- the guarded socket -----------------------------------------------------------------------------------------------


class _Canned:
    """A socket that has received these pieces and no more; an error among them is raised in its turn."""

    def __init__(self, *pieces: bytes | OSError) -> None:
        self._pieces = list(pieces)

    def recv(self, size: int) -> bytes:
        """The next piece."""
        piece = self._pieces.pop(0)
        if isinstance(piece, OSError):
            raise piece
        return piece

    def send(self, data: bytes) -> int:
        """Takes all of it, when it is its turn."""
        self.recv(0)
        return len(data)


def guarded(*pieces: bytes) -> GuardedSocket:
    """A guarded socket over that one."""
    canned: Any = _Canned(*pieces)
    return GuardedSocket(canned, opening(), "upgrade")


def test_what_was_read_is_given_before_more_is() -> None:
    """A read that brought too much is remembered; only when all is given the socket is asked again."""
    sock = guarded(b"hello world", b"!")
    assert [sock.recv(5), sock.recv(100), sock.recv(100)] == [b"hello", b" world", b"!"]


@pytest.mark.parametrize("first", [1, 16_384, MAX_HEAD - 1, MAX_HEAD])
def test_the_largest_head(first: int) -> None:
    """A head may have 64 KiB, its end included and however it came; with one byte more it is refused."""
    start, end = b"HTTP/1.1 200 OK\r\nX: ", b"\r\n\r\n"
    largest = start + b"x" * (MAX_HEAD - len(start) - len(end)) + end
    assert guarded(largest[:first], largest[first:]).read_head().status == 200
    larger = start + b"x" + largest[len(start) :]
    with pytest.raises(ConnectionFailed, match="more than 65536 bytes of headers"):
        guarded(larger[:first], larger[first:]).read_head()


@pytest.mark.parametrize("mask", [selectors.EVENT_READ, selectors.EVENT_WRITE])
def test_what_a_blocked_operation_waits_for(mask: int) -> None:
    """TLS says itself what it waits for; waiting for anything else would be a busy loop, or for ever."""
    assert wanted_mask(BlockingIOError(), mask) == mask
    assert wanted_mask(ssl.SSLWantReadError(), mask) == selectors.EVENT_READ
    assert wanted_mask(ssl.SSLWantWriteError(), mask) == selectors.EVENT_WRITE


@pytest.mark.parametrize(
    ("blocked", "reading", "writing"),
    [
        (BlockingIOError(), selectors.EVENT_READ, selectors.EVENT_WRITE),
        (ssl.SSLWantReadError(), selectors.EVENT_READ, selectors.EVENT_READ),
        (ssl.SSLWantWriteError(), selectors.EVENT_WRITE, selectors.EVENT_WRITE),
    ],
)
def test_a_blocked_operation_is_tried_again(blocked: OSError, reading: int, writing: int) -> None:
    """Once what it waits for is there; being blocked is no failure, over TLS neither."""
    masks = []

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        masks.append(mask)
        return True

    canned: Any = _Canned(blocked, b"data", blocked, b"")
    sock = GuardedSocket(canned, opening(wait), "upgrade")
    assert sock.recv(100) == b"data"
    assert sock.send(b"all of it") == 9
    assert masks == [reading, writing]


@pytest.mark.parametrize("headers", [b"", b"A: 1\r\n", b"A: 12\r\n", b"A: 123\r\n", b"A: 1234\r\n"])
@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_a_head_cut_anywhere(headers: bytes, newline: bytes) -> None:
    """Its end is found in whatever pieces it comes, and what follows it is left."""
    head = (b"HTTP/1.1 200\r\n" + headers + b"\r\n").replace(b"\r\n", newline)
    for cut in range(1, len(head)):
        sock = guarded(head[:cut], head[cut:] + b"rest")
        assert sock.read_head().status == 200
        assert sock.rest == b"rest"


@pytest.mark.parametrize("nothing", [b"\n\n", b"\r\n\r\n"])
def test_an_empty_head(nothing: bytes) -> None:
    """An empty line is its end already: nothing more is waited for."""
    with pytest.raises(ConnectionFailed, match="the answer is not HTTP"):
        guarded(nothing).read_head()


@pytest.mark.parametrize("pieces", [[MAX_HEAD], [MAX_HEAD - 1, 1], [MAX_HEAD - 1, 2], [10_000] * 7])
def test_a_head_without_end_is_read_no_further(pieces: list[int]) -> None:
    """As soon as it has 64 KiB it is refused, whether it came to just that number or beyond it."""
    sock = guarded(*(b"x" * size for size in pieces))
    with pytest.raises(ConnectionFailed, match="more than 65536 bytes of headers"):
        sock.read_head()


def test_disowned_sockets_are_closed_here_alone() -> None:
    """The descriptor is closed, without a word to the peer while another copy of it is open."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        copy = ours.dup()
        descriptor = copy.fileno()
        disown(copy)
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(descriptor)
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
        disown(copy)  # which is nothing now


def test_a_socket_that_took_the_place_of_standard_input() -> None:
    """In a daemon a socket may have the descriptor 0, which is one like any other."""
    kept = os.dup(0)
    os.close(0)
    try:
        sock = socket.socket()
        assert sock.fileno() == 0
        disown(sock)
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(0)
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_lines_that_are_no_header() -> None:
    """A name with space around it, or none, is no header (RFC 9112, section 5.1); repeated ones are joined."""
    head = guarded(b"HTTP/1.1 200 OK\r\nA : 1\r\n B: 2\r\n: 3\r\nC\r\nD: 4\r\nd:5\r\n\r\n").read_head()
    assert head.headers == {"d": "4, 5"}
