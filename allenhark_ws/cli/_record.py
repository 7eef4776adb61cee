"""``allenhark-ws record``: what is received, frame by frame, in a file.

Neighbours: `_live` runs the client, whose recorder writes the file.  It must never leave an empty file in the way of
the next try.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

from allenhark_ws import Channel, Client

from ._live import Live, Notices
from ._output import counted, talk, tell
from ._progress import progress

if TYPE_CHECKING:
    from allenhark_ws.recording import Recorder

__all__ = ["run_record"]

_LOOK_AGAIN: Final = 0.5
"""Seconds between looks at the recorder."""


def run_record(  # noqa: PLR0913 - an argument for each option
    client: Client,
    channels: tuple[Channel, ...],
    path: str,
    *,
    append: bool,
    max_bytes: int | None,
    interval: float | None,
    seconds: float | None,
    patience: float,
    quiet: bool,
) -> int:
    """Record until the time is over, or a signal ends it.

    Args:
        client: not started.
        channels: what to subscribe to.
        path: the file.
        append: go on with a file that is there.
        max_bytes: begin another file at this size.
        interval: begin another file after so many seconds.
        seconds: end after so long.
        patience: seconds for the first connection.
        quiet: say nothing on stderr.

    Returns:
        The exit code: 1 when frames are missing, since the disk was too slow.

    Raises:
        click.UsageError: there is such a file.
        OSError: the file cannot be written.
    """
    console = talk(quiet=quiet)
    try:
        recorder = client.record(path, append=append, max_bytes=max_bytes, interval=interval)
    except FileExistsError:
        recorder = None
    if recorder is None:
        raise click.UsageError(f"{path} is there already: choose another file, or go on with this one by --append")
    client.subscribe(*channels)
    live = Live(client, (), Notices(console, lifecycle=True), seconds=seconds, patience=patience)
    try:
        with recorder, live:
            _watch(live, recorder, path, console)
    finally:
        if append or live.connected or (recorder.frames and client.error is None):
            tell(console, _summary(recorder, path), style="dim")
        else:  # nothing is in it but a rejection, if that, and it would be in the way of the next try
            Path(path).unlink(missing_ok=True)
    return 1 if recorder.lost else 0


def _watch(live: Live, recorder: Recorder, path: str, console: Console) -> None:
    """Show how much there is, until the end, or until nothing can be written any more."""
    with progress(
        console, SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    ) as line:
        task = line.add_task("connecting")
        for _ in live.batches(every=_LOOK_AGAIN):
            line.update(task, description=_summary(recorder, path))
            if recorder.error is not None:
                return


def _summary(recorder: Recorder, path: str) -> str:
    """How much there is, and where; of a rotation, where the end is."""
    where = f" in {path}" if recorder.path == path else f", the last in {recorder.path}"
    lost = f", {recorder.lost} lost" if recorder.lost else ""
    return f"{counted(recorder.frames, 'frame')}{where}{lost}"
