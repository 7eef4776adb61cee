"""The protocol as a state machine without I/O: every rule about authentication, subscriptions, heartbeat, liveness,
reconnection and gaps is here, and nowhere else.

What happened goes in, with the time it happened (`Instant`): a connection opened or ended, a message arrived, a user
asked for something, a deadline passed.  What is to be done comes out of `take()`, in order: commands for the loop (`Open`,
`SendAuth`, `Send`, `Drop`, `Flushed`) and events for the consumers.  `next_deadline()` says when to call `tick()` again.

Neighbours: `_loop` feeds and obeys it; `_link` keeps one connection's books, `_backoff` decides about retries, `_verdict`
judges the server's words.  It must never touch a socket, a thread or a clock, and never sees the API key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Union

from attrs import define, field, frozen

from ._backoff import Retry, is_terminal
from ._codec import encode_ping, encode_subscribe, encode_unsubscribe
from ._counters import Counters
from ._link import Link, Ping
from ._verdict import of_close, of_early_message, of_fresh_error
from .channels import Channel, Transactions
from .config import Settings
from .errors import AllenHarkError, AuthenticationError, ConfigurationError, ConnectionFailed, ConnectionLost
from .events import Closed, Connected, Disconnected, Event, Gap, Pong, Reconnecting, ServerError, ServerEvent
from .state import TRANSITIONS, State

__all__ = ["Drop", "Failure", "Flushed", "Instant", "Open", "Output", "Send", "SendAuth", "Session"]

_logger = logging.getLogger("allenhark_ws")

_FRESH: Final = 5.0
"""For this many seconds after READY an error about the key still counts as its rejection: a server may answer the ping
before it has checked the key."""

_PUMP: Final = 256
"""Requests sent per turn, so that restoring thousands of channels leaves turns for reading."""

_MAX_REJECTIONS: Final = 100
"""Errors kept for the next flush; a server that answers errors without end must not fill the memory."""


class Instant(NamedTuple):
    """A moment, on both clocks: `mono` for every rule, `wall` (aware, UTC) only to be shown."""

    mono: float
    wall: datetime


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
    """Give the connection up, the one being opened included.

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


Failure = Union[ConnectionFailed, ConnectionLost, ConfigurationError]
Output = Union[Open, SendAuth, Send, Drop, Flushed, Event]


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
    """

    _settings: Settings
    _counters: Counters
    _draw: Callable[[], float]
    state: State = field(default=State.IDLE, init=False)
    error: AllenHarkError | None = field(default=None, init=False)
    wanted: dict[Channel, None] = field(factory=dict, init=False)
    _retry: Retry = field(init=False)
    _link: Link | None = field(default=None, init=False)
    _last_frame: Instant | None = field(default=None, init=False)
    _retry_at: float | None = field(default=None, init=False)
    _loss: _Loss | None = field(default=None, init=False)
    _suspended: bool = field(default=False, init=False)
    _flushes: dict[Hashable, list[ServerError]] = field(factory=dict, init=False)
    _rejections: list[ServerError] = field(factory=list, init=False)
    _outputs: list[Output] = field(factory=list, init=False)
    last_failure: Failure | None = field(default=None, init=False)

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
        if self.state is State.BACKOFF:
            return self._retry_at
        link = self._link
        if link is None:
            return None
        if link.ready_at is None:
            return None if self._suspended else link.barrier_deadline
        deadlines = [link.next_ping_at]
        if link.silence_deadline is not None and not self._suspended:
            deadlines.append(link.silence_deadline)
        if link.todo and room:
            deadlines.append(link.next_slot)
        return min(deadlines)

    @property
    def wallet(self) -> Transactions | None:
        """The only wallet subscribed on this connection, or None."""
        return None if self._link is None else self._link.wallet

    # --- What users ask for

    def start(self, now: Instant) -> None:
        """Begin connecting; nothing when begun already."""
        if self.state is State.IDLE:
            self._connect(now)

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

    def flush(self, request: Hashable) -> None:
        """Answer `Flushed` once the server has processed all that was sent before; waits for READY."""
        self._flushes[request] = list(self._rejections)
        self._plan([request])

    def forget_flush(self, request: Hashable) -> None:
        """The request gave up waiting."""
        self._flushes.pop(request, None)
        if self._link is not None:
            self._link.todo.pop(request, None)

    def reconnect(self, now: Instant) -> None:
        """Drop the connection, or stop waiting, and try at once."""
        if self.state is State.IDLE:
            self._connect(now)
        elif self.state is State.BACKOFF:
            self._retry_at = now.mono
        elif self.state is not State.CLOSED:
            self._renew(now)

    def close(self, error: AllenHarkError | None = None) -> None:
        """End for good, with the terminal error if there is one; nothing when ended already."""
        if self.state is State.CLOSED:
            return
        self._move(State.CLOSED)
        self.error = error
        self._leave(Drop(1000, final=True))
        self._outputs.append(Closed(error))

    # --- What the network did

    def opened(self, now: Instant) -> None:
        """The connection is open: authenticate, and ping to learn whether the key was accepted."""
        self._link = Link(
            barrier_deadline=now.mono + self._settings.pong_timeout,
            next_ping_at=now.mono + self._settings.heartbeat_interval,
            next_slot=now.mono,
        )
        self._last_frame = now
        self._outputs.append(SendAuth())
        self._take_slot(self._link, now)
        self._ping(self._link, now)

    def open_failed(self, failure: ConnectionFailed | ConfigurationError, now: Instant) -> None:
        """The connection could not be opened, or there was no key to open it with."""
        self._attempt_failed(failure, now)

    def heard(self, now: Instant) -> None:
        """A frame of any kind arrived: proof of life."""
        self._last_frame = now
        if self._link is not None:
            self._link.silence_deadline = None

    def received(self, event: ServerEvent, now: Instant) -> None:
        """The server said something that is not data; the event itself comes out again, in its place."""
        if self.state is State.READY and self._link is not None:
            self._hear_ready(self._link, event, now)
        elif self._link is not None:
            self._hear_early(self._link, event, now)
        else:
            self._outputs.append(event)

    def lost(self, loss: ConnectionLost, now: Instant) -> None:
        """The connection ended without our doing."""
        if self._link is None:
            return
        self._end_link(loss, of_close(loss), now)

    def suspend(self) -> None:
        """Reading stops because a consumer blocks: silence proves nothing now."""
        self._suspended = True

    def resume(self, now: Instant) -> None:
        """Reading goes on: give the server its time anew."""
        self._suspended = False
        link = self._link
        if link is None:
            return
        if link.ready_at is None:
            link.barrier_deadline = now.mono + self._settings.pong_timeout
        elif link.silence_deadline is not None:
            link.silence_deadline = now.mono + self._settings.pong_timeout

    def tick(self, now: Instant, *, room: bool = True) -> None:
        """Do what is due.

        Args:
            now: the time.
            room: the transport can take more to send.
        """
        if self.state is State.BACKOFF and self._retry_at is not None and now.mono >= self._retry_at:
            self._connect(now)
        elif self.state is State.CONNECTING and self._link is not None:
            self._check_barrier(self._link, now)
        elif self.state is State.READY and self._link is not None:
            self._check_silence(self._link, now)
        if self.state is State.READY and self._link is not None:
            self._beat(self._link, now)
            if room:
                self._pump(self._link, now)

    # --- Rules: authentication barrier

    def _hear_early(self, link: Link, event: ServerEvent, now: Instant) -> None:
        if isinstance(event, Pong):
            ping = link.ponged()
            if ping is not None:
                self._become_ready(link, self._measure(ping, event, now), now)
            self._outputs.append(event)
            return
        self._outputs.append(event)
        failure = of_early_message(event)
        if failure is not None:
            self._outputs.append(Drop(1000))
            self._attempt_failed(failure, now)

    def _check_barrier(self, link: Link, now: Instant) -> None:
        if self._suspended or now.mono < link.barrier_deadline:
            return
        self._outputs.append(Drop())
        seconds = self._settings.pong_timeout
        self._attempt_failed(ConnectionFailed(f"no pong came within {seconds:g} s after authentication"), now)

    def _become_ready(self, link: Link, rtt: float, now: Instant) -> None:
        self._move(State.READY)
        link.ready_at = now.mono
        link.plan(self.wanted)
        link.plan(self._flushes)
        attempt = self._retry.attempt
        self._retry.ready()
        self._counters.attempts = 0
        self._counters.connected_since = now.wall
        self._outputs.append(Connected(attempt, rtt))
        if self._loss is not None:
            self._counters.reconnects += 1
            self._outputs.append(self._gap(self._loss, now))
            self._loss = None

    def _gap(self, loss: _Loss, now: Instant) -> Gap:
        duration = now.mono - loss.since.mono
        ended_at = loss.since.wall + timedelta(seconds=duration)
        return Gap(loss.since.wall, ended_at, duration, loss.channels & frozenset(self.wanted), loss.cause)

    # --- Rules: heartbeat and liveness

    def _ping(self, link: Link, now: Instant, request: Hashable | None = None) -> None:
        link.pinged(now.mono, request, self._settings.pong_timeout)
        self._send(link, encode_ping(), now)

    def _beat(self, link: Link, now: Instant) -> None:
        if now.mono < link.next_ping_at:
            return
        self._ping(link, now)
        link.next_ping_at = now.mono + self._settings.heartbeat_interval

    def _check_silence(self, link: Link, now: Instant) -> None:
        deadline = link.silence_deadline
        if self._suspended or deadline is None or now.mono < deadline:
            return
        self._outputs.append(Drop())
        seconds = self._settings.pong_timeout
        self._end_link(ConnectionLost(f"nothing arrived within {seconds:g} s after a ping"), None, now)

    def _measure(self, ping: Ping, pong: Pong, now: Instant) -> float:
        rtt = now.mono - ping.sent_at
        offset = None
        if pong.timestamp is not None:
            offset = (pong.timestamp - now.wall).total_seconds() + rtt / 2
        self._counters.measure(rtt, offset)
        return rtt

    # --- Rules: subscriptions and flushes

    def _plan(self, items: Iterable[Channel | Hashable]) -> None:
        if self._link is not None and self.state is State.READY:
            self._link.plan(items)

    def _pump(self, link: Link, now: Instant) -> None:
        """Send what is planned, as fast as the send rate allows."""
        for _ in range(_PUMP):
            if not link.todo or now.mono < link.next_slot:
                return
            item = link.next_item()
            if isinstance(item, Channel):
                self._reconcile(link, item, now)
            else:
                self._ping(link, now, item)

    def _reconcile(self, link: Link, channel: Channel, now: Instant) -> None:
        wanted = channel in self.wanted
        if wanted == (channel in link.on_wire):
            return
        link.requested(channel, wanted=wanted)
        self._send(link, (encode_subscribe if wanted else encode_unsubscribe)(channel), now)

    def _send(self, link: Link, payload: bytes, now: Instant) -> None:
        self._outputs.append(Send(payload))
        self._take_slot(link, now)

    def _take_slot(self, link: Link, now: Instant) -> None:
        """Auth and pings go out when due, requests wait for their slot; each message takes one."""
        if self._settings.max_send_rate is not None:
            link.next_slot = max(link.next_slot, now.mono) + 1 / self._settings.max_send_rate

    def _hear_ready(self, link: Link, event: ServerEvent, now: Instant) -> None:
        self._outputs.append(event)
        if isinstance(event, Pong):
            ping = link.ponged()
            if ping is not None:
                self._answer(ping, self._measure(ping, event, now))
        elif isinstance(event, ServerError):
            self._hear_error(link, event, now)

    def _answer(self, ping: Ping, rtt: float) -> None:
        """Hand the errors to the flush that waited for this pong; they have been reported then."""
        if ping.request is not None and ping.request in self._flushes:
            errors = self._flushes.pop(ping.request)
            self._rejections.clear()
            self._outputs.append(Flushed(ping.request, rtt, tuple(errors)))

    def _hear_error(self, link: Link, event: ServerError, now: Instant) -> None:
        collectors = list(self._flushes.values())
        if link.unconfirmed:
            collectors.append(self._rejections)
        for errors in collectors:
            if len(errors) < _MAX_REJECTIONS:
                errors.append(event)
        if link.ready_at is not None and now.mono - link.ready_at <= _FRESH:
            failure = of_fresh_error(event)
            if failure is not None:
                self._outputs.append(Drop(1000))
                self._end_link(ConnectionLost(f"the server rejected the API key: {failure.reason}"), failure, now)

    # --- Rules: ends and new beginnings

    def _connect(self, now: Instant) -> None:
        self._move(State.CONNECTING)
        self._retry_at = None
        self._last_frame = now if self._last_frame is None else self._last_frame
        self._outputs.append(Open())

    def _end_link(self, loss: ConnectionLost, failure: AuthenticationError | None, now: Instant) -> None:
        """The connection is gone: a READY one was lost, an earlier one was only an attempt."""
        if self._link is None or self._link.ready_at is None:
            self._attempt_failed(failure or _as_failure(loss), now)
            return
        stable = self._is_stable(self._link, now)
        self._leave()
        delay = self._retry.after_loss(failure, stable=stable)
        self._note_loss(loss, delay, now)
        if delay is None:
            self.close(failure)
        else:
            self._wait(delay, loss, now)

    def _attempt_failed(self, failure: ConnectionFailed | ConfigurationError, now: Instant) -> None:
        if self.state is not State.CONNECTING:
            return
        self._leave()
        self._counters.attempts += 1
        self.last_failure = failure
        delay = self._retry.after_failure(failure)
        if delay is None:
            self.close(self._final(failure))
        else:
            self._wait(delay, failure, now)

    def _final(self, failure: ConnectionFailed | ConfigurationError) -> AllenHarkError:
        """The terminal error: the failure itself, or that the allowed attempts are used up."""
        if is_terminal(failure) or isinstance(failure, ConfigurationError):
            return failure
        error = ConnectionFailed(failure.reason, attempts=self._retry.failed)
        error.__cause__ = failure
        return error

    def _renew(self, now: Instant) -> None:
        """The user asked for a new connection."""
        loss = ConnectionLost("reconnect() was called")
        self._outputs.append(Drop(1000))
        ready = self._link is not None and self._link.ready_at is not None
        self._retry.restart(lost=ready, stable=self._link is not None and self._is_stable(self._link, now))
        self._leave()
        if ready:
            self._note_loss(loss, 0.0, now)
        self._wait(0.0, loss, now)

    def _note_loss(self, loss: ConnectionLost, delay: float | None, now: Instant) -> None:
        self.last_failure = loss
        self._loss = _Loss(self._last_frame or now, frozenset(self.wanted), loss)
        self._outputs.append(Disconnected(loss.code, loss.close_reason, loss, delay))

    def _wait(self, delay: float, cause: Failure, now: Instant) -> None:
        self._move(State.BACKOFF)
        self._retry_at = now.mono + delay
        self._outputs.append(Reconnecting(self._retry.attempt, delay, cause))

    def _leave(self, drop: Drop | None = None) -> None:
        """Forget the connection's books; flushes that wait for a pong wait for the next connection's."""
        self._link = None
        self._rejections.clear()
        self._counters.connected_since = None
        if drop is not None:
            self._outputs.append(drop)

    def _is_stable(self, link: Link, now: Instant) -> bool:
        return link.ready_at is not None and now.mono - link.ready_at >= self._settings.backoff.reset_after

    def _move(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"illegal move from {self.state.name} to {state.name}: this is a bug in allenhark_ws")
        _logger.debug("%s -> %s", self.state.name, state.name)
        self.state = state


def _as_failure(loss: ConnectionLost) -> ConnectionFailed:
    detail = f" with code {loss.code} {loss.close_reason!r}" if loss.code != 1006 else ""
    failure = ConnectionFailed(f"the connection ended before the first pong{detail}: {loss.reason}")
    failure.__cause__ = loss.__cause__
    return failure
