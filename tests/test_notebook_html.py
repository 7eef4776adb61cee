"""How things look in a notebook: what is shown, that a hostile text stays text, and that the key is not there."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest

import allenhark_ws
from allenhark_ws import (
    Bot,
    BotUpdate,
    CallbackError,
    Channel,
    Client,
    Closed,
    ConfigurationError,
    Connected,
    ConnectionLost,
    DataEvent,
    Disconnected,
    Event,
    EventsDropped,
    Gap,
    InvalidMessage,
    Pong,
    Price,
    PriceUpdate,
    Reconnecting,
    ServerError,
    SlowCallback,
    TradeExecuted,
    TransactionConfirmed,
    Transactions,
    UnknownMessage,
)
from allenhark_ws._html import text

from .scripted import Scripted, await_end, price

WHEN = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)
EVIL = "<script>alert('1')</script>\"><img src=x onerror=alert(2)>&amp;"
LOST = ConnectionLost(EVIL)


class Page(HTMLParser):
    """What a browser would make of some HTML.

    Attributes:
        text: all text, in order.
        tags: the names of the elements.
        names: the names of their attributes.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self._words: list[str] = []
        self.tags: list[str] = []
        self.names: set[str] = set()
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], "elements are left open"
        self.text = " ".join(self._words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append(tag)
        self.names.update(name for name, _ in attrs)
        if tag != "br":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.tags.append(tag)
        self.names.update(name for name, _ in attrs)

    def handle_endtag(self, tag: str) -> None:
        """It closes the one that was opened last."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note it."""
        self._words += data.split()


def page(value: Any) -> Page:
    """What a notebook shows of a value."""
    return Page(value._repr_html_())


HOSTILE = [
    PriceUpdate(EVIL, 1.5, 2.0, WHEN, received_at=WHEN),
    BotUpdate(EVIL, EVIL, {EVIL: EVIL, "nested": {EVIL: [EVIL]}}),
    BotUpdate("b", "trade_executed", TradeExecuted(EVIL, Decimal("1.50"), WHEN)),
    TradeExecuted(EVIL, 1.0, WHEN),
    TransactionConfirmed(EVIL, EVIL, 5, channel=Transactions(EVIL)),
    Pong(WHEN),
    ServerError(EVIL, EVIL),
    UnknownMessage(EVIL),
    InvalidMessage(EVIL),
    Connected(1, 0.25),
    Disconnected(1006, EVIL, LOST, None),
    Reconnecting(2, 0.5, LOST),
    Gap(WHEN, WHEN, 1.5, frozenset({Price(EVIL), Bot(EVIL)}), LOST),
    EventsDropped(3, EVIL),
    SlowCallback(print, 1.5),
    CallbackError(print, UnknownMessage(EVIL), ValueError(EVIL)),
    Closed(LOST),
]


def test_every_event_is_among_the_hostile_ones() -> None:
    """No kind is forgotten below."""
    public = [getattr(allenhark_ws, name) for name in allenhark_ws.__all__]
    kinds = {kind for kind in public if isinstance(kind, type) and issubclass(kind, Event)}
    branches = {base for kind in kinds for base in kind.__mro__[1:]}
    assert {type(value) for value in HOSTILE} - {TradeExecuted} == kinds - branches


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: f"{type(value).__name__}-{HOSTILE.index(value)}")
def test_a_hostile_text_stays_text(value: Any) -> None:
    """Nothing a server, or anybody, says becomes an element or an attribute; the class and every field are shown."""
    shown = page(value)
    assert set(shown.tags) <= {"div", "strong", "table", "tbody", "tr", "th", "td", "br"}
    assert shown.names <= {"style", "scope"}
    assert type(value).__name__ in shown.text
    if EVIL in repr(value):
        assert "<script>alert('1')</script>" in shown.text


def test_fields_and_values() -> None:
    """By name, in order; times to the millisecond; a trade's among those of its update."""
    shown = page(PriceUpdate("mint-a", 1.5, Decimal("2.50"), WHEN, received_at=WHEN)).text
    moment = "2024-01-15 10:30:00.000+00:00"
    told = f"PriceUpdate mint mint-a price 1.5 volume 2.50 timestamp {moment} received_at {moment}"
    assert shown == told
    trade = page(BotUpdate("b", "trade_executed", TradeExecuted("sig", 0.5, WHEN))).text
    assert "signature sig" in trade
    assert "profit 0.5" in trade
    assert "error —" in page(Closed(None)).text
    assert "callback print seconds" in page(SlowCallback(print, 1.5)).text
    assert "rtt 250.00 ms" in page(Connected(1, 0.25)).text


def test_what_is_long_is_cut() -> None:
    """A message of a megabyte makes no page of a megabyte; many keys no endless table."""
    assert text("x" * 300) == "x" * 300
    assert text("x" * 1_000_000) == "x" * 300 + "… (999,700 more characters)"
    shown = page(BotUpdate("b", "x", {f"key-{number}": "v" * 10**6 for number in range(1000)}))
    assert "and 992 more" in shown.text
    assert len(shown.text) < 10_000


def test_client() -> None:
    """State, URL, channels and counters; a thousand channels are told by a few."""
    with Scripted(url="ws://127.0.0.1:1/path?token=hidden").ready() as scripted:
        client = scripted.client
        client.subscribe(Price("mint-a"))
        assert "received 1 message, " in page(client).text
        scripted.wire.push(price("mint-a"), {"type": "odd"})
        scripted.settle()
        shown = page(client).text
        assert shown.startswith("Client ● READY url ws://127.0.0.1:1/path channels (1) Price(mint='mint-a') ")
        assert "received 3 messages, " in shown
        assert "1 unknown, 0 invalid" in shown
        assert "hidden" not in shown
        client.subscribe(*(Price(f"<b>{number}") for number in range(999)))
        many = page(client)
        assert "channels (1,000)" in many.text
        assert "and 992 more" in many.text
        assert "b" not in many.tags
    assert "● CLOSED" in page(client).text


def test_the_key_is_not_shown() -> None:
    """Not of a client that failed because of it, whatever the server said; nor in a client that was not made."""
    with Scripted(pong_timeout=1.0) as scripted:
        client = scripted.client
        scripted.server.pongs = False
        client.start()
        scripted.server.wait_for(lambda: scripted.server.wires and "auth" in scripted.server.kinds())
        scripted.wire.push({"type": "error", "message": "invalid API key test-key"})
        await_end(client)
        shown = page(client).text
        assert "error" in shown
        assert "test-key" not in shown
    unmade = Client.__new__(Client)
    with pytest.raises(ConfigurationError):
        unmade.__init__(api_key="test-key", url="ws://example.com")  # type: ignore[misc]
    assert unmade._repr_html_() is None


def test_stream() -> None:
    """What it takes, what is queued and lost, and what it does when full."""
    with Scripted().ready() as scripted:
        stream = scripted.client.stream(Price("<i>"), maxsize=2, overflow="drop_newest")
        scripted.wire.push(*[price("<i>")] * 5)
        scripted.settle()
        shown = page(stream)
        told = "Stream stream-1 kinds Price(mint='<i>') queued 2 of 2, 2 at most so far dropped 3 conflated 0 "
        assert shown.text == told + "overflow drop_newest"
        assert "i" not in shown.tags
        kinds: list[type[Event] | Channel] = [DataEvent, Gap, *(Price(str(number)) for number in range(8))]
        many = page(scripted.client.stream(*kinds)).text
        assert "kinds DataEvent Gap Price(mint='0')" in many
        assert "and 2 more" in many
        assert "kinds DataEvent queued" in page(scripted.client.stream()).text


def test_stats_and_subscription() -> None:
    """Every counter by its name; every channel."""
    with Scripted().ready() as scripted:
        shown = page(scripted.client.stats).text
        assert shown.startswith("Stats state READY connected_since 2026-01-02 03:04:05.000+00:00 attempts 0 ")
        assert "received_by_type pong: 1 " in shown
        subscription = scripted.client.subscribe(Price("a"), Bot("<b>"))
        told = page(subscription)
        words = "Subscription channels (2) Bot(bot_id='<b>') Price(mint='a')"
        assert told.text == words
        assert "b" not in told.tags


def test_it_is_loaded_when_it_is_asked_for() -> None:
    """And needs no extra: neither IPython nor pandas is loaded by showing anything."""
    code = (
        "import sys; from allenhark_ws import *; client = Client('k'); "
        "assert 'allenhark_ws._html' not in sys.modules; client._repr_html_(); Closed(None)._repr_html_(); "
        "print(*[name for name in ('IPython', 'pandas', 'allenhark_ws.notebook') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
