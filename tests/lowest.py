"""Install the lowest version that setup.cfg allows of each dependency, in place of whatever is there.

Run by tox's environment "lowest", inside it: ``python tests/lowest.py``.
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

SETUP_CFG = Path(__file__).parents[1] / "setup.cfg"
NOT_AT_RUN_TIME = ("bench", "dev")
"""The extras of the developers' tools; no user installs them beside the library."""

_REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[a-z]+\])?>=(?P<lowest>[0-9][0-9.]*)(,<[0-9.]+)?(;.*)?"
)


def read_requirements() -> dict[str, list[str]]:
    """The requirement lines of setup.cfg by extra; those of the bare install under ``""``."""
    config = configparser.ConfigParser()
    config.read(SETUP_CFG, encoding="utf-8")
    sections = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    return {extra: [line for line in text.splitlines() if line] for extra, text in sections.items()}


def needed_at_run_time() -> dict[str, list[str]]:
    """`read_requirements`, but for the extras of the developers' tools."""
    return {extra: lines for extra, lines in read_requirements().items() if extra not in NOT_AT_RUN_TIME}


def pins(lines: list[str]) -> Iterator[str]:
    """Each requirement's lowest version, pinned; the extras of our own among them are passed over.

    Raises:
        ValueError: a requirement has no lower bound.
    """
    for line in lines:
        if line.startswith("allenhark-ws["):
            continue
        match = _REQUIREMENT.fullmatch(line)
        if match is None:
            raise ValueError(f"setup.cfg: {line!r} must read name>=version or name>=version,<version")
        yield f"{match['name']}=={match['lowest']}"


def main() -> int:
    """Install them with pip; its exit code."""
    wanted = [pin for lines in needed_at_run_time().values() for pin in pins(lines)]
    print("lowest versions:", *wanted, flush=True)
    return subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
