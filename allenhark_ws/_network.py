"""What the session's commands do to the network: open a connection, with the key asked for first, send, and hang up.

While a connection is being opened the thread's other work goes on, so that a `close()` is heard in every phase.
Neighbours: `_driver` passes on the commands and lends its waiter; `_transport` is a connection, `_aside` runs the
user's ``api_key`` callable.  It must never decide: what failed is told to `_session`, which knows what follows.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

from attrs import define, field

from ._aside import Interrupted, NoThread, TookTooLong, Waiter, call_aside
from ._codec import encode_auth
from ._counters import Counters
from ._ports import Clock, Transport, TransportFactory
from ._redact import Redactor
from ._session import Drop, Session
from ._sleeper import Sleeper
from .config import Secret, Settings
from .errors import ConfigurationError, ConnectionFailed

__all__ = ["GOODBYE", "Network", "load_real_transport", "real_transport"]

GOODBYE: Final = 1.0
"""Seconds that the server gets to answer our close frame (RFC 6455, section 7.1.1, says "a reasonable time")."""

_ROOM: Final = 65_536
"""Bytes waiting to be sent above which no further request is added: the send buffer stays bounded."""


def real_transport(settings: Settings, redact: Callable[[str], str]) -> Transport:
    """A connection of the real network, unopened; with it ssl and websocket-client are loaded."""
    from ._transport import Transport as Real  # noqa: PLC0415 - importing the package must not load it

    return Real(settings, redact=redact)


def load_real_transport(settings: Settings) -> None:
    """Import, on the caller's thread, all that `real_transport` and what it makes will need."""
    from ._transport import load  # noqa: PLC0415 - as above

    load(settings)


def _raised_at(traceback: TracebackType | None) -> str:
    """Where an exception was raised, for a text: the file's name and the line."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None else f" in {Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"


class _NoAnswer(Exception):
    """The user's function raised; `problem` says what and where."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def _current(key: Secret) -> Secret:
    """What the user's function gives now.

    Raises:
        _NoAnswer: it raised.
        ConfigurationError: it gave no key.
    """
    try:
        return key.current()
    except ConfigurationError:
        raise
    except BaseException as error:  # noqa: BLE001 - it may raise anything
        problem = f"{type(error).__name__}{_raised_at(error.__traceback__)}"
    raise _NoAnswer(problem)


@define(eq=False)
class Network:
    """A client's end of the network: nothing, a connection being opened, or one that is open.

    Args:
        settings: the client's settings.
        session: told what came of opening.
        counters: where to count what is sent.
        redactor: learns each key before it is used.
        connect: makes a transport, unopened.
        clock: the time.
        sleeper: where to wait for the end of a closing handshake.
        attend: waits while a connection is being opened, and does the thread's other work meanwhile.

    Attributes:
        transport: the open connection, or None.
        candidate: the one being opened, or None.
        goodbye_by: by when a closing handshake must be over, whatever the server does; monotonic seconds.
    """

    _settings: Settings
    _session: Session
    _counters: Counters
    _redactor: Redactor
    _connect: TransportFactory
    _clock: Clock
    _sleeper: Sleeper
    _attend: Waiter
    transport: Transport | None = field(default=None, init=False)
    candidate: Transport | None = field(default=None, init=False)
    goodbye_by: float = field(default=math.inf, init=False)
    _unwanted: bool = field(default=False, init=False)
    _key: Secret | None = field(default=None, init=False)

    # --- Opening

    def open(self) -> None:
        """Open a connection and tell the session how that went; nothing is told of one that was dropped meanwhile."""
        failure: ConnectionFailed | ConfigurationError | None = None
        transport = self.candidate = self._connect(self._settings, self._redactor)
        self._unwanted = False
        try:
            self._key = self._ask_key()
            transport.open(self._wait, self._sleeper.wake)
        except Interrupted:
            return
        except (ConnectionFailed, ConfigurationError) as error:
            failure = error.with_traceback(None)  # its frames hold this object, and errors may live for long
        finally:
            self.candidate = None
        now = self._clock.now()
        if failure is not None:
            self._session.open_failed(failure, now)
            return
        self.transport = transport
        self._session.opened(now)

    def _wait(self, sock: socket.socket | None, mask: int, deadline: float) -> bool:
        """The waiter of a connection being opened."""
        ready = self._attend(sock, mask, deadline)
        if self._unwanted:
            raise Interrupted
        return ready

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
            except TookTooLong:
                problem = f"it took longer than connect_timeout={self._settings.connect_timeout:g} s"
            except NoThread:
                problem = "this process can start no more threads"
            except _NoAnswer as failure:
                problem = failure.problem
        if problem is not None:  # not chained: the text of such an error may hold the key, which only its author knows
            raise ConnectionFailed(f"the api_key callable failed: {problem}")
        self._redactor.learn(key)
        return key

    def _call_for_key(self, key: Secret) -> Secret:
        return call_aside(
            partial(_current, key),
            name="api-key",
            wait=self._wait,
            wake=self._sleeper.wake,
            deadline=self._clock.now().mono + self._settings.connect_timeout,
            clock=lambda: self._clock.now().mono,
        )

    @property
    def phase(self) -> str:
        """What an attempt that is not READY yet is at, in words; any thread may ask."""
        candidate = self.candidate
        if candidate is None:
            return "" if self.transport is None else "waiting for the first pong"
        return candidate.phase or ("calling api_key" if self._settings.api_key.is_callable else "")

    # --- Sending

    @property
    def has_room(self) -> bool:
        """Whether another request may be sent."""
        return self.transport is None or self.transport.backlog < _ROOM

    @property
    def send_deadline(self) -> float | None:
        """When what was sent must have left this machine, or None when nothing waits."""
        return None if self.transport is None else self.transport.send_deadline

    def send(self, payload: bytes) -> None:
        """Send one text message; nothing without a connection."""
        if self.transport is not None:
            self.transport.send(payload)
            self._counters.messages_sent += 1

    def send_auth(self) -> None:
        """Send the auth message, with the key that was asked for when the connection was opened."""
        if self.transport is not None and self._key is not None:
            self.transport.send(encode_auth(self._key))
            self._counters.messages_sent += 1

    # --- Hanging up

    def drop(self, drop: Drop) -> None:
        """Give up the connection, or the one being opened."""
        self._unwanted = True
        transport = self.discard()
        if transport is None:
            return
        if drop.final:
            deadline = min(self._clock.now().mono + GOODBYE, self.goodbye_by)
            transport.close(drop.code or 1000, "", self._sleeper.sleep_on, deadline)
        else:
            transport.abort(drop.code)

    def discard(self) -> Transport | None:
        """Have no connection any more; the one there was, for whoever has something to do to it."""
        transport, self.transport = self.transport, None
        if transport is not None:
            self._sleeper.unwatch()
        return transport

    def hang_up(self) -> None:
        """Leave without a word."""
        transport = self.discard()
        if transport is not None:
            transport.abort()

    def disown(self) -> None:
        """In a forked child: let go of the parent's file descriptors, without a word on the wire."""
        for transport in (self.transport, self.candidate):
            if transport is not None:
                transport.disown()
        self.transport = self.candidate = None
