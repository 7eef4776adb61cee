"""Waking the I/O thread: a socket pair, one end in its selector, the other written to by whoever has news.

A byte in a selector is the one thing that reliably interrupts a wait on a TLS socket (measured: 0.1 ms).  Neighbours:
`_sleeper` owns it.  `wake` must never block or raise: finalizers call it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Final

from ._locks import held_here
from ._process import is_exiting

__all__ = ["WakeUp"]

_CHUNK: Final = 4096
_FORK_PATIENCE: Final = 0.1
"""Seconds that `close` waits for a `wake` under way, which takes microseconds; in a forked child it would never end."""

_EXIT_PATIENCE: Final = 0.1
"""Likewise for `wake` once the interpreter is exiting, when daemon threads end wherever they are."""


class WakeUp:
    """The two ends; `receiver` belongs in a selector."""

    def __init__(self) -> None:
        self.receiver, self._sender = socket.socketpair()
        self.receiver.setblocking(False)
        self._sender.setblocking(False)
        # The moment a descriptor is closed its number may be another connection's, and the byte of a `wake` on another
        # thread would go there.  Reentrant, since finalizers wake too.
        self._lock = threading.RLock()

    def wake(self) -> None:
        """Make the selector return; from any thread, at any time, without ever blocking or raising."""
        if is_exiting():
            self._wake_at_exit()
            return
        with self._lock:  # not by hand: Ctrl-C between taking it and a `try` would leave it taken
            self._send()

    def _wake_at_exit(self) -> None:
        """A thread that held the lock may be gone: a finalizer must not wait for it for ever."""
        if self._lock.acquire(timeout=_EXIT_PATIENCE):
            try:
                self._send()
            finally:
                self._lock.release()

    def _send(self) -> None:
        # Full, so a wake-up is pending already; or closed, so nobody waits any more.
        with contextlib.suppress(OSError):
            self._sender.send(b"\0")

    @property
    def is_held_here(self) -> bool:
        """Whether the caller's thread holds the lock."""
        return held_here(self._lock)

    def drain(self) -> None:
        """Take all wake-ups at once."""
        try:
            while len(self.receiver.recv(_CHUNK)) == _CHUNK:
                pass
        except OSError:
            return

    def close(self) -> None:
        """Release both ends."""
        locked = self._lock.acquire(timeout=_FORK_PATIENCE)
        try:
            self.receiver.close()
            self._sender.close()
        finally:
            if locked:
                self._lock.release()
