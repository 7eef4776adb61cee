"""The background thread: mailbox → session → commands and events → wait.

It is the only place that knows threads, sockets and rules at once, and it has no rules of its own.  One turn of the
loop sleeps until the socket, a wake-up or the next deadline; reads the mailbox; reads the socket once; ticks the
session; and does what it says, in order.  User threads only post: a function for the mailbox and a byte for the
selector.  Nothing polls: an idle client sleeps until its next deadline.

While a connection is being opened the same wait serves the transport, so that a `close()` is heard in every phase.
While a blocking consumer is full, events are held, the socket is not read and the session suspends liveness.

Neighbours: `client` makes it and posts to it; it drives `_session`, obeys it through a `Transport`, and delivers
through the `_router`, which it holds weakly: this thread must never keep a client alive.
"""

from __future__ import annotations

import contextlib
import logging
import math
import selectors
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from attrs import define, field

from ._aside import Interrupted, call_aside
from ._codec import Codec, encode_auth, wire_type
from ._counters import Counters
from ._dispatch import CallbackThread, InlineCallbacks
from ._lanes import Incoming
from ._outlet import Outlet
from ._ports import Clock, Tap, Transport, TransportFactory
from ._process import enrol, is_exiting
from ._queue import EventQueue, wait_slices
from ._redact import Redactor
from ._router import Router
from ._session import Drop, Flushed, Instant, Open, Output, Send, SendAuth, Session
from ._wakeup import WakeUp
from .channels import Channel
from .config import Secret, Settings
from .errors import AllenHarkError, ClientClosed, ConfigurationError, ConnectionFailed
from .events import DataEvent, Event, InvalidMessage, ServerEvent, UnknownMessage
from .state import State

__all__ = ["FlushTicket", "Loop"]

_logger = logging.getLogger("allenhark_ws")

_GOODBYE: Final = 1.0
"""Seconds that the server gets to answer our close frame (RFC 6455, section 7.1.1, says "a reasonable time")."""

_ROOM: Final = 65_536
"""Bytes waiting to be sent above which no further request is added: the send buffer stays bounded."""


def _place(traceback: TracebackType | None) -> str:
    """Where an exception was raised, for a text: the file's name and the line."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None else f" in {Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"


@define(eq=False)
class FlushTicket:
    """A flush on its way; filled in by the I/O thread, read under `Loop.changed`."""

    flushed: Flushed | None = None


@define(eq=False, weakref_slot=True)
class Loop:
    """The I/O thread of one client.

    Args:
        name: part of the threads' names.
        settings: the client's settings.
        session: the rules.
        codec: bytes to events.
        counters: where to count.
        redactor: learns each key before it is used.
        connect: makes a transport, unopened.
        clock: the time.
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
    changed: threading.Condition = field(factory=threading.Condition, init=False)
    started: bool = field(default=False, init=False)
    ended: bool = field(default=False, init=False)
    forked: bool = field(default=False, init=False)
    abandoned: bool = field(default=False, init=False)
    closing: bool = field(default=False, init=False)
    readies: int = field(default=0, init=False)
    taps: tuple[Tap, ...] = field(default=(), init=False)
    _router_ref: weakref.ref[Router] | None = field(default=None, init=False)
    _requested_error: AllenHarkError | None = field(default=None, init=False)
    _mailbox: deque[tuple[Callable[..., object], tuple[Any, ...]]] = field(factory=deque, init=False)
    _wakeup: WakeUp | None = field(default=None, init=False)
    _selector: selectors.BaseSelector | None = field(default=None, init=False)
    _watched: tuple[socket.socket, int] | None = field(default=None, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _driver: int | None = field(default=None, init=False)
    _transport: Transport | None = field(default=None, init=False)
    _candidate: Transport | None = field(default=None, init=False)
    _unwanted: bool = field(default=False, init=False)
    _outlet: Outlet = field(init=False)
    _key: Secret | None = field(default=None, init=False)
    _close_deadline: float | None = field(default=None, init=False)
    _looked_at: float = field(default=0.0, init=False)
    _announced: State = field(default=State.IDLE, init=False)

    def __attrs_post_init__(self) -> None:
        self._outlet = Outlet(self.session)
        if self._settings.inline_callbacks:
            self.sink = InlineCallbacks(self._counters, self.report)
        else:
            self.sink = self.callbacks = CallbackThread(
                f"allenhark-callbacks-{self._name}", self._counters, self._callback_queue(), self.report
            )

    def _callback_queue(self) -> EventQueue:
        settings = self._settings
        return EventQueue(
            "callbacks",
            settings.callback_buffer,
            settings.callback_overflow,
            on_room=self.wake,
            on_recovered=self.recovered,
        )

    def attach(self, router: Router) -> None:
        """Say where events go; the router is held weakly, so that these threads keep no client alive."""
        self._router_ref = weakref.ref(router)
        self._outlet.router = self._router_ref
        self.sink.attach(self._router_ref)
        enrol(self)

    def _router(self) -> Router | None:
        return None if self._router_ref is None else self._router_ref()

    # --- From any thread

    @property
    def state(self) -> State:
        """Where the client stands."""
        return State.CLOSED if self.ended or self.forked else self.session.state

    @property
    def error(self) -> AllenHarkError | None:
        """The terminal error, if the client ended, or is about to end, with one."""
        return self.session.error or self._requested_error

    def start(self) -> bool:
        """Start the threads; whether it was this call that did.

        Raises:
            RuntimeError: no thread can be started; the loop has ended.
            OSError: there are no file descriptors left; the loop has ended.
        """
        mine = False
        try:
            with self.changed:
                if self.started:
                    return False
                self.started = mine = True
            self._launch()
        except BaseException:  # Ctrl-C too: without the I/O thread nobody else would ever end the client
            if mine and (self._thread is None or self._thread.ident is None):
                self.session.close()
                self._finish()
            raise
        return True

    def _launch(self) -> None:
        self._wakeup = WakeUp()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakeup.receiver, selectors.EVENT_READ)
        self._mailbox.append((self._begin, ()))
        if self.callbacks is not None:
            self.callbacks.start()
        self._thread = threading.Thread(target=self.run, name=f"allenhark-io-{self._name}", daemon=True)
        self._thread.start()

    def post(self, function: Callable[..., object], *arguments: object) -> None:
        """Run the function on the I/O thread, soon; the session's outputs are obeyed afterwards."""
        self._note(function, *arguments)
        self.wake()

    def _note(self, function: Callable[..., object], *arguments: object) -> None:
        if not self.ended:
            self._mailbox.append((function, arguments))

    def catch_up(self) -> None:
        """Before the start nobody reads the mailbox: do it here, so that edits without end cost no memory."""
        if self.started:
            return
        with self.changed:
            while self._mailbox and not self.started:
                item = self._mailbox[0]
                function, arguments = item
                function(*arguments)
                # Afterwards: what Ctrl-C cuts off is done again, which changes nothing.  Unless a signal handler that
                # uses the client came between, and has read on.
                if self._mailbox and self._mailbox[0] is item:
                    self._mailbox.popleft()

    def wake(self) -> None:
        """Make the I/O thread look around; never blocks, never raises."""
        wakeup = self._wakeup
        if wakeup is not None:
            wakeup.wake()

    def want(self, channels: list[Channel]) -> None:
        """Channels became wanted; takes note without waking."""
        self._note(self.session.want, channels)

    def unwant(self, channels: list[Channel]) -> None:
        """Channels are wanted no more; takes note without waking."""
        self._note(self.session.unwant, channels)

    def abandon(self) -> None:
        """Nobody holds the client any more: end, quietly."""
        self.abandoned = True
        self.wake()

    def release_orphan(self, holder: Hashable) -> None:
        """A stream was collected without being closed: let go of what it held."""
        self.post(self._release, holder)

    def _release(self, holder: Hashable) -> None:
        router = self._router()
        if router is not None:
            router.release(holder)

    def report(self, event: Event) -> None:
        """Deliver an event that arose on another thread."""
        self.post(self._outlet.emit, [event])

    def recovered(self, queue: EventQueue) -> None:
        """A queue that was dropping has fallen below half."""
        self.post(self._outlet.report_recovery, queue)

    def add_tap(self, tap: Tap) -> None:
        """Give the tap all that is received from now on; it ends with the loop."""
        with self.changed:
            self.taps = (*self.taps, tap)
            if self.ended:
                tap.finish()

    def remove_tap(self, tap: Tap) -> None:
        """Give the tap nothing more."""
        with self.changed:
            self.taps = tuple(each for each in self.taps if each is not tap)

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
        with self.changed:
            if not self.closing and self.session.state is not State.CLOSED:
                self._requested_error = error
            self.closing = True
            self._close_deadline = deadline if self._close_deadline is None else min(deadline, self._close_deadline)
        if self.callbacks is not None:
            self.callbacks.expire_at(deadline)
        self.post(self.session.close, error)
        return self._close_deadline

    def close_unstarted(self) -> bool:
        """End a client whose threads were never started; False when they were.

        Its `Closed` is delivered as ever: on the callback thread, started for it, unless the interpreter is exiting.
        """
        with self.changed:
            if self.started:
                return False
            self.started = self.closing = True
        self._driver = threading.get_ident()
        try:
            self.session.close()
            self._obey()
        finally:
            self._finish()
            self._driver = None
        if self.callbacks is not None and not is_exiting():
            with contextlib.suppress(RuntimeError):
                self.callbacks.start()
        return True

    def wait_for(self, predicate: Callable[[], bool], deadline: float | None) -> bool:
        """Wait until the predicate holds or the client has ended; False at the monotonic deadline."""
        with self.changed:
            while not predicate() and not self.ended:
                if not wait_slices(self.changed, deadline):
                    return False
        return True

    def join(self, deadline: float) -> None:
        """Wait until both threads have ended, or the monotonic deadline; does not wait for the caller's own thread."""
        if self.started and not self.runs_here():
            self.wait_for(lambda: False, deadline)
            if self.callbacks is not None and not self.callbacks.runs_here():
                self.callbacks.join(deadline)
            if self._thread is not None and self._thread.is_alive():
                self._thread.join(max(0.0, deadline - time.monotonic()))
            for tap in self.taps:
                tap.join(deadline)

    def runs_here(self) -> bool:
        """Whether the caller is the I/O thread."""
        return threading.get_ident() == self._driver

    @property
    def at_rest(self) -> bool:
        """Whether all is done but what the server or the time must bring; for a clock that moves when told.

        To be asked while this thread is kept from waking up.
        """
        if self.callbacks is not None and not self.callbacks.queue.idle:
            return False
        # In this order: whatever a callback asked for before it was done lies in the mailbox.
        if self._mailbox or self._candidate is not None:
            return False
        return self._transport is None or bool(self._outlet.held) or not self._transport.pending

    def disown(self) -> None:
        """In a forked child: let go of the parent's file descriptors, without a lock and without a word on the wire."""
        self.forked = True
        self.ended = True
        self.sink.disown()
        for tap in self.taps:
            tap.disown()
        self.taps = ()
        for transport in (self._transport, self._candidate):
            if transport is not None:
                transport.disown()
        self._transport = self._candidate = self._watched = None
        if self._selector is not None:
            self._selector.close()
        wakeup, self._wakeup = self._wakeup, None  # its lock may be held for ever here: no finalizer may wake any more
        if wakeup is not None:
            wakeup.close()

    # --- The thread

    def run(self) -> None:
        """Turn until the session is closed: the body of the thread."""
        self._driver = threading.get_ident()
        try:
            while self.session.state is not State.CLOSED and not self.forked:
                self._turn()
        except BaseException as error:
            _logger.critical("the background thread failed; please report this", exc_info=error)
            crash = ClientClosed(f"the background thread failed with {type(error).__name__}; please report this")
            # Without its frames: they hold what was being sent, which may be the key.
            crash.__cause__ = error.with_traceback(None)
            self.session.close(crash)
        finally:
            if not self.forked:
                self._finish()
            self._driver = None

    def _begin(self) -> None:
        self.session.start(self._clock.now())

    def _turn(self) -> None:
        ready = self._sleep()
        self._read_mail()
        self._deliver_held()
        self._exchange(ready)
        self._advance(ready)

    def _sleep(self) -> int:
        """Wait for the socket, a wake-up or the next deadline; what the socket is ready for."""
        self._watch_socket()
        self._looked_at = now = self._clock.now().mono
        return self._select(self._timeout(now))

    def _timeout(self, now: float) -> float | None:
        if self._mailbox or (self._transport is not None and self._transport.pending and not self._outlet.held):
            return 0.0
        deadlines = [self._session_deadline(), self._send_deadline()]
        if self.callbacks is not None:
            deadlines.append(self.callbacks.watch_at(now))
        due = [deadline for deadline in deadlines if deadline is not None]
        return max(0.0, min(due) - now) if due else None

    def _session_deadline(self) -> float | None:
        """While events are held no retry begins: nothing it led to could be delivered."""
        if self._outlet.held and self.session.state is State.BACKOFF:
            return None
        return self.session.next_deadline(room=self._has_room())

    def _send_deadline(self) -> float | None:
        return None if self._transport is None else self._transport.send_deadline

    def _has_room(self) -> bool:
        return self._transport is None or self._transport.backlog < _ROOM

    def _watch_socket(self) -> None:
        """Bring the selector up to date with what is awaited of the socket."""
        transport, wanted = self._transport, None
        if transport is not None:
            mask = 0 if self._outlet.held else selectors.EVENT_READ
            if transport.wants_write:
                mask |= selectors.EVENT_WRITE
            wanted = (transport.sock, mask) if mask else None
        if wanted == self._watched:
            return
        self._unwatch()
        if wanted is not None:
            self._the_selector.register(*wanted)
        self._watched = wanted

    def _unwatch(self) -> None:
        """Take the socket out of the selector; always before it is closed."""
        if self._watched is not None:
            self._the_selector.unregister(self._watched[0])
            self._watched = None

    @property
    def _the_selector(self) -> selectors.BaseSelector:
        if self._selector is None:
            raise RuntimeError("the loop was not started")
        return self._selector

    def _select(self, timeout: float | None) -> int:
        ready = 0
        for key, mask in self._clock.wait(self._the_selector, timeout):
            if self._wakeup is not None and key.fileobj is self._wakeup.receiver:
                self._wakeup.drain()
            else:
                ready |= mask
        return ready

    def _read_mail(self) -> None:
        if not (self._mailbox or self.abandoned):
            return
        for _ in range(len(self._mailbox)):
            function, arguments = self._mailbox.popleft()
            function(*arguments)
        if self.abandoned:
            self.session.close()
        self._obey()

    def _exchange(self, ready: int) -> None:
        """Write and read once, as far as the socket is ready."""
        transport = self._transport
        if transport is None:
            return
        if ready & selectors.EVENT_WRITE:
            transport.write()
        if not self._outlet.held and (ready & selectors.EVENT_READ or transport.pending):
            self._receive(transport)

    def _advance(self, ready: int) -> None:
        """Do what is due.

        The peer is judged by the time before the last look at its socket: this process may have been stopped since, and
        what came meanwhile lies there unread.
        """
        now, deadline = self._clock.now(), self._send_deadline()
        if self._transport is not None and deadline is not None and self._looked_at >= deadline:
            self._transport.expire()
        if not (self._outlet.held and self.session.state is State.BACKOFF):
            self.session.tick(now, room=self._has_room(), silent_at=self._silent_at(ready))
        self._obey()
        self._watch_callbacks(now)
        self._announce()

    def _silent_at(self, ready: int) -> float:
        """When the socket had nothing to read; never, while there may be more than the one read took."""
        unread = ready & selectors.EVENT_READ or (self._transport is not None and self._transport.pending)
        return -math.inf if unread else self._looked_at

    def _watch_callbacks(self, now: Instant) -> None:
        slow = None if self.callbacks is None else self.callbacks.overdue(now.mono)
        if slow is not None:
            self._outlet.emit([slow])

    def _announce(self) -> None:
        """Tell those who wait for a state."""
        if self.session.state is not self._announced:
            self._announced = self.session.state
            with self.changed:
                self.readies += self._announced is State.READY
                self.changed.notify_all()

    # --- Receiving

    def _receive(self, transport: Transport) -> None:
        batch = transport.receive()
        now = self._clock.now()
        for tap in self.taps:
            tap.put(now.wall, batch.messages)
        if batch.frames:
            self.session.heard(now)
        self._take_in(batch.messages, now)
        if batch.end is not None and self._transport is transport:
            self._discard()
            self.session.lost(batch.end, now)
            self._obey()
            transport.linger(self._wait_lingering, now.mono + _GOODBYE)

    def _take_in(self, messages: Sequence[bytes], now: Instant) -> None:
        """Hand data to their consumers the fast way as far as that goes, and the rest the plain way, in order."""
        self._counters.bytes_received += sum(map(len, messages))
        transport, incoming = self._transport, self._codec.lane.incoming(messages)
        while self._transport is transport:
            left = self._express(incoming, now)
            if not left:
                return
            self._take_in_plainly(left, now)

    def _express(self, incoming: Incoming, now: Instant) -> list[bytes]:
        """Deliver data events the fast way; the payloads that have to go the plain way before going on."""
        router = self._router()
        if router is None or self._outlet.held or self.session.state is not State.READY:
            return list(incoming.payloads)
        delivery = router.express(incoming, self._codec.lane, now.wall, self.session.wallet)
        if delivery.failure is not None:
            self.session.close(delivery.failure)
        self._outlet.emit(list(delivery.reports))
        return delivery.left

    def _take_in_plainly(self, messages: Sequence[bytes], now: Instant) -> None:
        """Decode; hand data to its consumers in one go, everything else through the session."""
        transport, wallet = self._transport, self.session.wallet
        ready: list[Event] = []
        for payload in messages:
            event = self._codec.decode(payload, now.wall, wallet)
            self._count(event)
            if isinstance(event, DataEvent) and self.session.state is State.READY:
                ready.append(event)
                continue
            self._outlet.emit(ready)
            ready = []
            self.session.received(event, now)
            self._obey()
            if self._transport is not transport:
                return
        self._outlet.emit(ready)

    def _count(self, event: DataEvent | ServerEvent) -> None:
        counters = self._counters
        counters.messages_received += 1
        counters.count_type(wire_type(event))
        if isinstance(event, UnknownMessage):
            counters.unknown += 1
        elif isinstance(event, InvalidMessage):
            counters.invalid += 1

    # --- Obeying the session

    def _obey(self) -> None:
        """Do what the session says, in the order in which it said it."""
        while outputs := self.session.take():
            events: list[Event] = []
            for output in outputs:
                if isinstance(output, Event):
                    events.append(output)
                    continue
                self._outlet.emit(events)
                events = []
                self._perform(output)
            self._outlet.emit(events)

    def _perform(self, output: Output) -> None:
        if isinstance(output, Send):
            self._send(output.payload)
        elif isinstance(output, SendAuth):
            self._send_auth()
        elif isinstance(output, Flushed):
            self._tell_flushed(output)
        elif isinstance(output, Drop):
            self._drop(output)
        elif isinstance(output, Open):
            self._open()

    def _send(self, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.send(payload)
            self._counters.messages_sent += 1

    def _send_auth(self) -> None:
        if self._transport is not None and self._key is not None:
            self._transport.send(encode_auth(self._key))
            self._counters.messages_sent += 1

    def _tell_flushed(self, flushed: Flushed) -> None:
        with self.changed:
            if isinstance(flushed.request, FlushTicket):
                flushed.request.flushed = flushed
            self.changed.notify_all()

    def _drop(self, drop: Drop) -> None:
        self._unwanted = True
        transport = self._transport
        if transport is None:
            return
        self._discard()
        if drop.final:
            limit = self._clock.now().mono + _GOODBYE
            deadline = limit if self._close_deadline is None else min(limit, self._close_deadline)
            transport.close(drop.code or 1000, "", self._wait_closing, deadline)
        else:
            transport.abort(drop.code)

    def _discard(self) -> None:
        self._unwatch()
        self._transport = None

    # --- Opening a connection

    def _open(self) -> None:
        failure: ConnectionFailed | ConfigurationError | None = None
        transport = self._candidate = self._connect(self._settings, self._redactor)
        self._unwanted = False
        try:
            self._key = self._ask_key()
            transport.open(self._wait_opening, self.wake)
        except Interrupted:
            return
        except (ConnectionFailed, ConfigurationError) as error:
            failure = error.with_traceback(None)  # its frames hold this loop, and errors may live for long
        finally:
            self._candidate = None
        now = self._clock.now()
        if failure is not None:
            self.session.open_failed(failure, now)
            return
        self._transport = transport
        self.session.opened(now)

    def _ask_key(self) -> Secret:
        """The key to use now; a callable is asked on a thread of its own, since it may take its time.

        Raises:
            ConnectionFailed: the callable raised, or took longer than `connect_timeout`.
            ConfigurationError: it gave no key.
        """
        key, problem = self._settings.api_key, None
        if key.is_callable:
            try:
                key = self._call_for_key(key)
            except (ConfigurationError, Interrupted):
                raise
            except BaseException as error:  # noqa: BLE001 - the user's function may raise anything
                problem = f"{type(error).__name__}{_place(error.__traceback__)}"
        if problem is not None:  # not chained: the text of such an error may hold the key, which only its author knows
            raise ConnectionFailed(f"the api_key callable failed: {problem}")
        self._redactor.learn(key)
        return key

    def _call_for_key(self, key: Secret) -> Secret:
        return call_aside(
            key.current,
            name="api-key",
            wait=self._wait_opening,
            wake=self.wake,
            deadline=self._clock.now().mono + self._settings.connect_timeout,
            clock=lambda: self._clock.now().mono,
        )

    def _wait_opening(self, sock: socket.socket | None, mask: int, deadline: float) -> bool:
        """The waiter of a connection being opened: hears the mailbox and keeps an eye on callbacks meanwhile."""
        now = self._clock.now()
        watch = None if self.callbacks is None else self.callbacks.watch_at(now.mono)
        until = deadline if watch is None else min(deadline, watch)
        ready = self._select_with(sock, mask, max(0.0, until - now.mono))
        self._read_mail()
        self._deliver_held()
        self._watch_callbacks(self._clock.now())
        self._obey()
        self._announce()
        if self._unwanted:
            raise Interrupted
        return ready

    def _wait_closing(self, sock: socket.socket | None, mask: int, deadline: float) -> bool:
        """The waiter of the closing handshake: nothing else matters any more."""
        return self._select_with(sock, mask, max(0.0, deadline - self._clock.now().mono))

    def _wait_lingering(self, sock: socket.socket | None, mask: int, deadline: float) -> bool:
        """The waiter of a failed connection: its last moments are worth less than whatever anybody asks for."""
        ready = self._wait_closing(sock, mask, deadline)
        self._deliver_held()  # the wait took the news of room
        if self._mailbox or self.abandoned:
            raise Interrupted
        return ready

    def _select_with(self, sock: socket.socket | None, mask: int, timeout: float) -> bool:
        if sock is None:
            self._select(timeout)
            return False
        self._the_selector.register(sock, mask)
        try:
            return bool(self._select(timeout))
        finally:
            self._the_selector.unregister(sock)

    def _deliver_held(self) -> None:
        if self._outlet.held:
            self._outlet.emit_held(self._clock.now())
            self._obey()

    # --- The end

    def _finish(self) -> None:
        """Release everything and everybody, whatever happened."""
        try:
            self._hang_up()
        finally:
            try:
                self._deliver_last()
            finally:
                self._let_go()

    def _hang_up(self) -> None:
        transport = self._transport
        if transport is not None:
            self._discard()
            transport.abort()

    def _deliver_last(self) -> None:
        """Deliver what is held and what the session still had to say."""
        self._outlet.emit_last([output for output in self.session.take() if isinstance(output, Event)])

    def _let_go(self) -> None:
        router = self._router()
        if router is not None:
            router.finish(self.error)
        if self.callbacks is not None:
            self.callbacks.finish()
        with self.changed:
            self.ended = True
            for tap in self.taps:
                tap.finish()
            self.changed.notify_all()
        self._mailbox.clear()
        selector, self._selector = self._selector, None
        wakeup, self._wakeup = self._wakeup, None
        if selector is not None:
            selector.close()
        if wakeup is not None:
            wakeup.close()
