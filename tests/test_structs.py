"""What msgspec reads, and how: against the plain readers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import datetime, timezone

import pytest

msgspec = pytest.importorskip("msgspec", reason="needs the extra speed")

from allenhark_ws._strict import Misfit, moment
from allenhark_ws._structs import _moment


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


def test_a_text_with_a_nul_is_for_the_strict_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever msgspec makes of it: before 0.23 that stops reading there, and takes what stands before for all."""
    found = datetime(2024, 1, 15, tzinfo=timezone.utc)
    monkeypatch.setattr(msgspec, "convert", lambda _text, _type: found)
    assert _moment("2024-01-15T10:30:00Z", None) is found
    with pytest.raises(Misfit):
        _moment("2024-01-15T10:30:0\0Z", None)
