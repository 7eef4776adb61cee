"""What happens to running loops when the process forks or exits.

A fork copies file descriptors but no threads: the child must let go of its copies without a word on the wire.  At exit the
loops are asked to close, within a bound; daemon threads never hold the interpreter up.  Neighbours: `_loop` enrols itself.
"""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import Final, Protocol

__all__ = ["enrol", "is_exiting"]

_EXIT_PATIENCE: Final = 1.0
"""Seconds that all loops together get at exit to say goodbye and deliver what is queued."""


class _Loop(Protocol):
    def disown(self) -> None: ...

    def request_close(self, deadline: float) -> None: ...

    def join(self, deadline: float) -> None: ...


_running: weakref.WeakSet[_Loop] = weakref.WeakSet()
_exiting: list[bool] = []


def enrol(loop: _Loop) -> None:
    """Look after the loop until it is collected."""
    _running.add(loop)


def is_exiting() -> bool:
    """Whether the interpreter is on its way out, so that no thread may be started."""
    return bool(_exiting)


def _at_exit() -> None:
    _exiting.append(True)
    deadline = time.monotonic() + _EXIT_PATIENCE
    loops = list(_running)
    for loop in loops:
        loop.request_close(deadline)
    for loop in loops:
        loop.join(deadline)


def _in_child() -> None:
    for loop in list(_running):
        loop.disown()
    _running.clear()


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
