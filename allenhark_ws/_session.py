"""The protocol as a state machine without I/O.

Every rule about authentication, subscriptions, heartbeat, liveness, reconnection and gaps is here, and nowhere else.

What happened goes in, with the time it happened (`Instant`): a connection opened or ended, a message arrived, a user
asked for something, a deadline passed.  What is to be done comes out of `take()`, in order: commands for the loop
(`Open`, `SendAuth`, `Send`, `Drop`, `Flushed`) and events for the consumers.  `next_deadline()` says when to call
`tick()` again.

Neighbours: `_driver` feeds and obeys it; `_link` keeps one connection's books, `_backoff` decides about retries,
`_verdict` judges the server's words, `state` says which moves there are.  It must never touch a socket, a thread or a
clock, and never sees the API key.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterable
from datetime import timedelta
from typing import Final

from attrs import define, field, frozen

from ._backoff import Retry, is_terminal
from ._codec import encode_ping, encode_subscribe, encode_unsubscribe
from ._counters import Counters
from ._instant import Instant
from ._link import Link, Ping
from ._log import log
from ._verdict import of_close, of_early_message, of_fresh_error
from .channels import Channel, Transactions
from .config import Settings
from .errors import AllenHarkError, AuthenticationError, ConfigurationError, ConnectionFailed, ConnectionLost
from .events import (
    Closed,
    Connected,
    DataEvent,
    Disconnected,
    Event,
    Gap,
    Pong,
    Reconnecting,
    ServerError,
    ServerEvent,
)
from .state import TRANSITIONS, State

__all__ = ["Drop", "Failure", "Flushed", "Open", "Output", "Send", "SendAuth", "Session"]

_FRESH: Final = 5.0
"""For this many seconds after READY an error about the key still counts as its rejection: a server may answer the ping
before it has checked the key."""

_PARTING: Final = 0.25
"""Seconds that a server which rejects the key of a READY connection has for its own close, whose code says more."""

_PUMP: Final = 256
"""Requests sent per turn, so that restoring thousands of channels leaves turns for reading."""

_MAX_FLUSH_ERRORS: Final = 100
"""Errors kept for the next flush; a server that answers errors without end must not fill the memory."""

_MAX_FLUSH_ERROR_BYTES: Final = 262_144
"""Bytes of their frames, but for the first one's; likewise."""

_MAX_EARLY: Final = 1000
"""Messages held back until the first pong; with one more, all are told at once, though not in their place."""

_MAX_EARLY_BYTES: Final = 262_144
"""Bytes of their frames held back; likewise."""


@frozen
class Open:
    """Open a connection; answer with `opened` or `open_failed`."""


@frozen
class SendAuth:
    """Send the auth message; the key is the loop's business."""


@frozen
class Send:
    """Send one text message."""

    payload: bytes


@frozen
class Drop:
    """Give the connection up, the one being opened included; nothing when there is none.

    Attributes:
        code: the close code to tell the server, or None to leave without a word.
        final: the client is closing: do the closing handshake.
    """

    code: int | None = None
    final: bool = False


@frozen(eq=False)
class Flushed:
    """The request's ping was answered.

    Attributes:
        request: what was given to `flush`.
        rtt: seconds from its ping to the pong.
        errors: the errors that the server answered meanwhile.
    """

    request: Hashable
    rtt: float
    errors: tuple[ServerError, ...]


Failure = ConnectionFailed | ConnectionLost | ConfigurationError
Output = Open | SendAuth | Send | Drop | Flushed | Event


@frozen
class _Loss:
    """What a `Gap` will tell: when the lost connection was last heard of, what was wanted then, and why it went."""

    since: Instant
    channels: frozenset[Channel]
    cause: ConnectionLost


@define(eq=False)
class Session:
    """The protocol's rules for one client, over all its connections.

    Args:
        settings: intervals, timeouts, backoff and send rate.
        counters: where to count.
        draw: gives a number from 0 to 1 for the jitter.

    Attributes:
        state: where the client stands.
        error: the terminal error, once it ended with one.
        wanted: the channels wanted, in the order in which they came to be.
        last_failure: why the last attempt failed or the last connection was lost, or None.
    """

    _settings: Settings
    _counters: Counters
    _draw: Callable[[], float]
    state: State = field(default=State.IDLE, init=False)
    error: AllenHarkError | None = field(default=None, init=False)
    wanted: dict[Channel, None] = field(factory=dict[Channel, None], init=False)
    last_failure: Failure | None = field(default=None, init=False)
    _retry: Retry = field(init=False)
    _retry_at: float | None = field(default=None, init=False)
    _link: Link | None = field(default=None, init=False)
    _loss: _Loss | None = field(default=None, init=False)
    _suspended: bool = field(default=False, init=False)
    _flushes: dict[Hashable, list[ServerError]] = field(factory=dict[Hashable, list[ServerError]], init=False)
    _flush_errors: list[ServerError] = field(factory=list[ServerError], init=False)
    _outputs: list[Output] = field(factory=list[Output], init=False)

    def __attrs_post_init__(self) -> None:
        self._retry = Retry(self._settings.backoff, self._draw)

    # --- What comes out

    def take(self) -> list[Output]:
        """What is to be done, in order; each is handed out once."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def next_deadline(self, *, room: bool = True) -> float | None:
        """The monotonic time at which `tick` has something to do, or None.

        Args:
            room: the transport can take more to send.
        """
        link = self._link
        if link is None:
            return self._retry_at
        if not link.is_ready:
            return None if self._suspended else link.first_pong_deadline
        deadlines = [link.next_ping_at]
        if link.rejection is not None:
            deadlines.append(link.leave_at)
        if link.pong_deadline is not None and not self._suspended:
            deadlines.append(link.pong_deadline)
        if link.todo and room:
            deadlines.append(link.next_slot)
        return min(deadlines)

    @property
    def wallet(self) -> Transactions | None:
        """The only wallet subscribed on this connection, or None."""
        return None if self._link is None else self._link.wallet

    # --- What users ask for

    def start(self, now: Instant) -> None:
        """Begin connecting, with the next `tick`; nothing when begun already."""
        if self.state is State.IDLE:
            self._retry_at = now.mono

    def want(self, channels: Iterable[Channel]) -> None:
        """Add to the wanted channels."""
        added = [channel for channel in channels if channel not in self.wanted]
        self.wanted.update(dict.fromkeys(added))
        self._plan(added)

    def unwant(self, channels: Iterable[Channel]) -> None:
        """Take from the wanted channels."""
        removed = [channel for channel in channels if channel in self.wanted]
        for channel in removed:
            self.wanted.pop(channel, None)
        self._plan(removed)

    def restate(self, channels: frozenset[Channel]) -> None:
        """These are the wanted channels, and no others, whatever was said before."""
        self.unwant([channel for channel in self.wanted if channel not in channels])
        self.want(channels)

    def flush(self, request: Hashable) -> None:
        """Answer `Flushed` once the server has processed all that was sent before; waits for READY."""
        self._flushes[request] = list(self._flush_errors)
        self._plan([request])

    def forget_flush(self, request: Hashable) -> None:
        """The request gave up waiting."""
        self._flushes.pop(request, None)
        if self._link is not None:
            self._link.todo.pop(request, None)

    def reconnect(self, now: Instant) -> None:
        """Drop the connection, or stop waiting, and try at once."""
        if self.state in (State.IDLE, State.BACKOFF):
            self._retry_at = now.mono
        elif self.state is not State.CLOSED:
            self._renew(now)

    def close(self, error: AllenHarkError | None = None) -> None:
        """End for good, with the terminal error if there is one; nothing when ended already."""
        if self.state is not State.CLOSED:
            self._leave(Drop(1000, final=True))
            self._end(error)

    # --- What the network did

    def opened(self, now: Instant) -> None:
        """The connection is open: authenticate, and ping to learn whether the key was accepted.

        One that was given up while it was being opened is dropped.
        """
        if self.state is not State.CONNECTING:
            self._outputs.append(Drop())
            return
        self._link = Link(
            last_heard=now,
            first_pong_deadline=now.mono + self._settings.pong_timeout,
            next_ping_at=now.mono + self._settings.heartbeat_interval,
            next_slot=now.mono,
        )
        self._outputs.append(SendAuth())
        self._take_slot(self._link, now)
        self._ping(self._link, now)

    def open_failed(self, failure: ConnectionFailed | ConfigurationError, now: Instant) -> None:
        """The connection could not be opened, or there was no key to open it with."""
        if self.state is State.CONNECTING:
            self._attempt_failed(failure, now)

    def heard(self, now: Instant) -> None:
        """A frame of any kind arrived: proof of life."""
        if self._link is not None:
            self._link.last_heard = now
            self._link.pong_deadline = None

    def received(self, event: ServerEvent | DataEvent, now: Instant) -> None:
        """The server said something; the event itself comes out again, in its place.

        Before the first pong that place is not known yet: events are held back until `Connected` and `Gap` are told.
        Data events of a READY connection need not be passed through here.  After the connection's end it is too late.
        """
        link = self._link
        if link is None:
            return
        if isinstance(event, Pong):
            self._hear_pong(link, event, now)
        elif link.is_ready:
            self._outputs.append(event)
            if isinstance(event, ServerError):
                self._hear_error(link, event, now)
        else:
            self._hear_early(link, event, now)

    def lost(self, loss: ConnectionLost, now: Instant) -> None:
        """The connection ended without our doing."""
        if self._link is not None:
            self._end_link(self._link, loss, self._link.rejection or of_close(loss), now)

    def suspend(self) -> None:
        """Reading stops because a consumer blocks: silence proves nothing now."""
        self._suspended = True

    def resume(self, now: Instant) -> None:
        """Reading goes on: give the server its time anew."""
        self._suspended = False
        if self._link is not None:
            self._link.be_patient(now.mono + self._settings.pong_timeout)

    def tick(self, now: Instant, *, room: bool = True, silent_at: float = math.inf) -> None:
        """Do what is due.

        Args:
            now: the time.
            room: the transport can take more to send.
            silent_at: monotonic seconds at which the connection had nothing to read.  Life is judged by that: after a
                time in which this machine or process was asleep, the proof may lie unread.
        """
        if self._retry_at is not None and now.mono >= self._retry_at:
            self._connect()
        elif self._link is not None:
            self._check_life(self._link, now, silent_at)
        if self._link is not None:
            self._check_rejection(self._link, now)
        link = self._link
        if link is not None and link.is_ready:
            self._beat(link, now)
            if room:
                self._pump(link, now)

    # --- Rules: authentication barrier

    def _hear_early(self, link: Link, event: ServerEvent | DataEvent, now: Instant) -> None:
        link.early.append(event)
        link.early_bytes += len(event.raw or b"")
        failure = of_early_message(event)
        if failure is not None:
            self._attempt_failed(failure, now, Drop(1000))
        elif len(link.early) > _MAX_EARLY or link.early_bytes > _MAX_EARLY_BYTES:
            self._tell_early(link)

    def _tell_early(self, link: Link) -> None:
        self._outputs += link.early
        link.early.clear()
        link.early_bytes = 0

    def _become_ready(self, link: Link, rtt: float, now: Instant) -> None:
        self._move(State.READY)
        link.ready_at = now.mono
        link.plan(self.wanted)
        link.plan(self._flushes)
        self._outputs.append(Connected(self._retry.attempt, rtt))
        self._retry.ready()
        self._counters.attempts = 0
        self._counters.connected_since = now.wall
        if self._loss is not None:
            self._counters.reconnects += 1
            self._outputs.append(self._gap(self._loss, now))
        self._tell_early(link)

    def _gap(self, loss: _Loss, now: Instant) -> Gap:
        duration = now.mono - loss.since.mono
        ended_at = loss.since.wall + timedelta(seconds=duration)
        return Gap(loss.since.wall, ended_at, duration, loss.channels & frozenset(self.wanted), loss.cause)

    # --- Rules: heartbeat and liveness

    def _ping(self, link: Link, now: Instant, request: Hashable | None = None) -> None:
        link.pinged(now.mono, request, self._settings.pong_timeout)
        self._send(link, encode_ping(), now)

    def _beat(self, link: Link, now: Instant) -> None:
        """Ping when that is due; a request that waits for its slot gives way once, or it might wait for ever."""
        if now.mono < link.next_ping_at:
            return
        if not link.todo:  # nobody waits: what slots heartbeats took before adds up to nothing
            link.next_slot = min(link.next_slot, now.mono)
        slot = link.next_slot
        self._ping(link, now)
        if link.gave_way:
            link.next_slot = slot
        link.gave_way = bool(link.todo)
        link.next_ping_at = now.mono + self._settings.heartbeat_interval

    def _check_life(self, link: Link, now: Instant, silent_at: float) -> None:
        """Before READY a pong has to come in time, afterwards anything."""
        deadline = link.pong_deadline if link.is_ready else link.first_pong_deadline
        if self._suspended or deadline is None or now.mono < deadline:
            return
        if silent_at < deadline and self._may_lie_unread(link, now):
            return
        within = f"within {self._settings.pong_timeout:g} s"
        if link.is_ready:
            self._end_link(link, ConnectionLost(f"nothing arrived {within} after a ping"), None, now, Drop())
        else:
            self._attempt_failed(ConnectionFailed(f"no pong came {within} after authentication"), now, Drop())

    def _may_lie_unread(self, link: Link, now: Instant) -> bool:
        """Whether the sign of life can still be among what is to be read: the first pong for so long again, no longer.

        A server may go on talking for ever without it; afterwards anything that is read is the sign.
        """
        if link.is_ready:
            return True
        if link.unread_until is None:
            link.unread_until = now.mono + self._settings.pong_timeout
        return now.mono < link.unread_until

    def _hear_pong(self, link: Link, pong: Pong, now: Instant) -> None:
        ping = link.ponged()
        if ping is None:
            self._outputs.append(pong)
            return
        rtt = self._measure(ping, pong, now)
        if not link.is_ready:
            self._become_ready(link, rtt, now)
        self._outputs.append(pong)
        self._answer(ping, rtt)

    def _measure(self, ping: Ping, pong: Pong, now: Instant) -> float:
        rtt = now.mono - ping.sent_at
        offset = None
        if pong.timestamp is not None:
            offset = (pong.timestamp - now.wall).total_seconds() + rtt / 2
        self._counters.measure(rtt, offset)
        return rtt

    # --- Rules: subscriptions and flushes

    def _plan(self, items: Iterable[Channel | Hashable]) -> None:
        """Send for these when there is a READY connection; the next one begins with everything anyway."""
        if self._link is not None and self._link.is_ready:
            self._link.plan(items)

    def _pump(self, link: Link, now: Instant) -> None:
        """Send what is planned, as fast as the send rate allows."""
        for _ in range(_PUMP):
            if not link.todo or now.mono < link.next_slot:
                return
            item = link.next_item()
            link.gave_way = False
            if isinstance(item, Channel):
                self._reconcile(link, item, now)
            else:
                self._ping(link, now, item)

    def _reconcile(self, link: Link, channel: Channel, now: Instant) -> None:
        wanted = channel in self.wanted
        if wanted != (channel in link.on_wire):
            link.requested(channel, wanted=wanted)
            self._send(link, (encode_subscribe if wanted else encode_unsubscribe)(channel), now)

    def _send(self, link: Link, payload: bytes, now: Instant) -> None:
        self._outputs.append(Send(payload))
        self._take_slot(link, now)

    def _take_slot(self, link: Link, now: Instant) -> None:
        """Auth and heartbeats go out when due, requests wait for their slot; each message takes one."""
        if self._settings.max_send_rate is not None:
            link.next_slot = max(link.next_slot, now.mono) + 1 / self._settings.max_send_rate

    def _answer(self, ping: Ping, rtt: float) -> None:
        """Hand the errors to the flush that waited for this pong; they have been reported then."""
        if ping.request is not None and ping.request in self._flushes:
            errors = self._flushes.pop(ping.request)
            self._flush_errors.clear()
            self._outputs.append(Flushed(ping.request, rtt, tuple(errors)))

    def _hear_error(self, link: Link, event: ServerError, now: Instant) -> None:
        self._keep_for_flushes(link, event)
        if link.rejection is None and link.ready_for(now.mono) <= _FRESH:
            link.rejection = of_fresh_error(event)
            link.leave_at = now.mono + _PARTING

    def _check_rejection(self, link: Link, now: Instant) -> None:
        """Leave a connection whose server has rejected the key, and did not close it."""
        if link.rejection is not None and now.mono >= link.leave_at:
            loss = ConnectionLost(f"the server rejected the API key: {link.rejection.reason}")
            self._end_link(link, loss, link.rejection, now, Drop(1000))

    def _keep_for_flushes(self, link: Link, event: ServerError) -> None:
        """Keep an error for every flush that waits, and for the next one if it may answer a request."""
        collectors = list(self._flushes.values())
        if link.unconfirmed:
            collectors.append(self._flush_errors)
        for errors in collectors:
            size = sum(len(error.raw or b"") for error in (*errors, event))
            if not errors or (len(errors) < _MAX_FLUSH_ERRORS and size <= _MAX_FLUSH_ERROR_BYTES):
                errors.append(event)

    # --- Rules: ends and new beginnings

    def _connect(self) -> None:
        self._move(State.CONNECTING)
        self._retry_at = None
        self._outputs.append(Open())

    def _end_link(
        self,
        link: Link,
        loss: ConnectionLost,
        failure: AuthenticationError | None,
        now: Instant,
        drop: Drop | None = None,
    ) -> None:
        """The connection is gone: a READY one was lost, an earlier one was only an attempt."""
        if not link.is_ready:
            self._attempt_failed(failure or _as_failure(loss), now, drop)
            return
        delay = self._retry.after_loss(failure, stable=self._is_stable(link, now))
        self._leave(drop)
        self._note_loss(link, loss, delay)
        if delay is None:
            self._end(failure)
        else:
            self._back_off(delay, loss, now)

    def _attempt_failed(
        self, failure: ConnectionFailed | ConfigurationError, now: Instant, drop: Drop | None = None
    ) -> None:
        self._leave(drop)
        self._counters.attempts += 1
        self.last_failure = failure
        delay = self._retry.after_failure(failure)
        if delay is None:
            self._end(self._terminal_error(failure))
        else:
            self._back_off(delay, failure, now)

    def _terminal_error(self, failure: ConnectionFailed | ConfigurationError) -> AllenHarkError:
        """The terminal error: the failure itself, or that the allowed attempts are used up."""
        if isinstance(failure, ConfigurationError) or is_terminal(failure):
            return failure
        error = ConnectionFailed(failure.reason, attempts=self._retry.failed)
        error.__cause__ = failure
        return error

    def _renew(self, now: Instant) -> None:
        """The user asked for a new connection: a loss like any other, but at no cost to the counts."""
        link, loss = self._link, ConnectionLost("reconnect() was called")
        self._leave(Drop(1000))
        if link is not None and link.is_ready:
            self._retry.after_reconnect(stable=self._is_stable(link, now))
            self._note_loss(link, loss, 0.0)
        else:
            self._retry.attempt += 1
        self._back_off(0.0, loss, now)

    def _note_loss(self, link: Link, loss: ConnectionLost, delay: float | None) -> None:
        self.last_failure = loss
        self._loss = _Loss(link.last_heard, frozenset(self.wanted), loss)
        self._outputs.append(Disconnected(loss.code, loss.close_reason, loss, delay))

    def _back_off(self, delay: float, cause: Failure, now: Instant) -> None:
        self._move(State.BACKOFF)
        self._retry_at = now.mono + delay
        self._outputs.append(Reconnecting(self._retry.attempt, delay, cause))

    def _end(self, error: AllenHarkError | None) -> None:
        self.error = error  # before the state, which other threads look at first
        self._move(State.CLOSED)
        self._retry_at = None
        self._outputs.append(Closed(error))

    def _leave(self, drop: Drop | None) -> None:
        """Forget the connection's books; flushes that wait for a pong wait for the next connection's."""
        link, self._link = self._link, None
        self._flush_errors.clear()
        self._counters.connected_since = None
        if link is not None:
            self._tell_early(link)
        if drop is not None:
            self._outputs.append(drop)

    def _is_stable(self, link: Link, now: Instant) -> bool:
        return link.ready_for(now.mono) >= self._settings.backoff.reset_after

    def _move(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"illegal move from {self.state.name} to {state.name}: this is a bug in allenhark_ws")
        log(logging.DEBUG, "%s -> %s", self.state.name, state.name)
        self.state = state


def _as_failure(loss: ConnectionLost) -> ConnectionFailed:
    failure = ConnectionFailed(f"the connection ended before the first pong: {loss.reason}")
    failure.__cause__ = loss
    return failure
