"""The command line as a person or a script uses it: real processes, real pipes, real signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import pytest

for needed in ("click", "rich", "websockets", "trustme"):
    pytest.importorskip(needed, reason="needs the extra cli")

import allenhark_ws
from allenhark_ws.cli import main

from .patience import LONG
from .processes import without_torn_imports

COMMAND = (sys.executable, "-W", "error", "-m", "allenhark_ws")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=LONG, check=False)


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command with its output in pipes."""
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_demo_shows_typed_events_and_a_summary() -> None:
    """Prices, trades and confirmations come as typed events; the summary counts them; nothing but talk is on stderr."""
    done = run("demo", "--seconds", "2")
    assert done.returncode == 0
    for name in ("Connected", "PriceUpdate", "BotUpdate", "TransactionConfirmed", "Closed"):
        assert name in done.stdout
    assert " events in " in done.stdout
    assert "wss://localhost:" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_demo_json_is_one_object_per_line() -> None:
    """Every line on stdout is JSON; the summary went to stderr and counts the same events."""
    done = run("demo", "--seconds", "2", "--json")
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event_type"] == "Connected"
    assert events[-1] == {"event_type": "Closed", "error": None}
    prices = [event for event in events if event["event_type"] == "PriceUpdate"]
    assert {"mint", "price", "volume", "timestamp", "received_at"} <= prices[0].keys()
    assert isinstance(prices[0]["price"], float)
    assert f"{len(events)} events in " in done.stderr


def test_demo_is_reproducible() -> None:
    """The same seed gives the same first price of a token, another seed another one."""

    def first_price(seed: str) -> float:
        events = map(json.loads, run("demo", "--seconds", "1", "--json", "--seed", seed).stdout.splitlines())
        return next(
            float(e["price"]) for e in events if e["event_type"] == "PriceUpdate" and e["mint"].startswith("So11")
        )

    assert first_price("7") == first_price("7") != first_price("8")


def test_a_closed_pipe_is_no_failure() -> None:
    """`demo --json | head` ends with code 0 and without a traceback."""
    with start("demo", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        talk = process.stderr.read()
        assert process.wait(timeout=LONG) == 0
    assert "Traceback" not in talk


def test_ctrl_c_ends_with_the_summary_and_130() -> None:
    """Without --seconds the demo runs until Ctrl-C, then still sums up."""
    with start("demo") as process:
        assert process.stdout is not None
        while "PriceUpdate" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        printed, talk = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert " events in " in printed
    assert "Traceback" not in without_torn_imports(talk)


@pytest.mark.parametrize("arguments", [("demo", "--seconds", "0"), ("demo", "--seconds", "x"), ("nonsense",)])
def test_wrong_usage_is_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors are told on stderr and end with 2."""
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "Usage:" in told.err
    assert "\nallenhark-ws: " in told.err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """Help is complete and ends well."""
    assert main(["demo", "--help"]) == 0
    assert "allenhark-ws demo --seconds 10" in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["click", "rich", "none of them"])
def test_the_version_needs_no_extra(missing: str) -> None:
    """It is told in the same words with and without."""
    script = (
        f"import sys; sys.modules[{missing!r}] = None; from allenhark_ws.cli import main; sys.exit(main(['--version']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"allenhark-ws, version {allenhark_ws.__version__}\n"


@pytest.mark.parametrize("missing", ["click", "rich", "websockets", "trustme"])
def test_a_missing_extra_is_one_clear_line(missing: str) -> None:
    """Without a package of the extra the command says what to install, in one line, with code 1."""
    script = f"import sys; sys.modules[{missing!r}] = None; from allenhark_ws.cli import main; sys.exit(main(['demo']))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "pip install" in done.stderr
