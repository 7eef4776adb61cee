"""What the I/O thread does: mailbox → session → commands and events → sleep, turn after turn.

It is the one place that knows rules and sockets at once, and it has no rules of its own.  One turn sleeps until the
socket, a wake-up or the next deadline; reads the mailbox; reads the socket once; ticks the session; and does what it
says, in order.  Nothing polls: an idle client sleeps until its next deadline.

While a connection is being opened the same work is done within its waits (`_attend`).  While a blocking consumer is
full, events are held, the socket is not read and the session suspends liveness.

A message that comes alone meets a processor that has forgotten all of this: at a thousand a second it takes some 50 µs
from the readable socket to an inline callback, for 2 µs of work in a burst, in steps of 4 to 12 µs, none of
which stands out; to the callback thread 110, of which telling it takes 20 and its waking up 35 (``python -m
tests.benchmarks turn``).

Neighbours: `_loop` owns the thread and fills the mailbox; `_session` decides; `_network` does what it says to the
connection, `_intake` takes in what is read, `_outlet` gives events out, `_sleeper` waits.  Everything here happens on
the I/O thread, but for what a client asks before its start, or instead of one (`Loop.catch_up`,
`Loop.close_unstarted`), and for `at_rest` and `disown`.  It must never hold a client.
"""

from __future__ import annotations

import math
import selectors
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from attrs import define, field

from ._aside import Interrupted
from ._codec import Codec
from ._counters import Counters
from ._dispatch import SLOW, CallbackThread
from ._instant import Instant
from ._intake import Intake
from ._network import GOODBYE, Network
from ._outlet import Outlet
from ._ports import Clock, Transport, TransportFactory
from ._redact import Redactor
from ._session import Drop, Flushed, Open, Output, Send, SendAuth, Session
from ._sleeper import Sleeper
from .config import Settings
from .events import Event
from .state import State

__all__ = ["Driver"]

_OVERDUE: Final = -math.inf
"""Earlier than any monotonic time."""


@define(eq=False)
class Driver:
    """The work of one client's I/O thread, and what it works with.

    Args:
        settings: the client's settings.
        session: the rules.
        codec: bytes to events.
        counters: where to count.
        redactor: learns each key before it is used.
        connect: makes a transport, unopened.
        clock: the time.
        callbacks: the callback thread, to be watched, if there is one.
        tell_state: told of every new state.
        tell_flushed: told of every flush that is through.

    Attributes:
        mailbox: functions to be called in the next turn, with their arguments; any thread may append.
        sleeper: wakes the thread.
        network: the connection.
        outlet: where events leave.
        intake: what becomes of messages.
        messages_per_turn: a turn goes on reading what is pending until it took in so many, if nobody wants anything
            meanwhile; 0 for one read.  For a transport that reads a file, where a turn costs more than a message.
    """

    _settings: Settings
    _session: Session
    _codec: Codec
    _counters: Counters
    _redactor: Redactor
    _connect: TransportFactory
    _clock: Clock
    _callbacks: CallbackThread | None
    _tell_state: Callable[[State], None]
    _tell_flushed: Callable[[Flushed], None]
    mailbox: deque[tuple[Callable[..., object], tuple[Any, ...]]] = field(
        factory=deque[tuple[Callable[..., object], tuple[Any, ...]]], init=False
    )
    sleeper: Sleeper = field(init=False)
    network: Network = field(init=False)
    outlet: Outlet = field(init=False)
    intake: Intake = field(init=False)
    messages_per_turn: int = field(default=0, init=False)
    _looked_at: float = field(default=0.0, init=False)
    _is_calm: bool = field(default=False, init=False)
    _due: float = field(default=_OVERDUE, init=False)  # when there is something to do, as far as nothing comes
    _disowned: bool = field(default=False, init=False)
    _told: State = field(default=State.IDLE, init=False)

    def __attrs_post_init__(self) -> None:
        session, counters, clock = self._session, self._counters, self._clock
        self.sleeper = Sleeper(clock)
        self.outlet = Outlet(session)
        self.network = Network(
            self._settings, session, counters, self._redactor, self._connect, clock, self.sleeper, self._attend
        )
        self.intake = Intake(session, self._codec, counters, self.network, self.outlet, self.obey)

    # --- One turn

    def turn(self) -> None:
        """Sleep until there is something to do, and do it."""
        now = self._clock.now().mono
        if self._is_calm and now >= self._due:  # it fell due while callbacks ran, and must not wait for the next ones
            self._is_calm = False
            self._advance(selectors.EVENT_READ)
            return
        ready = self._sleep(now)
        self._read_mail()
        self._deliver_held()
        self._is_calm = self._exchange(ready)
        if not self._is_calm:
            self._advance(ready)

    def _sleep(self, now: float) -> int:
        """Wait for the socket, a wake-up or the next deadline; what the socket is ready for."""
        if not self._is_calm:
            self._watch_socket()
            self._due = self._next_deadline(now)
        self._looked_at = now
        return self.sleeper.sleep(None if self._due == math.inf else max(0.0, self._due - now))

    def _watch_socket(self) -> None:
        """Bring what is awaited of the socket up to date."""
        transport = self.network.transport
        if transport is None:
            return
        mask = 0 if self.outlet.held else selectors.EVENT_READ
        if transport.wants_write:
            mask |= selectors.EVENT_WRITE
        self.sleeper.watch(transport.sock, mask)

    def _next_deadline(self, now: float) -> float:
        """The monotonic time at which there is something to do, whatever comes; that may be now, or never."""
        if self.mailbox or (self._has_unread and not self.outlet.held):
            return now
        deadlines = [self._session_deadline(), self.network.send_deadline]
        if self._callbacks is not None:
            deadlines.append(self._callbacks.watch_at(now))
        return min((deadline for deadline in deadlines if deadline is not None), default=math.inf)

    def _session_deadline(self) -> float | None:
        """While events are held no retry begins: nothing it led to could be delivered."""
        if self.outlet.held and self._session.state is State.BACKOFF:
            return None
        return self._session.next_deadline(room=self.network.has_room)

    @property
    def _has_unread(self) -> bool:
        """Whether the transport has something to tell without a look at the socket."""
        return self.network.transport is not None and self.network.transport.pending

    def _read_mail(self) -> None:
        if self.mailbox:
            self._due = _OVERDUE
            for _ in range(len(self.mailbox)):
                function, arguments = self.mailbox.popleft()
                function(*arguments)
            self.obey()

    def _deliver_held(self) -> None:
        if self.outlet.held:
            self._due = _OVERDUE
            self.outlet.emit_held(self._clock.now())
            self.obey()

    def _exchange(self, ready: int) -> bool:
        """Write and read once, as far as the socket is ready.

        Returns:
            Whether it is calm: nothing came but data, which are with their consumers, nothing is due before it was, and
            nothing is left to write, or was: TLS may read in order to write, and write in order to read.  The turn ends
            here then: the rest of it takes a third as long as all before (measured, at a thousand messages a second),
            and until this thread sleeps the callback thread cannot begin.
        """
        transport = self.network.transport
        if transport is None:
            return False
        if ready & selectors.EVENT_WRITE:
            transport.write()
        until = self._counters.messages_received + self.messages_per_turn
        calm = ready == selectors.EVENT_READ and not transport.backlog
        if not self.outlet.held and (ready & selectors.EVENT_READ or transport.pending):
            calm &= self._receive(transport)
        while self._counters.messages_received < until and transport.pending and self._is_idle_but_for(transport):
            calm &= self._receive(transport)
        return calm and self._is_idle_but_for(transport) and not (transport.pending or transport.wants_write)

    def _is_idle_but_for(self, transport: Transport) -> bool:
        return self.network.transport is transport and not (self.mailbox or self.outlet.held)

    def _receive(self, transport: Transport) -> bool:
        """Read once; whether that is calm."""
        batch = transport.receive()
        now = self._clock.now()
        if batch.frames:
            self._session.heard(now)
        calm = self.intake.take(batch.messages, now) and batch.frames == len(batch.messages) and now.mono < self._due
        if batch.end is not None and self.network.transport is transport:
            self.network.discard()
            self._session.lost(batch.end, now)
            self.obey()
            transport.linger(self._wait_lingering, now.mono + GOODBYE)
            return False
        if self._callbacks is not None:
            self._due = min(self._due, now.mono + SLOW)
        return calm

    def _advance(self, ready: int) -> None:
        """Do what is due.

        The peer is judged by the time before the last look at its socket: this process may have been stopped since, and
        what came meanwhile lies there unread.
        """
        now, transport, deadline = self._clock.now(), self.network.transport, self.network.send_deadline
        if transport is not None and deadline is not None and self._looked_at >= deadline:
            transport.expire()
        if not (self.outlet.held and self._session.state is State.BACKOFF):
            self._session.tick(now, room=self.network.has_room, silent_at=self._silent_at(ready))
        self.obey()
        self._watch_callbacks(now)
        self._announce()

    def _silent_at(self, ready: int) -> float:
        """When the socket had nothing to read; never, while there may be more than the one read took."""
        return -math.inf if ready & selectors.EVENT_READ or self._has_unread else self._looked_at

    def _watch_callbacks(self, now: Instant) -> None:
        slow = None if self._callbacks is None else self._callbacks.overdue(now.mono)
        if slow is not None:
            self.outlet.emit([slow])

    def _announce(self) -> None:
        if self._session.state is not self._told:
            self._told = self._session.state
            self._tell_state(self._told)

    # --- Within a wait for the network

    def _attend(self, sock: socket.socket | None, mask: int, deadline: float) -> bool:
        """The waiter (see `_aside.Waiter`) while a connection is being opened: a turn but for reading the network."""
        watch = None if self._callbacks is None else self._callbacks.watch_at(self._clock.now().mono)
        ready = self.sleeper.sleep_on(sock, mask, deadline if watch is None else min(deadline, watch))
        self._read_mail()
        self._deliver_held()
        self._watch_callbacks(self._clock.now())
        self.obey()
        self._announce()
        return ready

    def _wait_lingering(self, sock: socket.socket | None, mask: int, deadline: float) -> bool:
        """The waiter of a failed connection: its last moments are worth less than whatever anybody asks for."""
        ready = self.sleeper.sleep_on(sock, mask, deadline)
        self._deliver_held()  # the wait took the news of room
        if self.mailbox:
            raise Interrupted
        return ready

    # --- Obeying the session

    def obey(self) -> None:
        """Do what the session says, in the order in which it said it."""
        while outputs := self._session.take():
            self._due = _OVERDUE
            events: list[Event] = []
            for output in outputs:
                if isinstance(output, Event):
                    events.append(output)
                    continue
                self.outlet.emit(events)
                events = []
                if self._disowned:  # by a callback that has forked: what follows is the parent's to do
                    return
                self._perform(output)
            self.outlet.emit(events)

    def _perform(self, output: Output) -> None:
        if isinstance(output, Send):
            self.network.send(output.payload)
        elif isinstance(output, SendAuth):
            self.network.send_auth()
        elif isinstance(output, Flushed):
            self._tell_flushed(output)
        elif isinstance(output, Drop):
            self.network.drop(output)
        elif isinstance(output, Open):
            self.network.open()

    # --- The end

    def finish(self) -> None:
        """Hang up, and deliver what is held and what the session still had to say."""
        try:
            self.network.hang_up()
        finally:
            self.outlet.emit_last([output for output in self._session.take() if isinstance(output, Event)])

    def disown(self) -> None:
        """In a forked child: let go of the parent's file descriptors, without a lock and without a word on the wire."""
        self._disowned = True
        for tap in self.intake.taps:
            tap.disown()
        self.intake.taps = ()
        self.network.disown()
        self.sleeper.close()

    @property
    def at_rest(self) -> bool:
        """Whether nothing is left to do but what the server or the time must bring; see `Loop.at_rest`."""
        if self.mailbox or self.network.candidate is not None:
            return False
        return not self._has_unread or bool(self.outlet.held)
