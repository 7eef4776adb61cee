"""Keys are taken out of texts in every spelling, and only so many are remembered."""

from __future__ import annotations

import html
import json
import tracemalloc
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws._redact import Redactor
from allenhark_ws.config import Secret

KEY = 'k€y/with "odd" <signs> & \\ + more'


def redactor(*keys: str) -> Redactor:
    """A redactor that has learnt the keys, in this order."""
    found = Redactor()
    for key in keys:
        found.learn(Secret(key))
    return found


def test_without_keys_a_text_stays() -> None:
    """Nothing is known, nothing is replaced."""
    assert Redactor()("text") == "text"


@pytest.mark.parametrize(
    "spelling",
    [
        KEY,
        json.dumps(KEY)[1:-1],
        json.dumps(KEY, ensure_ascii=False)[1:-1],
        json.dumps(KEY)[1:-1].replace("/", "\\/"),
        quote(KEY),
        quote(KEY, safe=""),
        quote_plus(KEY),
        "".join(c if c.isalpha() and c.isascii() else "".join(f"%{b:02x}" for b in c.encode()) for c in KEY),
        html.escape(KEY),
    ],
)
def test_every_spelling_is_redacted(spelling: str) -> None:
    """As it is, as JSON, a URL or HTML spells it."""
    assert redactor(KEY)(f"before {spelling} and {spelling} after") == "before [redacted] and [redacted] after"


def test_plain_key_is_kept_in_one_spelling() -> None:
    """A key of letters and digits, which every format spells alike, costs one replacement."""
    assert len(redactor("abc123")._longest_first) == 1


@pytest.mark.parametrize("key", ["key1", "secret-key-1"])
def test_key_that_begins_another(key: str) -> None:
    """The longer one goes first: no rest of it stays."""
    for keys in ((key, f"{key}0"), (f"{key}0", key)):
        assert redactor(*keys)(f"{key}0 {key}") == "[redacted] [redacted]"


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        ("k", "key k, ok", "key [redacted], ok"),
        ("seven_7", "seven_7 xseven_7 seven_7x -seven_7-", "[redacted] xseven_7 seven_7x -[redacted]-"),
        ("eight__8", "eight__8 xeight__8 eight__8x", "[redacted] x[redacted] [redacted]x"),
        ("nine____9", "nine____9 xnine____9x", "[redacted] x[redacted]x"),
    ],
)
def test_keys_inside_a_word(key: str, text: str, shown: str) -> None:
    """Eight characters are in none by chance; a shorter key is redacted where it stands alone."""
    assert redactor(key)(text) == shown


def test_memory_is_bounded() -> None:
    """Eight keys are remembered, the last ones."""
    many = redactor(*[f"secret-{number:04}" for number in range(100)])
    assert many("secret-0091 secret-0092 secret-0099") == "secret-0091 [redacted] [redacted]"
    assert len(many._known) == len(many._longest_first) == 8


MOST = 65_536


@pytest.mark.parametrize("at", [0, MOST - 30, MOST - 12, MOST - 11, MOST - 6, MOST - 1, MOST, MOST + 1])
@pytest.mark.parametrize("key", ["short", "secret-0001", "secret/é-and-long"])
def test_long_texts_are_cut(key: str, at: int) -> None:
    """To 65,536 characters, or a few less where a key was; none is cut in two, so that its beginning would stay."""
    text = "." * at + key + "." * MOST
    shown = redactor(key, "another")(text)
    assert text.replace(key, "[redacted]").startswith(shown)
    assert MOST - 100 < len(shown) <= MOST


@pytest.mark.parametrize("at", range(MOST - 25, MOST + 26))
def test_of_a_key_that_was_cut_nothing_stays(at: int) -> None:
    """Though keys in front of it made the text so much shorter that its end, too, can be shown."""
    key = "a-key-of-twenty-five-signs"[:25]
    text = (3 * key).ljust(at, ".") + key + MOST * "."
    shown = redactor(key)(text)
    assert text.replace(key, "[redacted]").startswith(shown)
    assert MOST - 100 < len(shown) <= MOST


def test_what_was_not_cut_is_shown() -> None:
    """As many characters as there may be, of a text that is no longer than what is looked at."""
    key = "secret-0001"
    text = key + "." * (MOST - 1)
    assert redactor(key)(text) == f"[redacted]{text[11:]}"[:MOST]


def test_what_is_not_shown_costs_nothing() -> None:
    """Of a large text a copy is made of that part alone which is looked at, four bytes for a letter."""
    key = "secret-0001"
    text = key + 1_000_000 * "😀"
    shown = redactor(key)
    tracemalloc.start()
    try:
        assert len(shown(text)) <= MOST
        assert tracemalloc.get_traced_memory()[1] <= 5 * 4 * MOST
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("keys", [(), ("key",), ("a-long-one-that-is-nowhere",)])
def test_a_cut_text_does_not_depend_on_the_keys(keys: tuple[str, ...]) -> None:
    """As long as none is in it; and one that is just as long as it may be stays as it is."""
    text = "abc." * (MOST // 4)
    assert redactor(*keys)(text) == text
    assert redactor(*keys)(text + "more") == text


def test_key_in_use_is_not_forgotten() -> None:
    """Learning a key again makes it the youngest."""
    keys = [f"secret-{number}" for number in range(8)]
    text = redactor(*keys, keys[0], "another")
    assert text(f"{keys[0]} {keys[1]} {keys[2]}") == f"[redacted] {keys[1]} [redacted]"
    for key in ("one", KEY):
        assert len(redactor(key, key, key.encode().decode())._known) == 1


def test_nothing_shows_a_key() -> None:
    """Neither the redactor nor what it holds has a key in its repr."""
    text = redactor("hidden")
    assert "hidden" not in repr(text)
    assert "hidden" not in repr(text._known) + repr(text._longest_first)


@given(key=st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="|"), min_size=1))
def test_no_key_leaks(key: str) -> None:
    """Whatever the key is, a text that quotes it, plainly or in JSON, shows nothing of it."""
    text = redactor(key)
    assert text(f"|{key}|") == "|[redacted]|"
    assert text(json.dumps(f"|{key}|")) == '"|[redacted]|"'
