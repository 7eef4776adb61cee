"""Events as a pandas table: the same columns and dtypes whatever the events, nothing lost, nothing rounded."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

pd = pytest.importorskip("pandas", reason="needs the extra notebook")

from allenhark_ws import (
    BotUpdate,
    CallbackError,
    ClientClosed,
    Closed,
    Event,
    Gap,
    Pong,
    Price,
    PriceUpdate,
    ServerError,
    StreamClosed,
    TradeExecuted,
    TransactionConfirmed,
    Transactions,
    UnknownMessage,
    to_dataframe,
)
from allenhark_ws.errors import ConnectionLost, SlowConsumer

from .scripted import Scripted, price

WHEN = datetime(2024, 1, 15, 10, 30, 0, 123456, tzinfo=timezone.utc)
LATER = WHEN + timedelta(milliseconds=5)
DTYPES = {
    "event_type": "string",
    "mint": "string",
    "price": "float64",
    "volume": "float64",
    "bot_id": "string",
    "event": "string",
    "data": "object",
    "signature": "string",
    "profit": "float64",
    "wallet": "string",
    "status": "string",
    "slot": "Int64",
    "received_at": "datetime64[us, UTC]",
    "other": "object",
}
EXACT = {**DTYPES, "price": "object", "volume": "object", "profit": "object"}

TRADE = BotUpdate("bot-a", "trade_executed", TradeExecuted("sig-b", -0.5, WHEN), received_at=LATER)
CONFIRMED = TransactionConfirmed("sig-c", "confirmed", 250_000_000, channel=Transactions("w"), received_at=LATER)
GAP = Gap(WHEN, LATER, 1.5, frozenset({Price("m")}), ConnectionLost("reset"))
MIXTURE = [PriceUpdate("mint-a", 1.5, 2.0, WHEN, received_at=LATER), TRADE, CONFIRMED, GAP]


def dtypes(frame: Any) -> dict[str, str]:
    """The columns in order, and their dtypes."""
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


def row(event: Event, **options: Any) -> dict[str, Any]:
    """The one row of an event, its index too, without what is missing."""
    frame = to_dataframe([event], **options)
    values = {"timestamp": frame.index[0], **frame.iloc[0]}
    return {name: value for name, value in values.items() if isinstance(value, dict) or not pd.isna(value)}


@pytest.mark.parametrize(
    "events", [[], MIXTURE, [GAP], [CONFIRMED], iter(MIXTURE)], ids=["none", "mixture", "gap", "one", "iterator"]
)
def test_columns_and_dtypes_are_always_the_same(events: Any) -> None:
    """Those that the docstring promises, with a UTC index."""
    frame = to_dataframe(events)
    assert dtypes(frame) == DTYPES
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert (str(frame.index.dtype), frame.index.name) == ("datetime64[us, UTC]", "timestamp")


def test_rows() -> None:
    """One for each event, in order."""
    frame = to_dataframe(MIXTURE)
    assert list(frame["event_type"]) == ["PriceUpdate", "BotUpdate", "TransactionConfirmed", "Gap"]
    assert frame["price"].sum() == 1.5
    assert frame["slot"].sum() == 250_000_000
    joined = pd.concat([frame, to_dataframe(MIXTURE)])
    assert dtypes(joined) == DTYPES
    assert len(joined) == 8


def test_price() -> None:
    """Its fields, by the server's time."""
    expected = {"event_type": "PriceUpdate", "mint": "mint-a", "price": 1.5, "volume": 2.0, "received_at": LATER}
    assert row(MIXTURE[0]) == {"timestamp": WHEN, **expected}


def test_bots() -> None:
    """A trade's fields are columns, its time is the trade's; any other data is kept whole."""
    told = {"event_type": "BotUpdate", "bot_id": "bot-a"}
    trade = {"event": "trade_executed", "signature": "sig-b", "profit": -0.5}
    assert row(TRADE) == {"timestamp": WHEN, "received_at": LATER, **told, **trade}
    other = BotUpdate("bot-a", "paused", {"why": {"reason": "night"}})
    assert row(other) == {**told, "event": "paused", "data": other.data}


def test_transaction() -> None:
    """It has no time of its own: when it was received counts; the wallet when it is known."""
    expected = {"event_type": "TransactionConfirmed", "signature": "sig-c", "status": "confirmed", "slot": 250_000_000}
    assert row(CONFIRMED) == {"timestamp": LATER, "received_at": LATER, "wallet": "w", **expected}
    assert row(TransactionConfirmed("sig-c", "confirmed", 250_000_000)) == expected


@pytest.mark.parametrize("slot", [2**63, -(2**63) - 1, 10**30])
def test_a_slot_that_no_column_holds(slot: int) -> None:
    """It is kept beside; the others keep every digit."""
    assert row(TransactionConfirmed("s", "c", slot))["other"] == {"slot": slot}
    frame = to_dataframe([TransactionConfirmed("s", "c", number) for number in (2**62 + 1, slot, 2**63 - 1)])
    assert [*frame["slot"].dropna()] == [2**62 + 1, 2**63 - 1]
    assert dtypes(frame) == DTYPES


def test_other_kinds() -> None:
    """Server and lifecycle events have no column: their fields are in a dict, their time is in the index."""
    assert row(Pong(WHEN)) == {"event_type": "Pong", "timestamp": WHEN}
    assert row(Pong(None, received_at=LATER)) == {"event_type": "Pong", "timestamp": LATER, "received_at": LATER}
    assert row(UnknownMessage("odd"))["other"] == {"type": "odd"}
    assert row(ServerError("no", 5))["other"] == {"message": "no", "code": 5}
    assert row(Closed(None)) == {"event_type": "Closed", "other": {"error": None}}
    assert row(GAP)["other"].keys() == {"started_at", "ended_at", "duration", "channels", "cause"}
    error = CallbackError(print, TRADE, ValueError())  # whose `event` is no text, as the column is
    assert row(error)["other"] == {"callback": print, "event": TRADE, "error": error.error}


def test_times() -> None:
    """Every moment Python knows, in whatever zone; without one it is UTC, as on the wire."""
    east = timezone(timedelta(hours=9))
    moments = [datetime.min, datetime.max, WHEN, WHEN.astimezone(east), WHEN.replace(tzinfo=None)]  # noqa: DTZ901
    index: Any = to_dataframe([PriceUpdate("m", 1.0, 1.0, moment) for moment in moments]).index
    assert [*index.year] == [1, 9999, 2024, 2024, 2024]
    assert [*index.hour[2:]] == [10, 10, 10]
    assert [*index.microsecond[1:]] == [999999, 123456, 123456, 123456]


def test_text_that_is_no_unicode() -> None:
    """JSON can spell half a surrogate pair; it must not cost the table."""
    assert row(PriceUpdate("\ud800", 1.0, 1.0, WHEN))["mint"] == "\ud800"


# --- Exact numbers


def test_decimals_stay_exact() -> None:
    """They are objects as soon as there is one, every digit kept; a float among them is told by its shortest text."""
    exact = Decimal("0.12345678901234567890")
    frame = to_dataframe([PriceUpdate("m", exact, Decimal(2), WHEN), PriceUpdate("m", 0.1, 1.0, WHEN), CONFIRMED])
    assert dtypes(frame) == EXACT
    assert [*frame["price"]] == [exact, Decimal("0.1"), None]
    assert [*frame["profit"]] == [None, None, None]
    assert frame["price"].dropna().sum() == exact + Decimal("0.1")


def test_decimals_or_floats_by_choice() -> None:
    """So that the dtypes need not depend on the events, none at all included."""
    assert dtypes(to_dataframe([], decimal=True)) == EXACT
    assert dtypes(to_dataframe(MIXTURE, decimal=True)) == EXACT
    frame = to_dataframe([PriceUpdate("m", Decimal("1.5"), Decimal(2), WHEN)], decimal=False)
    assert dtypes(frame) == DTYPES
    assert [*frame["price"]] == [1.5]


# --- Wrong arguments


@pytest.mark.parametrize("wrong", [None, 5, MIXTURE[0]], ids=["None", "number", "event"])
def test_what_is_no_iterable(wrong: Any) -> None:
    """It is told at once what to pass."""
    with pytest.raises(TypeError, match=rf"iterable of events, got {type(wrong).__name__}: pass a list"):
        to_dataframe(wrong)


@pytest.mark.parametrize("wrong", ["text", [MIXTURE[0], 5], [Event]])
def test_what_is_no_event(wrong: Any) -> None:
    """It is told by its type."""
    with pytest.raises(TypeError, match=r"takes events, got (str|int|type) among them"):
        to_dataframe(wrong)


# --- Streams


def test_a_stream_gives_what_is_queued() -> None:
    """And no more; an empty one gives an empty table."""
    with Scripted().ready() as scripted:
        stream = scripted.client.stream(Price("m"))
        scripted.wire.push(*[price("m", number) for number in (1.0, 2.0, 3.0)])
        scripted.settle()
        frame = stream.to_dataframe()
        assert [*frame["price"]] == [1.0, 2.0, 3.0]
        assert stream.empty()
        assert dtypes(stream.to_dataframe()) == DTYPES


def test_an_exact_client_has_exact_columns() -> None:
    """Before anything came, too."""
    with Scripted(decimal=True).ready() as scripted:
        stream = scripted.client.stream(Price("m"))
        assert dtypes(stream.to_dataframe()) == EXACT
        scripted.wire.push(price("m", 1.5))
        scripted.settle()
        assert [*stream.to_dataframe()["price"]] == [Decimal("1.5")]


def test_a_stream_at_its_end() -> None:
    """What is left, then empty tables; a stream that failed raises once it is drained, as in iteration."""
    with Scripted().ready() as scripted:
        stream = scripted.client.stream(Price("m"))
        failing = scripted.client.stream(Price("m"), maxsize=1, overflow="error")
        scripted.wire.push(price("m"), price("m"))
        scripted.settle()
        scripted.client.close()
        assert len(stream.to_dataframe()) == 2
        assert len(stream.to_dataframe()) == 0
        with pytest.raises(StreamClosed):
            stream.get()
        assert len(failing.to_dataframe()) == 1
        with pytest.raises(SlowConsumer):
            failing.to_dataframe()


def test_a_forked_child_is_told() -> None:
    """As by any other verb."""
    with Scripted().ready() as scripted:
        stream = scripted.client.stream(Price("m"))
        scripted.client._loop.forked = True
        try:
            with pytest.raises(ClientClosed):
                stream.to_dataframe()
        finally:
            scripted.client._loop.forked = False


def test_a_stream_is_read_to_its_end_as_any_iterable() -> None:
    """`to_dataframe(stream)` is for streams that end."""
    with Scripted().ready() as scripted:
        stream = scripted.client.stream(Price("m"))
        scripted.wire.push(price("m"), price("m"))
        scripted.settle()
        stream.close()
        assert len(to_dataframe(stream)) == 2


# --- Without pandas


def test_without_pandas_it_says_what_to_install() -> None:
    """In one line, and nothing is taken from the stream."""
    code = """
import sys
sys.modules["pandas"] = None
from allenhark_ws import Client, Price, to_dataframe
stream = Client("k").stream()
stream._events.put([1])
for call in (lambda: to_dataframe([]), stream.to_dataframe):
    try:
        call()
    except ImportError as error:
        print(type(error).__name__, error.name, error.__cause__, error, sep="|")
print(stream.qsize())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    line = 'ImportError|pandas|None|to_dataframe() needs pandas: pip install "allenhark-ws[notebook]"'
    assert done.stdout.splitlines() == [line, line, "1"], done.stderr


def test_pandas_is_loaded_when_it_is_needed() -> None:
    """Importing the name costs none of it."""
    code = "import sys; from allenhark_ws import to_dataframe; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr
