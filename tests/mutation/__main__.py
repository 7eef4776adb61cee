"""Change modules in every small way, and see that their own tests notice.

::

    python -m tests.mutation                            all modules, one after the other
    python -m tests.mutation _backoff _link             these
    python -m tests.mutation _frames --jobs 2           two trials at a time
    python -m tests.mutation _codec --operators 'Replace*Operator_*' AddNot

Every change that no test noticed is printed, unless ``survivors.toml`` argues that none should; and so is every
argument about a change that was noticed, or is not made any more.  The exit code is 1 when there was either, 2 when a
module's tests fail without any change.
"""

# ruff: noqa: T201 - a command: it talks
from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from attrs import define

from .argued import SURVIVORS, Argued
from .mutants import Mutant, mutants
from .trials import ROOT, Bench, Outcome, Subject, UnusableError

__all__ = ["SUBJECTS", "main"]

_TESTS: Final[Mapping[str, tuple[str, ...]]] = {
    "_backoff": ("test_backoff.py",),
    "_guard": ("test_connect.py",),
    "_session": ("test_session.py",),
    "_link": ("test_link.py",),
    "_verdict": ("test_verdict.py",),
    "_frames": ("test_frames.py",),
    "_transport": ("test_transport.py",),
    "_connect": ("test_connect.py",),
    "_target": ("test_connect.py",),
    "_dns": ("test_connect.py",),
    "_tcp": ("test_connect.py",),
    "_tls": ("test_connect.py",),
    "_upgrade": ("test_connect.py",),
    "_network": ("test_network.py",),
    "_intake": ("test_intake.py",),
    "_outlet": ("test_outlet.py",),
    "_driver": ("test_driver.py",),
    "_codec": ("test_codec.py",),
    "_strict": ("test_codec.py",),
    "_lanes": ("test_codec.py", "test_together.py"),
    "_dicts": ("test_codec.py", "test_together.py"),
    "_structs": ("test_codec.py", "test_structs.py", "test_together.py"),
    "_express": ("test_express.py", "test_router.py"),
    "_wanted": ("test_wanted.py",),
    "_routes": ("test_routes.py", "test_router.py"),
    "_places": ("test_express.py", "test_router.py"),
    "_json": ("test_json.py",),
    "_frozen": ("test_frozen.py",),
    "_redact": ("test_redact.py",),
}
"""The modules, and the files of their own tests."""

SUBJECTS: Final[Mapping[str, Subject]] = {
    name: Subject(
        f"allenhark_ws.{name}",
        ROOT / "allenhark_ws" / f"{name}.py",
        tuple(ROOT / "tests" / file for file in files),
    )
    for name, files in _TESTS.items()
}


@define
class _Tally:
    """What became of one module's mutants."""

    name: str
    tried: int = 0
    killed: int = 0
    argued: int = 0
    survived: int = 0
    unneeded: int = 0

    @property
    def is_exact(self) -> bool:
        """Whether what survived and what is argued are the same."""
        return not self.survived and not self.unneeded

    def count(self, outcome: Outcome, *, argued: bool) -> None:
        """Add one mutant."""
        self.tried += 1
        if outcome.killer is not None:
            self.killed += 1
        elif argued:
            self.argued += 1
        else:
            self.survived += 1

    def __str__(self) -> str:
        noticed = self.tried and 100 * (self.killed + self.argued) / self.tried
        return (
            f"{self.name:<12} {self.tried:>5} tried {self.killed:>5} killed {self.argued:>4} argued "
            f"{self.survived:>4} survived {noticed:>7.1f} %"
        )


def main(
    arguments: Sequence[str],
    subjects: Mapping[str, Subject] = SUBJECTS,
    survivors: Path = SURVIVORS,
    limit: float | None = None,
) -> int:
    """Do what the command line says; the exit code.  `limit`: seconds for each trial."""
    options = _parse(arguments, subjects)
    tallies = []
    for name in options.modules or subjects:
        bench = Bench(subjects[name], options.jobs, limit)
        argued = Argued.read(survivors, name)
        try:
            tallies.append(_try_module(name, bench, argued, tuple(options.operators), verbose=options.verbose))
        except UnusableError as error:
            print(error, file=sys.stderr)
            return 2
        print(tallies[-1], flush=True)
    return int(not all(tally.is_exact for tally in tallies))


def _parse(arguments: Sequence[str], subjects: Mapping[str, Subject]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Would the tests notice?")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(subjects)} (default: all)")
    parser.add_argument("--jobs", type=int, default=1, help="how many trials at a time (default: 1)")
    parser.add_argument(
        "--operators", nargs="+", default=["*"], metavar="PATTERN", help="of cosmic-ray's operators, those like these"
    )
    parser.add_argument("--verbose", action="store_true", help="tell what noticed each of the others, too")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.modules if name not in subjects]:
        parser.error(f"no such module: {', '.join(unknown)}")
    return options


def _try_module(
    name: str, bench: Bench, argued: Sequence[Argued], patterns: tuple[str, ...], *, verbose: bool
) -> _Tally:
    tally, unseen = _Tally(name), set(argued)
    for mutant, outcome in bench.try_all(mutants(bench.subject.source, patterns)):
        fitting = [one for one in argued if one.fits(mutant)]
        tally.count(outcome, argued=bool(fitting))
        if outcome.killer is None:
            unseen.difference_update(fitting)
        if verbose or (outcome.killer is None and not fitting):
            _tell(bench.subject, mutant, outcome)
    if patterns == ("*",):
        tally.unneeded = len(unseen)
        _tell_unseen([one for one in argued if one in unseen])
    return tally


def _tell(subject: Subject, mutant: Mutant, outcome: Outcome) -> None:
    where = f" in {mutant.where}" if mutant.where else ""
    noticed = "" if outcome.killer is None else f", noticed: {outcome.killer}"
    print(f"{subject.path.name}:{mutant.number}{where}: {mutant.operator}{noticed}")
    print(f"-   {mutant.line}\n+   {mutant.becomes}", flush=True)


def _tell_unseen(argued: Sequence[Argued]) -> None:
    for one in argued:
        print(f"does not survive, so need not be argued: {one.module} {one.where}: {one.line} -> {one.becomes}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
