"""``python -m tests.soak --minutes N --seed S``: random faults for so long, half of it in clear, half over TLS.

It prints what was sent, seen and lost, and what the process held before and after; the exit code is 1 when anything
was lost outside the announced gaps, seen twice, out of place, or left behind.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Iterator, Sequence

from attrs import frozen

from .ledger import Ledger
from .rig import PATIENCE, Resources, Rig
from .weather import Spell, forecast

__all__ = ["main", "soak"]

_MEBIBYTE = 1_048_576
_GROWTH = 32 * _MEBIBYTE
"""Bytes that the resident memory may grow by whatever the reason: allocators keep what they have freed."""
_GROWTH_PER_MESSAGE = 2_048
"""Bytes more for each client message, since the simulator keeps them all."""
_PAUSE = 0.005
"""Seconds between two events."""


@frozen
class Result:
    """What came of one run.

    Attributes:
        ledger: the account, closed.
        spells: how many spells of bad weather there were.
        before: what the process held before, and after the run has warmed up.
        after: what it held at the run's end, and after everything had stopped.
        wrong: what must not be, in words.
    """

    ledger: Ledger
    spells: int
    before: tuple[Resources, Resources]
    after: tuple[Resources, Resources]
    wrong: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """The report."""
        ledger = self.ledger
        cold, warm = self.before
        soaked, dry = self.after
        yield f"spells of bad weather       {self.spells:>9,}"
        yield f"connections lost            {ledger.losses:>9,}"
        yield f"events sent                 {ledger.sent:>9,}"
        yield f"events seen                 {ledger.seen:>9,}"
        yield f"lost inside announced gaps  {ledger.lost_inside:>9,}"
        yield f"lost outside them           {ledger.lost_outside:>9,}"
        yield f"repeated                    {ledger.repeated:>9,}"
        yield f"longest outage              {ledger.longest_outage:>9.2f} s"
        yield f"memory                      {warm.memory / _MEBIBYTE:>9.1f} -> {soaked.memory / _MEBIBYTE:.1f} MiB"
        yield f"threads                     {cold.threads:>9} -> {dry.threads}"
        yield f"file descriptors            {cold.descriptors:>9} -> {dry.descriptors}"
        yield from (f"WRONG: {wrong}" for wrong in self.wrong)


def _endure(rig: Rig, spells: Iterator[Spell], deadline: float) -> int:
    """Let bad weather come until the monotonic deadline or the first complaint; how many spells there were."""
    count = 0
    while time.monotonic() < deadline and not rig.ledger.complaints:
        spell = next(spells)
        for strike in spell.strikes:
            strike(rig)
        count += 1
        _linger(rig, min(spell.seconds, deadline - time.monotonic()))
        rig.proxy.heal()
        _linger(rig, min(spell.calm, deadline - time.monotonic()))
    return count


def _linger(rig: Rig, seconds: float) -> None:
    rig.ledger.wait_for(lambda: rig.ledger.complaints != [], max(0.0, seconds))


def soak(seconds: float, seed: int, *, tls: bool) -> Result:
    """Run one client through the weather of the seed for so long."""
    gc.collect()
    cold = Resources.now()
    spells, wrong = forecast(seed), []
    with Rig(tls=tls, pause=_PAUSE, heartbeat_interval=0.5) as rig:
        rig.publisher.start()
        begun = time.monotonic()
        count = _endure(rig, spells, begun + seconds / 4)
        warm = _collected()
        count += _endure(rig, spells, begun + seconds)
        try:
            rig.recover()
        except TimeoutError:
            wrong.append(
                f"the client, {rig.client.state.name}, did not come back within {PATIENCE:g} s: {rig.client.error}"
            )
        soaked = _collected()
        messages = len(rig.simulator.received)
    dry = _collected()
    wrong += [*rig.verdict(), *_left_behind(cold, dry)]
    if soaked.memory - warm.memory > _GROWTH + messages * _GROWTH_PER_MESSAGE:
        wrong.append("the memory has grown by more than allocators explain")
    return Result(rig.ledger, count, (cold, warm), (soaked, dry), tuple(wrong))


def _collected() -> Resources:
    gc.collect()
    return Resources.now()


def _left_behind(before: Resources, after: Resources) -> Iterator[str]:
    if after.threads != before.threads:
        yield f"{after.threads - before.threads} threads were left behind"
    if after.descriptors != before.descriptors:
        yield f"{after.descriptors - before.descriptors} file descriptors were left behind"


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="random faults against the real client")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long in all (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the weather (default: 0)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, print, and return the exit code: 0, or 1 when anything was wrong."""
    options = _parse(arguments)
    failed = False
    for tls in (False, True):
        seconds = options.minutes * 30
        _say(f"{'wss' if tls else 'ws'}, seed {options.seed}, {seconds:g} s")
        result = soak(seconds, options.seed, tls=tls)
        for line in result.lines():
            _say(f"  {line}")
        failed = failed or bool(result.wrong)
    return int(failed)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
