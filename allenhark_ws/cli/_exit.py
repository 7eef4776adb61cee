"""From how a command ended to the exit code, with one clear line on stderr for what went wrong.

Neighbours: `_commands` runs every command through it; `_signals` makes Ctrl-C and SIGTERM into exceptions; `_streams`
sees to it that to write to stderr is no error.  It must never answer with a traceback what a user can mend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

import click
from rich.text import Text

from allenhark_ws import (
    AllenHarkError,
    AuthenticationError,
    CertificateRejected,
    ConfigurationError,
    ConnectionFailed,
    HandshakeRejected,
)

from ._options import no_such_key_option
from ._output import is_writable, over_the_echo, say, talk
from ._render import printable
from ._signals import INTERRUPTED, TERMINATED, raising
from ._streams import mute

__all__ = ["exit_code", "in_words", "not_understood", "output_failed"]

_CODES: Final[Mapping[type[AllenHarkError], int]] = {AuthenticationError: 3, ConfigurationError: 2}
"""The exit codes of errors; of any other it is 1."""

_IN_OPTIONS: Final = {
    "Client(url=…)": "--url (or ALLENHARK_WS_URL)",
    ", or pass allow_insecure=True": "",
    "pass Client(api_key=…) or set ALLENHARK_API_KEY": "set ALLENHARK_API_KEY, or pass --api-key-file",
    "pass api_key instead": "use --api-key-file",
}
"""What the library's advice to programmers is for users of the command."""


def exit_code(command: Callable[[], int]) -> int:
    """Run the command; its exit code, or the one that its exception stands for."""
    try:
        with raising():
            code = command()
            sys.stdout.flush()
    except (KeyboardInterrupt, SystemExit) as end:
        over_the_echo()  # where the shell's prompt goes
        _let_go_of_a_stuck_pipe()
        return INTERRUPTED if isinstance(end, KeyboardInterrupt) else TERMINATED
    except RuntimeError as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        # Ctrl-C inside a wait of the standard library's, just when it had let go of its lock: CPython stumbles over it.
        return INTERRUPTED
    except AllenHarkError as error:
        return _tell(printable(in_words(error)), _CODES.get(type(error), 1))  # it may quote the server
    except OSError as error:
        return output_failed(error)
    return code


def not_understood(error: click.ClickException) -> int:
    """Say what is wrong with the words of the command, and the exit code for that; without any words, help."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # of click 8.2 and later
        talk().print(Text(error.format_message()))
        return error.exit_code
    if context is not None:
        usage = f"{context.get_usage()}\nTry '{context.command_path} --help' for help.\n"
        talk().print(Text(usage))
    return _tell(no_such_key_option(error) or error.format_message(), error.exit_code)


def output_failed(error: OSError) -> int:
    """The exit code for data that cannot be written: nothing when the reader of stdout has enough, else a failure."""
    _mute_output()
    if isinstance(error, BrokenPipeError):
        return 0
    where = f"{error.filename}: " if error.filename else ""
    return _tell(f"{where}{error.strerror or error}", 1)


def in_words(error: AllenHarkError) -> str:
    """What went wrong and what to do, for a user of the command: the library's texts speak to programmers."""
    if isinstance(error, AuthenticationError):
        code = "" if error.code is None else f" ({error.code})"
        return f"the server rejected the API key{code}: {error.reason}; check ALLENHARK_API_KEY or --api-key-file"
    if isinstance(error, CertificateRejected):
        host = error.host or "the server"
        return f"the TLS certificate of {host} was rejected: {error.reason}; `allenhark-ws doctor` shows whose it is"
    if isinstance(error, HandshakeRejected):
        return str(error)
    if isinstance(error, ConnectionFailed):
        return f"{error.reason}; `allenhark-ws doctor` looks closer"
    text = str(error)
    for library, option in _IN_OPTIONS.items():
        text = text.replace(library, option)
    return text


def _tell(text: str, code: int) -> int:
    say(text, style="red")
    return code


def _mute_output() -> None:
    """Nobody reads: keep the interpreter from complaining, or waiting, when it flushes at exit."""
    mute(sys.stdout)
    if not is_writable(sys.stderr):
        mute(sys.stderr)


def _let_go_of_a_stuck_pipe() -> None:
    """Nobody may have to wait for a reader that does not read, least of all who pressed Ctrl-C."""
    if not is_writable(sys.stdout):
        _mute_output()
