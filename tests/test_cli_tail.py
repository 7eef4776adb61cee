"""``allenhark-ws tail`` in pipes: what goes to stdout, what to stderr, and what a slow reader, a loss or a limit do."""

from __future__ import annotations

import json
import re
import shutil
import signal
import ssl
import subprocess
from pathlib import Path

import pytest

for needed in ("click", "rich", "websockets", "trustme", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra cli")

from allenhark_ws import Bot, Price, Transactions
from allenhark_ws.testing import FaultProxy

from .commands import Running, access, environment, run
from .patience import LONG
from .peers import closed_port
from .processes import posix
from .scripted import price
from .simulators import Simulator


def subscribed(simulator: Simulator, *mints: str) -> bool:
    """Whether somebody listens to these prices."""
    return simulator.subscriptions >= {Price(mint) for mint in mints}


def test_a_pipe_gets_json_lines_and_nothing_else(market: Simulator) -> None:
    """Every channel asked for, one object per line; the talk is on stderr."""
    done = run(
        "tail", "--price", "m1", "--price", "m2", "--bot", "b", "--wallet", "w", "--limit", "30", env=access(market)
    )
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(events) == 30
    assert {event["event_type"] for event in events} == {"PriceUpdate", "BotUpdate", "TransactionConfirmed"}
    assert {event["mint"] for event in events if event["event_type"] == "PriceUpdate"} == {"m1", "m2"}
    assert {event["wallet"] for event in events if event["event_type"] == "TransactionConfirmed"} == {"w"}
    assert done.stderr.splitlines()[0].startswith("allenhark-ws: connected, round trip ")
    assert done.stderr.splitlines()[-1] == "allenhark-ws: 30 events"


def test_it_subscribes_to_what_was_asked_for_once(simulator: Simulator) -> None:
    """The same channel named twice is one."""
    with Running("tail", "--price", "m", "--price", "m", "--bot", "b", "--wallet", "w", env=access(simulator)) as tail:
        simulator.wait_for(lambda: len(simulator.subscriptions) == 3, LONG)
        assert simulator.subscriptions == {Price("m"), Bot("b"), Transactions("w")}
        tail.await_talk("connected, ")
        tail.interrupt()
        code, _, talk = tail.end()
    assert code == 130
    assert talk.splitlines()[-1] == "allenhark-ws: 0 events"


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_count(simulator: Simulator, number: signal.Signals, code: int) -> None:
    """Of the lines that were printed, as at any other end, on stderr."""
    with Running("tail", "--price", "m", env=access(simulator)) as tail:
        simulator.wait_for(lambda: subscribed(simulator, "m"), LONG)
        for value in (1.5, 2.5):
            simulator.publish(price("m", value))
            tail.line()
        tail.process.send_signal(number)
        ended, rest, talk = tail.end()
    assert (ended, rest) == (code, "")
    assert talk.splitlines()[-1] == "allenhark-ws: 2 events"


@posix
def test_ctrl_c_before_a_connection_counts_nothing(simulator: Simulator) -> None:
    """There is nothing to count."""
    with FaultProxy(simulator.url) as proxy:
        proxy.refuse()
        with Running("tail", "--price", "m", env=access(proxy)) as tail:
            tail.await_talk("attempt 1 failed")
            tail.interrupt()
            code, _, talk = tail.end()
    assert code == 130
    assert " events" not in talk


def test_text_when_asked_for(market: Simulator) -> None:
    """--text is for people, in a pipe too; without a terminal it has no colours."""
    done = run("tail", "--price", "m", "--text", "--limit", "2", env=access(market))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(" PriceUpdate " in line and " volume " in line for line in lines)
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(("variables", "coloured"), [({"FORCE_COLOR": "1"}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_can_be_forced_and_forbidden(market: Simulator, variables: dict[str, str], coloured: bool) -> None:
    """FORCE_COLOR colours text in a pipe, and never JSON."""
    done = run("tail", "--price", "m", "--text", "--limit", "1", env=access(market) | variables)
    assert ("\x1b[" in done.stdout) is coloured
    done = run("tail", "--price", "m", "--limit", "1", env=access(market) | variables)
    assert json.loads(done.stdout)["mint"] == "m"


def test_every_digit_with_decimal(simulator: Simulator) -> None:
    """Exact numbers are text in JSON, since a reader's numbers may not hold them."""
    with Running("tail", "--price", "m", "--decimal", "--limit", "1", env=access(simulator)) as tail:
        simulator.wait_for(lambda: subscribed(simulator, "m"), LONG)
        message = json.dumps(price("m")).replace('"price": 1.0', '"price": 0.10000000000000000001')
        simulator.send_raw(message)
        event = json.loads(tail.line())
        assert tail.end()[0] == 0
    assert event["price"] == "0.10000000000000000001"


def test_what_is_not_documented_is_kept(simulator: Simulator) -> None:
    """Undeclared keys are in the JSON, in ASCII, whatever the locale."""
    env = access(simulator) | {"PYTHONIOENCODING": "ascii"}
    with Running("tail", "--price", "m", "--limit", "1", env=env) as tail:
        simulator.wait_for(lambda: subscribed(simulator, "m"), LONG)
        simulator.publish(price("m") | {"venue": "börse"})
        line = tail.line()
        assert tail.end()[0] == 0
    assert line.isascii()
    assert json.loads(line)["extra"] == {"venue": "börse"}


@pytest.mark.parametrize("options", [("-q",), ("--no-lifecycle",)])
def test_silence_when_asked_for(market: Simulator, options: tuple[str, ...]) -> None:
    """Nothing on stderr when all goes well."""
    done = run("tail", "--price", "m", "--limit", "1", *options, env=access(market))
    assert (done.returncode, done.stderr) == (0, "")


def test_verbose_logs_the_connecting_without_the_key(market: Simulator) -> None:
    """-v shows each step of the client's, on stderr, with times in UTC as all others."""
    done = run("tail", "--price", "m", "--limit", "1", "-v", env=access(market))
    assert "opening: proxy done: proxy none\n" in done.stderr
    assert "opening: dns done: host 127.0.0.1, addresses 127.0.0.1\n" in done.stderr
    assert "opening: tcp done" in done.stderr
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z DEBUG allenhark_ws: ", done.stderr)
    assert "CONNECTING -> READY" in done.stderr
    assert "test-key" not in done.stderr + done.stdout


def test_seconds_end_it(market: Simulator) -> None:
    """The time is over in a busy market too."""
    done = run("tail", "--price", "m", "--seconds", "4", env=access(market))
    assert done.returncode == 0
    assert done.stdout.count("\n") >= 1
    assert done.stderr.splitlines()[-1] == f"allenhark-ws: {len(done.stdout.splitlines())} events"


@posix
def test_head_closes_the_pipe(market: Simulator) -> None:
    """`tail | head -n 3` is three lines, code 0 on both sides, no traceback."""
    with Running("tail", "--price", "m", env=access(market)) as tail:
        head = subprocess.run(
            [str(shutil.which("head")), "-n3"],
            stdin=tail.process.stdout,
            capture_output=True,
            text=True,
            check=True,
            timeout=LONG,
        )
        assert tail.process.stdout is not None
        tail.process.stdout.close()
        tail.process.stdout = None
        assert tail.end()[0] == 0
    assert len([json.loads(line) for line in head.stdout.splitlines()]) == 3


def test_a_wrong_key_is_3(simulator: Simulator) -> None:
    """One line says so and what to look at; the key is not in it."""
    done = run("tail", "--price", "m", "-q", env=access(simulator, "sk-wrong"))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.splitlines()[-1].startswith("allenhark-ws: the server rejected the API key: invalid API key")
    assert "sk-wrong" not in done.stderr


@pytest.mark.parametrize("options", [(), ("--no-lifecycle",), ("-q",)])
def test_a_wrong_key_is_told_once(simulator: Simulator, options: tuple[str, ...]) -> None:
    """Not as the server's words before that."""
    done = run("tail", "--price", "m", *options, env=access(simulator, "sk-wrong"))
    assert done.returncode == 3
    assert done.stderr.count("invalid API key") == len(done.stderr.splitlines()) == 1


def test_nobody_there_is_1(tmp_path: Path) -> None:
    """Each attempt is told of; after the patience for the first connection it gives up, with the reason."""
    with closed_port() as port:
        env = environment(ALLENHARK_API_KEY="test-key", ALLENHARK_WS_URL=f"ws://127.0.0.1:{port}")
        done = run("tail", "--price", "m", "--connect-timeout", "0.6", env=env, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "attempt 1 failed: " in done.stderr
    assert "allenhark-ws: not connected within 0.6 s: " in done.stderr
    assert "connection refused" in done.stderr.splitlines()[-1]


def test_a_certificate_that_does_not_verify_is_1_and_a_ca_file_helps(tmp_path: Path) -> None:
    """The one line says whose certificate it is about, and who shows more."""
    with Simulator(tls=True, feed=True) as server:
        done = run("tail", "--price", "m", env=access(server))
        assert done.returncode == 1
        assert "the TLS certificate of localhost was rejected" in done.stderr
        assert "allenhark-ws doctor" in done.stderr
        assert server.ssl_context is not None
        ca = tmp_path / "ca.pem"
        (certificate,) = server.ssl_context.get_ca_certs(binary_form=True)
        ca.write_text(ssl.DER_cert_to_PEM_cert(certificate))
        done = run("tail", "--price", "m", "--limit", "1", "--ca-file", str(ca), env=access(server))
        assert done.returncode == 0


def test_a_server_that_goes_away_and_comes_back(simulator: Simulator) -> None:
    """The loss, the attempts and the gap are told; data goes on, none twice."""
    with Running("tail", "--price", "m", "--limit", "2", env=access(simulator)) as tail:
        simulator.wait_for(lambda: subscribed(simulator, "m"), LONG)
        simulator.publish(price("m", 1.5))
        assert json.loads(tail.line())["price"] == 1.5
        simulator.stop()
        tail.await_talk("connection lost: the server closed the connection with code 1001")
        tail.await_talk("attempt 1 failed: ")
        simulator.start()
        tail.await_talk("gap: events of ")
        simulator.wait_for(lambda: subscribed(simulator, "m"), LONG)
        simulator.publish(price("m", 2.5))
        assert json.loads(tail.line())["price"] == 2.5
        code, rest, talk = tail.end()
    assert (code, rest) == (0, "")
    assert talk.splitlines()[-1] == "allenhark-ws: 2 events, reconnected once"


def test_what_the_server_complains_of_is_told(simulator: Simulator) -> None:
    """Its errors, and what is no message, are told even without lifecycle talk; escape sequences are spelt out."""
    with Running("tail", "--price", "m", "--no-lifecycle", env=access(simulator)) as tail:
        simulator.wait_for(lambda: subscribed(simulator, "m"), LONG)
        simulator.send_error("no such \x1b[2Jmint", 7)
        tail.await_talk("the server says: error (7): no such \\x1b[2Jmint\n")
        simulator.send_raw("{")
        tail.await_talk("not a message: ")
        tail.interrupt()
        assert tail.end()[0] == 130


@posix
def test_a_reader_that_stops_reading_is_told_of_and_costs_nothing(simulator: Simulator) -> None:
    """The pipe fills, stderr says that it waits; when the reader goes on, every event is there, in order."""
    many = 3000
    with Running("tail", "--price", "m", "--limit", str(many), env=access(simulator)) as tail:
        simulator.wait_for(lambda: subscribed(simulator, "m"), LONG)
        for number in range(many):
            simulator.publish(price("m", float(number)))
        tail.await_talk("nobody reads stdout: waiting; nothing is dropped")
        code, out, talk = tail.end()
    assert code == 0
    assert [json.loads(line)["price"] for line in out.splitlines()] == [float(number) for number in range(many)]
    assert "stdout is being read again" in talk


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stuck_pipe_holds_no_signal_up(simulator: Simulator, number: signal.Signals, code: int) -> None:
    """Whoever ends it need not wait for the reader that does not read."""
    with Running("tail", "--price", "m", env=access(simulator)) as tail:
        simulator.wait_for(lambda: subscribed(simulator, "m"), LONG)
        for count in range(3000):
            simulator.publish(price("m", float(count)))
        tail.await_talk("nobody reads stdout")
        tail.process.send_signal(number)
        assert tail.process.wait(LONG) == code
        assert "Traceback" not in tail.end()[2]


def test_a_flaky_network_is_told_of(simulator: Simulator) -> None:
    """A reset in the middle is a loss, with its reason, and a gap."""
    with FaultProxy(simulator.url) as proxy, Running("tail", "--price", "m", env=access(proxy)) as tail:
        simulator.wait_for(lambda: subscribed(simulator, "m"), LONG)
        tail.await_talk("connected")
        proxy.rst()
        tail.await_talk("connection lost: ")
        tail.await_talk("gap: events of ")
        tail.interrupt()
        assert tail.end()[0] == 130
