"""Workers that block on a queue: each event goes to exactly one of them.

    ALLENHARK_API_KEY=… python examples/queue_consumer.py --seconds 10 --workers 3 bot_abc123

A stream is the reading half of `queue.Queue`, so a pool of threads can share it.  ``overflow="block"`` means that no
trade is dropped when the workers fall behind; the socket waits for them instead.
"""

from __future__ import annotations

import argparse
import signal
import threading
from contextlib import suppress

from allenhark_ws import Bot, BotUpdate, Client, Stream, TradeExecuted


def work(name: str, stream: Stream[BotUpdate], totals: dict[str, float]) -> None:
    """Take trades until the stream ends."""
    for update in stream:
        if isinstance(update.data, TradeExecuted):
            totals[name] = totals.get(name, 0.0) + float(update.data.profit)
            told = f"{name}: {update.bot_id} made {update.data.profit:+.6f} in {update.data.signature[:8]}…"
            print(told + "\n", end="", flush=True)  # in one piece: other workers print, too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bots", nargs="*", default=["bot_abc123"], help="bot ids; bot_abc123 by default")
    parser.add_argument("--seconds", type=float, default=60, help="how long to run (default: %(default)s)")
    words = "how many threads share the queue (default: %(default)s)"
    parser.add_argument("--workers", type=int, default=2, help=words)
    arguments = parser.parse_args()

    totals: dict[str, float] = {}
    with Client() as client:
        stream = client.stream(*map(Bot, arguments.bots), maxsize=1000, overflow="block")
        workers = [
            threading.Thread(target=work, args=(f"worker-{number}", stream, totals))
            for number in range(1, arguments.workers + 1)
        ]
        for worker in workers:
            worker.start()

        with suppress(KeyboardInterrupt):  # Ctrl-C ends the wait, not what the workers have begun
            threading.Event().wait(arguments.seconds)  # whatever the main thread has to do meanwhile

    # Leaving the block closed the client; the workers' loops end once the stream is drained.
    for worker in workers:
        worker.join()
    print(f"total profit seen by the workers: {sum(totals.values()):+.6f}")


if __name__ == "__main__":
    from _market import market

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends a service ends it as Ctrl-C does
    with market(), suppress(KeyboardInterrupt):
        main()
