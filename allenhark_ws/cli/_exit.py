"""From how a command ended to the exit code, with one clear line on stderr for what went wrong.

Neighbours: `_commands` runs every command through it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from rich.console import Console

from allenhark_ws import AllenHarkError, AuthenticationError, ConfigurationError

__all__ = ["exit_code"]


def exit_code(command: Callable[[], int]) -> int:
    """Run the command; its exit code, or the one that its exception stands for."""
    try:
        return command()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _mute_stdout()
        return 0
    except AuthenticationError as error:
        return _tell(error, 3)
    except ConfigurationError as error:
        return _tell(error, 2)
    except (AllenHarkError, ImportError) as error:
        return _tell(error, 1)


def _tell(error: Exception, code: int) -> int:
    Console(stderr=True, highlight=False).print(f"allenhark-ws: {error}", style="red", markup=False, soft_wrap=True)
    return code


def _mute_stdout() -> None:
    """The reader is gone: keep the interpreter from complaining when it flushes stdout at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
