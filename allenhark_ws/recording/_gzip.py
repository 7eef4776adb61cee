"""Gzip as recordings need it: whole after every write, and found again after a crash.

Each write ends the last member of the file (RFC 1952, section 2.2), and the next goes on with it in the place of that
end: so every tool reads the file of a process that was killed, and it is about as small as if it had been written in
one go.  Neighbours: `_files` writes with `Packer`, `_repair` mends with `compress`, `_reader` reads `pieces`.  It must
never leave a file that gzip cannot read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from attrs import define

__all__ = ["MAGIC", "BrokenMember", "Packer", "Piece", "compress", "pieces"]

_WITH_HEADER: Final = 31
"""zlib's `wbits` for a gzip member: header and checksum included."""

MAGIC: Final = b"\x1f\x8b\x08"
"""How a member begins (RFC 1952, section 2.3.1)."""

_HEAD: Final = MAGIC + bytes(6) + b"\xff"
"""No name, no time, an unknown system (RFC 1952, section 2.3)."""

_END: Final = b"\x03\x00"
"""The last block, with nothing in it (RFC 1951, section 3.2.6), as it stands on a byte's border."""

_sums = struct.Struct("<LL").pack
_END_SIZE: Final = len(_END) + 8
"""What may be left of an old end behind a piece that a crash has cut off while it was written over that."""

_LARGEST: Final = 1_048_576
"""Bytes from which on a member ends for good: what a crash may tear, and damage may cost."""

_READ: Final = 65_536
_MAX_PIECE: Final = 1_048_576
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


@define(eq=False)
class Packer:
    """Compresses what is written to a file, piece by piece.

    Attributes:
        end: what the last piece ended with, to be replaced by the next; empty when that begins a member of its own.
    """

    end: bytes = b""
    _deflate: Any = None
    _checksum: int = 0
    _size: int = 0

    def pack(self, data: bytes) -> bytes:
        """What is to be written in the place of `end`, the new end included."""
        head = b"" if self.end else _HEAD
        if not self.end:
            self._deflate, self._checksum, self._size = zlib.compressobj(wbits=-zlib.MAX_WBITS), 0, 0
        self._checksum = zlib.crc32(data, self._checksum)
        self._size += len(data)
        packed: bytes = head + self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        end = _END + _sums(self._checksum, self._size)
        self.end = end if self._size < _LARGEST else b""
        return packed + end


def compress(data: bytes) -> bytes:
    """A gzip member."""
    packer = zlib.compressobj(wbits=_WITH_HEADER)
    return packer.compress(data) + packer.flush()


@define(eq=False)
class _Source:
    """A file, read in pieces, one ahead, so that the last one is known for it; what was not used of one is kept.

    Attributes:
        data: what is to be used next.
        ahead: what was read behind it; empty at the end.
        taken: how much was read in all.
    """

    file: BinaryIO
    data: bytes = b""
    ahead: bytes = b""
    taken: int = 0

    @property
    def offset(self) -> int:
        """Where in the file `data` begins."""
        return self.taken - len(self.ahead) - len(self.data)

    def _read(self) -> bytes:
        data = self.file.read(_READ)
        self.taken += len(data)
        return data

    def fill(self) -> bool:
        """Have some data, unless the file is at its end."""
        if not self.data:
            self.data = self.ahead or self._read()
            self.ahead = self._read()
        return bool(self.data)

    def skip_to_magic(self) -> None:
        """Go to where the next member may begin, one byte on at least."""
        self.data = self.data[1:]
        while (found := self.data.find(MAGIC)) < 0:
            if not self.ahead:
                self.data = b""
                return
            self.data = self.data[-2:] + self.ahead  # it may stand across the border
            self.ahead = self._read()
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
        before, data = unpacker.copy(), b""
        try:
            data = unpacker.decompress(source.data, _MAX_PIECE)
            torn = not (unpacker.eof or unpacker.unconsumed_tail or source.ahead)
        except zlib.error as error:
            if source.ahead or "check" in str(error):  # there is more than an end, or its checksum is wrong
                raise
            torn = True
        if torn:
            data = before.decompress(source.data[:-_END_SIZE])
            source.data = b""
        else:
            ended = unpacker.eof
            source.data = unpacker.unused_data if ended else unpacker.unconsumed_tail
        yield data, ended
