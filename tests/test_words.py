"""How many there are, in words."""

from __future__ import annotations

import pytest

from allenhark_ws import ConnectionFailed, RecordingError, SlowConsumer
from allenhark_ws._words import counted


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 events"), (1, "1 event"), (2, "2 events"), (2000, "2,000 events")]
)
def test_counted(number: int, words: str) -> None:
    """One is one; large numbers are legible."""
    assert counted(number, "event") == words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionFailed("no route", attempts=1), "after 1 failed attempt, "),
        (SlowConsumer("stream-1", 1), "fell 1 event behind;"),
        (RecordingError("a.jsonl", "not JSON", count=2), "(and 1 more damaged line; the"),
    ],
)
def test_errors_count_one_thing(error: Exception, words: str) -> None:
    """In their texts."""
    assert words in str(error)
