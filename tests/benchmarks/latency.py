"""How late: from the server's look at the clock, just before it sends, to the user's code; in clear, at two rates."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Final

from .feed import Feed
from .report import Table
from .rounds import Contender, Plan, Sample, Samples, installed, interleave, ratios, spread
from .worker import SPEED

__all__ = ["CONTENDERS", "run"]

BASELINE: Final = "raw blocking loop + msgspec Struct"

CONTENDERS: Final = (
    Contender(BASELINE, "peers:raw_loop", ("msgspec",), closes=True),
    Contender("websockets, sync + json.loads", "peers:websockets_sync", ("websockets",)),
    Contender("WebSocketApp + json.loads", "peers:websocket_app", closes=True),
    Contender("allenhark_ws, inline callbacks", "ours:inline", SPEED),
    Contender("allenhark_ws, callback thread", "ours:callbacks", SPEED),
    Contender("allenhark_ws, callback thread, one processor", "ours:callbacks_on_one_processor", SPEED),
    Contender("allenhark_ws, for event in stream", "ours:iteration", SPEED),
)
RATES: Final = (1_000, 10_000)
"""Messages per second."""


def run(plan: Plan) -> Iterator[Table]:
    """Measure at each rate."""
    contenders = installed(CONTENDERS, plan.say)
    with Feed() as feed:
        for rate in RATES:
            title = f"One-way latency at {rate:,} messages/s"
            plan.say(title)
            yield table(title, interleave(contenders, plan, partial(_stamps, plan, feed, rate)))


def _stamps(plan: Plan, feed: Feed, rate: int, contender: Contender) -> Sample:
    messages = max(10, round(rate * plan.seconds))
    url = feed.url("stamped", messages=messages, rate=rate, close=int(contender.closes))
    found = plan.measure(feed, contender.run, url, probe="stamps", messages=messages)
    if found["messages"] != messages:
        raise RuntimeError(f"{contender.name}: {messages} messages were sent, {found['messages']} counted")
    return found


def table(title: str, samples: Samples) -> Table:
    """What was found."""
    rows = tuple(
        (
            name,
            f"{median(sample['p50'] for sample in found):,.0f}",
            f"{median(sample['p99'] for sample in found):,.0f}",
            spread(ratios(samples, name, BASELINE, lambda sample: float(sample["p50"]))),
            spread(ratios(samples, name, BASELINE, lambda sample: float(sample["p99"]))),
        )
        for name, found in samples.items()
    )
    note = f"Microseconds to the user's code; ratios to the {BASELINE}, spread in brackets."
    return Table(title, note, ("", "p50", "p99", "p50, ratio", "p99, ratio"), rows)
