"""Frames: every rule of RFC 6455 that a server can break, and every way of cutting the bytes into pieces."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws._frames import (
    MAX_FRAGMENTS,
    MAX_PONGS,
    SMALL_FRAGMENT,
    BinaryMessage,
    CloseReceived,
    FrameReader,
    Parsed,
    Violation,
)

from .peers import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame

LIMIT = 1_048_576


def feed(*pieces: bytes, limit: int = LIMIT) -> Parsed:
    """Feed the pieces to one reader and add up what came of them."""
    reader = FrameReader(limit)
    total = Parsed()
    for piece in pieces:
        parsed = reader.feed(piece)
        total.messages += parsed.messages
        total.frames += parsed.frames
        total.pongs = (total.pongs + parsed.pongs)[-MAX_PONGS:]
        total.end = parsed.end or total.end
    return total


@pytest.mark.parametrize("size", [0, 1, 2, 125, 126, 127, 65535, 65536, LIMIT])
def test_text_of_every_length_form(size: int) -> None:
    """Text messages of every length form come out whole and as plain bytes."""
    parsed = feed(frame(TEXT, b"x" * size))
    assert parsed == Parsed([b"x" * size], [], 1, None)
    assert type(parsed.messages[0]) is bytes


def test_binary_is_told_from_text() -> None:
    """A binary message comes as `BinaryMessage`, a text message does not."""
    parsed = feed(frame(BINARY, b"\xff\x00") + frame(TEXT, b"{}"))
    assert parsed.messages == [b"\xff\x00", b"{}"]
    assert [type(message) for message in parsed.messages] == [BinaryMessage, bytes]


def test_two_thousand_small_frames_in_one_read() -> None:
    """Many frames in one read all come out, in order, with control frames between them."""
    texts = [b'{"n":%d}' % i for i in range(2000)]
    parsed = feed(b"".join(frame(TEXT, text) + frame(PONG) for text in texts))
    assert parsed.messages == texts
    assert parsed.frames == 4000


def test_fragments_are_joined_around_control_frames() -> None:
    """A message in fragments is joined; control frames may stand between them (section 5.4)."""
    parsed = feed(
        frame(TEXT, b"a\xc3", final=False),
        frame(PING, b"one"),
        frame(0, b"\xa4b", final=False),
        frame(0, b""),
        frame(TEXT, b"next"),
    )
    assert parsed == Parsed(["aäb".encode(), b"next"], [b"one"], 5, None)


def test_text_stays_text() -> None:
    """Whether in fragments or in one large frame, beyond ASCII too."""
    whole = "é".encode() * 40_000
    for pieces in ([frame(TEXT, whole)], [frame(TEXT, whole[:-1], final=False), frame(0, whole[-1:])]):
        parsed = feed(*pieces, limit=100_000)
        assert parsed.end is None
        assert [(type(message), message) for message in parsed.messages] == [(bytes, whole)]


def test_fragmented_binary() -> None:
    """A binary message in fragments need not be UTF-8 and stays binary."""
    parsed = feed(frame(BINARY, b"\xff", final=False) + frame(0, b"\xfe"))
    assert parsed.messages == [b"\xff\xfe"]
    assert isinstance(parsed.messages[0], BinaryMessage)


def test_a_large_message_is_copied_once() -> None:
    """A message in one frame is cut out of what was received, and nothing else holds it."""
    reader, data = FrameReader(1_048_576), frame(BINARY, bytes(1_000_000))
    reader.feed(data[:-1])
    tracemalloc.start()
    try:
        parsed = reader.feed(data[-1:])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [len(message) for message in parsed.messages] == [1_000_000]
    assert peak < 3_200_000  # joined, cut out, and once more as a binary message


def test_pings_are_to_be_answered_in_order() -> None:
    """Several pings in one read are given as they came."""
    assert feed(frame(PING, b"1") + frame(PING, b"2")).pongs == [b"1", b"2"]


def test_of_many_pings_the_latest_are_to_be_answered() -> None:
    """However many pings one read brings, the last few are given (section 5.5.3)."""
    pings = [b"%d" % i for i in range(MAX_PONGS + 2)]
    parsed = FrameReader(LIMIT).feed(b"".join(frame(PING, ping) for ping in pings))
    assert parsed.pongs == pings[2:]
    assert parsed.frames == MAX_PONGS + 2


def test_an_empty_ping_is_to_be_answered_too() -> None:
    """An empty ping is a ping."""
    assert feed(frame(PING)).pongs == [b""]


@pytest.mark.parametrize("payload", [b"", b"unasked for"])
def test_a_pong_is_a_frame_and_nothing_more(payload: bytes) -> None:
    """It is not answered (section 5.5.3)."""
    assert feed(frame(PONG, payload)) == Parsed([], [], 1, None)


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (frame(CLOSE), CloseReceived(1005, "")),
        (close_frame(1000), CloseReceived(1000, "")),
        (close_frame(4001, "schlüssel".encode()), CloseReceived(4001, "schlüssel")),
        *((close_frame(code), CloseReceived(code, "")) for code in (1003, 1007, 1014, 3000, 4999)),
    ],
)
def test_close_frames(data: bytes, end: CloseReceived) -> None:
    """A close frame ends the connection with its code and reason; 1005 stands for none."""
    assert feed(data) == Parsed([], [], 1, end)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535])
def test_close_codes_nobody_may_send(code: int) -> None:
    """Reserved and unassigned close codes are violations (section 7.4)."""
    assert feed(close_frame(code)).end == Violation(1002, f"a close frame with the invalid code {code}")


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (frame(TEXT, reserved=4), 1002, "reserved bits"),
        (frame(TEXT, reserved=1), 1002, "reserved bits"),
        (frame(3), 1002, "unknown opcode 3"),
        (frame(15), 1002, "unknown opcode 15"),
        (frame(TEXT, b"hi", masked=True), 1002, "masked"),
        (frame(PING, final=False), 1002, "fragmented control"),
        (frame(PONG, b"x" * 126), 1002, "more than 125"),
        (frame(CLOSE, b"x"), 1002, "half a code"),
        (close_frame(1000, b"\xff"), 1007, "reason that is not UTF-8"),
        (frame(0, b"x"), 1002, "nothing to continue"),
        (frame(TEXT, final=False) + frame(TEXT), 1002, "inside a fragmented one"),
        (frame(TEXT, final=False) + frame(BINARY), 1002, "inside a fragmented one"),
        (b"\x81\x7e\x00\x7d", 1002, "shortest form"),
        (b"\x81\x7e\x00\x7d" + b"x" * 125, 1002, "shortest form"),
        (b"\x81\x7f" + struct.pack("!Q", 65535), 1002, "shortest form"),
        (b"\x81\x7f" + struct.pack("!Q", 1 << 63), 1002, "2^63"),
        (b"\x81\x7f" + struct.pack("!Q", (1 << 64) - 1), 1002, "2^63"),
        (b"\x81\x7f" + struct.pack("!Q", LIMIT + 1), 1009, "max_message_size"),
        (b"\x81\x7f" + struct.pack("!Q", (1 << 63) - 1), 1009, "max_message_size"),
        (frame(TEXT, b"\xff"), 1007, "not UTF-8"),
        (frame(TEXT, b"caf\xc3"), 1007, "not UTF-8"),
        (frame(TEXT, b"\xed\xa0\x80 surrogate"), 1007, "not UTF-8"),
        (frame(TEXT, b"\xf4\x90", final=False), 1007, "not UTF-8"),
        (frame(TEXT, b"a\xc3", final=False) + frame(0, b""), 1007, "not UTF-8"),
    ],
)
def test_violations(data: bytes, code: int, words: str) -> None:
    """Each broken rule fails the connection with its code, the messages before it are kept, what follows is ignored."""
    good = frame(TEXT, b"good")
    for parsed in (feed(good + data + good), feed(good, data, good), feed(*(bytes([b]) for b in good + data + good))):
        assert parsed.messages == [b"good"]
        assert isinstance(parsed.end, Violation)
        assert parsed.end.code == code
        assert words in parsed.end.text


@pytest.mark.parametrize("at", [0, 1, 65_534, 65_535, 65_536, 65_537, 131_071, 131_072, 140_000, 199_999])
@pytest.mark.parametrize("letter", ["é", "€", "😀"])
def test_a_large_text_is_looked_at_to_its_end(letter: str, at: int) -> None:
    """A letter of several bytes may stand anywhere in it, and what is no letter nowhere."""
    good = b"a" * at + letter.encode() + b"a" * (200_000 - at)
    assert feed(frame(TEXT, good)).messages == [good]
    for broken in (good[:at] + b"\xff" + good[at + 1 :], good[: at + 1] + b"a" * 200_000, good[: at + 1]):
        end = feed(frame(TEXT, broken)).end
        assert isinstance(end, Violation)
        assert end.code == 1007


def test_a_large_text_is_not_made_another_text_at_once() -> None:
    """Its letters, of which one is wide, would take four times its bytes; it is looked at piece by piece."""
    data = frame(TEXT, "😀".encode() + b"a" * 1_000_000)
    tracemalloc.start()
    try:
        assert feed(data, limit=2_000_000).end is None
        assert tracemalloc.get_traced_memory()[1] <= 3 * len(data)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("code", [1000, 1005])
def test_data_after_close_is_ignored(code: int) -> None:
    """After a close frame nothing counts any more, in the same read or later (section 5.5.1)."""
    close = frame(CLOSE) if code == 1005 else close_frame(code)
    parsed = feed(frame(TEXT, b"a") + close + frame(TEXT, b"b"), frame(TEXT, b"c"), frame(PING))
    assert parsed == Parsed([b"a"], [], 2, CloseReceived(code, ""))


@pytest.mark.parametrize("size", [126, 200, 65535, 65536])
def test_size_limit_is_checked_on_the_head(size: int) -> None:
    """A frame above the limit is refused when its head is there, one at the limit is not."""
    head = frame(TEXT, b"x" * size)[:-size]
    assert isinstance(feed(head, limit=size - 1).end, Violation)
    assert feed(head, limit=size).end is None
    assert feed(frame(TEXT, b"x" * size), limit=size).messages == [b"x" * size]
    assert feed(frame(BINARY, b"x" * size), limit=size - 1).messages == []


@pytest.mark.parametrize(("first", "second"), [(100, 26), (100, 100), (125, 1), (125, 125)])
def test_size_limit_is_that_of_the_message(first: int, second: int) -> None:
    """Fragments are added up: the one that passes the limit is refused on its head."""
    start, head, size = frame(TEXT, b"x" * first, final=False), frame(0, b"y" * second)[:2], first + second
    parsed = feed(start, head, limit=size - 1)
    assert parsed.end == Violation(1009, f"a message of {size} bytes or more, above max_message_size={size - 1}")
    assert feed(start, head, limit=size).end is None


def test_control_frames_do_not_count_as_message() -> None:
    """A ping inside a message that has reached the limit is fine."""
    parsed = feed(frame(TEXT, b"x" * 125, final=False), frame(PING, b"p" * 125), frame(0), limit=125)
    assert parsed.messages == [b"x" * 125]


def test_the_number_of_fragments_is_bounded() -> None:
    """Empty fragments do not go on for ever; the largest number allowed is fine."""
    most = frame(TEXT, final=False) + frame(0, final=False) * (MAX_FRAGMENTS - 2)
    assert feed(most, frame(0)).messages == [b""]
    assert feed(most, frame(0, final=False), frame(0)).end == Violation(
        1009, f"a message of more than {MAX_FRAGMENTS} fragments"
    )
    assert feed((most + frame(0)) * 2).messages == [b"", b""]


def test_a_message_of_the_largest_size_may_come_in_small_fragments() -> None:
    """Where large messages are wanted, more fragments are allowed: enough for each to be small."""
    count = MAX_FRAGMENTS + 1
    limit, part = count * SMALL_FRAGMENT, b"x" * SMALL_FRAGMENT
    most = frame(TEXT, part, final=False) + frame(0, part, final=False) * (count - 2)
    assert feed(most, frame(0, part), limit=limit).messages == [part * count]
    assert feed(most, frame(0, final=False), frame(0), limit=limit).end == Violation(
        1009, f"a message of more than {count} fragments"
    )


@pytest.mark.parametrize("step", [1, 3, 1024])
def test_a_dripped_message_costs_no_more_than_its_size(step: int) -> None:
    """A large message in tiny pieces is kept as one piece of memory, not as very many."""
    size = 200_000
    data = frame(TEXT, b"x" * size)
    last = len(data) - 1
    reader = FrameReader(size)
    tracemalloc.start()
    try:
        for start in range(0, last, step):
            assert reader.feed(data[start : min(start + step, last)]).messages == []
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < size * 2
    assert reader.feed(data[last:]).messages == [b"x" * size]


def test_nothing_fed_is_nothing_found() -> None:
    """Empty input changes nothing, in the middle of a frame either."""
    data = frame(TEXT, b"abc")
    assert feed(b"", data[:1], b"", data[1:3], b"", data[3:]).messages == [b"abc"]


payloads = st.one_of(
    st.text(max_size=40).map(str.encode),
    st.binary(max_size=20),
    st.integers(120, 130).map(lambda n: b"a" * n),
    st.just(b"b" * 300),
)
frames = st.one_of(
    st.builds(frame, st.sampled_from([TEXT, BINARY, 0, PING, PONG]), payloads, final=st.booleans()),
    st.builds(frame, st.just(TEXT), payloads),
    st.builds(frame, st.just(TEXT), st.text(max_size=200).map(str.encode)),
    st.builds(close_frame, st.integers(990, 5010), st.binary(max_size=10)),
    st.binary(min_size=1, max_size=12),
)


@given(st.lists(frames, max_size=12), st.data())
def test_any_split_gives_the_same_result(sequence: list[bytes], data: st.DataObject) -> None:
    """However a sequence of frames, good or bad, is cut into reads, the outcome is the same."""
    whole = b"".join(sequence)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    expected = feed(whole, limit=250)
    assert feed(*pieces, limit=250) == expected
    assert feed(*(bytes([byte]) for byte in whole), limit=250) == expected


@given(st.lists(st.text(max_size=300), max_size=20))
def test_plain_messages_come_out_as_they_went_in(texts: list[str]) -> None:
    """Any text survives, in any number."""
    payload = [text.encode() for text in texts]
    assert feed(b"".join(frame(TEXT, text) for text in payload)) == Parsed(payload, [], len(payload), None)


class _Watched(FrameReader):
    """A reader that has no slower path."""

    def _take(self, *_arguments: object) -> None:
        raise AssertionError("a plain frame was not cut out in the tight loop")


def test_plain_frames_do_not_take_the_slower_path() -> None:
    """Whole plain text frames of every size with a short head, nearly all there is, are cut in the tight loop."""
    payloads = [b"", b"a", b"a" * 125, b"a" * 126, "ä".encode(), b"a" * 127, b"a" * 65_535]
    parsed = _Watched(65_535).feed(b"".join(frame(TEXT, payload) for payload in payloads))
    assert parsed == Parsed(payloads, [], len(payloads), None)
    assert _Watched(65_535).feed(frame(TEXT, b"ok")).messages == [b"ok"], "the shortest with a head like any other's"


def test_plain_frames_cut_anywhere() -> None:
    """A frame that is not whole waits for its rest, wherever it was cut, also in the tight loop."""
    payloads = [b"", b"abcde", b"x" * 126, b"fghij" * 10]
    stream = b"".join(frame(TEXT, payload) for payload in payloads)
    for cut in range(len(stream) + 1):
        assert feed(stream[:cut], stream[cut:]) == Parsed(payloads, [], len(payloads), None)


def test_a_frame_comes_out_with_its_last_byte() -> None:
    """Nothing behind it is waited for, wherever it begins in what came together."""
    payloads = [b"x" * size for size in (*range(40), 125, 126, 127, 128)]
    start, stream = 0, b"".join(frame(TEXT, payload) for payload in payloads)
    for number, payload in enumerate(payloads, 1):
        end = start + len(frame(TEXT, payload))
        for cut in range(start, end):
            assert feed(stream[:cut], stream[cut:end]).messages == payloads[:number]
        start = end


def test_a_close_frame_does_not_count_as_message() -> None:
    """The server may close in the middle of a message that has reached the limit."""
    parsed = feed(frame(TEXT, b"x" * 125, final=False), close_frame(1001), limit=125)
    assert parsed == Parsed([], [], 2, CloseReceived(1001, ""))
