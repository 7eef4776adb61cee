"""A type of message that is added, and a channel: their classes and their lines in the tables are all it takes.

Where these go, README says ("Adding a message type"); the last test follows it in a copy of the package, the others add
them while they run.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from inspect import getsource
from operator import attrgetter
from pathlib import Path
from typing import ClassVar

import pytest
from attrs import frozen

from allenhark_ws import Channel, DataEvent, InvalidMessage, _routes, _spelling, recording
from allenhark_ws import _codec as codec
from allenhark_ws.notebook._table import LiveTable
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
    monkeypatch.setitem(_spelling.SPELLINGS, Pool, _spelling.Spelling("pool", "poolId", "address"))
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


EDITS = (
    ("events.py", "        return _channel(Price, self.mint)\n", f"\n\n{getsource(PoolOpened)}"),
    ("_codec.py", "    Pong,\n", "    PoolOpened,\n"),
    ("_codec.py", '    "price_update": PriceUpdate,\n', '    "pool_opened": PoolOpened,\n'),
    ("channels.py", "        def _event(self) -> BotUpdate: ...\n", f"\n\n{getsource(Pool)}"),
    ("_spelling.py", "import Bot, Channel,", " Pool,"),
    (
        "_spelling.py",
        '    Bot: Spelling("bot", "botId", "bot_id"),\n',
        '    Pool: Spelling("pool", "poolId", "address"),\n',
    ),
    ("_routes.py", "import Bot, Channel,", " Pool,"),
    ("_routes.py", "DataEvent, Event,", " PoolOpened,"),
    ("_routes.py", '    Bot: (BotUpdate, attrgetter("bot_id")),\n', '    Pool: (PoolOpened, attrgetter("address")),\n'),
    ("_routes.py", "    BotUpdate: _bot,\n", '    PoolOpened: attrgetter("pool"),\n'),
)
"""What README says of a message type and of a channel: the file, what it has, and what is put behind that."""

PROGRAM = f"""
import allenhark_ws
from allenhark_ws.channels import Pool
from allenhark_ws.events import PoolOpened
from tests.scripted import Scripted

print(allenhark_ws.__path__[0])
with Scripted() as s:
    own, every = s.client.stream(Pool("p")), s.client.stream(PoolOpened)
    s.ready()
    s.wire.push({{**{MESSAGE}, "pool": "q"}}, {MESSAGE})
    print([each.get(timeout={PATIENCE}).pool for each in (own, every, every)], s.client.latest(Pool("p")).slot)
    print(s.wire.sent[-1])
"""


def test_what_readme_says_is_all_it_takes(tmp_path: Path) -> None:
    """In a copy of the package; to the consumers of the channel and of the class."""
    copied = tmp_path / "allenhark_ws"
    shutil.copytree(Path(codec.__file__).parent, copied, ignore=shutil.ignore_patterns("__pycache__"))
    for name, before, added in EDITS:
        text = (copied / name).read_text(encoding="utf-8")
        assert text.count(before) == 1, (name, before)
        (copied / name).write_text(text.replace(before, before + added), encoding="utf-8")
    request = {"type": "subscribe", "channel": "pool", "poolId": "p"}
    assert _run(PROGRAM, tmp_path).splitlines() == [str(copied), "['p', 'q', 'p'] 7", str(request)]


def _run(program: str, folder: Path) -> str:
    """What a program says that finds its modules in a folder first."""
    tests = {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | tests, capture_output=True, timeout=PATIENCE, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_a_channel_is_subscribed_and_brings_its_events(channel: Pool) -> None:
    """To those who asked for it, and no other's; the last one is remembered and shown, the end told to the server."""
    called: list[object] = []
    with Scripted(inline_callbacks=True) as s:
        stream = s.client.stream(channel)
        handle = s.client.subscribe(channel, callback=called.append)
        s.ready()
        assert s.wire.sent[-1] == {"type": "subscribe", "channel": "pool", "poolId": "p"}
        s.wire.push({**MESSAGE, "pool": "another"}, MESSAGE)
        event = stream.get(timeout=PATIENCE)
        assert isinstance(event, PoolOpened)
        assert (event.pool, stream.qsize(), s.client.latest(channel)) == ("p", 0, event)
        s.settle()
        table = LiveTable()
        table.look(0.0, s.client.stats, {channel: event})
        assert "PoolOpened(pool=&#x27;p&#x27;, slot=7" in table.as_html()
        handle.close()
        stream.close()
        s.settle()
        assert s.wire.sent[-1] == {"type": "unsubscribe", "channel": "pool", "poolId": "p"}
    assert called == [event]
