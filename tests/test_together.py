"""Payloads that are read together against the same ones read alone: whatever stands in them, nobody gets another's."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws._dicts import _Reader as Dicts
from allenhark_ws._frames import BinaryMessage
from allenhark_ws._json import InvalidJSON, parse
from allenhark_ws._lanes import BORDER, LARGEST_PAYLOAD, MANY, MOST_TOGETHER, joined
from allenhark_ws._transport import READ_SIZE

from .scripted import price


class OfDicts:
    """The reader of the standard library."""

    reader: Any = Dicts(decimal=False)

    def alone(self, payload: bytes) -> object:
        """The message by the plain way: an object, or None."""
        try:
            found = parse(payload)
        except InvalidJSON:
            return None
        return found if type(found) is dict else None

    def messages(self, found: Sequence[Any]) -> list[object]:
        """What is a message of what was found, and None instead of the rest."""
        return [each if type(each) is dict else None for each in found]

    def mint(self, message: Any) -> str | None:
        """The mint of a price."""
        return message["mint"] if type(message) is dict and message.get("type") == "price_update" else None


class OfStructs:
    """msgspec's."""

    def __init__(self) -> None:
        pytest.importorskip("msgspec", reason="needs the extra speed")
        self.reader: Any = import_module("allenhark_ws._structs")._Reader()

    def alone(self, payload: bytes) -> object:
        """The message, read by itself."""
        return self.reader._read_one(payload)

    def messages(self, found: Sequence[Any]) -> list[object]:
        """An integer is no message: it stands for nothing here."""
        return [None if type(each) is int else each for each in found]

    def mint(self, message: Any) -> str | None:
        """The mint of a price."""
        return getattr(message, "mint", None)


Way = OfDicts | OfStructs


@pytest.fixture(params=[OfDicts, OfStructs], ids=["dicts", "structs"], scope="module")
def way(request: pytest.FixtureRequest) -> Any:
    """Each reader that reads payloads together."""
    return request.param()


PRICES = [json.dumps(price(mint, number)).encode() for number, mint in enumerate("abcdefgh")]
WHOLE = PRICES[0].decode()
HALVES = [WHOLE[:cut] for cut in range(1, len(WHOLE))] + [WHOLE[cut:] for cut in range(1, len(WHOLE))]
CRAFTED = [
    *(f"{WHOLE},{WHOLE}", f"{WHOLE},0", f"{WHOLE}\n,\n{WHOLE}", f"{WHOLE},0\n,{WHOLE}", f"{WHOLE}]", f"[{WHOLE}"),
    *("", " ", "0", "1", "1,1", "]", "[", "],[", "0]", ",", ",0\n,", "\n", "null", "{}", "[]", '"', '","', "}", "{"),
    *('{"type":"price_update","mint":"}', '{"}', '","price":1,"volume":1,"timestamp":"2024-01-15T10:30:00Z"}'),
    *('{"type":"bot_update","botId":"b","event":"e","data":{}', '{"x":[{}', "{}]}", '"x":1}', "NaN", "1e999", WHOLE),
]


def agree(way: Way, payloads: Sequence[bytes]) -> bool:
    """Whether reading them together gives what reading each alone does, or does not work."""
    found = way.reader._read_together(payloads)
    return found is None or way.messages(found) == [way.alone(payload) for payload in payloads]


def test_good_ones_are_read_together(way: Way) -> None:
    """As many as make it worth while; each gets its own."""
    for count in range(MANY, len(PRICES) + 1):
        found = way.reader._read_together(PRICES[:count])
        assert found is not None
        assert [way.mint(message) for message in found] == list("abcdefgh"[:count])
        assert way.reader.read(PRICES[:count]) == found


def test_those_of_the_usual_size_are_read_together(way: Way) -> None:
    """With a mint of 44 characters and a signature of 88, each kind; it is they that come by the thousand."""
    mint, time, name = "m" * 44, "2024-01-15T10:30:00.123456Z", "a-bot-with-a-long-name"
    trade = {"signature": "s" * 88, "profit": -0.000123456789, "timestamp": time}
    kinds = [
        {"type": "price_update", "mint": mint, "price": 0.000123456789, "volume": 1234567.891, "timestamp": time},
        {"type": "transaction_confirmed", "signature": "s" * 88, "status": "confirmed", "slot": 250123456},
        {"type": "bot_update", "botId": name, "event": "trade_executed", "data": trade},
    ]
    found = way.reader._read_together([json.dumps(kind).encode() for kind in kinds])
    assert found is not None
    assert [way.mint(message) for message in found] == [mint, None, None]


@pytest.mark.parametrize("odd", CRAFTED)
def test_one_odd_one_among_good_ones(way: Way, odd: str) -> None:
    """It costs the others nothing."""
    payloads = [*PRICES[:2], odd.encode(), *PRICES[2:4]]
    assert agree(way, payloads)
    messages = list(way.reader.read(payloads))
    assert [way.mint(message) for message in messages[:2] + messages[3:]] == list("abcd")


def test_pairs_that_fit_together(way: Way) -> None:
    """Two payloads that are one message when only a comma parts them, beside one that is two: the number is right."""
    some = [*CRAFTED, *HALVES[:: len(HALVES) // 16]]
    for one, other in itertools.product(some, some):
        assert agree(way, [f"{WHOLE},{WHOLE}".encode(), one.encode(), other.encode(), PRICES[1]])
    for cut in range(1, len(WHOLE)):
        assert agree(way, [f"{WHOLE},{WHOLE}".encode(), WHOLE[:cut].encode(), WHOLE[cut:].encode(), PRICES[1]])


def test_an_array_that_takes_in_a_border(way: Way) -> None:
    """Two payloads become one element, and others have as many more: the number is right."""
    head = WHOLE[:-1].encode() + b',"more":[1'
    assert agree(way, [head, b"2]}", b"3,4,5", PRICES[1]])


@given(st.lists(st.sampled_from([*CRAFTED, *HALVES]) | st.text('{}[]",:0\n ', max_size=6), min_size=2, max_size=8))
def test_any_payloads(way: Way, texts: list[str]) -> None:
    """Whatever is combined."""
    assert agree(way, [text.encode() for text in texts])


def test_a_binary_payload_is_no_message(way: Way) -> None:
    """Its neighbours are."""
    messages = list(way.reader.read([*PRICES[:4], BinaryMessage(PRICES[4]), PRICES[5]]))
    assert [way.mint(message) for message in messages] == ["a", "b", "c", "d", None, "f"]


def test_what_is_not_utf_8_is_no_message(way: Way) -> None:
    """Its neighbours are."""
    broken = PRICES[4].replace(b'"e"', b'"\xff"')
    messages = list(way.reader.read([*PRICES[:4], broken, PRICES[5]]))
    assert [way.mint(message) for message in messages] == ["a", "b", "c", "d", None, "f"]


def test_a_border_cannot_be_part_of_anything(way: Way) -> None:
    """It has a line break, which no string may have, and a 0, which is no key."""
    for text in (
        f'{{"type":"price_update","mint":"{BORDER.decode()}"}}',
        f'{{"type":"price_update"{BORDER.decode()}"mint":"a"}}',
    ):
        assert way.alone(text.encode()) is None


def test_no_more_is_read_together_than_a_read_brings(way: Way) -> None:
    """A large payload among others would be copied once more; small ones are a read, and the end of one before it."""
    assert READ_SIZE + LARGEST_PAYLOAD < MOST_TOGETHER < 2**20
    most = MOST_TOGETHER // (len(PRICES[0]) + len(BORDER))
    assert way.reader._read_together(PRICES[:1] * most) is not None
    assert way.reader._read_together(PRICES[:1] * (most + 1)) is None


@pytest.mark.parametrize(("more", "is_joined"), [(0, True), (1, False)])
def test_the_largest_array(more: int, is_joined: bool) -> None:
    """Its brackets count."""
    payloads = [b"a" * (MOST_TOGETHER - len(BORDER) - 2 + more), b""]
    array = joined(payloads)
    assert (array is not None) is is_joined
    assert array is None or len(array) == MOST_TOGETHER


DEEP = [
    *('{"a":' * 100 + "1" + "}" * 100, '{"a":' * 101 + "1" + "}" * 101, '{"":' * 120 + "1" + "}" * 120),
    *('{"a":[1,2]}', '{"a":[' + "[" * 101, '{"a":"[' + "[" * 600 + '"}'),
]


@pytest.mark.parametrize("text", DEEP)
def test_deep_ones_are_read_alone(text: str) -> None:
    """And with them those that have an array, or look as if; what is found is the same."""
    reader = OfDicts.reader
    payloads = [*PRICES[:4], text.encode(), *PRICES[4:]]
    assert reader._read_together(payloads) is None or len(text) < 500
    found = list(reader.read(payloads))
    assert [OfDicts().mint(each) for each in found[:4] + found[5:]] == list("abcdefgh")
    assert found[4] == reader.read_one(text.encode())
