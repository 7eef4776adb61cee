"""Exact money: every digit of the frame, as `Decimal`.

    ALLENHARK_API_KEY=… python examples/decimal_prices.py --events 20 EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v

`float` keeps about 16 digits and adds with errors; ``Client(decimal=True)`` reads prices, volumes and profits as they
were written.
"""

from __future__ import annotations

import argparse
import signal
from contextlib import suppress
from decimal import Decimal
from itertools import islice

from allenhark_ws import Client, Price

SOL = "So11111111111111111111111111111111111111112"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mint", nargs="?", default=SOL, help="a token's mint address; SOL by default")
    parser.add_argument("--events", type=int, default=100, help="how many prices to average (default: %(default)s)")
    arguments = parser.parse_args()

    turnover = volume = Decimal(0)
    # Ctrl-C ends the stream early; the average of what came is told all the same.
    with suppress(KeyboardInterrupt), Client(decimal=True) as client, client.stream(Price(arguments.mint)) as stream:
        for update in islice(stream, arguments.events):
            price, amount = Decimal(update.price), Decimal(update.volume)  # Decimals already: this is for type checkers
            turnover += price * amount
            volume += amount
            print(f"{update.timestamp:%H:%M:%S}Z  {update.price}  x {update.volume}", flush=True)
    if volume:
        print(f"volume-weighted average price: {turnover / volume}")


if __name__ == "__main__":
    from _market import market

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends a service ends it as Ctrl-C does
    with market(), suppress(KeyboardInterrupt):
        main()
