"""``allenhark-ws doctor``: every way in which a connection fails is found, at its step, and explained."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import ssl
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

for needed in ("click", "rich", "websockets", "trustme", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra cli")

import trustme

from allenhark_ws import ConnectionFailed, HandshakeRejected
from allenhark_ws.cli import main
from allenhark_ws.cli._advice import advice
from allenhark_ws.cli._certificate import Certificate, look_at
from allenhark_ws.cli._doctor import _clock, _Unused
from allenhark_ws.cli._steps import STEPS, Steps
from allenhark_ws.testing import FaultProxy

from .commands import environment
from .peers import Script, closed_port, peer, read_head, reset, upgrade
from .simulators import Simulator

KEY = "sk-live-0123456789"


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that must not show up, and neither an endpoint nor a proxy of this machine."""
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("ALLENHARK_API_KEY", KEY)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    """Its certificate, as --ca-file takes it."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


class Report:
    """What the doctor found.

    Attributes:
        code: the exit code.
        text: what it printed.
        steps: the report's steps by name, in order.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str], url: str, *options: str) -> None:
        self.code = main(["doctor", "--url", url, "--json", *options])
        captured = capsys.readouterr()
        self.text = captured.out
        assert captured.err == ""
        assert KEY not in self.text
        report = json.loads(self.text)
        self.steps: dict[str, Any] = {step["step"]: step for step in report["steps"]}
        assert tuple(self.steps) == STEPS
        assert (report["exit_code"], report["ok"]) == (self.code, self.code == 0)
        assert report["failed"] == self.failed

    @property
    def failed(self) -> str | None:
        """The step at which it failed."""
        names = [name for name, step in self.steps.items() if step["status"] == "failed"]
        assert len(names) <= 1
        return names[0] if names else None

    def expect(self, step: str, words: str, hint: str, code: int = 1) -> None:
        """It failed at this step, in these words, with this advice; steps before it went well, later ones are open."""
        assert (self.failed, self.code) == (step, code), self.text
        assert words in self.steps[step]["text"]
        assert hint in self.steps[step]["advice"]
        place = STEPS.index(step)
        assert {self.steps[name]["status"] for name in STEPS[:place]} <= {"ok", "skipped", "warning"}
        assert {self.steps[name]["status"] for name in STEPS[place + 1 :]} <= {"not reached", "skipped"}


def answer(head: str) -> Script:
    """A server that answers the upgrade with a head of its own."""

    def script(conn: socket.socket) -> None:
        read_head(conn)
        conn.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")

    return script


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Each step is timed; the clocks of one machine agree."""
    with Simulator(api_keys=(KEY,)) as server:
        report = Report(capsys, server.url)
    assert report.code == 0
    assert {step["status"] for step in report.steps.values()} == {"ok", "skipped"}
    assert all(report.steps[name]["seconds"] > 0 for name in ("proxy", "dns", "tcp", "upgrade", "auth", "pong"))
    assert "best" in report.steps["pong"]["text"]
    assert "the server's" in report.steps["clock"]["text"]


def test_it_unsubscribes_nothing_and_leaves_nothing_open(capsys: pytest.CaptureFixture[str]) -> None:
    """One connection, a key, pings, a goodbye."""
    with Simulator(api_keys=(KEY,)) as server:
        assert Report(capsys, server.url).code == 0
        server.wait_for(lambda: server.connections == 0)
        assert len(server.history) == 1
        assert [message["type"] for message in server.received] == ["auth", *["ping"] * 4]
        assert server.violations == []


def test_lines_for_a_person(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each step in its order, and the verdict; the URL's query is not shown, it could hold anything."""
    with Simulator(api_keys=(KEY,)) as server:
        assert main(["doctor", "--url", f"{server.url}?token=hidden"]) == 0
    shown = capsys.readouterr().out
    steps = [line[12:21].strip() for line in shown.splitlines() if line.startswith(("ok ", "skipped "))]
    assert steps == [name for name in STEPS if name != "tunnel"]
    assert shown.endswith("\nall is well\n")
    assert "hidden" not in shown
    assert KEY not in shown


def test_without_a_key_it_goes_as_far_as_the_upgrade(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever needs no key is looked at, nothing is sent; how to give one is said once, and the exit code is 2."""
    monkeypatch.delenv("ALLENHARK_API_KEY")
    with Simulator() as server:
        assert main(["doctor", "--url", server.url]) == 2
        server.wait_for(lambda: server.history and not server.connections)
        assert (server.received, server.violations) == ([], [])
    shown = capsys.readouterr()
    steps = {line[12:21].strip(): line[:12].strip() for line in shown.out.splitlines() if line[:12].strip()}
    assert steps["upgrade"] == "ok"
    assert (steps["auth"], steps["pong"]) == ("skipped", "not reached")
    assert "auth     not tried: there is no API key\n" in shown.out
    assert shown.out.endswith("\nall is well as far as it goes without a key\n")
    how = "no API key: set the variable ALLENHARK_API_KEY, or pass --api-key-file FILE (-: stdin)"
    assert shown.err == f"allenhark-ws: {how}\n"
    assert "ALLENHARK_API_KEY" not in shown.out
    with Simulator() as server:
        assert main(["doctor", "--url", server.url, "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["exit_code"], report["failed"]) == (False, 2, None)
    assert next(step for step in report["steps"] if step["step"] == "auth")["advice"] == how


def test_without_a_key_nothing_is_sent_whatever_is_logged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log tells how far the client is; what it does with the connection hangs on nothing of the kind."""
    monkeypatch.delenv("ALLENHARK_API_KEY")
    monkeypatch.setattr(logging.getLogger("allenhark_ws"), "disabled", True)
    with Simulator() as server:
        assert main(["doctor", "--url", server.url]) == 2
        server.wait_for(lambda: server.history and not server.connections)
        assert (server.received, server.violations) == ([], [])
    assert "auth     not tried: there is no API key\n" in capsys.readouterr().out


def test_without_a_key_a_connection_that_is_being_opened_is_one_as_any_other() -> None:
    """It can be asked what it is at, and a forked child lets go of it."""
    disowned: list[bool] = []
    transport: Any = SimpleNamespace(phase="TLS handshake", disown=lambda: disowned.append(True))
    unused = _Unused(transport)
    unused.disown()
    assert (unused.phase, disowned) == ("TLS handshake", [True])


def test_without_a_key_a_failure_is_found_all_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it failed at is shown; the missing key makes the exit code."""
    monkeypatch.delenv("ALLENHARK_API_KEY")
    with closed_port() as port:
        assert main(["doctor", "--url", f"ws://127.0.0.1:{port}"]) == 2
    shown = capsys.readouterr()
    assert shown.out.endswith("\nit fails at: tcp\n")
    assert shown.err.startswith("allenhark-ws: no API key: ")


def test_loopback_needs_no_tls(capsys: pytest.CaptureFixture[str]) -> None:
    """No alarm about a key that stays on this machine; ws:// to any other is refused before."""
    with Simulator(api_keys=(KEY,)) as server:
        assert main(["doctor", "--url", server.url]) == 0
        assert main(["doctor", "--url", "ws://example.com/"]) == 2
    shown = capsys.readouterr()
    assert "tls      ws:// has none; the key does not leave this machine\n" in shown.out
    assert "in clear: use wss://" in shown.err


def test_lines_of_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """What failed stands out, what to do is under it, the rest was not reached."""
    with closed_port() as port:
        assert main(["doctor", "--url", f"ws://127.0.0.1:{port}"]) == 1
    shown = capsys.readouterr().out
    assert "FAILED      tcp " in shown
    assert f"\n{' ' * 21}the machine is there" in shown
    assert "not reached pong" in shown
    assert shown.endswith("\nit fails at: tcp\n")


def test_long_lines_are_broken_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal of 60 columns, each under the one before; in a pipe a step is a line, to be searched."""
    monkeypatch.setenv("COLUMNS", "60")
    with Simulator(api_keys=(KEY,)) as server:
        assert main(["doctor", "--url", server.url]) == 0
        piped = capsys.readouterr().out.splitlines()
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        assert main(["doctor", "--url", server.url]) == 0
        shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()[2:]
    line = "ok          auth     key accepted: the server answered the ping that followed it"
    assert sum(each.startswith(line) for each in piped) == 1
    place = shown.index("ok          auth     key accepted: the server answered the")
    assert shown[place + 1].startswith(f"{' ' * 21}ping that followed it")
    assert all(len(line) <= 60 for line in shown)


def test_what_a_server_says_does_not_command_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in its words are spelt out."""
    with Simulator() as server:
        server.reject_auth("no \x1b[2J key")
        assert main(["doctor", "--url", server.url]) == 3
    shown = capsys.readouterr().out
    assert "no \\x1b[2J key" in shown
    assert "\x1b" not in shown


def test_the_log_level_is_put_back(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Watching leaves no trace in the process's logging."""
    with closed_port() as port:
        Report(capsys, f"ws://127.0.0.1:{port}")
        caplog.clear()
        main(["tail", "--price", "m", "--url", f"ws://127.0.0.1:{port}", "--connect-timeout", "0.1", "-q"])
    assert caplog.records == []


# -- names and addresses


def test_a_name_that_does_not_exist(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in the host name."""

    def unknown(host: str, *_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    Report(capsys, "wss://api.alenhark.example/").expect("dns", "name or service not known", "typing error")


def test_a_name_server_that_does_not_answer(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is not online."""

    def mute(host: str, *_: object, **__: object) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", mute)
    Report(capsys, "wss://api.example/").expect("dns", "temporary failure", "is this machine online?")


def test_a_name_that_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    """It is not even looked up."""
    report = Report(capsys, f"wss://{'a' * 64}.example/")
    assert (report.failed, report.code) == ("dns", 1)
    assert report.steps["dns"]["advice"] == "correct the host name in the URL"


def test_every_address_is_told_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One refuses, the other answers: both are in the report, each with its time."""
    with Simulator(api_keys=(KEY,)) as server, closed_port() as dead:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in (dead, port)]

        def two(host: str, *_: object, flags: int = 0, **__: object) -> Any:
            return [] if flags else found

        monkeypatch.setattr(socket, "getaddrinfo", two)
        report = Report(capsys, f"ws://two.localhost:{port}/v1/ws")
    assert report.code == 0
    refused, connected = report.steps["tcp"]["details"]
    assert refused.startswith(f"127.0.0.1:{dead}: connection refused after ")
    assert connected.startswith(f"127.0.0.1:{port}: connected after ")


def test_a_port_on_which_nobody_listens(capsys: pytest.CaptureFixture[str]) -> None:
    """The machine says no."""
    with closed_port() as port:
        Report(capsys, f"ws://127.0.0.1:{port}").expect("tcp", "connection refused", "nothing listens on that port")


@pytest.mark.parametrize(
    ("step", "error", "hint"),
    [
        ("tcp", OSError(101, "Network is unreachable"), "no route"),
        ("tcp", OSError(113, "No route to host"), "no route"),
        ("tcp", None, "firewall drops the packets"),
        ("tls", None, "does not answer"),
        ("dns", None, "in time"),
        ("proxy", None, "the name server does not answer"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="error numbers of Linux")
def test_advice_goes_by_the_system_s_error(step: str, error: OSError | None, hint: str) -> None:
    """What cannot be brought about on loopback is explained as well."""
    failure = ConnectionFailed("timed out after 10 s during the …" if error is None else "TCP connect to …")
    failure.__cause__ = error
    assert hint in advice(step, failure)


# -- proxies


def test_an_unusable_proxy(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's variable is named, its credentials are not shown."""
    monkeypatch.setenv("https_proxy", "ftp://user:hidden@proxy.example")
    report = Report(capsys, "wss://api.example/")
    report.expect("proxy", "https_proxy must start with", "unset the variable")
    assert "hidden" not in report.text


def test_a_socks_proxy_without_its_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be installed is told, and nobody was connected to."""
    monkeypatch.setitem(sys.modules, "python_socks", None)
    monkeypatch.setenv("https_proxy", "socks5h://user:hidden@proxy.invalid:99")
    report = Report(capsys, "wss://api.example/")
    report.expect("proxy", 'needs python-socks 3.0 or later: pip install "allenhark-ws[socks]"', "install it, or unset")
    assert "hidden" not in report.text


def test_a_proxy_that_refuses(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the proxy that is connected to, and the tunnel that fails."""
    with peer(answer("HTTP/1.1 407 Proxy Authentication Required")) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        report = Report(capsys, "wss://api.example/")
    report.expect("tunnel", "asks for credentials", "user:password@host:port")
    assert report.steps["proxy"]["text"] == f"http://127.0.0.1:{proxy.port}"


# -- TLS


def impostor(context: ssl.SSLContext) -> Script:
    """A TLS server whose certificate a client may refuse."""

    def script(conn: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(conn, server_side=True) as secured:
            secured.recv(1)

    return script


def served(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A server's context with the certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def test_a_good_certificate_is_shown(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Version, cipher, whose it is, who signed it, until when."""
    with Simulator(api_keys=(KEY,), tls=True) as server:
        assert server.ssl_context is not None
        (der,) = server.ssl_context.get_ca_certs(binary_form=True)
        path = tmp_path / "ca.pem"
        path.write_text(ssl.DER_cert_to_PEM_cert(der))
        report = Report(capsys, server.url, "--ca-file", str(path))
    assert report.code == 0
    assert report.steps["tls"]["text"].startswith("TLSv1.3, TLS_")
    subject, names, issuer, dates = report.steps["tls"]["details"]
    assert "trustme" in subject
    assert "localhost" in names
    assert issuer.startswith("issued by ")
    assert "days left" in dates


def test_an_unknown_issuer(capsys: pytest.CaptureFixture[str], authority: trustme.CA) -> None:
    """A private authority, a company's filter, or an attack: the issuer is shown, that one can tell."""
    context = served(authority.issue_cert("localhost"))
    with peer(impostor(context), impostor(context)) as server:
        report = Report(capsys, f"wss://localhost:{server.port}/")
    report.expect("tls", "unable to get local issuer certificate", "--ca-file")
    assert any("issued by" in line and "trustme" in line for line in report.steps["tls"]["details"])


def test_a_certificate_for_another_host(
    capsys: pytest.CaptureFixture[str], authority: trustme.CA, ca_file: str
) -> None:
    """The names that it is for are shown."""
    context = served(authority.issue_cert("login.hotel.example"))
    with peer(impostor(context), impostor(context)) as server:
        report = Report(capsys, f"wss://localhost:{server.port}/", "--ca-file", ca_file)
    report.expect("tls", "ostname mismatch", "belongs to another host")
    assert "for login.hotel.example" in report.steps["tls"]["details"]


def test_an_expired_certificate(capsys: pytest.CaptureFixture[str], authority: trustme.CA, ca_file: str) -> None:
    """With the date, since it may be this machine's clock that is wrong."""
    context = served(authority.issue_cert("localhost", not_after=datetime(2020, 1, 3, tzinfo=timezone.utc)))
    with peer(impostor(context), impostor(context)) as server:
        report = Report(capsys, f"wss://localhost:{server.port}/", "--ca-file", ca_file)
    report.expect("tls", "expired", "this machine's clock")
    assert any("until 2020-01-03, over for" in line for line in report.steps["tls"]["details"])


def test_a_certificate_that_cannot_be_looked_at(capsys: pytest.CaptureFixture[str], authority: trustme.CA) -> None:
    """A server that is gone when it is asked again leaves the rest of the report as it is."""
    context = served(authority.issue_cert("localhost"))
    with peer(impostor(context), reset) as server:
        report = Report(capsys, f"wss://localhost:{server.port}/")
    report.expect("tls", "unable to get local issuer certificate", "--ca-file")
    assert report.steps["tls"]["details"] == []


def test_a_certificate_through_a_proxy(authority: trustme.CA) -> None:
    """It is looked at by the way that the client took; through SOCKS not at all."""
    context = served(authority.issue_cert("api.example"))

    def script(conn: socket.socket) -> str:
        request = read_head(conn)
        conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        impostor(context)(conn)
        return request

    with peer(script) as proxy:
        certificate = look_at("wss://api.example/", f"http://127.0.0.1:{proxy.port}", 10.0)
    assert certificate is not None
    assert certificate.names == ("api.example",)
    assert proxy.results[0].startswith("CONNECT api.example:443 ")
    assert look_at("wss://api.example/", "socks5h://127.0.0.1:1", 10.0) is None


def test_what_is_no_certificate() -> None:
    """Whatever a server sends, reading it is no failure of ours."""
    assert Certificate.of(b"") is None
    assert Certificate.of(b"nonsense") is None


def test_a_server_without_tls(capsys: pytest.CaptureFixture[str]) -> None:
    """wss:// where ws:// is spoken."""
    with peer(lambda conn: (conn.recv(1), conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))) as server:
        report = Report(capsys, f"wss://localhost:{server.port}/")
    report.expect("tls", "TLS handshake with localhost", "speaks no TLS")


def test_a_server_that_hangs_up_in_tls(capsys: pytest.CaptureFixture[str]) -> None:
    """As filters by host name do."""
    with peer(lambda conn: conn.recv(1)) as server:
        Report(capsys, f"wss://localhost:{server.port}/").expect("tls", "", "hung up during TLS")


# -- the upgrade


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        ("401 Unauthorized", 3, "refused before a key was sent"),
        ("403 Forbidden", 3, "refused before a key was sent"),
        ("404 Not Found", 1, "AllenHark's ends in /v1/ws"),
        ("400 Bad Request", 1, "does not take this for a WebSocket"),
        ("429 Too Many Requests\nRetry-After: 7", 1, "end other clients"),
        ("503 Service Unavailable", 1, "in trouble"),
        ("302 Found\nLocation: https://elsewhere.example/login?secret", 1, "redirects are not followed"),
        ("200 OK", 1, "this is a web page"),
    ],
)
def test_http_statuses(status: str, code: int, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each has its meaning."""
    with peer(answer(f"HTTP/1.1 {status}")) as server:
        report = Report(capsys, f"ws://127.0.0.1:{server.port}/")
    report.expect("upgrade", f"HTTP {status[:3]}", hint, code)
    text = report.steps["upgrade"]["text"]
    assert ("asking to wait 7 s" in text) is status.startswith("429")
    assert ("to https://elsewhere.example/login" in text) is status.startswith("302")
    assert "secret" not in text


def test_no_web_server(capsys: pytest.CaptureFixture[str]) -> None:
    """Another protocol's port."""
    with peer(answer("SSH-2.0-OpenSSH_9.6")) as server:
        Report(capsys, f"ws://127.0.0.1:{server.port}/").expect("upgrade", "not HTTP/1.1", "no web server")


def test_an_answer_that_was_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody in between made it up."""
    with peer(answer("HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade")) as server:
        report = Report(capsys, f"ws://127.0.0.1:{server.port}/")
    report.expect("upgrade", "does not verify", "something in between")


def test_a_server_that_hangs_up_at_the_upgrade(capsys: pytest.CaptureFixture[str]) -> None:
    """ws:// where wss:// is spoken."""
    with peer(read_head) as server:
        report = Report(capsys, f"ws://127.0.0.1:{server.port}/")
    report.expect("upgrade", "closed the connection", "expects TLS")


def test_a_server_that_accepts_and_hangs(capsys: pytest.CaptureFixture[str]) -> None:
    """The step that hangs is named, when the time is over."""
    with Simulator() as server, FaultProxy(server.url) as proxy:
        proxy.blackhole()
        report = Report(capsys, proxy.url, "--timeout", "0.3")
    report.expect("upgrade", "timed out after 0.3 s", "no answer")


# -- the key and the pongs


def test_a_wrong_key(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 3; the server's words, the key redacted."""
    with Simulator() as server:
        server.reject_auth(f"unknown API key {KEY}")
        report = Report(capsys, server.url)
    report.expect("auth", "unknown API key [redacted]", "compare ALLENHARK_API_KEY", 3)
    assert report.steps["auth"]["seconds"] > 0


@pytest.mark.parametrize(
    ("close", "words"),
    [(b"\x88\x02\x03\xf0", "without a reason, code 1008"), (b"\x88\x05\x11\x31old", "old, code 4401")],
)
def test_a_key_rejected_by_a_close(close: bytes, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its code is told: it may be all that the server says."""
    with peer(lambda conn: (upgrade(conn), conn.sendall(close), conn.recv(4096))) as server:
        report = Report(capsys, f"ws://127.0.0.1:{server.port}/")
    report.expect("auth", words, "compare ALLENHARK_API_KEY", 3)


def test_a_code_that_is_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    """It is redacted too."""
    with Simulator() as server:
        server.reject_auth("no", KEY)
        report = Report(capsys, server.url)
    report.expect("auth", "no, code [redacted]", "compare ALLENHARK_API_KEY", 3)


def test_a_server_that_closes_instead(capsys: pytest.CaptureFixture[str]) -> None:
    """Trouble at the server is not a wrong key."""
    with peer(lambda conn: (upgrade(conn), conn.sendall(b"\x88\x02\x03\xf3"), conn.recv(4096))) as server:
        report = Report(capsys, f"ws://127.0.0.1:{server.port}/")
    report.expect("auth", "with code 1011", "before it accepted the key")


def test_no_pong(capsys: pytest.CaptureFixture[str]) -> None:
    """The key was sent; whether it was accepted nobody can say."""
    with Simulator(api_keys=(KEY,)) as server:
        server.mute_pongs()
        report = Report(capsys, server.url, "--timeout", "0.3")
    report.expect("pong", "no pong came within 0.3 s", "then silence")
    assert report.steps["auth"]["status"] == "warning"


def test_a_connection_that_does_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    """One pong, and then nothing: all is not well."""

    def script(conn: socket.socket) -> None:
        upgrade(conn)
        conn.sendall(b'\x81\x0f{"type":"pong"}')
        conn.recv(4096)

    with peer(script) as server:
        report = Report(capsys, f"ws://127.0.0.1:{server.port}/", "--timeout", "2")
    assert (report.failed, report.code) == ("pong", 1)
    assert "does not hold" in report.steps["pong"]["advice"]
    assert report.steps["auth"]["status"] == "ok"
    assert report.steps["clock"]["status"] == "skipped"


# -- clocks


@pytest.mark.parametrize(
    ("offset", "rtt", "status", "words"),
    [
        (None, 0.1, "skipped", "carry no time"),
        (0.01, 0.1, "ok", "agrees with this machine's within 0.050 s"),
        (0.5, 0.1, "ok", "0.500 s ahead of this machine's, give or take 0.050 s"),
        (-90.0, 0.1, "warning", "90.000 s behind"),
        (2.04, 0.1, "ok", "ahead"),
        (2.06, 0.1, "warning", "ahead"),
    ],
)
def test_clocks(offset: float | None, rtt: float, status: str, words: str) -> None:
    """As far apart as half a round trip lets one say; a warning only for what is certain."""
    step = _clock(offset, rtt)
    assert step.status == status
    assert words in step.text
    assert bool(step.advice) is (status == "warning")


# -- the steps by themselves


@pytest.fixture
def steps() -> Steps:
    """Nothing has happened yet."""
    return Steps(secure=True)


def hear(steps: Steps) -> Callable[..., Any]:
    """A short way to a record, at a moment."""
    return lambda moment, step, outcome, **facts: steps.hear(moment, step, outcome, facts)


def test_a_step_takes_from_its_beginning_to_its_end(steps: Steps) -> None:
    """By the moments at which they were logged."""
    tell = hear(steps)
    assert tell(1.0, "dns", "begun", host="a.example") is None
    step = tell(1.25, "dns", "done", host="a.example", addresses=("192.0.2.1", "192.0.2.1", "192.0.2.2"))
    assert step.seconds == 0.25
    assert step.text == "a.example has 192.0.2.1, 192.0.2.2"


def test_the_key_and_the_first_pong_take_from_the_upgrade_on(steps: Steps) -> None:
    """Both are sent when it is done; the answer to one is the answer to the other, or there is none."""
    tell = hear(steps)
    tell(1.0, "upgrade", "begun")
    tell(1.5, "upgrade", "done")
    assert steps.accepted(1.75).seconds == 0.25
    silent = Steps(secure=True)
    hear(silent)(1.5, "upgrade", "done")
    auth, pong = silent.failed(2.5, ConnectionFailed("no pong came within 1 s after authentication"))
    assert (auth.name, auth.seconds, pong.name, pong.seconds) == ("auth", None, "pong", 1.0)


def test_a_second_look_up_belongs_to_the_tunnel(steps: Steps) -> None:
    """A socks4 proxy is told an address, which is looked up after the proxy's own."""
    tell = hear(steps)
    tell(1.0, "dns", "begun", host="proxy")
    tell(1.1, "dns", "done", host="proxy", addresses=("192.0.2.1",))
    tell(1.2, "tunnel", "begun", proxy="socks4://proxy:1080")
    assert tell(1.3, "dns", "begun", host="server") is None
    assert tell(1.4, "dns", "done", host="server", addresses=("192.0.2.2",)) is None
    (failed,) = steps.failed(1.5, ConnectionFailed("tunnel through the proxy: refused"))
    assert (failed.name, failed.status) == ("tunnel", "failed")


def test_an_address_that_never_answered_is_told_of(steps: Steps) -> None:
    """When the time was over, and when another one was faster."""
    tell = hear(steps)
    tell(1.0, "tcp", "begun", address="[2001:db8::1]:443")
    tell(1.25, "tcp", "begun", address="192.0.2.1:443")
    step = tell(1.5, "tcp", "done", address="192.0.2.1:443")
    assert step.details == ["[2001:db8::1]:443: no answer", "192.0.2.1:443: connected after 250.0 ms"]
    assert step.seconds == 0.5


def test_every_failure_has_its_advice(steps: Steps) -> None:
    """Whatever goes wrong, at whichever step, something can be done."""
    for name in STEPS[:-1]:
        assert advice(name, ConnectionFailed("something new"))
    assert advice("upgrade", HandshakeRejected(418))
