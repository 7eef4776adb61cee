"""Payloads that are read together against the same ones read alone: whatever stands in them, nobody gets another's."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("msgspec", reason="needs the extra speed")

from allenhark_ws._frames import BinaryMessage
from allenhark_ws._strict import Misfit, moment
from allenhark_ws._structs import _BORDER, _MANY, _moment, _Reader

from .scripted import price

READER = _Reader()
PRICES = [json.dumps(price(mint, number)).encode() for number, mint in enumerate("abcdefgh")]
WHOLE = PRICES[0].decode()
HALVES = [WHOLE[:cut] for cut in range(1, len(WHOLE))] + [WHOLE[cut:] for cut in range(1, len(WHOLE))]
CRAFTED = [
    *(f"{WHOLE},{WHOLE}", f"{WHOLE},0", f"{WHOLE}\n,\n{WHOLE}", f"{WHOLE},0\n,{WHOLE}", f"{WHOLE}]", f"[{WHOLE}"),
    *("", " ", "0", "1", "1,1", "]", "[", "],[", "0]", ",", ",0\n,", "\n", "null", "{}", "[]", '"', '","', "}", "{"),
    *('{"type":"price_update","mint":"}', '{"}', '","price":1,"volume":1,"timestamp":"2024-01-15T10:30:00Z"}'),
    *('{"type":"bot_update","botId":"b","event":"e","data":{}', '{"x":[{}', "{}]}", '"x":1}', "NaN", "1e999", WHOLE),
]


def alone(payloads: Sequence[bytes]) -> list[object]:
    """The message of each payload, read by itself."""
    return [READER._read_one(payload) for payload in payloads]


def agree(payloads: Sequence[bytes]) -> bool:
    """Whether reading them together gives what reading each alone does, or does not work."""
    found = READER._read_together(payloads)
    # An integer is no message: it stands for nothing here.
    return found is None or [None if type(each) is int else each for each in found] == alone(payloads)


def test_good_ones_are_read_together() -> None:
    """As many as make it worth while; each gets its own."""
    for count in range(_MANY, len(PRICES) + 1):
        found = READER._read_together(PRICES[:count])
        assert found is not None
        assert [message.mint for message in found] == list("abcdefgh"[:count])
        assert READER.read(PRICES[:count]) == found


@pytest.mark.parametrize("odd", CRAFTED)
def test_one_odd_one_among_good_ones(odd: str) -> None:
    """It costs the others nothing."""
    payloads = [*PRICES[:2], odd.encode(), *PRICES[2:4]]
    assert agree(payloads)
    messages = list(READER.read(payloads))
    assert [getattr(message, "mint", None) for message in messages[:2] + messages[3:]] == list("abcd")


def test_pairs_that_fit_together() -> None:
    """Two payloads that are one message when only a comma parts them, beside one that is two: the number is right."""
    some = [*CRAFTED, *HALVES[:: len(HALVES) // 16]]
    for one, other in itertools.product(some, some):
        assert agree([f"{WHOLE},{WHOLE}".encode(), one.encode(), other.encode(), PRICES[1]])
    for cut in range(1, len(WHOLE)):
        assert agree([f"{WHOLE},{WHOLE}".encode(), WHOLE[:cut].encode(), WHOLE[cut:].encode(), PRICES[1]])


@given(st.lists(st.sampled_from([*CRAFTED, *HALVES]) | st.text('{}[]",:0\n ', max_size=6), min_size=2, max_size=8))
def test_any_payloads(texts: list[str]) -> None:
    """Whatever is combined."""
    assert agree([text.encode() for text in texts])


def test_a_binary_payload_is_no_message() -> None:
    """Its neighbours are."""
    messages = list(READER.read([*PRICES[:4], BinaryMessage(PRICES[4]), PRICES[5]]))
    assert [getattr(message, "mint", None) for message in messages] == ["a", "b", "c", "d", None, "f"]


def test_what_is_not_utf_8_is_no_message() -> None:
    """Its neighbours are."""
    broken = PRICES[4].replace(b'"e"', b'"\xff"')
    messages = list(READER.read([*PRICES[:4], broken, PRICES[5]]))
    assert [getattr(message, "mint", None) for message in messages] == ["a", "b", "c", "d", None, "f"]


def test_a_border_cannot_be_part_of_anything() -> None:
    """It has a line break, which no string may have, and a 0, which is no key."""
    for text in (
        f'{{"type":"price_update","mint":"{_BORDER.decode()}"}}',
        f'{{"type":"price_update"{_BORDER.decode()}"mint":"a"}}',
    ):
        assert READER._read_one(text.encode()) is None


@pytest.mark.parametrize("text", ["2024-01-15T10:30:00Z", "2024-01-15T10:30:00.123Z", "2024-01-15T10:30:00.123456Z"])
def test_a_timestamp_with_another_character_means_the_same_as_ever(text: str) -> None:
    """Above all with a NUL, where msgspec would stop reading and take what stands before for all."""
    for place, other in itertools.product(range(len(text)), "\0 0:.-+ZzTt٣é"):
        spoilt = text[:place] + other + text[place + 1 :]
        assert _read(_moment, spoilt) == _read(moment, spoilt)


def _read(reader: Callable[[str, object], datetime], text: str) -> tuple[datetime, str] | None:
    """The time and its zone, or None when the text is no timestamp."""
    try:
        found = reader(text, None)
    except Misfit:
        return None
    return found, str(found)
