"""A module's tests, run against any source of that module: in a child process each time, and nothing is written.

Importing pytest, Hypothesis and the rest takes longer than most tests, so they are imported once; every trial is a fork
of that, which imports only the package and the tests.
"""

from __future__ import annotations

import builtins
import importlib
import os
import resource
import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
from attrs import define, field, frozen

from .mutants import Mutant

__all__ = ["Bench", "Outcome", "Subject", "UnusableError"]

ROOT: Final = Path(__file__).parents[2]

_MEMORY: Final = 2 << 30
"""Bytes of address space that a trial may take: a loop that lost its end must not take the machine's."""
_FOREVER: Final = 600.0
"""Seconds that the unchanged module may take."""
_REMEMBERED: Final = 20
"""How many of the tests that failed lately are run first."""


@frozen
class Subject:
    """A module to be changed, and what has to notice.

    Attributes:
        module: its full name.
        path: where its source is.
        tests: the files of its own tests.
    """

    module: str
    path: Path
    tests: tuple[Path, ...]

    @property
    def source(self) -> str:
        """Its text as it stands."""
        return self.path.read_text(encoding="utf-8")


@frozen
class Outcome:
    """What became of a changed module: `killer` is the test that failed, or what happened; None if nothing did."""

    killer: str | None


class UnusableError(Exception):
    """The tests fail without any change, or do not import the module: trials would prove nothing."""


@frozen
class _Report:
    """What a child tells its parent; `failed` is the first test that did, if a test did, or that `hung`."""

    exit_code: int
    failed: str | None
    durations: dict[str, float]
    modules: list[str]
    replaced: bool
    hung: bool = False


class _Substitute(MetaPathFinder, Loader):
    """Finds and loads one module from a source in memory."""

    def __init__(self, subject: Subject, source: str) -> None:
        self._subject = subject
        self._source = source
        self.used = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The subject's; None leaves any other module to the next finder."""
        return spec_from_loader(name, self, origin=str(self._subject.path)) if name == self._subject.module else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Python's own will do."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Run the source in it."""
        self.used = True
        module.__file__ = str(self._subject.path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # "is" with a literal
            code = compile(self._source, str(self._subject.path), "exec")
        exec(code, module.__dict__)  # noqa: S102 - what an import does


class _Watch:
    """A plugin of pytest: some tests come first, what happens is noted, and what takes too long is told of.

    Args:
        first: the tests that come first.
        usual: seconds that each test takes; empty when that is not known yet, and any time is fine.
        hung: called in the middle of a test that takes far longer; it must not return.
    """

    def __init__(self, first: Sequence[str], usual: Mapping[str, float], hung: Callable[[str], None]) -> None:
        self._ranks = {test: rank for rank, test in reversed(list(enumerate(first)))}
        self._usual = usual
        self._hung = hung
        self.failed: str | None = None
        self.durations: dict[str, float] = {}

    def pytest_sessionstart(self) -> None:
        """Hypothesis shall find failures, and not work at making them small."""
        with suppress(ImportError):
            hypothesis: Any = importlib.import_module("hypothesis")
            phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
            hypothesis.settings.register_profile("trial", hypothesis.settings(), phases=phases)
            hypothesis.settings.load_profile("trial")

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Set an alarm: a loop without end is known by the processor's time, which other processes do not lengthen."""
        for timer, number, spare in ((signal.ITIMER_PROF, signal.SIGPROF, 1), (signal.ITIMER_REAL, signal.SIGALRM, 20)):
            signal.signal(number, lambda *_: self._hung(nodeid))
            signal.setitimer(timer, spare + 10 * self._usual.get(nodeid, 0.0) if self._usual else 0.0)

    def pytest_runtest_logfinish(self) -> None:
        """Take the alarm back."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.setitimer(signal.ITIMER_REAL, 0.0)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort them: as told, then as they stand."""
        items.sort(key=lambda item: self._ranks.get(item.nodeid, len(self._ranks)))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note it."""
        self.durations[report.nodeid] = self.durations.get(report.nodeid, 0.0) + report.duration
        if report.failed and self.failed is None:
            self.failed = report.nodeid


def _run_tests(
    subject: Subject, source: str, first: Sequence[str], usual: Mapping[str, float], pipe: Connection
) -> None:
    """What a child does; it never returns, so that nothing of its parent's is cleaned up by it."""
    os.setpgrp()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)

    def give_up(test: str) -> None:
        pipe.send(_Report(1, test, {}, [], replaced=True, hung=True))
        os._exit(0)

    substitute, watch = _Substitute(subject, source), _Watch(first, usual, give_up)
    sys.meta_path.insert(0, substitute)
    code = pytest.main([*_OPTIONS, *map(str, subject.tests)], plugins=[watch])
    pipe.send(_Report(int(code), watch.failed, watch.durations, list(sys.modules), substitute.used))
    os._exit(0)


_OPTIONS: Final = (
    *("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)),
    *("-q", "-x", "--tb=no", "--assert=plain", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=0"),
    *("-p", "no:randomly", "-p", "no:xdist"),
)
"""Of pytest: stop at the first failure, and explain nothing; the order is `_Watch`'s."""


@define(eq=False)
class _Trial:
    """A child at work on a mutant."""

    mutant: Mutant | None
    process: BaseProcess
    pipe: Connection
    deadline: float

    def settle(self) -> _Report | str:
        """Its report, or what happened instead; the child, and what it may have started, is gone afterwards."""
        try:
            return self.pipe.recv() if self.pipe.poll() else "timed out"
        except EOFError:
            return "the process ended"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid or 0, signal.SIGKILL)
            self.process.join()
            self.pipe.close()


@define(eq=False)
class Bench:
    """Tries changed sources of one module.

    Attributes:
        subject: what is tried.
        jobs: how many trials may go on at a time.
        limit: seconds a trial may take; None for what the unchanged module needs, with plenty to spare.
    """

    subject: Subject
    jobs: int = 1
    limit: float | None = None
    _usual: dict[str, float] = field(factory=dict[str, float])
    _killers: deque[str] = field(factory=lambda: deque[str](maxlen=_REMEMBERED))

    def try_all(self, mutants: Iterable[Mutant]) -> Iterator[tuple[Mutant, Outcome]]:
        """Each mutant with its outcome, in the order in which they come to an end.

        Raises:
            UnusableError: the unchanged module does not pass, before the trials or after them.
        """
        limit = self._prepare()
        running: list[_Trial] = []
        for mutant in mutants:
            running.append(self._start(mutant, limit))
            if len(running) == self.jobs:
                yield self._next(running)
        while running:
            yield self._next(running)
        self._try_unchanged()  # in the order that the mutants had

    def _prepare(self) -> float:
        """Learn how long the tests take and what they import, and import that which is not ours; the limit."""
        builtins.CosmicRayTestingException = type("CosmicRayTestingException", (Exception,), {})  # type: ignore[attr-defined]
        begun = time.monotonic()
        report = self._try_unchanged()
        limit = 30.0 + 4 * (time.monotonic() - begun) if self.limit is None else self.limit
        self._usual = report.durations
        ours = {"tests", "conftest", "__main__", self.subject.module.partition(".")[0]}
        for name in report.modules:
            if name.partition(".")[0] not in ours:
                with suppress(ImportError):
                    importlib.import_module(name)
        return limit

    def _try_unchanged(self) -> _Report:
        trial = self._start(None, _FOREVER)
        wait([trial.pipe], max(0.0, trial.deadline - time.monotonic()))
        report = trial.settle()
        if isinstance(report, str) or report.exit_code != 0:
            failed = report if isinstance(report, str) else report.failed or "the tests do not load"
            raise UnusableError(f"{self.subject.module}, unchanged: {failed}")
        if not report.replaced:
            raise UnusableError(f"{self.subject.module}: its tests do not import it")
        return report

    def _start(self, mutant: Mutant | None, limit: float) -> _Trial:
        source = self.subject.source if mutant is None else mutant.source
        context = get_context("fork")
        ours, theirs = context.Pipe(duplex=False)
        fast_first = sorted(self._usual, key=self._usual.__getitem__)
        process = context.Process(
            target=_run_tests, args=(self.subject, source, [*self._killers, *fast_first], self._usual, theirs)
        )
        process.start()
        theirs.close()
        return _Trial(mutant, process, ours, time.monotonic() + limit)

    def _next(self, running: list[_Trial]) -> tuple[Mutant, Outcome]:
        """The first to come to an end, or to run out of time; it is taken out of the list."""
        soonest = min(trial.deadline for trial in running)
        ready = wait([trial.pipe for trial in running], max(0.0, soonest - time.monotonic()))
        trial = next(trial for trial in running if trial.pipe in ready or (not ready and trial.deadline == soonest))
        running.remove(trial)
        report = trial.settle()
        assert trial.mutant is not None
        if isinstance(report, str):
            return trial.mutant, Outcome(report)
        if report.failed is not None and report.failed not in self._killers:
            self._killers.appendleft(report.failed)
        if report.exit_code == 0:
            return trial.mutant, Outcome(None)
        return trial.mutant, Outcome(f"{report.failed or 'the tests do not load'}{' did not end' * report.hung}")
