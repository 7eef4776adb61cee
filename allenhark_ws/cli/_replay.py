"""``allenhark-ws replay``: a recording on stdout, as ``tail`` shows what is live.

Neighbours: `_printer` writes the lines, `_progress` shows how far it is.  It must never drop an event.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.progress import BarColumn, TextColumn

from allenhark_ws import Client, DataEvent, InvalidMessage, ServerError, StreamClosed, recording, replay

from ._live import Notices
from ._output import counted, on_terminal, summary, talk, tell
from ._printer import Printer
from ._progress import progress
from ._series import files_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["run_replay"]

_BATCH: Final = 256
_INTERRUPTED: Final = 0.5
_READ_AHEAD: Final = 67_108_864
"""Bytes of recordings that are read once before, to know how far there is to go; of larger ones only the time shows."""


def run_replay(  # noqa: PLR0913 - an argument for each option
    paths: Sequence[str],
    *,
    speed: float,
    series: bool,
    as_json: bool | None,
    decimal: bool,
    limit: int | None,
    quiet: bool,
) -> int:
    """Print what was recorded.

    Args:
        paths: the files, in the order in which they belong.
        speed: 1 as it was recorded, 0 as fast as possible.
        series: play also the files that follow each of these.
        as_json: JSON or text; None: as stdout is a terminal or not.
        decimal: exact numbers.
        limit: end after so many events.
        quiet: say nothing on stderr.

    Returns:
        The exit code.

    Raises:
        RecordingError: a file is no recording, or is damaged; of a damaged one the rest was printed.
    """
    console = talk(quiet=quiet)
    paths = files_of(paths, console, series=series)
    printer = Printer(console, as_json=as_json)
    notices = Notices(console, lifecycle=False)
    client = replay(paths, speed, decimal=decimal)
    with summary(console, lambda: counted(printer.shown, "event")), _Way(paths, console) as way:
        for batch in _batches(client):
            events = [event for event in batch if isinstance(event, DataEvent)]
            for event in batch:
                notices.tell(event)
            printer.show(events if limit is None else events[: limit - printer.shown])
            way.show(batch[-1].received_at, printer.shown)
            if printer.shown == limit:
                break
        if not client.stats.messages_received:
            tell(console, "the recording holds no frames: nothing was received while it was made", style="yellow")
    return 0


def _batches(client: Client) -> Iterator[list[Any]]:
    """What the recording holds, as it comes; the client is closed when nobody asks for more."""
    stream = client.stream(DataEvent, ServerError, InvalidMessage, overflow="block")
    client.start()
    try:
        while True:
            yield stream.get_batch(_BATCH)
    except StreamClosed:
        return
    finally:
        client.close(_INTERRUPTED)


class _Way:
    """How far the replay has got, on stderr; not when the lines themselves go to the same terminal.

    Args:
        paths: the recordings.
        console: stderr.
    """

    def __init__(self, paths: Sequence[str], console: Console) -> None:
        columns = (BarColumn(), TextColumn("{task.description}", markup=False))
        self._progress = progress(console, *columns, shown=not on_terminal())
        self._begin: datetime | None = None
        self._paths = paths

    def __enter__(self) -> Self:
        total = None
        if not self._progress.disable and sum(Path(path).stat().st_size for path in self._paths) <= _READ_AHEAD:
            self._begin, total = _span(self._paths)
        self._progress.start()
        self._task = self._progress.add_task("", total=total)
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def show(self, at: datetime | None, shown: int) -> None:
        """An event of this time was the last one."""
        if at is None or self._progress.disable:
            return
        done = 0.0 if self._begin is None else (at - self._begin).total_seconds()
        told = f"{at:%Y-%m-%d %H:%M:%S} UTC, {counted(shown, 'event')}"
        self._progress.update(self._task, completed=done, description=told)


def _span(paths: Sequence[str]) -> tuple[datetime | None, float | None]:
    """When the recordings begin, and how many seconds they hold; None for what is not there."""
    first = last = None
    with recording.read(paths, on_damage=lambda _error: None) as entries:
        for last, _raw in entries:
            first = first or last
    return (None, None) if first is None or last is None else (first, (last - first).total_seconds())
