"""The frame reader's promises, for any bytes in any pieces: the same outcome, in bounded memory and linear work.

An input is a byte that chooses the limit, a byte with the number of cuts, a byte for each of these that says where, and
then the stream.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

from attrs import evolve

from allenhark_ws._frames import MAX_FRAGMENTS, MAX_PONGS, BinaryMessage, CloseReceived, FrameReader, Parsed, Violation

WORDS: Final = (
    *(b"\x81\x02{}", b"\x81\x00", b"\x82\x01\xff", b"\x01\x02ab", b"\x01\x01\xc3", b"\x00\x01b", b"\x80\x01\xa4"),
    *(b"\x80\x00", b"\x00\x00", b"\x02\x00", b"\x89\x00", b"\x89\x04ping", b"\x8a\x00", b"\x88\x00", b"\x88\x01x"),
    *(b"\x88\x02\x03\xe8", b"\x88\x05\x0f\xa1key", b"\x88\x03\x03\xe8\xff", b"\x88\x02\x03\xed", b"\x09\x00"),
    *(b"\x81\x7e\x00\x7e" + b"x" * 126, b"\x81\x7e\x00\x7d", b"\x81\x7f" + b"\x00" * 8, b"\x81\x7f\x80" + b"\x00" * 7),
    *(
        b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00",
        b"\x81\x82",
        b"\xc1\x00",
        b"\x83\x00",
        b"\x8b\x00",
        b"\x81\x02\xc3(",
    ),
    *(b"\x89\x7d" + b"p" * 125, b"\x89\x7e\x00\x7e", b"\xf4\x90", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80"),
)
"""Pieces of streams for a fuzzer to put together."""

_LIMITS: Final = (125, 126, 127, 250, 1000, 65_535, 65_536, 1_048_576)
_HEAD: Final = 14
"""The longest head a frame can have."""
_WORK: Final = 5
"""How often a byte may be looked at: on arrival, and once for each of a frame's parts that it had to wait for."""


class Gauge(FrameReader):
    """A reader that counts the bytes it goes through, and watches its memory after each piece."""

    work = 0

    def _cut_all(self, data: bytes, parsed: Parsed) -> int:
        self.work += len(data)
        return super()._cut_all(data, parsed)

    def feed(self, data: bytes) -> Parsed:
        """As the reader, with the memory checked."""
        parsed = super().feed(data)
        assert len(parsed.pongs) <= MAX_PONGS
        assert len(self._message) <= self._limit
        assert len(self._partial) <= max(self._limit, 125) + _HEAD
        assert self._fragments <= MAX_FRAGMENTS
        assert parsed.end is None or not self._partial + self._message, "it keeps what nobody will ask for"
        return parsed


def check(data: bytes) -> None:
    """Feed a stream whole, in the pieces the input asks for, and byte by byte."""
    limit, cuts, stream = _read(data)
    whole = _feed([stream], limit)
    _check_outcome(whole, stream, limit)
    assert _feed(_pieces(stream, cuts), limit) == whole, "the pieces make a difference"
    assert _feed([stream[i : i + 1] for i in range(len(stream))], limit) == whole, "single bytes make a difference"


def _read(data: bytes) -> tuple[int, list[int], bytes]:
    limit, count = _LIMITS[(data[:1] or b"\x00")[0] % len(_LIMITS)], (data[1:2] or b"\x00")[0] % 8
    return limit, sorted(data[2 : 2 + count]), data[2 + count :]


def _pieces(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    places = [0, *(cut * len(stream) // 255 for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in pairwise(places)]


def _feed(pieces: list[bytes], limit: int) -> Parsed:
    """Feed the pieces to one reader and add up what came of them."""
    reader, total, size = Gauge(limit), Parsed(), sum(map(len, pieces))
    for piece in pieces:
        parsed = reader.feed(piece)
        assert total.end is None or parsed == Parsed(), "something came after the end"
        total = _add(total, parsed)
    assert reader.work <= _WORK * size, f"{reader.work} bytes looked at for {size}"
    return total


def _add(total: Parsed, parsed: Parsed) -> Parsed:
    return evolve(
        total,
        messages=total.messages + parsed.messages,
        pongs=(total.pongs + parsed.pongs)[-MAX_PONGS:],
        frames=total.frames + parsed.frames,
        end=total.end or parsed.end,
    )


def _check_outcome(total: Parsed, stream: bytes, limit: int) -> None:
    assert sum(map(len, total.messages)) <= len(stream)
    assert 2 * total.frames <= len(stream)
    assert all(len(payload) <= 125 for payload in total.pongs)
    for message in total.messages:
        assert len(message) <= limit
        assert type(message) in (bytes, BinaryMessage)
        if type(message) is bytes:
            str(message, "utf-8")
    _check_end(total.end)


def _check_end(end: Any) -> None:
    if isinstance(end, CloseReceived):
        struct.pack("!H", end.code)
        assert len(end.reason.encode()) <= 123
        assert end.code == 1005 or 1000 <= end.code <= 4999
    else:
        assert end is None or (isinstance(end, Violation) and end.code in (1002, 1007, 1009) and end.text)
