"""A stderr that nobody reads costs nothing but its words; a stdout that was closed before ends what prints events.

A stdin that was closed before holds no key.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

for needed in ("click", "rich", "websockets", "trustme", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra cli")

from allenhark_ws import Client, Price, recording
from allenhark_ws.cli import main

from .commands import COMMAND, Running, access, environment, unread
from .patience import LONG
from .processes import posix
from .scripted import price
from .simulators import Simulator


@pytest.fixture
def day(tmp_path: Path) -> Path:
    """A recording of two prices, with a line between them that is no message, which replay tells of."""
    path = tmp_path / "day.jsonl"
    raws = [json.dumps(price("m", 1.5)), "nonsense", json.dumps(price("m", 2.5))]
    entries = [json.dumps({"at": "2026-01-02T03:04:05.000006+00:00", "raw": raw}) for raw in raws]
    path.write_text("\n".join([json.dumps({"format": "allenhark-ws", "version": 1}), *entries, ""]))
    return path


def shell(redirection: str, *arguments: str) -> list[str]:
    """The command with some of its streams as a shell redirects them, in the shell's own process."""
    return ["/bin/sh", "-c", f'exec "$@" {redirection}', "sh", *COMMAND, *arguments]


def unheard(stderr: int, *arguments: str, env: dict[str, str]) -> tuple[int, list[str]]:
    """The exit code and the lines on stdout of a command whose stderr is that descriptor."""
    command = [*COMMAND, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env, timeout=LONG, check=False)
    return done.returncode, done.stdout.splitlines()


def record_to_the_end(process: subprocess.Popen[bytes], simulator: Simulator) -> None:
    """Have it record a price, lose its connection, record one more, lose it again; then press Ctrl-C."""
    for number, value in enumerate((1.5, 2.5, None), 1):
        simulator.wait_for(partial(is_subscribed, simulator, number), LONG)
        if value is not None:
            simulator.publish(price("m", value))
            simulator.close(1012, "restart")
    process.send_signal(signal.SIGINT)
    assert process.wait(LONG) == 130


def is_subscribed(simulator: Simulator, number: int) -> bool:
    """Whether the only connection there is, that many in all, listens to the price."""
    only = (len(simulator.history), simulator.connections) == (number, 1)
    return only and simulator.subscriptions == {Price("m")}


def prices(path: Path) -> list[float]:
    """The prices in a recording."""
    messages = [json.loads(raw) for _, raw in recording.read(path)]
    return [message["price"] for message in messages if message["type"] == "price_update"]


# -- stderr


@pytest.mark.parametrize("options", [(), ("-v",), ("--text",)])
def test_tail_that_nobody_hears(options: tuple[str, ...], market: Simulator) -> None:
    """Every event that was asked for is on stdout."""
    with unread() as pipe:
        code, lines = unheard(pipe, "tail", "--price", "m", "--limit", "3", *options, env=access(market))
    assert (code, len(lines)) == (0, 3)


@posix
def test_record_that_nobody_hears(simulator: Simulator, tmp_path: Path) -> None:
    """It records over losses, which it cannot tell of, until Ctrl-C, and the code is that of Ctrl-C."""
    path = tmp_path / "day.jsonl"
    command = ("record", str(path), "--price", "m")
    with unread() as pipe, Running(*command, env=access(simulator), stderr=pipe) as record:
        record_to_the_end(record.process, simulator)
    assert prices(path) == [1.5, 2.5]


@posix
def test_simulate_that_nobody_hears() -> None:
    """It serves, though nobody is told who comes."""
    with unread() as pipe, Running("simulate", env=environment(), stderr=pipe) as simulate:
        with Client("test-key", url=simulate.line().strip()) as client:
            assert client.flush() > 0
        simulate.interrupt()
        assert simulate.process.wait(LONG) == 130


def test_replay_convert_and_demo_that_nobody_hears(day: Path, tmp_path: Path) -> None:
    """What they are asked for is complete; a damaged message is no reason to stop either."""
    table = tmp_path / "day.csv"
    with unread() as pipe:
        code, lines = unheard(pipe, "replay", str(day), "--speed", "0", env=environment())
        assert (code, [json.loads(line)["price"] for line in lines]) == (0, [1.5, 2.5])
        assert unheard(pipe, "convert", str(day), str(table), env=environment()) == (0, [])
        code, lines = unheard(pipe, "demo", "--json", "--seconds", "0.5", env=environment())
        assert (code, json.loads(lines[-1])) == (0, {"event_type": "Closed", "error": None})
    assert len(table.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("tail",), 2),
        (("tail", "--price", "m", "--url", "ws://example.com"), 2),
        (("convert", "DAY", "DAY"), 2),
        (("simulate", "--tls", "--ca-file", "DAY/none"), 1),
        (("tail", "--price", "m"), 3),
        (("record", "DAY.2", "--price", "m"), 3),
    ],
)
def test_a_failure_that_nobody_hears(arguments: tuple[str, ...], code: int, day: Path, simulator: Simulator) -> None:
    """The exit code tells of it still."""
    words = [word.replace("DAY", str(day)) for word in arguments]
    with unread() as pipe:
        assert unheard(pipe, *words, env=access(simulator, "sk-wrong")) == (code, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_talk_on_a_full_disk(day: Path) -> None:
    """It is lost likewise, and not made up for by an exit code of the interpreter's own."""
    with Path("/dev/full").open("w") as full:
        code, lines = unheard(full.fileno(), "replay", str(day), "--speed", "0", env=environment())
    assert (code, len(lines)) == (0, 2)


@posix
def test_a_stderr_that_was_closed_before(day: Path, tmp_path: Path) -> None:
    """Nothing that is opened later, a file for one, takes its place and gets the talk."""
    table = tmp_path / "day.csv"
    for arguments in (("replay", str(day), "--speed", "0"), ("convert", str(day), str(table))):
        command = shell("2>&-", *arguments)
        done = subprocess.run(command, capture_output=True, env=environment(), timeout=LONG, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    assert len(table.read_text(encoding="utf-8").splitlines()) == 3


def test_stderr_is_given_back(day: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A program that calls `main` has its own again."""
    before = sys.stderr
    assert main(["replay", str(day), "--speed", "0"]) == 0
    assert sys.stderr is before
    assert "2 events" in capfd.readouterr().err


# -- stdout


@posix
@pytest.mark.parametrize("option", ["--json", "--text"])
def test_tail_without_a_stdout(option: str, simulator: Simulator) -> None:
    """It ends at once, before it connects, like a pipe that is closed."""
    command = shell(">&-", "tail", "--price", "m", option)
    done = subprocess.run(command, capture_output=True, env=access(simulator), timeout=LONG, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert simulator.history == ()


@posix
def test_replay_and_demo_without_a_stdout(day: Path) -> None:
    """Nor do they play for nobody."""
    for arguments in (("replay", str(day)), ("demo",)):
        command = shell(">&-", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=LONG, check=False)
        assert done.returncode == 0
        assert all("a simulated server" in line for line in done.stderr.splitlines())


@posix
def test_record_without_a_stdout(simulator: Simulator, tmp_path: Path) -> None:
    """Its data go to the file."""
    path = tmp_path / "day.jsonl"
    command = shell(">&-", "record", str(path), "--price", "m")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=access(simulator)) as process:
        try:
            record_to_the_end(process, simulator)
        finally:
            process.kill()
    assert prices(path) == [1.5, 2.5]


@posix
def test_doctor_without_a_stdout(simulator: Simulator) -> None:
    """The exit code is all that is left of its report, and true."""
    for key, code in (("test-key", 0), ("sk-wrong", 3)):
        command = shell(">&-", "doctor")
        done = subprocess.run(command, capture_output=True, env=access(simulator, key), timeout=LONG, check=False)
        assert (done.returncode, done.stderr) == (code, b"")


# -- stdin


@posix
def test_a_closed_stdin_holds_no_key() -> None:
    """It is 2, like a file that is missing."""
    command = shell("<&-", "doctor", "--api-key-file", "-")
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=LONG, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1] == "allenhark-ws: Invalid value for '--api-key-file': stdin is closed"
