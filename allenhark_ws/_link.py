"""One connection as the protocol sees it: its pings, its deadlines, and what it still has to tell the server.

A `Link` is made when a connection opens and thrown away when it ends, so that everything counted on it starts from zero
with the connection.  Pure bookkeeping over monotonic times.  Neighbours: `_session` drives it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

from attrs import define, field

from .channels import Channel, Transactions

__all__ = ["Link", "Ping"]


@define(eq=False)
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
        ready_at: when the first pong came, or None before it.
        barrier_deadline: by when the first pong has to come.
        silence_deadline: by when anything has to arrive, or None when no ping waits for a sign of life.
        next_ping_at: when the next heartbeat is due.
        next_slot: before this time nothing may be sent (`max_send_rate`).
        on_wire: the channels the server was asked for on this connection.
        todo: what is to be sent, in order: channels to reconcile and flushes to ping for.
    """

    barrier_deadline: float
    next_ping_at: float
    next_slot: float
    ready_at: float | None = None
    silence_deadline: float | None = None
    on_wire: dict[Channel, None] = field(factory=dict)
    todo: dict[Channel | Hashable, None] = field(factory=dict)
    wallet: Transactions | None = None
    _unanswered: deque[Ping] = field(factory=deque)
    _pings: int = 0
    _confirmed_by: int = 0

    def plan(self, items: Iterable[Channel | Hashable]) -> None:
        """Add to what is to be sent; what is already planned keeps its place."""
        for item in items:
            self.todo.setdefault(item)

    def next_item(self) -> Channel | Hashable:
        """Take the first planned item out."""
        item = next(iter(self.todo))
        del self.todo[item]
        return item

    def pinged(self, now: float, request: Hashable | None, patience: float) -> None:
        """A ping goes out: something has to arrive within `patience` seconds."""
        self._pings += 1
        self._unanswered.append(Ping(self._pings, now, request))
        if self.silence_deadline is None:
            self.silence_deadline = now + patience

    def ponged(self) -> Ping | None:
        """A pong came in: the ping it answers, or None when every ping has its pong already.

        Pongs carry no id, so the n-th pong answers the n-th ping; a pong too many is credited to nothing, or it would
        answer a later ping before the server has seen it.
        """
        if not self._unanswered:
            return None
        ping = self._unanswered.popleft()
        if ping.number >= self._confirmed_by:
            self._confirmed_by = 0
        return ping

    def requested(self, channel: Channel, *, wanted: bool) -> None:
        """A subscribe or unsubscribe goes out; the next ping's pong will show that it was processed."""
        if wanted:
            self.on_wire[channel] = None
        else:
            self.on_wire.pop(channel, None)
        if isinstance(channel, Transactions):
            wallets = [c for c in self.on_wire if isinstance(c, Transactions)]
            self.wallet = wallets[0] if len(wallets) == 1 else None
        self._confirmed_by = self._pings + 1

    @property
    def unconfirmed(self) -> bool:
        """Whether a request went out that no pong has confirmed yet, so that an error may be its answer."""
        return self._confirmed_by > 0
