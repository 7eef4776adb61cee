"""How many messages per second: the documented three kinds mixed, in clear and over TLS."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from statistics import median
from typing import Final

from .feed import Feed
from .report import Table
from .rounds import Contender, Plan, Sample, Samples, installed, interleave, middle, ratios, spread
from .worker import SPEED

__all__ = ["BASELINE", "CONTENDERS", "run"]

BASELINE: Final = "WebSocketApp + json.loads"
LIMIT: Final = "raw socket loop + msgspec Struct"
CYTHON: Final = "picows + orjson dicts"

CONTENDERS: Final = (
    Contender(BASELINE, "peers:websocket_app", share=0.05, closes=True),
    Contender("pybit", "peers:pybit", ("pybit",), share=0.05),
    Contender("coinbase-advanced-py", "peers:coinbase", ("coinbase",), share=0.2),
    Contender("websockets, sync + json.loads", "peers:websockets_sync", ("websockets",), share=0.2),
    Contender(CYTHON, "peers:picows_orjson", ("picows", "orjson"), closes=True),
    Contender(LIMIT, "peers:raw_count", ("msgspec",), closes=True),
    Contender("allenhark_ws, inline callbacks", "ours:inline", SPEED),
    Contender("allenhark_ws, callback thread", "ours:callbacks", SPEED),
    Contender("allenhark_ws, callback thread, one processor", "ours:callbacks_on_one_processor", SPEED),
    Contender("allenhark_ws, for event in stream", "ours:iteration", SPEED),
    Contender("allenhark_ws, inline, bare install", "ours:inline", bare=True),
)

_NOTE: Final = (
    "The three documented kinds of message mixed; median ratios of interleaved rounds, spread in brackets. "
    f"{BASELINE} = 1. CPU, and behind a stroke: the same by processor time."
)


def run(plan: Plan) -> Iterator[Table]:
    """Measure in clear, then over TLS."""
    contenders = installed(CONTENDERS, plan.say)
    for tls in (False, True):
        if tls and importlib.util.find_spec("trustme") is None:
            plan.say("skipped: TLS, for trustme cannot be imported")
            continue
        title = f"Throughput, {'TLS' if tls else 'plain'}"
        plan.say(title)
        with Feed(tls=tls) as feed:
            samples = interleave(contenders, plan, partial(_count, plan, feed))
        yield table(title, samples)


def _count(plan: Plan, feed: Feed, contender: Contender) -> Sample:
    """One contender, once.

    Raises:
        RuntimeError: it got other than was sent.
    """
    part = contender.part(plan.messages)
    url = feed.url("mix", messages=part, close=int(contender.closes))
    found = plan.measure(feed, contender.run, url, bare=contender.bare, probe="count", messages=part)
    if found["messages"] != part:
        raise RuntimeError(f"{contender.name}: {part} messages were sent, {found['messages']} counted")
    return found


def _rate(sample: Sample) -> float:
    return float(sample["messages"] / sample["seconds"])


def _economy(sample: Sample) -> float:
    """Messages per second of processor time; 0 when the system's clock is too coarse to tell."""
    return float(sample["messages"] / sample["cpu"]) if sample["cpu"] else 0.0


def _both(samples: Samples, of: str, to: str) -> str:
    """A ratio by the wall's clock, and by processor time."""
    return f"{middle(ratios(samples, of, to, _rate))} / {middle(ratios(samples, of, to, _economy))}"


def table(title: str, samples: Samples) -> Table:
    """What was found."""
    rows, bars = [], {}
    for name, found in samples.items():
        against = ratios(samples, name, BASELINE, _rate)
        bars[name] = median(against)
        rows.append(
            (
                name,
                f"{median(map(_rate, found)):,.0f}",
                spread(against, ".1f"),
                spread(ratios(samples, name, BASELINE, _economy), ".1f"),
                _both(samples, name, LIMIT),
                _both(samples, name, CYTHON),
            )
        )
    headings = ("", "messages/s", "ratio", "CPU", "of raw loop", "of picows")
    return Table(title, _NOTE, headings, tuple(rows), bars)
