"""``python -m tests.benchmarks [names...]``: measure, print tables, write them and a chart where asked to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from . import idle, latency, memory, report, restore, routing, startup, throughput
from .report import Table
from .rounds import Plan

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS: Final[Mapping[str, Callable[[Plan], Iterator[Table]]]] = {
    "throughput": throughput.run,
    "latency": latency.run,
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
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no {' or '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit code says nothing of speed."""
    options = _parse(arguments)
    plan = Plan(options.rounds, options.messages, options.seconds, options.channels, _mutter)
    measured_on = report.environment()
    tables = []
    for name in options.names or BENCHMARKS:
        for table in BENCHMARKS[name](plan):
            _say(report.text(table))
            tables.append(table)
    _say(f"Measured on {measured_on}.")
    if options.markdown is not None:
        options.markdown.write_text(report.markdown(tables, measured_on), encoding="utf-8")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _mutter(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
