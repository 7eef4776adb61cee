"""Making the end of a recording fit to go on from: what a crash has torn goes, every whole line stays.

Neighbours: `_files` asks for it before it appends.  It must never take away a whole line.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from ..errors import RecordingError
from ._format import HEADER, Damaged, check_header, decode
from ._gzip import MAGIC, BrokenMember, compress, pieces

__all__ = ["repair"]

_BLOCK: Final = 65_536


def repair(path: str, *, compressed: bool) -> None:
    """Let a file end with a whole line, and begin with a header if it holds nothing else.

    A compressed file is read through for that.

    Raises:
        OSError: it cannot be read or written.
        RecordingError: it is no recording, or damaged where no crash could have done it; it is left as it is.
    """
    with Path(path).open("r+b", buffering=0) as file:
        try:
            _check_kind(file)
            if compressed:
                _repair_compressed(file)
            else:
                _repair_plain(file)
        except Damaged as error:
            problem = str(error)
        else:
            return
    raise RecordingError(path, f"{problem}; record to another file")


def _check_kind(file: BinaryIO) -> None:
    """Whether it can be looked at: reading a pipe or a device may never end."""
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise Damaged("this is no ordinary file")


def _is_torn_header(data: bytes) -> bool:
    """Whether this is what a crash leaves of a file that was just begun."""
    return HEADER.startswith(data)


def _write(file: BinaryIO, offset: int, data: bytes) -> None:
    """Let the file end with these data, from the offset on."""
    file.truncate(offset)
    file.seek(offset)
    while data:
        data = data[file.write(data) or 0 :]


def _repair_plain(file: BinaryIO) -> None:
    head = file.read(_BLOCK)
    if _is_torn_header(head) and head != HEADER:
        _write(file, 0, HEADER)
        return
    check_header(head.partition(b"\n")[0])
    begins = _last_line(file)
    file.seek(begins)
    tail = file.read()
    if tail and _is_entry(tail):
        _write(file, begins + len(tail), b"\n")
    elif tail:
        file.truncate(begins)


def _last_line(file: BinaryIO) -> int:
    """The offset behind the last line break; there is one."""
    end = file.seek(0, os.SEEK_END)
    while True:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin


def _is_entry(line: bytes) -> bool:
    try:
        decode(line)
    except Damaged:
        return False
    return True


def _repair_compressed(file: BinaryIO) -> None:
    """Keep the whole members; the whole lines of a torn one behind them become a new member."""
    magic = file.read(len(MAGIC))
    if not MAGIC.startswith(magic):
        raise Damaged("this is no compressed recording, as its name says")
    file.seek(0)
    whole, first, last = 0, b"", b""
    for piece in pieces(file):
        if isinstance(piece, BrokenMember):
            raise Damaged("the compressed data are damaged")
        first += piece.data[: _BLOCK - len(first)]
        last = piece.data[-1:] or last
        whole = piece.whole_until
    if _is_torn_header(first) and first != HEADER:
        _write(file, 0, compress(HEADER))
        return
    check_header(first.partition(b"\n")[0])
    if file.seek(0, os.SEEK_END) > whole:
        _write(file, whole, _saved(file, whole))
    elif last != b"\n":
        _write(file, whole, compress(b"\n"))


def _saved(file: BinaryIO, whole: int) -> bytes:
    """A member of the whole lines of the torn one that begins at this offset; nothing when there are none."""
    file.seek(whole)
    torn = b"".join(piece.data for piece in pieces(file) if not isinstance(piece, BrokenMember))
    lines, line_break, rest = torn.rpartition(b"\n")
    kept = lines + line_break + (rest + b"\n" if _is_entry(rest) else b"")
    return compress(kept) if kept else b""
