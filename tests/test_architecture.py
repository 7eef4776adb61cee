"""The shape of the package, proved on its source: who may import whom, and what nobody may do.

`ROWS` is the one table to edit when a module is added.
"""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import FunctionType
from typing import Final, NamedTuple, TypeGuard

import pytest

import allenhark_ws

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "allenhark_ws"

PUBLIC: Final = "__init__"
"""The package itself, as a module of the table."""

ROWS: Final[tuple[tuple[frozenset[str], ...], ...]] = (
    (frozenset({"testing", "cli", "__main__", "pytest_plugin", "metrics"}),),
    (frozenset({PUBLIC}),),
    (frozenset({"_replay", "_player"}),),
    (frozenset({"client"}),),
    (frozenset({"notebook"}),),
    (
        frozenset(
            {
                *("_loop", "_driver", "_network", "_intake", "_outlet", "_sleeper", "_ports"),
                *("_dispatch", "streams"),
            }
        ),
        frozenset({"recording"}),
    ),
    (
        frozenset({"_session", "_link", "_verdict"}),
        frozenset(
            {
                *("_transport", "_frames", "_connect", "_guard", "_dns", "_tcp", "_proxy", "_tls"),
                *("_upgrade", "_target", "_aside"),
            }
        ),
        frozenset({"_router", "_express", "_places", "_routes", "_wanted"}),
        frozenset({"_wakeup"}),
    ),
    (
        frozenset({"_codec", "_dicts", "_lanes", "_structs", "_strict", "_twins"}),
        frozenset({"_backoff"}),
        frozenset({"_counters"}),
        frozenset({"_queue"}),
        frozenset({"_redact"}),
        frozenset({"dataframe"}),
    ),
    (frozenset({"config", "events", "errors", "channels", "_spelling", "stats", "state", "_typing"}),),
    (
        *(frozenset({"_frozen"}), frozenset({"_html"}), frozenset({"_json"}), frozenset({"_process"})),
        *(frozenset({"_hints"}), frozenset({"_instant"}), frozenset({"_locks"}), frozenset({"_log"})),
    ),
    (frozenset({"_words"}),),
)
"""Top-level modules and subpackages, the highest row first.

A module may import every lower row and, without going round in a circle, its own group; not another group of its row.
The first row stands around the client: it may import the package itself, its public modules and its own row, nothing
else below but `PORTS`, `HINTS`, and `READER`.
"""

PUBLIC_MODULES: Final = frozenset({"recording"})
"""Public modules whose names the package itself does not have."""

PORTS: Final = "_ports"
"""Where another transport and another clock plug in."""

HINTS: Final = "_hints"
"""What annotations need, everywhere."""

READER: Final = ("testing", "_codec")
"""A simulator says what a client will make of a message, and who else could know."""

LATE: Final[Mapping[tuple[str, str], str]] = {
    ("config", "ssl"): "only a given ssl_context is checked against it, and importing the package must not load it",
}
"""Imports inside a function forbidden at the top of a module, as (module, imported), and why each is right."""

IMPORTERS: Final[Mapping[str, frozenset[str]]] = {
    "asyncio": frozenset({"testing"}),
    "cattrs": frozenset({"_codec"}),
    "msgspec": frozenset({"_structs"}),
    "socket": frozenset(
        {
            *("_transport", "_connect", "_guard", "_dns", "_tcp", "_proxy", "_tls", "_upgrade", "_aside", "_wakeup"),
            *("_driver", "_network", "_sleeper", "_ports", "_player"),
            *("testing", "cli"),
        }
    ),
    "ssl": frozenset({"_transport", "_guard", "_proxy", "_tls", "testing", "cli"}),
    "websocket": frozenset({"_transport", "_upgrade", "_proxy"}),
    "python_socks": frozenset({"_proxy"}),
    "trustme": frozenset({"testing"}),
    "websockets": frozenset({"testing"}),
    "prometheus_client": frozenset({"metrics"}),
    "pytest": frozenset({"pytest_plugin"}),
    "click": frozenset({"cli"}),
    "cryptography": frozenset({"cli"}),
    "rich": frozenset({"cli"}),
    "IPython": frozenset({"notebook"}),
    "pandas": frozenset({"dataframe"}),
    "pyarrow": frozenset({"recording"}),
}
"""Foreign modules with a price or a danger, and the only modules that may import them."""

SANS_IO: Final = frozenset(
    {
        *("_session", "_link", "_verdict", "_counters", "_backoff", "_frames"),
        *("_codec", "_dicts", "_lanes", "_structs", "_strict", "_twins"),
        *("_frozen", "_json", "channels", "_spelling", "events", "errors", "state", "stats"),
    }
)
"""Modules that get everything as arguments: bytes, the time, randomness."""

SANS_IO_OF_RECORDING: Final = frozenset({"_format", "_gzip", "_table"})
"""Likewise, of the subpackage `recording`."""

OUTSIDE_WORLD: Final = frozenset(
    {
        *("socket", "ssl", "select", "selectors", "websocket", "http", "urllib.request", "os", "io", "pathlib"),
        *("asyncio", "concurrent.futures", "multiprocessing", "queue", "subprocess", "threading", "_thread"),
        *("random", "secrets", "signal", "time"),
    }
)
"""What a module without I/O must not import."""


class Import(NamedTuple):
    """One import of one name, as written in a module of the table."""

    module: str
    target: str
    """A module of the table, or a foreign module's full dotted name."""
    own: bool
    """Whether the target is of the package."""
    late: bool
    """Whether it stands inside a function."""
    where: str
    """File and line."""

    @property
    def top(self) -> str:
        """The target without its submodules."""
        return self.target.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.where} imports {self.target}"


def module_of(path: Path) -> str:
    """The table's name of a source file: a subpackage counts as one."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> list[Path]:
    """Every source file of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _walk(node: ast.AST, *, late: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Import statements that run, each with whether it stands inside a function."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        yield node, late
    inside = late or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
    children = node.orelse if isinstance(node, ast.If) and _is_type_checking(node) else ast.iter_child_nodes(node)
    for child in children:
        yield from _walk(child, late=inside)


def _targets(statement: ast.Import | ast.ImportFrom, path: Path) -> Iterator[str]:
    """Full dotted names of the modules that a statement imports, of each name when that may be a module itself."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    base = statement.module or ""
    if statement.level:
        package = ("allenhark_ws", *path.relative_to(PACKAGE).parts[:-1])
        base = ".".join([*package[: len(package) - statement.level + 1], *([base] if base else [])])
    yield from (f"{base}.{alias.name}" if _is_module(f"{base}.{alias.name}") else base for alias in statement.names)


def _is_module(dotted: str) -> bool:
    first, *rest = dotted.split(".")
    path = PACKAGE.joinpath(*rest)
    return first == "allenhark_ws" and (path.with_suffix(".py").is_file() or path.joinpath("__init__.py").is_file())


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a source file, those for the type checker alone left out."""
    for statement, late in _walk(ast.parse(path.read_text(encoding="utf-8"))):
        for target in _targets(statement, path):
            first, *rest = target.split(".")
            own = first == "allenhark_ws"
            name = (rest[0] if rest else PUBLIC) if own else target
            yield Import(module_of(path), name, own, late, f"{path.relative_to(ROOT)}:{statement.lineno}")


@cache
def all_imports() -> tuple[Import, ...]:
    """Every import of the package, read once."""
    return tuple(sorted({found for path in sources() for found in imports_of(path)}))


def _place(module: str) -> tuple[int, frozenset[str]]:
    for number, row in enumerate(ROWS):
        for group in row:
            if module in group:
                return number, group
    raise LookupError(
        f"allenhark_ws/{module} is in no row of ROWS in tests/test_architecture.py: add it to the lowest row that "
        "stands above all it imports, and to SANS_IO if it does no I/O"
    )


def may_import(module: str, target: str) -> bool:
    """Whether the table lets one module of the package import another."""
    row, group = _place(module)
    target_row, _ = _place(target)
    if row == 0:
        around = target in (PUBLIC, PORTS, HINTS) or target in PUBLIC_MODULES
        return around or target in group or (module, target) == READER
    return target_row > row or target in group


def _excused(found: Import) -> bool:
    return found.late and (found.module, found.top) in LATE


def test_every_module_has_its_place() -> None:
    """A module that the table does not know fails here, with a text that says where to add it."""
    for path in sources():
        _place(module_of(path))


def test_no_module_has_two_places() -> None:
    """The table is a partition: otherwise the first place found would hide the second."""
    names = [name for row in ROWS for group in row for name in group]
    assert sorted(names) == sorted(set(names))


def test_imports_point_down() -> None:
    """Inside the package, imports follow the rows."""
    wrong = [found for found in all_imports() if found.own and not may_import(found.module, found.target)]
    assert not [str(found) for found in wrong if not _excused(found)]


def test_no_import_cycles() -> None:
    """Within a group, too, the imports at the top of the modules form no circle."""
    graph: dict[str, set[str]] = {module_of(path): set() for path in sources()}
    for found in all_imports():
        if found.own and not found.late and found.target != found.module:
            graph[found.module].add(found.target)
    circle = []
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1]
    assert circle == []


@pytest.mark.parametrize("foreign", sorted(IMPORTERS))
def test_foreign_module_is_imported_by_its_owners_only(foreign: str) -> None:
    """What is expensive or dangerous to import stays in the rooms made for it."""
    users = [found for found in all_imports() if not found.own and found.top == foreign]
    assert not [str(found) for found in users if found.module not in IMPORTERS[foreign] and not _excused(found)]


def test_sans_io_names_modules_that_exist() -> None:
    """A module that moved would otherwise be free of the rule, and of the coverage that goes with it, unnoticed."""
    assert sorted(SANS_IO - {module_of(path) for path in sources()}) == []


def _reaches_out(target: str) -> bool:
    parts = target.split(".")
    return any(".".join(parts[:length]) in OUTSIDE_WORLD for length in range(1, len(parts) + 1))


@pytest.mark.parametrize("module", sorted(SANS_IO))
def test_sans_io_module_imports_nothing_of_the_outside_world(module: str) -> None:
    """The rules work on arguments alone: no sockets, threads, clocks or dice, not even inside a function."""
    found = [found for found in all_imports() if found.module == module and not found.own]
    assert not [str(one) for one in found if _reaches_out(one.target)]


@pytest.mark.parametrize("name", sorted(SANS_IO_OF_RECORDING))
def test_sans_io_module_of_recording_imports_nothing_of_the_outside_world(name: str) -> None:
    """The format is bytes in and out; the files are opened elsewhere."""
    found = [found for found in imports_of(PACKAGE / "recording" / f"{name}.py") if not found.own]
    assert not [str(one) for one in found if _reaches_out(one.target)]


def _annotations(node: ast.AST) -> Iterator[ast.AST]:
    """What annotates a parameter, a result or a variable."""
    yield from (part for part in (getattr(node, "annotation", None), getattr(node, "returns", None)) if part)


def misused_later(tree: ast.AST) -> Iterator[str]:
    """Where a `Later` is named outside annotations, and in no function that imports the real thing."""
    made = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and "Later(" in ast.unparse(node.value)]
    names = {name.id for node in made for target in node.targets for name in ast.walk(target) if _is_name(name)}
    harmless = [part for node in ast.walk(tree) for part in _annotations(node)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    harmless += [function for function in functions if names & set(_imported(function))]
    fine = {id(node) for root in harmless for node in ast.walk(root)}
    for node in ast.walk(tree):
        if _is_name(node) and isinstance(node.ctx, ast.Load) and node.id in names and id(node) not in fine:
            yield f"{node.id}, line {node.lineno}"


def _is_name(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name)


def _imported(function: ast.FunctionDef) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name for alias in node.names)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_annotations_name_what_they_alone_need(path: Path) -> None:
    """A `Later` that code used would be an import that the tests above do not see."""
    assert list(misused_later(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        ("def f(a: one.A) -> two.B: ...", []),
        ("a: one.A = 1", []),
        ("def f():\n    import one\n    return one.A", []),
        ("def f():\n    return one.A", ["one, line 3"]),
        ("a: one.A = two.B", ["two, line 2"]),
    ],
)
def test_later_reader(use: str, expected: list[str]) -> None:
    """The reader that the test above rests on tells annotations from code."""
    assert list(misused_later(ast.parse(f"one, two = Later('one'), Later('two')\n{use}"))) == expected


def test_late_imports_are_still_needed() -> None:
    """An excuse whose import is gone has to go too."""
    used = {(found.module, found.top) for found in all_imports() if found.late}
    assert sorted(LATE.keys() - used) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("import ssl", [("ssl", False)], id="top"),
        pytest.param("def f():\n    import ssl", [("ssl", True)], id="in a function"),
        pytest.param("if TYPE_CHECKING:\n    import ssl", [], id="for the type checker"),
        pytest.param("if TYPE_CHECKING:\n    pass\nelse:\n    import ssl", [("ssl", False)], id="else of it"),
        pytest.param("try:\n    import orjson\nexcept ImportError:\n    pass", [("orjson", False)], id="in a try"),
        pytest.param("class C:\n    import ssl", [("ssl", False)], id="in a class"),
        pytest.param("from urllib.request import getproxies", [("urllib.request", False)], id="from"),
        pytest.param("from . import Client", [("allenhark_ws", False)], id="a name of the package"),
        pytest.param("from . import events", [("allenhark_ws.events", False)], id="a module of the package"),
        pytest.param("from .events import Event", [("allenhark_ws.events", False)], id="relative"),
        pytest.param("import allenhark_ws.events", [("allenhark_ws.events", False)], id="absolute"),
    ],
)
def test_import_reader(source: str, expected: list[tuple[str, bool]]) -> None:
    """The reader that the tests above rest on sees every form of import, and where it stands."""
    found = [
        (target, late) for node, late in _walk(ast.parse(source)) for target in _targets(node, PACKAGE / "client.py")
    ]
    assert found == expected


def test_import_reader_in_subpackage() -> None:
    """In a subpackage one dot is the subpackage, two are the package."""
    tree = ast.parse("from . import x\nfrom .. import Client\nfrom ..events import Event")
    found = [target for node, _ in _walk(tree) for target in _targets(node, PACKAGE / "cli" / "demo.py")]
    assert found == ["allenhark_ws.cli", "allenhark_ws", "allenhark_ws.events"]


@pytest.mark.parametrize(
    ("module", "target", "allowed"),
    [
        ("client", "_loop", True),
        ("_loop", "client", False),
        ("_session", "_transport", False),
        ("_transport", "_session", False),
        ("_transport", "_connect", True),
        ("cli", "__init__", True),
        ("cli", "testing", True),
        ("testing", "_ports", True),
        ("testing", "_loop", False),
        ("testing", "_codec", True),
        ("cli", "_codec", False),
        ("cli", "client", False),
        ("cli", "recording", True),
        ("_loop", "recording", False),
        ("__init__", "cli", False),
    ],
)
def test_direction(module: str, target: str, allowed: bool) -> None:
    """The rule says no where it should."""
    assert may_import(module, target) is allowed


def test_importing_the_package_is_cheap() -> None:
    """Until a client is made neither TLS nor websocket-client nor cattrs, nor anything of an extra, is loaded."""
    heavy = sorted(IMPORTERS.keys() - {"socket"})
    code = f"import sys; from allenhark_ws import *; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def every_source() -> list[Path]:
    """The Python files of the package, the tests and the examples."""
    return sorted(path for name in ("allenhark_ws", "tests", "examples") for path in (ROOT / name).rglob("*.py"))


def _sleeps(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "sleep" and ast.unparse(node) == "time.sleep":
            yield node.lineno
        if isinstance(node, ast.ImportFrom) and node.module == "time" and "sleep" in {a.name for a in node.names}:
            yield node.lineno


def test_nobody_sleeps() -> None:
    """Waiting is always for something: an event, a deadline, a wake-up; a sleep is slow, flaky or both."""
    found = [(path, line) for path in every_source() for line in _sleeps(ast.parse(path.read_text(encoding="utf-8")))]
    assert not [f"{path.relative_to(ROOT)}:{line}" for path, line in found]


def _conditions(tree: ast.Module) -> Iterator[int]:
    """Lines where a condition is entered: `changed`, as each is called here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and ast.unparse(node.context_expr).endswith("changed"):
            yield node.context_expr.lineno


def test_conditions_are_entered_by_their_locks() -> None:
    """`Condition.__enter__` is a function of Python's: Ctrl-C within it would leave the lock taken for ever."""
    files = [path for path in every_source() if PACKAGE in path.parents and "testing" not in path.parts]
    found = [(path, line) for path in files for line in _conditions(ast.parse(path.read_text(encoding="utf-8")))]
    assert files
    assert not [f"{path.relative_to(ROOT)}:{line}" for path, line in found]


def test_nothing_is_left_for_later() -> None:
    """What is in the repository is finished."""
    later = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"]) + r")\b")
    assert not [
        str(path.relative_to(ROOT)) for path in every_source() if later.search(path.read_text(encoding="utf-8"))
    ]


LONGEST_FUNCTION: Final = 40
"""Lines of code of a function, at most: what a screen shows."""

LONG_FUNCTIONS: Final[Mapping[str, str]] = {
    "allenhark_ws/_express.py: express": "the hot loop: each call it saves is paid for by every message",
    "allenhark_ws/_dicts.py: build": "likewise, where the standard library alone is there",
}
"""Functions that are longer, and why each is right."""

LONGEST_MODULE: Final = 400
"""Lines of code of a module of the package, at most."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _lines(node: ast.AST) -> set[int]:
    """The numbers of the lines that a node spans."""
    first, last = getattr(node, "lineno", 1), getattr(node, "end_lineno", 0)
    return set(range(first, last + 1))


def _spoken(source: str) -> set[int]:
    """The numbers of the lines that are neither empty nor comments."""
    lines = [line.strip() for line in source.splitlines()]
    return {number for number, line in enumerate(lines, 1) if line and not line.startswith("#")}


def _code(nodes: Sequence[ast.AST], spoken: set[int]) -> set[int]:
    """The numbers of the lines of code in these nodes: without texts that only document."""
    texts = [
        node
        for top in nodes
        for node in ast.walk(top)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return (set[int]().union(*map(_lines, nodes)) & spoken) - set[int]().union(*map(_lines, texts))


def _functions(source: str) -> Iterator[tuple[str, int]]:
    """The name of every function, and the lines of code in its body; a function inside another counts by itself."""
    spoken = _spoken(source)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            inner = [child for child in ast.walk(node) if isinstance(child, Function) and child is not node]
            yield node.name, len(_code(node.body, spoken) - set[int]().union(*map(_lines, inner)))


def test_no_function_needs_scrolling() -> None:
    """What a function does is seen at a glance; an exception that is not needed any more has to go."""
    long = {
        f"{path.relative_to(ROOT).as_posix()}: {name}"
        for path in sources()
        for name, size in _functions(path.read_text(encoding="utf-8"))
        if size > LONGEST_FUNCTION
    }
    assert long == set(LONG_FUNCTIONS)


def test_no_module_is_too_long() -> None:
    """A file has one subject; one that grows beyond this has two."""
    texts = {path: path.read_text(encoding="utf-8") for path in sources()}
    sizes = {path: len(_code(ast.parse(text).body, _spoken(text))) for path, text in texts.items()}
    assert not [f"{path.relative_to(ROOT)}: {size}" for path, size in sizes.items() if size > LONGEST_MODULE]


def test_the_counter_of_lines() -> None:
    """What the two tests above count: code alone, and what is inside another function only there."""
    source = '''
def outer(
    argument,
):
    """A text
    of two lines."""

    # a remark
    value = [
        argument,
    ]

    def inner():
        return value

    return inner
'''
    assert dict(_functions(source)) == {"outer": 4, "inner": 1}
    assert len(_code(ast.parse(source).body, _spoken(source))) == 9


def _said_of(path: Path) -> str:
    """A module's docstring, on one line."""
    return " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split())


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_every_module_says_what_it_is_for(path: Path) -> None:
    """A docstring tells the subject, the neighbours, and what must never happen there; no name in it is out of date."""
    said = _said_of(path)
    assert "Neighbours: " in said
    assert " must never " in said
    modules = {found.stem for found in (*PACKAGE.glob("*.py"), *path.parent.glob("*.py"))}
    source = path.read_text(encoding="utf-8")
    named = set(re.findall(r"(?<!`)`(_[a-z]\w*)(?:\.\w+)*`(?!`)", said)) - modules
    assert not [name for name in named if len(re.findall(rf"\b{name}\b", source)) < 2]


def test_every_room_is_on_the_map() -> None:
    """The package's own docstring leads to each module."""
    words = set(re.findall(r"\w+", _said_of(PACKAGE / "__init__.py")))
    assert sorted({module_of(path) for path in sources()} - {PUBLIC} - words) == []


def _undocumented(name: str, value: object) -> Iterator[str]:
    """The names of a class or function, and of a class's own public members, that have no docstring."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return
    if not value.__doc__:
        yield name
    for member, content in vars(value).items() if inspect.isclass(value) else ():
        spoken = isinstance(content, (FunctionType, property, staticmethod, classmethod))
        if spoken and not member.startswith("_") and not content.__doc__:
            yield f"{name}.{member}"


def test_public_names_are_documented() -> None:
    """Every public class, method, property and function has a docstring; none is named twice."""
    names = getattr(allenhark_ws, "__all__", [])
    missing = [one for name in names for one in _undocumented(name, getattr(allenhark_ws, name))]
    assert missing == []
    assert len(names) == len(set(names))
