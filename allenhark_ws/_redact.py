"""Taking API keys out of texts that are not ours: whatever a server echoes must not spread them.

Neighbours: `_network` teaches it each key it is about to send; `_codec` and `_transport` pass every server text through
it.  It must never show a key itself.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

from attrs import define, field

from .config import Secret

__all__ = ["Redactor"]

_REMEMBERED: Final = 8
"""Keys remembered at a time: with rotating keys a late echo can name one that was used a while ago."""


_MAX_SHOWN: Final = 65_536
"""Characters of a text that are shown: a hostile one may have a million, of four bytes each, and be kept a while."""

_LONG: Final = 8
"""Characters from which a key is redacted inside a word too: no word holds it by chance."""

_MASK: Final = "[redacted]"


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def _json_ascii(text: str) -> str:
    return json.dumps(text)[1:-1]


def _slashes(text: str) -> str:
    """Some servers escape slashes in JSON, as RFC 8259, section 7, allows."""
    return json.dumps(text)[1:-1].replace("/", "\\/")


def _percent(text: str) -> str:
    return quote(text, safe="")


def _lower_percent(text: str) -> str:
    """RFC 3986, section 2.1: the case of hexadecimal digits does not matter."""
    plain = quote(text, safe="")
    head, *escapes = plain.split("%")
    return "".join([head, *(f"%{escape[:2].lower()}{escape[2:]}" for escape in escapes)])


_SPELLINGS: Final[tuple[Callable[[str], str], ...]] = (
    _json_text,
    _json_ascii,
    _slashes,
    _percent,
    _lower_percent,
    quote,
    quote_plus,
    html.escape,
)
"""How a key may be spelt in a server's text, beside as it is."""


def _spellings(secret: Secret) -> Iterator[Secret]:
    """Every different spelling of a key, first as it is, each wrapped."""
    yield secret
    for spell in _SPELLINGS:
        spelling = Secret(spell(secret.reveal()))
        if spelling.reveal() != secret.reveal():
            yield spelling


def _take_out(spelling: Secret, text: str) -> str:
    """The text without this spelling; a short one only where it stands alone, or a key "k" would garble every word."""
    if len(spelling.reveal()) >= _LONG:
        return text.replace(spelling.reveal(), _MASK)
    return re.sub(rf"(?<!\w){re.escape(spelling.reveal())}(?!\w)", _MASK, text)


@define(eq=False, repr=False)
class Redactor:
    """Replaces every key it has learnt, also as JSON, HTML or a URL would spell it, by ``[redacted]``.

    Of a text of more than 65,536 characters it gives that many, or a few less.
    """

    _known: tuple[tuple[Secret, ...], ...] = ()
    _longest_first: tuple[Secret, ...] = field(default=(), init=False)

    def learn(self, secret: Secret) -> None:
        """Redact this key from now on, and until eight others were used after it."""
        others = [known for known in self._known if known[0].reveal() != secret.reveal()]
        self._known = (*others, tuple(_spellings(secret)))[-_REMEMBERED:]
        # One key may be the beginning of another: the longer one must go first, or its rest would stay.
        spellings = [spelling for known in self._known for spelling in known]
        self._longest_first = tuple(sorted(spellings, key=lambda spelling: -len(spelling.reveal())))

    def __call__(self, text: str) -> str:
        """The text without keys."""
        longest = len(self._longest_first[0].reveal()) if self._longest_first else 1
        end = _MAX_SHOWN + longest - 1
        was_cut = len(text) > end
        text = text[:end]
        for spelling in self._longest_first:
            text = _take_out(spelling, text)
        # Where a text was cut, so may a key have been: what could be the beginning of one goes.
        return text[: min(_MAX_SHOWN, len(text) - longest + 1)] if was_cut else text[:_MAX_SHOWN]
