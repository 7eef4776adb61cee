"""Locks in a thread that signals interrupt: waits that Ctrl-C ends, and whether a lock is held by whoever asks.

A signal handler, or a finalizer, runs in the middle of whatever its thread does, with the locks that this holds.
Neighbours: `_queue` and `_loop` wait so; `_wakeup`, `_queue` and `_router` tell `_loop` what a thread holds.  It must
never leave a lock other than it was found.
"""

from __future__ import annotations

import threading
import time
from typing import Final

__all__ = ["held_here", "wait_slices"]

_SLICE: Final = 0.5
"""The longest single wait of the main thread, seconds.

It runs the signal handlers, and a signal must not have to wait for an event: before Python 3.14 Ctrl-C does not
interrupt a lock wait on Windows; elsewhere one that comes just before the wait begins is noticed only when it ends.
"""


def wait_slices(condition: threading.Condition, deadline: float | None) -> bool:
    """Wait for one slice at most; False when the monotonic deadline had passed already.

    The caller holds the condition's lock, exactly once.

    Ctrl-C can come just when CPython's `Condition.wait` has let go of its lock and not begun to look after it: it is
    taken again, or whoever leaves the ``with`` would raise RuntimeError in the place of KeyboardInterrupt.
    """
    longest = _SLICE if threading.current_thread() is threading.main_thread() else threading.TIMEOUT_MAX
    remaining = longest if deadline is None else deadline - time.monotonic()
    if remaining <= 0:
        return False
    try:
        condition.wait(min(remaining, longest))
    except BaseException:
        if not _is_held(condition):
            condition.acquire()
        raise
    return True


def held_here(lock: threading.RLock) -> bool:
    """Whether the caller's thread holds the lock."""
    return _is_held(threading.Condition(lock))


def _is_held(condition: threading.Condition) -> bool:
    try:
        condition.notify(0)  # wakes nobody, and raises if the lock is not held
    except RuntimeError:
        return False
    return True
