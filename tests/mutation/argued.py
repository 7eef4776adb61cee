"""The list of changes that no test notices, and why none should: ``survivors.toml``.

An entry names a module, the class or function, the line as it stands and what it becomes, so that it is still right
when lines move; one entry may argue for several changes of a line.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from .mutants import Mutant

__all__ = ["SURVIVORS", "Argued"]

SURVIVORS: Final = Path(__file__).parent / "survivors.toml"


@frozen
class Argued:
    """One change that may go unnoticed.

    Attributes:
        module: its module, by its full name without the package.
        where: the qualified name of the class or function; empty at the top of the module.
        line: the line as it stands.
        becomes: the line changed; empty when it is gone.
        reason: why that is right.
    """

    module: str
    where: str
    line: str
    becomes: str
    reason: str

    def fits(self, mutant: Mutant) -> bool:
        """Whether this is about that change, of whatever module."""
        return (self.where, self.line, self.becomes) == (mutant.where, mutant.line, mutant.becomes)

    @staticmethod
    def read(path: Path, module: str) -> list[Argued]:
        """Those of one module.

        Raises:
            KeyError: an entry is not complete.
            ValueError: an entry has no reason.
        """
        reader = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")  # pytest's own
        entries: Iterable[dict[str, Any]] = reader.loads(path.read_text(encoding="utf-8")).get("survivor", [])
        return [one for entry in entries for one in _unfold(entry) if one.module == module]


def _unfold(entry: dict[str, Any]) -> Iterable[Argued]:
    if not entry["reason"]:
        raise ValueError(f"survivors.toml: {entry['line']!r} survives without a reason")
    for becomes in entry["becomes"]:
        yield Argued(entry["module"], entry["where"], entry["line"], becomes, entry["reason"])
