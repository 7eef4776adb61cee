"""Running callbacks: on the callback thread, or inline on the I/O thread.

A callback may sleep, raise or call `sys.exit`: it costs a report, never the thread, the next event or the heartbeat.
Neighbours: `_loop` starts and ends it and watches for slow callbacks, `_router` feeds it and knows the callbacks.  It
holds the router weakly, so that waiting for events keeps no client alive.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field

from ._counters import Counters
from ._places import Callback
from ._queue import Drained, EventQueue
from ._router import Router
from ._routes import identity
from .events import CallbackError, Closed, Event, SlowCallback

__all__ = ["SLOW", "CallbackThread", "InlineCallbacks"]

_logger = logging.getLogger("allenhark_ws")

SLOW: Final = 1.0
"""A callback that runs longer than this many seconds is reported."""


_Call = tuple[Callback, Event, float]
"""A callback being run: which, with what, since when (monotonic seconds).  A bare tuple, since one is made per call."""


def _is_reportable(event: Event) -> bool:
    """The handler of a `SlowCallback` is not reported: a slow one would be called for itself without end."""
    return not isinstance(event, SlowCallback)


def _log(callback: Callback, error: BaseException) -> None:
    """Log what a callback raised, under its name: never its repr, which is the user's to fill."""
    # Attributes of the callback and handlers of the log are the user's code as well, and may fail in their turn.
    with contextlib.suppress(BaseException):
        name = getattr(callback, "__qualname__", None) or type(callback).__qualname__
        _logger.error("callback %s raised %s", name, type(error).__name__, exc_info=error)


@define(eq=False)
class _Runner:
    """Runs the callbacks of one event after the other and accounts for what they do.

    Args:
        counters: where exceptions are counted.
        report: takes the `CallbackError` and `SlowCallback` events; called on the running thread.
        clock: monotonic seconds.
        afterwards: report a slow callback when it returns, since nobody can watch it while it runs.

    Attributes:
        current: the call under way; with `afterwards` nobody looks.
    """

    _counters: Counters
    _report: Callable[[Event], None]
    _clock: Callable[[], float]
    _afterwards: bool = False
    router: weakref.ref[Router] | None = None
    current: _Call | None = None

    def run(self, event: Event) -> None:
        """Call every callback of the event, but those that were removed meanwhile."""
        callbacks = self._callbacks_for(event)
        if callbacks:
            self.call(callbacks, event)

    def call(self, callbacks: tuple[Callback, ...], event: Event) -> None:
        """Call these callbacks, which are the event's, but those that are removed meanwhile."""
        self._call(callbacks[0], event)
        for callback in callbacks[1:]:
            if self._still_wanted(callback, event, callbacks):
                self._call(callback, event)

    def _callbacks_for(self, event: Event) -> tuple[Callback, ...]:
        router = None if self.router is None else self.router()
        return () if router is None else router.callbacks_for(event)

    def _still_wanted(self, callback: Callback, event: Event, before: tuple[Callback, ...]) -> bool:
        """Whether the callbacks called before this one, or another thread, have left it registered."""
        now = self._callbacks_for(event)
        return now is before or any(identity(each) == identity(callback) for each in now)

    def _call(self, callback: Callback, event: Event) -> None:
        # No local of this frame may hold the router: the traceback of an error, kept by the user, keeps its frames.
        since = self._clock()
        self.current = (callback, event, since)
        try:
            callback(event)
        except BaseException as error:  # noqa: BLE001 - SystemExit too must not end the thread silently
            self._failed(callback, event, error)
        self.current = None
        if self._afterwards:
            self._report_if_slow(callback, event, self._clock() - since)

    def _failed(self, callback: Callback, event: Event, error: BaseException) -> None:
        self._counters.callback_errors += 1
        if not isinstance(event, CallbackError):
            self._report(CallbackError(callback, event, error))
        _log(callback, error)

    def _report_if_slow(self, callback: Callback, event: Event, seconds: float) -> None:
        if seconds >= SLOW and _is_reportable(event):
            self._report(SlowCallback(callback, seconds))


@define(eq=False)
class CallbackThread:
    """Runs callbacks, one at a time and in order of arrival, on a daemon thread of its own.

    Args:
        name: the thread's name.
        counters: where exceptions and events that came too late are counted.
        queue: what waits for the thread.
        report: takes `CallbackError` events.
        clock: monotonic seconds.
    """

    _name: str
    _counters: Counters
    queue: EventQueue
    _report: Callable[[Event], None]
    _clock: Callable[[], float] = time.monotonic
    _runner: _Runner = field(init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _last: Closed | None = field(default=None, init=False)
    _over: threading.Event = field(factory=threading.Event, init=False)
    _deadline: float | None = field(default=None, init=False)
    _told: float | None = field(default=None, init=False)  # when the call began that was reported last

    def __attrs_post_init__(self) -> None:
        self._runner = _Runner(self._counters, self._report, self._clock)

    def attach(self, router: weakref.ref[Router]) -> None:
        """Say where the callbacks are found."""
        self._runner.router = router

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self.run, name=self._name, daemon=True)
        self._thread.start()

    @property
    def call(self) -> None:
        """Nothing is called here and now."""

    def put(self, events: Sequence[Event]) -> int:
        """Queue events for the thread; how many were lost.

        `Closed`, which comes alone and last, has a place of its own: no overflow and no deadline may lose it.
        """
        if isinstance(events[-1], Closed):
            self._last = events[-1]
            return 0
        return self.queue.put(events)

    def run(self) -> None:
        """Call back until everything is delivered and `finish` was called: the body of the thread."""
        try:
            self._serve()
        except BaseException as error:
            _logger.critical("the callback thread failed; please report this", exc_info=error)
            self.queue.finish()

    def _serve(self) -> None:
        late = 0
        with contextlib.suppress(Drained):
            while True:
                event = self.queue.take()
                if self._expired():
                    late += 1
                else:
                    self._runner.run(event)
                del event
        # A queue that failed is drained before the client has ended.
        self._over.wait()
        self._counters.dropped += late  # the I/O thread, which counts here too, is through by now
        if self._last is not None:
            self._runner.run(self._last)

    def _expired(self) -> bool:
        return self._deadline is not None and self._clock() >= self._deadline

    def overdue(self, now: float) -> SlowCallback | None:
        """The report of a callback that is slow and was not reported yet."""
        call = self._runner.current
        if call is None or not self._is_worth_watching(call):
            return None
        callback, _, since = call
        if now - since < SLOW:
            return None
        self._told = since
        return SlowCallback(callback, now - since)

    def watch_at(self, now: float) -> float | None:
        """When to look for an overdue callback again; None while the thread has nothing to do."""
        if self.queue.idle:
            return None
        call = self._runner.current
        return now + SLOW if call is None or not self._is_worth_watching(call) else call[2] + SLOW

    def _is_worth_watching(self, call: _Call) -> bool:
        return call[2] != self._told and _is_reportable(call[1])

    def expire_at(self, deadline: float) -> None:
        """From this monotonic time on deliver nothing but `Closed`."""
        self._deadline = deadline if self._deadline is None else min(deadline, self._deadline)

    def finish(self) -> None:
        """Nothing more will come."""
        self.queue.finish()
        self._over.set()

    def join(self, deadline: float) -> None:
        """Wait until everything was delivered, or the deadline of the machine's own monotonic clock."""
        thread = self._thread
        while thread is not None and thread.is_alive() and time.monotonic() < deadline:
            thread.join(min(0.5, max(0.0, deadline - time.monotonic())))

    def runs_here(self) -> bool:
        """Whether the caller is the callback thread."""
        return threading.current_thread() is self._thread


@define(eq=False)
class InlineCallbacks:
    """Runs callbacks on the I/O thread: the lowest latency, and a slow one delays everything.

    Args:
        counters: where exceptions are counted.
        report: takes `CallbackError` and `SlowCallback` events.
        clock: monotonic seconds.
    """

    _counters: Counters
    _report: Callable[[Event], None]
    _clock: Callable[[], float] = time.monotonic
    _runner: _Runner = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._runner = _Runner(self._counters, self._report, self._clock, afterwards=True)

    @property
    def queue(self) -> EventQueue | None:
        """There is none: events are delivered as they come."""
        return None

    @property
    def call(self) -> Callable[[tuple[Callback, ...], Event], None]:
        """Calls these callbacks of an event here and now."""
        return self._runner.call

    def attach(self, router: weakref.ref[Router]) -> None:
        """Say where the callbacks are found."""
        self._runner.router = router

    def put(self, events: Sequence[Event]) -> int:
        """Call back at once; nothing is ever lost."""
        for event in events:
            self._runner.run(event)
        return 0
