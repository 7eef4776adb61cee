"""The format: which bytes a frame becomes in a recording, and back.

A header line, then a line of JSON for each frame: when it was received (ISO 8601, UTC, microseconds) and what it held,
``raw`` for text and ``base64`` for what is no UTF-8 text.  Neighbours: `_files` writes what this makes, `_reader` reads
with it.  It must never open a file.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, Final

from .._frames import BinaryMessage
from .._json import InvalidJSON, is_object, parse, scanner
from .._strict import Misfit, json_type, moment

__all__ = ["HEADER", "Damaged", "check_header", "decode", "encode", "read_stamp"]

_FORMAT: Final = "allenhark-ws"
_VERSION: Final = 1

HEADER: Final = f"{json.dumps({'format': _FORMAT, 'version': _VERSION})}\n".encode()
"""The first line of every recording."""

_quote = json.JSONEncoder(ensure_ascii=False).encode
_scan = scanner(decimal=False)

_AT: Final = '{"at": "'
_RAW: Final = '+00:00", "raw": "'
_STAMP_ENDS: Final = len(_AT) + len("2026-01-02T03:04:05.123456+00:00")
_RAW_BEGINS: Final = _STAMP_ENDS + len('", "raw": ')

_is_ours = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d\.\d{6}\+00:00", re.ASCII).fullmatch
"""The spelling that `encode` writes, which every `datetime.fromisoformat` since 3.7 reads alike; not so of others."""


class Damaged(Exception):
    """A line is not what a recording has there; the text says why, without quoting it."""


def encode(at: datetime, messages: Sequence[bytes]) -> list[bytes]:
    """The lines of frames that came with one read.

    Args:
        at: when they were read, aware.
        messages: their payloads; exactly `bytes` for text, any other type means binary.
    """
    head = f'{_AT}{at.astimezone(timezone.utc).isoformat(timespec="microseconds")}", '
    return [_line(head, message) for message in messages]


def _line(head: str, message: bytes) -> bytes:
    if type(message) is bytes:
        try:
            return f'{head}"raw": {_quote(str(message, "utf-8"))}}}\n'.encode()
        except UnicodeDecodeError:  # a scripted connection may bring what a real one refuses
            pass
    return f'{head}"base64": "{base64.b64encode(message).decode()}"}}\n'.encode()


def decode(line: bytes) -> tuple[str, bytes] | None:
    """The frame of one line, given without its line break.

    Returns:
        When it was received, for `read_stamp`, and its payload, a `BinaryMessage` if it is no UTF-8 text; None for a
        header, which may come again where recordings were joined.

    Raises:
        Damaged: it is no line of a recording.
    """
    try:
        text = str(line, "utf-8")
        if text.startswith(_RAW, _STAMP_ENDS - 6) and text.startswith(_AT):  # as `encode` has it, at half the price
            raw, end = _scan(text, _RAW_BEGINS)
            if text[end:] == "}":
                return text[len(_AT) : _STAMP_ENDS], raw.encode()
    except (ValueError, StopIteration):
        pass  # what is wrong with it is found out below
    return _decode_any(line)


def _decode_any(line: bytes) -> tuple[str, bytes] | None:
    try:
        entry = parse(line)
    except InvalidJSON as error:
        raise Damaged(str(error)) from None
    if not is_object(entry):
        raise Damaged(f"expected an object, got {json_type(entry)}")
    if "format" in entry:
        _check(entry)
        return None
    return _text(entry, "at"), _payload(entry)


def _payload(entry: dict[str, Any]) -> bytes:
    try:
        if "base64" in entry:
            return BinaryMessage(base64.b64decode(_text(entry, "base64"), validate=True))
        return _text(entry, "raw").encode()
    except (binascii.Error, UnicodeEncodeError):
        raise Damaged("the frame's content cannot be read") from None


def _text(entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise Damaged(f'no text under "{key}"')
    return value


def _check(header: dict[str, Any]) -> None:
    if header["format"] != _FORMAT:
        raise Damaged("it is of another format than allenhark-ws")
    if header.get("version") != _VERSION:
        raise Damaged(f"this version of allenhark_ws reads version {_VERSION} of the format only; install a newer one")


def check_header(line: bytes) -> None:
    """Make sure that a recording's first line is one.

    Raises:
        Damaged: it is not, or it is of another version.
    """
    try:
        header = parse(line)
    except InvalidJSON:
        header = None
    if not (is_object(header) and "format" in header):
        raise Damaged("this is no recording: its first line is not the header of one")
    _check(header)


def read_stamp(stamp: str) -> datetime:
    """When a frame was received, aware, UTC; what is read is the same on every version of Python.

    Raises:
        Damaged: it is no time.
    """
    try:
        if _is_ours(stamp):
            return datetime.fromisoformat(stamp)
        return moment(stamp, None)
    except (ValueError, Misfit):
        raise Damaged('no time under "at"') from None
