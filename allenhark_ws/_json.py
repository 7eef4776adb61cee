"""JSON text to Python values, strictly: the plain reader every faster one is measured and tested against.

Stricter than `json.loads` where RFC 8259 is: NaN and Infinity are no JSON (section 6), and bytes must be UTF-8 (section
8.1; `json.loads` would let surrogates through).  Neighbours: `_codec` reads frames with it, `events` re-reads a frame
for `.extra`.  It must never accept what RFC 8259 does not.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from typing import Any, Final, NoReturn, TypeGuard

__all__ = ["InvalidJSON", "is_object", "parse", "scanner"]


_SMALL: Final = 65_536
"""Bytes of a text that may be made of whatever it likes."""

_MAX_VALUES: Final = 16_384
"""Values, about, that a larger one may have (RFC 8259, section 9 lets a reader set limits).

Each can take sixty times the bytes it is written with: a million bytes of ``{"":0},`` become 64 MB (measured).
"""


_WIDE: Final = re.compile(rb"[\xf0-\xf4]").search
"""Finds a letter beyond U+FFFF in UTF-8: with one of them Python keeps every letter of a text in four bytes."""

_CONTINUATIONS: Final = bytes(range(0x80, 0xC0))
"""What UTF-8 goes on with: there are as many letters as other bytes."""

_ESCAPED_LETTER: Final = re.compile(rb"\\[\x80-\xff]").search
_LETTERS: Final = re.compile(r"[^\x00-\x7f]+")
_PIECE: Final = 16_384


class InvalidJSON(ValueError):
    """The text is not JSON; the message says why, without quoting the text."""


def _has_too_many_values(raw: bytes) -> bool:
    """Whether there are too many commas and opening brackets outside strings."""
    if len(raw) <= _SMALL or _marks(raw, 0, len(raw)) <= _MAX_VALUES:
        return False
    plain = raw.replace(b"\\\\", b"").replace(b'\\"', b"")  # each quote left begins or ends a string
    found = position = 0
    while found <= _MAX_VALUES and position >= 0:
        opening = plain.find(b'"', position)
        found += _marks(plain, position, opening if opening >= 0 else len(plain))
        closing = plain.find(b'"', opening + 1) if opening >= 0 else -1
        position = closing + 1 if closing >= 0 else -1
    return found > _MAX_VALUES


def _marks(raw: bytes, start: int, end: int) -> int:
    return raw.count(b",", start, end) + raw.count(b"[", start, end) + raw.count(b"{", start, end)


def _text(raw: bytes) -> str:
    """The text, or one that means the same and takes less memory.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
        InvalidJSON: it is no JSON, and what takes less memory would be.
    """
    if len(raw) <= _SMALL or not _WIDE(raw) or 8 * len(raw.translate(None, _CONTINUATIONS)) <= 5 * len(raw):
        return str(raw, "utf-8")
    return _in_ascii(raw)


def _in_ascii(raw: bytes) -> str:
    """The text with escapes for all that is not ASCII (RFC 8259, section 7).

    Else a million letters, with a wide one among them, would be there twice at four bytes each, in the text and in the
    value it becomes: 8 MB instead of 5.
    """
    if _ESCAPED_LETTER(raw.replace(b"\\\\", b"")):  # each backslash left begins an escape, which would eat another
        raise InvalidJSON("not JSON: Invalid \\escape")
    pieces = codecs.iterdecode((raw[start : start + _PIECE] for start in range(0, len(raw), _PIECE)), "utf-8")
    return "".join(_LETTERS.sub(lambda letters: encode_basestring_ascii(letters[0])[1:-1], piece) for piece in pieces)


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidJSON(f"{name} is no JSON number")


def _exact(text: str) -> Decimal:
    """The exact number; one with an exponent that no `Decimal` can hold is what it is as a `float`: infinite or 0."""
    try:
        return Decimal(text)
    except ArithmeticError:
        return Decimal(float(text))


_FLOATS = json.JSONDecoder(parse_constant=_refuse_constant)
_DECIMALS = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_exact)


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether a value of a JSON text is an object."""
    return type(value) is dict


def scanner(*, decimal: bool) -> Callable[[str, int], tuple[Any, int]]:
    """The C function behind `parse`: from a text and a position, the value that starts there and where it ends.

    Args:
        decimal: as for `parse`.

    It raises `StopIteration` where no value starts, and what `json.JSONDecoder.decode` raises.
    """
    decoder: Any = _DECIMALS if decimal else _FLOATS  # typeshed does not know `scan_once`
    scan: Callable[[str, int], tuple[Any, int]] = decoder.scan_once
    return scan


def parse(raw: bytes, *, decimal: bool = False) -> Any:
    """Read one JSON text.

    Args:
        raw: UTF-8 bytes.
        decimal: numbers with a fraction or exponent become exact `Decimal` instead of `float`.

    Raises:
        InvalidJSON: not UTF-8, not JSON, nested deeper than the interpreter can follow, more values than are taken, or
            a number it cannot hold.
    """
    if _has_too_many_values(raw):
        raise InvalidJSON(f"more than {_MAX_VALUES} values")
    decoder = _DECIMALS if decimal else _FLOATS
    try:
        return decoder.decode(_text(raw))
    except InvalidJSON:
        raise
    except UnicodeDecodeError:
        reason = "not UTF-8"
    except json.JSONDecodeError as error:
        is_as_it_came = raw.isascii() or not error.doc.isascii()
        reason = f"not JSON: {error.msg}" + (f" at character {error.pos}" if is_as_it_came else "")
    except RecursionError:
        reason = "nested too deeply"
    except ValueError:
        reason = "a number has too many digits"
    raise InvalidJSON(reason)
