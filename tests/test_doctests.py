"""The docstrings of all that is public: each name has one, with an example that runs as it stands.

What an example finds: every public name, a running `simulator` with a live market, a `client` connected to it, and an
environment in which ``Client()`` needs no arguments.  It has a directory of its own, and must leave no thread behind.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import doctest
import gc
import importlib
import threading
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, Final

import pytest

import allenhark_ws

EXTRAS: Final[Mapping[str, str]] = {
    "pandas": "notebook",
    "prometheus_client": "metrics",
    "trustme": "testing",
    "websockets": "testing",
}
"""The extra that brings a package."""

MODULES: Final[Mapping[str, str]] = {
    "": "attrs",
    "metrics": "prometheus_client",
    "notebook": "attrs",
    "recording": "attrs",
    "testing": "websockets",
}
"""The public modules with names of their own, ``""`` being the package, and what each needs to be imported."""

SIMULATED: Final = frozenset({"Client", "client", "simulator"})
"""An example with one of these names needs the simulator."""

NEEDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(SIMULATED, "websockets"),
    "ClientMetrics": "prometheus_client",
    "Simulator": "trustme",
    "VirtualSimulator": "websockets",
    "to_dataframe": "pandas",
}
"""What an example with this name needs."""

WITHOUT_EXAMPLE: Final[Mapping[str, str]] = {
    "Client.watch": "needs a notebook; examples/quickstart.ipynb shows it",
    "notebook.Watch": "likewise",
    "notebook.watch": "what Client.watch calls",
    "notebook.mind_cells": "what Client calls in a notebook",
    "recording.Group": "what the replay reads, by Reader.next_group",
    "recording.begin": "what Client.record calls",
    "recording.paths_of": "what those call that take one recording or several",
}
"""What needs no example, and why."""


def load(module: str) -> ModuleType | None:
    """A public module; None where its extra is missing."""
    try:
        importlib.import_module(MODULES[module])
    except ImportError:
        return None
    return importlib.import_module(f"allenhark_ws.{module}".rstrip("."))


LOADED: Final = {name: load(name) for name in MODULES}


def public() -> Iterator[tuple[str, Any]]:
    """Every public class and function by name, and after each class its public members."""
    for prefix, module in LOADED.items():
        for name in [] if module is None else module.__all__:
            value = getattr(module, name)
            if isinstance(value, (type, FunctionType)):
                full = f"{prefix}.{name}".lstrip(".")
                yield full, value
                yield from ((f"{full}.{member}", own) for member, own in members(value))


def members(value: object) -> Iterator[tuple[str, Any]]:
    """The methods and properties that a class defines itself."""
    for name, own in vars(value).items() if isinstance(value, type) else ():
        if not name.startswith("_") and isinstance(own, (FunctionType, classmethod, property)):
            yield name, own


PUBLIC: Final = dict(public())

VERBS: Final = frozenset(
    f"{owner.__name__}.{name}"
    for owner in (allenhark_ws.Client, allenhark_ws.Stream)
    for name, own in members(owner)
    if isinstance(own, FunctionType)
)

EXAMPLES: Final = {
    name: test
    for name, value in PUBLIC.items()
    for test in doctest.DocTestFinder(recurse=False).find(value, name, module=False, globs={})
    if test.examples
}


def words(test: doctest.DocTest) -> set[str]:
    """The names that occur in an example."""
    nodes = list(ast.walk(ast.parse("".join(example.source for example in test.examples))))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@contextlib.contextmanager
def surroundings(used: set[str], patch: pytest.MonkeyPatch) -> Generator[dict[str, Any]]:
    """What an example finds, for as long as it runs."""
    names = {name: getattr(allenhark_ws, name) for name in [*allenhark_ws.__all__, "recording"]}
    for module in ("metrics", "testing"):
        names |= {name: getattr(LOADED[module], name) for name in getattr(LOADED[module], "__all__", ())}
    with contextlib.ExitStack() as stack:
        if used & SIMULATED:
            names["simulator"] = simulator = stack.enter_context(names["Simulator"](feed=True))
            patch.setenv("ALLENHARK_WS_URL", simulator.url)
            patch.setenv("ALLENHARK_API_KEY", simulator.api_key)
        if "client" in used:
            names["client"] = stack.enter_context(allenhark_ws.Client())
        yield names


def left_behind() -> list[str]:
    """The threads of ours that do not end."""
    gc.collect()  # a client that is forgotten says so
    ours = [thread for thread in threading.enumerate() if "allenhark" in thread.name]
    for thread in ours:
        thread.join(5.0)
    return [thread.name for thread in ours if thread.is_alive()]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows what it says, and leaves nothing open."""
    test, used = EXAMPLES[name], words(EXAMPLES[name])
    for package in sorted({NEEDS[word] for word in used & NEEDS.keys()}):
        pytest.importorskip(package, reason=f"the example needs the extra {EXTRAS[package]}")
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    with surroundings(used, monkeypatch) as names:
        test.globs = {**names}
        failed = doctest.DocTestRunner().run(test, out=told.append).failed
    vars(builtins).pop("_", None)  # what was shown last
    assert not failed, "".join(told)
    assert left_behind() == []


@pytest.mark.parametrize("module", MODULES)
def test_examples_are_found(module: str) -> None:
    """In every public module, once it can be imported."""
    if LOADED[module] is None:
        pytest.skip(f"allenhark_ws.{module} needs the extra {EXTRAS[MODULES[module]]}")
    assert any(name.startswith(module) for name in PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_docstring(name: str) -> None:
    """Every class and function, and every method and property of a class, says what it is for."""
    assert (PUBLIC[name].__doc__ or "").strip()


def test_every_public_name_has_an_example() -> None:
    """Every class and function, and every verb of `Client` and `Stream`, but for those that say why not."""
    names = {name for name in PUBLIC if not isinstance(PUBLIC.get(name.rpartition(".")[0]), type)}
    assert (names | VERBS) - EXAMPLES.keys() == WITHOUT_EXAMPLE.keys()
