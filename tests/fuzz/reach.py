"""Which code of the package an input reaches, and which inputs are therefore worth keeping."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

import allenhark_ws

__all__ = ["reached", "worth_keeping"]

_PACKAGE: Final = str(Path(allenhark_ws.__file__).parent)

_Step = tuple[str, int, int, int]
"""Function, line before, line, and how often, as a power of two up to 8."""


class _Tracer:
    """Counts the steps from line to line."""

    def __init__(self) -> None:
        self.steps: Counter[tuple[str, int, int]] = Counter()

    def __call__(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        code = frame.f_code
        return self._in(f"{code.co_filename}:{code.co_name}") if code.co_filename.startswith(_PACKAGE) else None

    def _in(self, function: str) -> Callable[..., Any]:
        before = 0

        def follow(frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
            nonlocal before
            if event == "line":
                self.steps[function, before, frame.f_lineno] += 1
                before = frame.f_lineno
            return follow

        return follow


def reached(check: Callable[[bytes], None], data: bytes) -> set[_Step]:
    """The steps that the package took for an input."""
    tracer, others = _Tracer(), sys.gettrace()
    sys.settrace(tracer)
    try:
        check(data)
    finally:
        sys.settrace(others)
    return {(*step, 1 << min(3, count.bit_length() - 1)) for step, count in tracer.steps.items()}


def worth_keeping(check: Callable[[bytes], None], inputs: Iterable[bytes]) -> list[bytes]:
    """Of the inputs, the small ones first, those that reach what none before them did."""
    known: set[_Step] = set()
    kept = []
    for data in sorted(set(inputs), key=lambda one: (len(one), one)):
        steps = reached(check, data)
        if not steps <= known:
            known |= steps
            kept.append(data)
    return kept
