"""The table of a client's states."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from allenhark_ws.state import TRANSITIONS, State


def test_states() -> None:
    """The five documented states, by name and value."""
    assert {state.name: state.value for state in State} == {
        "IDLE": "idle",
        "CONNECTING": "connecting",
        "READY": "ready",
        "BACKOFF": "backoff",
        "CLOSED": "closed",
    }
    assert pickle.loads(pickle.dumps(State.READY)) is State.READY


def test_the_table_names_every_state_and_cannot_change() -> None:
    """A row for each state; read-only."""
    assert set(TRANSITIONS) == set(State)
    table: Any = TRANSITIONS
    with pytest.raises(TypeError):
        table[State.CLOSED] = {State.READY}


def test_closed_is_reached_from_everywhere_and_left_for_nowhere() -> None:
    """Closed is final, and any other state may end."""
    assert TRANSITIONS[State.CLOSED] == frozenset()
    assert all(State.CLOSED in TRANSITIONS[state] for state in State if state is not State.CLOSED)


def test_ready_is_reached_through_connecting_alone() -> None:
    """No state is skipped: what is READY has connected, what lost its connection waits first, IDLE never comes back."""
    before = {after: {state for state in State if after in TRANSITIONS[state]} for after in State}
    assert before[State.READY] == {State.CONNECTING}
    assert before[State.CONNECTING] == {State.IDLE, State.BACKOFF}
    assert before[State.BACKOFF] == {State.CONNECTING, State.READY}
    assert before[State.IDLE] == set()
