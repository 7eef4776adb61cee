"""Where the time of one message goes that comes alone: step by step, from the readable socket to the user's code.

At a thousand messages a second every step is slow, for the processor has forgotten it since the last: what takes 2 µs
in a burst takes 60 here.  Looking at the clock between the steps adds about a microsecond to each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any, Final

from allenhark_ws._driver import Driver
from allenhark_ws._intake import Intake
from allenhark_ws._ports import Clock
from allenhark_ws._queue import EventQueue
from allenhark_ws._router import Router
from allenhark_ws._transport import Transport

from . import ours
from .feed import Feed
from .probes import Handler, Stamps
from .report import Table
from .rounds import Contender, Plan, installed, interleave
from .worker import SPEED

__all__ = ["callbacks", "inline", "run"]

RATE: Final = 1_000
"""Messages per second."""

READABLE: Final = "the socket is readable"
CALLED: Final = "the user's code has it"
_PLACES: Final[tuple[tuple[str, type, str, bool], ...]] = (
    (READABLE, Clock, "wait", False),
    ("the turn has come to reading", Transport, "receive", True),
    ("read", Transport, "_read", False),
    ("cut, with nothing left of a frame", Transport, "receive", False),
    ("proof of life noted", Intake, "take", True),
    ("on its way to its consumers", Router, "express", True),
    ("decoded, built, in a batch", EventQueue, "put", True),
    ("queued, the callback thread told", EventQueue, "put", False),
    ("the turn is over, and with it the background thread's hold on the interpreter", Driver, "_sleep", True),
)
"""The steps, each with the method before or after (False) which it is done."""

_Note = Callable[[str], object]


@contextmanager
def _noting(step: str, owner: type, method: str, *, before: bool, note: _Note) -> Generator[None]:
    """Note whenever the step is done, for a while."""
    original: Callable[..., Any] = getattr(owner, method)

    def noted(self: object, *arguments: Any, **options: Any) -> Any:
        if before:
            note(step)
            return original(self, *arguments, **options)
        found = original(self, *arguments, **options)
        note(step)
        return found

    setattr(owner, method, noted)
    try:
        yield
    finally:
        setattr(owner, method, original)


class _Steps(Stamps):
    """Notes when each step was done."""

    def __init__(self, messages: int) -> None:
        super().__init__(messages)
        self._notes: list[tuple[str, int]] = []

    def note(self, step: str) -> None:
        """It is done now."""
        self._notes.append((step, time.perf_counter_ns()))

    def handler(self) -> Handler:
        """One that notes that it was called."""
        handle = super().handler()

        def noting(message: Any) -> None:
            self.note(CALLED)
            handle(message)

        return noting

    def steps(self) -> dict[str, float]:
        """Microseconds from the readable socket to each step, the median, for what came alone to its end."""
        found: dict[str, list[int]] = {}
        turn: dict[str, int] = {}
        for step, at in self._notes:
            if step == READABLE:
                turn = {}
            turn.setdefault(step, at)
            if step == CALLED and READABLE in turn:
                for each, then in turn.items():
                    found.setdefault(each, []).append(then - turn[READABLE])
        return {step: median(delays) / 1000 for step, delays in found.items()}


def _run(contender: Callable[[str, Stamps], None], url: str, messages: int) -> dict[str, float]:
    probe = _Steps(messages)
    with ExitStack() as places:
        for step, owner, method, before in _PLACES:
            places.enter_context(_noting(step, owner, method, before=before, note=probe.note))
        contender(url, probe)
    return probe.steps()


def inline(url: str, messages: int) -> dict[str, float]:
    """The steps to an inline callback."""
    return _run(ours.inline, url, messages)


def callbacks(url: str, messages: int) -> dict[str, float]:
    """The steps to the callback thread."""
    return _run(ours.callbacks, url, messages)


CONTENDERS: Final = (
    Contender("inline", "turn:inline", SPEED),
    Contender("callback thread", "turn:callbacks", SPEED),
)


def run(plan: Plan) -> Iterator[Table]:
    """Measure both ways."""
    contenders = installed(CONTENDERS, plan.say)
    if not contenders:
        return
    plan.say("Turn")
    messages = max(20, round(RATE * plan.seconds))
    with Feed() as feed:
        url = feed.url("stamped", messages=messages, rate=RATE, close=0)
        samples = interleave(
            contenders, plan, lambda contender: plan.measure(feed, contender.run, url, messages=messages)
        )
    steps = [*(step for step, *_ in _PLACES), CALLED]
    rows = tuple((step, *(_middle(found, step) for found in samples.values())) for step in steps)
    note = f"Microseconds from the readable socket, at {RATE:,} messages/s; each look at the clock takes about one."
    yield Table("One turn", note, ("", *samples), rows)


def _middle(samples: Any, step: str) -> str:
    found = [sample[step] for sample in samples if step in sample]
    return f"{median(found):.0f}" if found else "-"
