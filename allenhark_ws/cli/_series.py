"""The files of a recording that was cut into several, from the first one's name.

Neighbours: `_replay` and `_convert` read what this finds.  It must never read a recording itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from rich.console import Console

from allenhark_ws import recording

from ._output import counted, tell

__all__ = ["files_of"]


def files_of(paths: Iterable[str], console: Console, *, series: bool) -> list[str]:
    """The recordings to read, in order, each once.

    Args:
        paths: those that were named.
        console: stderr, told of files that belong to these and are left out.
        series: add those.

    Raises:
        OSError: a directory cannot be read.
    """
    named = list(paths)
    if series:
        return list(dict.fromkeys(file for path in named for file in recording.series(path)))
    for path in dict.fromkeys(named):
        with contextlib.suppress(OSError):  # to read the file is all that was asked for
            left_out = [file for file in recording.series(path) if file not in named]
            if left_out:
                more = f" and {counted(len(left_out) - 1, 'more file')}" if len(left_out) > 1 else ""
                tell(console, f"{path} goes on in {left_out[0]}{more}: pass --series to read on there", style="yellow")
    return named
