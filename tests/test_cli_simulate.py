"""``allenhark-ws simulate``: a server for programs in other terminals."""

from __future__ import annotations

import json
import os
import socket
import ssl
from pathlib import Path

import pytest

for needed in ("click", "rich", "websockets", "trustme", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra cli")

from allenhark_ws import Client, Price
from allenhark_ws.cli import _simulate, main

from .commands import Running, environment, run
from .processes import posix


def test_its_url_is_all_of_stdout() -> None:
    """A script reads the URL and connects with the documented key; who comes and goes is told."""
    with Running("simulate", env=environment()) as simulator:
        url = simulator.line().strip()
        simulator.await_talk("the key is 'test-key'")
        with Client("test-key", url=url) as client, client.stream(Price("any")) as stream:
            assert stream.get(timeout=60).mint == "any"
            simulator.await_talk("1 client connected\n")
        simulator.await_talk("0 clients connected\n")
        simulator.interrupt()
        assert simulator.end()[:2] == (130, "")


def test_the_line_to_copy_works() -> None:
    """What it says to try is a command that shows prices."""
    with Running("simulate", env=environment()) as simulator:
        url = simulator.line().strip()
        simulator.await_talk("Ctrl-C ends it")
        line = next(line for line in simulator.talk.splitlines() if "allenhark-ws tail" in line)
        variable, program, *arguments = line.split()
        assert (program, arguments[2]) == ("allenhark-ws", url)
        name, _, key = variable.partition("=")
        done = run(*arguments, "--limit", "1", env=environment(**{name: key}))
        assert done.returncode == 0
        assert json.loads(done.stdout)["event_type"] == "PriceUpdate"


def test_the_port_and_the_seed_are_as_asked_for() -> None:
    """The same seed, the same prices; a port that is taken is told of with what to do."""
    first = []
    for _ in range(2):
        with Running("simulate", "--seed", "7", "-q", env=environment()) as simulator:
            url = simulator.line().strip()
            port = url.rpartition(":")[2].partition("/")[0]
            with Client("test-key", url=url) as client, client.stream(Price("m")) as stream:
                first.append(stream.get(timeout=60).price)
            taken = run("simulate", "--port", port, env=environment())
            assert taken.returncode == 1
            assert f"port {port} cannot be had" in taken.stderr
            assert "--port 0" in taken.stderr
            assert simulator.talk == ""
    assert first[0] == first[1]


@pytest.mark.parametrize("given", [True, False])
def test_tls_tells_where_its_authority_is(given: bool, tmp_path: Path) -> None:
    """The certificate is written where asked, or to a temporary file that is gone afterwards; a client can trust it."""
    chosen = ["--ca-file", str(tmp_path / "ca.pem")] if given else []
    with Running("simulate", "--tls", *chosen, env=environment(TMPDIR=str(tmp_path))) as simulator:
        url = simulator.line().strip()
        assert url.startswith("wss://localhost:")
        simulator.await_talk("Ctrl-C ends it")
        path = Path(simulator.talk.partition("its certificate authority is in ")[2].partition(":")[0])
        assert path.parent.parent == tmp_path or path == tmp_path / "ca.pem"
        context = ssl.create_default_context(cafile=path)
        with Client("test-key", url=url, ssl_context=context) as client:
            assert client.flush() > 0
        simulator.interrupt()
        assert simulator.end()[0] == 130
    assert path.exists() is given


CERTIFICATE = ssl.DER_cert_to_PEM_cert(b"not looked into")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(CERTIFICATE, id="a certificate from elsewhere"),
        pytest.param(f"{_simulate._MARK}{CERTIFICATE}{CERTIFICATE}", id="ours with one added"),
        pytest.param(f"{_simulate._MARK}{CERTIFICATE}my notes\n", id="ours with notes"),
        pytest.param("a" * 100_000, id="long"),
    ],
)
def test_a_file_that_it_did_not_write_is_kept(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same option is elsewhere what to read; it says what to do, and serves nobody."""
    path = tmp_path / "ca.pem"
    path.write_text(text, encoding="ascii")
    assert main(["simulate", "--tls", "--ca-file", str(path)]) == 2
    assert path.read_text(encoding="ascii") == text
    out, err = capsys.readouterr()
    assert out == ""
    assert "'--ca-file'" in err
    assert "exists and is kept: this is where to write; name a new file, or remove that one" in " ".join(err.split())


@posix
@pytest.mark.parametrize("kind", ["pipe", "dangling link"])
def test_what_is_no_file_is_kept(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is it waited for."""
    path = tmp_path / "ca.pem"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere")
    assert main(["simulate", "--tls", "--ca-file", str(path)]) == 2
    assert "exists and is kept" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_command_again(tmp_path: Path) -> None:
    """Its certificate replaces that of the run before."""
    path = tmp_path / "ca.pem"
    texts = []
    for _ in range(2):
        with Running("simulate", "--tls", "--ca-file", str(path), "-q", env=environment()) as simulator:
            url = simulator.line().strip()
            with Client("test-key", url=url, ssl_context=ssl.create_default_context(cafile=path)) as client:
                assert client.flush() > 0
        texts.append(path.read_text(encoding="ascii"))
    assert texts[0] != texts[1]


def test_a_client_that_breaks_the_protocol_is_told_of() -> None:
    """Whoever writes a client of their own sees what the API would not have allowed."""
    with Running("simulate", env=environment()) as simulator:
        port = int(simulator.line().rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as conn:
            conn.sendall(
                b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                b"\x81\x82\0\0\0\0{}"
            )
            simulator.await_talk("a client broke the protocol: connection 1: a message of unknown type None\n")


def test_a_place_that_cannot_be_written_is_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line that names it."""
    path = tmp_path / "none" / "ca.pem"
    assert main(["simulate", "--tls", "--ca-file", str(path)]) == 1
    assert capsys.readouterr().err == f"allenhark-ws: {path}: No such file or directory\n"
