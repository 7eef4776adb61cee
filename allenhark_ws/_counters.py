"""The counts behind `Stats`, kept by the threads that do the counting.

Each number has one writer at a time, the I/O thread or the callback thread (`dropped` has the one and, when that is
through, the other), and may be read by any: an attribute is replaced whole, a type's count is one entry of a dict, so a
reader sees the old or the new value.  Neighbours: `_intake`, `_router`, `_network`, `_session` and `_dispatch` count,
`client` takes snapshots, `metrics` reads the round trips.  It must never take a lock: counting is part of every
message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from attrs import define, field, frozen

from ._frozen import FrozenMapping
from .state import State
from .stats import Stats

__all__ = ["Counters", "RoundTrips"]

_MAX_TYPES: Final = 100
"""Distinct message types counted by name: a hostile server may invent a new one with every message."""

_MAX_NAME: Final = 100
"""Characters of a type counted by name: they may be as long as a message."""

_LENGTHS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, math.inf)
"""Seconds by which round trips are told apart: from a loopback's to the pong timeout."""


@frozen
class RoundTrips:
    """Every round trip there was, by its length; replaced whole, so that what is read belongs together.

    Attributes:
        within: how many took so many seconds or less; the last of these lengths is infinite.
        total: seconds of all together.
    """

    within: Mapping[float, int] = field(factory=lambda: dict.fromkeys(_LENGTHS, 0))
    total: float = 0.0

    def and_one(self, rtt: float) -> RoundTrips:
        """These and one more."""
        return RoundTrips({length: n + (rtt <= length) for length, n in self.within.items()}, self.total + rtt)

    @property
    def mean(self) -> float:
        """Their mean; there must be one."""
        return self.total / self.within[math.inf]


@define
class Counters:
    """See `Stats` for what each number means."""

    connected_since: datetime | None = None
    attempts: int = 0
    reconnects: int = 0
    messages_received: int = 0
    bytes_received: int = 0
    messages_sent: int = 0
    received_by_type: dict[str, int] = field(factory=dict[str, int])
    invalid: int = 0
    unknown: int = 0
    dropped: int = 0
    callback_errors: int = 0
    rtt_last: float | None = None
    rtt_min: float | None = None
    rtt_avg: float | None = None
    clock_offset: float | None = None
    round_trips: RoundTrips = RoundTrips()

    def count_type(self, name: str) -> None:
        """One more message of this wire type."""
        counts = self.received_by_type
        if name not in counts and (len(counts) >= _MAX_TYPES or len(name) > _MAX_NAME):
            name = "(other)"
        counts[name] = counts.get(name, 0) + 1

    def count_data(self, prices: int, transactions: int, bots: int) -> None:
        """So many more data messages of each kind."""
        self.messages_received += prices + transactions + bots
        counts = self.received_by_type
        for name, count in (("price_update", prices), ("transaction_confirmed", transactions), ("bot_update", bots)):
            if count:
                counts[name] = counts.get(name, 0) + count

    def measure(self, rtt: float, offset: float | None) -> None:
        """One more round trip, and the clock offset if its pong had a timestamp."""
        self.round_trips = self.round_trips.and_one(rtt)
        self.rtt_last = rtt
        self.rtt_min = rtt if self.rtt_min is None else min(rtt, self.rtt_min)
        self.rtt_avg = self.round_trips.mean
        if offset is not None:
            self.clock_offset = offset

    def snapshot(self, state: State, callback_backlog: int) -> Stats:
        """What was counted so far, with what only the client knows."""
        return Stats(
            state=state,
            connected_since=self.connected_since,
            attempts=self.attempts,
            reconnects=self.reconnects,
            messages_received=self.messages_received,
            bytes_received=self.bytes_received,
            messages_sent=self.messages_sent,
            received_by_type=FrozenMapping(self.received_by_type.copy()),
            invalid=self.invalid,
            unknown=self.unknown,
            dropped=self.dropped,
            callback_errors=self.callback_errors,
            callback_backlog=callback_backlog,
            rtt_last=self.rtt_last,
            rtt_min=self.rtt_min,
            rtt_avg=self.rtt_avg,
            clock_offset=self.clock_offset,
        )
