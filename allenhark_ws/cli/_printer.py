"""Events on stdout, a line each: for a person, or as JSON for a program, as stdout is a terminal or not.

Neighbours: `_render` makes the lines, `_output` writes them; `_tail`, `_replay` and `_demo` have events.  It must never
print half a line.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable
from typing import Final

from rich.console import Console

from allenhark_ws import Event

from ._output import Pipe, on_terminal, paper, tell
from ._render import Trend, as_text
from ._render import as_json as to_json
from ._streams import Nowhere

__all__ = ["Printer"]

_STUCK: Final = "nobody reads stdout: waiting; nothing is dropped, what comes later is late"


class Printer:
    """Writes a line for each event.

    A stdout that was closed before the command began (``>&-``) is a pipe that nobody reads, and known at once: the
    command ends as with any closed pipe, with 0, and connects to nothing.  It is no wrong usage: nothing about the
    arguments is wrong, and with ``| true`` in its place, where nobody reads either, the code is 0, too.

    Args:
        console: stderr, told when nobody reads.
        as_json: JSON or text; None: text on a terminal, else JSON.

    Raises:
        BrokenPipeError: stdout was closed before.
    """

    def __init__(self, console: Console, *, as_json: bool | None) -> None:
        if isinstance(sys.stdout, Nowhere):
            raise BrokenPipeError(errno.EPIPE, "stdout was closed before")
        for_programs = not on_terminal() if as_json is None else as_json
        self._line: Callable[[Event], str] = to_json if for_programs else _ForPeople()
        self._console = console
        self._pipe = Pipe(self._stuck, self._flowing)

    @property
    def shown(self) -> int:
        """How many events were written."""
        return self._pipe.written

    def show(self, events: Iterable[Event]) -> None:
        """Write the lines, however long it takes."""
        self._pipe.write(map(self._line, events))

    def _stuck(self) -> None:
        tell(self._console, _STUCK, style="yellow")

    def _flowing(self) -> None:
        tell(self._console, "stdout is being read again", style="green")


class _ForPeople:
    """Makes lines as a terminal shows them."""

    def __init__(self) -> None:
        self._paper = paper()
        self._trend = Trend()

    def __call__(self, event: Event) -> str:
        """One line."""
        with self._paper.capture() as captured:
            self._paper.print(as_text(event, self._trend.of(event)), end="")
        return captured.get()
