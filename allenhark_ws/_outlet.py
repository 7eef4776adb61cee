"""Where events leave the I/O thread: in order, and held back while a blocking consumer has no room for them.

While anything is held the loop does not read the socket and the session suspends liveness; whatever comes to be
meanwhile waits behind it.  Neighbours: `_driver` and `_intake` give it events, `_router` takes them.  It must never let
one event overtake another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from attrs import define, field

from ._instant import Instant
from ._queue import EventQueue
from ._router import Router, dropping_report, no_router
from ._session import Session
from .events import Closed, Event

__all__ = ["Outlet"]


@define(eq=False)
class Outlet:
    """The events of one client on their way to its router.

    Args:
        session: told when delivery stops and goes on, and ended by a callback buffer that must not overflow.

    Attributes:
        router: gives the router while there is one; a weak reference, so that nobody here keeps a client alive.
        held: what waits for room.
        reports: what arose beside the session, of callbacks mostly, and waits for its turn; what waits when `Closed` is
            next goes first, since nobody would hear of it afterwards.  What comes of those does not: it might not end.
    """

    _session: Session
    router: Callable[[], Router | None] = field(default=no_router, init=False)
    held: list[Event] = field(factory=list[Event], init=False)
    reports: deque[Event] = field(factory=deque[Event], init=False)
    _is_over: bool = field(default=False, init=False)

    def emit(self, events: list[Event]) -> None:
        """Deliver the events, or hold them behind those that are held already."""
        if self.held:
            self.held.extend(events)
        elif events:
            self._deliver(events)

    def emit_held(self, now: Instant) -> None:
        """Try again what a full consumer held up."""
        events, self.held = self.held, []
        self._deliver(events)
        if not self.held:
            self._session.resume(now)

    def emit_last(self, events: list[Event]) -> None:
        """Deliver what is held and these, into full queues too: nothing else will come."""
        events, self.held = [*self.held, *events], []
        self._deliver(events, force=True)

    def emit_report(self) -> None:
        """Deliver one report: its callbacks may lead to the next, and between them the thread does its other work."""
        if self.reports:
            self.emit([self.reports.popleft()])

    def report_recovery(self, queue: EventQueue) -> None:
        """A queue that was dropping has fallen below half."""
        report = dropping_report(queue, recovered=True)
        if report is not None:
            self.emit([report])

    def _deliver(self, events: list[Event], *, force: bool = False) -> None:
        """Deliver what the consumers have room for, what that leads to before the rest, and hold what must wait."""
        router = self.router()
        while events and router is not None:
            if isinstance(events[0], Closed) and not self._is_over:
                self._is_over = True
                # Taken one by one: the callback thread may add to them meanwhile, and tells what is left itself.
                events = [*(self.reports.popleft() for _ in range(len(self.reports))), *events]
            delivery = router.deliver(events, force=force)
            if delivery.failure is not None:
                self._session.close(delivery.failure)
            rest = events[delivery.done :]
            events = [*delivery.reports, *rest]
            if rest and not delivery.done:
                self.held = events
                self._session.suspend()
                return
