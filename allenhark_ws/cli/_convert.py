"""``allenhark-ws convert``: a recording as a table, CSV or Parquet.

Neighbours: `_progress` shows how far it is; `allenhark_ws.recording` does the work.  It must never replace a file
unless that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import click
from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn

from allenhark_ws import recording

from ._output import counted, say, talk, tell
from ._progress import progress
from ._series import files_of

__all__ = ["run_convert"]


def run_convert(sources: Sequence[str], target: str, *, overwrite: bool, series: bool, quiet: bool) -> int:
    """Write the table.

    Args:
        sources: the recordings, in the order in which they belong.
        target: the file to make.
        overwrite: replace it if it is there.
        series: read also the files that follow each of these.
        quiet: say nothing on stderr but errors.

    Returns:
        The exit code: 1 when lines of the recording were damaged.

    Raises:
        click.UsageError: the target is there already.
        RecordingError: a source is no recording.
        ConfigurationError: the target's name ends in nothing that is known.
    """
    console = talk(quiet=quiet)
    paths = files_of(sources, console, series=series)
    converted = None
    try:
        with progress(console, BarColumn(), DownloadColumn(), TimeRemainingColumn()) as line:
            task = line.add_task("")
            converted = recording.convert(
                paths,
                target,
                overwrite=overwrite,
                progress=lambda done, size: line.update(task, completed=done, total=size),
            )
    except FileExistsError:
        pass
    if converted is None:
        raise click.UsageError(f"{target} is there already: choose another file, or replace it by --overwrite")
    tell(console, counted(converted.rows, "row") + _left_out(converted.kinds), style="dim")
    if converted.error is None:
        return 0
    damaged = counted(converted.damaged, "line")
    say(f"{damaged} left out that cannot be read; {converted.error}", style="red")
    return 1


def _left_out(kinds: Mapping[str, int]) -> str:
    """What made no row, since it is no data; `ServerError` is "server error" to a person."""
    told = [counted(number, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower()) for kind, number in kinds.items()]
    return f"; left out, being no data: {', '.join(told)}" if told else ""
