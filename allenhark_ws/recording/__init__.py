"""Recordings: what a client received, frame by frame, in a file that outlives it.

::

    with Client() as client, client.record("day.jsonl.gz"):
        ...

    for at, raw in recording.read("day.jsonl.gz"):
        ...

A recording is JSON Lines, compressed by gzip if its name ends in ``.gz``.  The first line is
``{"format": "allenhark-ws", "version": 1}``; each line after it is a frame,
``{"at": "2026-01-02T03:04:05.000006+00:00", "raw": "…"}``, with its text as received, or ``"base64"`` in the place of
``"raw"`` for what is no UTF-8 text.

Neighbours: `client` records with `Recorder`, `replay` plays what `read` reads.  The way of a frame: `_intake` →
`_recorder` (buffer, thread) → `_format` → `_files` (rotation; `_repair`, `_gzip`) → disk → `_reader` → `_convert`
(`_table`).  It must never import a client: recorders take what they are given.
"""

from __future__ import annotations

import math
import os

from ._convert import Converted, convert
from ._files import Files, series
from ._reader import Entry, Group, PathLike, Reader, paths_of, read
from ._recorder import Recorder, Source
from ._table import COLUMNS

__all__ = [
    "COLUMNS",
    "Converted",
    "Entry",
    "Group",
    "PathLike",
    "Reader",
    "Recorder",
    "begin",
    "convert",
    "paths_of",
    "read",
    "series",
]


def begin(  # noqa: PLR0913 - every setting is an argument of its own
    path: str | os.PathLike[str],
    source: Source,
    *,
    append: bool,
    max_bytes: int | None,
    interval: float | None,
    max_buffer: int,
) -> Recorder:
    """A recorder that has its file and no thread yet; `Client.record` describes the arguments and what is raised."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError("record() takes a path as text")
    _check_whole(max_buffer, "max_buffer")
    if max_bytes is not None:
        _check_whole(max_bytes, "max_bytes")
    if interval is not None:
        _check_seconds(interval)
    return Recorder(Files(text, append, max_bytes, interval), source, max_buffer)


def _check_whole(value: object, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"record({name}=…) takes a whole number of bytes, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"record({name}=…) must be at least 1, got {value}")


def _check_seconds(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"record(interval=…) takes seconds as a number, got {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"record(interval=…) must be finite and more than 0, got {value!r}")
