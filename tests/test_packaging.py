"""What is published: metadata, the wheel's contents, the README's commands, and that the tools agree."""

from __future__ import annotations

import configparser
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

import pytest

import allenhark_ws

from . import dist, lowest, run
from .conftest import SLOW
from .test_architecture import SANS_IO, SANS_IO_OF_RECORDING

ROOT: Final = Path(__file__).parents[1]

ON_THE_WHEEL: Final = os.environ.get("ALLENHARK_WS_TESTED") == "wheel"
"""Set by tox: the built wheel is installed, and the tests have to be about that."""

needs_the_wheel = pytest.mark.skipif(not ON_THE_WHEEL, reason="about the built wheel, which tox installs")


@pytest.fixture(scope="module")
def installed() -> Distribution:
    """The installed distribution; it may be missing only where the sources are tested as they lie."""
    try:
        return distribution("allenhark-ws")
    except PackageNotFoundError:
        if ON_THE_WHEEL:
            raise
        pytest.skip("allenhark-ws is not installed, only importable")


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    """setup.cfg, parsed."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """pyproject.toml, parsed; by pytest's own reader where Python has none."""
    reader = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    parsed: dict[str, Any] = reader.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return parsed


@needs_the_wheel
def test_the_wheel_is_what_is_tested() -> None:
    """Under tox the package is imported from where the wheel was installed, not from the sources."""
    assert Path(str(allenhark_ws.__file__)).parent != ROOT / "allenhark_ws"


@needs_the_wheel
def test_wheel_holds_the_package_and_nothing_else(installed: Distribution) -> None:
    """Every source and the typing marker are in the wheel; a stale build/ directory would show here."""
    files = [file for file in installed.files or [] if "__pycache__" not in file.parts]
    packed = {file.as_posix() for file in files if file.parts[0] == "allenhark_ws"}
    kept = {path.relative_to(ROOT).as_posix() for path in (ROOT / "allenhark_ws").rglob("*.py")}
    assert packed == kept | {"allenhark_ws/py.typed"}
    assert {file.parts[0] for file in files if file.suffix == ".py"} == {"allenhark_ws"}


def test_metadata(installed: Distribution) -> None:
    """Name, version, license and Python arrive in the metadata; the license text comes along."""
    metadata = installed.metadata
    assert metadata["Name"] == "allenhark-ws"
    assert metadata["Version"] == allenhark_ws.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.10"


def test_bare_install_needs_three_packages() -> None:
    """Everything else is behind an extra."""
    names = [re.split("[<>=]", line)[0] for line in lowest.read_requirements()[""]]
    assert names == ["attrs", "cattrs", "websocket-client"]


def test_extras(installed: Distribution) -> None:
    """The extras that the documentation names, and the developers' two."""
    extras = installed.metadata.get_all("Provides-Extra")
    known = ["bench", "cli", "dev", "metrics", "notebook", "parquet", "socks", "speed", "testing"]
    assert sorted(extras or []) == known


def test_command_is_installed(installed: Distribution) -> None:
    """`allenhark-ws` starts `allenhark_ws.cli.main`."""
    pytest.importorskip("click", reason="the command needs the extra cli")
    (command,) = (entry for entry in installed.entry_points if entry.group == "console_scripts")
    assert (command.name, command.value) == ("allenhark-ws", "allenhark_ws.cli:main")
    assert callable(command.load())


def test_changelog_knows_the_version() -> None:
    """The package's version is the newest heading of the changelog."""
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == allenhark_ws.__version__


def test_supported_pythons_agree(setup_cfg: configparser.ConfigParser, pyproject: dict[str, Any]) -> None:
    """Classifiers, tox's environments and the search for interpreters name the same versions."""
    classified = re.findall(r"Python :: (3\.\d+)$", setup_cfg["metadata"]["classifiers"], re.MULTILINE)
    environments = sorted(re.findall(r"py3\d+", " ".join(pyproject["tool"]["tox"]["env_list"])))
    assert tuple(classified) == run.VERSIONS
    assert environments == [f"py{version.replace('.', '')}" for version in run.VERSIONS]


def test_tools_of_tox_are_those_of_the_extra_dev(pyproject: dict[str, Any]) -> None:
    """What tox installs and what a developer installs is one set of requirements, but for Jupyter."""
    tox = pyproject["tool"]["tox"]
    tables = (tox["env_run_base"], *(table for name, table in tox["env"].items() if name != "notebook"))
    installed_by_tox = {dep for table in tables for dep in table.get("deps", [])}
    tools = {line for line in lowest.read_requirements()["dev"] if not line.startswith(("allenhark-ws", "tox"))}
    assert installed_by_tox == tools


def test_slow_tests_are_there() -> None:
    """A file that was renamed would be taken for unit tests again, unnoticed."""
    assert sorted(SLOW - {path.stem for path in (ROOT / "tests").glob("test_*.py")}) == []


def test_coverage_gate_names_the_modules_without_io(pyproject: dict[str, Any]) -> None:
    """A module that the architecture calls free of I/O has every branch tested; so has `config`."""
    gate = pyproject["tool"]["tox"]["env"]["coverage"]["commands"][-1]
    (include,) = (argument for argument in gate if argument.startswith("--include="))
    covered = {Path(pattern).stem for pattern in include.removeprefix("--include=").split(",")}
    assert "--fail-under=100" in gate
    assert covered == SANS_IO | SANS_IO_OF_RECORDING | {"config"}


def test_every_requirement_has_a_lowest_version() -> None:
    """The environment `lowest` can pin each one."""
    found = [pin for lines in lowest.read_requirements().values() for pin in lowest.pins(lines)]
    assert "websocket-client==1.9.2" in found
    assert all(re.fullmatch(r"[\w-]+==\d[\d.]*", pin) for pin in found)


def test_requirement_without_lowest_version_is_refused() -> None:
    """A bound that is forgotten is told by name."""
    with pytest.raises(ValueError, match="'attrs' must read"):
        list(lowest.pins(["attrs"]))


@pytest.mark.parametrize("name", ["demo", "tests"])
def test_readme_has_the_commands_that_ci_runs(name: str) -> None:
    """Each is one complete command for a fresh clone."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"^<!-- ci: {name} -->\n```sh\n(.*)\n```$", readme, re.MULTILINE)
    assert command.startswith("python3 -m venv .venv && ")


COLLECT_BARE: Final = """
import contextlib, importlib, pathlib, sys
import pytest
for name in sys.argv[1:]:
    sys.modules[name] = None
for path in sorted(pathlib.Path("tests").glob("test_*.py")):
    with contextlib.suppress(pytest.skip.Exception):
        importlib.import_module("tests." + path.stem)
"""
"""Import every test module where the packages named on the command line are missing; one may say that it is skipped."""


def test_tests_know_what_may_be_missing() -> None:
    """Without the extras each test module loads, or is skipped: the bare install is tested by all that can be."""
    lines = [line for extra, lines in lowest.needed_at_run_time().items() if extra for line in lines]
    packages = [pin.partition("==")[0].replace("-", "_") for pin in lowest.pins(lines)]
    hidden = ["IPython" if name == "ipython" else name for name in packages]
    assert {"IPython", "click", "msgspec", "prometheus_client", "websockets"} <= {*hidden}
    done = subprocess.run(
        [sys.executable, "-c", COLLECT_BARE, *hidden], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_top_level_stays_small() -> None:
    """What a visitor sees first is what a Python package needs, and nothing else; an sdist is made of all of it."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    published = {*dist.SOURCES, *dist.TREES}
    assert {line.split("/")[0] for line in listed.stdout.splitlines()} == published | {".gitignore", ".ci"}


def test_runner_finds_this_interpreter() -> None:
    """The search knows a CPython by asking it, and takes it for no other version."""
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert run.find_interpreters()[this][1].startswith(f"{this}.")
    assert run._probe(sys.executable, "2.7") is None
    assert run._probe(str(ROOT / "no-such-python"), this) is None


def test_runner_repeats_the_summaries_of_pytest(tmp_path: Path) -> None:
    """Of all that tox recorded, just the last line of each pytest."""
    output = "=== test session starts ===\nx = 'a == 1 passed b'\n=== 2 passed, 1 skipped in 0.04s ===\n"
    steps = [{"output": "Success: no issues found"}, {"output": output}]
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"testenvs": {"lint": {}, "py312": {"test": steps}}}), encoding="utf-8")
    assert list(run._summaries(result)) == ["   py312: 2 passed, 1 skipped in 0.04s"]
