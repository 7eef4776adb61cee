"""Where the I/O thread sleeps: until its socket is ready, another thread wakes it, or a time has come.

One selector, with the wake-up in it and the one socket that is watched.  Neighbours: `_driver` sleeps here between its
turns, `_network` while a connection opens or closes; `_loop` wakes.  It must never read the socket, nor close it: it
only says what the socket is ready for.
"""

from __future__ import annotations

import contextlib
import selectors
import socket

from attrs import define, field

from ._ports import Clock
from ._wakeup import WakeUp

__all__ = ["Sleeper"]


@define(eq=False)
class Sleeper:
    """The waits of one I/O thread.

    Args:
        clock: the time, and who lets it pass.
    """

    _clock: Clock
    _selector: selectors.BaseSelector | None = field(default=None, init=False)
    _wakeup: WakeUp | None = field(default=None, init=False)
    _watched: tuple[socket.socket, int] | None = field(default=None, init=False)

    def open(self) -> None:
        """Get ready for the thread.

        Raises:
            OSError: there are no file descriptors left; those taken are released by `close`.
        """
        self._wakeup = WakeUp()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeup.receiver, selectors.EVENT_READ)

    def wake(self) -> None:
        """Make the thread look around; from any thread, at any time, never blocks, never raises."""
        wakeup = self._wakeup
        if wakeup is not None:
            wakeup.wake()

    @property
    def is_held_here(self) -> bool:
        """Whether the caller's thread is in the middle of `wake`."""
        wakeup = self._wakeup
        return wakeup is not None and wakeup.is_held_here

    def watch(self, sock: socket.socket, mask: int) -> None:
        """From now on sleep until this socket, and no other, is ready for the `selectors` mask; 0 for nothing."""
        if self._watched == (sock, mask):
            return
        self.unwatch()
        if mask:
            self._open_selector.register(sock, mask)
            self._watched = (sock, mask)

    def unwatch(self) -> None:
        """Watch no socket; the one that was may be closed by now, as a transport does at once when the peer has ended.

        `selectors` knows it by the object, then, and the system has forgotten it with its descriptor.
        """
        if self._watched is not None:
            self._open_selector.unregister(self._watched[0])
            self._watched = None

    def sleep(self, timeout: float | None) -> int:
        """Sleep for so many seconds at most, None for ever; what the watched socket is ready for."""
        ready = 0
        for key, mask in self._clock.wait(self._open_selector, timeout):
            if self._wakeup is not None and key.fileobj is self._wakeup.receiver:
                self._wakeup.drain()
            else:
                ready |= mask
        return ready

    def sleep_on(self, sock: socket.socket | None, mask: int, deadline: float) -> bool:
        """Sleep until the monotonic deadline, a wake-up, or this socket is ready, which alone is True.

        The waiter (see `_aside.Waiter`) of what is not the current connection; that is unwatched meanwhile.
        """
        timeout = max(0.0, deadline - self._clock.now().mono)
        if sock is None:
            self.sleep(timeout)
            return False
        self._open_selector.register(sock, mask)
        try:
            return bool(self.sleep(timeout))
        finally:
            self._open_selector.unregister(sock)

    def close(self) -> None:
        """Release the descriptors; wake-ups that still come have no effect."""
        # Forgotten first: in a forked child its lock may be held for ever, and no finalizer may wake any more.
        wakeup, self._wakeup = self._wakeup, None
        self._watched = None
        if self._selector is not None:
            with contextlib.suppress(OSError):  # a kqueue is none of a forked child's, who is told so (before 3.12.1)
                self._selector.close()
        if wakeup is not None:
            wakeup.close()

    @property
    def _open_selector(self) -> selectors.BaseSelector:
        if self._selector is None:
            raise RuntimeError("the loop was not started")
        return self._selector
