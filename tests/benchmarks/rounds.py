"""Contenders in interleaved rounds, and what may be said of their figures: medians, and ratios within rounds."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from attrs import field, frozen

__all__ = ["Contender", "Plan", "Samples", "installed", "interleave", "middle", "ratios", "spread"]

Sample = Mapping[str, Any]
Samples = Mapping[str, Sequence[Sample]]
"""What each contender found in each round, by name."""


@frozen
class Plan:
    """How much to measure.

    Attributes:
        rounds: how often each contender runs.
        messages: how many the fast ones get in a round.
        seconds: how long to look at what is a matter of time.
        channels: how many are many.
        say: takes lines for whoever waits.
        measure: runs a contender, ``module:function``, against a feed at a URL, with options; what it found.
    """

    rounds: int
    messages: int
    seconds: float
    channels: int
    say: Callable[[str], object]
    measure: Callable[..., Sample]


@frozen
class Contender:
    """One row of a table.

    Attributes:
        name: as it is shown.
        run: ``module:function`` here.
        needs: modules without which it is skipped.
        share: the part of the messages it gets; slow ones get fewer, so that each takes a second or so.
        closes: whether it runs until the server closes, or else until it has seen enough.
        bare: whether the extra ``speed`` is hidden from it.
        options: further arguments of the function.
    """

    name: str
    run: str
    needs: tuple[str, ...] = ()
    share: float = 1.0
    closes: bool = False
    bare: bool = False
    options: Mapping[str, Any] = field(factory=dict)

    def part(self, messages: int) -> int:
        """Its part of so many messages."""
        return max(1, round(messages * self.share))


def _missing(needs: Iterable[str]) -> list[str]:
    return [name for name in needs if importlib.util.find_spec(name) is None]


def installed(contenders: Iterable[Contender], say: Callable[[str], object]) -> list[Contender]:
    """Those that can run; each other one is said to be skipped."""
    able = []
    for contender in contenders:
        missing = _missing(contender.needs)
        if missing:
            say(f"skipped: {contender.name}, for {' and '.join(missing)} cannot be imported")
        else:
            able.append(contender)
    return able


def interleave(contenders: Sequence[Contender], plan: Plan, measure: Callable[[Contender], Sample]) -> Samples:
    """Measure each contender once per round, one after the other."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for number in range(1, plan.rounds + 1):
        plan.say(f"round {number} of {plan.rounds}")
        for contender in contenders:
            samples[contender.name].append(measure(contender))
    return samples


Figure = Callable[[Sample], float]


def ratios(samples: Samples, of: str, to: str, figure: Figure) -> list[float]:
    """The figure of one contender divided by that of another, round by round; empty when one was skipped."""
    pairs = zip(samples.get(of, ()), samples.get(to, ()), strict=False)
    return [figure(one) / figure(other) for one, other in pairs if figure(other)]


def middle(figures: Sequence[float], form: str = ".2f") -> str:
    """The median, or a dash."""
    return format(median(figures), form) if figures else "-"


def spread(figures: Sequence[float], form: str = ".2f") -> str:
    """The median, and from where to where it went."""
    return f"{middle(figures, form)} ({min(figures):{form}}-{max(figures):{form}})" if figures else "-"
