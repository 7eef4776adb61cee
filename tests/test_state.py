"""The table of a client's states."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from allenhark_ws.state import TRANSITIONS, State

from .states import README, diagram, drawn, table


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
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table())
    cells = {(row[0], column, cell) for row in rows for column, cell in zip(head[1:], row[1:], strict=True)}
    assert {cell for cell in cells if cell[2]} == {(s.name, f"to {a.name}", when) for s, a, when in moves}


def test_the_readme_is_up_to_date() -> None:
    """Whoever changes the table draws it anew: ``python -m tests.states``."""
    readme = README.read_text(encoding="utf-8")
    assert drawn(readme) == readme


def test_a_readme_without_a_place_for_the_states() -> None:
    """It is told, not passed over."""
    with pytest.raises(ValueError, match=r"README\.md needs the lines <!-- states: python -m tests\.states -->"):
        drawn("# A title\n")
