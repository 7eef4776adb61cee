"""The README is true: what it names is there, its promises name their tests, its programs run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from allenhark_ws import Client, Price, PriceUpdate

from .patience import PATIENCE

if TYPE_CHECKING:
    from allenhark_ws.testing import Simulator

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")

PROSE: Final = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
"""All but the code blocks."""

PROGRAMS: Final = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def named_tests() -> Iterator[tuple[str, str]]:
    """Each test that is named, with the file that was named last before it; the file itself with an empty name."""
    file = ""
    for word in re.findall(r"`(test_\w+(?:\.py)?)`", PROSE):
        if word.endswith(".py"):
            file = word
            yield file, ""
        else:
            yield file, word


def section(title: str) -> str:
    """What stands under a heading."""
    return PROSE.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(("file", "test"), sorted(set(named_tests())))
def test_a_named_test_exists(file: str, test: str) -> None:
    """In the file that it is said to be in."""
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert not test or test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", re.findall(r"^\| (?!when|---)(.+) \|$", section("What you can rely on"), re.MULTILINE))
def test_a_promise_names_its_proof(row: str) -> None:
    """Every row of the table ends with a test."""
    _when, _what, proof = row.split(" | ")
    assert "`test_" in proof


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https://)([^)]+)\)", PROSE))))
def test_a_link_leads_somewhere(target: str) -> None:
    """To a file or a directory that is published with it."""
    assert (ROOT / target).exists()


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (tests[.\w]*)", README))))
def test_a_command_of_the_tests_exists(module: str) -> None:
    """It is a module, or a package that can be run."""
    path = ROOT.joinpath(*module.split("."))
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()


class Enough(Exception):
    """Ends a program of the README that would run for ever."""


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """A live market, to which ``Client()`` connects."""
    pytest.importorskip("websockets", reason="needs the extra testing")
    from allenhark_ws.testing import Simulator  # noqa: PLC0415 - an extra

    with Simulator(feed=True) as simulator:
        monkeypatch.setenv("ALLENHARK_WS_URL", simulator.url)
        monkeypatch.setenv("ALLENHARK_API_KEY", simulator.api_key)
        yield simulator


def run(number: int, **names: Any) -> dict[str, Any]:
    """Run a Python block of the README, with what it does not define itself; what it leaves behind."""
    exec(PROGRAMS[number], names)  # noqa: S102 - our own
    return names


def test_there_are_programs() -> None:
    """Those below are the ones that the README shows; the notebook's two are run as examples/quickstart.ipynb."""
    uses = ("my_main_loop()", "book(", "client.watch()", "prices.to_dataframe()", "replay(", "def test_alert(")
    assert [use in program for use, program in zip(uses, PROGRAMS, strict=True)] == [True] * len(uses)
    for program in PROGRAMS:
        ast.parse(program)


def test_the_program_with_callbacks(market: Simulator) -> None:
    """It prints prices while its own loop runs."""
    printed: list[tuple[Any, ...]] = []
    run(0, print=lambda *values: printed.append(values), my_main_loop=lambda: market.wait_for(lambda: printed))
    assert printed[0][0] == "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"


def test_the_program_with_a_queue(market: Simulator) -> None:
    """It books trades until something stops it."""

    def book(signature: str, profit: float) -> None:
        assert signature
        assert isinstance(profit, float)
        raise Enough

    with pytest.raises(Enough):
        run(1, book=book)
    market.wait_for(lambda: not market.connections)


def test_the_program_with_a_recording(market: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table has all of it."""
    pytest.importorskip("pandas", reason="needs the extra notebook")
    monkeypatch.chdir(tmp_path)
    mint = "So11111111111111111111111111111111111111112"
    with Client() as client, client.record("day.jsonl.gz"), client.stream(Price(mint)) as prices:
        recorded = [prices.get(timeout=PATIENCE) for _ in range(3)]
    table = run(4)["table"]
    assert list(table["price"])[:3] == [event.price for event in recorded]
    assert set(table["mint"]) == {mint}


def test_the_test_of_a_program(market: Simulator) -> None:
    """It passes with an alert that rings."""

    class Alert:
        rang = False

        def __init__(self, client: Client, mint: str, above: float) -> None:
            self.above = above
            client.subscribe(Price(mint), callback=self.look)

        def look(self, event: PriceUpdate) -> None:
            self.rang = self.rang or event.price > self.above

    with Client() as client:
        run(5, Alert=Alert)["test_alert"](market, client)
