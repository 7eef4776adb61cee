"""What an import costs, each in a fresh interpreter, and what it does not load."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final

from .process import run as run_process
from .report import Table
from .rounds import Contender, Plan, Sample, installed, interleave, middle, spread

__all__ = ["run"]

_BASELINE: Final = "attrs"
_HEAVY: Final = ("ssl", "websocket", "cattrs", "asyncio", "orjson", "msgspec")
"""What should load only when it is needed."""

_MODULES: Final = ("attrs", "allenhark_ws", "websocket", "websockets.sync.client", "picows", "pybit.unified_trading")

_CODE: Final = f"""
import json, sys, time
wall, cpu = time.perf_counter(), time.process_time()
import %s
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
loaded = [name for name in {_HEAVY} if name in sys.modules]
print(json.dumps({{"wall": wall * 1000, "cpu": cpu * 1000, "loaded": loaded}}))
"""


def _import(contender: Contender) -> Sample:
    return run_process([sys.executable, "-c", _CODE % contender.run])


def run(plan: Plan) -> Iterator[Table]:
    """Import each module in turn."""
    plan.say("Import")
    contenders = installed(
        (Contender(f"import {name}", name, (name.partition(".")[0],)) for name in _MODULES), plan.say
    )
    samples = interleave(contenders, plan, _import)
    plain = samples[f"import {_BASELINE}"]
    rows = tuple(
        (
            name,
            middle([float(sample["wall"]) for sample in found], ".1f"),
            middle([float(sample["cpu"]) for sample in found], ".1f"),
            spread([one["wall"] - other["wall"] for one, other in zip(found, plain, strict=True)], ".1f"),
            spread([one["cpu"] - other["cpu"] for one, other in zip(found, plain, strict=True)], ".1f"),
            ", ".join(found[-1]["loaded"]) or "-",
        )
        for name, found in samples.items()
    )
    note = f"Milliseconds in a fresh interpreter, and how many more than import {_BASELINE}, spread in brackets."
    yield Table("Import", note, ("", "ms", "CPU", "more", "more CPU", "loads"), rows)
