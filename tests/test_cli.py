"""The command line as a person or a script uses it: real processes, real pipes, real signals."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

for needed in ("click", "rich", "websockets", "trustme"):
    pytest.importorskip(needed, reason="needs the extra cli")

import allenhark_ws
from allenhark_ws.cli import main

from .commands import Running, environment, run
from .patience import LONG


def test_seconds_end_the_demo() -> None:
    """By itself, with 0; a connection's life and a summary are shown, and nothing but talk is on stderr."""
    done = run("demo", "--seconds", "0.5", env=environment())
    assert done.returncode == 0
    assert "Closed" in done.stdout
    assert " events in " in done.stdout
    assert "wss://localhost:" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def until(running: Running, *words: str) -> list[str]:
    """What it prints until each of the words was in a line."""
    lines: list[str] = []
    while not all(any(word in line for line in lines) for word in words):
        lines.append(running.line())
    return lines


def test_demo_json_is_one_object_per_line() -> None:
    """Every line on stdout is JSON, and the summary goes to stderr."""
    with Running("demo", "--json", env=environment()) as demo:
        lines = until(demo, "PriceUpdate")
        demo.interrupt()
        code, printed, talk = demo.end()
    assert code == 130
    events = [json.loads(line) for line in [*lines, *printed.splitlines()]]
    assert events[0]["event_type"] == "Connected"
    prices = [event for event in events if event["event_type"] == "PriceUpdate"]
    assert {"mint", "price", "volume", "timestamp", "received_at"} <= prices[0].keys()
    assert isinstance(prices[0]["price"], float)
    assert " events in " in talk


def test_demo_json_ends_with_closed() -> None:
    """Ended by its time, all of it is told, the end too, and the summary counts the same events."""
    done = run("demo", "--json", "--seconds", "0.5", env=environment())
    assert done.returncode == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[-1] == {"event_type": "Closed", "error": None}
    assert f"{len(events)} events in " in done.stderr


def test_demo_is_reproducible() -> None:
    """The same seed gives the same first price of a token, another seed another one."""

    def first_price(seed: str) -> float:
        with Running("demo", "--json", "--seed", seed, env=environment()) as demo:
            line = until(demo, '"So11')[-1]
        return float(json.loads(line)["price"])

    assert first_price("7") == first_price("7") != first_price("8")


def test_a_closed_pipe_is_no_failure() -> None:
    """`demo --json | head` ends with code 0 and without a traceback."""
    with Running("demo", "--json", env=environment()) as demo:
        demo.line()
        assert demo.process.stdout is not None
        demo.process.stdout.close()
        assert demo.end()[0] == 0


def test_ctrl_c_ends_with_the_summary_and_130() -> None:
    """Without --seconds the demo shows prices, trades and confirmations until Ctrl-C, then still sums up."""
    with Running("demo", env=environment()) as demo:
        until(demo, "Connected", "PriceUpdate", "BotUpdate", "TransactionConfirmed")
        demo.interrupt()
        code, printed, _ = demo.end()
    assert code == 130
    assert " events in " in printed


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
