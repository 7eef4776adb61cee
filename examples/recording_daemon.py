"""A daemon that records what the server sends, for years if need be; a new file begins every day.

    ALLENHARK_API_KEY=… python examples/recording_daemon.py market.jsonl.gz --price EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGG…

Started again it goes on where it was.  SIGTERM, as ``systemctl stop`` sends it, and Ctrl-C end it with everything
written; a disk that takes no more ends it with an error, for whoever supervises it.  `allenhark_ws.replay` plays the
files.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from contextlib import suppress

from allenhark_ws import Bot, Client, Disconnected, EventsDropped, Gap, Price

SOL = "So11111111111111111111111111111111111111112"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words = "the file; compressed when it ends in .gz (default: %(default)s)"
    parser.add_argument("path", nargs="?", default="market.jsonl.gz", help=words)
    parser.add_argument("--price", dest="mints", action="append", help="a token's mint address; SOL by default")
    parser.add_argument("--bot", dest="bots", action="append", default=[], help="a bot's id")
    words = "when to begin a new file (default: %(default)s)"
    parser.add_argument("--rotate", type=float, default=86_400, metavar="SECONDS", help=words)
    arguments = parser.parse_args()

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    log = logging.getLogger("recorder")

    client = Client()
    client.subscribe(*map(Price, arguments.mints or [SOL]), *map(Bot, arguments.bots))
    client.on(Disconnected, lambda loss: log.warning("connection lost: %s", loss.cause.reason))
    client.on(Gap, lambda gap: log.warning("%.1f s are missing", gap.duration))
    client.on(EventsDropped, lambda _: client.close())  # nothing else loses any here: the disk failed, or is too slow

    with client.record(arguments.path, append=True, interval=arguments.rotate) as recorder:
        log.info("recording to %s", recorder.path)
        with suppress(KeyboardInterrupt):
            client.run_forever()
    log.info("%d frames written, %d lost", recorder.frames, recorder.lost)
    sys.exit(1 if recorder.lost else 0)


if __name__ == "__main__":
    from _market import market

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends a service ends it as Ctrl-C does
    with market(), suppress(KeyboardInterrupt):
        main()
