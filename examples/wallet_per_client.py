"""Several wallets, told apart: one client per wallet.

    ALLENHARK_API_KEY=… python examples/wallet_per_client.py --seconds 10 WALLET1 WALLET2

The server's ``transaction_confirmed`` does not say whose transaction it is.  With several wallets on one connection
each confirmation goes to all of their consumers and its `channel` is None; with one wallet per client it is known.
"""

from __future__ import annotations

import argparse
import signal
import threading
from contextlib import ExitStack, suppress

from allenhark_ws import Client, TransactionConfirmed, Transactions

WALLETS = "9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM", "5tzFkiKscXHK5ZXCGbXZxdw7gTjjD1mBwuoFbhUvuAi9"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wallets", nargs="*", default=list(WALLETS), help="wallet addresses; two by default")
    parser.add_argument("--seconds", type=float, default=60, help="how long to run (default: %(default)s)")
    arguments = parser.parse_args()

    def show(event: TransactionConfirmed) -> None:
        wallet = event.channel.wallet if event.channel else "unknown wallet"
        print(f"{wallet}: {event.signature[:8]}… {event.status} in slot {event.slot}", flush=True)

    with ExitStack() as stack:
        for wallet in arguments.wallets:
            client = stack.enter_context(Client())
            client.subscribe(Transactions(wallet), callback=show)
        threading.Event().wait(arguments.seconds)


if __name__ == "__main__":
    from _market import market

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends a service ends it as Ctrl-C does
    with market(), suppress(KeyboardInterrupt):
        main()
