"""The command line, ``allenhark-ws``: data on stdout, talk on stderr, and exit codes that scripts can rely on.

0 ok (a closed pipe included) · 1 runtime failure · 2 usage, or no key · 3 authentication · 130 Ctrl-C.

Neighbours: `_commands` holds the commands, `_demo` what ``demo`` does, `_render` how events look, `_exit` the exit
codes.  It uses the package through its public names only, and needs the extra ``cli``, loaded when a command runs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]

_HINT = 'allenhark-ws: the command line needs an extra: pip install "allenhark-ws[cli]"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name; None: those of the process.

    Returns:
        The exit code.
    """
    try:
        import click  # noqa: PLC0415 - an extra, loaded when needed

        from ._commands import commands  # noqa: PLC0415 - needs click and rich
    except ModuleNotFoundError as error:
        print(f"{_HINT} (missing: {error.name})", file=sys.stderr)
        return 1
    try:
        result = commands.main(args=arguments, prog_name="allenhark-ws", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0
