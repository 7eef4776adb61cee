"""Keys are taken out of texts in every spelling, and only so many are remembered."""

from __future__ import annotations

import html
import json
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


def test_key_that_begins_another() -> None:
    """The longer one goes first: no rest of it stays."""
    for keys in (("key1", "key10"), ("key10", "key1")):
        assert redactor(*keys)("key10 key1") == "[redacted] [redacted]"


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
    assert len(redactor("one", "one", "one")._known) == 1


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
