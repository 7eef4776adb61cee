"""Gzip as recordings need it: whole members, found again after a crash.

A recording is written a member at a time (RFC 1952, section 2.2), each whole in one write: so every tool reads the file
of a process that was killed, and what is lost is the last piece alone.  Neighbours: `_files` writes members, `_reader`
reads them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, Final

from attrs import define

__all__ = ["MAGIC", "BrokenMember", "Piece", "compress", "pieces"]

_WITH_HEADER: Final = 31
"""zlib's `wbits` for a gzip member: header and checksum included."""

MAGIC: Final = b"\x1f\x8b\x08"
"""How a member begins (RFC 1952, section 2.3.1)."""

_READ: Final = 65_536
_MOST: Final = 1_048_576
"""Bytes taken out at a time: a few compressed bytes can stand for a thousand times as many."""


@define
class BrokenMember:
    """The compressed data are damaged; reading goes on with the next member, if there is one."""


@define
class Piece:
    """Some of what a file holds.

    Attributes:
        data: it, decompressed.
        whole_until: the offset in the file up to which all members are whole.
    """

    data: bytes
    whole_until: int


def compress(data: bytes) -> bytes:
    """A gzip member."""
    packer = zlib.compressobj(wbits=_WITH_HEADER)
    return packer.compress(data) + packer.flush()


@define(eq=False)
class _Source:
    """A file, read bit by bit, that can be given back what was not used."""

    file: BinaryIO
    data: bytes = b""
    taken: int = 0

    @property
    def offset(self) -> int:
        """Where in the file `data` begins."""
        return self.taken - len(self.data)

    def fill(self) -> bool:
        """Have some data, unless the file is at its end."""
        if not self.data:
            self.data = self.file.read(_READ)
            self.taken += len(self.data)
        return bool(self.data)

    def skip_to_magic(self) -> None:
        """Go to where the next member may begin, one byte on at least."""
        self.data = self.data[1:]
        while (found := self.data.find(MAGIC)) < 0:
            more = self.file.read(_READ)
            self.taken += len(more)
            self.data = self.data[-2:] + more if more else b""  # it may stand across the border
            if not more:
                return
        self.data = self.data[found:]


def pieces(file: BinaryIO) -> Iterator[Piece | BrokenMember]:
    """What the members hold, a piece at a time; a torn last one as far as it goes.

    Where a member is damaged a `BrokenMember` comes instead of the rest of it.
    """
    source, whole, lost = _Source(file), 0, False
    while source.fill():
        if source.data.startswith(b"\0") and not lost:
            source.data = source.data.lstrip(b"\0")  # what some file systems leave where a crash cut off a write
            continue
        try:
            for data, ended in _member(source):
                whole = source.offset if ended else whole
                yield Piece(data, whole)
            lost = False
        except zlib.error:
            source.skip_to_magic()
            if not lost:
                yield BrokenMember()
            lost = True


def _member(source: _Source) -> Iterator[tuple[bytes, bool]]:
    """What one member holds, bit by bit, each with whether the member ends there.

    Raises:
        zlib.error: it is damaged; the source stands where that was noticed.
    """
    unpacker, ended = zlib.decompressobj(wbits=_WITH_HEADER), False
    while not ended and source.fill():
        data = unpacker.decompress(source.data, _MOST)
        ended = unpacker.eof
        source.data = unpacker.unused_data if ended else unpacker.unconsumed_tail
        yield data, ended
    if not ended:
        yield unpacker.flush(), False
