"""Reference counts of wanted channels, against the simplest model there is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws._wanted import Wanted
from allenhark_ws.channels import Bot, Channel, Price, Transactions

from .fakes import Meddling

A, B, C = Price("a"), Bot("b"), Transactions("c")


def test_first_holder_in_and_last_holder_out() -> None:
    """Only those two matter to the server."""
    wanted = Wanted()
    assert wanted.hold("one", [A, B, A]) == [A, B]
    assert wanted.hold("two", [B, C]) == [C]
    assert wanted.channels() == frozenset({A, B, C})
    assert wanted.release("one") == [A]
    assert wanted.release("one") == []
    assert wanted.release("two") == [B, C]
    assert wanted.channels() == frozenset()


def test_a_holder_may_come_twice() -> None:
    """What it held before is not forgotten."""
    wanted = Wanted()
    wanted.hold("one", [A])
    assert wanted.hold("one", [A, B]) == [B]
    assert wanted.release("one") == [A, B]


def test_what_ctrl_c_cut_off_can_be_released() -> None:
    """Whatever was noted before the interruption is let go of, and the next holder is the first one again."""

    class Interrupting(set[Any]):
        def add(self, holder: object) -> None:
            """Ctrl-C."""
            raise KeyboardInterrupt

    wanted = Wanted()
    wanted.hold("one", [A])
    wanted._holders[B] = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        wanted.hold("two", [C, B])
    wanted.release("two")
    assert wanted.channels() == {A}
    assert wanted.hold("three", [A, B, C]) == [B, C]


def test_drop_whoever_holds() -> None:
    """A dropped channel is nobody's; its holders keep the rest, and release nothing twice."""
    wanted = Wanted()
    wanted.hold("one", [A, B])
    wanted.hold("two", [A])
    assert wanted.holders_of([A, A, C]) == {A: {"one", "two"}}
    assert wanted.unwant([A, A, C]) == [A]
    assert wanted.channels() == {B}
    assert wanted.hold("three", [A]) == [A]
    assert wanted.release("two") == []
    assert wanted.release("one") == [B]
    assert wanted.channels() == frozenset({A})


def test_what_was_cut_off_can_be_released() -> None:
    """A holder that is known from one side only: the channel is somebody else's, or nobody's."""
    wanted = Wanted()
    wanted.hold("one", [A, B])
    wanted._holders.pop(A)
    wanted._holders[B] = {"two"}
    assert wanted.release("one") == []
    assert wanted.channels() == frozenset({B})
    wanted._holders[A] = {"three"}
    assert wanted.unwant([A, B]) == [A, B]


def test_a_finalizer_lets_go_while_another_takes_hold() -> None:
    """The last holder goes just when the next one comes: the channel is wanted anew."""
    wanted = Wanted()
    wanted.hold("one", [A])
    wanted._holders = meddling = Meddling(wanted._holders)
    meddling.finalizer = lambda: wanted.release("one")
    assert wanted.hold("two", [A]) == [A]
    assert wanted.channels() == frozenset({A})
    assert wanted.release("two") == [A]
    assert not wanted._holders
    assert not wanted._held


def test_nothing_is_left_behind() -> None:
    """Handles that were dropped unclosed cost no memory once their channels are unsubscribed."""
    wanted = Wanted()
    for number in range(100):
        wanted.hold(number, [A])
        wanted.hold(number + 0.5, [])
        wanted.unwant([A])
    assert not wanted._holders
    assert not wanted._held


CHANNELS = st.lists(st.sampled_from([A, B, C, Price("d")]), max_size=4)
STEPS = st.lists(
    st.tuples(st.sampled_from(["hold", "release", "drop"]), st.integers(0, 3), CHANNELS),
    max_size=25,
)


@given(steps=STEPS)
def test_any_sequence_equals_the_model(steps: list[tuple[str, int, list[Channel]]]) -> None:
    """Holding, releasing and dropping equals a plain set of (holder, channel) pairs, and reports its changes."""
    wanted, pairs = Wanted(), set[tuple[int, Channel]]()
    for verb, holder, channels in steps:
        before = {channel for _, channel in pairs}
        if verb == "hold":
            pairs |= {(holder, channel) for channel in channels}
            changed = wanted.hold(holder, channels)
        elif verb == "release":
            pairs = {pair for pair in pairs if pair[0] != holder}
            changed = wanted.release(holder)
        else:
            holders = {c: {h for h, held in pairs if held == c} for c in channels if c in before}
            assert wanted.holders_of(channels) == holders
            changed = wanted.unwant(channels)
            pairs = {pair for pair in pairs if pair[1] not in channels}
        after = {channel for _, channel in pairs}
        assert len(changed) == len(set(changed))
        assert set(changed) == before ^ after
        assert wanted.channels() == after
