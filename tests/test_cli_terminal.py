"""The command line in a real terminal: what a person sees, with colours, and Ctrl-C from the keyboard."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

for needed in ("click", "rich", "websockets", "trustme", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra cli")

from allenhark_ws import Price

from .commands import access, environment
from .patience import LONG
from .scripted import price
from .simulators import Simulator
from .terminal import Terminal, needs_tmux

pytestmark = needs_tmux


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="t") as directory:
        yield Path(directory)


def test_tail_shows_lines_for_a_person(short: Path) -> None:
    """Text without being asked, the price's direction, talk in between; Ctrl-C ends it with 130."""
    with Simulator() as server, Terminal(short, access(server), "tail", "--price", "m") as terminal:
        server.wait_for(lambda: Price("m") in server.subscriptions, LONG)
        for value in (1.5, 2.5, 0.5):
            server.publish(price("m", value))
        screen = terminal.wait_for(r"PriceUpdate +m +▼ 0\.5 ")
        assert "connected, round trip " in screen
        assert "▲ 2.5 " in screen
        assert "{" not in screen
        assert "\x1b[32m" in terminal.screen(colours=True) or "\x1b[1;32m" in terminal.screen(colours=True)
        terminal.press("C-c")
        screen = terminal.wait_for(r"\[exit \d+\]")
    assert screen.rstrip().splitlines()[-2:] == ["allenhark-ws: 3 events", "[exit 130]"]
    assert "Traceback" not in screen


@pytest.mark.parametrize(
    ("command", "sign"),
    [
        (("tail", "--price", "m", "--quiet"), "PriceUpdate"),
        (("simulate",), "Ctrl-C ends it"),
        (("doctor",), "upgrade"),
    ],
)
def test_ctrl_c_leaves_a_line_to_the_prompt(short: Path, command: tuple[str, ...], sign: str) -> None:
    """It begins where the terminal has shown ^C, not behind it, whatever was said at the end."""
    with Simulator(feed=True) as server:
        server.mute_pongs(command == ("doctor",))
        with Terminal(short, access(server), *command) as terminal:
            terminal.wait_for(sign)
            terminal.press("C-c")
            screen = terminal.wait_for(r"\[exit \d+\]")
    assert "[exit 130]" in screen.splitlines()


def test_lines_fit_into_80_columns(short: Path) -> None:
    """Those of the demo, each with its time."""
    with Terminal(short, environment(), "demo", "--seconds", "3") as terminal:
        terminal.wait_for(r"\[exit 0\]")
        lines = terminal.screen().splitlines()
    shown = [line for line in lines if re.search(r"(Update|Confirmed|Connected|Closed) ", line) and "│" not in line]
    assert len(shown) > 3
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3}Z ", line) and len(line.rstrip()) <= 80 for line in shown)


def test_no_color(short: Path) -> None:
    """NO_COLOR leaves the text without colours, on a terminal too."""
    with Simulator(feed=True) as server:
        env = access(server) | {"NO_COLOR": "1"}
        with Terminal(short, env, "tail", "--price", "m", "--limit", "2") as terminal:
            terminal.wait_for(r"\[exit 0\]")
            screen = terminal.screen(colours=True)
    assert "PriceUpdate" in screen
    for colour in range(31, 38):
        assert f"\x1b[{colour}m" not in screen


def test_ctrl_c_before_anything_came(short: Path) -> None:
    """In a quiet market, and pressed twice."""
    with Simulator() as server, Terminal(short, access(server), "tail", "--price", "m") as terminal:
        terminal.wait_for("connected, round trip ")
        terminal.press("C-c", "C-c")
        screen = terminal.wait_for(r"\[exit \d+\]")
    assert "[exit 130]" in screen
    assert "Traceback" not in screen


def test_doctor_shows_each_step_and_the_verdict(short: Path) -> None:
    """In order, one line each; what was not reached is there too."""
    with Simulator() as server, Terminal(short, access(server), "doctor") as terminal:
        screen = terminal.wait_for(r"\[exit \d+\]")
    assert "[exit 0]" in screen
    lines = [line.split() for line in screen.splitlines()]
    steps = [words[1] for words in lines if words and words[0] in {"ok", "skipped"}]
    assert steps == ["proxy", "dns", "tcp", "tls", "upgrade", "auth", "pong", "clock"]
    assert "all is well" in screen


def test_demo_and_ctrl_c(short: Path) -> None:
    """Events, then the summary."""
    with Terminal(short, environment(), "demo") as terminal:
        terminal.wait_for("PriceUpdate")
        terminal.press("C-c")
        screen = terminal.wait_for(r"\[exit \d+\]")
    assert "[exit 130]" in screen
    assert " events in " in screen
