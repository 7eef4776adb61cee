"""How many there are, in words.

Neighbours: errors and views for people count by it.  It must never need anything else.
"""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, one: str) -> str:
    """The number and what it counts: ``1 event``, ``2,000 events``."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"
