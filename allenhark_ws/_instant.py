"""A moment, as every rule is told it.

Neighbours: a clock of `_ports` gives it, `_driver` hands it to `_session`.  It must never be asked for by a rule.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

__all__ = ["Instant"]


class Instant(NamedTuple):
    """A moment, on both clocks: `mono` for every rule, `wall` (aware, UTC) only to be shown."""

    mono: float
    wall: datetime
