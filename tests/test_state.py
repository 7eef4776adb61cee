"""The table of a client's states."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from allenhark_ws.state import TRANSITIONS, State

from .states import PLACES, Place, diagram, table


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
        table[State.CLOSED] = {}
    with pytest.raises(TypeError):
        table[State.CLOSED][State.READY] = "never"


def test_closed_is_reached_from_everywhere_and_left_for_nowhere() -> None:
    """Closed is final, and any other state may end."""
    assert not TRANSITIONS[State.CLOSED]
    assert all(State.CLOSED in TRANSITIONS[state] for state in State if state is not State.CLOSED)


def test_ready_is_reached_through_connecting_alone() -> None:
    """No state is skipped: what is READY has connected, what lost its connection waits first, IDLE never comes back."""
    before = {after: {state for state in State if after in TRANSITIONS[state]} for after in State}
    assert before[State.READY] == {State.CONNECTING}
    assert before[State.CONNECTING] == {State.IDLE, State.BACKOFF}
    assert before[State.BACKOFF] == {State.CONNECTING, State.READY}
    assert before[State.IDLE] == set()


def test_every_move_is_drawn() -> None:
    """Diagram and table show each move of the session's table, the beginning and the end, and nothing else."""
    moves = {(state, after, when) for state, following in TRANSITIONS.items() for after, when in following.items()}
    arrows = {f"{state.name} --> {after.name}: {when.replace('`', '')}" for state, after, when in moves}
    assert {line.strip() for line in diagram()} == {"stateDiagram-v2", "[*] --> IDLE", "CLOSED --> [*]"} | arrows
    rows, before = [], ""
    for line in table():
        name, _, rest = line.partition(" → ")
        before = name.strip() or before
        after, when = rest.split(maxsplit=1)
        rows.append((before, after, when))
    assert rows == [
        (state.name, after.name, when.replace("`", ""))
        for state, following in TRANSITIONS.items()
        for after, when in following.items()
    ]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.path.name)
def test_what_is_drawn_is_up_to_date(place: Place) -> None:
    """Whoever changes the table draws it anew: ``python -m tests.states``."""
    text = place.path.read_text(encoding="utf-8")
    assert place.drawn(text) == text


def test_a_file_without_a_place_for_the_states() -> None:
    """It is told, not passed over."""
    with pytest.raises(ValueError, match=r"README\.md needs the lines <!-- states: python -m tests\.states -->"):
        PLACES[0].drawn("# A title\n")
