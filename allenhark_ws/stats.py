"""`Stats`: what a client has counted, as one frozen snapshot.

Neighbours: `_counters` counts, `client` hands out snapshots.  It must never change once it is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import frozen

from .state import State

__all__ = ["Stats"]


@frozen(kw_only=True)
class Stats:
    """A snapshot of a client's counters; the counts run over the client's whole life.

    Attributes:
        state: where the client stands.
        connected_since: when it became READY, aware, UTC; None while it is not.
        attempts: failed attempts since it was last READY.
        reconnects: how often it became READY again after a loss.
        messages_received: messages off the wire, text and binary.
        bytes_received: their payload bytes.
        messages_sent: messages handed to the socket.
        received_by_type: how many of each wire type; unknown types beyond the first hundred count as ``"(other)"``.
        invalid: messages that became `InvalidMessage`.
        unknown: messages that became `UnknownMessage`.
        dropped: events lost by consumers whose queue was full.
        callback_errors: exceptions raised by callbacks.
        callback_backlog: events waiting for the callback thread.
        rtt_last: seconds from the last answered ping to its pong, or None.
        rtt_min: the shortest of them, or None.
        rtt_avg: their mean, or None.
        clock_offset: server time minus local time, seconds, from the last pong that had a timestamp; None without one.

    Example:
        >>> stats = client.stats
        >>> stats.state, stats.reconnects, stats.received_by_type["pong"]
        (<State.READY: 'ready'>, 0, 1)
    """

    state: State
    connected_since: datetime | None
    attempts: int
    reconnects: int
    messages_received: int
    bytes_received: int
    messages_sent: int
    received_by_type: Mapping[str, int]
    invalid: int
    unknown: int
    dropped: int
    callback_errors: int
    callback_backlog: int
    rtt_last: float | None
    rtt_min: float | None
    rtt_avg: float | None
    clock_offset: float | None

    def _repr_html_(self) -> str:
        from ._html import value_html  # noqa: PLC0415 - loaded when a notebook asks

        return value_html(self)
