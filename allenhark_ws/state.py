"""The states of a client and the moves between them: the one table that decides what may follow what.

Neighbours: `_session` makes the moves, `stats` and `client` show the state; the README's diagram is drawn from the
table, and so is the one in `State`.  It must never decide when to move: that is the session's.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

__all__ = ["TRANSITIONS", "State"]


class State(Enum):
    """Where a client stands; `Client.state` tells.

    It moves in these ways and no other.  `Client.reconnect` counts as a loss, as a failed attempt or as the end of the
    wait.  The moves::

        IDLE        → CONNECTING  start(), connect()…
                    → CLOSED      close()
        CONNECTING  → READY       the first pong
                    → BACKOFF     the attempt failed
                    → CLOSED      close(), or what a retry cannot mend
        READY       → BACKOFF     the connection is lost
                    → CLOSED      close(), or what a retry cannot mend
        BACKOFF     → CONNECTING  the wait is over
                    → CLOSED      close(), or what a retry cannot mend

    Example:
        >>> client.state
        <State.READY: 'ready'>
    """

    IDLE = "idle"
    """Made, not started: no thread, no socket."""
    CONNECTING = "connecting"
    """Opening a connection, or waiting for the first pong, which proves that the key was accepted."""
    READY = "ready"
    """Authenticated; the wanted channels are subscribed and kept so."""
    BACKOFF = "backoff"
    """The connection was lost or could not be made; waiting before the next try."""
    CLOSED = "closed"
    """Ended for good, by `close()` or by a terminal error."""


_END: Final = "`close()`, or what a retry cannot mend"

TRANSITIONS: Final[Mapping[State, Mapping[State, str]]] = MappingProxyType(
    {
        State.IDLE: MappingProxyType({State.CONNECTING: "`start()`, `connect()`…", State.CLOSED: "`close()`"}),
        State.CONNECTING: MappingProxyType(
            {State.READY: "the first pong", State.BACKOFF: "the attempt failed", State.CLOSED: _END}
        ),
        State.READY: MappingProxyType({State.BACKOFF: "the connection is lost", State.CLOSED: _END}),
        State.BACKOFF: MappingProxyType({State.CONNECTING: "the wait is over", State.CLOSED: _END}),
        State.CLOSED: MappingProxyType({}),
    }
)
"""From each state, the states that may follow it, and when they do."""
