"""What an import costs, each in a fresh interpreter, and what it does not load."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from tempfile import TemporaryDirectory
from typing import Final

from .process import run as run_process
from .report import Table
from .rounds import Contender, Plan, Sample, Samples, installed, interleave, middle, spread

__all__ = ["run"]

_BASELINE: Final = "import attrs"
_HEAVY: Final = ("ssl", "websocket", "cattrs", "asyncio", "orjson", "msgspec")
"""What should load only when it is needed."""

_STATEMENTS: Final = (
    _BASELINE,
    "import allenhark_ws",
    "from allenhark_ws import Price",
    "from allenhark_ws import Client, Price",
    "import websocket",
    "import websockets.sync.client",
    "import picows",
    "import pybit.unified_trading",
)
"""What programs write; the names of this package load the modules that they come from."""

_CODE: Final = f"""
import sys, time
sys.dont_write_bytecode = False
wall, cpu = time.perf_counter(), time.process_time()
%s
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
loaded = [name for name in {_HEAVY} if name in sys.modules]
import json
print(json.dumps({{"wall": wall * 1000, "cpu": cpu * 1000, "loaded": loaded}}))
"""


def _import(statement: str, bytecode: str) -> Sample:
    return run_process([sys.executable, "-X", f"pycache_prefix={bytecode}", "-c", _CODE % statement])


def _measure(contenders: Sequence[Contender], plan: Plan) -> Samples:
    """Each statement's cost with bytecode at hand, as an installer leaves it, a checkout's too."""
    with TemporaryDirectory() as bytecode:
        for contender in contenders:
            _import(contender.run, bytecode)  # compiles
        return interleave(contenders, plan, lambda contender: _import(contender.run, bytecode))


def run(plan: Plan) -> Iterator[Table]:
    """Run each statement in turn."""
    plan.say("Import")
    contenders = installed(
        (Contender(line, line, (line.split()[1].partition(".")[0],)) for line in _STATEMENTS), plan.say
    )
    samples = _measure(contenders, plan)
    plain = samples[_BASELINE]
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
    note = f"Milliseconds in a fresh interpreter, and how many more than {_BASELINE}, spread in brackets."
    yield Table("Import", note, ("", "ms", "CPU", "more", "more CPU", "loads"), rows)
