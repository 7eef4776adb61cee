"""What a command writes: data on stdout, whole lines that a pipe may take its time for, and talk on stderr.

Neighbours: `_render` makes the lines, `_exit` ends the command when nobody reads them any more, `_streams` drops the
talk that nobody reads.  It must never mix the two.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final, TextIO

from rich.console import Console
from rich.text import Text

__all__ = ["Pipe", "counted", "is_writable", "on_terminal", "over_the_echo", "paper", "say", "summary", "talk", "tell"]

_CHUNK: Final = 4_096
"""Characters handed over at a time: what a pipe that has room takes as a whole, so that a signal cuts no line."""

_PATIENCE: Final = 1.0
"""Seconds that nobody reads before the user is told."""


class _Console(Console):
    """Rich's, which in newer versions ends the process with 1 when a pipe is closed; of stdout that is a normal end."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, "nobody reads it any more")


def on_terminal() -> bool:
    """Whether a person looks at stdout."""
    return sys.stdout.isatty()


def paper() -> Console:
    """Stdout for a person: colours on a terminal, or with FORCE_COLOR, and not with NO_COLOR."""
    return _Console(highlight=False, soft_wrap=True)


def talk(*, quiet: bool = False) -> Console:
    """Stderr; quiet: nothing is said on it."""
    return _Console(stderr=True, highlight=False, soft_wrap=True, quiet=quiet)


def tell(console: Console, text: str, *, style: str = "") -> None:
    """One line of talk, which names the program, since others may talk there too; the text is shown as it is."""
    console.print(Text(f"allenhark-ws: {text}", style=style))


def say(text: str, *, style: str = "") -> None:
    """One line on stderr, even when nothing else is to be said there."""
    tell(talk(), text, style=style)


def over_the_echo() -> None:
    """After Ctrl-C, back to the beginning of the line on which the terminal shows ``^C``, for what is said next."""
    if sys.stderr.isatty():
        sys.stderr.write("\r")
        sys.stderr.flush()


@contextlib.contextmanager
def summary(console: Console, text: Callable[[], str]) -> Generator[None]:
    """Tell what came of it when it is over, by a signal too; not of what failed, which is told by itself.

    Args:
        console: stderr.
        text: called at the end; an empty text: there is nothing to tell.
    """
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        over_the_echo()
        _conclude(console, text())
        raise
    _conclude(console, text())


def _conclude(console: Console, text: str) -> None:
    if text:
        tell(console, text, style="dim")


def counted(number: int, one: str, many: str | None = None) -> str:
    """How many there are, in words: ``1 event``, ``2 events``."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def is_writable(stream: TextIO) -> bool:
    """Whether a write would not have to wait; also where that cannot be asked, as of a pipe on Windows."""
    try:
        return bool(select.select([], [stream.fileno()], [], 0.0)[1])
    except (OSError, ValueError):
        return True


class Pipe:
    """Stdout for a stream of lines, each flushed; a reader that does not read is waited for, and told of.

    Args:
        on_stuck: called when nobody has been reading for a second.
        on_flowing: called when somebody reads again.

    Attributes:
        written: how many lines were, so far.
    """

    def __init__(self, on_stuck: Callable[[], object], on_flowing: Callable[[], object]) -> None:
        self._on_stuck = on_stuck
        self._on_flowing = on_flowing
        self.written = 0
        self._watched = os.name == "posix"  # Windows can ask this about sockets alone

    def write(self, lines: Iterable[str]) -> None:
        """Write the lines, however long that takes.

        Raises:
            BrokenPipeError: the reader is gone.
            OSError: it cannot be written, on a full disk for one.
        """
        for chunk in _chunks(lines):
            self._await_room()
            self.written += chunk.count("\n")  # before: whoever reads it may end this program at once
            sys.stdout.write(chunk)
            sys.stdout.flush()

    def _await_room(self) -> None:
        if not self._watched or self._has_room(_PATIENCE):
            return
        self._on_stuck()
        while not self._has_room(None):
            pass
        self._on_flowing()

    def _has_room(self, timeout: float | None) -> bool:
        try:
            return bool(select.select([], [sys.stdout.fileno()], [], timeout)[1])
        except (OSError, ValueError):  # no file of the system's, or one beyond what select can ask about
            self._watched = False
            return True


def _chunks(lines: Iterable[str]) -> Iterator[str]:
    """The lines joined, few at a time."""
    chunk: list[str] = []
    size = 0
    for line in lines:
        if chunk and size + len(line) + 1 > _CHUNK:
            yield "".join(chunk)
            chunk, size = [], 0
        chunk.append(f"{line}\n")
        size += len(line) + 1
    if chunk:
        yield "".join(chunk)
