"""`replay`: what live consumers saw, again, at any speed; no key, no server, nothing lost."""

from __future__ import annotations

import gc
import gzip
import json
import selectors
import threading
import time
import weakref
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws import (
    Bot,
    BotUpdate,
    CallbackError,
    Client,
    ClientClosed,
    Closed,
    ConfigurationError,
    Connected,
    ConnectionFailed,
    ConnectionLost,
    DataEvent,
    Event,
    EventsDropped,
    LifecycleEvent,
    Pong,
    Price,
    PriceUpdate,
    Reconnecting,
    RecordingError,
    ServerEvent,
    State,
    TransactionConfirmed,
    Transactions,
    recording,
    replay,
)
from allenhark_ws._frames import BinaryMessage
from allenhark_ws._instant import Instant
from allenhark_ws._player import PlayedClock, Player
from allenhark_ws._replay import _Replay
from allenhark_ws.recording import Group, Reader
from allenhark_ws.recording._format import HEADER, encode

from .fakes import FakeClock, FewDescriptors, settings
from .patience import PATIENCE
from .processes import Script, posix
from .scripted import JumpingClock, Scripted, await_end, price, run_aside, threads_of

if TYPE_CHECKING:
    from typing_extensions import Self

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
TRANSACTION = {"type": "transaction_confirmed", "signature": "s", "status": "confirmed", "slot": 7}
TRADE = {
    "type": "bot_update",
    "botId": "b",
    "event": "trade_executed",
    "data": {"signature": "s", "profit": 0.1, "timestamp": "2024-01-15T10:30:00Z"},
}


def save(path: Path, *reads: tuple[float, list[Any]]) -> Path:
    """A recording of reads: seconds after the beginning, and what each brought."""
    lines = [HEADER]
    for seconds, messages in reads:
        raws = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
        lines += encode(AT + timedelta(seconds=seconds), raws)
    data = b"".join(lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def prices(path: Path, count: int, *, together: int = 1) -> Path:
    """A recording of prices, so many per read."""
    numbers = range(0, count, together)
    return save(path, *((n / 1000, [price("m", float(n + more)) for more in range(together)]) for n in numbers))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a recording goes."""
    return tmp_path / "day.jsonl"


def played(client: Client) -> list[Event]:
    """All events of a replay, by a callback."""
    events: list[Event] = []
    client.on(Event, events.append)
    client.run_forever()
    return events


# --- The same as live


ODD: list[dict[str, Any] | bytes] = [
    {"type": "welcome", "apiKey": "?"},
    b"{",
    BinaryMessage(b"\xff\x00"),
    {"type": "error", "message": "invalid API key", "code": 401},
    {"type": "auth_error"},
    {"type": "unauthorized"},
    {"type": "pong", "timestamp": "2024-01-15T10:30:00Z"},
    {"type": "price_update"},
    TRANSACTION,
    TRADE,
]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("inline", [False, True])
def test_what_was_recorded_is_replayed(tmp_path: Path, suffix: str, inline: bool) -> None:
    """The same events off the wire, in the same order, with the same frames and times, over a loss too."""
    path, live = tmp_path / f"day{suffix}", list[Any]()
    with Scripted() as scripted, scripted.client.record(path):
        scripted.client.on(DataEvent, live.append)
        scripted.client.on(ServerEvent, live.append)
        scripted.client.subscribe(Transactions("w"))
        scripted.ready()
        scripted.run(10.0)
        scripted.wire.push(*(odd for odd in ODD if not (isinstance(odd, dict) and odd.get("code") == 401)))
        scripted.settle()
        scripted.wire.push(price("m"), end=ConnectionLost("gone"))
        scripted.settle()
        scripted.run(1.0)
        scripted.settle()
        scripted.run(6.0)
        scripted.wire.push(*ODD)
        scripted.settle()
    client = replay(path, speed=0, inline_callbacks=inline)
    client.subscribe(Transactions("w"))
    again = played(client)
    assert [type(event) for event in (again[0], again[-1])] == [Connected, Closed]
    assert again[-1] == Closed(None)
    assert again[1:-1] == live
    assert [seen(event) for event in again[1:-1]] == [seen(event) for event in live]
    assert {event.channel for event in live if isinstance(event, TransactionConfirmed)} == {Transactions("w")}


def seen(event: Any) -> tuple[Any, ...]:
    """What comparing events leaves out."""
    return event.raw, event.received_at, event.channel, event.extra


MESSAGES = st.one_of(
    st.builds(price, st.sampled_from("ab"), st.floats(0, 9)),
    st.sampled_from([TRANSACTION, TRADE, {"type": "pong"}, {"type": "error", "message": "no key"}, {"type": "x"}]),
    st.binary(max_size=5),
)
READS = st.lists(st.tuples(st.floats(0, 2), st.lists(MESSAGES, min_size=1, max_size=4)), max_size=8)


@given(reads=READS, inline=st.booleans(), speed=st.sampled_from([0, 0.5, 100]))
def test_any_recording_is_played_whole_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, reads: list[tuple[float, list[Any]]], inline: bool, speed: float
) -> None:
    """To callbacks and streams alike, each event with its own time, at every speed."""
    path = save(tmp_path_factory.mktemp("day") / "day.jsonl", *reads)
    with Playing(path, speed, inline_callbacks=inline) as playing:
        streams = [playing.client.stream(kind, maxsize=10_000) for kind in (Event, Price("a"))]
        called: list[Event] = []
        playing.client.on(Event, called.append)
        playing.client.start()
        playing.to_the_end()
        everything, of_a = [list(stream) for stream in streams]
    frames = [(raw, at) for at, raw in recording.read(path)]
    assert [(event.raw, event.received_at) for event in everything[1:-1]] == frames
    assert [type(event) for event in (everything[0], everything[-1])] == [Connected, Closed]
    assert called == everything
    assert of_a == [event for event in everything if isinstance(event, PriceUpdate) and event.mint == "a"]


class Playing:
    """A replay on a clock that jumps; closed on leaving the ``with``."""

    def __init__(self, path: Path, speed: float, clock: JumpingClock | None = None, **changes: Any) -> None:
        self.clock = clock or JumpingClock()
        changes = {"callback_overflow": "drop_oldest" if speed else "block"} | changes
        self.client = _Replay(settings(**changes), [str(path)], float(speed), self.clock)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.run(seconds, self.client._loop.wake)

    def to_the_end(self) -> None:
        """Let all time pass."""
        with self.clock._changed:
            self.clock._budget += 1e9
        self.client._loop.wake()
        self.client._loop.join(time.monotonic() + PATIENCE)
        assert self.client.state is State.CLOSED

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.close()


# --- Time


@pytest.mark.parametrize(("speed", "factor"), [(1.0, 1.0), (4.0, 0.25), (0.5, 2.0)])
def test_recorded_distances_are_kept(path: Path, speed: float, factor: float) -> None:
    """Divided by the speed, and nothing comes early; a clock that went back in between is no distance."""
    times = (0.0, 10.0, 3.0, 4.0, 1e6)
    save(path, *((seconds, [price("m", float(number))]) for number, seconds in enumerate(times)))
    with Playing(path, speed) as playing:
        stream = playing.client.stream()
        playing.client.start()
        playing.clock.settle()
        told: list[tuple[float, list[float]]] = []
        for seconds in (0.0, 9.75 * factor, 0.25 * factor, 0.75 * factor, 0.25 * factor):
            playing.run(seconds)
            told.append((seconds / factor, [stream.get_nowait().price for _ in range(stream.qsize())]))
    assert told == [(0.0, [0.0]), (9.75, []), (0.25, [1.0, 2.0]), (0.75, []), (0.25, [3.0])]


def test_silence_in_a_recording_is_no_loss(path: Path) -> None:
    """There is no heartbeat to miss: nothing is sent, and nobody is waited for."""
    save(path, (0.0, [price("m")]), (1e6, [price("m")]))
    with Playing(path, 1.0) as playing:
        stream = playing.client.stream(Event)
        playing.client.start()
        playing.to_the_end()
        assert [type(event) for event in stream] == [Connected, PriceUpdate, PriceUpdate, Closed]
        assert playing.client.stats.messages_sent == 0


def test_an_idle_replay_sleeps(path: Path) -> None:
    """Between two frames it waits once, not in slices."""
    save(path, (0.0, [price("m")]), (1000.0, [price("m")]))
    with Playing(path, 1.0) as playing:
        playing.client.stream()
        playing.client.start()
        playing.clock.settle()
        before = len(playing.clock.waits)
        playing.run(999.0)
        assert len(playing.clock.waits) - before <= 2


def test_the_clock_shows_the_time_of_the_recording(path: Path) -> None:
    """Which is that of its first frame from the beginning."""
    save(path, (0.0, [price("m")]), (10.0, [price("m")]))
    with Playing(path, 1.0) as playing:
        playing.client.stream()
        playing.client.start()
        playing.clock.settle()
        assert playing.client.stats.connected_since == AT


# --- Consumers at speed 0


def test_reads_share_turns_of_the_loop(path: Path) -> None:
    """As many frames as a read of a live connection brings; each has the time of its own."""
    prices(path, 4_000)
    with Playing(path, 0.0, inline_callbacks=True) as playing:
        events: list[PriceUpdate] = []
        playing.client.on(PriceUpdate, events.append)
        playing.client.start()
        playing.to_the_end()
        assert len(playing.clock.waits) < 10
    assert [(event.raw, event.received_at) for event in events] == [(raw, at) for at, raw in recording.read(path)]


def test_what_is_asked_for_comes_before_the_next_frame(path: Path) -> None:
    """As it did live, when every frame came alone."""
    prices(path, 100)
    with Playing(path, 0.0, inline_callbacks=True) as playing:
        events: list[Event] = []

        def note(event: Event) -> None:
            events.append(event)
            if len(events) == 3:
                playing.client.close()

        playing.client.on(DataEvent, note)
        playing.client.on(LifecycleEvent, events.append)
        playing.client.start()
        playing.to_the_end()
    assert [type(event) for event in events] == [Connected, PriceUpdate, PriceUpdate, Closed]


@pytest.mark.parametrize(
    ("overflow", "together"),
    [("drop_oldest", 1), ("drop_newest", 8), ("latest", 3000), ("block", 8), ("error", 8)],
)
def test_nobody_loses_an_event(tmp_path: Path, overflow: Any, together: int) -> None:
    """However small the queues, however slow the readers, whatever their overflow, however much came at once."""
    path = prices(tmp_path / "day.jsonl.gz", 3000, together=together)
    client = replay(path, speed=0, callback_buffer=3)
    streams = [client.stream(PriceUpdate, maxsize=size, overflow=overflow) for size in (1, 50)]
    called: list[object] = []
    client.on(PriceUpdate, lambda event: called.append(event.price))
    found: list[list[object]] = [[], []]

    def read(number: int) -> None:
        found[number].extend(event.price for event in streams[number])

    readers = [run_aside(partial(read, number)) for number in range(2)]
    client.run_forever()
    for reader in readers:
        reader.join(PATIENCE)
    expected = [float(n) for n in range(3000)]
    assert called == expected
    assert found == [expected, expected]
    assert (client.stats.dropped, client.stats.messages_received) == (0, 3000)


class Passing(JumpingClock):
    """A clock that is later each time somebody looks, by more or less."""

    looks = 0

    def now(self) -> Instant:
        """The moment, which is over."""
        self.looks += 1
        self.advance(0.0001 * (self.looks % 7))
        return super().now()

    def wait(self, selector: selectors.BaseSelector, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Jump to the end of the wait, if it has one."""
        self.waits.append(timeout)
        self.advance(timeout or 0.0)
        return selector.select(0)


def test_frames_that_are_due_do_not_wake_anybody(path: Path) -> None:
    """The clock is told of a moment to come alone: a consumer without room would be asked again and again."""
    prices(path, 2)
    real = FakeClock()
    clock = PlayedClock(real)
    player = Player([str(path)], 1.0, clock)
    player.open(lambda *_: True, lambda: None)
    try:
        player.receive()
        assert not player.pending
        assert clock.due == pytest.approx(real.now().mono + 0.001)
        real.advance(1.0)
        assert (player.pending, clock.due) == (True, None)
    finally:
        player.abort()


@pytest.mark.parametrize("speed", [0.4, 0.5, 0.6])
def test_frames_that_fall_due_before_it_sleeps(path: Path, speed: float) -> None:
    """It does not sleep for ever; at these speeds a turn takes about as long as there is between two of them."""
    prices(path, 500)
    with Playing(path, speed, Passing()) as playing:
        stream = playing.client.stream(PriceUpdate)
        playing.client.start()
        assert [event.price for event in stream] == [*map(float, range(500))]
        assert None not in playing.clock.waits


@pytest.mark.parametrize("speed", [0, 1000])
def test_no_error_of_a_callback_is_lost(path: Path, speed: float) -> None:
    """Though the recording may be at its end long before its callbacks are."""
    prices(path, 500)
    client = replay(path, speed)
    got: list[object] = []

    def fail(event: PriceUpdate) -> None:
        raise ValueError(event.price)

    def note(told: Any) -> None:
        got.append(told.event.price)

    client.on(PriceUpdate, fail)
    client.on(CallbackError, note)
    client.on(Closed, got.append)
    client.run_forever()
    assert got == [*map(float, range(500)), Closed(None)]


def test_a_stream_that_nobody_reads_holds_it_up(path: Path) -> None:
    """Until it is closed; the others then get the rest."""
    prices(path, 500)
    with Playing(path, 0) as playing:
        unread = playing.client.stream(maxsize=10)
        read = playing.client.stream()
        playing.client.start()
        playing.clock.settle()
        assert (unread.qsize(), read.qsize(), playing.client.state) == (10, 10, State.READY)
        unread.close()
        assert await_end(playing.client) is None
        assert len(list(read)) == 500


def test_a_stream_that_is_forgotten_holds_nothing_up(path: Path) -> None:
    """It is as good as closed."""
    prices(path, 500)
    with Playing(path, 0) as playing:
        unread = playing.client.stream(Price("m"), maxsize=10)
        playing.client.start()
        playing.clock.settle()
        del unread
        gc.collect()
        assert await_end(playing.client) is None


@pytest.mark.parametrize("speed", [0, 1.0])
def test_close_at_any_time_is_prompt(path: Path, speed: float) -> None:
    """While a stream holds it up, and while it waits for the next frame; what is queued can be read."""
    save(path, (0.0, [price("m")] * 20), (1e6, [price("m")]))
    with Playing(path, speed) as playing:
        unread = playing.client.stream(maxsize=10, overflow="block")
        playing.client.start()
        playing.clock.settle()
        playing.client.close()
        assert playing.client.state is State.CLOSED
        assert threads_of(playing.client) == []
        assert len(list(unread)) >= 10
        assert playing.client._player._sockets[0].fileno() == -1


def test_a_slow_callback_gets_everything(path: Path) -> None:
    """`run_forever` waits for it, beyond the end of the recording."""
    prices(path, 50)
    client = replay(path, speed=0)
    gate, called = threading.Event(), list[object]()

    def slow(event: PriceUpdate) -> None:
        assert gate.wait(PATIENCE)
        called.append(event.price)

    client.on(PriceUpdate, slow)
    client.on(Closed, called.append)
    runner = run_aside(client.run_forever)
    await_end(client)
    assert runner.is_alive()
    gate.set()
    runner.join(PATIENCE)
    assert called == [*(float(n) for n in range(50)), Closed(None)]


def test_at_other_speeds_overflow_is_what_it_says(path: Path) -> None:
    """As live: a slow consumer loses, and is told."""
    save(path, (0.0, [price("m", float(n)) for n in range(20)]))
    with Playing(path, 1.0) as playing:
        stream = playing.client.stream(maxsize=5)
        drops = playing.client.stream(EventsDropped)
        playing.client.start()
        playing.to_the_end()
        assert [event.price for event in stream] == [15.0, 16.0, 17.0, 18.0, 19.0]
        assert [event.count for event in drops] == [15]


# --- Beginning and end


def test_with_a_block_it_waits_for_who_listens(path: Path) -> None:
    """A stream made inside gets all of it, as one would write it for a live client."""
    prices(path, 100)
    with replay(path, speed=0) as client:
        assert client.state is State.READY
        lifecycle = client.stream(LifecycleEvent)
        client.on(Closed, lambda _event: None)
        assert client.stats.messages_received == 0
        assert [event.price for event in client.stream(Price("m"))] == [float(n) for n in range(100)]
        assert [type(event) for event in lifecycle] == [Closed]


@pytest.mark.parametrize(
    "listen",
    [
        lambda client: client.on(PriceUpdate, lambda event: None),
        lambda client: client.on(PriceUpdate)(lambda event: None),
        lambda client: client.on(Event, lambda event: None),
        lambda client: client.on(Price("m"), lambda event: None),
        lambda client: client.subscribe(Price("m")),
        lambda client: client.stream(),
        lambda client: client.stream(LifecycleEvent, Pong),
        lambda client: client.run_forever(),
    ],
    ids=["on a class", "decorator", "on everything", "on a channel", "subscribe", "stream", "mixed stream", "wait"],
)
def test_who_listens(path: Path, listen: Callable[[Client], object]) -> None:
    """Any callback, stream or subscription for more than lifecycle events; also whoever just waits for the end."""
    prices(path, 3)
    with replay(path, speed=0) as client:
        listen(client)
        assert await_end(client) is None
        assert client.stats.messages_received == 3


def test_waiting_for_what_ends_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording may be over before the wait begins; a client that was closed before is refused."""
    prices(path, 3)
    with replay(path, speed=0) as client:
        assert isinstance(client, _Replay)
        listen = client._expect_listeners

        def to_the_end() -> None:
            listen()
            await_end(client)

        monkeypatch.setattr(client, "_expect_listeners", to_the_end)
        client.run_forever()
        assert client.stats.messages_received == 3
        with pytest.raises(ClientClosed):
            client.run_forever()


def test_recording_a_replay(tmp_path: Path, path: Path) -> None:
    """A recorder listens too; what it writes bears the first recording's times."""
    prices(path, 30, together=3)
    with replay(path, speed=0) as client:
        client.record(tmp_path / "copy.jsonl")
        assert await_end(client) is None
    assert (tmp_path / "copy.jsonl").read_bytes() == path.read_bytes()


def test_begun_by_start_it_waits_for_nobody(path: Path) -> None:
    """Nor by `run_forever`; `latest` remembers what was subscribed."""
    prices(path, 3)
    client = replay(path, speed=0)
    client.subscribe(Price("m"))
    client.start()
    assert await_end(client) is None
    latest = client.latest(Price("m"))
    assert latest is not None
    assert latest.price == 2.0
    client = replay(path, speed=0)
    client.run_forever()
    assert client.stats.messages_received == 3


def test_connect_with_listeners_may_come_back_after_the_end(path: Path) -> None:
    """They had it all; that is no error."""
    prices(path, 3)
    client = replay(path, speed=0)
    stream = client.stream(Event)
    connected: list[object] = []
    for _ in range(20):
        client = replay(path, speed=0)
        stream = client.stream(Event)
        connected.append(client.connect() is client)
        assert [type(event) for event in stream] == [Connected, *[PriceUpdate] * 3, Closed]
    assert connected == [True] * 20


def test_connect_after_the_end_is_refused(path: Path) -> None:
    """As by any client that is closed."""
    client = replay(prices(path, 1), speed=0)
    client.run_forever()
    for verb in (client.connect, client.start, client.run_forever, client.stream, client.reconnect):
        with pytest.raises(ClientClosed):
            verb()


def test_an_empty_recording(path: Path) -> None:
    """Begins and ends."""
    assert played(replay(save(path))) == [Connected(1, 0.0), Closed(None)]


def test_several_files(tmp_path: Path) -> None:
    """One after the other, as one."""
    paths = [save(tmp_path / f"{n}.jsonl", (n, [price("m", float(n))])) for n in range(3)]
    events = played(replay(paths, speed=0))
    assert [event.price for event in events if isinstance(event, PriceUpdate)] == [0.0, 1.0, 2.0]


def test_a_forgotten_replay_ends(path: Path) -> None:
    """A warning says which, and its file is closed."""
    client = replay(prices(path, 3))
    client.connect()
    player, loop = client._player, client._loop  # type: ignore[attr-defined]
    reference = weakref.ref(client)
    with pytest.warns(ResourceWarning, match=f"unclosed Client for replay of {path}"):
        del client
    assert reference() is None
    assert loop.wait_for(lambda: False, time.monotonic() + PATIENCE)
    assert player.sock.fileno() == -1


def test_one_that_is_never_started_holds_nothing(path: Path) -> None:
    """No file is open."""
    client = replay(prices(path, 3))
    assert repr(client) == f"<Client replay of {path} IDLE, 0 channels>"
    assert repr(replay([path, path])) == f"<Client replay of {path} and 1 more IDLE, 0 channels>"
    path.unlink()
    client.close()


# --- The verbs


def test_flush_returns_at_once(path: Path) -> None:
    """What was asked for before is in force."""
    save(path, (0.0, [price("m")]), (1e6, [price("m")]))
    with Playing(path, 1.0) as playing:
        playing.client.start()
        playing.client.subscribe(Price("m"))
        assert playing.client.flush() == 0.0
        assert playing.client.subscriptions == {Price("m")}


def test_a_flush_before_the_start(path: Path) -> None:
    """It waits for that."""
    client = replay(prices(path, 1))
    flushed: list[object] = []
    waiter = run_aside(lambda: flushed.append(client.flush(PATIENCE)))
    with client._loop.changed:
        client._loop.changed.wait_for(lambda: client._loop.session._flushes, 0.05)
    client.connect()
    waiter.join(PATIENCE)
    assert flushed == [0.0]
    client.close()


def test_reconnect_does_nothing(path: Path) -> None:
    """There is nothing to reconnect to; it begins what was not begun."""
    save(path, (0.0, [price("m")]), (10.0, [price("m")]))
    with Playing(path, 1.0) as playing:
        stream = playing.client.stream(Event)
        playing.client.reconnect()
        playing.clock.settle()
        playing.client.reconnect()
        playing.to_the_end()
        assert [type(event) for event in stream] == [Connected, PriceUpdate, PriceUpdate, Closed]


def test_channels_choose_who_gets_what(path: Path) -> None:
    """Every frame is played; those of a channel go to those who ask for it, from when to when they do."""
    save(path, *((float(n), [price("a", float(n)), price("b", float(n)), TRADE]) for n in range(4)))
    with Playing(path, 1.0, inline_callbacks=True) as playing:
        got: list[Any] = []
        subscription = playing.client.subscribe(Price("a"), Bot("b"), callback=got.append)
        playing.client.start()
        playing.clock.settle()
        playing.run(1.0)
        subscription.close()
        playing.to_the_end()
        assert [getattr(event, "price", type(event)) for event in got] == [0.0, BotUpdate, 1.0, BotUpdate]
        assert playing.client.stats.received_by_type == {"price_update": 8, "bot_update": 4}


def test_a_wallet_is_known_while_it_is_the_only_one(path: Path) -> None:
    """As live, from the very first frame."""
    save(path, *((float(n), [TRANSACTION]) for n in range(3)))
    with Playing(path, 1.0) as playing:
        stream = playing.client.stream(TransactionConfirmed)
        playing.client.subscribe(Transactions("v"))
        playing.client.start()
        playing.clock.settle()
        second = playing.client.subscribe(Transactions("w"))
        playing.run(1.0)
        second.close()
        playing.to_the_end()
        assert [event.channel for event in stream] == [Transactions("v"), None, Transactions("v")]


def test_decimals(path: Path) -> None:
    """Exact, every digit of the frame."""
    raw = json.dumps(price("m")).encode().replace(b"1.0", b"1.000000000000000000001")
    (event,) = [e for e in played(replay(save(path, (0, [raw])), decimal=True)) if isinstance(e, PriceUpdate)]
    assert event.price == Decimal("1.000000000000000000001")


# --- What cannot be played


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"speed": -1}, "at least 0"),
        ({"speed": float("nan")}, "at least 0"),
        ({"speed": float("inf")}, "at least 0"),
        ({"speed": "fast"}, "takes a number, got str"),
        ({"speed": True}, "takes a number, got bool"),
        ({"speed": 0, "callback_overflow": "drop_oldest"}, "loses nothing"),
        ({"callback_overflow": "?"}, "callback_overflow"),
        ({"callback_buffer": 0}, "callback_buffer"),
        ({"decimal": 1}, "decimal"),
    ],
)
def test_arguments_that_cannot_be_used(path: Path, options: dict[str, Any], text: str) -> None:
    """They are refused with a word."""
    with pytest.raises(ConfigurationError, match=text):
        replay(prices(path, 1), **options)


def test_a_stream_that_cannot_be(path: Path) -> None:
    """Its arguments are looked at though they do not matter at speed 0."""
    client = replay(prices(path, 1), speed=0)
    with pytest.raises(ValueError, match="overflow must be one of"):
        client.stream(overflow="?")  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        client.on("price")  # type: ignore[call-overload]
    client.close()


def test_files_that_are_none(tmp_path: Path, path: Path) -> None:
    """They are refused at once, the last of several too."""
    prices(path, 1)
    other = tmp_path / "other.jsonl"
    with pytest.raises(FileNotFoundError):
        replay([path, other])
    other.write_text('{"format": "allenhark-ws", "version": 2}\n')
    with pytest.raises(RecordingError, match=r"other\.jsonl, line 1: .*version 1 of the format only"):
        replay([path, other])
    with pytest.raises(ValueError, match="at least one recording"):
        replay([])


def test_damaged_lines(path: Path) -> None:
    """The rest is played, then the client ends with an error that names the first."""
    prices(path, 4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], b"rubbish\n", *lines[2:4], b"{}\n", *lines[4:]]))
    client = replay(path, speed=0)
    stream, events = client.stream(), list[Event]()
    client.on(Event, events.append)
    with pytest.raises(RecordingError, match=r"day\.jsonl, line 3: not JSON.* \(and 1 more damaged line;") as caught:
        client.run_forever()
    assert (caught.value.line, caught.value.count) == (3, 2)
    assert [event.price for event in events if isinstance(event, PriceUpdate)] == [0.0, 1.0, 2.0, 3.0]
    assert events[-1] == Closed(caught.value)
    assert client.error is caught.value
    assert len([stream.get() for _ in range(4)]) == 4
    with pytest.raises(RecordingError):
        stream.get()


def test_an_end_that_a_crash_tore_off(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is no error, only a word in the log."""
    prices(path, 4)
    path.write_bytes(path.read_bytes()[:-10])
    events = played(replay(path, speed=0))
    assert len(events) == 5
    assert events[-1] == Closed(None)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} ends in the middle of line 5, which is left out"
    ]


def test_a_file_that_goes_away(tmp_path: Path, path: Path) -> None:
    """Between the making and the start: the client ends with an error, and retries nothing."""
    client = replay(prices(path, 1))
    path.unlink()
    with pytest.raises(RecordingError, match="cannot be read: No such file"):
        client.run_forever()
    other = prices(tmp_path / "other.jsonl", 1)
    client = replay([other, other])
    other.write_text("precious")
    with pytest.raises(RecordingError, match="no recording"):
        client.run_forever()


def test_without_descriptors_it_begins_later(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That is no failure of the background thread, but one of an attempt, which is told and made again."""
    few = FewDescriptors()
    monkeypatch.setattr("allenhark_ws._player.socket", few)
    monkeypatch.setattr("allenhark_ws._replay.random", SimpleNamespace(random=lambda: 0.0))  # no wait
    retry, connected, *_, closed = played(replay(prices(path, 2), speed=0))
    assert isinstance(retry, Reconnecting)
    assert isinstance(retry.cause, ConnectionFailed)
    assert "the replay cannot begin: Too many open files (close some files, or allow more" in str(retry.cause)
    assert isinstance(retry.cause.__cause__, OSError)
    assert isinstance(connected, Connected)
    assert closed == Closed(None)
    assert few.asked == 2


class Failing(Reader):
    """A reader whose disk fails after two groups."""

    left = 2

    def next_group(self) -> Group | None:
        """A group, or the error."""
        if not self.left:
            raise OSError(5, "Input/output error")
        self.left -= 1
        return super().next_group()


def test_a_disk_that_fails_while_reading(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read is played, and then it is told."""
    monkeypatch.setattr("allenhark_ws._player.Reader", Failing)
    client = replay(prices(path, 20), speed=0)
    stream = client.stream(PriceUpdate)
    with pytest.raises(RecordingError, match=r"day\.jsonl: it cannot be read: Input/output error") as caught:
        client.run_forever()
    assert isinstance(caught.value.__cause__, OSError)
    assert [stream.get().price for _ in range(2)] == [0.0, 1.0]


@posix
def test_a_forked_child_leaves_the_replay_alone(path: Path) -> None:
    """The parent's goes on from where it is."""
    prices(path, 3000)
    text = f"""
client = replay({str(path)!r}, speed=0)
stream = client.stream(maxsize=10)
client.start()
first = stream.get(timeout=60)
child = os.fork()
if child == 0:
    client.close()
    try:
        stream.get()
    except ClientClosed:
        sys.exit(7)
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
say(1 + sum(1 for _ in stream))
"""
    with Script("", text) as script:
        assert script.end() == (0, "7\n3000", "")


@posix
def test_ctrl_c_ends_it(path: Path) -> None:
    """In `run_forever`, while it waits for the next frame, at once."""
    save(path, (0.0, [price("m")]), (1e6, [price("m")]))
    text = f"""
client = replay({str(path)!r})
client.on(PriceUpdate, lambda event: say("here"))
try:
    client.run_forever()
except KeyboardInterrupt:
    say(client.state.name)
"""
    with Script("", text) as script:
        assert script.line() == "here"
        script.interrupt()
        assert script.end() == (0, "CLOSED", "")


def test_no_key_is_needed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor asked for, and neither is an address."""
    monkeypatch.delenv("ALLENHARK_API_KEY", raising=False)
    monkeypatch.setenv("ALLENHARK_WS_URL", "rubbish")
    assert len(played(replay(prices(path, 3), speed=0))) == 5


def test_a_notebook_shows_it_by_a_name_of_its_own(path: Path) -> None:
    """Not by that of a private class."""
    assert "<strong>Replay</strong>" in str(replay(prices(path, 3))._repr_html_())
