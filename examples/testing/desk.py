"""A small program of a user's: it alerts on a price and keeps the books of trading bots.

    ALLENHARK_API_KEY=… python examples/testing/desk.py

It says what happens until Ctrl-C, and then what was earned.  `test_desk.py` beside it shows how such a program
is tested without the real server.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from allenhark_ws import Bot, BotUpdate, Client, Gap, Price, PriceUpdate, TradeExecuted

SOL = "So11111111111111111111111111111111111111112"


class PriceAlert:
    """Calls `ring` with the price when it has risen above the limit; again only after it fell back, or after a gap.

    What happened in a gap nobody knows: the price may have fallen back and risen anew.
    """

    def __init__(self, client: Client, mint: str, limit: float, ring: Callable[[float], object]) -> None:
        self._limit = limit
        self._ring = ring
        self._above = False
        client.on(Gap, self._forget)
        client.subscribe(Price(mint), callback=self._look)

    def _look(self, update: PriceUpdate) -> None:
        price = float(update.price)
        was_above, self._above = self._above, price > self._limit
        if self._above and not was_above:
            self._ring(price)

    def _forget(self, _gap: Gap) -> None:
        self._above = False


class TradeBook:
    """The profit of each bot, every trade counted once, and the seconds of which nothing is known."""

    def __init__(self, client: Client, *bots: str) -> None:
        self.profits = dict.fromkeys(bots, 0.0)
        self.blind_seconds = 0.0
        self._booked: set[str] = set()
        client.on(Gap, self._note_gap)
        client.subscribe(*map(Bot, bots), callback=self._book)

    def _book(self, update: BotUpdate) -> None:
        trade = update.data
        if isinstance(trade, TradeExecuted) and trade.signature not in self._booked:
            self._booked.add(trade.signature)
            self.profits[update.bot_id] += float(trade.profit)

    def _note_gap(self, gap: Gap) -> None:
        self.blind_seconds += gap.duration


def main() -> None:
    client = Client()
    PriceAlert(client, SOL, 200.0, lambda price: print(f"SOL is at {price:g}", flush=True))
    book = TradeBook(client, "bot_abc123")
    client.on(BotUpdate, lambda update: print(f"{update.bot_id}: {update.event}", flush=True))
    with suppress(KeyboardInterrupt):
        client.run_forever()
    print(f"profits: {book.profits}; blind for {book.blind_seconds:.1f} s")


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    from _market import market

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends a service ends it as Ctrl-C does
    with market():
        main()
