"""WebSocket frames: bytes in, whole messages out; the receiving half of RFC 6455 without any I/O.

Whole, unmasked, unfragmented text frames, nearly all the traffic there is, are cut out of the buffer in one tight loop;
everything else takes the slower path below it, where each rule stands with its section of RFC 6455.  Neighbours:
`_transport` feeds it.  It must never take more than linear time or bounded memory, whatever the peer sends, in whatever
pieces.
"""

from __future__ import annotations

import codecs
import struct
from collections import deque
from typing import Final

from attrs import define, field, frozen

__all__ = ["BinaryMessage", "CloseReceived", "FrameReader", "Parsed", "Violation"]

MAX_FRAGMENTS: Final = 16_384
"""Frames one message may come in at least; empty ones cost the peer two bytes and would otherwise never end."""

SMALL_FRAGMENT: Final = 64
"""A message of the largest size may come in fragments of so many bytes, however many these are."""

MAX_PONGS: Final = 16
"""Pings waiting to be answered at one time: more than an honest peer has under way, and 2 KiB at most."""

NO_STATUS: Final = 1005
"""Stands for a close frame without a code (RFC 6455, section 7.4.1)."""

_PIECE: Final = 65_536

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_OPCODES: Final = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
_MAX_CONTROL: Final = 125
_PROTOCOL_ERROR, _INVALID_DATA, _TOO_BIG = 1002, 1007, 1009

# The head of a final, unmasked text frame as one 16-bit number: 0x81, then the length or 126.
_PLAIN: Final = 0x8100
_PLAIN_WIDE: Final = _PLAIN + 126
_two_shorts = struct.Struct("!HH").unpack_from
_short = struct.Struct("!H").unpack_from
_quad = struct.Struct("!Q").unpack_from
_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class BinaryMessage(bytes):
    """The payload of a binary message; text messages are plain `bytes`."""

    __slots__ = ()


@frozen
class CloseReceived:
    """The peer sent a close frame.

    Attributes:
        code: its close code, 1005 when it had none.
        reason: its reason, or empty.
    """

    code: int
    reason: str


@frozen
class Violation:
    """The peer broke a rule and the connection has to be failed (RFC 6455, section 7.1.7).

    Attributes:
        code: the close code to send: 1002 protocol error, 1007 bad UTF-8, 1009 too big.
        text: what it did, in words.
    """

    code: int
    text: str


@define
class Parsed:
    """What one `FrameReader.feed` completed.

    Attributes:
        messages: payloads in order of arrival: text (checked UTF-8) as `bytes`, binary as `BinaryMessage`.
        pongs: payloads of the pings to answer, in order of arrival; of more than `MAX_PONGS` the latest, since
            RFC 6455, section 5.5.3 lets earlier ones go unanswered.
        frames: complete frames of any kind, fragments and control frames included.
        end: why nothing more will come, or None.
    """

    messages: list[bytes] = field(factory=lambda: [])
    pongs: list[bytes] = field(factory=lambda: [])
    frames: int = 0
    end: CloseReceived | Violation | None = None


class _Broken(Exception):
    def __init__(self, code: int, text: str) -> None:
        self.violation = Violation(code, text)


@frozen
class _Head:
    """A frame's head: what it announces, where its payload starts and ends in the buffer."""

    final: bool
    opcode: int
    start: int
    end: int


class FrameReader:
    """Turns the bytes of one connection into messages.

    Args:
        max_message_size: bytes a message may have, at least 125; a larger one is refused as soon as its head is there.
    """

    def __init__(self, max_message_size: int) -> None:
        self._limit = max_message_size
        self._wide_limit = min(max_message_size, 0xFFFF)
        self._max_fragments = max(MAX_FRAGMENTS, max_message_size // SMALL_FRAGMENT)
        self._partial = bytearray()  # the start of a frame that is not complete yet
        self._need = 2  # bytes of it before looking again is worth while
        self._opcode = 0  # of the fragmented message under way, 0 for none
        self._message = bytearray()
        self._fragments = 0
        self._decoder = _Utf8Decoder()
        self._ended = False

    def feed(self, data: bytes) -> Parsed:
        """Take bytes as they came and give what they completed; never raises.

        What was complete before a violation or a close is in `Parsed.messages` still; bytes after it are ignored.
        """
        parsed = Parsed([], [])
        if self._ended:
            return parsed
        if self._partial:
            if len(self._partial) + len(data) < self._need:
                self._partial += data
                return parsed
            data = b"".join((self._partial, data))
            self._partial = bytearray()  # let go of it before the message is copied out
        try:
            position = self._cut_all(data, parsed)
        except _Broken as broken:
            parsed.end = broken.violation
            position = len(data)
        if position < len(data):
            self._partial = bytearray(data[position:])
        if parsed.end is not None:
            self._ended = True
            self._partial = self._message = bytearray()
        return parsed

    def _cut_all(self, data: bytes, parsed: Parsed) -> int:
        """Cut every complete frame; returns where the first incomplete one starts."""
        position = 0
        while parsed.end is None:
            if not self._opcode:
                before = len(parsed.messages)
                position = self._cut_plain(data, position, parsed.messages)
                parsed.frames += len(parsed.messages) - before
                if position == len(data):
                    break
            head = self._head(data, position)
            if head is None or head.end > len(data):
                self._need = (head.end - position) if head else self._need
                break
            position = head.end
            parsed.frames += 1
            self._take(head, data[head.start : head.end], parsed)
        return position

    def _cut_plain(self, data: bytes, position: int, messages: list[bytes]) -> int:
        """The tight loop: stops in front of the first frame that is not a good, whole, plain text frame."""
        size = len(data)
        last = size - 4
        wide_limit = self._wide_limit
        append = messages.append
        while position <= last:
            head, wide = _two_shorts(data, position)
            if _PLAIN <= head < _PLAIN_WIDE:
                start = position + 2
                end = start + head - _PLAIN
            elif head == _PLAIN_WIDE and 126 <= wide <= wide_limit:
                start = position + 4
                end = start + wide
            else:
                break
            if end > size:
                break
            payload = data[start:end]
            if not payload.isascii() and not _is_utf8(payload):
                break
            append(payload)
            position = end
        return position

    def _head(self, data: bytes, position: int) -> _Head | None:
        """Read and check a frame's head; None, with `_need` set, when there is not enough of it."""
        available = len(data) - position
        if available < 2:
            self._need = 2
            return None
        first, second = data[position], data[position + 1]
        opcode, final, length = first & 0x0F, bool(first & 0x80), second & 0x7F
        self._check_head(first, second, opcode, final=final, length=length)
        width = {126: 4, 127: 10}.get(length, 2)
        if available < width:
            self._need = width
            return None
        if width > 2:
            length = self._wide_length(data, position, width)
        self._check_size(opcode, length)
        start = position + width
        return _Head(final, opcode, start, start + length)

    def _check_head(self, first: int, second: int, opcode: int, *, final: bool, length: int) -> None:
        if first & 0x70:  # section 5.2: no extension was negotiated that could give them a meaning
            raise _Broken(_PROTOCOL_ERROR, "a frame with reserved bits set")
        if opcode not in _OPCODES:  # section 5.2
            raise _Broken(_PROTOCOL_ERROR, f"a frame with the unknown opcode {opcode}")
        if second & 0x80:  # section 5.1
            raise _Broken(_PROTOCOL_ERROR, "a masked frame, which only clients may send")
        if opcode >= _CLOSE:  # section 5.5
            if not final:
                raise _Broken(_PROTOCOL_ERROR, "a fragmented control frame")
            if length > _MAX_CONTROL:
                raise _Broken(_PROTOCOL_ERROR, "a control frame of more than 125 bytes")
        elif opcode == _CONTINUATION and not self._opcode:  # section 5.4
            raise _Broken(_PROTOCOL_ERROR, "a continuation frame with nothing to continue")
        elif opcode != _CONTINUATION and self._opcode:  # section 5.4
            raise _Broken(_PROTOCOL_ERROR, "a new message inside a fragmented one")

    @staticmethod
    def _wide_length(data: bytes, position: int, width: int) -> int:
        """An extended length; section 5.2 demands the shortest form and a most significant bit of 0."""
        length: int = (_short if width == 4 else _quad)(data, position + 2)[0]
        if length < (126 if width == 4 else 1 << 16):
            raise _Broken(_PROTOCOL_ERROR, f"a frame length of {length} not written in its shortest form")
        if length >= 1 << 63:
            raise _Broken(_PROTOCOL_ERROR, "a frame length of 2^63 or more")
        return length

    def _check_size(self, opcode: int, length: int) -> None:
        if opcode >= _CLOSE:
            return
        total = len(self._message) + length
        if total > self._limit:
            raise _Broken(_TOO_BIG, f"a message of {total} bytes or more, above max_message_size={self._limit}")
        if self._fragments >= self._max_fragments:
            raise _Broken(_TOO_BIG, f"a message of more than {self._max_fragments} fragments")

    def _take(self, head: _Head, payload: bytes, parsed: Parsed) -> None:
        """Act on a whole frame whose head is in order."""
        if head.opcode == _CLOSE:
            parsed.end = _read_close(payload)
        elif head.opcode == _PING:
            parsed.pongs.append(payload)
            del parsed.pongs[:-MAX_PONGS]
        elif head.opcode != _PONG:
            self._take_fragment(head, payload, parsed)

    def _take_fragment(self, head: _Head, payload: bytes, parsed: Parsed) -> None:
        """Add a data frame to the message it belongs to, which it may start, end, or be the whole of."""
        if head.final and not self._opcode:
            self._take_whole(head.opcode, payload, parsed)
            return
        self._opcode = self._opcode or head.opcode
        self._fragments += 1
        self._message += payload
        if self._opcode == _TEXT:
            self._check_text(payload, final=head.final)
        if head.final:
            whole = bytes(self._message)
            parsed.messages.append(whole if self._opcode == _TEXT else BinaryMessage(whole))
            self._opcode = self._fragments = 0
            self._message = bytearray()

    def _take_whole(self, opcode: int, payload: bytes, parsed: Parsed) -> None:
        """Take a message that is one frame, as it is: a large one is not copied again."""
        if opcode == _BINARY:
            parsed.messages.append(BinaryMessage(payload))
        elif payload.isascii() or _is_utf8(payload):
            parsed.messages.append(payload)
        else:
            raise _Broken(_INVALID_DATA, "a text message that is not UTF-8")

    def _check_text(self, payload: bytes, *, final: bool) -> None:
        """Fail on the first fragment that cannot be UTF-8 any more (section 8.1), without waiting for the rest."""
        try:
            self._decoder.decode(payload, final)
        except UnicodeDecodeError:
            problem = True
        else:
            problem = False
        if problem:
            raise _Broken(_INVALID_DATA, "a text message that is not UTF-8")


def _is_utf8(payload: bytes) -> bool:
    """Whether it is; a large one is looked at in pieces, since as a text it can take four times its bytes."""
    try:
        if len(payload) <= _PIECE:
            str(payload, "utf-8")
        else:
            pieces = (payload[start : start + _PIECE] for start in range(0, len(payload), _PIECE))
            deque(codecs.iterdecode(pieces, "utf-8"), maxlen=0)
    except UnicodeDecodeError:
        return False
    return True


def _read_close(payload: bytes) -> CloseReceived:
    """Read a close frame's payload: nothing, or a code and a UTF-8 reason (section 5.5.1)."""
    if not payload:
        return CloseReceived(NO_STATUS, "")
    if len(payload) == 1:
        raise _Broken(_PROTOCOL_ERROR, "a close frame with half a code")
    code: int = _short(payload)[0]
    if not _may_be_sent(code):
        raise _Broken(_PROTOCOL_ERROR, f"a close frame with the invalid code {code}")
    if not _is_utf8(payload[2:]):
        raise _Broken(_INVALID_DATA, "a close reason that is not UTF-8")
    return CloseReceived(code, str(payload[2:], "utf-8"))


def _may_be_sent(code: int) -> bool:
    """Sections 7.4.1 and 7.4.2, and the codes 1012 to 1014 that IANA's registry has added since."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
