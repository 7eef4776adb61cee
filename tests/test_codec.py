"""The codec: what goes out, what comes in, and that every engine and number mode agrees on it."""

from __future__ import annotations

import copy
import json
import math
import pickle
import sys
import traceback
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from subprocess import run
from types import FrameType
from typing import Any

import pytest
from attrs import fields
from attrs.exceptions import FrozenInstanceError
from hypothesis import given, settings
from hypothesis import strategies as st

from allenhark_ws import events
from allenhark_ws._codec import Codec, encode_auth, encode_ping, encode_subscribe, encode_unsubscribe, wire_type
from allenhark_ws._frozen import FrozenMapping
from allenhark_ws._lanes import Moments, Names
from allenhark_ws._strict import Misfit, moment
from allenhark_ws.channels import Bot, Channel, Price, Transactions
from allenhark_ws.config import Secret
from allenhark_ws.events import (
    BotUpdate,
    DataEvent,
    Event,
    InvalidMessage,
    Pong,
    PriceUpdate,
    ServerError,
    ServerEvent,
    TradeExecuted,
    TransactionConfirmed,
    UnknownMessage,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
GOLDEN = [
    json.loads(line) for line in (Path(__file__).parent / "golden" / "frames.jsonl").read_text("utf-8").splitlines()
]
CODECS = {
    "plain": Codec(engine="plain"),
    "stdlib": Codec(engine="stdlib"),
    "auto": Codec(),
    "decimal": Codec(decimal=True),
}
if find_spec("msgspec"):
    CODECS["msgspec"] = Codec(engine="msgspec")
FLOAT_CODECS = [name for name in CODECS if name != "decimal"]


def plain(value: Any) -> Any:
    """A value of an event as the golden file spells it, number types kept apart."""
    if isinstance(value, datetime):
        assert value.tzinfo is timezone.utc
        return value.isoformat()
    if isinstance(value, (FrozenMapping, dict)):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return {"Decimal": str(value)}
    if isinstance(value, float) and math.isinf(value):
        return {"inf": 1}
    return {"TradeExecuted": plain_fields(value)} if isinstance(value, TradeExecuted) else value


def plain_fields(value: Any) -> dict[str, Any]:
    """The documented fields of an event, as the golden file spells them."""
    return {a.name: plain(getattr(value, a.name)) for a in fields(type(value)) if a.eq}


def plain_channel(channel: Channel | None) -> list[str] | None:
    """A channel as the golden file spells it."""
    return None if channel is None else [type(channel).__name__, getattr(channel, fields(type(channel))[0].name)]


def everything(event: Any) -> str:
    """All that an event tells, as text: a 1 differs from a 1.0 here, a 0.0 from a -0.0."""
    trade_extra = dict(event.data.extra) if isinstance(getattr(event, "data", None), TradeExecuted) else None
    return repr((event, event.raw, event.received_at, event.channel, dict(event.extra), trade_extra, wire_type(event)))


# Golden files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("line", GOLDEN, ids=[line["name"] for line in GOLDEN])
def test_golden(line: dict[str, Any], codec: str) -> None:
    """Each frame of the golden file becomes the event beside it, by every engine and in both number modes."""
    raw = line["raw"].encode()
    event = CODECS[codec].decode(raw, NOW)
    wanted = line.get("decimal", line["fields"]) if codec == "decimal" else line["fields"]
    assert type(event).__name__ == line["event"]
    assert json.dumps(plain_fields(event)) == json.dumps(wanted)
    assert plain_channel(event.channel) == line["channel"]
    assert json.dumps(plain(dict(event.extra)), sort_keys=True) == json.dumps(line["extra"], sort_keys=True)
    assert wire_type(event) == line["wire_type"]
    assert event.raw is raw
    assert event.received_at is NOW
    if "data_extra" in line:
        assert isinstance(event, BotUpdate)
        assert plain(dict(event.data.extra)) == line["data_extra"]


def test_golden_covers_every_event() -> None:
    """No kind of event off the wire is missing from the golden file."""
    known = [getattr(events, name) for name in events.__all__]
    kinds = {cls.__name__ for branch in (DataEvent, ServerEvent) for cls in known if branch in cls.__bases__}
    assert {line["event"] for line in GOLDEN} == kinds


def test_events_of_both_engines_are_equal_and_hash_alike() -> None:
    """An event does not tell by which engine it was decoded."""
    for line in GOLDEN:
        decoded = [CODECS[name].decode(line["raw"].encode(), NOW) for name in FLOAT_CODECS]
        assert all(event == decoded[0] for event in decoded)
        assert len({hash(event) for event in decoded}) == 1


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", ["a", "bot", "bot_updates", "c", "price_updat", "q", "transaction", "z", "BOT_UPDATE"])
def test_a_type_is_known_by_its_whole_name(kind: str, codec: str) -> None:
    """One that only sorts beside a documented one is unknown, though every documented key is there."""
    raw = _object_text([("type", json.dumps(kind)), *FITTING.items()]).encode()
    assert CODECS[codec].decode(raw, NOW) == UnknownMessage(kind)


# Hostile bytes --------------------------------------------------------------------------------------------------------

HOSTILE = [
    b"\xff",
    b'{"type":"pong","x":"\xff"}',
    b'{"type":"pong","x":"\xed\xa0\x80"}',
    b"\x00",
    b'{"type":"\x01"}',
    b"[" * 150,
    b"[" * 100_000,
    b"[" * 900 + b"]" * 900,
    b'{"type":"price_update","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"type":"bot_update","botId":"b","event":"e","data":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_001,
    b'{"type":"bot_update","botId":"b","event":"e","data":' + b'{"a":' * 700 + b"1" + b"}" * 701,
    b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"type":"price_update"}',
    b'{"type":"transaction_confirmed","signature":"s","status":"c","slot":' + b"9" * 10_000 + b"}",
    b'{"type":"transaction_confirmed","signature":"s","status":"c","slot":1}' + b" " * 500 + b"x",
]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_bytes_are_one_invalid_message(number: int, codec: str) -> None:
    """Bad UTF-8, control characters, endless nesting, endless digits: an event with a reason, never an exception."""
    event = CODECS[codec].decode(HOSTILE[number], NOW)
    assert isinstance(event, InvalidMessage)
    assert event.reason
    assert len(event.reason) < 100
    assert event.raw is HOSTILE[number]
    assert set(event.extra) <= {"type", "botId", "event", "data"}


@pytest.mark.parametrize("payload", [bytearray(b'{"type":"pong"}'), type("BinaryMessage", (bytes,), {})(b"\x00\xff")])
def test_a_binary_frame_is_an_invalid_message(payload: Any) -> None:
    """Anything but exactly `bytes` means a binary frame, which the protocol has not; its bytes are kept."""
    event = CODECS["auto"].decode(payload, NOW)
    assert event == InvalidMessage("binary frame: expected a text frame with a JSON object")
    assert type(event.raw) is bytes
    assert event.raw == payload


def test_reasons_never_quote_the_frame() -> None:
    """A reason is logged and shown; what the server sent stays in `.raw`."""
    for line in GOLDEN:
        marked = line["raw"].replace("2024-01-15", "s3cret-key").replace("EPjF", "s3cret-key").encode()
        event = CODECS["auto"].decode(marked, NOW)
        assert not (isinstance(event, InvalidMessage) and "s3cret-key" in event.reason)


def nested(depth: int, opening: bytes = b'{"a":', closing: bytes = b"}", inmost: bytes = b"1") -> bytes:
    """A bot update that is nested that deep, itself and its data included."""
    inside = depth - 2
    start = b'{"type":"bot_update","botId":"b","event":"e","data":{"x":'
    return start + opening * inside + inmost + closing * inside + b"}}"


@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
@pytest.mark.parametrize("depth", [10, 50, 51, 99, 100])
def test_deep_but_readable_data_are_the_same_by_every_engine(depth: int, opening: bytes, closing: bytes) -> None:
    """Up to the depth allowed an event can be copied, pickled and hashed like any other, whoever read it."""
    decoded = [CODECS[name].decode(nested(depth, opening, closing), NOW) for name in FLOAT_CODECS]
    assert all(isinstance(event, BotUpdate) for event in decoded)
    assert len({everything(event) for event in decoded}) == 1
    for event in decoded:
        assert copy.deepcopy(event) == event
        assert hash(pickle.loads(pickle.dumps(event))) == hash(event)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("inmost", [b"1", b"[]", b"{}"])
@pytest.mark.parametrize(("opening", "closing"), [(b'{"a":', b"}"), (b"[", b"]")])
def test_data_nested_too_deeply(opening: bytes, closing: bytes, inmost: bytes, codec: str) -> None:
    """One level more and it is no message, on every interpreter and whatever the stack: its user could not copy it."""
    depth = 101 if inmost == b"1" else 100
    for deeper in (0, 1, 50, 100, 200):
        event = CODECS[codec].decode(nested(depth + deeper, opening, closing, inmost), NOW)
        assert event == InvalidMessage("nested too deeply")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("kind", ["price_update", "bot_update", "transaction_confirmed"])
def test_keys_nobody_documented_are_checked_too(kind: str, codec: str) -> None:
    """A message that fits otherwise is none when such a key is nested too deeply, or is no JSON."""
    pairs = {"type": json.dumps(kind), **FITTING}
    fits = _object_text([*pairs.items(), ("more", "[" * 99 + "]" * 99)]).encode()
    assert isinstance(CODECS[codec].decode(fits, NOW), DataEvent)
    for value in ("[" * 100 + "]" * 100, "[" * 500 + "]" * 500, "NaN", "01", '"\\x"', "9" * 5_000):
        raw = _object_text([*pairs.items(), ("more", value)]).encode()
        assert isinstance(CODECS[codec].decode(raw, NOW), InvalidMessage)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", ["", "stopped", "trade_execute", "trade_executed ", "z"])
def test_only_an_executed_trade_is_one(name: str, codec: str) -> None:
    """Whatever the data of another event look like."""
    raw = b'{"type":"bot_update","botId":"B","event":"%b","data":%b}' % (name.encode(), FITTING["data"].encode())
    event = CODECS[codec].decode(raw, NOW)
    assert isinstance(event, BotUpdate)
    assert type(event.data) is FrozenMapping


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("key", ["signature", "profit", "timestamp"])
@pytest.mark.parametrize("value", ["null", "true", "[]", "{}", "1", '"1"', ""])
def test_a_trade_that_does_not_fit_is_none(value: str, key: str, codec: str) -> None:
    """One value of another type, or none at all, and the data stay as they came."""
    values = {**FITTING, "profit": "1.5", key: value}
    data = _object_text([(name, values[name]) for name in ("signature", "profit", "timestamp") if values[name]])
    raw = b'{"type":"bot_update","botId":"B","event":"trade_executed","data":%b}' % data.encode()
    event = CODECS[codec].decode(raw, NOW)
    assert isinstance(event, BotUpdate)
    fits = (key, value) in {("signature", '"1"'), ("profit", "1")}
    assert type(event.data) is (TradeExecuted if fits else FrozenMapping)
    assert fits or event.data == json.loads(data, parse_float=Decimal if codec == "decimal" else float)


def test_many_brackets_are_not_deep() -> None:
    """Only nesting counts: thousands of brackets side by side are read, in both number modes."""
    raw = nested(2, inmost=b"[" + b"[[]]," * 5_000 + b'{"a":{}}]')
    assert all(isinstance(codec.decode(raw, NOW), BotUpdate) for codec in CODECS.values())
    scalar = b'"' + b"[" * 500 + b'"'
    assert CODECS["auto"].decode(scalar, NOW) == InvalidMessage("expected a JSON object, got a string")


@pytest.mark.parametrize("depth", [95, 100])
def test_the_extra_of_a_deep_trade_can_be_read(depth: int) -> None:
    """A trade hands its undeclared keys out as copies, whatever the server put in there."""
    inside = depth - 2
    data = b'"signature":"S","profit":1,"timestamp":"2024-01-15T10:30:00Z","x":' + b"[" * inside + b"]" * inside
    raw = b'{"type":"bot_update","botId":"b","event":"trade_executed","data":{' + data + b"}}"
    event = CODECS["auto"].decode(raw, NOW)
    assert isinstance(event, BotUpdate)
    assert json.dumps(dict(event.data.extra)["x"]) == "[" * inside + "]" * inside


ATOMS = [
    *("0", "-0", "-0.0", "1", "1.0", "1e2", "1E400", "-1e999", "1e-400", "0.1", "2.5e-324", "9007199254740993"),
    *("9" * 19, "9" * 30, "9" * 400, "18446744073709551615", "18446744073709551616", "-9223372036854775809", "01"),
    *("1e9999999999999999999", "1.7976931348623157e308", "1.7976931348623159e308", "NaN", "-Infinity", "true", "null"),
    *('"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"x"', '""', '" "', '"\\x"', '"trade_executed"', '"é"', "[]", "{}"),
    *('"2024-01-15T10:30:00Z"', '"2024-01-15T10:30:00.123456789+05:30"', '"0001-01-01T00:00:00+01:00"', "[[[[1]]]]"),
]
KEYS = ["mint", "price", "volume", "timestamp", "botId", "event", "data", "signature", "profit", "status", "slot"]
ODD_KEYS = ["type", "wallet", "message", "error", "code", "reason", "channel", "raw", "received_at", "undeclared", ""]
TYPES = ["price_update", "bot_update", "transaction_confirmed", "pong", "error", "welcome"]


def _object_text(pairs: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in pairs) + "}"


def _objects(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(st.sampled_from(KEYS + ODD_KEYS), values), max_size=8).map(_object_text)


NUMBERS = st.one_of(st.floats(allow_nan=False, allow_infinity=False).map(repr), st.integers().map(str))
VALUES = st.recursive(
    st.one_of(st.sampled_from(ATOMS), NUMBERS, st.text(max_size=5).map(json.dumps)),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]"), _objects(inner)),
    max_leaves=6,
)
FITTING = {
    "mint": '"M"',
    "price": "1.5",
    "volume": "7",
    "timestamp": '"2024-01-15T10:30:00Z"',
    "botId": '"B"',
    "event": '"trade_executed"',
    "data": '{"signature":"S","profit":1.5,"timestamp":"2024-01-15T10:30:00Z"}',
    "signature": '"S"',
    "status": '"confirmed"',
    "slot": "5",
}


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message that fits, with some keys replaced, doubled or added."""
    pairs = [("type", json.dumps(draw(st.sampled_from(TYPES)))), *FITTING.items()]
    pairs += draw(st.lists(st.tuples(st.sampled_from(KEYS + ODD_KEYS), VALUES), max_size=3))
    return _object_text(pairs).encode()


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.one_of(messages(), VALUES.map(str.encode), st.binary(max_size=60)))
def test_every_engine_gives_the_same_event(payload: bytes) -> None:
    """Whatever the bytes: no exception, and not the least difference between the engines."""
    assert len({everything(CODECS[name].decode(payload, NOW, Transactions("W"))) for name in FLOAT_CODECS}) == 1


@settings(max_examples=300, deadline=None, derandomize=True)
@given(messages())
def test_both_number_modes_accept_the_same_messages(payload: bytes) -> None:
    """`decimal=True` changes the type of numbers, not which messages are valid."""
    one, other = CODECS["stdlib"].decode(payload, NOW), CODECS["decimal"].decode(payload, NOW)
    assert type(one) is type(other)
    assert (one.channel, one.raw, dict(one.extra)) == (other.channel, other.raw, dict(other.extra))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.datetimes(), st.integers(-1439, 1439), st.sampled_from(["%+03d:%02d", "%+03d%02d"]), st.sampled_from("Tt "))
def test_timestamps_with_offsets(moment: datetime, minutes: int, spelling: str, separator: str) -> None:
    """Any moment with any offset is read as the same moment in UTC, unless that lies outside `datetime`'s years."""
    hours, rest = divmod(abs(minutes), 60)
    offset = (spelling % (hours, rest)).replace("+", "-" if minutes < 0 else "+")
    raw = json.dumps({"type": "pong", "timestamp": moment.isoformat(separator) + offset}).encode()
    try:
        wanted = moment.replace(tzinfo=timezone.utc) - timedelta(minutes=minutes)
    except OverflowError:
        wanted = None
    assert CODECS["stdlib"].decode(raw, NOW) == Pong(wanted)


# Channels, redaction, wire types --------------------------------------------------------------------------------------


def test_a_transaction_without_wallet_belongs_to_the_only_one_subscribed() -> None:
    """`wallet` is the channel of a confirmation that names none; a named one comes first."""
    raw = b'{"type":"transaction_confirmed","signature":"s","status":"c","slot":1%b}'
    for name in FLOAT_CODECS:
        assert CODECS[name].decode(raw % b"", NOW, Transactions("W")).channel == Transactions("W")
        assert CODECS[name].decode(raw % b"", NOW).channel is None
        assert CODECS[name].decode(raw % b',"wallet":"V"', NOW, Transactions("W")).channel == Transactions("V")
        assert CODECS[name].decode(raw % b',"wallet":" "', NOW, Transactions("W")).channel == Transactions("W")


@pytest.mark.parametrize("engine", FLOAT_CODECS)
@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        (b'{"type":"error","message":"key K3Y is bad","code":"K3Y"}', ServerError("key *** is bad", "***")),
        (b'{"type":"error","error":{"message":"K3Y","code":5}}', ServerError("***", 5)),
        (b'{"type":"K3Y says no"}', UnknownMessage("*** says no")),
    ],
)
def test_texts_of_the_server_are_redacted(engine: str, raw: bytes, wanted: Event) -> None:
    """A server that echoes the key does not get it into our texts; the frame itself stays as received."""
    event = Codec(engine=engine, redact=lambda text: text.replace("K3Y", "***")).decode(raw, NOW)
    assert event == wanted
    assert event.raw == raw


def test_wire_type_of_events_made_by_hand() -> None:
    """Counters are keyed by the type on the wire."""
    assert wire_type(PriceUpdate("m", 1.0, 1.0, NOW)) == "price_update"
    assert wire_type(BotUpdate("b", "e", {})) == "bot_update"
    assert wire_type(TransactionConfirmed("s", "c", 1)) == "transaction_confirmed"
    assert [wire_type(e) for e in (Pong(), ServerError(""), InvalidMessage("r"))] == ["pong", "error", "(invalid)"]
    assert wire_type(UnknownMessage("welcome")) == "welcome"


# Engines and imports --------------------------------------------------------------------------------------------------


def test_no_such_engine() -> None:
    """A wrong name is told what there is."""
    with pytest.raises(ValueError, match='pass "auto", "msgspec", "stdlib" or "plain"'):
        Codec(engine="simplejson")


def test_without_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` does without the extra; asking for it by name says that it is missing."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    monkeypatch.delitem(sys.modules, "allenhark_ws._structs", raising=False)
    assert Codec().decode(b'{"type":"pong"}', NOW) == Pong()
    with pytest.raises(ImportError, match="msgspec"):
        Codec(engine="msgspec")


def test_importing_the_codec_loads_neither_cattrs_nor_an_engine() -> None:
    """They take long to import, and are needed only once a client is made."""
    code = "import sys, allenhark_ws._codec; print({'cattrs', 'msgspec'} & set(sys.modules))"
    shown = run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60).stdout
    assert shown.strip() == "set()"


# Out ------------------------------------------------------------------------------------------------------------------


def test_auth_and_ping() -> None:
    """Exactly the documented keys, compact; every character of a key arrives."""
    assert encode_auth(Secret("k")) == b'{"type":"auth","apiKey":"k"}'
    assert encode_ping() == b'{"type":"ping"}'
    assert json.loads(encode_auth(Secret('q"\\ü€😀'))) == {"type": "auth", "apiKey": 'q"\\ü€😀'}


@pytest.mark.parametrize(
    ("channel", "keys"),
    [
        (Bot("bot_abc123"), {"channel": "bot", "botId": "bot_abc123"}),
        (Price('m"\\\n'), {"channel": "price", "mint": 'm"\\\n'}),
        (Transactions("\ud800é"), {"channel": "transactions", "wallet": "\ud800é"}),
    ],
)
def test_requests(channel: Channel, keys: dict[str, str]) -> None:
    """Subscribe and unsubscribe carry exactly the documented keys, in the page's order, whatever the id."""
    for encode, kind in ((encode_subscribe, "subscribe"), (encode_unsubscribe, "unsubscribe")):
        text = encode(channel).decode("ascii")
        assert text == json.dumps({"type": kind, **keys}, separators=(",", ":"))


def test_only_channels_can_be_requested() -> None:
    """The base class names nothing the server knows."""
    with pytest.raises(TypeError, match="pass Bot, Price or Transactions"):
        encode_subscribe(Channel())


def test_auth_of_a_callable_leaves_no_key_behind() -> None:
    """A secret that was not asked for its key fails, and no frame on the way holds one."""
    secret = Secret(lambda: "s3cret-key")
    with pytest.raises(TypeError, match="current") as caught:
        encode_auth(secret)
    frames = list(traceback.walk_tb(caught.value.__traceback__))[1:]
    assert frames
    assert not [name for frame, _ in frames for name, value in frame.f_locals.items() if "s3cret-key" in repr(value)]


def test_auth_shows_the_key_to_no_frame() -> None:
    """Whatever exception might pass while the key is encoded, no frame of Python has it in a local variable."""
    seen: list[tuple[str, str]] = []

    def note(frame: FrameType, _event: str, _argument: object) -> None:
        if frame.f_code.co_filename != __file__:
            seen.append((frame.f_code.co_name, repr(frame.f_locals)))

    secret = Secret("s3cret-key")
    sys.setprofile(note)
    try:
        message = encode_auth(secret)
    finally:
        sys.setprofile(None)
    assert b"s3cret-key" in message
    assert {"encode_auth", "reveal"} <= {name for name, _ in seen}
    assert not [name for name, shown in seen if "s3cret-key" in shown]


def test_every_field_that_does_not_fit_is_named() -> None:
    """One look at the reason shows all that the server sends otherwise."""
    raw = b'{"type":"price_update","mint":"m","price":"1","volume":null}'
    assert CODECS["auto"].decode(raw, NOW) == InvalidMessage(
        "price_update.price: expected a number, got a string; price_update.volume: expected a number, got null; "
        "price_update.timestamp: expected an ISO 8601 date and time, got nothing"
    )


class _OnlyFast(Codec):
    """A codec without the plain way."""

    def _decode_plainly(self, *_arguments: object) -> Any:
        raise AssertionError("no fast lane took it")


@pytest.mark.parametrize("engine", ["stdlib", "auto"])
@pytest.mark.parametrize(
    "raw",
    [
        b'{"type":"price_update","mint":"M","price":1.5,"volume":7,"timestamp":"2024-01-15T10:30:00Z"}',
        (
            b'{"type":"bot_update","botId":"B","event":"trade_executed","data":'
            b'{"signature":"S","profit":12345678901234567890,"timestamp":"2024-01-15T10:30:00Z"}}'
        ),
        (
            b'{"type":"bot_update","botId":"B","event":"trade_executed","data":'
            b'{"signature":"S","profit":1,"timestamp":"2024-01-15T10:30:00Z","more":1}}'
        ),
        b'{"type":"bot_update","botId":"B","event":"stopped","data":{"a":[1,{"b":2.5}]}}',
        b'{"type":"bot_update","botId":"B","event":"stopped","data":{"a":[%b{}]}}' % (b"{}," * 90),
        b'{"type":"transaction_confirmed","signature":"S","status":"confirmed","slot":250123456}',
        b'{"type":"transaction_confirmed","signature":"S","status":"confirmed","slot":250123456,"wallet":"W"}',
    ],
)
def test_data_take_a_fast_lane(raw: bytes, engine: str) -> None:
    """Documented messages, with further keys too, never go the plain way: it costs five times as much."""
    assert isinstance(_OnlyFast(engine=engine).decode(raw, NOW), DataEvent)


def test_the_lane_on_msgspec_asks_nobody_about_documented_messages() -> None:
    """Each kind, with its documented keys and no others; anything else is for the lane beside it."""
    pytest.importorskip("msgspec", reason="needs the extra speed")
    lane = import_module("allenhark_ws._structs").msgspec_lane(lambda *_: None)
    keys = {
        PriceUpdate: ("price_update", "mint", "price", "volume", "timestamp"),
        BotUpdate: ("bot_update", "botId", "event", "data"),
        TransactionConfirmed: ("transaction_confirmed", "signature", "status", "slot"),
    }
    for cls, (kind, *documented) in keys.items():
        pairs = [("type", json.dumps(kind)), *((key, FITTING[key]) for key in documented)]
        assert type(lane.make(_object_text(pairs).encode(), NOW, None)) is cls
        assert lane.make(_object_text([*pairs, ("more", "1")]).encode(), NOW, None) is None


@given(st.data())
def test_timestamps_mean_the_same_to_msgspec(data: st.DataObject) -> None:
    """The usual spellings and what is like them: the same moment, or refused alike."""
    structs = pytest.importorskip("allenhark_ws._structs", reason="needs the extra speed")
    usual = st.sampled_from(["2024-01-15T10:30:00Z", "2024-01-15T10:30:00.123Z", "2024-02-29T23:59:59.999999Z"])
    characters = list(data.draw(usual))
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(characters) - 1))
        characters[place] = data.draw(st.sampled_from("0123456789TtZz -:.,+Wé٣\0"))
    text = "".join(characters)
    found = []
    for read in (moment, structs._moment):
        try:
            found.append(read(text, None))
        except Misfit as error:
            found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "raw",
    [
        b'{%b"type":"price_update","mint":"M","price":1.5,"volume":7,"timestamp":"2024-01-15T10:30:00Z"}',
        (
            b'{%b"type":"bot_update","botId":"B","event":"trade_executed","data":'
            b'{"signature":"S","profit":1,"timestamp":"2024-01-15T10:30:00Z"}}'
        ),
        (
            b'{"type":"bot_update","botId":"B","event":"trade_executed","data":'
            b'{%b"signature":"S","profit":1,"timestamp":"2024-01-15T10:30:00Z"}}'
        ),
        b'{%b"type":"transaction_confirmed","signature":"S","status":"confirmed","slot":5}',
    ],
    ids=["price", "bot", "trade", "transaction"],
)
def test_keys_nobody_documented_may_come_first(raw: bytes, codec: str) -> None:
    """They are kept, and what is no JSON makes no message of it."""
    event: Any = CODECS[codec].decode(raw % b'"more":5,', NOW)
    kept = event.data.extra if isinstance(event, BotUpdate) and not event.extra else event.extra
    assert kept == {"more": 5}
    assert isinstance(CODECS[codec].decode(raw % b'"more":"\xff",', NOW), InvalidMessage)


def test_timestamps_are_remembered_up_to_a_length_and_a_number() -> None:
    """All that a server writes in earnest are read once; one too many, and it begins anew."""
    asked: list[str] = []

    def read(text: str, _type: object) -> datetime:
        asked.append(text)
        return NOW

    moments = Moments(read)
    shortest, longest = "2024-01-15", "2024-01-15T10:30:00.123456789+00:00"
    for text in (shortest, longest, longest + "0"):
        assert moments[text] is moments[text] is NOW
    assert asked == [shortest, longest, longest + "0", longest + "0"]
    for number in range(1022):
        assert moments[str(number)] is NOW
    assert len(moments) == 1024
    assert moments["one more"] is NOW
    assert list(moments) == ["one more"]


def test_texts_are_kept_up_to_a_length_and_a_number() -> None:
    """Whatever the server sends to fill the memory; one too many, and it begins anew."""
    names = Names()
    for text in ("m", "m" * 64, "m" * 65):
        assert names[text] is text
    assert list(names) == ["m", "m" * 64]
    for number in range(16_382):
        assert names[f"hostile-{number}"]
    assert len(names) == 16_384
    assert names["one more"] == "one more"
    assert list(names) == ["one more"]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("number", ["1e999", "-1e999", "1.7976931348623159e308", "-1.7976931348623159e308"])
def test_no_number_is_infinite(number: str, codec: str) -> None:
    """What no float can hold makes no price update, and no trade."""
    for key in ("price", "volume"):
        raw = _object_text([("type", '"price_update"'), *{**FITTING, key: number}.items()]).encode()
        assert isinstance(CODECS[codec].decode(raw, NOW), InvalidMessage)
    data = FITTING["data"].replace("1.5", number)
    raw = _object_text([("type", '"bot_update"'), *{**FITTING, "data": data}.items()]).encode()
    event = CODECS[codec].decode(raw, NOW)
    assert isinstance(event, BotUpdate)
    assert type(event.data) is FrozenMapping


@pytest.mark.parametrize("number", ["1e-9999999999999999999", "0e9999999999999999999"])
def test_a_number_too_small_for_a_decimal_is_zero(number: str) -> None:
    """As it is for a float: both number modes take the message, and every lane gives the same."""
    raw = _object_text([("type", '"price_update"'), *{**FITTING, "price": number}.items()]).encode()
    codecs = [*CODECS.values(), Codec(engine="plain", decimal=True)]
    shown = [repr(getattr(codec.decode(raw, NOW), "price", None)) for codec in codecs]
    assert set(shown[:-1]) == {"0.0", "Decimal('0')"}
    assert shown[-1] == "Decimal('0')"
    assert shown[list(CODECS).index("decimal")] == "Decimal('0')"


@pytest.mark.parametrize("decimal", [False, True])
def test_a_timestamp_may_come_again(decimal: bool) -> None:
    """Timestamps are remembered, but not for ever, and hostile long ones not at all; all are read alike."""
    codec, plain = Codec(decimal=decimal), Codec(engine="plain", decimal=decimal)
    texts = [f"2024-01-15T10:{n // 60 % 60:02}:{n % 60:02}.{n:06}Z" for n in range(2000)]
    texts += [texts[0], texts[-1], texts[-1][:-1] + "0" * 100 + "Z", "2024-01-15T10:00", "2024-02-30T10:00:00Z"]
    for text in texts:
        raw = b'{"type":"price_update","mint":"M","price":1,"volume":7,"timestamp":"%b"}' % text.encode()
        assert codec.decode(raw, NOW) == plain.decode(raw, NOW)


@given(
    st.builds(
        "{}-{}-{}{}{}:{}{}{}{}".format,
        st.sampled_from(["2024", "0001", "9999", "0000", "24", "+2024"]),
        st.sampled_from(["01", "12", "02", "13", "00", "1", "W03"]),
        st.sampled_from(["15", "29", "30", "31", "00", "1"]),
        st.sampled_from(["T", "t", " ", "", "_"]),
        st.sampled_from(["00", "10", "23", "24", "9"]),
        st.sampled_from(["00", "30", "59", "60", "5"]),
        st.sampled_from([":00", ":59", ":60", "", "00", ":0"]),
        st.from_regex(r"|[.,]\d{1,10}|[.]", fullmatch=True) | st.sampled_from([".9999995", ".999999", ".0000005"]),
        st.sampled_from(["Z", "z", "", "+00:00", "-00:00", "+0000", "+05:30", "-23:59", "+24:00", "+05", " Z"]),
    )
)
def test_every_engine_reads_a_timestamp_alike(text: str) -> None:
    """Whatever spelling is accepted has the same meaning everywhere: digits beyond microseconds are cut."""
    raw = json.dumps({"type": "price_update", "mint": "M", "price": 1, "volume": 7, "timestamp": text}).encode()
    events = [codec.decode(raw, NOW) for codec in CODECS.values()]
    assert {repr(getattr(event, "timestamp", event)) for event in events} == {
        repr(getattr(events[0], "timestamp", events[0]))
    }


@pytest.mark.parametrize("engine", ["stdlib", "auto"])
def test_what_a_fast_lane_makes_is_an_event_like_every_other(engine: str) -> None:
    """It is frozen, and its class is the public one."""
    raw = b'{"type":"price_update","mint":"M","price":1.5,"volume":7,"timestamp":"2024-01-15T10:30:00Z"}'
    event = Codec(engine=engine).decode(raw, NOW)
    assert type(event) is PriceUpdate
    with pytest.raises(FrozenInstanceError):
        event.mint = "N"  # type: ignore[misc]


@pytest.mark.parametrize("engine", ["stdlib", "auto"])
def test_large_messages_take_no_fast_lane(engine: str) -> None:
    """There the plain way looks first at how many values it would have to make."""
    codec = Codec(engine=engine)
    head = b'{"type":"price_update","price":1,"volume":7,"timestamp":"2024-01-15T10:30:00Z"'
    for size, fast in ((65_536, True), (65_537, False)):
        raw = head + b',"mint":"%b"}' % (b"a" * (size - len(head) - 11))
        assert len(raw) == size
        [(_, message)] = codec.lane.incoming([raw]).pairs
        assert [message is not None, codec.lane.make(raw, NOW, None) is not None] == [fast, fast]
        assert isinstance(codec.decode(raw, NOW), PriceUpdate)


def test_a_time_is_no_longer_than_a_time() -> None:
    """A hundred characters are enough; a million digits that end in a letter would take long to be refused."""
    for digits, wanted in ((80, datetime(2024, 1, 15, 10, 30, 0, 111111, timezone.utc)), (81, None)):
        raw = b'{"type":"pong","timestamp":"2024-01-15T10:30:00.%b"}' % (b"1" * digits)
        assert Codec().decode(raw, NOW) == Pong(wanted)


@pytest.mark.parametrize("engine", ["stdlib", "auto"])
def test_texts_that_come_again_are_kept_once(engine: str) -> None:
    """Mints, bot ids and states are shared by the events that name them; long ones, and too many, are not kept."""
    lane = Codec(engine=engine).lane

    def price(mint: str) -> PriceUpdate:
        raw = {"type": "price_update", "mint": mint, "price": 1, "volume": 7, "timestamp": "2024-01-15T10:30:00Z"}
        event = lane.make(json.dumps(raw).encode(), NOW, None)
        assert isinstance(event, PriceUpdate)
        assert event.mint == mint
        return event

    mint = "m" * 64
    assert price(mint).mint is price(mint).mint
    assert price(mint + "m").mint is not price(mint + "m").mint
    for number in range(16_384):
        price(f"hostile-{number}")
    assert price(mint).mint is price(mint).mint


@pytest.mark.parametrize(
    "number", ["1e-99999999999999999999", "1e99999999999999999999", "1e400", "1e-400", "-0", "-0.0"]
)
@pytest.mark.parametrize("decimal", [False, True])
def test_odd_numbers_mean_the_same_on_every_way(number: str, decimal: bool) -> None:
    """Numbers that a float or a Decimal cannot hold, or holds as nothing."""
    raw = (
        f'{{"type":"price_update","mint":"M","price":{number},"volume":7,"timestamp":"2024-01-15T10:30:00Z"}}'.encode()
    )
    shown = {repr(Codec(engine=e, decimal=decimal).decode(raw, NOW)) for e in ("plain", "stdlib", "auto")}
    assert len(shown) == 1


@pytest.mark.parametrize("tail", [b" ", b"\n", b" x", b"{}"])
def test_what_follows_a_message_is_looked_at(tail: bytes) -> None:
    """White space is nothing, anything else makes it no JSON, whatever reads it."""
    raw = b'{"type":"transaction_confirmed","signature":"S","status":"confirmed","slot":1}' + tail
    shown = {repr(Codec(engine=engine).decode(raw, NOW)) for engine in ("plain", "stdlib", "auto")}
    assert len(shown) == 1


@pytest.mark.parametrize("engine", ["plain", "stdlib", "auto"])
def test_a_binary_frame_is_no_message(engine: str) -> None:
    """Whatever it holds, and whatever reads it."""

    class Binary(bytes):
        __slots__ = ()

    raw = Binary(b'{"type":"transaction_confirmed","signature":"S","status":"confirmed","slot":1}')
    codec = Codec(engine=engine)
    assert codec.lane.make(raw, NOW, None) is None
    event = codec.decode(raw, NOW)
    assert isinstance(event, InvalidMessage)
    assert event.reason.startswith("binary frame")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [0, 1, 3, 12])
def test_a_payload_is_taken_with_its_message(count: int, codec: str) -> None:
    """One by one, and no more than there are, whatever reads them."""
    payloads = [b'{"type":"pong"}', b"{", *([GOLDEN[0]["raw"].encode()] * 10)][:count]
    incoming = CODECS[codec].lane.incoming(payloads)
    left = [(payload, len(incoming)) for payload, _ in incoming.pairs]
    assert left == [(payload, count - number) for number, payload in enumerate(payloads, 1)]
    assert len(incoming) == 0


def test_without_interchangeable_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On an interpreter that has no use for twins every event is made the plain way."""
    monkeypatch.setattr("allenhark_ws._codec.INTERCHANGEABLE", False)
    raw = b'{"type":"price_update","mint":"M","price":1.5,"volume":7,"timestamp":"2024-01-15T10:30:00Z"}'
    codec = Codec()
    assert codec.lane.make(raw, NOW, None) is None
    assert codec.decode(raw, NOW) == CODECS["plain"].decode(raw, NOW)


@pytest.mark.parametrize("options", [{"engine": "stdlib"}, {"decimal": True}, {"engine": "msgspec", "decimal": True}])
def test_codecs_that_do_without_msgspec(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who wants the standard library gets it, and so do decimals, which the lane on msgspec has not."""
    monkeypatch.delitem(sys.modules, "allenhark_ws._structs", raising=False)
    assert Codec(**options).decode(b'{"type":"pong"}', NOW) == Pong()
    assert "allenhark_ws._structs" not in sys.modules


def test_an_engine_is_known_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the string came to be: it may have been read from a file."""
    plain, stdlib, msgspec = (name.decode() for name in (b"plain", b"stdlib", b"msgspec"))
    raw = b'{"type":"transaction_confirmed","signature":"S","status":"confirmed","slot":1}'
    assert Codec(engine=plain).lane.make(raw, NOW, None) is None
    monkeypatch.delitem(sys.modules, "allenhark_ws._structs", raising=False)
    assert Codec(engine=stdlib).lane.make(raw, NOW, None) is not None
    assert "allenhark_ws._structs" not in sys.modules
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ImportError, match="msgspec"):
        Codec(engine=msgspec)


@pytest.mark.parametrize(
    "data",
    [
        b'{"signature":"S","profit":1,"timestamp":"2024-01-15T10:30:00Z","id":18446744073709551617}',
        b'{"signature":"S","profit":"odd","id":18446744073709551617}',
    ],
)
def test_long_integers_nobody_documented_are_exact(data: bytes) -> None:
    """An id of more than 64 bits beside a trade, or in place of one, is kept digit by digit by every engine."""
    raw = b'{"type":"bot_update","botId":"B","event":"trade_executed","data":%b}' % data
    for codec in CODECS.values():
        event = codec.decode(raw, NOW)
        assert isinstance(event, BotUpdate)
        kept = event.data.extra if isinstance(event.data, TradeExecuted) else event.data
        assert repr(kept["id"]) == "18446744073709551617"
