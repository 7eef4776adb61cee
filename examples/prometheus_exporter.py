"""A service whose health Prometheus watches.

    pip install "allenhark-ws[metrics]"     # and [testing], to run without a key
    ALLENHARK_API_KEY=… python examples/prometheus_exporter.py --port 9000 bot_abc123

A scrape reads the client's own counters; ``latency=True`` adds a callback that measures every event.
"""

from __future__ import annotations

import argparse
import signal
import sys
from contextlib import suppress

from allenhark_ws import Bot, Client

try:
    from allenhark_ws.metrics import ClientMetrics
except ImportError as error:
    sys.exit(str(error))  # one line, which names the extra

from prometheus_client import start_http_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bots", nargs="*", default=["bot_abc123"], help="bot ids; bot_abc123 by default")
    words = "where to serve the metrics; 0: any free port (default: %(default)s)"
    parser.add_argument("--port", type=int, default=9000, help=words)
    arguments = parser.parse_args()

    metrics = ClientMetrics()
    server, _ = start_http_server(arguments.port, addr="127.0.0.1")
    print(f"metrics are at http://127.0.0.1:{server.server_port}/metrics", flush=True)

    with Client() as client, client.stream(*map(Bot, arguments.bots)) as trades:
        metrics.add(client, "trades", latency=True, streams={"trades": trades})
        for update in trades:  # the service's work
            print(f"{update.bot_id}: {update.event}", flush=True)


if __name__ == "__main__":
    from _market import market

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends a service ends it as Ctrl-C does
    with market(), suppress(KeyboardInterrupt):
        main()
