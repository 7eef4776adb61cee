"""A bar chart as SVG, written by hand: no background and mid tones, to be read on light and on dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Final

__all__ = ["draw"]

_WIDTH: Final = 860
_LEFT: Final = 270
"""Where bars begin; names end just before."""
_RIGHT: Final = 70
"""Room for the figures behind the longest bar."""
_TOP: Final = 62
_BAR: Final = 13
_GAP: Final = 14
"""Between two names."""

_OURS: Final = "#2f81f7"
_OTHERS: Final = "#8b949e"
_INK: Final = "#7d8590"
"""Readable on white and on nearly black alike (4:1 and 5:1)."""
_FONT: Final = 'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13"'
_OPACITIES: Final = (1.0, 0.55)
"""Of the first series, and of the second."""


def draw(title: str, series: Mapping[str, Mapping[str, float]], highlighted: str) -> str:
    """A horizontal bar for each name and series, the best of the first series on top.

    Args:
        title: goes above, and to screen readers.
        series: one or two of them by name, figures by name in each.
        highlighted: names that begin with this are drawn in colour.
    """
    first = next(iter(series.values()))
    names = sorted(first, key=first.__getitem__, reverse=True)
    longest = max(figure for figures in series.values() for figure in figures.values())
    pitch = len(series) * _BAR + _GAP
    height = _TOP + len(names) * pitch
    size = f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {_FONT} fill="{_INK}">',
        f"<title>{escape(title)}</title>",
        f'<text x="0" y="18" font-size="15" font-weight="600">{escape(title)}</text>',
        *_legend(list(series)),
    ]
    for row, name in enumerate(names):
        colour = _OURS if name.startswith(highlighted) else _OTHERS
        figures = [each.get(name) for each in series.values()]
        lines += _row(name, figures, colour, _TOP + row * pitch, (_WIDTH - _LEFT - _RIGHT) / longest)
    return "\n".join([*lines, "</svg>", ""])


def _legend(names: list[str]) -> Iterator[str]:
    for number, (name, opacity) in enumerate(zip(names, _OPACITIES, strict=False)):
        x = _LEFT + number * 90
        yield f'<rect x="{x}" y="32" width="12" height="12" rx="2" opacity="{opacity:g}"/>'
        yield f'<text x="{x + 18}" y="43">{escape(name)}</text>'


def _row(name: str, figures: list[float | None], colour: str, top: int, scale: float) -> Iterator[str]:
    middle = top + len(figures) * _BAR / 2 + 5
    yield f'<text x="{_LEFT - 12}" y="{middle:g}" text-anchor="end">{escape(name)}</text>'
    for number, (figure, opacity) in enumerate(zip(figures, _OPACITIES, strict=False)):
        if figure is None:
            continue
        y, width = top + number * _BAR, max(1.0, figure * scale)
        rest = f'height="{_BAR - 1}" rx="2" fill="{colour}" opacity="{opacity:g}"/>'
        yield f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" {rest}'
        yield f'<text x="{_LEFT + width + 6:.1f}" y="{y + 10}" font-size="11">{figure:,.1f}</text>'
