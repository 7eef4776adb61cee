"""Ctrl-C and SIGTERM: heard at every moment, never answered with a traceback.

While modules load there is nothing to clean up, and an exception out of an import could be lost, so the process just
ends.  While a command works the first signal raises, so that it can say goodbye; the next one ends the process at once.
Neighbours: `allenhark_ws.cli` listens from the first moment, `_exit` lets signals raise while a command works.  It must
never raise while modules load.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, NoReturn

__all__ = ["INTERRUPTED", "TERMINATED", "leave_at_once", "listening", "raising"]

INTERRUPTED: Final = 130
"""The exit code of Ctrl-C, as shells have it: 128 + SIGINT."""

TERMINATED: Final = 143
"""The exit code of SIGTERM: 128 + SIGTERM."""

_CODES: Final = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
_TIDY: Final = b"\r\x1b[?25h"
"""To the beginning of the line, where the shell's prompt belongs and not behind ``^C``; the cursor shown."""

Handler = Callable[[int, FrameType | None], Any]


def leave_at_once(number: int, _frame: FrameType | None = None) -> NoReturn:
    """End the process without further ado; only a cursor that a progress bar has hidden comes back."""
    if os.isatty(2):
        os.write(2, _TIDY)
    os._exit(_CODES[signal.Signals(number)])


def _raise(number: int, _frame: FrameType | None) -> NoReturn:
    """Say so to the command; the next signal leaves at once."""
    for other in _CODES:
        signal.signal(other, leave_at_once)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(TERMINATED)


def _set(handlers: Mapping[signal.Signals, Any]) -> dict[signal.Signals, Any]:
    """Set handlers, except where a signal is ignored, as `nohup` and background jobs of scripts want it; the old ones.

    In a thread nothing can be set, and nothing needs to be: signals come to the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    chosen = [number for number in handlers if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handlers[number]) for number in chosen}


@contextmanager
def listening(*, to_the_end: bool) -> Generator[None]:
    """Signals end the process at once; afterwards they do what they did before, unless it is about to end.

    Args:
        to_the_end: keep it so afterwards: the interpreter is about to exit, and an interrupted exit prints tracebacks.
    """
    before = _set(dict.fromkeys(_CODES, leave_at_once))
    try:
        yield
    finally:
        if not to_the_end:
            _set(before)


@contextmanager
def raising() -> Generator[None]:
    """The first signal raises `KeyboardInterrupt` or, for SIGTERM, ``SystemExit(143)``; the next leaves at once."""
    _set(dict.fromkeys(_CODES, _raise))
    try:
        yield
    finally:
        _set(dict.fromkeys(_CODES, leave_at_once))
