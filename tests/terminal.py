"""A terminal that a test types into and reads the screen of: tmux, with a server of its own for each test."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from .commands import COMMAND
from .patience import LONG

if TYPE_CHECKING:
    from typing_extensions import Self

_LOOK_AGAIN: Final = 0.05
"""Seconds between looks at the screen: tmux does not tell when it changes."""

_TMUX = shutil.which("tmux")
needs_tmux = pytest.mark.skipif(_TMUX is None, reason="needs tmux: apt-get install tmux")


class Terminal:
    """A shell in a terminal of 110 columns and 40 lines that runs the command, then shows its exit code.

    Args:
        directory: where the socket of the tmux server goes; its path must be short.
        env: the environment of the command.
        arguments: of the command.
        redirect: where its stdout goes instead of the terminal.
    """

    def __init__(self, directory: Path, env: dict[str, str], *arguments: str, redirect: Path | None = None) -> None:
        self._socket = str(directory / "tmux")
        away = "" if redirect is None else f" > {shlex.quote(str(redirect))}"
        # The trap: Ctrl-C goes to the shell, too, which is to live on and tell the exit code.
        script = f'trap : INT; {shlex.join([*COMMAND, *arguments])}{away}; echo "[exit $?]"; exec cat'
        self._tmux("new-session", "-d", "-x110", "-y40", f"/bin/sh -c {shlex.quote(script)}", env=env)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._tmux("kill-server")

    def _tmux(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        command = [str(_TMUX), "-f/dev/null", "-S", self._socket, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=True, env=env).stdout

    def screen(self, *, colours: bool = False) -> str:
        """What is on the screen, with escape sequences if asked for."""
        return self._tmux("capture-pane", "-p", "-J", *(["-e"] if colours else []))

    def press(self, *keys: str) -> None:
        """Press keys, by the names that tmux has for them."""
        self._tmux("send-keys", *keys)

    def wait_for(self, pattern: str) -> str:
        """Wait until the screen holds the pattern; the screen."""
        deadline, waiting = time.monotonic() + LONG, threading.Event()
        while not re.search(pattern, screen := self.screen()):
            assert time.monotonic() < deadline, f"{pattern!r} does not come:\n{screen}"
            waiting.wait(_LOOK_AGAIN)
        return screen
