"""``allenhark-ws completion``: click's script for a shell, which calls the command back at every TAB.

Neighbours: `allenhark_ws.cli` answers those calls.  It must never write to a shell's own files: it prints.
"""

from __future__ import annotations

import sys
from typing import Final

import click
from click.shell_completion import get_completion_class

__all__ = ["COMPLETION_VARIABLE", "PROGRAM", "run_completion"]

PROGRAM: Final = "allenhark-ws"
COMPLETION_VARIABLE: Final = "_ALLENHARK_WS_COMPLETE"
"""The variable by which the script tells the command to complete a line instead of running it; named as click does."""


def run_completion(shell: str, commands: click.Command) -> int:
    """Print the script.

    Args:
        shell: ``bash``, ``zsh`` or ``fish``.
        commands: what is to be completed.

    Returns:
        The exit code.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click cannot complete in {shell}")
    sys.stdout.write(kind(commands, {}, PROGRAM, COMPLETION_VARIABLE).source() + "\n")
    return 0
