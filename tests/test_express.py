"""The hot path against its plain twin: the same events, to the same consumers, in the same order, and counted alike."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from attrs import define, field, frozen
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws._codec import Codec
from allenhark_ws._counters import Counters
from allenhark_ws._dispatch import CallbackThread, InlineCallbacks
from allenhark_ws._queue import EventQueue
from allenhark_ws._router import Router
from allenhark_ws._routes import Kind
from allenhark_ws.channels import Bot, Channel, Price, Transactions
from allenhark_ws.events import (
    BotUpdate,
    CallbackError,
    DataEvent,
    Event,
    PriceUpdate,
    ServerEvent,
    SlowCallback,
    TransactionConfirmed,
)

from .fakes import NoEdits
from .scripted import price

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
CODEC = Codec()


@pytest.fixture(autouse=True, params=["auto", "stdlib"], scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything twice: with what is installed, and with the standard library's lane, which has no halves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "CODEC", Codec(engine=request.param))
        yield


def trade(bot: str, event: str = "trade_executed") -> dict[str, Any]:
    """A ``bot_update``."""
    data = {"signature": "s", "profit": 0.5, "timestamp": "2024-01-15T10:30:00Z"}
    return {"type": "bot_update", "botId": bot, "event": event, "data": data}


def transaction(slot: int, **more: str) -> dict[str, Any]:
    """A ``transaction_confirmed``."""
    return {"type": "transaction_confirmed", "signature": "s", "status": "confirmed", "slot": slot, **more}


@define
class Clock:
    """Time that moves when told."""

    now: float = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@define(eq=False)
class Rig:
    """A router with consumers, and what they got."""

    inline: bool
    overflow: str = "drop_oldest"
    maxsize: int = 5
    clock: Clock = field(factory=Clock)
    counters: Counters = field(factory=Counters)
    log: list[tuple[str, Event]] = field(factory=list[tuple[str, Event]])
    reports: list[Event] = field(factory=list[Event])
    queues: list[EventQueue] = field(factory=list[EventQueue])
    sink: CallbackThread | InlineCallbacks = field(init=False)
    router: Router = field(init=False)

    def __attrs_post_init__(self) -> None:
        if self.inline:
            self.sink = InlineCallbacks(self.counters, self.reports.append, self.clock)
        else:
            queue = EventQueue("callbacks", self.maxsize, self.overflow)
            self.sink = CallbackThread("c", self.counters, queue, self.reports.append, self.clock)
        self.router = Router(self.counters, self.sink, NoEdits())
        self.sink.attach(weakref.ref(self.router))

    def call(self, name: str, *kinds: Kind) -> None:
        """Register a callback that writes the log."""
        self.router.add_callback(name, kinds, lambda event: self.log.append((name, event)))

    def queue(self, *kinds: Kind) -> None:
        """Register a queue."""
        queue = EventQueue(f"queue-{len(self.queues)}", self.maxsize, self.overflow)
        self.queues.append(queue)
        self.router.add_queue(object(), kinds, queue)

    def fast(self, payloads: list[bytes], wallet: Transactions | None = None) -> None:
        """Deliver as the loop does: the fast way, and the plain way for what that leaves."""
        incoming = CODEC.lane.incoming(payloads)
        while True:
            delivery = self.router.express(incoming, CODEC.lane, AT, wallet)
            self.reports += delivery.reports
            if not delivery.left:
                return
            self.plain(delivery.left, wallet)

    def left(self, payloads: list[bytes]) -> list[bytes]:
        """What the fast way leaves of these."""
        return self.router.express(CODEC.lane.incoming(payloads), CODEC.lane, AT, None).left

    def plain(self, payloads: list[bytes], wallet: Transactions | None = None) -> None:
        """Deliver the plain way; what blocks is forced."""
        for payload in payloads:
            event = CODEC.decode(payload, AT, wallet)
            if isinstance(event, DataEvent):
                kinds = {PriceUpdate: (1, 0, 0), TransactionConfirmed: (0, 1, 0), BotUpdate: (0, 0, 1)}
                self.counters.count_data(*kinds[type(event)])
            self.reports += self.router.deliver([event], force=True).reports

    def outcome(self) -> dict[str, object]:
        """Everything that can be seen from outside."""
        if isinstance(self.sink, CallbackThread):
            self.sink.finish()
            self.sink.run()
        return {
            "log": self.log,
            "queues": [list(_drain(queue)) for queue in self.queues],
            "lost": [(queue.dropped, queue.conflated, queue.failure) for queue in self.queues],
            "latest": {key: self.router.latest(key) for key in self.router.wanted},
            "types": self.counters.received_by_type,
            "messages": self.counters.messages_received,
            "dropped": self.counters.dropped,
        }


def _drain(queue: EventQueue) -> Iterator[Event]:
    while len(queue):
        yield queue.take()


def encode(*messages: dict[str, Any]) -> list[bytes]:
    """As the server sends them."""
    return [json.dumps(message).encode() for message in messages]


IDS = st.sampled_from("ab")
MESSAGES = st.one_of(
    st.builds(price, IDS),
    st.builds(trade, IDS, st.sampled_from(["trade_executed", "stopped", "withdrawn"])),
    st.builds(transaction, st.integers(0, 9)),
    st.builds(lambda slot, wallet: transaction(slot, wallet=wallet), st.integers(0, 9), IDS),
    st.sampled_from([{"type": "pong"}, {"type": "welcome"}, {"type": "price_update"}, {"no": "type"}]),
    st.builds(lambda mint: {**price(mint), "timestamp": "noon"}, IDS),
)
CHANNELS = st.one_of(st.builds(Price, IDS), st.builds(Bot, IDS), st.builds(Transactions, IDS))
KINDS = st.one_of(
    CHANNELS, st.sampled_from([PriceUpdate, BotUpdate, TransactionConfirmed, DataEvent, ServerEvent, Event])
)


@frozen
class Scene:
    """Who listens to what, and what comes."""

    called: list[list[Kind]]
    queued: list[list[Kind]]
    wanted: list[Channel]
    overflow: str
    wallet: Transactions | None
    messages: list[dict[str, Any]]

    def rig(self, *, inline: bool) -> Rig:
        """The consumers."""
        rig = Rig(inline, self.overflow)
        for number, kinds in enumerate(self.called):
            rig.call(f"callback-{number}", *kinds)
        for kinds in self.queued:
            rig.queue(*kinds)
        rig.router.hold("holder", self.wanted)
        return rig


SCENES = st.builds(
    Scene,
    called=st.lists(st.lists(KINDS, min_size=1, max_size=2), max_size=4),
    queued=st.lists(st.lists(KINDS, min_size=1, max_size=2), max_size=2),
    wanted=st.lists(CHANNELS, max_size=3),
    overflow=st.sampled_from(["drop_oldest", "drop_newest", "latest"]),
    wallet=st.none() | st.builds(Transactions, IDS),
    messages=st.lists(MESSAGES, max_size=20),
)


@pytest.mark.parametrize("inline", [True, False])
@given(scene=SCENES)
def test_the_fast_way_equals_the_plain_way(inline: bool, scene: Scene) -> None:
    """Whatever comes, whoever listens, and whatever happens to full queues."""
    fast, plain = scene.rig(inline=inline), scene.rig(inline=inline)
    fast.fast(encode(*scene.messages), scene.wallet)
    plain.plain(encode(*scene.messages), scene.wallet)
    assert fast.outcome() == plain.outcome()


def test_an_edit_takes_effect_at_the_next_event() -> None:
    """A callback that removes itself, registers another or lets go of its channel is obeyed within the batch."""
    rig = Rig(inline=True)

    def once(event: PriceUpdate) -> None:
        rig.log.append(("once", event))
        rig.router.remove_callbacks(once)
        rig.call("next", PriceUpdate)
        rig.router.unsubscribe([Price("a")])

    rig.router.add_callback("once", [PriceUpdate], once)
    rig.router.hold("holder", [Price("a")])
    rig.fast(encode(price("a", 1), price("a", 2), price("a", 3)))
    assert [(name, event.price) for name, event in rig.log if isinstance(event, PriceUpdate)] == [
        ("once", 1.0),
        ("next", 2.0),
        ("next", 3.0),
    ]
    assert rig.router.latest(Price("a")) is None


def test_a_callback_that_another_removed_is_not_called() -> None:
    """Within one event, too."""
    rig = Rig(inline=True)
    rig.router.add_callback("first", [PriceUpdate], lambda _event: rig.router.remove_callback("second"))
    rig.call("second", PriceUpdate)
    rig.call("third", PriceUpdate)
    rig.fast(encode(price("a")))
    assert [name for name, _ in rig.log] == ["third"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
def test_whatever_a_callback_raises(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted and reported, and the next callback and the next event follow."""
    rig = Rig(inline=True)

    def fail(_event: Event) -> None:
        raise error

    rig.router.add_callback("fail", [PriceUpdate], fail)
    rig.call("other", PriceUpdate)
    rig.fast(encode(price("a"), price("b")))
    assert [type(report) for report in rig.reports] == [CallbackError] * 2
    assert [(getattr(report, "callback", None), getattr(report, "error", None)) for report in rig.reports] == [
        (fail, error)
    ] * 2
    assert [name for name, _ in rig.log] == ["other", "other"]
    assert rig.counters.callback_errors == 2
    assert len(caplog.records) == 2


def test_a_slow_callback_is_reported_with_its_own_time() -> None:
    """Each call is timed alone, the others of its event and of its batch left out."""
    rig = Rig(inline=True)

    def taking(seconds: float) -> Callable[[Event], None]:
        def callback(_event: Event) -> None:
            rig.clock.now += seconds

        return callback

    almost, slow = taking(0.75), taking(1.5)
    rig.router.add_callback("almost", [PriceUpdate], almost)
    rig.router.add_callback("slow", [PriceUpdate], slow)
    rig.router.add_callback("slow alone", [Bot("b")], slow)
    rig.fast(encode(price("a"), price("a"), trade("b"), price("a")))
    assert rig.reports == [SlowCallback(slow, 1.5)] * 4


@pytest.mark.parametrize("start", [-5.0, 0.5, 100.0])
@pytest.mark.parametrize(("seconds", "reported"), [(0.875, False), (1.0, True), (7.25, True)])
def test_one_second_is_slow_whenever_the_clock_began(start: float, seconds: float, reported: bool) -> None:
    """Neither the other callbacks of the event nor what the clock showed before make a difference."""
    rig = Rig(inline=True, clock=Clock(start))

    def first(_event: Event) -> None:
        rig.clock.now += seconds

    rig.router.add_callback("first", [PriceUpdate], first)
    rig.call("second", PriceUpdate)
    rig.fast(encode(price("a")))
    assert rig.reports == [SlowCallback(first, seconds)] * reported
    assert [name for name, _ in rig.log] == ["second"]


def test_streams_get_their_batch_before_callbacks_run() -> None:
    """A callback on the I/O thread that reads a stream finds the event it is called with."""
    rig = Rig(inline=True)
    rig.queue(PriceUpdate)
    seen: list[int] = []
    rig.router.add_callback("look", [PriceUpdate], lambda _event: seen.append(len(rig.queues[0])))
    rig.fast(encode(price("a"), price("b")))
    assert seen == [2, 2]


@pytest.mark.parametrize("inline", [True, False])
def test_what_might_have_to_wait_for_room_goes_the_plain_way(inline: bool) -> None:
    """A blocking consumer with less room than there are payloads leaves all of them untouched."""
    rig = Rig(inline, "block")
    rig.queue(PriceUpdate)
    payloads = encode(*(price("a", number) for number in range(6)))
    assert rig.left(payloads) == payloads
    assert rig.left(payloads[:5]) == []
    assert len(rig.queues[0]) == 5


class Watched(EventQueue):
    """A queue that counts how often anything of it is looked at."""

    looks = 0

    def __getattribute__(self, name: str) -> Any:
        Watched.looks += 1
        return super().__getattribute__(name)


def test_streams_that_get_nothing_are_not_looked_at() -> None:
    """Only those that block are, as long as they are there; after an edit as before it."""
    rig = Rig(inline=True)
    for token, overflow in enumerate(["drop_oldest"] * 20 + ["block"] * 2):
        rig.router.add_queue(token, [Price(f"m{token}")], Watched("watched", 1, overflow))
    edits: list[Callable[[], None]] = [
        lambda: rig.call("any", PriceUpdate),
        lambda: rig.router.release(20),
        lambda: rig.router.release(21),
    ]
    counts: list[int] = []
    for edit in edits:
        edit()
        Watched.looks = 0
        assert rig.left(encode(price("a"))) == []
        counts.append(Watched.looks)
    assert counts[0] == 2 * counts[1] > 0
    assert counts[2] == 0


def test_what_might_fill_a_blocking_callback_buffer_goes_the_plain_way() -> None:
    """The callback buffer may block, too."""
    rig = Rig(False, "block")
    rig.call("all", DataEvent)
    payloads = encode(*(price("a", number) for number in range(6)))
    assert rig.left(payloads) == payloads
    assert rig.left(payloads[:5]) == []


def test_distinct_mints_of_a_hostile_server_leave_nothing_behind() -> None:
    """Places are remembered for what is registered or wanted only."""
    rig = Rig(inline=True)
    rig.call("all", PriceUpdate)
    rig.call("one", Price("a"))
    rig.router.hold("holder", [Price("b")])
    rig.fast(encode(*(price(f"hostile-{number}") for number in range(500)), price("a"), price("b")))
    assert len(rig.log) == 503
    assert set(rig.router.places.price) == {"", "a", "b"}


def test_a_binary_frame_is_no_event() -> None:
    """Even if a text frame with its content would be one."""

    class Binary(bytes):
        __slots__ = ()

    payload = Binary(encode(price("a"))[0])
    assert Rig(inline=True).left([payload]) == [payload]
