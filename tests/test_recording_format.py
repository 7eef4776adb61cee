"""The format of recordings: every frame comes back as it was, and what is damaged is told from what is not."""

from __future__ import annotations

import io
import json
import zlib
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws._frames import BinaryMessage
from allenhark_ws.recording._format import HEADER, Damaged, check_header, decode, encode, read_stamp
from allenhark_ws.recording._gzip import MAGIC, BrokenMember, Piece, compress, pieces

AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
STAMP = "2026-01-02T03:04:05.000006+00:00"

FRAMES = st.one_of(
    st.text().map(str.encode),
    st.binary(),
    st.binary().map(BinaryMessage),
    st.recursive(
        st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
    .map(json.dumps)
    .map(str.encode),
)
TIMES = st.datetimes(timezones=st.just(timezone.utc))


def test_the_header_is_the_documented_one() -> None:
    """Other programs may look for it."""
    assert HEADER == b'{"format": "allenhark-ws", "version": 1}\n'


def test_a_line_is_the_documented_one() -> None:
    """Text as it is, but for what JSON must escape; anything else as base64."""
    assert encode(AT, [b'{"a":"\xc3\xa9"}', BinaryMessage(b"text"), b"\xff"]) == [
        f'{{"at": "{STAMP}", "raw": "{{\\"a\\":\\"é\\"}}"}}\n'.encode(),
        f'{{"at": "{STAMP}", "base64": "dGV4dA=="}}\n'.encode(),
        f'{{"at": "{STAMP}", "base64": "/w=="}}\n'.encode(),
    ]


@given(at=TIMES, frames=st.lists(FRAMES))
def test_whatever_is_recorded_comes_back(at: datetime, frames: list[bytes]) -> None:
    """The same bytes at the same microsecond, and binary stays binary; each is one line of JSON for others too."""
    lines = encode(at, frames)
    found = [decode(line.removesuffix(b"\n")) for line in lines]
    assert [(read_stamp(stamp), raw) for stamp, raw in filter(None, found)] == [(at, frame) for frame in frames]
    assert [isinstance(raw, BinaryMessage) for _, raw in filter(None, found)] == [
        type(frame) is not bytes or _is_no_text(frame) for frame in frames
    ]
    assert all(line.count(b"\n") == 1 and "at" in json.loads(line) for line in lines)


def _is_no_text(frame: bytes) -> bool:
    try:
        frame.decode()
    except UnicodeDecodeError:
        return True
    return False


def test_times_are_written_in_utc() -> None:
    """Whatever zone they came in."""
    there = AT.astimezone(timezone(timedelta(hours=5)))
    assert encode(there, [b"x"]) == encode(AT, [b"x"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(f'{{"at":"{STAMP}","raw":"x"}}', (STAMP, b"x"), id="without spaces"),
        pytest.param(f'{{"raw": "x", "at": "{STAMP}"}}', (STAMP, b"x"), id="in another order"),
        pytest.param(f'{{"at": "{STAMP}", "raw": "x", "more": 1}}', (STAMP, b"x"), id="with another key"),
        pytest.param(f'{{"at": "{STAMP}", "raw": "\\u00e9"}}', (STAMP, "é".encode()), id="escaped"),
        pytest.param('{"at": "2026-01-02T03:04:05Z", "raw": "x"}', ("2026-01-02T03:04:05Z", b"x"), id="another time"),
        pytest.param('{"format": "allenhark-ws", "version": 1}', None, id="a header"),
    ],
)
def test_lines_that_others_write(line: str, expected: object) -> None:
    """JSON says the same in many spellings."""
    assert decode(line.encode()) == expected


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[]", "expected an object, got an array"),
        (b'{"raw": "x"}', 'no text under "at"'),
        (f'{{"at": "{STAMP}"}}'.encode(), 'no text under "raw"'),
        (f'{{"at": "{STAMP}", "raw": 1}}'.encode(), 'no text under "raw"'),
        (f'{{"at": "{STAMP}", "raw": "x"'.encode(), "not JSON"),
        (f'{{"at": "{STAMP}", "raw": "x"}}}}'.encode(), "not JSON"),
        (f'{{"at": "{STAMP}", "raw": "\\ud800"}}'.encode(), "content cannot be read"),
        (f'{{"at": "{STAMP}", "base64": "?"}}'.encode(), "content cannot be read"),
        (f'{{"at": "{STAMP}", "base64": 1}}'.encode(), 'no text under "base64"'),
        (b'{"format": "allenhark-ws", "version": 2}', "version 1 of the format only"),
        (b'{"format": "other", "version": 1}', "another format"),
    ],
)
def test_what_is_no_line_of_a_recording(line: bytes, problem: str) -> None:
    """The reason says what is missing."""
    with pytest.raises(Damaged, match=problem):
        decode(line)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "this is no recording"),
        (b"received_at,price", "this is no recording"),
        (b'{"at": "x"}', "this is no recording"),
        (b'["format"]', "this is no recording"),
        (b'{"format": "other", "version": 1}', "another format"),
        (b'{"format": "allenhark-ws"}', "version 1 of the format only"),
        (b'{"format": "allenhark-ws", "version": 2}', "install a newer one"),
    ],
)
def test_what_is_no_header(line: bytes, problem: str) -> None:
    """It is found out before anything is read."""
    with pytest.raises(Damaged, match=problem):
        check_header(line)


def test_a_header_may_say_more() -> None:
    """A later version may add what an older one need not know."""
    check_header(b'{"version": 1, "format": "allenhark-ws", "written_by": "x"}')


@pytest.mark.parametrize(
    "stamp", ["2026-01-02T03:04:05.000006Z", "2026-01-02T05:04:05.000006+02:00", STAMP, "2026-01-02 03:04:05.000006"]
)
def test_times_that_others_write(stamp: str) -> None:
    """Any spelling of ISO 8601, in any zone, becomes UTC."""
    assert read_stamp(stamp) == AT
    assert read_stamp(stamp).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("fraction", "microseconds"), [("", 0), (".1", 100_000), (".12", 120_000), (".1234567", 123_456), (",123", 123_000)]
)
def test_every_python_reads_the_same_fractions(fraction: str, microseconds: int) -> None:
    """`datetime.fromisoformat` would not, before 3.11; nor does it cut what is too much on all of them."""
    assert read_stamp(f"2026-01-02T03:04:05{fraction}+00:00") == AT.replace(microsecond=microseconds)


@pytest.mark.parametrize(
    "stamp",
    [
        "",
        "yesterday",
        "yesterday+00:00",
        "2026-13-02T03:04:05+00:00",
        "2026-01-02T03:04:60.000006+00:00",
        "2026-01-02T24:00:00.000000+00:00",
        "20260102T030405+00:00",
        "2026-01-02X03:04:05.000006+00:00",
        "2026-W01-5T03:04:05.000006+00:00",
        "2026-01-02T03+00:00",
    ],
)
def test_what_is_no_time(stamp: str) -> None:
    """It is damage like any other, on every version of Python: some of these are times to a later one."""
    with pytest.raises(Damaged, match='no time under "at"'):
        read_stamp(stamp)


# --- Gzip


def unpacked(data: bytes) -> tuple[bytes, int, int]:
    """What compressed data hold, up to where they are whole, and in how many places they are damaged."""
    found = list(pieces(io.BytesIO(data)))
    whole = max((piece.whole_until for piece in found if isinstance(piece, Piece)), default=0)
    text = b"".join(piece.data for piece in found if isinstance(piece, Piece))
    return text, whole, sum(isinstance(piece, BrokenMember) for piece in found)


def test_members_are_read_one_after_the_other() -> None:
    """As gzip(1) does, zeros between them included."""
    data = compress(b"a") + compress(b"") + bytes(100_000) + compress(b"b" * 3_000_000)
    assert unpacked(data) == (b"a" + b"b" * 3_000_000, len(data), 0)


def test_a_member_torn_at_every_byte() -> None:
    """What came before stays whole, and of the torn one comes what is there."""
    first, second = compress(b"first\n"), compress(b"second\n" * 9)
    for end in range(len(second)):
        text, whole, damaged = unpacked(first + second[:end])
        assert text.startswith(b"first\n")
        assert (b"first\n" + b"second\n" * 9).startswith(text)
        assert (whole, damaged) == (len(first), 0)


def test_a_large_member_that_is_torn() -> None:
    """Of a few bytes that stand for millions, too, comes what is there."""
    data = b"".join(b"%d\n" % number for number in range(300_000)) + b"a" * 3_000_000
    text, whole, damaged = unpacked(compress(data)[:-50])
    assert data.startswith(text)
    assert len(text) > 2_000_000
    assert (whole, damaged) == (0, 0)


@pytest.mark.parametrize("between", [b"", b"x" * 65_535, bytes(range(256)) * 600, MAGIC + bytes(7) + b"\xff" * 50])
def test_a_damaged_member_costs_no_other(between: bytes) -> None:
    """Reading goes on where the next begins, however far that is."""
    broken = bytearray(compress(b"lost" * 1000))
    broken[20] ^= 0xFF
    text, _, damaged = unpacked(compress(b"before") + bytes(broken) + between + compress(b"after"))
    assert text.startswith(b"before")
    assert text.endswith(b"after")
    assert damaged >= 1


def test_a_wrong_checksum_is_damage() -> None:
    """Though everything could be read."""
    data = bytearray(compress(b"text"))
    data[-8] ^= 1
    assert unpacked(bytes(data))[2] == 1


def test_what_is_damaged_to_its_end() -> None:
    """It ends there."""
    assert unpacked(compress(b"text") + b"rubbish") == (b"text", len(compress(b"text")), 1)


def test_a_member_is_what_others_read() -> None:
    """It has header and checksum."""
    assert zlib.decompress(compress(b"text"), wbits=31) == b"text"
