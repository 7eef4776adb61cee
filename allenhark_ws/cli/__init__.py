"""The command line, ``allenhark-ws``: data on stdout, talk on stderr, and exit codes that scripts can rely on.

0 ok (a closed stdout included) · 1 runtime failure · 2 usage, or no key · 3 authentication · 130 Ctrl-C · 143 SIGTERM.

Neighbours: `_commands` holds the commands with their options (`_options` those that several share), a module each does
the work: `_demo`, `_tail`, `_record`, `_replay`, `_convert`, `_simulate`, `_doctor` (`_steps`, `_advice`,
`_certificate`), `_completion`.  `_live` runs a client for them, `_render` is how events look, `_printer` and `_output`
where they go, `_progress` how far it is, `_series` the files of a rotation, `_exit` the exit codes, `_signals` Ctrl-C,
`_streams` a stdout and a stderr that are closed.
It must never use the package but through its public names, `_doctor` excepted, which has a client open connections and
send nothing (`Client._wire`, `_ports`); it needs the extra ``cli``, loaded when a command runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from allenhark_ws import __version__

from ._signals import INTERRUPTED, listening
from ._streams import talk_may_be_lost

__all__ = ["main"]

_HINT = 'allenhark-ws: the command line needs an extra: pip install "allenhark-ws[cli]"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name; None: those of the process, which is taken to end with it.

    Returns:
        The exit code.
    """
    try:
        with listening(to_the_end=arguments is None), talk_may_be_lost():
            return _run(arguments)
    except KeyboardInterrupt:  # before anybody listened
        return INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        import click  # noqa: PLC0415 - an extra, loaded when needed

        from ._commands import commands  # noqa: PLC0415 - needs click
        from ._completion import COMPLETION_VARIABLE, PROGRAM  # noqa: PLC0415 - likewise

        if os.environ.get(COMPLETION_VARIABLE):
            commands.main(prog_name=PROGRAM)  # answers a shell, and exits
        return _invoke(click, commands, words, PROGRAM)
    except ImportError as error:
        if words == ["--version"]:  # a question that needs no extra
            print(f"allenhark-ws, version {__version__}")
            return 0
        told = f"allenhark-ws: {error}" if "pip install" in str(error) else f"{_HINT} (missing: {error.name})"
        print(told, file=sys.stderr)
        return 1


def _invoke(click: Any, commands: Any, arguments: list[str], program: str) -> int:
    """Run what the arguments say; not by click's own `main`, which takes a closed pipe for a failure."""
    try:
        with commands.make_context(program, arguments) as context:
            result = commands.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.exceptions.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        from ._exit import not_understood  # noqa: PLC0415 - needs rich

        return not_understood(error)
    except OSError as error:  # of help or a version; commands see to theirs
        from ._exit import output_failed  # noqa: PLC0415 - needs rich

        return output_failed(error)
    return result if isinstance(result, int) else 0
