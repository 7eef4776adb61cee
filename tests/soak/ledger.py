"""What the server sent, what the client told of it, and whether the difference was announced.

Every event has a number of its own, counted up in the order of sending.  TCP keeps the order of one connection, so on
each connection a client must see all that the server sent on it, from the subscription up to the last event seen;
what comes after that is the loss, and the next `Gap` has to announce it.  The clock decides nothing here: an event
may spend seconds in the buffers on its way, so that its time of sending says little about the gap it fell into.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Final

from attrs import define, field

from allenhark_ws import (
    BotUpdate,
    Channel,
    Connected,
    DataEvent,
    Disconnected,
    Event,
    EventsDropped,
    Gap,
    InvalidMessage,
    PriceUpdate,
    Reconnecting,
    ServerError,
    TransactionConfirmed,
    UnknownMessage,
)

__all__ = ["Entry", "Ledger", "number_of"]

_MAX_COMPLAINTS: Final = 20
"""Violations kept with their text; the rest is only counted."""


@define(eq=False)
class Entry:
    """One event that was sent.

    Attributes:
        number: which.
        connection: the client's connection, by the server's count, on which it certainly was sent; None when that is
            not certain.
    """

    number: int
    connection: int | None = None


def number_of(event: DataEvent) -> int:
    """The number that a data event carries.

    Raises:
        ValueError: its fields contradict each other: it is not what was sent.
    """
    if isinstance(event, PriceUpdate):
        first, second = event.price, event.volume
    elif isinstance(event, TransactionConfirmed):
        first, second = event.slot, int(event.signature)
    elif isinstance(event, BotUpdate) and not hasattr(event.data, "signature"):
        first, second = event.data["number"], event.data["again"]
    else:
        raise ValueError(f"nobody sent {event!r}")
    if first != second:
        raise ValueError(f"not as sent: {event!r}")
    return int(first)


@define(eq=False)
class Ledger:
    """The model; may be used from any thread.

    Attributes:
        sent: events handed to at least one connection.
        seen: events that the client told of.
        lost_inside: sent, not seen, and announced by a `Gap` or sent before the client was subscribed.
        lost_outside: sent on a connection and not seen, though a later one of the same connection was.
        repeated: events seen a second time, or after a later one.
        sessions: how often the client was READY.
        losses: how often it told that it was not any more.
        longest_outage: of all gaps, in seconds.
        told_losses: close code, reason and cause of each loss, the latest hundred.
        failures: the causes of retries, the latest hundred.
        last_seen: the highest number seen.
        complaints: whatever was wrong, in words; the first twenty.
        complaint_count: how many there were in all.
    """

    channels: frozenset[Channel]
    sent: int = 0
    seen: int = 0
    lost_inside: int = 0
    lost_outside: int = 0
    repeated: int = 0
    sessions: int = 0
    losses: int = 0
    longest_outage: float = 0.0
    told_losses: deque[tuple[int, str, str]] = field(factory=lambda: deque(maxlen=100))
    failures: deque[str] = field(factory=lambda: deque(maxlen=100))
    complaints: list[str] = field(factory=list[str])
    complaint_count: int = 0
    last_seen: int = 0
    _changed: threading.Condition = field(factory=threading.Condition)
    _entries: deque[Entry] = field(factory=deque[Entry])
    _session_numbers: set[int] = field(factory=set[int])
    _ready: bool = False
    _expected: type[Event] | None = None
    _last_data_at: datetime | None = None

    # -- the server's side --------------------------------------------------------------------------------------------

    def sending(self, entry: Entry) -> None:
        """An event is about to be sent."""
        with self._changed:
            self._entries.append(entry)

    def was_sent(self, entry: Entry, audience: int, connection: int | None) -> None:
        """It was, to so many connections."""
        with self._changed:
            entry.connection = connection
            if audience:
                self.sent += 1
            elif self._entries and self._entries[-1] is entry:
                self._entries.pop()

    # -- the client's side --------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> None:
        """The client told of an event."""
        with self._changed:
            self._check_place(event)
            if isinstance(event, DataEvent):
                self._hear_data(event)
            elif isinstance(event, Connected):
                self._begin_session()
            elif isinstance(event, Disconnected):
                self._end_session(event)
            elif isinstance(event, Gap):
                self._hear_gap(event)
            elif isinstance(event, Reconnecting):
                self.failures.append(str(event.cause))
            elif isinstance(event, (InvalidMessage, UnknownMessage, ServerError, EventsDropped)):
                self._complain(f"nobody sent what the client made of it: {event!r}")
            self._changed.notify_all()

    def _check_place(self, event: Event) -> None:
        """`Disconnected`, `Reconnecting`…, `Connected`, `Gap`, in this order and nothing else between them."""
        expected, self._expected = self._expected, None
        if expected is not None and not isinstance(event, expected):
            self._complain(f"{expected.__name__} was due, came {event!r}")
        if isinstance(event, (DataEvent, Disconnected, Gap)) and not self._ready:
            self._complain(f"not connected, came {event!r}")
        elif isinstance(event, (Reconnecting, Connected)) and self._ready:
            self._complain(f"connected, came {event!r}")
        if isinstance(event, Gap) and expected is not Gap:
            self._complain(f"no gap was due, came {event!r}")

    def _hear_data(self, event: DataEvent) -> None:
        try:
            number = number_of(event)
        except (ValueError, TypeError, LookupError) as error:
            self._complain(str(error))
            return
        self._last_data_at = event.received_at
        self.seen += 1
        if number <= self.last_seen:
            self.repeated += 1
            self._complain(f"number {number} came after number {self.last_seen}")
            return
        self.last_seen = number
        self._session_numbers.add(number)

    def _begin_session(self) -> None:
        self._ready = True
        self.sessions += 1
        if self.sessions > 1:
            self._expected = Gap

    def _end_session(self, event: Disconnected) -> None:
        self._ready = False
        self._expected = Reconnecting
        self.losses += 1
        self.told_losses.append((event.code, event.reason, event.cause.reason))
        self._judge()

    def _hear_gap(self, gap: Gap) -> None:
        self.longest_outage = max(self.longest_outage, gap.duration)
        if gap.channels != self.channels:
            self._complain(f"the gap tells of {sorted(map(repr, gap.channels))} only")
        if self._last_data_at is not None and gap.started_at < self._last_data_at:
            self._complain(f"the gap begins at {gap.started_at}, before the last event of {self._last_data_at}")
        if gap.duration < 0:
            self._complain(f"the gap lasts {gap.duration} s")

    def _judge(self) -> None:
        """A connection's events are complete up to the last one seen; settle the account of all before that."""
        numbers, self._session_numbers = self._session_numbers, set()
        if not numbers:
            return
        entries = self._take_entries(max(numbers))
        here = {entry.connection for entry in entries if entry.number in numbers} - {None}
        if len(here) > 1:
            self._complain(f"one connection's events were sent on the connections {sorted(map(str, here))}")
        for entry in entries:
            if entry.number in numbers:
                numbers.discard(entry.number)
            elif entry.connection in here:
                self.lost_outside += 1
                self._complain(f"number {entry.number} of connection {entry.connection} was lost without a word")
            else:
                self.lost_inside += 1
        if numbers:
            self._complain(f"nobody sent the numbers {sorted(numbers)[:10]}")

    def _take_entries(self, last: int) -> list[Entry]:
        entries = []
        while self._entries and self._entries[0].number <= last:
            entries.append(self._entries.popleft())
        return entries

    def _complain(self, text: str) -> None:
        self.complaint_count += 1
        if len(self.complaints) < _MAX_COMPLAINTS:
            self.complaints.append(text)

    # -- both ---------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The run has ended: settle what is open still."""
        with self._changed:
            self._judge()
            self.lost_inside += len(self._entries)
            self._entries.clear()
            if self.sent != self.seen - self.repeated + self.lost_inside + self.lost_outside:
                self._complain("the events sent are not those seen and those lost together")

    def wait_for(self, predicate: Callable[[], bool], timeout: float) -> bool:
        """Wait until it is true; False when it is not in time."""
        with self._changed:
            return self._changed.wait_for(predicate, timeout)
