"""A plausible live market, generated: what to say on each channel and when, without I/O or a clock of its own.

Every channel has its own random stream, seeded by the feed's seed and the channel, so what a channel says does not
depend on who else is subscribed, or since when.  Neighbours: `_server` asks and sends.  It must never look at a clock,
nor depend on anything but its seed.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, ClassVar, Final

from .. import Bot, Channel, Price, Transactions
from ._conversation import iso

__all__ = ["Feed"]

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_SIGNATURE_LENGTH: Final = 88
"""Characters of most Solana signatures: 64 bytes in base58."""


class _Source(ABC):
    """What one channel says, one message after the other."""

    pauses: ClassVar[tuple[float, float]]
    """Shortest and longest pause between two messages, seconds."""

    def __init__(self, channel: Channel, seed: int) -> None:
        # Two streams, so that the content does not depend on how often the pace was asked for.  Seeding with text is
        # the same on every machine, where hash() is not.
        self.dice = random.Random(f"content {seed} {channel!r}")  # noqa: S311 - a market, no secret
        self.pacing = random.Random(f"pace {seed} {channel!r}")  # noqa: S311

    @abstractmethod
    def next_message(self, at: datetime) -> dict[str, Any]:
        """The next message, stamped with the time given if its shape has a timestamp."""

    def signature(self) -> str:
        """A fresh transaction signature."""
        return "".join(self.dice.choices(_BASE58, k=_SIGNATURE_LENGTH))


class _PriceWalk(_Source):
    """A geometric random walk: a price stays positive and moves by fractions of itself."""

    pauses = (0.1, 0.5)

    def __init__(self, channel: Price, seed: int) -> None:
        super().__init__(channel, seed)
        self.mint = channel.mint
        self.price = 10 ** self.dice.uniform(-4, 2.5)

    def next_message(self, at: datetime) -> dict[str, Any]:
        self.price *= math.exp(self.dice.gauss(0.0, 0.002))
        return {
            "type": "price_update",
            "mint": self.mint,
            "price": float(f"{self.price:.9g}"),
            "volume": round(self.dice.lognormvariate(10.0, 1.2), 2),
            "timestamp": iso(at),
        }


class _Trades(_Source):
    """A bot that wins a little more often than it loses."""

    pauses = (0.2, 1.0)

    def __init__(self, channel: Bot, seed: int) -> None:
        super().__init__(channel, seed)
        self.bot_id = channel.bot_id

    def next_message(self, at: datetime) -> dict[str, Any]:
        profit = round(self.dice.gauss(0.01, 0.08), 6)
        data = {"signature": self.signature(), "profit": profit, "timestamp": iso(at)}
        return {"type": "bot_update", "botId": self.bot_id, "event": "trade_executed", "data": data}


class _Confirmations(_Source):
    """A wallet whose transactions land in ever later slots; their message has neither time nor wallet."""

    pauses = (0.2, 0.8)

    def __init__(self, channel: Transactions, seed: int) -> None:
        super().__init__(channel, seed)
        self.slot = 250_000_000 + self.dice.randrange(1_000_000)

    def next_message(self, at: datetime) -> dict[str, Any]:  # noqa: ARG002 - one shape for all sources
        self.slot += self.dice.randint(1, 4)
        signature = self.signature()
        return {"type": "transaction_confirmed", "signature": signature, "status": "confirmed", "slot": self.slot}


_SOURCES: Final[Mapping[type[Channel], type[Any]]] = MappingProxyType(
    {Price: _PriceWalk, Bot: _Trades, Transactions: _Confirmations}
)


class Feed:
    """What a market would say on any set of channels; the content depends on the seed and the channel alone.

    Args:
        seed: the same seed gives the same prices, profits, signatures and slots, on every machine.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._sources: dict[Channel, _Source] = {}
        self._due: dict[Channel, float] = {}

    def next_message(self, channel: Channel, at: datetime) -> dict[str, Any]:
        """The channel's next message, in the shape of the vendor's page.

        Args:
            channel: a `Price`, `Bot` or `Transactions`.
            at: aware, UTC; the message's timestamp, if its shape has one.
        """
        return self._source(channel).next_message(at)

    def due(self, channels: Iterable[Channel], now: float) -> list[Channel]:
        """Which of the subscribed channels have something to say now; each at most once, however late the call.

        Args:
            channels: all that anybody is subscribed to; one left out starts its pause anew when it returns.
            now: monotonic seconds.
        """
        before, self._due = self._due, {}
        ready: list[Channel] = []
        for channel in channels:
            due = before.get(channel)
            if due is not None and due <= now:
                ready.append(channel)
                due = None
            self._due[channel] = now + self._pause(channel) if due is None else due
        return ready

    def _pause(self, channel: Channel) -> float:
        source = self._source(channel)
        return source.pacing.uniform(*source.pauses)

    def _source(self, channel: Channel) -> _Source:
        if channel not in self._sources:
            self._sources[channel] = _SOURCES[type(channel)](channel, self._seed)
        return self._sources[channel]
