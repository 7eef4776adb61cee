"""Serve the Autobahn cases to one client and print the verdicts: run as a program by `test_autobahn`.

A process of its own, because loading the cases changes the interpreter they run in: they put directories on `sys.path`
and replace a function of the standard library.  The first line printed is the port on 127.0.0.1, the second one, when
the client has asked for its report, a JSON list of the verdicts.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from kosoku import FailureError, run_fuzzingserver

PATIENCE = 300.0
"""Seconds after which the program ends whatever the client does; less than pytest gives a test."""

NOT_OURS = ["12.*", "13.*"]
"""Compression, which the client never offers."""


async def serve() -> None:
    """Serve every case until the client says that it is done."""
    results: Sequence[Any] = ()
    async with run_fuzzingserver(exclude_cases=NOT_OURS, port=0) as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        try:
            results = await server.get_result()
        except FailureError as failure:
            results = failure.results
    verdicts = [
        {
            "case": result.case_id,
            "behavior": result.behavior.value,
            "closing": result.behavior_close.value,
            "text": f"{result.result} {result.result_close}",
        }
        for result in results
    ]
    sys.stdout.write(f"{json.dumps(verdicts)}\n")


if __name__ == "__main__":
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    asyncio.run(serve())
    sys.stdout.flush()
    # Without tearing the interpreter down: kosoku 0.1.0's own threads abort the process there, one time in ten.
    os._exit(0)
