"""What happens to a process's loops when it forks or exits.

A fork copies file descriptors but no threads: the child must let go of its copies without a word on the wire.  At exit
the loops are asked to close, within a bound; daemon threads never hold the interpreter up.  Neighbours: `_loop` enrols
itself.  It must never speak on a connection that is the parent's, nor wait without an end.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import time
import weakref
from abc import abstractmethod
from typing import Final, Protocol

__all__ = ["enrol", "is_exiting"]

_EXIT_PATIENCE: Final = 1.0
"""Seconds that all loops together get at exit to say goodbye and deliver what is queued."""


class _Loop(Protocol):
    def disown(self) -> None:
        """In a forked child: let go of everything that is the parent's."""

    @abstractmethod
    def request_close(self, deadline: float) -> float:
        """Begin to end by the monotonic deadline; the earliest that was ever given."""

    def join(self, deadline: float) -> None:
        """Wait for the end until the monotonic deadline."""


_enrolled: dict[int, weakref.ref[_Loop]] = {}
"""By number; a plain dictionary, since a copy of it is made in one step, whatever other threads enrol meanwhile."""

_exiting: list[bool] = []


def enrol(loop: _Loop) -> None:
    """Look after the loop until it is collected."""
    number = id(loop)
    _enrolled[number] = weakref.ref(loop, lambda _: _enrolled.pop(number, None))


def is_exiting() -> bool:
    """Whether the interpreter is on its way out, so that no thread may be started."""
    return bool(_exiting)


def _loops() -> list[_Loop]:
    return [loop for reference in list(_enrolled.values()) if (loop := reference()) is not None]


def _at_exit() -> None:
    """Close every loop, all at the same time; one that was closed before is waited for no longer than its user was."""
    _exiting.append(True)
    deadline = time.monotonic() + _EXIT_PATIENCE
    closing = [(loop, loop.request_close(deadline)) for loop in _loops()]
    for loop, until in closing:
        loop.join(until)


def _in_child() -> None:
    """Have every loop let go, whatever becomes of the others; the interpreter tells of the last that failed."""
    loops = _loops()
    _enrolled.clear()  # so that the child's exit waits for none of them
    with contextlib.ExitStack() as stack:
        for loop in loops:
            stack.callback(loop.disown)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
