"""The client's states in the README, drawn from the session's own table: ``python -m tests.states`` draws them anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from allenhark_ws.state import TRANSITIONS, State

README: Final = Path(__file__).parents[1] / "README.md"
_BEGIN: Final = "<!-- states: python -m tests.states -->\n"
_END: Final = "<!-- end of states -->\n"


def diagram() -> Iterator[str]:
    """The lines of a Mermaid state diagram."""
    yield "stateDiagram-v2"
    yield f"    [*] --> {next(iter(State)).name}"
    for state, following in TRANSITIONS.items():
        for after, when in following.items():
            yield f"    {state.name} --> {after.name}: {when.replace('`', '')}"
        if not following:
            yield f"    {state.name} --> [*]"


def table() -> Iterator[str]:
    """The lines of a table: from the state of a row to that of a column, when."""
    reached = [state for state in State if any(state in following for following in TRANSITIONS.values())]
    yield " | ".join(["| from", *(f"to {state.name}" for state in reached)]) + " |"
    yield "|---" * (1 + len(reached)) + "|"
    for state, following in TRANSITIONS.items():
        yield " | ".join([f"| {state.name}", *(following.get(after, "") for after in reached)]) + " |"


def drawn(readme: str) -> str:
    """The text of a README with diagram and table as they are now.

    Raises:
        ValueError: it has no place for them.
    """
    before, begin, rest = readme.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"README.md needs the lines {_BEGIN.strip()} and {_END.strip()}")
    return "\n".join([before + begin + "```mermaid", *diagram(), "```", "", *table(), end + after])


if __name__ == "__main__":
    README.write_text(drawn(README.read_text(encoding="utf-8")), encoding="utf-8")
