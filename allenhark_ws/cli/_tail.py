"""``allenhark-ws tail``: events on stdout as they come, and on stderr what happens to the connection.

The stream blocks when it is full: a slow reader holds the server back instead of losing events.  Neighbours: `_live`
runs the client, `_render` makes the lines, `_output` writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from rich.console import Console

from allenhark_ws import Channel, Client, Event, Stats

from ._live import Live, Notices
from ._output import Pipe, on_terminal, paper, talk
from ._render import Trend, as_text
from ._render import as_json as to_json

__all__ = ["run_tail"]


def run_tail(  # noqa: PLR0913 - an argument for each option
    client: Client,
    channels: tuple[Channel, ...],
    *,
    as_json: bool | None,
    limit: int | None,
    seconds: float | None,
    patience: float,
    lifecycle: bool,
    quiet: bool,
) -> int:
    """Print what the channels tell.

    Args:
        client: not started.
        channels: what to subscribe to.
        as_json: JSON or text; None: as stdout is a terminal or not.
        limit: end after so many events.
        seconds: end after so long.
        patience: seconds for the first connection.
        lifecycle: whether to tell of connections, losses and gaps.
        quiet: say nothing on stderr.

    Returns:
        The exit code.
    """
    console = talk(quiet=quiet)
    for_programs = not on_terminal() if as_json is None else as_json
    printer = _Printer(to_json if for_programs else _ForPeople(), console)
    shown = 0
    live = Live(client, channels, Notices(console, lifecycle=lifecycle), seconds=seconds, patience=patience)
    with live:
        for batch in live.batches():
            events = batch if limit is None else batch[: limit - shown]
            printer.show(events)
            shown += len(events)
            if shown == limit:
                break
        stats = client.stats
    if lifecycle:
        console.print(_summary(shown, stats), style="dim")
    return 0


class _Printer:
    """Writes a line for each event.

    Args:
        line: makes it.
        console: told when nobody reads.
    """

    def __init__(self, line: Callable[[Event], str], console: Console) -> None:
        self._line = line
        self._console = console
        self._pipe = Pipe(self._stuck, self._flowing)

    def show(self, events: Iterable[Event]) -> None:
        """Write the lines, however long it takes."""
        self._pipe.write(map(self._line, events))

    def _stuck(self) -> None:
        self._console.print(_STUCK, style="yellow")

    def _flowing(self) -> None:
        self._console.print("stdout is being read again", style="green")


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


_STUCK: Final = "nobody reads stdout: waiting; nothing is dropped, what comes later is late"


def _summary(shown: int, stats: Stats) -> str:
    events = "1 event" if shown == 1 else f"{shown} events"
    times = "once" if stats.reconnects == 1 else f"{stats.reconnects} times"
    return events + (f", reconnected {times}" if stats.reconnects else "")
