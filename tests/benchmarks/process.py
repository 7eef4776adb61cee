"""Interpreters of their own: for the server, and for each contender in each round."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["command", "environment", "run"]

ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 300.0
"""Seconds after which a contender that does not end is given up."""


def command(module: str, *arguments: str) -> list[str]:
    """The command that calls `main` of one of these modules.

    The checkout comes last on the path, so that an installed package goes before the sources beside the tests.
    """
    code = f"import sys; sys.path.append({str(ROOT)!r}); from tests.benchmarks.{module} import main; main()"
    return [sys.executable, "-c", code, *arguments]


def environment(authority: str | None = None) -> dict[str, str]:
    """The environment without proxies, in which the certificate authority of that file is the only one trusted."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    if authority is not None:
        kept |= {"SSL_CERT_FILE": authority, "WEBSOCKET_CLIENT_CA_BUNDLE": authority}
    return kept


def run(arguments: list[str], authority: str | None = None) -> Mapping[str, Any]:
    """Run a command to its end; what it printed last, which is JSON.

    Raises:
        RuntimeError: it failed; its own complaint is on stderr.
    """
    done = subprocess.run(
        arguments, env=environment(authority), stdout=subprocess.PIPE, timeout=_PATIENCE, check=False, text=True
    )
    if done.returncode != 0:
        raise RuntimeError(f"a benchmark process ended with {done.returncode}: {' '.join(arguments[3:])}")
    result: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
