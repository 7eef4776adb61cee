"""Reading recordings: entries in order, from one file or several, whatever a crash has left of them.

A torn end is what a crash leaves and no error: it is passed over with a warning in the log.  Anything else that is not
what belongs there is a `RecordingError` that names file and line; the lines behind it are read as if nothing was.
Neighbours: `_format` knows the lines, `_gzip` unpacks; `_convert` and the replay read with this.  It must never change
a file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import datetime
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple

from .._hints import Self
from ..errors import RecordingError
from ._format import Damaged, check_header, decode, read_stamp
from ._gzip import MAGIC, BrokenMember, pieces

__all__ = ["Entry", "Group", "PathLike", "Reader", "paths_of", "read"]

_logger = logging.getLogger("allenhark_ws")

_READ: Final = 65_536
_LONGEST_LINE: Final = 134_217_728
"""Bytes of a line at most, far above any frame that a client takes: a damaged file may hold no line break for long."""

PathLike = str | os.PathLike[str]


class Entry(NamedTuple):
    """One received frame.

    Attributes:
        at: when it was received, aware, UTC.
        raw: its payload as received: text as UTF-8 `bytes`; what is no UTF-8 text as a subclass of `bytes`.

    Example:
        >>> from datetime import datetime, timezone
        >>> recording.Entry(datetime(2024, 1, 15, tzinfo=timezone.utc), b'{"type": "pong"}').raw
        b'{"type": "pong"}'
    """

    at: datetime
    raw: bytes


class Group(NamedTuple):
    """Frames that were received at the same time: what one read of the socket brought, or a part of that."""

    at: datetime
    raws: list[bytes]


def paths_of(source: PathLike | Sequence[PathLike]) -> list[str]:
    """The path, or the paths, as text.

    Raises:
        TypeError: it is something else.
        ValueError: there is none.
    """
    given: object = [source] if isinstance(source, (str, os.PathLike)) else source
    if isinstance(given, (bytes, bytearray)) or not isinstance(given, Sequence):
        raise TypeError(f"expected the path of a recording, or a list of them, got {type(source).__name__}")
    paths = [os.fspath(each) for each in given]
    if not all(isinstance(path, str) for path in paths):
        raise TypeError("the path of a recording must be text")
    if not paths:
        raise ValueError("expected at least one recording, got an empty list: perhaps a pattern matched no file")
    return paths


def read(
    source: PathLike | Sequence[PathLike], *, on_damage: Callable[[RecordingError], object] | None = None
) -> Reader:
    """Read recordings, entry by entry, in bounded memory.

    Args:
        source: the file, or several in the order in which they belong; see `series` for those of a rotation.
        on_damage: called with the error of each damaged line, which is passed over.  None: it is raised, and iterating
            goes on behind it when asked to.

    Raises:
        OSError: a file cannot be opened.
        RecordingError: a file is no recording, or one of another version.

    Example:
        >>> with client.record("day.jsonl.gz"):
        ...     seconds = client.flush()
        >>> with recording.read("day.jsonl.gz") as entries:
        ...     [raw[:14] for at, raw in entries]
        [b'{"type":"pong"']
    """
    return Reader(paths_of(source), on_damage)


class Reader(Iterator[Entry]):
    """An iterator over the entries of recordings; made by `read`.

    Attributes:
        path: the file being read.
        line: the number of the last line read in it, the header's being 1.
        damaged: how many damaged lines there were so far.
        position: how many bytes of all files were read so far, compressed as they may be.
        size: how many there are.

    Example:
        >>> client.record("day.jsonl").stop()
        >>> with recording.read("day.jsonl") as entries:
        ...     list(entries), entries.line, entries.position == entries.size
        ([], 1, True)
    """

    def __init__(self, paths: Sequence[str], on_damage: Callable[[RecordingError], object] | None = None) -> None:
        self.path, self.line, self.damaged = paths[0], 0, 0
        self.position, self.size = 0, sum(map(_check, paths))
        self._on_damage = on_damage
        self._found = self._read_all(paths)
        self._entries: Iterator[Entry] = iter(())

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Entry:
        """The next entry.

        Raises:
            RecordingError: a line is damaged, and there is no `on_damage`.
            OSError: the file cannot be read any further.
        """
        entry = next(self._entries, None)
        if entry is not None:
            return entry
        group = self.next_group()
        if group is None:
            raise StopIteration
        self._entries = map(Entry, repeat(group.at), group.raws)
        return next(self._entries)

    def next_group(self) -> Group | None:
        """The next entries that were received at the same time, None at the end; raises what iterating raises."""
        for found in self._found:
            if isinstance(found, Group):
                return found
            self.damaged += 1
            if self._on_damage is None:
                raise found
            self._on_damage(found)
        return None

    def close(self) -> None:
        """Read no more; idempotent."""
        self._found.close()
        self._entries = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read_all(self, paths: Sequence[str]) -> Generator[Group | RecordingError, None, None]:
        done = 0
        for path in paths:
            self.path, self.line = path, 0
            with _open(path) as file:
                for lines in self._lines(file):
                    yield from self._groups(lines)
                    self.position = done + file.tell()
                done += file.tell()
            self.position = done

    def _lines(self, file: BinaryIO) -> Iterator[list[bytes | Damaged]]:
        """The lines without their breaks, as many at a time as a piece of the file completes."""
        begun: list[bytes] = []  # pieces of a line, joined when its end is there: it may be long
        size = 0
        for piece in _pieces(file):
            if isinstance(piece, Damaged):
                begun, size = [], 0
                yield [piece]
                continue
            begun.append(piece)
            size += len(piece)
            if b"\n" in piece:
                *lines, rest = b"".join(begun).split(b"\n")
                begun, size = [rest], len(rest)
                yield [*lines]
            elif size > _LONGEST_LINE:
                begun, size = [], 0
                yield [Damaged(f"no line of a recording has more than {_LONGEST_LINE} bytes")]
        rest = b"".join(begun)
        if rest and _is_whole(rest):
            yield [rest]
        elif rest:
            _logger.warning("%s ends in the middle of line %d, which is left out", self.path, self.line + 1)

    def _groups(self, lines: list[bytes | Damaged]) -> Iterator[Group | RecordingError]:
        """The frames of the lines, those of the same time together, and an error for each line that is damaged."""
        last, group = "", None
        for line in lines:
            self.line += 1
            try:
                stamp, raw = _frame(line)
                if stamp == last and group is not None:
                    group.raws.append(raw)
                    continue
                at = read_stamp(stamp) if stamp else None
            except Damaged as error:
                if group is not None:
                    yield group
                last, group = "", None
                yield RecordingError(self.path, str(error), line=self.line)
                continue
            if at is None:
                continue
            if group is not None:
                yield group
            last, group = stamp, Group(at, [raw])
        if group is not None:
            yield group


_HEADER_LINE: Final = ("", b"")
"""What stands for a header among the frames."""


def _frame(line: bytes | Damaged) -> tuple[str, bytes]:
    if isinstance(line, Damaged):
        raise line
    return decode(line) or _HEADER_LINE


def _is_whole(line: bytes) -> bool:
    """Whether a last line without a line break lacks nothing else."""
    try:
        decode(line)
    except Damaged:
        return False
    return True


def _open(path: str) -> BinaryIO:
    return Path(path).open("rb", buffering=0)


def _pieces(file: BinaryIO) -> Iterator[bytes | Damaged]:
    """What the file holds, whatever its name says about compression."""
    magic = file.read(len(MAGIC))
    file.seek(0)
    if magic == MAGIC:
        for piece in pieces(file):
            yield Damaged("the compressed data are damaged here") if isinstance(piece, BrokenMember) else piece.data
    else:
        while data := file.read(_READ):
            yield data


def _check(path: str) -> int:
    """Make sure that a file is a recording; its size in bytes.

    Raises:
        OSError: it cannot be opened.
        RecordingError: it is none.
    """
    with _open(path) as file:
        if not file.seekable():
            raise RecordingError(path, "a pipe cannot be read twice: write it to a file first")
        first = next(_pieces(file), b"")
        size = os.fstat(file.fileno()).st_size
        try:
            check_header(b"" if isinstance(first, Damaged) else first.partition(b"\n")[0])
        except Damaged as error:
            problem = str(error) if size else "this is no recording: the file is empty"
        else:
            return size
    raise RecordingError(path, problem, line=1)
