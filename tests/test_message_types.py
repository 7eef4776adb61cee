"""A type of message that is added, and a channel: their classes and their lines in the tables are all it takes.

Here they are added while the test runs; README, "Adding a message type", says where they go for good.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from operator import attrgetter
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import frozen

from allenhark_ws import Channel, DataEvent, InvalidMessage, _routes, recording
from allenhark_ws import _codec as codec
from allenhark_ws.recording._table import COLUMNS, row

from .fakes import START, off_the_wire
from .patience import PATIENCE
from .scripted import Scripted

MESSAGE = {"type": "pool_opened", "pool": "p", "slot": 7, "liquidity": 1.5, "timestamp": "2024-01-15T10:30:00Z", "x": 1}
OPENED_AT = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)


@frozen(weakref_slot=False)
class PoolOpened(DataEvent):
    """What goes into `events`."""

    pool: str
    slot: int
    liquidity: float | Decimal
    timestamp: datetime

    _declared: ClassVar[frozenset[str]] = frozenset({"type", "pool", "slot", "liquidity", "timestamp"})


@pytest.fixture(autouse=True)
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What goes into the codec, for as long as a test runs; and what the package draws from the two when imported."""
    with monkeypatch.context() as patch:
        patch.setitem(codec._DATA_EVENTS, "pool_opened", PoolOpened)
        patch.setitem(codec._WIRE_TYPES, PoolOpened, "pool_opened")
        patch.setattr("allenhark_ws._routes._CONCRETE", (*_routes._CONCRETE, PoolOpened))
        codec._structures.cache_clear()
        yield
    codec._structures.cache_clear()


@frozen(weakref_slot=False)
class Pool(Channel):
    """What goes into `channels`."""

    address: str


@pytest.fixture
def channel(monkeypatch: pytest.MonkeyPatch) -> Pool:
    """What goes into the codec and the routes."""
    monkeypatch.setitem(codec._CHANNEL_KEYS, Pool, ("pool", "poolAddress", "address"))
    monkeypatch.setitem(_routes.CHANNELS, Pool, (PoolOpened, attrgetter("address")))
    monkeypatch.setitem(_routes._KEYS, PoolOpened, attrgetter("pool"))
    return Pool("p")


def test_it_is_decoded() -> None:
    """Strictly, with its raw frame and whatever came besides."""
    event = off_the_wire(MESSAGE)
    assert event == PoolOpened("p", 7, 1.5, OPENED_AT)
    assert isinstance(event, PoolOpened)
    assert (event.extra, event.received_at, event.raw) == ({"x": 1}, START.wall, json.dumps(MESSAGE).encode())
    exact = codec.Codec(decimal=True).decode(json.dumps(MESSAGE).encode(), START.wall)
    assert isinstance(exact, PoolOpened)
    assert isinstance(exact.liquidity, Decimal)


def test_what_does_not_fit_is_told() -> None:
    """Field by field."""
    event = off_the_wire({**MESSAGE, "slot": "7"})
    assert isinstance(event, InvalidMessage)
    assert event.reason == "pool_opened.slot: expected a whole number, got a string"


def test_it_is_delivered_counted_recorded_and_shown(tmp_path: Path) -> None:
    """To those who ask for its class or for data, once each; a table of a recording has it too."""
    called: list[PoolOpened] = []
    with Scripted() as s, s.client.record(tmp_path / "day.jsonl"):
        own, data = s.client.stream(PoolOpened), s.client.stream()
        s.client.on(PoolOpened, called.append)
        s.ready()
        s.wire.push(MESSAGE)
        event = own.get(timeout=PATIENCE)
        assert (own.qsize(), data.get(timeout=PATIENCE), data.qsize()) == (0, event, 0)
        assert s.client.stats.received_by_type["pool_opened"] == 1
        assert "liquidity" in event._repr_html_()
        s.client.close()
    assert called == [event]
    recording.convert(tmp_path / "day.jsonl", tmp_path / "day.csv")
    (line,) = csv.DictReader((tmp_path / "day.csv").read_text(encoding="utf-8").splitlines())
    assert (line["event_type"], line["slot"], json.loads(line["data"])) == (
        "PoolOpened",
        "7",
        {"pool": "p", "liquidity": 1.5},
    )


def test_a_field_without_a_column_that_json_has_no_word_for() -> None:
    """It is there as text, with every digit."""
    values = dict(zip(COLUMNS, row(PoolOpened("p", 7, Decimal("1.10"), OPENED_AT)), strict=True))
    assert values["data"] == '{"pool": "p", "liquidity": "1.10"}'
    assert (values["event_type"], values["slot"], values["timestamp"]) == ("PoolOpened", 7, OPENED_AT)


def test_a_channel_is_subscribed_and_brings_its_events(channel: Pool) -> None:
    """To those who asked for it, and no other's; the last one is remembered, and the end is told to the server."""
    called: list[object] = []
    with Scripted(inline_callbacks=True) as s:
        stream = s.client.stream(channel)
        handle = s.client.subscribe(channel, callback=called.append)
        s.ready()
        assert s.wire.sent[-1] == {"type": "subscribe", "channel": "pool", "poolAddress": "p"}
        s.wire.push({**MESSAGE, "pool": "another"}, MESSAGE)
        event = stream.get(timeout=PATIENCE)
        assert isinstance(event, PoolOpened)
        assert (event.pool, stream.qsize(), s.client.latest(channel)) == ("p", 0, event)
        s.settle()
        handle.close()
        stream.close()
        s.settle()
        assert s.wire.sent[-1] == {"type": "unsubscribe", "channel": "pool", "poolAddress": "p"}
    assert called == [event]
