"""The process's stdout and stderr, made fit for a command: none is missing, and talk that cannot be written is dropped.

Stdout has the data: when it breaks, the command ends (`_exit`).  Stderr has the talk, and no recording ends for want of
a listener: what cannot be said is lost, and the command goes on to its own end, with its own exit code.

Neighbours: `allenhark_ws.cli` runs every command between these; `_output` and `_progress` write.  It must never fail,
and it needs no extra.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Generator, Iterable
from typing import Any, TextIO, cast

__all__ = ["Nowhere", "mute", "talk_may_be_lost"]


class Nowhere(io.TextIOWrapper):
    """Takes the place of a stream that was closed before the program began (``>&-``), its descriptor too as a rule."""

    def __init__(self) -> None:
        # Open as long as the process is, hence not to be closed, nor missed, by anybody.
        super().__init__(io.FileIO(os.open(os.devnull, os.O_WRONLY), "w", closefd=False), encoding="utf-8")


class _Talk:
    """Stderr, except that writing to it never fails."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def writelines(self, lines: Iterable[str]) -> None:
        """Say them, if that can be done."""
        for line in lines:
            self.write(line)

    def write(self, text: str) -> int:
        """Say it, if that can be done."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Likewise."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # of a copy, which has none yet
            raise AttributeError(name)
        return getattr(self._stream, name)


@contextlib.contextmanager
def talk_may_be_lost() -> Generator[None]:
    """Inside, stdout and stderr are there, whatever was closed before, and to write to stderr is never an error.

    Stdout knows every character, whatever the locale.
    """
    sys.stdout = _there(sys.stdout)
    stdout: object = sys.stdout
    if isinstance(stdout, io.TextIOWrapper):
        stdout.reconfigure(errors="backslashreplace")
    sys.stderr = stderr = _there(sys.stderr)
    try:
        with contextlib.redirect_stderr(cast("TextIO", _Talk(stderr))):
            yield
    finally:
        try:
            stderr.flush()
        except (OSError, ValueError):  # what is left of it would make the interpreter's own exit code at its end
            mute(stderr)


def _there(stream: TextIO | None) -> TextIO:
    return Nowhere() if stream is None or stream.closed else stream


def mute(stream: TextIO) -> None:
    """Nobody reads it: keep the interpreter from complaining, or waiting, when it flushes at exit."""
    with contextlib.suppress(OSError, ValueError):  # no file of the system's
        descriptor = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
