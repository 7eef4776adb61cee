"""Run everything: linter, types, and the suite on every supported CPython this machine has.

``python -m tests.run`` says which interpreters it found and where, calls tox with them, and repeats pytest's summary
lines at the end.  Arguments go to tox: ``python -m tests.run -e lint,types``.

tox alone looks on PATH, where pyenv puts a stand-in for each version that works only while that version is selected;
so this looks into pyenv's own directory too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
"""The CPythons that are supported, as in setup.cfg."""

_PROBE = """
import platform, sys
print(sys.executable, platform.python_implementation(), platform.python_version(), sep="\\n")
"""
_SUMMARY = re.compile(r"^=+ (?P<text>(?:\d+ \w+|no tests ran)\b.* in [\d.:]+s.*) =+$", re.MULTILINE)


def _pyenv_root() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def _candidates(version: str) -> Iterator[str]:
    """Where a CPython of this version may be: this one, on PATH, under pyenv (the newest first)."""
    yield sys.executable
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        yield on_path
    installed = (_pyenv_root() / "versions").glob(f"{version}.*/bin/python{version}")
    yield from map(str, sorted(installed, key=lambda path: _numbers(path.parents[1].name), reverse=True))


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _probe(candidate: str, version: str) -> tuple[str, str] | None:
    """Path and full version of the interpreter, or None when it does not run or is another."""
    try:
        done = subprocess.run([candidate, "-c", _PROBE], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    path, implementation, full = done.stdout.split("\n")[:3]
    return (path, full) if implementation == "CPython" and full.startswith(f"{version}.") else None


def find_interpreters() -> dict[str, tuple[str, str]]:
    """Path and full version of one interpreter for each supported version that is here."""
    found = {}
    for version in VERSIONS:
        probed = (_probe(candidate, version) for candidate in _candidates(version))
        interpreter = next(filter(None, probed), None)
        if interpreter is not None:
            found[version] = interpreter
    return found


def _report_interpreters(found: dict[str, tuple[str, str]]) -> None:
    for version in VERSIONS:
        if version in found:
            path, full = found[version]
            print(f"CPython {full}: {path}")
        else:
            print(f"CPython {version}: NOT FOUND, its tests are skipped")
    print(flush=True)


def _run_tox(found: dict[str, tuple[str, str]], arguments: list[str], result: Path) -> int:
    discover = ["--discover", *(path for path, _ in found.values())]
    # Twice as many at a time as there are processors: the tests wait about as long as they compute.
    parallel = ["--parallel", str(2 * (os.cpu_count() or 1)), "--parallel-no-spinner"]
    command = [sys.executable, "-m", "tox", "run-parallel", *discover, *parallel, "--result-json", str(result)]
    return subprocess.run([*command, *arguments], cwd=ROOT, check=False).returncode


def _summaries(result: Path) -> Iterator[str]:
    """For each environment the last line of its pytest, from tox's report."""
    for name, environment in json.loads(result.read_text(encoding="utf-8"))["testenvs"].items():
        for step in environment.get("test", []):
            yield from (f"{name:>8}: {match['text']}" for match in _SUMMARY.finditer(step["output"]))


def main(arguments: list[str]) -> int:
    """Find interpreters, run tox, repeat the summaries; tox's exit code."""
    found = find_interpreters()
    _report_interpreters(found)
    with tempfile.TemporaryDirectory(prefix="allenhark-ws-") as directory:
        result = Path(directory, "result.json")
        code = _run_tox(found, arguments, result)
        if result.exists():
            print(*_summaries(result), sep="\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
