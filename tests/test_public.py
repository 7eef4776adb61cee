"""The package's own namespace: its names are loaded when they are asked for, and nobody can tell."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pickle
import ssl
import subprocess
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

import allenhark_ws

SOURCE: Final = ast.parse(Path(allenhark_ws.__file__).read_text(encoding="utf-8"))
HOMES: Final = {
    alias.name: statement.module or ""
    for statement in ast.walk(SOURCE)
    if isinstance(statement, ast.ImportFrom) and statement.level
    for alias in statement.names
}
"""What a type checker reads: each public name, and the module that it is imported from."""

MODULES: Final = sorted(set(HOMES.values()))


EXTRAS: Final = {
    "testing": "websockets",
    "metrics": "prometheus_client",
    "notebook": "IPython",
    "dataframe": "pandas",
    "to_dataframe": "pandas",
}
"""What modules and functions have in their annotations that an extra brings."""


def public_members(cls: type) -> Iterator[tuple[str, Any]]:
    """What a class of ours does, inherited or not: methods, the getters of its properties, what Python calls."""
    ours = [base for base in cls.__mro__ if base.__module__.startswith("allenhark_ws")]
    for name in sorted({name for base in ours for name in vars(base)}):
        member = inspect.getattr_static(cls, name)
        function = getattr(member, "fget", None) or getattr(member, "__func__", None) or member
        if inspect.isfunction(function) and (not name.startswith("_") or name.endswith("__")):
            yield name, function


def fresh(code: str) -> list[str]:
    """The words that some code prints in an interpreter of its own, where nothing of the package is loaded yet."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_type_checkers_see_every_name() -> None:
    """What is imported for them is what `__all__` promises, sorted, and is loaded from the same modules."""
    assert sorted(HOMES) == allenhark_ws.__all__
    assert HOMES == allenhark_ws._HOMES


@pytest.mark.parametrize("name", allenhark_ws.__all__)
def test_a_name_is_what_its_module_defines(name: str) -> None:
    """The very object that a type checker takes it for, from its one home."""
    home = importlib.import_module(f"allenhark_ws.{HOMES[name]}")
    value = getattr(allenhark_ws, name)
    assert value is getattr(home, name)
    assert (value.__module__, value.__qualname__) == (home.__name__, name)
    assert name in home.__all__


@pytest.mark.parametrize("name", allenhark_ws.__all__)
def test_a_name_is_looked_up_once(name: str) -> None:
    """Afterwards it is an attribute of the package as any other."""
    value = getattr(allenhark_ws, name)
    assert vars(allenhark_ws)[name] is value


@pytest.mark.parametrize("module", ["", *MODULES, "recording", "testing", "metrics", "notebook"])
def test_annotations_can_be_evaluated(module: str) -> None:
    """By `typing.get_type_hints`, on which much is built: of every class and function, and all that a class does."""
    if module in EXTRAS:
        pytest.importorskip(EXTRAS[module])
    home = importlib.import_module(f"allenhark_ws.{module}".rstrip("."))
    evaluated = 0
    for name in home.__all__:
        value = getattr(home, name)
        if not callable(value):
            continue
        for member, function in [(name, value), *(public_members(value) if isinstance(value, type) else ())]:
            if member in EXTRAS and importlib.util.find_spec(EXTRAS[member]) is None:
                continue
            typing.get_type_hints(function)
            evaluated += 1
    assert evaluated


def test_evaluated_annotations_are_the_real_types() -> None:
    """Those that importing does not load, too."""
    hints = typing.get_type_hints(allenhark_ws.Client.__init__)
    assert hints["ssl_context"] == ssl.SSLContext | None
    assert typing.get_type_hints(allenhark_ws.Client.record)["return"] is allenhark_ws.recording.Recorder
    assert typing.get_type_hints(vars(allenhark_ws.Stream)["client"].fget)["return"] is allenhark_ws.Client
    assert typing.get_type_hints(allenhark_ws.Gap)["cause"] is allenhark_ws.ConnectionLost
    assert typing.get_type_hints(allenhark_ws.RequestRejected)["errors"] == tuple[allenhark_ws.ServerError, ...]
    assert str(typing.get_type_hints(allenhark_ws.Client.start)["return"]).endswith("Self")


def test_evaluating_annotations_loads_what_they_name() -> None:
    """And nothing before that does."""
    code = """
import sys, typing
from allenhark_ws import Client
print('ssl' in sys.modules, 'allenhark_ws.recording' in sys.modules)
typing.get_type_hints(Client.__init__), typing.get_type_hints(Client.record)
print('ssl' in sys.modules, 'allenhark_ws.recording' in sys.modules)
"""
    assert fresh(code) == ["False", "False", "True", "True"]


def test_whoever_looks_through_a_module_loads_nothing() -> None:
    """What is waiting in it has no attributes but the classes of its module."""
    code = """
import sys
from allenhark_ws._hints import Later
waiting = Later('decimal')
print(hasattr(waiting, '__wrapped__'), hasattr(waiting, 'pytest_impl'), 'decimal' in sys.modules)
print(waiting.Decimal(1), 'decimal' in sys.modules)
"""
    assert fresh(code) == ["False", "False", "False", "1", "True"]


def test_help_begins_with_all_that_a_client_can_be_asked_for() -> None:
    """`help` sorts the members by their names; the list above them is in the order of use, and leaves nothing out."""
    listed = inspect.cleandoc(allenhark_ws.Client.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0]
    names = [name for line in listed.splitlines() for name in line[:41].replace(",", " ").split()]
    assert sorted(names) == sorted({name for name in vars(allenhark_ws.Client) if not name.startswith("_")} | {"with"})


def test_dir_is_what_all_promises() -> None:
    """Both before and after names were used; the list is the caller's own."""
    assert dir(allenhark_ws) == allenhark_ws.__all__
    assert allenhark_ws.__dir__() is not allenhark_ws.__all__
    assert fresh("import allenhark_ws; print(dir(allenhark_ws) == allenhark_ws.__all__)") == ["True"]


def test_an_unknown_name() -> None:
    """It is refused as by any module, by type checkers too."""
    with pytest.raises(AttributeError, match=r"^module 'allenhark_ws' has no attribute 'nothing'$"):
        allenhark_ws.nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match=r"^cannot import name 'nothing' from 'allenhark_ws' \("):
        from allenhark_ws import nothing  # type: ignore[attr-defined]  # noqa: F401, PLC0415
    assert not hasattr(allenhark_ws, "nothing")


def test_importing_the_package_loads_nothing() -> None:
    """Neither its own modules nor attrs: that is for the names that are used."""
    code = "import sys, allenhark_ws; print(*[n for n in sys.modules if n.startswith(('allenhark_ws.', 'attr'))])"
    assert fresh(code) == []


def test_a_channel_does_not_load_the_client() -> None:
    """A name costs its own module and what that needs."""
    code = (
        "import sys; from allenhark_ws import Price; print(*[n for n in sys.modules if n.startswith('allenhark_ws')])"
    )
    assert fresh(code) == ["allenhark_ws", "allenhark_ws.channels"]


def test_star_import() -> None:
    """It brings every public name and nothing else, here and as the first import of a program."""
    brought: dict[str, object] = {}
    exec("from allenhark_ws import *", brought)  # noqa: S102 - Python has it at the top of a module only
    del brought["__builtins__"]
    assert brought == {name: getattr(allenhark_ws, name) for name in allenhark_ws.__all__}
    code = "before = {*globals(), 'before'}\nfrom allenhark_ws import *\nprint(*sorted({*globals()} - before))"
    assert fresh(code) == allenhark_ws.__all__


@pytest.mark.parametrize("name", MODULES)
def test_modules_are_attributes(name: str) -> None:
    """A public module needs no import of its own, whichever names were used before."""
    module = getattr(allenhark_ws, name)
    assert isinstance(module, ModuleType)
    assert module is importlib.import_module(f"allenhark_ws.{name}")
    assert fresh(f"import allenhark_ws; print(allenhark_ws.{name}.__name__)") == [f"allenhark_ws.{name}"]


@pytest.mark.parametrize("name", [*MODULES, "_codec", "cli"])
def test_modules_can_be_imported(name: str) -> None:
    """In every form, public or not, as the first import of a program."""
    if name == "cli":
        pytest.importorskip("click")
        pytest.importorskip("rich")
    code = f"from allenhark_ws import {name} as one\nimport allenhark_ws.{name} as two\nprint(one is two, one.__name__)"
    assert fresh(code) == ["True", f"allenhark_ws.{name}"]


@pytest.mark.parametrize(
    "value", [allenhark_ws.Price("m"), allenhark_ws.Backoff(), allenhark_ws.Closed(None), allenhark_ws.ClientClosed()]
)
def test_unpickling_comes_first(value: object) -> None:
    """A value arrives in a program that has used no name yet."""
    told = fresh(f"import pickle; print(type(pickle.loads({pickle.dumps(value)!r})))")
    assert " ".join(told) == str(type(value))


def test_a_name_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """As tests of programs do, and put back."""
    real = allenhark_ws.Client
    with monkeypatch.context() as patch:
        patch.setattr("allenhark_ws.Client", None)
        assert allenhark_ws.Client is None
    assert allenhark_ws.Client is real


def test_threads_may_ask_at_once() -> None:
    """The first use of names in several threads, each in an order of its own, gives all the same objects."""
    code = """
import allenhark_ws, threading
gate, found = threading.Barrier(4), []
def ask(first):
    gate.wait()
    names = allenhark_ws.__all__[first:] + allenhark_ws.__all__[:first]
    found.append({name: getattr(allenhark_ws, name) for name in names})
threads = [threading.Thread(target=ask, args=[10 * number]) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), all(names == found[0] for names in found))
"""
    assert fresh(code) == ["4", "True"]
