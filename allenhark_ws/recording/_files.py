"""The files of one recording: beginning them, going on with them after a crash, rotating them.

It must never overwrite anything, nor remove what it did not make, and holds nothing back: what was written is in the
hands of the system, so that killing the process costs only what was not written yet.  Neighbours: `_recorder` writes
through this, on its own thread; `_repair` mends what a crash has torn.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from attrs import define, field

from ._format import HEADER
from ._gzip import Packer
from ._repair import repair

__all__ = ["Files", "RawFile", "is_compressed", "series"]

_PIECE: Final = 1_048_576
"""Bytes written at once at most, before compression."""


class RawFile(Protocol):
    """An unbuffered file."""

    def write(self, data: memoryview, /) -> int | None: ...

    def truncate(self, size: int, /) -> int: ...

    def seek(self, offset: int, whence: int, /) -> int: ...

    def close(self) -> None: ...


Opener = Callable[[str, str], RawFile]
"""``opener(path, mode)``: mode ``"xb"`` for a file that must be new, ``"r+b"`` for one to go on with."""


def _open(path: str, mode: str) -> RawFile:
    return Path(path).open(mode, buffering=0)


def is_compressed(path: str) -> bool:
    """Whether a recording of this name is compressed."""
    return path.endswith(".gz")


def _parts(path: str) -> tuple[str, str]:
    """What stands before and behind the number of a rotated file."""
    name = path.removesuffix(".gz")
    extension = Path(name).suffix
    return name.removesuffix(extension), extension + path[len(name) :]


def numbered(path: str, number: int) -> str:
    """The name of the n-th file of a rotation; the first one, 0, is the path itself."""
    stem, end = _parts(path)
    return f"{stem}_{number:04d}{end}" if number else path


def _numbers(path: str) -> list[int]:
    """The numbers of the files of a rotation that exist, ascending."""
    stem, end = _parts(path)
    matches = re.compile(rf"{re.escape(Path(stem).name)}_([0-9]{{4,}}){re.escape(end)}").fullmatch
    found = [int(match[1]) for each in Path(path).parent.iterdir() if (match := matches(each.name))]
    return sorted([number for number in found if number] + [0] * os.path.lexists(path))


def series(path: str | os.PathLike[str]) -> list[str]:
    """The files of a rotated recording that exist, in order: what to give to `read` and `replay`.

    ``day.jsonl.gz`` is followed by ``day_0001.jsonl.gz``, ``day_0002.jsonl.gz``…

    Raises:
        OSError: the directory cannot be read.

    Example:
        >>> client.record("day.jsonl", max_bytes=1_000_000).stop()
        >>> recording.series("day.jsonl")
        ['day.jsonl']
    """
    text = os.fspath(path)
    return [numbered(text, number) for number in _numbers(text)]


@define(eq=False)
class Files:
    """What is being written to: one file at a time.

    Args:
        path: of the first file; compressed when it ends in ``.gz``, the others too.
        append: go on with the file, or the last one of the rotation, if there is one.
        max_bytes: a file that would grow larger is followed by the next, if it has any frames; None: never.
        interval: a file that is so many seconds old is followed by the next; None: never.
        open_file: opens files.
        clock: monotonic seconds.

    Attributes:
        path: the file being written to.
        lines: how many were written so far.

    Raises:
        FileExistsError: there is such a file, and `append` is not asked for.
        OSError: it cannot be made.
        RecordingError: what is to be gone on with is no recording, or is damaged.
    """

    _first: str
    _append: bool = False
    _max_bytes: int | None = None
    _interval: float | None = None
    _open_file: Opener = _open
    _clock: Callable[[], float] = time.monotonic
    path: str = field(init=False)
    lines: int = field(default=0, init=False)
    _number: int = field(default=0, init=False)
    _file: RawFile | None = field(default=None, init=False)
    _size: int = field(default=0, init=False)
    _packer: Packer | None = field(default=None, init=False)
    _has_frames: bool = field(default=False, init=False)
    _since: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.path = self._first
        rotates = self._max_bytes is not None or self._interval is not None
        numbers = _numbers(self._first) if rotates else [0] * os.path.lexists(self._first)
        if not numbers:
            self._begin(0)
        elif self._append:
            self._go_on(numbers[-1])
        else:
            existing = numbered(self._first, numbers[0])
            raise FileExistsError(
                errno.EEXIST,
                "there is such a file already: pass append=True to go on with it, or another path",
                existing,
            )

    def _begin(self, number: int) -> None:
        """Begin a new file."""
        self._take_over(number, "xb")
        self._has_frames = False
        try:
            self._put(HEADER)
        except OSError:
            self.discard()
            raise

    def _go_on(self, number: int) -> None:
        """Go on with a file; its age begins anew."""
        path = numbered(self._first, number)
        repair(path, compressed=is_compressed(path))
        self._take_over(number, "r+b")

    def _take_over(self, number: int, mode: str) -> None:
        self._number, self.path = number, numbered(self._first, number)
        self._file = self._open_file(self.path, mode)
        self._size = self._file.seek(0, os.SEEK_END)
        self._packer = Packer() if is_compressed(self.path) else None
        self._has_frames, self._since = True, self._clock()

    def write(self, lines: Sequence[bytes]) -> None:
        """Write lines, whatever it takes of files.

        Raises:
            OSError: it did not work; the file ends with the last piece that was written whole.
        """
        for piece in self._pieces(lines):
            data = b"".join(piece)
            if self._has_frames and self._is_old():
                self._rotate()
            if not self._put(data):
                self._rotate()
                self._put(data)
            self._has_frames = True
            self.lines += len(piece)

    def _pieces(self, lines: Sequence[bytes]) -> Iterator[list[bytes]]:
        """The lines, as many at a time as may be written at once."""
        most = _PIECE if self._max_bytes is None else max(0, min(_PIECE, self._max_bytes - len(HEADER)))
        piece: list[bytes] = []
        size = 0
        for line in lines:
            if piece and size + len(line) > most:
                yield piece
                piece, size = [], 0
            piece.append(line)
            size += len(line)
        if piece:
            yield piece

    def _is_old(self) -> bool:
        return self._interval is not None and self._clock() - self._since >= self._interval

    def _rotate(self) -> None:
        """Go over to the next file that does not exist yet."""
        self.close()
        number = self._number + 1
        while True:
            with contextlib.suppress(FileExistsError):
                self._begin(number)
                return
            number += 1

    def _put(self, data: bytes) -> bool:
        """Write data whole or not at all; False when they belong into the next file."""
        file = self._file
        if file is None:
            raise OSError(errno.EBADF, "this recording has ended", self.path)
        found = file.seek(0, os.SEEK_END)
        if found != self._size and self._packer is not None:  # somebody else writes here too: do not touch that
            self._packer = Packer()
        replaced = b"" if self._packer is None else self._packer.end
        packed = data if self._packer is None else self._packer.pack(data)
        begin = found - len(replaced)
        if self._has_frames and self._max_bytes is not None and begin + len(packed) > self._max_bytes:
            return False
        try:
            _write(file, begin, packed)
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(begin)
                _write(file, begin, replaced)
            self._packer = self._packer and Packer()  # what it remembers is not in the file
            raise
        self._size = begin + len(packed)
        return True

    def close(self) -> None:
        """Close the file; idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def discard(self) -> None:
        """Close the file, and remove it if it was made here and has no frames: its name is free again."""
        unused = self._file is not None and not self._has_frames
        self.close()
        if unused:
            with contextlib.suppress(OSError):
                Path(self.path).unlink()


def _write(file: RawFile, offset: int, data: bytes) -> None:
    file.seek(offset, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) or 0 :]
