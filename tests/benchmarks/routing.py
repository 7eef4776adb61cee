"""What it costs to have a callback for each of ten thousand tokens, against one for all, on the same traffic."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Final

from .feed import Feed
from .report import Table
from .rounds import Contender, Plan, Sample, installed, interleave, ratios, spread
from .worker import SPEED

__all__ = ["run"]

BASELINE: Final = "one callback for all"


def _rate(sample: Sample) -> float:
    return float(sample["messages"] / sample["seconds"])


def _economy(sample: Sample) -> float:
    return float(sample["messages"] / sample["cpu"]) if sample["cpu"] else 0.0


def run(plan: Plan) -> Iterator[Table]:
    """Measure inline callbacks, with every token subscribed in both cases."""
    each = f"{plan.channels:,} callbacks, one per token"
    contenders = installed(
        (Contender(BASELINE, "ours:per_class", SPEED), Contender(each, "ours:per_mint", SPEED)), plan.say
    )
    plan.say("Routing")
    with Feed() as feed:
        url = feed.url("prices", messages=plan.messages, mints=plan.channels)
        samples = interleave(
            contenders,
            plan,
            lambda it: plan.measure(feed, it.run, url, probe="count", messages=plan.messages, count=plan.channels),
        )
    rows = tuple(
        (
            name,
            f"{median(map(_rate, found)):,.0f}",
            spread(ratios(samples, name, BASELINE, _rate)),
            spread(ratios(samples, name, BASELINE, _economy)),
        )
        for name, found in samples.items()
    )
    note = f"Prices of {plan.channels:,} tokens, all of them subscribed, inline callbacks."
    yield Table("Routing", note, ("", "messages/s", "ratio", "CPU"), rows)
