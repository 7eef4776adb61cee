"""The client's states, drawn from the session's own table, in the README and in a docstring.

``python -m tests.states`` draws them anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from attrs import frozen

from allenhark_ws.state import TRANSITIONS, State

ROOT: Final = Path(__file__).parents[1]


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
    """The lines of a table: from a state, to a state, when."""
    for state, following in TRANSITIONS.items():
        for number, (after, when) in enumerate(following.items()):
            yield f"        {'' if number else state.name:<10}  → {after.name:<10}  {when.replace('`', '')}"


@frozen
class Place:
    """Where something is drawn: between two texts of a file.

    Attributes:
        path: the file.
        begin: what stands before it.
        end: what stands behind it.
        lines: what is drawn.
    """

    path: Path
    begin: str
    end: str
    lines: Callable[[], Iterator[str]]

    def drawn(self, text: str) -> str:
        """The text of the file with it as it is now.

        Raises:
            ValueError: it has no place for it.
        """
        before, begin, rest = text.partition(self.begin)
        _, end, after = rest.partition(self.end)
        if not begin or not end:
            raise ValueError(f"{self.path.name} needs the lines {self.begin.strip()} and {self.end.strip()}")
        return before + begin + "".join(f"{line}\n" for line in self.lines()) + end + after


PLACES: Final = (
    Place(
        ROOT / "README.md",
        "<!-- states: python -m tests.states -->\n```mermaid\n",
        "```\n<!-- end of states -->\n",
        diagram,
    ),
    Place(ROOT / "allenhark_ws" / "state.py", "The moves::\n\n", "\n    Example:\n", table),
)

if __name__ == "__main__":
    for place in PLACES:
        place.path.write_text(place.drawn(place.path.read_text(encoding="utf-8")), encoding="utf-8")
