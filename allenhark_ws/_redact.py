"""Taking API keys out of texts that are not ours: whatever a server echoes must not spread them.

Neighbours: `_loop` teaches it each key it is about to send; `_codec` and `_transport` pass every server text through it.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Final
from urllib.parse import quote

from attrs import define, field

from .config import Secret

__all__ = ["Redactor"]

_REMEMBERED: Final = 8
"""Keys remembered at a time: with rotating keys a late echo can name one that was used a while ago."""


@define(eq=False)
class Redactor:
    """Replaces every key it has learnt, also as JSON or a URL would spell it, by ``[redacted]``."""

    _spellings: deque[tuple[Secret, ...]] = field(factory=lambda: deque(maxlen=_REMEMBERED))

    def learn(self, secret: Secret) -> None:
        """Redact this key from now on."""
        spellings = (
            secret,
            Secret(json.dumps(secret.reveal())[1:-1]),
            Secret(quote(secret.reveal(), safe="")),
        )
        if not any(self._same(known[0], secret) for known in self._spellings):
            self._spellings.append(spellings)

    @staticmethod
    def _same(one: Secret, other: Secret) -> bool:
        return one.reveal() == other.reveal()

    def __call__(self, text: str) -> str:
        """The text without keys."""
        for spellings in self._spellings:
            for spelling in spellings:
                text = text.replace(spelling.reveal(), "[redacted]")
        return text
