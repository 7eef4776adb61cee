"""``allenhark-ws tail``: events on stdout as they come, and on stderr what happens to the connection.

The stream blocks when it is full: a slow reader holds the server back and must never lose an event.  Neighbours:
`_live` runs the client, `_printer` writes the lines.
"""

from __future__ import annotations

from allenhark_ws import Channel, Client, Stats

from ._live import Live, Notices
from ._output import counted, summary, talk
from ._printer import Printer

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
    printer = Printer(console, as_json=as_json)
    live = Live(client, channels, Notices(console, lifecycle=lifecycle), seconds=seconds, patience=patience)
    with summary(console, lambda: _summary(printer.shown, client.stats) if lifecycle and live.connected else ""), live:
        for batch in live.batches():
            printer.show(batch if limit is None else batch[: limit - printer.shown])
            if printer.shown == limit:
                break
    return 0


def _summary(shown: int, stats: Stats) -> str:
    times = "once" if stats.reconnects == 1 else f"{stats.reconnects} times"
    return counted(shown, "event") + (f", reconnected {times}" if stats.reconnects else "")
