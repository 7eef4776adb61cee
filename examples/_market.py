"""For the examples alone: a simulated market to run against when no API key is set.  Nothing to learn here."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def market() -> Generator[None]:
    """Without ``ALLENHARK_API_KEY`` start a simulated server with a live market, and let every `Client()` find it."""
    if os.environ.get("ALLENHARK_API_KEY") or {"-h", "--help"} & {*sys.argv}:
        yield
        return
    try:
        from allenhark_ws.testing import Simulator  # noqa: PLC0415 - with a key nobody needs the extra
    except ImportError as error:
        sys.exit(f"ALLENHARK_API_KEY is not set, and {error}")

    with Simulator(feed=True) as simulator:
        print(f"ALLENHARK_API_KEY is not set: this is a simulated market at {simulator.url}", file=sys.stderr)
        os.environ["ALLENHARK_API_KEY"], os.environ["ALLENHARK_WS_URL"] = simulator.api_key, simulator.url
        yield
