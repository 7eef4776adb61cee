"""The live table: what is remembered of a client from one look to the next, and how that is shown.

A look takes the last event of each wanted channel, however many there were in between: it costs the same in a quiet
market and in a wild one, and needs no consumer.  Neighbours: `_watch` says when to look and shows what comes of it;
`_html` escapes every text, and has the colours.  It must never hold a client or ask what time it is.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from attrs import define, field

from .._html import BAD, GOOD, MUTED, milliseconds, state_badge, text
from .._words import counted
from ..channels import Bot, Channel, Price, Transactions
from ..events import BotUpdate, DataEvent, PriceUpdate, TradeExecuted, TransactionConfirmed
from ..stats import Stats
from ._sparkline import sparkline

__all__ = ["LiveTable"]

_REMEMBERED: Final = 120
"""Looks that a trend goes back, a minute of them by default."""

_RATED: Final = 11
"""Looks over which the rate is taken."""

_MAX_LINES: Final = 50
"""Channels shown: a client may have thousands, and a page is sent anew with every look."""

_CELL: Final = "padding:.15em .9em .15em 0;border:none;text-align:"
_FRAME: Final = "color:inherit;font-variant-numeric:tabular-nums;margin:.3em 0;line-height:1.5"
_TABLE: Final = "border-collapse:collapse;border:none;margin:.5em 0 0;color:inherit"
_LINE: Final = "background:transparent;border:none;border-bottom:1px solid rgba(128,128,128,.25)"


@define(eq=False)
class _Trend:
    """What was seen of one price.

    Attributes:
        first: the price that changes are measured by.
        last: the newest update.
        seen: the prices of the last looks, oldest first.
    """

    first: float
    last: PriceUpdate
    seen: deque[float] = field(factory=lambda: deque(maxlen=_REMEMBERED))

    @property
    def change(self) -> float | None:
        """Since the first look, as a part of the price then; None when that cannot be told."""
        change = float(self.last.price) / self.first - 1 if self.first else math.nan
        return change if math.isfinite(change) else None


@define(eq=False)
class LiveTable:
    """The market and the client's counters as last seen."""

    _stats: Stats | None = None
    _channels: tuple[Channel, ...] = ()
    _trends: dict[Channel, _Trend] = field(factory=dict[Channel, _Trend])
    _others: dict[Channel, DataEvent] = field(factory=dict[Channel, DataEvent])
    _received: deque[tuple[float, int]] = field(factory=lambda: deque(maxlen=_RATED))

    def look(self, now: float, stats: Stats, latest: Mapping[Channel, DataEvent | None]) -> None:
        """Take in where things stand.

        Args:
            now: monotonic seconds.
            stats: the client's.
            latest: the last event of each wanted channel, None where there was none.
        """
        self._stats = stats
        self._received.append((now, stats.messages_received))
        self._channels = tuple(sorted(latest, key=_order))
        self._trends = {channel: trend for channel, trend in self._trends.items() if channel in latest}
        self._others = {}
        for channel, event in latest.items():
            if isinstance(event, PriceUpdate):
                self._follow(channel, event)
            elif event is not None:
                self._others[channel] = event

    def _follow(self, channel: Channel, event: PriceUpdate) -> None:
        price = float(event.price)
        trend = self._trends.setdefault(channel, _Trend(price, event))
        trend.last = event
        trend.seen.append(price)

    @property
    def rate(self) -> float:
        """Messages a second over the last looks."""
        if len(self._received) < 2:
            return 0.0
        (began, before), (ended, after) = self._received[0], self._received[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    # --- Showing

    def counters(self) -> list[tuple[str, str]]:
        """What is counted, as names and texts."""
        stats = self._stats
        if stats is None:
            return []
        return [
            ("received", f"{stats.messages_received:,}"),
            ("rate", f"{self.rate:,.1f}/s"),
            ("rtt", milliseconds(stats.rtt_last)),
            ("gaps", f"{stats.reconnects:,}"),
            ("dropped", f"{stats.dropped:,}"),
        ]

    def as_html(self, note: str = "") -> str:
        """The whole table; the note tells why it does not move any more."""
        state = "" if self._stats is None else state_badge(self._stats.state.name)
        head = [f'<span style="display:inline-block;min-width:8.5em;margin-right:1em"><b>{state}</b></span>']
        head += [
            f'<span style="display:inline-block;margin-right:1.6em"><span style="{MUTED}">{name}</span> {told}</span>'
            for name, told in self.counters()
        ]
        end = f'<div style="margin-top:.4em;{MUTED}">{text(note)}</div>' if note else ""
        return f'<div style="{_FRAME}"><div>{"".join(head)}</div>{self._table()}{end}</div>'

    def _table(self) -> str:
        shown = self._channels[:_MAX_LINES]
        if not shown:
            return (
                f'<div style="margin-top:.5em;{MUTED}">nothing is subscribed yet: client.subscribe(Price(mint))</div>'
            )
        rest = len(self._channels) - len(shown)
        told = counted(rest, "more channel")
        more = f'<div style="margin-top:.4em;{MUTED}">and {told}</div>' if rest else ""
        names = (("channel", "left"), ("price", "right"), ("change", "right"), ("trend", "left"), ("volume", "right"))
        head = "".join(f'<th style="{_CELL}{side};font-weight:normal;{MUTED}">{name}</th>' for name, side in names)
        rows = "".join(map(self._row, shown))
        return (
            f'<table style="{_TABLE}"><thead><tr style="{_LINE}">{head}</tr></thead><tbody>{rows}</tbody></table>{more}'
        )

    def _row(self, channel: Channel) -> str:
        trend = self._trends.get(channel)
        name = f'<td style="{_CELL}left" title="{text(repr(channel))}">{text(_short(channel))}</td>'
        if trend is None:
            told = text(_other(self._others.get(channel)))
            return f'<tr style="{_LINE}">{name}<td style="{_CELL}left;{MUTED}" colspan="4">{told}</td></tr>'
        colour, change = _change(trend.change)
        cells = (
            f'<td style="{_CELL}right"><b>{_number(trend.last.price)}</b></td>',
            f'<td style="{_CELL}right;color:{colour};white-space:nowrap">{change}</td>',
            f'<td style="{_CELL}left">{sparkline(trend.seen, colour)}</td>',
            f'<td style="{_CELL}right">{_number(trend.last.volume)}</td>',
        )
        return f'<tr style="{_LINE}">{name}{"".join(cells)}</tr>'

    def as_text(self, note: str = "") -> str:
        """The same without the trends, for what shows no HTML."""
        state = "" if self._stats is None else self._stats.state.name
        lines = ["  ".join([state, *(f"{name} {told}" for name, told in self.counters())])]
        lines += map(self._line, self._channels[:_MAX_LINES])
        return "\n".join([*lines, *([note] if note else [])])

    def _line(self, channel: Channel) -> str:
        trend = self._trends.get(channel)
        if trend is None:
            return f"{_short(channel):<12}  {_other(self._others.get(channel))}"
        return f"{_short(channel):<12}  {_number(trend.last.price):>14}  {_change(trend.change)[1]}"


def _order(channel: Channel) -> tuple[bool, str]:
    """Prices first."""
    return not isinstance(channel, Price), repr(channel)


def _short(channel: Channel) -> str:
    """The channel's id, short enough for a column."""
    if isinstance(channel, Price):
        return _cut(channel.mint, 12)
    if isinstance(channel, Bot):
        return _cut(channel.bot_id, 20)
    return _cut(channel.wallet, 12) if isinstance(channel, Transactions) else repr(channel)


def _cut(identifier: str, longest: int) -> str:
    return identifier if len(identifier) <= longest else f"{identifier[:4]}…{identifier[-4:]}"


def _number(value: float | Decimal) -> str:
    return f"{value:,.9g}"


def _change(change: float | None) -> tuple[str, str]:
    """Colour and text of a change."""
    if change is None or abs(change) < 0.5e-4:
        return "currentColor", "—" if change is None else "0.00 %"
    return (GOOD, f"▲ {change:+,.2%}") if change > 0 else (BAD, f"▼ {change:+,.2%}")


def _other(event: DataEvent | None) -> str:
    """The last event of a channel that is no price's, in a line."""
    if isinstance(event, BotUpdate):
        profit = f" {event.data.profit:+g}" if isinstance(event.data, TradeExecuted) else ""
        return f"{event.event}{profit}"
    if isinstance(event, TransactionConfirmed):
        return f"{event.status} in slot {event.slot}"
    return "nothing yet" if event is None else repr(event)
