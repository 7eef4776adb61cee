"""``allenhark-ws demo``: the whole library at work on one machine, without an account.

A simulated server with a live market, TLS included, and the real client connected to it.  Neighbours: `_printer` writes
the lines; `allenhark_ws.testing` brings the server.  It must never leave this machine.
"""

from __future__ import annotations

import queue
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Table

from allenhark_ws import (
    Bot,
    Client,
    DataEvent,
    Event,
    LifecycleEvent,
    Price,
    Stats,
    Stream,
    Transactions,
)
from allenhark_ws.testing import Simulator

from ._output import counted, is_writable, over_the_echo, paper, say, talk
from ._printer import Printer
from ._signals import INTERRUPTED

__all__ = ["run_demo"]

CHANNELS: Final = (
    Price("So11111111111111111111111111111111111111112"),
    Price("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
    Price("DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB1pPB263"),
    Bot("bot_demo"),
    Transactions("9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM"),
)
"""What the demo subscribes to: SOL, USDC and BONK by their mints, and a bot and a wallet of nobody's."""


def run_demo(*, seconds: float | None, as_json: bool, seed: int) -> int:
    """Run the demo.

    Args:
        seconds: how long; None: until Ctrl-C.
        as_json: one line of JSON per event on stdout, all else on stderr.
        seed: of the simulated market.

    Returns:
        The exit code.
    """
    with Simulator(tls=True, feed=True, seed=seed) as simulator:
        say(f"a simulated server with a live market is at {simulator.url}", style="dim")
        client = Client(simulator.api_key, url=simulator.url, ssl_context=simulator.ssl_context, proxy=False)
        return _watch(client, seconds, paper(), talk(), as_json=as_json)


def _watch(client: Client, seconds: float | None, out: Console, errors: Console, *, as_json: bool) -> int:
    began, seen, code = time.monotonic(), Counter[str](), 0
    printer = Printer(errors, as_json=as_json)
    with client.stream(*CHANNELS, DataEvent, LifecycleEvent, overflow="block") as stream, client:
        try:
            for event in _until(stream, None if seconds is None else began + seconds):
                seen[type(event).__name__] += 1
                printer.show([event])
        except KeyboardInterrupt:
            if not is_writable(sys.stdout):  # nobody reads any summary, either
                raise
            over_the_echo()
            code = INTERRUPTED
        stats = client.stats
    for event in stream if code == 0 else ():
        seen[type(event).__name__] += 1
        printer.show([event])
    (errors if as_json else out).print(_summary(seen, stats, time.monotonic() - began))
    return code


def _until(stream: Stream[Event], deadline: float | None) -> Iterator[Event]:
    """The events as they come, up to a monotonic time."""
    while deadline is None or time.monotonic() < deadline:
        try:
            yield stream.get(timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return


def _summary(seen: Counter[str], stats: Stats, seconds: float) -> Table:
    table = Table(
        title=f"{counted(sum(seen.values()), 'event')} in {seconds:.1f} s", title_justify="left", show_header=False
    )
    for name, count in sorted(seen.items()):
        table.add_row(name, str(count))
    rtt = "none" if stats.rtt_avg is None else f"{stats.rtt_avg * 1000:.2f} ms"
    table.add_row("messages received", str(stats.messages_received))
    table.add_row("bytes received", str(stats.bytes_received))
    table.add_row("messages sent", str(stats.messages_sent))
    table.add_row("round trip, mean", rtt)
    table.add_row("reconnects", str(stats.reconnects))
    table.add_row("events dropped", str(stats.dropped))
    return table
