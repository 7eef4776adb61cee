"""One value of a message, strictly: what is not of the documented type is refused, never converted.

Each reader takes a value as a JSON engine gave it and returns it as an event holds it, or raises `Misfit`.  They have
the shape of cattrs' hooks: the value, and the type to make of it, which these need not be told.  Neighbours: `_codec`
gives them to cattrs, `_dicts` and `_structs` ask them where they cannot be sure themselves.  It must never convert.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from math import isfinite
from typing import Any, Final

__all__ = ["Absent", "Misfit", "decimal_number", "float_number", "json_type", "moment", "text", "whole_number"]


class Misfit(Exception):
    """A value is not what the vendor's page says; the text names what was expected and what came, never the value."""

    def __init__(self, expected: str, found: str, *, where: str = "") -> None:
        super().__init__(f"{where and where + ': '}expected {expected}, got {found}")


class Absent:
    """Stands for a key that is not there."""


_JSON_TYPES: Final[Mapping[type, str]] = {
    Absent: "nothing",
    bool: "a boolean",
    dict: "an object",
    list: "an array",
    str: "a string",
    type(None): "null",
}


def json_type(value: object) -> str:
    """What a value is, in JSON's words."""
    return _JSON_TYPES.get(type(value), "a number")


def text(value: Any, _type: Any) -> str:
    """A string."""
    if type(value) is str:
        return value
    raise Misfit("a string", json_type(value))


def whole_number(value: Any, _type: Any) -> int:
    """A number without fraction or exponent."""
    if type(value) is int:
        return value
    found = "one with a fraction or exponent" if type(value) in (float, Decimal) else json_type(value)
    raise Misfit("a whole number", found)


def float_number(value: Any, _type: Any) -> float:
    """A number that a `float` can hold."""
    if type(value) is float and isfinite(value):
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            pass
    elif type(value) is not float:
        raise Misfit("a number", json_type(value))
    raise Misfit("a number", "one too large for a float")


def decimal_number(value: Any, _type: Any) -> Decimal:
    """The exact number; what no float could hold is refused here too, so that both modes accept the same frames."""
    if type(value) not in (int, float, Decimal):
        raise Misfit("a number", json_type(value))
    try:
        sane = type(value) is not float and isfinite(float(value))
    except OverflowError:
        sane = False
    if not sane:
        raise Misfit("a number", "one too large for a float")
    return Decimal(value)


_PLAIN_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{3}|\.\d{6})?Z", re.ASCII).fullmatch
"""The usual spelling, which every `datetime.fromisoformat` since 3.7 reads alike once its Z is an offset."""
_ANY_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
    r"(?:[Zz]|([+-])([01]\d|2[0-3])(?::?([0-5]\d))?)?",
    re.ASCII,
).fullmatch
_LONGEST_TIME: Final = 100
"""Characters a time may have: trying where a million digits could end takes half a second."""
_A_TIME: Final = "an ISO 8601 date and time"


def moment(value: Any, _type: Any) -> datetime:
    """An ISO 8601 date and time as an aware `datetime` in UTC; without an offset it is UTC, digits past µs are cut."""
    if type(value) is not str:
        raise Misfit(_A_TIME, json_type(value))
    try:
        if _PLAIN_TIME(value):
            return datetime.fromisoformat(value[:-1] + "+00:00")
        return _any_time(value)
    except (ValueError, OverflowError):
        raise Misfit(_A_TIME, "a string that is none") from None


def _any_time(text: str) -> datetime:
    """Read what `_ANY_TIME` describes.

    Raises:
        ValueError: it does not match, or a part is out of range.
        OverflowError: in UTC it lies before year 1 or after year 9999.
    """
    match = _ANY_TIME(text) if len(text) <= _LONGEST_TIME else None
    if match is None:
        raise ValueError("no ISO 8601 date and time")
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    micros = int(((fraction or "") + "000000")[:6])
    local = datetime(
        int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micros, tzinfo=timezone.utc
    )
    if sign is None:
        return local
    offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes or 0))
    return local - offset if sign == "+" else local + offset
