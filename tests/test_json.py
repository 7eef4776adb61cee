"""The strict JSON reader: what RFC 8259 allows, and nothing else."""

from __future__ import annotations

import json
import math
import tracemalloc
from decimal import Decimal
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from allenhark_ws._json import InvalidJSON, is_object, parse, scanner


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b'{"a": [1, -2.5, true, null, "\xc3\xa9"]}', {"a": [1, -2.5, True, None, "é"]}),
        (b' \t\r\n"x"\n', "x"),
        (b"18446744073709551616", 2**64),
        (b'{"a":1,"a":2}', {"a": 2}),
        (b'"\\ud800"', "\ud800"),
    ],
)
def test_json(raw: bytes, wanted: Any) -> None:
    """Any value may stand alone; whole numbers are exact, the last of two equal keys wins."""
    assert parse(raw) == wanted
    assert parse(raw, decimal=True) == wanted


def test_numbers_with_a_fraction() -> None:
    """`float`, or `Decimal` with every digit."""
    raw = b"[0.10000000000000000000000000001, 1e2, 3]"
    assert [repr(number) for number in parse(raw)] == ["0.1", "100.0", "3"]
    assert parse(raw, decimal=True) == [Decimal("0.10000000000000000000000000001"), Decimal(100), 3]
    assert [type(number) for number in parse(raw, decimal=True)] == [Decimal, Decimal, int]


def test_numbers_out_of_range() -> None:
    """Too large for a float is infinite, as the standard library has it; so is what no `Decimal` can hold."""
    assert parse(b"[1e999, -1e999]") == [math.inf, -math.inf]
    assert parse(b"[1e999]", decimal=True) == [Decimal("1e999")]
    odd = parse(b"[1e9999999999999999999, 1e-9999999999999999999]", decimal=True)
    assert [repr(number) for number in odd] == ["Decimal('Infinity')", "Decimal('0')"]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON: Expecting value at character 0"),
        (b"{", "not JSON: Expecting property name enclosed in double quotes at character 1"),
        (b"1 2", "not JSON: Extra data at character 2"),
        (b"\xef\xbb\xbf1", "not JSON: Expecting value at character 0"),
        (b"NaN", "NaN is no JSON number"),
        (b"[Infinity]", "Infinity is no JSON number"),
        (b'{"a":-Infinity}', "-Infinity is no JSON number"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b"[" * 65_536, "nested too deeply"),
        (b"9" * 10_000, "a number has too many digits"),
    ],
)
@pytest.mark.parametrize("decimal", [False, True])
def test_what_is_no_json(raw: bytes, reason: str, decimal: bool) -> None:
    """One kind of error, with a reason that does not quote the text."""
    with pytest.raises(InvalidJSON) as caught:
        parse(raw, decimal=decimal)
    assert str(caught.value) == reason
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":[' + b'{"":0},' * 20_000 + b"0]}",
        b"[" + b"1.5," * 20_000 + b"0]",
        b'["\\\\","\\"",' + b"[]," * 25_000 + b"0]",
        b'{"a":' * 20_000,
    ],
)
@pytest.mark.parametrize("decimal", [False, True])
def test_many_values(raw: bytes, decimal: bool) -> None:
    """A large text of tiny values, each of which would take many times its bytes, is not read."""
    with pytest.raises(InvalidJSON) as caught:
        parse(raw, decimal=decimal)
    assert str(caught.value) == "more than 16384 values"


@pytest.mark.parametrize(
    "text", ["," * 100_000, '"[{,' * 30_000, "\\" * 70_000 + "," * 20_000, '\\"' * 50_000 + "," * 20_000]
)
def test_large_texts_of_few_values(text: str) -> None:
    """What stands in strings is no value."""
    assert parse(json.dumps([text, {"a": text}]).encode()) == [text, {"a": text}]


def test_many_values_in_a_small_text() -> None:
    """Up to 64 KiB no value is counted: that much cannot do harm."""
    raw = b"[" + b"0," * 32_766 + b"0]"
    for spaces in range(65_536 - len(raw) + 1):
        assert len(parse(raw + b" " * spaces)) == 32_767
    raw += b" " * (65_536 - len(raw))
    with pytest.raises(InvalidJSON, match="more than 16384 values"):
        parse(raw + b" ")


LONG = b'"' + b"," * 70_000 + b'"'
"""One value of 70,002 bytes."""


def array(commas: int, arrays: int, objects: int) -> bytes:
    """One with just so many commas and inner arrays and objects, and a long string at its end."""
    inner = [b"[]"] * arrays + [b"{}"] * objects
    return b"[" + b",".join([*inner, *[b"0"] * (commas - len(inner)), LONG]) + b"]"


@pytest.mark.parametrize(
    ("commas", "arrays", "objects"), [(16_383, 0, 0), (8_192, 8_191, 0), (8_192, 0, 8_191), (9_000, 3_691, 3_692)]
)
def test_so_many_values_and_no_more(commas: int, arrays: int, objects: int) -> None:
    """Commas and opening brackets are added up, and every one counts."""
    assert len(parse(b"\n" + array(commas, arrays, objects))) == commas + 1
    with pytest.raises(InvalidJSON, match="more than 16384 values"):
        parse(array(commas + 1, arrays, objects))


def test_values_are_counted_between_strings() -> None:
    """From the very end of one to the beginning of the next, and after the last, to the last byte."""
    plain = b"[" + b"0," * 16_384 + b" " * 40_000
    for raw in (plain, b"[" + b'"",' * 20_000 + LONG, LONG + b"," * 16_385, LONG + b'" "' + b"," * 16_385):
        with pytest.raises(InvalidJSON, match="more than 16384 values"):
            parse(raw)
    assert parse(LONG) == "," * 70_000
    for raw in (LONG + b"," * 16_384, LONG[:-1], b"[" + LONG[:-1]):
        with pytest.raises(InvalidJSON, match="not JSON"):
            parse(raw)


FILLING: Final = "a" * 70_000


def loads(raw: bytes) -> Any:
    """What the standard library reads, or None; no text here has a null in it."""
    try:
        return json.loads(raw)
    except ValueError:
        return None


def read(raw: bytes) -> Any:
    """The same by `parse`."""
    try:
        return parse(raw)
    except InvalidJSON:
        return None


PIECES: Final = st.sampled_from(
    ["\\", '"', "\\u00e9", "\\\\", "é", "€", "😀", "\ud83d\ude00", "\u007f", "\u0080", ",", "[", " ", "n", "u"]
)


@given(parts=st.lists(PIECES, max_size=12), at=st.integers(0, 3))
@example(parts=["\\", "😀"], at=0)
@example(parts=["\\\\", "😀"], at=0)
@example(parts=["\\", "é"], at=2)
@example(parts=["😀", '"', "é"], at=1)
def test_large_texts_with_wide_letters(parts: list[str], at: int) -> None:
    """They are read in another spelling, and mean what they always did, wherever a piece of them ends."""
    middle = "".join(parts).encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
    raw = f'["😀{FILLING[: 16_384 * 4 - at - 6]}{middle}{FILLING}"]'.encode()
    assert read(raw) == loads(raw)
    if read(raw) is not None:
        assert parse(raw, decimal=True) == read(raw)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (f'["😀{FILLING}\\é"]', r"not JSON: Invalid \\escape$"),
        (f'["😀{FILLING}",]', "not JSON: [A-Z][a-z ]*$"),
        (f'["é{FILLING}",]', "not JSON: .* at character 7000[45]$"),
        (f'["{"😀" * 70_000}",]', "not JSON: .* at character 7000[345]$"),
        ('["😀",]', "not JSON: .* at character [456]$"),
    ],
)
def test_what_is_wrong_with_large_texts(raw: str, reason: str) -> None:
    """Where it is, is said of a text that was read as it came: a small one, or one of hardly any but wide letters."""
    with pytest.raises(InvalidJSON, match=reason):
        parse(raw.encode())


@pytest.mark.parametrize("end", [b"\xff", b"\xed\xa0\x80", b"\xf0\x9f\x98"])
def test_large_texts_that_are_no_utf8(end: bytes) -> None:
    """Are none in any spelling."""
    with pytest.raises(InvalidJSON, match="not UTF-8"):
        parse(f'["😀{FILLING}'.encode() + end + b'"]')


@pytest.mark.parametrize("unit", ["a", "é", "€", "😀", "aé", "aaaa😀", "\\\\", "\\u20ac"])
def test_memory_of_large_texts(unit: str) -> None:
    """Reading a text costs seven times its bytes at most, whatever its letters are: four of these are the value."""
    raw = ('"😀' + unit * (1_000_000 // len(unit.encode())) + '"').encode()
    tracemalloc.start()
    try:
        parse(raw)
        assert tracemalloc.get_traced_memory()[1] <= 7 * len(raw)
    finally:
        tracemalloc.stop()


def test_the_scanner() -> None:
    """It says where a value ends, has both sorts of numbers, and leaves the rest of the text alone."""
    for decimal, wanted in ((False, "0.5"), (True, "Decimal('0.50')")):
        value, end = scanner(decimal=decimal)(" 0.50]", 1)
        assert (repr(value), end) == (wanted, 5)
        with pytest.raises(StopIteration):
            scanner(decimal=decimal)(" 1", 0)


def test_an_error_carries_no_text_in_its_chain() -> None:
    """The standard library's errors hold the whole document; ours has none behind it."""
    with pytest.raises(InvalidJSON) as caught:
        parse(b'{"secret"')
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(("text", "expected"), [(b"{}", True), (b"[]", False), (b"null", False), (b'"{}"', False)])
def test_is_object(text: bytes, expected: bool) -> None:
    """Objects, and nothing else."""
    assert is_object(parse(text)) is expected
