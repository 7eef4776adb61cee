"""Exact money: every digit of the frame, as `Decimal`.

    ALLENHARK_API_KEY=… python examples/decimal_prices.py --events 20 EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v

`float` keeps about 16 digits and adds with errors; ``Client(decimal=True)`` reads prices, volumes and profits as they
were written.
"""

from __future__ import annotations

import argparse
from decimal import Decimal
from itertools import islice

from allenhark_ws import Client, Price


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mint", help="a token's mint address")
    parser.add_argument("--events", type=int, default=100, help="how many prices to average")
    arguments = parser.parse_args()

    turnover = volume = Decimal(0)
    with Client(decimal=True) as client, client.stream(Price(arguments.mint)) as stream:
        for update in islice(stream, arguments.events):
            price, amount = Decimal(update.price), Decimal(update.volume)  # Decimals already: this is for type checkers
            turnover += price * amount
            volume += amount
            print(f"{update.timestamp:%H:%M:%S}  {update.price}  x {update.volume}")
    if volume:
        print(f"volume-weighted average price: {turnover / volume}")


if __name__ == "__main__":
    main()
