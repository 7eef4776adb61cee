"""``python -m tests.benchmarks [names...]``: measure, print tables, write them and a chart where asked to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from . import chart, costs, idle, latency, memory, report, restore, routing, startup, throughput, turn, worker
from .report import Table
from .rounds import Plan

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS: Final[Mapping[str, Callable[[Plan], Iterator[Table]]]] = {
    "throughput": throughput.run,
    "costs": costs.run,
    "latency": latency.run,
    "turn": turn.run,
    "routing": routing.run,
    "memory": memory.run,
    "import": startup.run,
    "idle": idle.run,
    "restore": restore.run,
}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="this client beside others")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="how often each contender runs (default: 7)")
    parser.add_argument("--messages", type=int, default=200_000, help="per round, for the fast ones (default: 200000)")
    parser.add_argument("--seconds", type=float, default=2.0, help="per round of latency and idling (default: 2)")
    parser.add_argument("--channels", type=int, default=10_000, help="to route and restore (default: 10000)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there as Markdown")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the throughput there")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no {' or '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit code says nothing of speed."""
    options = _parse(arguments)
    plan = Plan(options.rounds, options.messages, options.seconds, options.channels, _mutter, worker.measure)
    measured_on = report.environment()
    tables = []
    for name in options.names or BENCHMARKS:
        for table in BENCHMARKS[name](plan):
            _say(report.text(table))
            tables.append(table)
    _say(f"Measured on {measured_on}.")
    if options.markdown is not None:
        options.markdown.write_text(report.markdown(tables, measured_on), encoding="utf-8")
    if options.svg is not None:
        _draw(tables, options.svg)
    return 0


def _draw(tables: Sequence[Table], file: Path) -> None:
    """Draw the tables that have bars, if there are any."""
    series = {table.title.rpartition(", ")[2]: table.bars for table in tables if table.bars}
    title = f"Messages per second; {throughput.BASELINE} over the same kind of connection = 1"
    if series:
        file.write_text(chart.draw(title, series, "allenhark_ws"), encoding="utf-8")
    else:
        _mutter("no chart: it shows the throughput, which was not measured")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _mutter(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
