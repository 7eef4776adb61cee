"""A script with a main loop of its own: callbacks keep its picture of the market fresh, the loop acts on it.

    ALLENHARK_API_KEY=… python examples/callbacks_main_loop.py --seconds 10 EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v

Callbacks run on the client's callback thread, one at a time; the main thread stays the script's.
"""

from __future__ import annotations

import argparse
import threading
import time

from allenhark_ws import Client, Disconnected, Gap, Price, PriceUpdate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mints", nargs="+", help="token mint addresses")
    parser.add_argument("--seconds", type=float, default=60, help="how long to run")
    arguments = parser.parse_args()

    prices: dict[str, float] = {}
    news = threading.Event()

    with Client() as client:

        @client.on(PriceUpdate)
        def remember(update: PriceUpdate) -> None:
            prices[update.mint] = float(update.price)
            news.set()

        @client.on(Disconnected)
        def warn(loss: Disconnected) -> None:
            print(f"connection lost: {loss.cause.reason}; next try in {loss.will_retry_in} s")

        @client.on(Gap)
        def distrust(gap: Gap) -> None:
            print(f"nothing is known of the {gap.duration:.1f} s before {gap.ended_at:%H:%M:%S}")
            prices.clear()

        client.subscribe(*map(Price, arguments.mints))

        # The script's own main loop: here it waits for news, it could as well serve a window or a robot.
        end = time.monotonic() + arguments.seconds
        while (remaining := end - time.monotonic()) > 0:
            if news.wait(timeout=remaining):
                news.clear()
                print("  ".join(f"{mint[:4]}… {price:g}" for mint, price in sorted(prices.items())))


if __name__ == "__main__":
    main()
