"""A script with a main loop of its own: callbacks keep its picture of the market fresh, the loop acts on it.

    ALLENHARK_API_KEY=… python examples/callbacks_main_loop.py EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v

Callbacks run on the client's callback thread, one at a time; the main thread stays the script's.  Ctrl-C and SIGTERM
set the script's own flag, as such scripts do; the client needs no more than the end of its ``with`` block.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from contextlib import suppress

from allenhark_ws import Client, Disconnected, Gap, Price, PriceUpdate

SOL = "So11111111111111111111111111111111111111112"
USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mints", nargs="*", default=[SOL, USDC], help="token mint addresses; SOL and USDC by default")
    parser.add_argument("--seconds", type=float, default=60, help="how long to run (default: %(default)s)")
    arguments = parser.parse_args()

    prices: dict[str, float] = {}
    news, stopping = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        stopping.set()
        news.set()

    with Client() as client:
        signal.signal(signal.SIGINT, stop)  # from here on: Ctrl-C while connecting is Python's own
        signal.signal(signal.SIGTERM, stop)

        @client.on(PriceUpdate)
        def remember(update: PriceUpdate) -> None:
            prices[update.mint] = float(update.price)
            news.set()

        @client.on(Disconnected)
        def warn(loss: Disconnected) -> None:
            then = "no other try" if loss.will_retry_in is None else f"next try in {loss.will_retry_in:.1f} s"
            print(f"connection lost: {loss.cause.reason}; {then}")

        @client.on(Gap)
        def distrust(gap: Gap) -> None:
            print(f"nothing is known of the {gap.duration:.1f} s before {gap.ended_at:%H:%M:%S}Z")
            prices.clear()

        client.subscribe(*map(Price, arguments.mints))

        # The script's own main loop: here it waits for news, it could as well serve a window or a robot.
        end = time.monotonic() + arguments.seconds
        while not stopping.is_set() and (remaining := end - time.monotonic()) > 0:
            if news.wait(timeout=remaining):
                news.clear()
                print("  ".join(f"{mint[:4]}… {price:g}" for mint, price in sorted(prices.items())), flush=True)

    print("stopped" if stopping.is_set() else "done")


if __name__ == "__main__":
    from _market import market

    with market(), suppress(KeyboardInterrupt):
        main()
