"""The states of a client and the moves between them: the one table that decides what may follow what.

Neighbours: `_session` makes the moves, `stats` and `client` show the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

__all__ = ["TRANSITIONS", "State"]


class State(Enum):
    """Where a client stands; `Client.state` tells.

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


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = MappingProxyType(
    {
        State.IDLE: frozenset({State.CONNECTING, State.CLOSED}),
        State.CONNECTING: frozenset({State.READY, State.BACKOFF, State.CLOSED}),
        State.READY: frozenset({State.BACKOFF, State.CLOSED}),
        State.BACKOFF: frozenset({State.CONNECTING, State.CLOSED}),
        State.CLOSED: frozenset(),
    }
)
"""From each state, the states that may follow it."""
