"""Tables, for a terminal and as Markdown."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from attrs import field, frozen

__all__ = ["Table", "environment", "markdown", "text"]

_PACKAGES: Final = (
    *("websocket-client", "attrs", "cattrs", "orjson", "msgspec"),
    *("websockets", "picows", "pybit", "coinbase-advanced-py"),
)


@frozen
class Table:
    """One subject's figures.

    Attributes:
        title: the subject.
        note: how to read it, a sentence or two.
        headings: of the columns; the first column holds names, the others figures.
        rows: as they are shown.
        bars: what a chart shows of it, by name.
    """

    title: str
    note: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bars: Mapping[str, float] = field(factory=dict)


def environment() -> str:
    """What it was measured on: interpreter, system, processors' kind, versions."""
    found = [f"{platform.python_implementation()} {platform.python_version()}", platform.system(), platform.machine()]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _widths(table: Table) -> list[int]:
    return [max(map(len, column)) for column in zip(table.headings, *table.rows, strict=True)]


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    return [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]


def text(table: Table) -> str:
    """For a terminal."""
    widths = _widths(table)
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in (table.headings, *table.rows)]
    rule = "-" * max(map(len, lines))
    return "\n".join([table.title, table.note, "", lines[0], rule, *lines[1:], ""])


def _markdown(table: Table) -> Iterator[str]:
    widths = _widths(table)
    rules = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    yield f"### {table.title}\n\n{table.note}\n"
    for cells in (_aligned(table.headings, widths), rules, *(_aligned(row, widths) for row in table.rows)):
        yield f"| {' | '.join(cells)} |"
    yield ""


def markdown(tables: Iterable[Table], measured_on: str) -> str:
    """As a page of Markdown."""
    return "\n".join([*(line for table in tables for line in _markdown(table)), f"Measured on {measured_on}.", ""])
