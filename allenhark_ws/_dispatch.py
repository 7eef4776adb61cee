"""Running callbacks: on the callback thread, or inline on the I/O thread.

A callback may raise or call `sys.exit`: it costs a report, never the thread or the next event.  On the callback thread
it may sleep, too, and the heartbeat goes on.  Neighbours: `_loop` starts and ends it, `_driver` watches for slow
callbacks, `_router` feeds it and knows the callbacks.  It must never hold the router but weakly, so that waiting for
events keeps no client alive.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

from attrs import define, field

from ._counters import Counters
from ._express import SLOW
from ._log import log
from ._places import Callback
from ._queue import EventQueue
from ._router import Router, no_router
from ._routes import identity
from .events import CallbackError, Closed, Event, SlowCallback

__all__ = ["SLOW", "CallbackThread", "InlineCallbacks"]

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
        log(logging.ERROR, "callback %s raised %s", name, type(error).__name__, exc_info=error)


class _Nobody:
    """Stands for a router that is gone."""

    @staticmethod
    def callbacks_for(_event: Event) -> tuple[Callback, ...]:
        return ()


_NOBODY: Final = _Nobody()


@define(eq=False)
class _Registered:
    """What both ways of calling back share: who is registered now, and the account of what raised.

    Args:
        counters: where exceptions are counted.
        report: takes the `CallbackError` events; called on the running thread.
        router: where the callbacks are found, while there is one.
    """

    _counters: Counters
    _report: Callable[[Event], None]
    router: Callable[[], Router | None] = no_router

    def callbacks_for(self, event: Event) -> tuple[Callback, ...]:
        """The callbacks of an event, as they are registered now."""
        # No local of a frame that calls back may hold the router: the traceback of an error, kept by the user, keeps
        # its frames.
        return (self.router() or _NOBODY).callbacks_for(event)

    def others(self, callbacks: tuple[Callback, ...], event: Event) -> Iterator[Callback]:
        """All but the first, if those called before, or another thread, have left them registered."""
        for callback in callbacks[1:]:
            now = self.callbacks_for(event)
            if now is callbacks or any(identity(each) == identity(callback) for each in now):
                yield callback

    def failed(self, callback: Callback, event: Event, error: BaseException) -> None:
        """A callback raised."""
        self._counters.callback_errors += 1
        if not isinstance(event, CallbackError):
            self._report(CallbackError(callback, event, error))
        _log(callback, error)


@define(eq=False)
class CallbackThread:
    """Runs callbacks, one at a time and in order of arrival, on a daemon thread of its own.

    Args:
        name: the thread's name.
        counters: where exceptions and events that came too late are counted.
        queue: what waits for the thread.
        report: takes `CallbackError` events.
        clock: monotonic seconds.
        unreported: those taken that were not delivered yet; what is left of them when the I/O thread has ended is for
            callbacks alone.
    """

    _name: str
    _counters: Counters
    queue: EventQueue
    _report: Callable[[Event], None]
    _clock: Callable[[], float] = time.monotonic
    _unreported: deque[Event] = field(factory=deque[Event], alias="unreported")
    _registered: _Registered = field(init=False)
    _current: _Call | None = field(default=None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _last: Closed | None = field(default=None, init=False)
    _over: threading.Event = field(factory=threading.Event, init=False)
    _deadline: float | None = field(default=None, init=False)
    _late: int = field(default=0, init=False)
    _told: float | None = field(default=None, init=False)  # when the call began that was reported last
    _disowned: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._registered = _Registered(self._counters, self._report)

    def attach(self, router: weakref.ref[Router]) -> None:
        """Say where the callbacks are found."""
        self._registered.router = router

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self.run, name=self._name, daemon=True)
        self._thread.start()

    @property
    def inline(self) -> None:
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
            self.call_back(chain(self.queue, self._last_word()))
        except BaseException as error:  # noqa: BLE001 - it is told
            log(logging.CRITICAL, "the callback thread failed; please report this", exc_info=error)
            self.queue.finish()
        self._unreported.clear()  # an error of the last callback, whose traceback holds much

    def call_back(self, events: Iterable[Event]) -> None:
        """Call every callback of each event, but those that are removed meanwhile.

        The first one, mostly the only one, is called from here: with a call more for each event, and two for taking it,
        a message took 1.1 times as long.
        """
        clock, router = self._clock, self._registered.router
        for event in events:
            if self._deadline is not None and self._is_late(event):
                continue
            # The router in no local: see `_Registered.callbacks_for`, whose call this spares.
            callbacks = (router() or _NOBODY).callbacks_for(event)
            if callbacks:
                self._current = (callbacks[0], event, clock())
                try:
                    callbacks[0](event)
                except BaseException as error:  # noqa: BLE001 - SystemExit too must not end the thread silently
                    self._registered.failed(callbacks[0], event, error)
                if len(callbacks) > 1:
                    self._call_others(callbacks, event)
                self._current = None
            del event, callbacks
            if self._disowned:
                return

    def _is_late(self, event: Event) -> bool:
        """Whether it is too late to deliver the event; for `Closed` it never is."""
        if event is self._last or self._deadline is None or self._clock() < self._deadline:
            return False
        self._late += 1
        return True

    def _call_others(self, callbacks: tuple[Callback, ...], event: Event) -> None:
        for callback in self._registered.others(callbacks, event):
            self._current = (callback, event, self._clock())
            try:
                callback(event)
            except BaseException as error:  # noqa: BLE001 - as above
                self._registered.failed(callback, event, error)

    def _last_word(self) -> Iterator[Event]:
        """When the client has ended, errors not told yet, and `Closed`; a queue that failed is drained before that."""
        self._over.wait()
        while self._unreported:
            yield self._unreported.popleft()
        self._counters.dropped += self._late  # the I/O thread, which counts here too, is through by now
        if self._last is not None:
            yield self._last

    def overdue(self, now: float) -> SlowCallback | None:
        """The report of a callback that is slow and was not reported yet."""
        call = self._current
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
        call = self._current
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

    def disown(self) -> None:
        """In a forked child: call back no more; what is queued is the parent's.

        No lock is touched: a thread that is gone may hold it.  When the fork was made in a callback, this thread ends
        with that.
        """
        self._disowned = True
        self._registered.router = no_router

    def runs_here(self) -> bool:
        """Whether the caller is the callback thread."""
        return threading.current_thread() is self._thread


@define(eq=False)
class InlineCallbacks:
    """Runs callbacks on the I/O thread: the lowest latency, and a slow one delays everything.

    Nobody can watch a callback while it runs, so a slow one is reported when it returns.

    Args:
        counters: where exceptions are counted.
        report: takes `CallbackError` and `SlowCallback` events.
        clock: monotonic seconds.
    """

    _counters: Counters
    _report: Callable[[Event], None]
    clock: Callable[[], float] = time.monotonic
    _registered: _Registered = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._registered = _Registered(self._counters, self._report)

    @property
    def queue(self) -> EventQueue | None:
        """There is none: events are delivered as they come."""
        return None

    def attach(self, router: weakref.ref[Router]) -> None:
        """Say where the callbacks are found."""
        self._registered.router = router

    @property
    def inline(self) -> InlineCallbacks:
        """Itself."""
        return self

    def put(self, events: Sequence[Event]) -> int:
        """Call back at once; nothing is ever lost."""
        for event in events:
            callbacks = self._registered.callbacks_for(event)
            if callbacks:
                self._call(callbacks[0], event)
                self.call_others(callbacks, event)
        return 0

    def call_others(self, callbacks: tuple[Callback, ...], event: Event) -> None:
        """Call all but the first, those that are removed meanwhile excepted."""
        for callback in self._registered.others(callbacks, event):
            self._call(callback, event)

    def _call(self, callback: Callback, event: Event) -> None:
        since = self.clock()
        try:
            callback(event)
        except BaseException as error:  # noqa: BLE001 - SystemExit too must not end the thread silently
            self.failed(callback, event, error)
        seconds = self.clock() - since
        if seconds >= SLOW:
            self.was_slow(callback, event, seconds)

    def failed(self, callback: Callback, event: Event, error: BaseException) -> None:
        """A callback raised."""
        self._registered.failed(callback, event, error)

    def was_slow(self, callback: Callback, event: Event, seconds: float) -> None:
        """A callback took so long."""
        if _is_reportable(event):
            self._report(SlowCallback(callback, seconds))

    def disown(self) -> None:
        """In a forked child: call back no more, with the rest of the batch either."""
        router = self._registered.router()
        self._registered.router = no_router
        if router is not None:
            router.disown()
