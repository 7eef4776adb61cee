"""Channels: values that refuse what can name nothing."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError

from allenhark_ws.channels import Bot, Channel, Price, Transactions

KINDS: list[tuple[Any, str]] = [(Bot, "bot_id"), (Price, "mint"), (Transactions, "wallet")]


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_a_channel_is_a_hashable_value(kind: Any, name: str) -> None:
    """Equal by kind and id, usable as a dict key, by position or by name."""
    channel = kind("id")
    assert channel == kind(**{name: "id"})
    assert {channel: 1}[kind("id")] == 1
    assert channel != kind("ID")
    assert getattr(channel, name) == "id"
    assert repr(channel) == f"{kind.__name__}({name}='id')"
    assert isinstance(channel, Channel)


def test_channels_of_different_kinds_differ() -> None:
    """The same text names three different things."""
    assert len({Bot("x"), Price("x"), Transactions("x")}) == len(KINDS)


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_a_channel_is_frozen_copied_and_pickled_whole(kind: Any, name: str) -> None:
    """It cannot change, and its copies are equal."""
    channel = kind(" id ")
    with pytest.raises(FrozenInstanceError):
        setattr(channel, name, "other")
    with pytest.raises((FrozenInstanceError, AttributeError)):
        channel.other = 1
    for twin in (copy.copy(channel), copy.deepcopy(channel), pickle.loads(pickle.dumps(channel))):
        assert twin == channel
        assert hash(twin) == hash(channel)
        assert type(twin) is kind


@pytest.mark.parametrize(("kind", "name"), KINDS)
@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000"])
def test_a_blank_id_is_refused(kind: Any, name: str, blank: str) -> None:
    """The server would not answer; the error names the argument and says what to pass."""
    with pytest.raises(ValueError, match=rf"{kind.__name__}\({name}=…\) must not be empty or blank: pass the id"):
        kind(blank)


@pytest.mark.parametrize(("kind", "name"), KINDS)
@pytest.mark.parametrize("wrong", [None, 1, b"id", ["id"], Bot("id")])
def test_an_id_that_is_no_text_is_refused(kind: Any, name: str, wrong: object) -> None:
    """The error names the argument and the type that came."""
    with pytest.raises(TypeError, match=rf"{kind.__name__}\({name}=…\) takes a string, got {type(wrong).__name__}"):
        kind(wrong)
