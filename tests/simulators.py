"""The simulated server, as patient as tests have to be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from allenhark_ws import testing

from .patience import PATIENCE

_T = TypeVar("_T")


class Simulator(testing.Simulator):
    """`allenhark_ws.testing.Simulator`, whose own five seconds are for users, who look on while their tests run."""

    def wait_for(self, predicate: Callable[[], _T], timeout: float = PATIENCE) -> _T:
        """Wait until the predicate gives something true, and return that."""
        return super().wait_for(predicate, timeout)
