"""Programs that use the package in a process of their own, for tests of signals, forks and exits."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

import allenhark_ws

from .patience import PATIENCE

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(allenhark_ws.__file__).parents[1]
PROLOGUE = """
import gc, os, sys, threading, time
from allenhark_ws import *
url = sys.argv[1]
def say(*words):
    print(*words, flush=True)
never = threading.Event()
"""
_TORN_IMPORT = re.compile(
    r"^Exception ignored in: <_io\.FileIO name=(?P<module>(['\"]).+\.pyc?\2) mode='rb' closefd=True>\n"
    r"Traceback \(most recent call last\):\n"
    r"(?:  .*\n)*"
    r"ResourceWarning: unclosed file <_io\.BufferedReader name=(?P=module)>\n",
    re.MULTILINE,
)
posix = pytest.mark.skipif(os.name != "posix", reason="signals, pipes, descriptors and forks as POSIX has them")


def without_torn_imports(talk: str) -> str:
    """What a process said on stderr, without the one complaint of CPython's that is nobody's fault.

    A signal that raises between importlib's opening of a module's file and the ``with`` that would close it leaves the
    file to the reference count, and the interpreter says so itself where, as here, a ResourceWarning is an error.
    Nobody but importlib could close it, and users, who have these warnings switched off, never see it.
    """
    return _TORN_IMPORT.sub("", talk)


class Script:
    """A program run in a process of its own; ended for sure on leaving the ``with``."""

    def __init__(self, url: str, text: str, **environment: str) -> None:
        command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c"]
        self._ended = False
        self.process = subprocess.Popen(
            [*command, PROLOGUE + textwrap.dedent(text), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
                **environment,
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._ended:
            with contextlib.suppress(ProcessLookupError):
                self._kill()
            self.process.communicate()

    def _kill(self) -> None:
        """End it with its children, which would keep its pipes open."""
        if os.name == "posix":
            os.killpg(self.process.pid, signal.SIGKILL)
        else:
            self.process.kill()

    def line(self) -> str:
        """The next line it says."""
        stdout: IO[str] | None = self.process.stdout
        assert stdout is not None
        said = b""
        while not said.endswith(b"\n"):  # bytewise: what is read ahead would be hidden from `select` and `end`
            assert select.select([stdout], [], [], PATIENCE)[0], "the script says nothing"
            byte = os.read(stdout.fileno(), 1)
            assert byte, self.process.communicate()[1]
            said += byte
        return said.decode().strip()

    def tell(self, line: str = "") -> None:
        """Let it go on from where it reads a line."""
        stdin: IO[str] | None = self.process.stdin
        assert stdin is not None
        stdin.write(f"{line}\n")
        stdin.flush()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def suspend(self) -> None:
        """Stop it as a shell's Ctrl-Z would; returns when it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        self.await_stop()

    def await_stop(self) -> None:
        """Wait until it stands still."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def resume(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def ends_within(self, seconds: float) -> bool:
        """Leave it the processor for so long; whether it has ended.

        A test that asks without waiting, again and again, can keep the processor from the very thread it waits for:
        seen for half a minute with a thread that was ready to run all the time (Linux 6.18, two busy processors).
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        return self.process.returncode is not None

    def end(self, within: float = PATIENCE) -> tuple[int, str, str]:
        """Wait for the end; exit code and what was said."""
        out, err = self.process.communicate(timeout=within)
        self._ended = True
        return self.process.returncode, out.strip(), without_torn_imports(err).strip()
