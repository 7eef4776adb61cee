"""A trend in the space of a word: a small line of numbers, as inline SVG.

Neighbours: `_table` draws one for each price.  It must never put a text into the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

__all__ = ["sparkline"]

_WIDTH: Final = 120
_HEIGHT: Final = 22
_MARGIN: Final = 3
"""Pixels kept free around the line, so that its end's dot is whole."""

_FULL: Final = 20
"""Values that fill the width: fewer are drawn no wider, or two would look like a trend."""


def sparkline(values: Iterable[float], colour: str) -> str:
    """The values as a line from the left; it fills the width from `_FULL` values on.

    Values that are no finite numbers are left out; a line of equal values runs through the middle.
    """
    points = _points([value for value in values if math.isfinite(value)])
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    end = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in points[-1:])
    return (
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true"'
        f' style="display:block"><polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"'
        f' stroke-linejoin="round"/>{end}</svg>'
    )


def _points(values: list[float]) -> list[tuple[float, float]]:
    if not values:
        return []
    low, high = min(values), max(values)
    # Halved before they are subtracted: the difference of two floats may be too large for one.
    span = high / 2 - low / 2
    step = (_WIDTH - 2 * _MARGIN) / (max(_FULL, len(values)) - 1)
    heights = [0.5 if span == 0 else (value / 2 - low / 2) / span for value in values]
    return [
        (_MARGIN + step * number, _HEIGHT - _MARGIN - (_HEIGHT - 2 * _MARGIN) * height)
        for number, height in enumerate(heights)
    ]
