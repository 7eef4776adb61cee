"""What an unread event weighs, its raw frame included."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from .feed import Feed
from .ours import connect, settle
from .peers import raw_decoder, raw_payloads, raw_socket
from .report import Table
from .rounds import Contender, Plan, Sample, installed, interleave, middle
from .wire import GO_FRAME, START, channels
from .worker import SPEED

__all__ = ["dicts", "queued", "run", "structs"]

_STATM: Final = Path("/proc/self/statm")
_ENOUGH: Final = 50_000
"""Messages: more do not make the mean any better."""

CONTENDERS: Final = (
    Contender("allenhark_ws, in a stream", "memory:queued", SPEED),
    Contender("dict of json.loads and its bytes", "memory:dicts"),
    Contender("msgspec Struct and its bytes", "memory:structs", ("msgspec",)),
)


class _Scales:
    """Weighs what is added between `__init__` and `weigh`: what Python allocated, or what the process grew by.

    Args:
        trace: have Python keep book; exact, but it adds to the process.
    """

    def __init__(self, *, trace: bool) -> None:
        self._trace = trace
        if trace:
            tracemalloc.start()
        self._before = self._read()

    def _read(self) -> int:
        gc.collect()
        if self._trace:
            return tracemalloc.get_traced_memory()[0]
        # Pages of 4096 bytes nearly everywhere, and this is the rougher figure of the two.
        return int(_STATM.read_text(encoding="ascii").split()[1]) * 4096 if _STATM.exists() else 0

    def weigh(self, items: int) -> dict[str, float]:
        """Bytes for each of so many items."""
        added = self._read() - self._before
        tracemalloc.stop()
        return {"items": items, "bytes": added / items}


def queued(url: str, messages: int, *, trace: bool) -> dict[str, float]:
    """Events waiting in a stream of this client."""
    with connect(url) as client, client.stream(maxsize=messages + 1, overflow="error") as stream:
        client.subscribe(*channels())
        client.flush()
        scales = _Scales(trace=trace)
        client.subscribe(START)
        settle(client)
        return scales.weigh(stream.qsize())


def dicts(url: str, messages: int, *, trace: bool) -> dict[str, float]:
    """A list of what `json.loads` makes, beside the bytes it was made of."""
    return _kept(url, messages, json.loads, trace=trace)


def structs(url: str, messages: int, *, trace: bool) -> dict[str, float]:
    """A list of msgspec's structs, likewise."""
    return _kept(url, messages, raw_decoder().decode, trace=trace)


def _kept(url: str, messages: int, decode: Callable[[bytes], Any], *, trace: bool) -> dict[str, float]:
    with raw_socket(url) as conn:
        scales = _Scales(trace=trace)
        conn.sendall(GO_FRAME)
        payloads = (payload for _, payload in zip(range(messages), raw_payloads(conn), strict=False))
        kept = [(payload, decode(payload)) for payload in payloads]
        return scales.weigh(len(kept))


def run(plan: Plan) -> Iterator[Table]:
    """Weigh prices, and the mix."""
    contenders = installed(CONTENDERS, plan.say)
    plan.say("Memory")
    with Feed() as feed:
        columns = [
            interleave(contenders, plan, partial(_weigh, plan, feed, kind, trace))
            for kind in ("prices", "mix")
            for trace in (True, False)
        ]
    rows = tuple(
        (it.name, *(middle([float(sample["bytes"]) for sample in samples[it.name]], ".0f") for samples in columns))
        for it in contenders
    )
    headings = ("", "a price", "by the process", "over the mix", "by the process")
    yield Table("Memory", "Bytes per unread event: as Python counts, and as the process grows.", headings, rows)


def _weigh(plan: Plan, feed: Feed, kind: str, trace: bool, contender: Contender) -> Sample:
    messages = min(plan.messages, _ENOUGH)
    url = feed.url(kind, messages=messages)
    found = plan.measure(feed, contender.run, url, messages=messages, trace=trace)
    if found["items"] != messages:
        raise RuntimeError(f"{contender.name}: {messages} messages were sent, {found['items']} kept")
    return found
