"""The background threads of a client as other threads see them: start, ask, wait, end.

User threads never touch what the I/O thread works on, but for single assignments (who taps, by when to end) and before
there is such a thread: they post a function for the mailbox and a byte for the selector, and wait, if they must, under
`Loop.changed`.  What the I/O thread does with it stands in `_driver`.

Neighbours: `client` makes a loop and posts to it; `_driver` works on its thread, `_dispatch` is the callback thread,
`_process` looks after loops when the process forks or exits.  The router is held weakly: these threads must never keep
a client alive.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
import traceback
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Hashable

from attrs import Factory, define, field

from ._codec import Codec
from ._counters import Counters
from ._dispatch import CallbackThread, InlineCallbacks
from ._driver import Driver
from ._locks import wait_slices
from ._log import log
from ._ports import Clock, Tap, TransportFactory
from ._process import enrol, is_exiting
from ._queue import EventQueue
from ._redact import Redactor
from ._router import Router
from ._session import Failure, Flushed, Session
from .channels import Channel
from .config import Settings
from .errors import AllenHarkError, ClientClosed, ConnectionFailed
from .events import Event
from .state import State

__all__ = ["FlushTicket", "Loop", "abandoned", "orphaned"]


@define(eq=False)
class FlushTicket:
    """A flush on its way; filled in by the I/O thread, waited for under `Loop.changed`."""

    flushed: Flushed | None = None


@define(eq=False, weakref_slot=True)
class Loop:
    """The background threads of one client.

    Args:
        name: part of the threads' names.
        settings: the client's settings.
        session: the rules.
        codec: bytes to events.
        counters: where to count.
        redactor: learns each key before it is used.
        connect: makes a transport, unopened.
        clock: the time.

    Attributes:
        sink: who runs the callbacks.
        callbacks: the callback thread, unless callbacks run inline.
        changed: notified of every new state of the session, of every flush and of the end.
        started: the threads were started, or never will be.
        ended: nothing more will happen.
        forked: this process is a child of the client's.
        closing: somebody asked for the end.
        readies: how many times the client became READY.
        load: imports what `connect` will need, so that the threads import nothing, if there is anything to import.
    """

    _name: str
    _settings: Settings
    session: Session
    _codec: Codec
    _counters: Counters
    _redactor: Redactor
    _connect: TransportFactory
    _clock: Clock
    sink: CallbackThread | InlineCallbacks = field(init=False)
    callbacks: CallbackThread | None = field(default=None, init=False)
    # To be entered by itself: Ctrl-C can come within `Condition.__enter__`, and leave the lock taken for ever.
    _lock: threading.RLock = field(factory=threading.RLock, init=False)
    changed: threading.Condition = field(
        default=Factory(lambda self: threading.Condition(self._lock), takes_self=True), init=False
    )
    started: bool = field(default=False, init=False)
    ended: bool = field(default=False, init=False)
    forked: bool = field(default=False, init=False)
    closing: bool = field(default=False, init=False)
    readies: int = field(default=0, init=False)
    load: Callable[[Settings], object] | None = field(default=None, init=False)
    _close_by: float = field(default=math.inf, init=False)
    _requested_error: AllenHarkError | None = field(default=None, init=False)
    _driver: Driver = field(init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _runs_on: int | None = field(default=None, init=False)
    _starts_on: int | None = field(default=None, init=False)
    _joining: set[int] = field(factory=set[int], init=False)

    def __attrs_post_init__(self) -> None:
        reports = deque[Event]()
        if self._settings.inline_callbacks:
            self.sink = InlineCallbacks(self._counters, self.report)
        else:
            self.sink = self.callbacks = CallbackThread(
                f"allenhark-callbacks-{self._name}",
                self._counters,
                self.make_queue("callbacks", self._settings.callback_buffer, self._settings.callback_overflow),
                self.report,
                unreported=reports,
            )
        self._driver = Driver(
            self._settings,
            self.session,
            self._codec,
            self._counters,
            self._redactor,
            self._connect,
            self._clock,
            self.callbacks,
            self._tell_state,
            self._tell_flushed,
        )
        self._driver.outlet.reports = reports

    def make_queue(self, name: str, maxsize: int, overflow: str) -> EventQueue:
        """A queue that this loop fills: it is told when a full one has room, and when one has recovered."""
        return EventQueue(name, maxsize, overflow, on_room=self.wake, on_recovered=self.recovered)

    def attach(self, router: Router) -> None:
        """Say where events go; the router is held weakly, so that these threads keep no client alive."""
        held_weakly = weakref.ref(router)
        self._driver.outlet.router = held_weakly
        self.sink.attach(held_weakly)
        enrol(self)

    # --- From any thread

    @property
    def state(self) -> State:
        """Where the client stands; CLOSED as soon as the end was asked for, since that is final."""
        return State.CLOSED if self.closing or self.ended or self.forked else self.session.state

    @property
    def error(self) -> AllenHarkError | None:
        """The terminal error, if the client ended, or is about to end, with one."""
        return self.session.error or self._requested_error

    @property
    def phase(self) -> str:
        """What an attempt that is not READY yet is at, in words; empty when there is none."""
        return self._driver.network.phase

    @property
    def last_failure(self) -> Failure:
        """Why it is not READY yet: the last failure, or else that the first attempt is under way, and what it is at."""
        under_way = ": ".join(filter(None, ("the first attempt was still under way", self.phase)))
        return self.session.last_failure or ConnectionFailed(under_way)

    def start(self) -> bool:
        """Start the threads; whether it was this call that did.

        Raises:
            RuntimeError: no thread can be started; the loop has ended.
            OSError: there are no file descriptors left; the loop has ended, unless it was an import that had none.
        """
        if self.load is not None and not self.started:  # ahead of all else: what Ctrl-C cuts off is done again
            self.load(self._settings)
        here, mine = threading.get_ident(), False
        try:
            with self._lock:
                mine, self.started = not self.started, True  # nothing is called, so no signal handler comes between
                if mine:
                    self._starts_on = here
            if mine:
                self._launch()
        except BaseException:  # Ctrl-C too: without the I/O thread nobody else would ever end the client
            if mine and (self._thread is None or self._thread.ident is None):
                self.session.close()
                self._finish()
            raise
        finally:
            if mine:
                self._starts_on = None
        return mine

    def _launch(self) -> None:
        self._driver.sleeper.open()
        self._driver.mailbox.append((self._begin, ()))
        if self.callbacks is not None:
            self.callbacks.start()
        self._thread = threading.Thread(target=self.run, name=f"allenhark-io-{self._name}", daemon=True)
        self._thread.start()

    def _begin(self) -> None:
        self.session.start(self._clock.now())

    def read_per_turn(self, messages: int) -> None:
        """Take in so many messages in a turn, if they are there, before looking at anything else; before the start."""
        self._driver.messages_per_turn = messages

    def post(self, function: Callable[..., object], *arguments: object) -> None:
        """Run the function on the I/O thread, soon; the session's outputs are obeyed afterwards."""
        self._note(function, *arguments)
        self.wake()

    def _note(self, function: Callable[..., object], *arguments: object) -> None:
        if not self.ended:
            self._driver.mailbox.append((function, arguments))

    def catch_up(self) -> None:
        """Before the start nobody reads the mailbox: do it here, so that edits without end cost no memory."""
        if self.started:
            return
        mailbox = self._driver.mailbox
        with self._lock:
            while mailbox and not self.started:
                item = mailbox[0]
                function, arguments = item
                function(*arguments)
                # Afterwards: what Ctrl-C cuts off is done again, which changes nothing.  Unless a signal handler that
                # uses the client came between, and has read on.
                if mailbox and mailbox[0] is item:
                    mailbox.popleft()

    def wake(self) -> None:
        """Make the I/O thread look around; never blocks, never raises."""
        self._driver.sleeper.wake()

    def want(self, channels: list[Channel]) -> None:
        """Channels became wanted; takes note without waking."""
        self._note(self.session.want, channels)

    def unwant(self, channels: list[Channel]) -> None:
        """Channels are wanted no more; takes note without waking."""
        self._note(self.session.unwant, channels)

    def restate(self, channels: frozenset[Channel]) -> None:
        """All that is wanted, after an edit that was cut off; takes note without waking."""
        self._note(self.session.restate, channels)

    def abandon(self) -> None:
        """Nobody holds the client any more: end, quietly."""
        self.post(self.session.close)

    def release_orphan(self, holder: Hashable) -> None:
        """A stream was collected without being closed: let go of what it held."""
        self.post(self._release, holder)

    def _release(self, holder: Hashable) -> None:
        router = self._driver.outlet.router()
        if router is not None:
            router.release(holder)

    def report(self, event: Event) -> None:
        """Deliver an event that arose in a callback, on whatever thread, in its turn."""
        self._driver.outlet.reports.append(event)
        self.post(self._driver.outlet.emit_report)

    def recovered(self, queue: EventQueue) -> None:
        """A queue that was dropping has fallen below half."""
        self.post(self._driver.outlet.report_recovery, queue)

    def add_tap(self, tap: Tap) -> None:
        """Give the tap all that is received from now on; it ends with the loop."""
        with self._lock:
            intake = self._driver.intake
            intake.taps = (*intake.taps, tap)
            if self.ended:
                tap.finish()

    def remove_tap(self, tap: Tap) -> None:
        """Give the tap nothing more."""
        with self._lock:
            intake = self._driver.intake
            intake.taps = tuple(each for each in intake.taps if each is not tap)

    def flush(self, ticket: FlushTicket) -> None:
        """Fill the ticket in once the server has processed all that was sent before."""
        self.post(self.session.flush, ticket)

    def forget_flush(self, ticket: FlushTicket) -> None:
        """The ticket's owner stopped waiting."""
        self.post(self.session.forget_flush, ticket)

    def reconnect(self) -> None:
        """Drop the connection and come back at once."""
        self.post(lambda: self.session.reconnect(self._clock.now()))

    def request_close(self, deadline: float, error: AllenHarkError | None = None) -> float:
        """End the client; what is queued for callbacks is delivered until the monotonic deadline.

        Args:
            deadline: when to give up on a slow callback or a mute server.
            error: what the client is to end with, if nothing else ended it before.

        Returns:
            The deadline that counts: the earliest ever given.
        """
        with self._lock:
            if not self.closing and self.session.state is not State.CLOSED:
                self._requested_error = error
            self.closing = True
            self._close_by = earliest = min(deadline, self._close_by)
            # A mute server gets half of the time: the other half is for what comes after the goodbye, `Closed` first.
            self._driver.network.goodbye_by = min((time.monotonic() + deadline) / 2, self._driver.network.goodbye_by)
        if self.callbacks is not None:
            self.callbacks.expire_at(deadline)
        self.post(self.session.close, error)
        return earliest

    def close_unstarted(self) -> bool:
        """End a client whose threads were never started; False when they were.

        Its `Closed` is delivered as ever: on the callback thread, started for it, unless the interpreter is exiting.
        """
        here = threading.get_ident()
        with self._lock:
            mine, self.started = not self.started, True  # as above
            if mine:
                self._runs_on = here  # for a signal handler that closes, too: it must not wait for this
                self.closing = True
        if not mine:
            return False
        try:
            self._end_unstarted()
        finally:
            self._runs_on = None
        return True

    def _end_unstarted(self) -> None:
        try:
            self.session.close()
            self._driver.obey()
        finally:
            self._finish()
        if self.callbacks is not None and not is_exiting():
            with contextlib.suppress(RuntimeError):
                self.callbacks.start()

    def wait_for(self, predicate: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until the predicate holds or the client has ended; False at the monotonic deadline."""
        with self._lock:
            while not predicate() and not self.ended:
                if not wait_slices(self.changed, deadline):
                    return False
        return True

    def wait_for_end(self, deadline: float | None) -> None:
        """Wait until nothing more will happen, or the monotonic deadline."""
        self.wait_for(lambda: False, deadline)

    def join(self, deadline: float) -> None:
        """Wait until the threads and the taps have ended, or the monotonic deadline; never for the caller's own thread.

        Not at all on the I/O thread, or where they cannot end before the caller has returned.
        """
        if self.started and not self.runs_here() and not self._is_held_up_here():
            self.wait_for_end(deadline)
            here = threading.get_ident()
            self._joining.add(here)
            try:
                self._join_threads(deadline)
            finally:
                self._joining.discard(here)

    def _join_threads(self, deadline: float) -> None:
        if self.callbacks is not None and not self.callbacks.runs_here():
            self.callbacks.join(deadline)
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(max(0.0, deadline - time.monotonic()))
        for tap in self._driver.intake.taps:
            tap.join(deadline)

    def runs_here(self) -> bool:
        """Whether the caller is the I/O thread, or ends a client that has none."""
        return threading.get_ident() == self._runs_on

    def _is_held_up_here(self) -> bool:
        """Whether the threads cannot end before the caller has returned.

        A signal handler, or a finalizer, runs in the middle of whatever its thread does.  If that is a start, or an
        edit, the lock that it holds is held until then; if it waits for a thread, that may seem to be alive until then.
        """
        here = threading.get_ident()
        if self._starts_on == here or here in self._joining:
            return True
        # In this order: whoever has the lock of the tables may wait for that of the wake-up.
        if self._driver.sleeper.is_held_here:
            return True
        if self.callbacks is not None and self.callbacks.queue.is_held_here:
            return True
        router = self._driver.outlet.router()
        return router is not None and router.is_held_here

    @property
    def at_rest(self) -> bool:
        """Whether all is done but what the server or the time must bring; for a clock that moves when told.

        To be asked while this thread is kept from waking up.
        """
        if self.callbacks is not None and not self.callbacks.queue.idle:
            return False
        # In this order: whatever a callback asked for before it was done lies in the mailbox.
        return self._driver.at_rest

    def disown(self) -> None:
        """In a forked child: let go of the parent's file descriptors, without a lock and without a word on the wire."""
        self.forked = True
        self.ended = True
        self.sink.disown()
        self._driver.disown()

    # --- On the I/O thread

    def run(self) -> None:
        """Turn until the session is closed: the body of the thread."""
        self._runs_on = threading.get_ident()
        try:
            while self.session.state is not State.CLOSED and not self.forked:
                self._driver.turn()
        except BaseException as error:  # noqa: BLE001 - it is told to everybody
            if self.forked:  # in a callback, whose return found nothing left to work with
                return
            # As text: whoever handles a log record may show what the frames hold, which is what was being sent.
            told = self._redactor("".join(traceback.format_exception(type(error), error, error.__traceback__)))
            log(logging.CRITICAL, "the background thread failed; please report this\n%s", told.rstrip())
            crash = ClientClosed(f"the background thread failed with {type(error).__name__}; please report this")
            # Without its frames, for the same reason.
            crash.__cause__ = error.with_traceback(None)
            self.session.close(crash)
        finally:
            if not self.forked:
                self._finish()
            self._runs_on = None

    def _tell_state(self, state: State) -> None:
        with self._lock:
            self.readies += state is State.READY
            self.changed.notify_all()

    def _tell_flushed(self, flushed: Flushed) -> None:
        with self._lock:
            if isinstance(flushed.request, FlushTicket):
                flushed.request.flushed = flushed
            self.changed.notify_all()

    def _finish(self) -> None:
        """Release everything and everybody, whatever happened."""
        try:
            self._driver.finish()
        finally:
            self._let_go()

    def _let_go(self) -> None:
        router = self._driver.outlet.router()
        if router is not None:
            router.finish(self.error)
        if self.callbacks is None:
            self._driver.outlet.reports.clear()
        else:
            self.callbacks.finish()
        with self._lock:
            self.ended = True
            for tap in self._driver.intake.taps:
                tap.finish()
            self.changed.notify_all()
        self._driver.mailbox.clear()
        self._driver.sleeper.close()


def abandoned(held_weakly: weakref.ref[Loop], description: str) -> None:
    """The finalizer of a client: nobody holds it, so its threads must end; they are not waited for here.

    What a finalizer holds lives until it has run, so it may not hold a loop: by the error of that, whose traceback has
    the frames of whoever it was raised to, it would hold the client.  A loop whose thread runs is held by the thread.
    """
    loop = held_weakly()
    if loop is None or not loop.started or loop.state is State.CLOSED:
        return
    loop.abandon()
    warnings.warn(f"unclosed {description}: call close() or use a with block", ResourceWarning, stacklevel=2)


def orphaned(held_weakly: weakref.ref[Loop], holder: Hashable) -> None:
    """The finalizer of a stream: nobody holds it, so its channels are released; see `abandoned`."""
    loop = held_weakly()
    if loop is not None:
        loop.release_orphan(holder)
