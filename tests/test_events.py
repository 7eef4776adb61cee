"""Events: frozen values whose identity is their documented fields, with the frame hanging on them."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from attrs import evolve, fields
from attrs.exceptions import FrozenInstanceError

from allenhark_ws import events
from allenhark_ws._frozen import FrozenMapping
from allenhark_ws.channels import Bot, Channel, Price, Transactions
from allenhark_ws.errors import ClientClosed, ConnectionLost
from allenhark_ws.events import (
    BotUpdate,
    CallbackError,
    Closed,
    Connected,
    DataEvent,
    Disconnected,
    Event,
    EventsDropped,
    Gap,
    InvalidMessage,
    LifecycleEvent,
    Pong,
    PriceUpdate,
    Reconnecting,
    ServerError,
    ServerEvent,
    SlowCallback,
    TradeExecuted,
    TransactionConfirmed,
    UnknownMessage,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
LATER = NOW + timedelta(seconds=7)
LOST = ConnectionLost("reset by the peer")


def a_callback(event: Event) -> None:
    """Something that can be pickled by name."""


TRADE = TradeExecuted("sig", 0.15, NOW, undeclared={"side": "buy", "legs": [{"n": 1}]})
WIRE: list[Any] = [
    PriceUpdate("M", 1.5, Decimal("2.5"), NOW),
    BotUpdate("B", "trade_executed", TRADE),
    BotUpdate("B", "paused", {"why": ["x", {"y": 1}]}),
    TransactionConfirmed("sig", "confirmed", 5),
    TransactionConfirmed("sig", "confirmed", 5, channel=Transactions("W")),
    Pong(),
    Pong(NOW),
    ServerError("no such bot"),
    ServerError("no such bot", 404),
    UnknownMessage("welcome"),
    InvalidMessage("not JSON"),
]
LIFECYCLE: list[Any] = [
    Connected(1, 0.02),
    Disconnected(1006, "", LOST, None),
    Reconnecting(2, 0.5, LOST),
    Gap(NOW, LATER, 7.0, frozenset({Price("M")}), LOST),
    EventsDropped(3, "stream-1"),
    SlowCallback(a_callback, 1.5),
    CallbackError(a_callback, Pong(NOW), ValueError("oops")),
    Closed(),
    Closed(ClientClosed()),
]
ALL = WIRE + LIFECYCLE
TWINS = [copy.copy, copy.deepcopy, lambda event: pickle.loads(pickle.dumps(event))]


def name_of(event: object) -> str:
    """The name of an event's class."""
    return type(event).__name__


def ids(cases: list[Any]) -> list[str]:
    """Ids of test cases, apart even for several events of a class."""
    return [f"{name_of(event)}-{number}" for number, event in enumerate(cases)]


def facts(event: Any) -> dict[str, str]:
    """All attributes as text, since an exception equals nothing but itself."""
    return {a.name: repr(getattr(event, a.name)) for a in fields(type(event))}


def test_every_event_is_tested_here() -> None:
    """A new event needs a case above; each stands in its branch."""
    bases = {"Event", "DataEvent", "ServerEvent", "LifecycleEvent"}
    assert {name_of(event) for event in ALL} | {"TradeExecuted"} | bases == set(events.__all__)
    for branch, cases in ((LifecycleEvent, LIFECYCLE), ((DataEvent, ServerEvent), WIRE)):
        assert all(isinstance(event, branch) and isinstance(event, Event) for event in cases)
    assert {name_of(event) for event in WIRE if isinstance(event, DataEvent)} == {
        "PriceUpdate",
        "BotUpdate",
        "TransactionConfirmed",
    }
    assert not any(isinstance(event, ServerEvent) for event in LIFECYCLE)


@pytest.mark.parametrize("event", [*ALL, TRADE], ids=ids([*ALL, TRADE]))
def test_events_are_frozen_and_slotted(event: Any) -> None:
    """No attribute can be set, added or deleted."""
    for attribute in fields(type(event)):
        with pytest.raises(FrozenInstanceError):
            setattr(event, attribute.name, None)
        with pytest.raises(FrozenInstanceError):
            delattr(event, attribute.name)
    with pytest.raises((FrozenInstanceError, AttributeError)):
        event.other = 1
    assert not hasattr(event, "__dict__")


@pytest.mark.parametrize("event", [*ALL, TRADE], ids=ids([*ALL, TRADE]))
def test_equality_and_hash_are_by_the_documented_fields(event: Any) -> None:
    """Equal fields, equal events and hashes; any other documented field makes another event."""
    twin = evolve(event)
    assert twin == event
    assert hash(twin) == hash(event)
    for attribute in fields(type(event)):
        if attribute.eq and attribute.name != "data":
            assert evolve(event, **{attribute.alias: "something else"}) != event, attribute.name


@pytest.mark.parametrize("event", WIRE, ids=ids(WIRE))
def test_what_came_with_an_event_is_no_part_of_its_identity(event: Any) -> None:
    """Frame, receive time and the wallet guessed for a transaction neither compare nor show; by hand they are None."""
    assert event.raw is None
    assert event.received_at is None
    assert dict(event.extra) == {}
    with_frame = evolve(event, raw=b'{"x":1}', received_at=NOW)
    assert with_frame == event
    assert hash(with_frame) == hash(event)
    assert repr(with_frame) == repr(event)


def test_the_channel_of_a_transaction_does_not_compare() -> None:
    """It is not in the documented message."""
    assert WIRE[3] == WIRE[4]
    assert hash(WIRE[3]) == hash(WIRE[4])
    assert (WIRE[3].channel, WIRE[4].channel) == (None, Transactions("W"))


@pytest.mark.parametrize("twin", TWINS, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("event", WIRE, ids=ids(WIRE))
def test_copies_of_wire_events_are_whole(event: Any, twin: Any) -> None:
    """Frame, receive time, channel and undeclared keys come along."""
    event = evolve(event, raw=b'{"type":"t","more":[1]}', received_at=NOW)
    again = twin(event)
    assert again == event
    assert type(again) is type(event)
    assert (again.raw, again.received_at, again.channel) == (event.raw, NOW, event.channel)
    assert again.extra == event.extra
    assert dict(getattr(getattr(again, "data", None), "extra", {})) == dict(
        getattr(getattr(event, "data", None), "extra", {})
    )


@pytest.mark.parametrize("twin", TWINS, ids=["copy", "deepcopy", "pickle"])
@pytest.mark.parametrize("event", LIFECYCLE, ids=ids(LIFECYCLE))
def test_copies_of_lifecycle_events_are_whole(event: Any, twin: Any) -> None:
    """Causes and callbacks included."""
    again = twin(event)
    assert type(again) is type(event)
    assert facts(again) == facts(event)


@pytest.mark.parametrize(
    ("event", "channel"),
    [
        (PriceUpdate("M", 1.0, 1.0, NOW), Price("M")),
        (PriceUpdate(" ", 1.0, 1.0, NOW), None),
        (BotUpdate("B", "e", {}), Bot("B")),
        (BotUpdate("", "e", {}), None),
        (Pong(), None),
        (UnknownMessage("t"), None),
        (InvalidMessage("r"), None),
        (ServerError("m"), None),
    ],
)
def test_channels(event: Any, channel: Channel | None) -> None:
    """The channel an event belongs to; an id that can name nothing makes none."""
    assert event.channel == channel


@pytest.mark.parametrize(
    ("message", "channel"),
    [
        ({"channel": "bot", "botId": "B"}, Bot("B")),
        ({"channel": "price", "mint": "M"}, Price("M")),
        ({"channel": "transactions", "wallet": "W"}, Transactions("W")),
        ({"wallet": "W"}, Transactions("W")),
        ({"channel": "price", "mint": "M", "botId": "B"}, Price("M")),
        ({"channel": "bot", "mint": "M"}, None),
        ({"channel": "odd", "mint": "M"}, None),
        ({"channel": ["bot"], "botId": "B"}, None),
        ({"mint": 5}, None),
        ({"mint": " "}, None),
        ({}, None),
    ],
)
def test_the_channel_an_error_names(message: dict[str, Any], channel: Channel | None) -> None:
    """An error names its channel as a subscribe message does, or by the id alone."""
    assert ServerError("m", raw=json.dumps({"type": "error", **message}).encode()).channel == channel


@pytest.mark.parametrize("raw", [b"", b"[1]", b"\xff", b'"text"'])
def test_extra_of_a_frame_that_is_no_object_is_empty(raw: bytes) -> None:
    """An `InvalidMessage` has whatever frame came."""
    event = InvalidMessage("not JSON", raw=raw)
    assert dict(event.extra) == {}
    assert ServerError("m", raw=raw).channel is None


@pytest.mark.parametrize(
    ("event", "left"),
    [
        (PriceUpdate("M", 1.0, 1.0, NOW), {"botId", "event", "data", "signature", "status", "slot", "message", "code"}),
        (
            BotUpdate("B", "e", {}),
            {"mint", "price", "volume", "timestamp", "signature", "status", "slot", "message", "code"},
        ),
        (
            TransactionConfirmed("s", "c", 1),
            {"mint", "price", "volume", "timestamp", "botId", "event", "data", "message", "code"},
        ),
    ],
    ids=["price", "bot", "transaction"],
)
def test_extra_has_the_undeclared_keys(event: Any, left: set[str]) -> None:
    """What is documented for a type is no extra of it; what is read-only cannot be set."""
    keys = ["type", "mint", "price", "volume", "timestamp", "botId", "event", "data"]
    keys += ["signature", "status", "slot", "message", "code"]
    event = evolve(event, raw=json.dumps(dict.fromkeys(keys, 1)).encode())
    assert set(event.extra) == left
    assert isinstance(event.extra, MappingProxyType)


def test_extra_of_server_events() -> None:
    """Of an unknown message everything but its type, of an invalid one everything."""
    raw = b'{"type":"t","timestamp":1,"message":"m","code":2,"error":3}'
    assert set(UnknownMessage("t", raw=raw).extra) == {"timestamp", "message", "code", "error"}
    assert set(Pong(raw=raw).extra) == {"message", "code", "error"}
    assert set(ServerError("m", raw=raw).extra) == {"timestamp", "error"}
    assert set(InvalidMessage("r", raw=raw).extra) == {"type", "timestamp", "message", "code", "error"}


def test_the_extra_of_a_trade_is_a_copy() -> None:
    """Consumers share the event, so what one does to its extra does not show to another."""
    assert dict(TRADE.extra) == {"side": "buy", "legs": [{"n": 1}]}
    TRADE.extra["legs"].append(2)
    assert TRADE.extra["legs"] == [{"n": 1}]
    assert dict(TradeExecuted("s", 1.0, NOW).extra) == {}
    assert TradeExecuted("sig", 0.15, NOW) == TRADE


def test_the_data_of_a_bot_update() -> None:
    """A trade stays as it is, any mapping is frozen all the way down, anything else is refused."""
    assert BotUpdate("B", "trade_executed", TRADE).data is TRADE
    data = BotUpdate("B", "paused", {"why": ["x", {"y": 1}]}).data
    assert isinstance(data, FrozenMapping)
    assert data == {"why": ["x", {"y": 1}]}
    wrong: Any = ["x"]
    with pytest.raises(TypeError, match=r"BotUpdate\(data=…\) takes a TradeExecuted or a mapping, got list"):
        BotUpdate("B", "paused", wrong)
