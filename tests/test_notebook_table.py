"""The live table: what it remembers from look to look, what it shows, and that nobody's text becomes markup."""

from __future__ import annotations

import math
import re
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import attrs
import pytest

from allenhark_ws import (
    Bot,
    BotUpdate,
    Channel,
    Client,
    DataEvent,
    Price,
    PriceUpdate,
    State,
    Stats,
    TradeExecuted,
    TransactionConfirmed,
    Transactions,
)
from allenhark_ws.notebook._sparkline import sparkline
from allenhark_ws.notebook._table import LiveTable

from .test_notebook_html import EVIL, Page

WHEN = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)
SOL = Price("So11111111111111111111111111111111111111112")


def stats(**changes: Any) -> Stats:
    """The counters of a client, but for the changes."""
    return attrs.evolve(Client("key").stats, **changes)


def update(price: float | Decimal, mint: str = SOL.mint) -> PriceUpdate:
    """A price."""
    return PriceUpdate(mint, price, 1234.5, WHEN)


def looked(*prices: float | Decimal) -> LiveTable:
    """A table that saw these prices of one mint, a look each, half a second apart."""
    table = LiveTable()
    for number, price in enumerate(prices):
        table.look(number / 2, stats(messages_received=10 * number), {SOL: update(price)})
    return table


def points(html: str) -> list[tuple[float, float]]:
    """The corners of the trends in some HTML."""
    pairs = " ".join(re.findall(r'points="([^"]*)"', html)).split()
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in pairs)]


def test_price_change_and_trend() -> None:
    """The price now, its change since the first look, and a line through what was seen."""
    html = looked(100.0, 98.0, 102.5).as_html()
    shown = Page(html)
    assert "So11…1112 102.5 ▲ +2.50% 1,234.5" in shown.text
    assert f'title="{SOL!r}"'.replace("'", "&#x27;") in html
    xs, ys = zip(*points(html), strict=True)
    assert list(xs) == sorted(xs)
    assert ys[2] < ys[0] < ys[1]  # downwards, as SVG counts
    assert "▼ -2.00%" in Page(looked(100.0, 98.0).as_html()).text
    assert "0.00 %" in Page(looked(100.0).as_html()).text


def test_counters() -> None:
    """State, messages and their rate, round trip, gaps and drops."""
    table = LiveTable()
    table.look(10.0, stats(messages_received=1_000), {})
    assert table.rate == 0.0
    table.look(12.0, stats(state=State.BACKOFF, messages_received=1_500, rtt_last=0.0015, reconnects=2, dropped=3), {})
    shown = Page(table.as_html()).text
    assert shown.startswith("● BACKOFF received 1,500 rate 250.0/s rtt 1.50 ms gaps 2 dropped 3 ")
    assert "nothing is subscribed yet" in shown


def test_the_rate_is_of_late() -> None:
    """What came long ago does not count, nor does a clock that stood still."""
    table = LiveTable()
    table.look(0.0, stats(messages_received=0), {})
    table.look(0.0, stats(messages_received=5), {})
    assert table.rate == 0.0
    for second in range(1, 30):
        table.look(second, stats(messages_received=1_000_000 + second), {})
    assert table.rate == 1.0


def test_memory_is_bounded() -> None:
    """A trend goes back so far and no further; a channel that is dropped is forgotten, trend and all."""
    table = looked(*range(1, 1001))
    assert len(points(table.as_html())) == 120
    assert "▲ +99,900.00%" in Page(table.as_html()).text
    table.look(600.0, stats(), {})
    assert table._trends == {}
    table.look(601.0, stats(), {SOL: update(500.0)})
    assert "0.00 %" in Page(table.as_html()).text


def test_a_thousand_channels() -> None:
    """Fifty are shown, prices first, in an order that stays; the rest is told."""
    channels: list[Channel] = [Bot("a"), *(Price(f"mint-{number:04}") for number in range(999))]
    table = LiveTable()
    table.look(0.0, stats(), dict.fromkeys(channels))
    html = table.as_html()
    shown = Page(html)
    assert shown.tags.count("tr") == 51
    assert "mint-0000 nothing yet mint-0001" in shown.text
    assert shown.text.endswith("mint-0049 nothing yet and 950 more channels")
    table.look(0.5, stats(), dict.fromkeys(reversed(channels)))
    assert table.as_html() == html


def test_bots_and_wallets() -> None:
    """Their last event in a line."""
    events: dict[Channel, DataEvent | None] = {
        Bot("bot_a"): BotUpdate("bot_a", "trade_executed", TradeExecuted("s", -0.25, WHEN)),
        Bot("bot_b"): BotUpdate("bot_b", "paused", {}),
        Transactions("9WzDXwBbmkg8ZTbN"): TransactionConfirmed("s", "confirmed", 5),
        Transactions("w"): None,
    }
    table = LiveTable()
    table.look(0.0, stats(), events)
    shown = Page(table.as_html()).text
    assert "bot_a trade_executed -0.25 bot_b paused 9WzD…ZTbN confirmed in slot 5 w nothing yet" in shown


def test_hostile_texts_stay_texts() -> None:
    """Of channels and of events alike; not in an attribute either."""
    events: dict[Channel, DataEvent | None] = {
        Price(EVIL): update(1.0, EVIL),
        Bot(EVIL): BotUpdate(EVIL, EVIL, {}),
        Transactions(EVIL): TransactionConfirmed(EVIL, EVIL, 5),
    }
    table = LiveTable()
    table.look(0.0, stats(), events)
    shown = Page(table.as_html(EVIL))
    known = {"div", "span", "b", "table", "thead", "tbody", "tr", "th", "td", "svg", "polyline", "circle"}
    assert set(shown.tags) <= known
    assert not {name for name in shown.names if name.startswith("on") or name in ("href", "src")}
    assert shown.text.count("<script>alert('1')</script>") == 3


@pytest.mark.parametrize(
    "prices",
    [
        (0.0, 1.0),
        (1e-308, 1e308),
        (-1e308, 1e308),
        (Decimal("1e-400"), Decimal("1e400")),
        (math.inf, math.nan),
        (1.0, math.nan),
        (-5.0, 5.0),
    ],
)
def test_absurd_prices(prices: tuple[float, ...]) -> None:
    """A server may say any number: there is a table all the same, its trend within its frame."""
    html = looked(*prices).as_html()
    shown = Page(html).text
    assert "So11…1112" in shown
    assert not re.search(r"(inf|nan)%", shown)
    assert all(0 <= x <= 120 and 0 <= y <= 22 for x, y in points(html))


def test_exact_prices() -> None:
    """A `Decimal` is shown as a float is."""
    assert "151.25 ▲ +0.83%" in Page(looked(Decimal("150.00"), Decimal("151.25")).as_html()).text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], []),
        ([math.nan], []),
        ([5.0], [(3.0, 11.0)]),
        ([5.0, 5.0], [(3.0, 11.0), (9.0, 11.0)]),
        ([1.0, math.inf, 2.0], [(3.0, 19.0), (9.0, 3.0)]),
    ],
)
def test_sparkline(values: list[float], expected: list[tuple[float, float]]) -> None:
    """From the left, the lowest value at the bottom; numbers that are none are left out."""
    assert points(sparkline(values, "red")) == expected


def test_a_full_sparkline() -> None:
    """Twenty values or more fill the width."""
    for count in (20, 21, 120):
        xs = [x for x, _ in points(sparkline(map(float, range(count)), "red"))]
        assert (xs[0], xs[-1], len(xs)) == (3.0, 117.0, count)


def test_as_text() -> None:
    """For what shows no HTML: the same figures, a line each."""
    table = looked(100.0, 102.0)
    table.look(1.0, stats(), {SOL: update(103.0), Bot("b"): None})
    first, price, bot, note = table.as_text("stopped").splitlines()
    assert first.startswith("IDLE  received 0  rate ")
    assert price.split() == ["So11…1112", "103", "▲", "+3.00%"]
    assert bot.split() == ["b", "nothing", "yet"]
    assert note == "stopped"
    assert LiveTable().as_text() == ""
    assert Page(LiveTable().as_html()).text.startswith("nothing is subscribed")
