"""A line on stderr that changes: how far a command has got.  On a terminal only; what is printed besides goes above it.

Neighbours: `_record`, `_replay` and `_convert` show one.  It must never touch stdout, which may be a pipe.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import Progress, ProgressColumn

__all__ = ["progress"]


class _Line(Progress):
    """Rich's, which even where it shows nothing ends with an empty line (13.0 does)."""

    def stop(self) -> None:
        """End the display, if there is one."""
        if not self.disable:
            super().stop()


def progress(console: Console, *columns: str | ProgressColumn, shown: bool = True) -> Progress:
    """A display that goes away at its end, and shows nothing when stderr is no terminal or nothing is to be said.

    It leaves stdout alone, which may well be a pipe.

    Args:
        console: stderr.
        columns: what it is made of.
        shown: whether to show it at all.
    """
    return _Line(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not shown or console.quiet or not sys.stderr.isatty(),
    )
