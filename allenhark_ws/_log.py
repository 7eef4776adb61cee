"""Logging from where nothing may raise: filters and handlers of a log are the user's code.

One that raises must cost neither the thread that logs nor an event.  As `logging` does for handlers, it is shown on
stderr instead, unless `logging.raiseExceptions` is off.  Neighbours: every module that logs on a thread of ours.  It
must never raise, but for Ctrl-C and the like.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from typing import Any, Final

__all__ = ["log"]

_logger: Final = logging.getLogger("allenhark_ws")


def log(level: int, message: str, *arguments: object, **options: Any) -> None:
    """As `logging.Logger.log`, by the package's own logger."""
    try:
        _logger.log(level, message, *arguments, stacklevel=2, **options)
    except Exception:  # noqa: BLE001 - it may raise anything
        if logging.raiseExceptions and sys.stderr is not None:
            with contextlib.suppress(Exception):  # stderr may be closed
                traceback.print_exc()
