"""Rings when a price has moved by so many percent since it rang last.

    ALLENHARK_API_KEY=… python examples/price_alert.py --percent 2 EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v

What moves in a gap is not seen when it happens: the first price after it is compared all the same, and says so.
"""

from __future__ import annotations

import argparse
import signal
from contextlib import suppress

from allenhark_ws import Client, Gap, Price, PriceUpdate

SOL = "So11111111111111111111111111111111111111112"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mint", nargs="?", default=SOL, help="a token's mint address; SOL by default")
    parser.add_argument("--percent", type=float, default=1.0, help="how far it must have moved (default: %(default)s)")
    arguments = parser.parse_args()

    with Client() as client, client.stream(Price(arguments.mint), Gap) as stream:
        print(f"watching {arguments.mint} for moves of {arguments.percent:g} %", flush=True)
        last, after_gap = None, ""
        for event in stream:
            if isinstance(event, Gap):
                after_gap = f" (after {event.duration:.1f} s without news)"
            elif isinstance(event, PriceUpdate):
                price = float(event.price)
                last = last or price
                moved = 100 * (price / last - 1)
                if abs(moved) >= arguments.percent:
                    print(f"{event.timestamp:%H:%M:%S}Z  {price:g}  {moved:+.2f} %{after_gap}", flush=True)
                    last = price
                after_gap = ""


if __name__ == "__main__":
    from _market import market

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends a service ends it as Ctrl-C does
    with market(), suppress(KeyboardInterrupt):
        main()
