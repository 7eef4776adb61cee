"""The read-only mapping: nothing mutable gets out of it."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from allenhark_ws._frozen import FrozenMapping, freeze

DATA = {"a": 1, "deep": {"list": [1, {"x": [None, True]}], "d": Decimal("0.1")}, "t": (1, [2])}


def test_it_is_a_mapping() -> None:
    """Reading works as with a dict."""
    frozen = FrozenMapping(DATA)
    assert isinstance(frozen, Mapping)
    assert list(frozen) == ["a", "deep", "t"]
    assert len(frozen) == len(DATA)
    assert frozen["a"] == 1
    assert frozen.get("missing", 5) == 5
    assert "deep" in frozen
    with pytest.raises(KeyError):
        frozen["missing"]
    assert repr(FrozenMapping({"a": [1]})) == "FrozenMapping({'a': (1,)})"


def test_nothing_in_it_can_be_changed() -> None:
    """Objects are frozen all the way down, arrays become tuples, attributes are refused with advice."""
    frozen: Any = FrozenMapping(DATA)
    assert type(frozen["deep"]) is FrozenMapping
    assert type(frozen["deep"]["list"][1]) is FrozenMapping
    assert frozen["deep"]["list"][1]["x"] == (None, True)
    assert frozen["t"] == (1, (2,))
    with pytest.raises(TypeError):
        frozen["a"] = 2
    with pytest.raises(AttributeError, match="read-only; make a dict of it to change 'other'"):
        frozen.other = 1
    with pytest.raises(AttributeError, match="read-only; make a dict of it to change '_items'"):
        frozen._items = {}
    with pytest.raises(AttributeError, match="read-only; make a dict of it to remove '_items'"):
        del frozen._items


def test_it_does_not_follow_its_source() -> None:
    """What is done to the source later does not show."""
    source: dict[str, Any] = {"a": [1], "b": {"c": 1}}
    frozen = FrozenMapping(source)
    source["a"].append(2)
    source["b"]["c"] = 2
    source["d"] = 1
    assert frozen == {"a": [1], "b": {"c": 1}}


def test_equality_and_hash() -> None:
    """Equal to any mapping of the same items, lists or tuples in it; equal ones hash alike; order is no matter."""
    frozen = FrozenMapping(DATA)
    assert frozen == DATA
    assert (DATA == frozen) is True  # noqa: SIM300 - the other way round
    assert frozen == OrderedDict(reversed(list(DATA.items())))
    assert frozen == FrozenMapping(DATA)
    assert hash(frozen) == hash(FrozenMapping(dict(reversed(list(DATA.items())))))
    assert frozen != {**DATA, "a": 2}
    assert frozen != FrozenMapping({})
    assert (frozen == [("a", 1)]) is False
    assert {frozen: "found"}[FrozenMapping(DATA)] == "found"


@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_are_equal(twin: Any) -> None:
    """Copied and pickled whole, and read-only still."""
    frozen = FrozenMapping(DATA)
    again = twin(frozen)
    assert type(again) is FrozenMapping
    assert again == frozen
    assert hash(again) == hash(frozen)


def test_freeze() -> None:
    """Values without parts stay as they are; what is frozen already is not copied."""
    frozen = FrozenMapping(DATA)
    assert freeze(frozen) is frozen
    assert freeze([1, [2, {"a": 3}]]) == (1, (2, FrozenMapping({"a": 3})))
    assert [freeze(value) for value in (None, True, 1, 1.5, "text")] == [None, True, 1, 1.5, "text"]
