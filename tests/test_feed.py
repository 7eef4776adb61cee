"""The generated market, without a server: content by seed and channel, shapes, pace."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("websockets", reason="needs the extra testing")

from allenhark_ws.channels import Bot, Channel, Price, Transactions
from allenhark_ws.testing._feed import Feed

AT = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)
CHANNELS = (Price("mint"), Bot("bot"), Transactions("wallet"))


def take(feed: Feed, channel: Channel, count: int) -> list[dict[str, Any]]:
    """The channel's next messages."""
    return [feed.next_message(channel, AT) for _ in range(count)]


def ready_times(feed: Feed, channels: Iterable[Channel], seconds: int) -> dict[Channel, list[float]]:
    """When each channel was ready, asked a hundred times a second."""
    times: dict[Channel, list[float]] = {channel: [] for channel in channels}
    for tick in range(seconds * 100):
        for channel in feed.due(channels, tick / 100):
            times[channel].append(tick / 100)
    return times


@pytest.mark.parametrize("channel", CHANNELS)
def test_the_same_seed_says_the_same(channel: Channel) -> None:
    """Two feeds of one seed agree; one of another seed does not."""
    assert take(Feed(7), channel, 20) == take(Feed(7), channel, 20)
    assert take(Feed(7), channel, 20) != take(Feed(8), channel, 20)


def test_content_does_not_depend_on_company_or_pace() -> None:
    """What a channel says is untouched by other channels and by how often it was asked whether it is ready."""
    alone, together = Feed(1), Feed(1)
    ready_times(together, CHANNELS, 5)
    for channel in CHANNELS:
        take(together, channel, 3)
    expected = take(alone, CHANNELS[0], 10)
    assert take(together, CHANNELS[0], 7) == expected[3:]


def test_channels_differ() -> None:
    """Two mints, and a mint and a bot of the same name, have streams of their own."""
    feed = Feed(1)
    prices = [take(feed, Price(mint), 1)[0]["price"] for mint in ("a", "b")]
    assert prices[0] != prices[1]
    assert take(feed, Bot("a"), 1)[0]["data"]["signature"] != take(feed, Transactions("a"), 1)[0]["signature"]


def test_prices_walk() -> None:
    """Prices are positive and move by small fractions of themselves; the shape is the page's."""
    messages = take(Feed(3), Price("mint"), 500)
    assert all(message.keys() == {"type", "mint", "price", "volume", "timestamp"} for message in messages)
    assert messages[0] | {"price": 0, "volume": 0} == {
        "type": "price_update",
        "mint": "mint",
        "price": 0,
        "volume": 0,
        "timestamp": "2024-01-15T10:30:00.000Z",
    }
    steps = [after["price"] / before["price"] for before, after in pairwise(messages)]
    assert all(0.97 < step < 1.03 for step in steps)
    assert min(steps) < 1 < max(steps)
    assert all(message["volume"] > 0 for message in messages)


def test_trades_win_and_lose() -> None:
    """Bots execute trades with profits of both signs and signatures that look like Solana's."""
    messages = take(Feed(3), Bot("bot"), 100)
    profits = [message["data"]["profit"] for message in messages]
    assert min(profits) < 0 < max(profits)
    signatures = {message["data"]["signature"] for message in messages}
    assert len(signatures) == 100
    assert all(len(signature) == 88 and not set(signature) & set("0OIl+/") for signature in signatures)
    assert all((message["botId"], message["event"]) == ("bot", "trade_executed") for message in messages)
    assert messages[0]["data"]["timestamp"] == "2024-01-15T10:30:00.000Z"


def test_slots_grow() -> None:
    """Every confirmation of a wallet lies in a later slot, and has just the documented keys."""
    messages = take(Feed(3), Transactions("wallet"), 100)
    slots = [message["slot"] for message in messages]
    assert slots == sorted(set(slots))
    assert all(message.keys() == {"type", "signature", "status", "slot"} for message in messages)
    assert {message["status"] for message in messages} == {"confirmed"}


def test_pace_is_a_few_messages_per_second() -> None:
    """Each channel is ready between once and ten times a second on average, and never at the first look."""
    for times in ready_times(Feed(5), CHANNELS, 60).values():
        assert times[0] > 0
        assert 60 <= len(times) <= 600


def test_a_late_look_makes_no_burst() -> None:
    """After an hour without a look a channel is ready once, then pauses again."""
    feed = Feed(5)
    assert feed.due(CHANNELS, 0.0) == []
    assert feed.due(CHANNELS, 3600.0) == list(CHANNELS)
    assert feed.due(CHANNELS, 3600.0) == []


def test_a_channel_that_returns_pauses_first() -> None:
    """Unsubscribed and subscribed again, a channel is not ready at once but after a fresh pause."""
    feed = Feed(5)
    feed.due(CHANNELS, 0.0)
    feed.due((), 1.0)
    assert feed.due(CHANNELS, 10.0) == []
    assert feed.due(CHANNELS, 20.0) == list(CHANNELS)
