"""Every change of a module's source that cosmic-ray's operators can make, one at a time."""

from __future__ import annotations

import ast
import importlib
import warnings
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Final

from attrs import field, frozen

__all__ = ["Mutant", "mutants"]

_NEED_ARGUMENTS: Final = {"VariableReplacer", "VariableInserter"}
"""Operators that have to be told which variables to confuse, and draw lots."""

_NOBODY_RAISES: Final = "CosmicRayTestingException"
"""The exception that stands in for those caught; the trials make it known to every module."""

_Position = tuple[int, int]
"""A line from 1, and a column from 0 in UTF-8 bytes: as `ast` counts."""


@frozen
class Mutant:
    """A module with one change.

    Attributes:
        operator: cosmic-ray's name of the change.
        number: the line it is in, from 1.
        where: the qualified name of the innermost class or function around it; empty at the top of the module.
        line: that line as it was, without indentation.
        becomes: the same after the change; empty when it is gone.
        source: the changed module, whole.
    """

    operator: str
    number: int
    where: str
    line: str
    becomes: str
    source: str = field(repr=False)


def mutants(source: str, patterns: tuple[str, ...] = ("*",)) -> Iterator[Mutant]:
    """All that compile, by operator; only those whose operator's name matches one of the patterns (as file names do).

    Annotations and what stands under ``if TYPE_CHECKING`` are left alone: nothing of them runs.
    """
    place = _Places(source)
    syntax: Any = importlib.import_module("cosmic_ray.ast")
    mutating: Any = importlib.import_module("cosmic_ray.mutating")
    tree = syntax.get_ast(source)
    for name, operator in _operators(patterns):
        found = [(node, start) for node in syntax.ast_nodes(tree) for start, _ in operator.mutation_positions(node)]
        for occurrence, (node, (number, column)) in enumerate(found):
            if place.never_runs(number, column) or _is_marker(node):
                continue
            changed = mutating.mutate_code(source, operator, occurrence)
            if _compiles(changed):
                yield Mutant(name, number, place.name_of(number), *place.lines(number, changed), changed)


def _operators(patterns: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    provider: Any = importlib.import_module("cosmic_ray.operators.provider").OperatorProvider()
    for name in provider:
        if name not in _NEED_ARGUMENTS and any(fnmatchcase(name, pattern) for pattern in patterns):
            yield name, _ExceptionReplacer() if name == "ExceptionReplacer" else provider[name]()


class _ExceptionReplacer:
    """In the place of cosmic-ray's own, which does not know dotted names."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[_Position, _Position]]:
        """Where the exceptions of an except clause stand."""
        yield from ((caught.start_pos, caught.end_pos) for caught in self._caught(node))

    def mutate(self, node: Any, index: int) -> Any:
        """The clause with one exception replaced by one that nobody raises."""
        caught = self._caught(node)[index]
        name = caught.get_first_leaf()
        name.value = _NOBODY_RAISES
        if caught is not name:
            caught.children = [name]
        return node

    def _caught(self, node: Any) -> list[Any]:
        if node.type != "except_clause":
            return []
        caught = node.children[1]
        if caught.type != "atom":
            return [caught]
        inside = caught.children[1]
        return list(inside.children[::2]) if inside.type == "testlist_comp" else [inside]


def _is_marker(node: Any) -> bool:
    """Whether it is a ``*`` or ``/`` between parameters, which cosmic-ray takes for arithmetic."""
    return node.type == "operator" and node.parent.type in {"parameters", "lambdef"}


def _compiles(source: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # "is" with a literal
        try:
            compile(source, "<mutant>", "exec")
        except SyntaxError:
            return False
    return True


class _Places:
    """What is where in a source."""

    def __init__(self, source: str) -> None:
        self._lines = source.splitlines()
        tree = ast.parse(source)
        self._idle = [span for node in ast.walk(tree) for span in _idle_spans(node)]
        self._named = list(_named_spans(tree, ""))

    def never_runs(self, number: int, column: int) -> bool:
        """Whether nothing at this place is evaluated when the module runs; the column in characters."""
        position = (number, len(self._lines[number - 1][:column].encode()))
        return any(start <= position < end for start, end in self._idle)

    def name_of(self, number: int) -> str:
        """The qualified name of the innermost class or function that has this line."""
        around = [name for first, last, name in self._named if first <= number <= last]
        return around[-1] if around else ""

    def lines(self, number: int, changed: str) -> tuple[str, str]:
        """A line, and what it is in the changed source."""
        after = changed.splitlines()
        gone = len(after) < len(self._lines)
        return self._lines[number - 1].strip(), "" if gone else after[number - 1].strip()


def _idle_spans(node: ast.AST) -> Iterator[tuple[_Position, _Position]]:
    if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
        yield _start(node), _end(node.body[-1])
    for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
        if isinstance(part, ast.expr):
            yield _start(part), _end(part)


def _start(node: ast.stmt | ast.expr) -> _Position:
    return node.lineno, node.col_offset


def _end(node: ast.stmt | ast.expr) -> _Position:
    return node.end_lineno or node.lineno, node.end_col_offset or 0


def _named_spans(node: ast.AST, prefix: str) -> Iterator[tuple[int, int, str]]:
    """First and last line of every class and function, decorators included; the inner ones after the outer."""
    for child in ast.iter_child_nodes(node):
        name = prefix
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{prefix}.{child.name}".lstrip(".")
            first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
            yield first, child.end_lineno or first, name
        yield from _named_spans(child, name)
