"""Time that passes when it is told to, for any number of clients at once.

Each client sleeps on a `SleeperClock`, which says until when; `VirtualTime` moves on from one such moment to the next,
and looks away from none of them before the clients have done all that was due.  Neighbours: `_virtual` owns the time.
It must never move on while a client has something to do.
"""

from __future__ import annotations

import math
import selectors
import threading
import time
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from .._ports import Clock, Instant

if TYPE_CHECKING:
    from .._loop import Loop

__all__ = ["SleeperClock", "VirtualTime"]

_EPOCH: Final = -(2.0**25)
"""Where virtual monotonic time begins: a year behind any machine's own, which is what callbacks are timed by.

So none is ever slow here: no `SlowCallback` is told because the time was moved on by an hour while one was running.
"""

_PATIENCE: Final = 20.0
"""Real seconds in which the clients must come to rest."""

_LOOK_AGAIN: Final = 0.001
"""Real seconds between looks at the callback threads, which tell nobody that they are through."""


class SleeperClock(Clock):
    """The clock of one client.

    Attributes:
        due: the virtual monotonic time until which the client sleeps; None while it is awake.
    """

    def __init__(self, shared: VirtualTime) -> None:
        self._shared = shared
        self._looked = -math.inf
        self.due: float | None = None

    def now(self) -> Instant:
        """The virtual moment."""
        moment = self._shared.moment
        self._looked = moment.mono
        return moment

    def wait(self, selector: selectors.BaseSelector, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Sleep until something is ready or the time has been moved on far enough."""
        ready = selector.select(0)
        if ready or timeout == 0:
            return ready
        with self._shared.changed:
            due = math.inf if timeout is None else self._looked + timeout
            if due <= self._shared.moment.mono:
                return []
            self.due = due
            self._shared.changed.notify_all()
        try:
            return selector.select()  # whoever moves the time wakes us as everybody does
        finally:
            with self._shared.changed:
                self.due = None


class VirtualTime:
    """Both clocks of a machine that is not there.

    Args:
        start: the wall clock's first moment, aware.

    Attributes:
        moment: the virtual time.
        changed: guards the sleepers; told when one falls asleep.
    """

    def __init__(self, start: datetime) -> None:
        self.moment = Instant(_EPOCH, start)
        self.changed = threading.Condition()
        self._sleepers: list[tuple[SleeperClock, Loop]] = []

    def admit(self, clock: SleeperClock, loop: Loop) -> None:
        """Look after a loop that was made with this clock."""
        with self.changed:
            self._sleepers = [(clock, loop) for clock, loop in self._sleepers if not loop.ended]
            self._sleepers.append((clock, loop))

    def settle(self) -> None:
        """Wait until every client has done all that there is to do at this moment, callbacks included.

        Raises:
            TimeoutError: one has not, within 20 real seconds.
            RuntimeError: called in a callback, which would wait for itself.
        """
        deadline = time.monotonic() + _PATIENCE
        with self.changed:
            loops = [loop for _, loop in self._sleepers]
            self._check_caller(loops)
            while not all(self._rests(clock, loop) for clock, loop in self._sleepers):
                if time.monotonic() >= deadline:
                    raise TimeoutError(
                        f"a client did not come to rest within {_PATIENCE:g} s: is a callback, or an api_key callable, "
                        "waiting for something?"
                    )
                self.changed.wait(_LOOK_AGAIN)
        for loop in loops:
            if loop.ended:
                loop.join(deadline)

    def advance(self, seconds: float) -> None:
        """Let the time pass, with a stop at every moment at which something is due.

        Raises:
            TimeoutError, RuntimeError: as `settle`.
        """
        end = self.moment.mono + seconds
        self.settle()
        while (due := self._next_due()) <= end:
            self._move(due)
            self.settle()
        self._move(end)

    @staticmethod
    def _check_caller(loops: list[Loop]) -> None:
        if any(loop.runs_here() or (loop.callbacks is not None and loop.callbacks.runs_here()) for loop in loops):
            raise RuntimeError("a virtual simulator waits for callbacks to return, so none may use it")

    def _rests(self, clock: SleeperClock, loop: Loop) -> bool:
        """Asked under the lock, so that a client that sleeps cannot wake up while it is looked at."""
        if loop.ended or not loop.started:
            return True
        return clock.due is not None and clock.due > self.moment.mono and loop.at_rest

    def _next_due(self) -> float:
        with self.changed:
            return min((clock.due for clock, _ in self._sleepers if clock.due is not None), default=math.inf)

    def _move(self, mono: float) -> None:
        with self.changed:
            passed = max(0.0, mono - self.moment.mono)
            self.moment = Instant(mono, self.moment.wall + timedelta(seconds=passed))
            for clock, loop in self._sleepers:
                if clock.due is not None and clock.due <= mono:
                    loop.wake()
