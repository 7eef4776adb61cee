"""One connection as the protocol sees it: its pings, its deadlines, and what it still has to tell the server.

A `Link` is made when a connection opens and thrown away when it ends, so that everything counted on it starts from zero
with the connection.  Bookkeeping over monotonic times, without a clock.  Neighbours: `_session` drives it.  It must
never decide what follows from a deadline: that is the session's.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Hashable, Iterable
from typing import Final

from attrs import define, field, frozen

from ._instant import Instant
from .channels import Channel, Transactions
from .errors import AuthenticationError
from .events import DataEvent, ServerEvent

__all__ = ["Link", "Ping"]

_MAX_UNANSWERED: Final = 10_000
"""Pings remembered while they wait for their pongs; of older ones only the number is known."""


@frozen(eq=False)
class Ping:
    """A ping that went out.

    Attributes:
        number: which ping of its connection, from 1.
        sent_at: monotonic seconds.
        request: the flush that waits for its pong, or None.
    """

    number: int
    sent_at: float
    request: Hashable | None


@define(eq=False)
class Link:
    """The bookkeeping of one open connection.

    Attributes:
        last_heard: when the last frame arrived; when it was opened, before the first.
        first_pong_deadline: by when the first pong has to come.
        next_ping_at: when the next heartbeat is due.
        next_slot: before this time no request may be sent (`max_send_rate`).
        gave_way: a heartbeat took the slot that a request waits for.
        ready_at: when the first pong came, or None before it.
        rejection: the server's word that the key is not accepted after all, or None.
        leave_at: when to leave for that; until then the server may close by itself.
        pong_deadline: by when anything has to arrive, or None when no ping waits for a sign of life.
        unread_until: how long the first pong is still looked for among what came before its deadline, or None.
        early: what the server said before the first pong, held back.
        early_bytes: the frames of these together.
        on_wire: the channels the server was asked for on this connection.
        todo: what is to be sent, in order: channels to reconcile and flushes to ping for.
    """

    last_heard: Instant
    first_pong_deadline: float
    next_ping_at: float
    next_slot: float
    gave_way: bool = False
    ready_at: float | None = None
    rejection: AuthenticationError | None = None
    leave_at: float = math.inf
    pong_deadline: float | None = None
    unread_until: float | None = None
    early: list[ServerEvent | DataEvent] = field(factory=list[ServerEvent | DataEvent])
    early_bytes: int = 0
    on_wire: dict[Channel, None] = field(factory=dict[Channel, None])
    # Ordered: to find the first key of a plain one takes the longer the more were taken out before it.
    todo: OrderedDict[Channel | Hashable, None] = field(factory=OrderedDict[Channel | Hashable, None])
    _wallets: OrderedDict[Transactions, None] = field(factory=OrderedDict[Transactions, None])
    _unanswered: deque[Ping] = field(factory=lambda: deque(maxlen=_MAX_UNANSWERED))
    _pings: int = 0
    _pongs: int = 0
    _confirmed_by: int = 0

    @property
    def is_ready(self) -> bool:
        """Whether the first pong has come."""
        return self.ready_at is not None

    def ready_for(self, now: float) -> float:
        """Seconds since the first pong; 0 before it."""
        return 0.0 if self.ready_at is None else now - self.ready_at

    def be_patient(self, deadline: float) -> None:
        """Whatever the server still owes a sign of life for, it has until the deadline."""
        self.first_pong_deadline = deadline
        if self.pong_deadline is not None:
            self.pong_deadline = deadline

    def plan(self, items: Iterable[Channel | Hashable]) -> None:
        """Add to what is to be sent; what is already planned keeps its place."""
        for item in items:
            self.todo.setdefault(item)

    def next_item(self) -> Channel | Hashable:
        """Take the first planned item out."""
        return self.todo.popitem(last=False)[0]

    def pinged(self, now: float, request: Hashable | None, patience: float) -> None:
        """A ping goes out: something has to arrive within `patience` seconds."""
        self._pings += 1
        self._unanswered.append(Ping(self._pings, now, request))
        if self.pong_deadline is None:
            self.pong_deadline = now + patience

    def ponged(self) -> Ping | None:
        """A pong came in: the ping it answers, or None when every ping has its pong already, or it is long forgotten.

        Pongs carry no id, so the n-th pong answers the n-th ping; a pong too many is credited to nothing, or it would
        answer a later ping before the server has seen it.
        """
        if self._pongs == self._pings:
            return None
        self._pongs += 1
        if self._pongs >= self._confirmed_by:
            self._confirmed_by = 0
        return self._unanswered.popleft() if self._unanswered[0].number == self._pongs else None

    def requested(self, channel: Channel, *, wanted: bool) -> None:
        """A subscribe or unsubscribe goes out; the next ping's pong will show that it was processed."""
        if wanted:
            self.on_wire[channel] = None
        else:
            self.on_wire.pop(channel, None)
        if isinstance(channel, Transactions):
            self._note_wallet(channel, wanted=wanted)
        self._confirmed_by = self._pings + 1

    def _note_wallet(self, channel: Transactions, *, wanted: bool) -> None:
        if wanted:
            self._wallets[channel] = None
        else:
            self._wallets.pop(channel, None)

    @property
    def wallet(self) -> Transactions | None:
        """The only wallet the server was asked for, or None."""
        return next(iter(self._wallets)) if len(self._wallets) == 1 else None

    @property
    def unconfirmed(self) -> bool:
        """Whether a request went out that no pong has confirmed yet, so that an error may be its answer."""
        return self._confirmed_by > 0
