"""A screen that is slower than the market: it shows the newest price of each token, and never falls behind.

    ALLENHARK_API_KEY=… python examples/dashboard.py --every 1 So11111111111111111111111111111111111111112

With ``overflow="latest"`` a new price takes the place of the unread one of its token, so the queue is never longer than
the list of tokens, however seldom it is read.
"""

from __future__ import annotations

import argparse
import signal
import threading
from contextlib import suppress

from allenhark_ws import Client, Price

SOL = "So11111111111111111111111111111111111111112"
USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
BONK = "DezXAZ8z7PnrnRJjz3wXBoRgixCa6xjnB7YaB1pPB263"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("mints", nargs="*", default=[SOL, USDC, BONK], help="token mint addresses; three by default")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two looks (default: %(default)s)")
    arguments = parser.parse_args()

    with Client() as client, client.stream(*map(Price, arguments.mints), overflow="latest") as stream:
        while True:
            for update in stream.get_batch(max_items=len(arguments.mints)):
                age = update.received_at and f"{update.received_at:%H:%M:%S}Z"
                print(f"{update.mint[:4]}…  {float(update.price):>12.6g}  {age}", flush=True)
            print(f"-- {stream.conflated} prices were overtaken by newer ones", flush=True)
            threading.Event().wait(arguments.every)  # the slow screen


if __name__ == "__main__":
    from _market import market

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends a service ends it as Ctrl-C does
    with market(), suppress(KeyboardInterrupt):
        main()
