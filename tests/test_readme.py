"""The README is true: what it names is there, its promises name their tests, its programs run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")

PROSE: Final = re.sub(r"^```.*?^```$", "", README, flags=re.MULTILINE | re.DOTALL)
"""All but the code blocks."""


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


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)]+)\)", PROSE))))
def test_a_link_leads_somewhere(target: str) -> None:
    """To a file or a directory that is published with it."""
    assert (ROOT / target).exists()


@pytest.mark.parametrize("module", sorted(set(re.findall(r"python -m (tests[.\w]*)", README))))
def test_a_command_of_the_tests_exists(module: str) -> None:
    """It is a module, or a package that can be run."""
    path = ROOT.joinpath(*module.split("."))
    assert path.with_suffix(".py").exists() or (path / "__main__.py").exists()
