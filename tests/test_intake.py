"""What becomes of what was read: to taps undecoded, to consumers decoded and in order, the fast way or the plain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
from attrs import define, field, fields

from allenhark_ws._codec import Codec
from allenhark_ws._counters import Counters
from allenhark_ws._express import Inline
from allenhark_ws._instant import Instant
from allenhark_ws._intake import Intake
from allenhark_ws._network import Network
from allenhark_ws._outlet import Outlet
from allenhark_ws._queue import EventQueue
from allenhark_ws._router import Router
from allenhark_ws._session import Drop, Session
from allenhark_ws.channels import Price, Transactions
from allenhark_ws.errors import SlowConsumer
from allenhark_ws.events import (
    DataEvent,
    Event,
    EventsDropped,
    Gap,
    InvalidMessage,
    Pong,
    PriceUpdate,
    ServerError,
    ServerEvent,
    TransactionConfirmed,
    UnknownMessage,
)
from allenhark_ws.state import State

from .fakes import START, FakeClock, NoEdits, settings
from .scripted import price

LATER = FakeClock(START).advance(1.0)
"""When the messages of these tests are read."""

PONG = {"type": "pong"}
REJECTION = {"type": "error", "message": "invalid API key"}
"""Ends a connection that has just become READY."""


@define(eq=False)
class Tap:
    """Notes what it gets, in a log that others write to as well."""

    log: list[Any]
    name: str = "tap"

    def put(self, at: datetime, messages: Sequence[bytes], /) -> None:
        """Note it."""
        self.log.append((self.name, at, list(messages)))

    def finish(self) -> None:
        """Nothing is left to do."""

    def join(self, deadline: float, /) -> bool:
        """Nothing to wait for."""
        return True

    def disown(self) -> None:
        """Nothing is held."""


class Listener(Session):
    """A session that notes what it is told of messages.

    Attributes:
        last: a kind of message behind which it ends.
    """

    def __init__(self, counters: Counters, log: list[Any]) -> None:
        super().__init__(settings(), counters, lambda: 1.0)
        self.log = log
        self.last: type[Event] = Gap  # which is none

    def received(self, event: ServerEvent | DataEvent, now: Instant) -> None:
        """Note it, and go on as ever."""
        self.log.append(("session", event, now))
        super().received(event, now)
        if isinstance(event, self.last):
            self.close()


@define(eq=False)
class Callbacks:
    """The callback thread's queue, without a thread."""

    queue: EventQueue | None = None

    def put(self, events: Sequence[Event]) -> int:
        """Queue them."""
        return 0 if self.queue is None else self.queue.put(events)

    @property
    def inline(self) -> Inline | None:
        """Nothing is called here and now."""
        return None


@define(eq=False)
class Bench:
    """An intake between a session, with a connection just opened, and a router; the log tells who heard what."""

    engine: str = "auto"
    log: list[Any] = field(factory=list[Any])
    counters: Counters = field(factory=Counters)
    callbacks: Callbacks = field(factory=Callbacks)
    network: Any = field(factory=lambda: SimpleNamespace(transport=object()))
    session: Listener = field(init=False)
    router: Router = field(init=False)
    outlet: Outlet = field(init=False)
    intake: Intake = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.session = Listener(self.counters, self.log)
        self.router = Router(self.counters, self.callbacks, NoEdits())
        self.outlet = Outlet(self.session)
        self.outlet.router = lambda: self.router
        codec = Codec(engine=self.engine)
        self.intake = Intake(self.session, codec, self.counters, cast("Network", self.network), self.outlet, self._obey)
        self.session.start(START)
        self.session.tick(START)
        self.session.opened(START)
        self._obey()

    def _obey(self) -> None:
        """Give events out, and have no connection any more when the session says so."""
        for output in self.session.take():
            if isinstance(output, Event):
                self.outlet.emit([output])
            elif isinstance(output, Drop):
                self.network.transport = None

    def ready(self) -> Bench:
        """READY, with nothing in the log and nothing counted."""
        self.take(PONG)
        assert self.session.state is State.READY
        self.log.clear()
        self.counters.messages_received = self.counters.bytes_received = 0
        self.counters.received_by_type.clear()
        return self

    def queue(self, *kinds: Any, maxsize: int = 100, overflow: str = "drop_oldest") -> EventQueue:
        """A consumer of the kinds."""
        queue = EventQueue("q", maxsize, overflow)
        self.router.add_queue(queue, kinds, queue)
        return queue

    def take(self, *messages: dict[str, Any] | bytes) -> list[bytes]:
        """What was read, all at once; the frames."""
        frames = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in messages]
        self.intake.take(frames, LATER)
        return frames

    @property
    def heard(self) -> list[type[Event]]:
        """The kinds of what the session was told."""
        return [entry[1].__class__ for entry in self.log if entry[0] == "session"]


def drain(queue: EventQueue) -> list[Event]:
    """Everything that is queued."""
    return queue.take_batch(1_000, 0.0) if len(queue) else []


def kinds(queue: EventQueue) -> list[type[Event]]:
    """The kinds of everything that is queued."""
    return [type(event) for event in drain(queue)]


def test_what_it_comes_to_hold_is_no_argument() -> None:
    """An intake begins without taps."""
    arguments = {"session", "codec", "counters", "network", "outlet", "obey"}
    assert {attribute.alias for attribute in fields(Intake) if attribute.init} == arguments


# --- The way of data


def test_data_of_a_ready_connection_go_to_their_consumers() -> None:
    """Without the session, which has nothing to say about them; with their frame, and when that was read."""
    bench = Bench().ready()
    queue = bench.queue(DataEvent)
    frames = bench.take(price("one"), price("two"))
    events = drain(queue)
    assert [event.mint for event in events if isinstance(event, PriceUpdate)] == ["one", "two"]
    assert [event.raw for event in events if isinstance(event, DataEvent)] == frames
    assert {event.received_at for event in events if isinstance(event, DataEvent)} == {LATER.wall}
    assert bench.log == []


@pytest.mark.parametrize("engine", ["auto", "stdlib", "plain"])
def test_every_lane_gives_the_same(engine: str) -> None:
    """What a lane does not know takes the plain way, at its place in the order, and the rest goes on."""
    bench = Bench(engine).ready()
    queue = bench.queue(Event)
    odd = b'{"type": "price_update", "mint": "two", "price": 1, "volume": 2, "timestamp": "2024-01-15T10:30:00"}'
    bench.take(price("one"), odd, {"type": "news"}, price("three"), b"not JSON", PONG, price("four"))
    assert kinds(queue) == [PriceUpdate, PriceUpdate, UnknownMessage, PriceUpdate, InvalidMessage, Pong, PriceUpdate]
    assert bench.heard == [UnknownMessage, InvalidMessage, Pong]
    assert bench.counters.messages_received == 7
    assert bench.counters.received_by_type == {"price_update": 4, "news": 1, "(invalid)": 1, "pong": 1}


def test_data_before_the_first_pong_are_the_sessions() -> None:
    """Their place is behind `Connected`, which is not told yet."""
    bench = Bench()
    queue = bench.queue(DataEvent)
    bench.take(price("one"))
    assert (bench.heard, len(queue)) == ([PriceUpdate], 0)
    bench.take(PONG)
    assert kinds(queue) == [PriceUpdate]


def test_data_behind_the_first_pong_go_directly() -> None:
    """In one read, too: it is the pong that makes READY, not the turn."""
    bench = Bench()
    queue = bench.queue(DataEvent)
    bench.take(price("one"), PONG, price("two"))
    assert bench.heard == [PriceUpdate, Pong]
    assert [event.mint for event in drain(queue) if isinstance(event, PriceUpdate)] == ["one", "two"]


def test_the_session_hears_what_is_no_data_with_its_time() -> None:
    """Pongs, errors, what is unknown, and what is no message at all."""
    bench = Bench().ready()
    bench.take(PONG, {"type": "error", "message": "slow down"}, {"type": "news"}, b"\xff")
    assert bench.heard == [Pong, ServerError, UnknownMessage, InvalidMessage]
    assert {now for _, _, now in bench.log} == {LATER}


def test_the_only_wallet_is_the_channel_of_a_transaction() -> None:
    """The session knows it; by the plain way, which an open connection takes behind something held, as by the fast."""
    bench = Bench().ready()
    bench.session.want([Transactions("W")])
    bench.session.tick(LATER)
    queue = bench.queue(TransactionConfirmed)
    message = {"type": "transaction_confirmed", "signature": "s", "status": "ok", "slot": 1}
    bench.take(message)
    bench.outlet.held.append(Pong(None))
    bench.take(message)
    events = [*drain(queue), *bench.outlet.held]
    assert [event.channel for event in events if isinstance(event, DataEvent)] == [Transactions("W")] * 2


def test_data_wait_behind_what_is_held() -> None:
    """A blocking consumer that is full holds up everything, so that nothing overtakes."""
    bench = Bench().ready()
    other = bench.queue(PriceUpdate)
    bench.queue(PriceUpdate, maxsize=1, overflow="block")
    bench.take(price("one"), price("two"))
    bench.take(price("three"))
    assert [event.mint for event in bench.outlet.held if isinstance(event, PriceUpdate)] == ["two", "three"]
    assert [event.mint for event in drain(other) if isinstance(event, PriceUpdate)] == ["one"]


def test_what_comes_while_something_is_held_waits_though_there_is_room_again() -> None:
    """In its order; only the outlet's next try decides."""
    bench = Bench().ready()
    queue = bench.queue(PriceUpdate)
    bench.outlet.held.append(Pong(None))
    bench.take(price("one"), {"type": "news"}, price("two"))
    assert [type(event) for event in bench.outlet.held] == [Pong, PriceUpdate, UnknownMessage, PriceUpdate]
    assert len(queue) == 0


def test_without_a_router_messages_are_counted() -> None:
    """Its client was collected, and the thread is about to hear of it."""
    bench = Bench().ready()
    bench.outlet.router = lambda: None
    bench.take(price("one"), PONG)
    assert bench.counters.received_by_type == {"price_update": 1, "pong": 1}


# --- The end of the connection


@pytest.mark.parametrize("behind", [price("two"), {"type": "news"}])
def test_what_is_behind_the_end_is_not_heard(behind: dict[str, Any]) -> None:
    """A message made the session give the connection up: the rest of the same read is nobody's, whatever it is."""
    bench = Bench().ready()
    bench.session.last = ServerError
    queue = bench.queue(DataEvent, UnknownMessage)
    bench.take(price("one"), {"type": "error"}, behind)
    assert bench.network.transport is None
    assert [event.mint for event in drain(queue) if isinstance(event, PriceUpdate)] == ["one"]
    assert bench.heard == [ServerError]
    assert bench.counters.messages_received == 2


def test_what_is_behind_a_rejection_is_heard() -> None:
    """The session leaves a little later: a close behind it would say more than the error."""
    bench = Bench().ready()
    bench.take(REJECTION, price("two"), {"type": "news"})
    assert (bench.heard, bench.counters.messages_received) == ([ServerError, UnknownMessage], 3)
    assert bench.network.transport is not None


def test_what_is_behind_the_end_by_the_plain_way_is_not_heard() -> None:
    """Likewise before READY, where everything goes by it."""
    bench = Bench()
    bench.take(price("one"), REJECTION, price("two"))
    assert bench.network.transport is None
    assert bench.heard == [PriceUpdate, ServerError]


# --- What comes of delivering


def test_losses_are_reported_behind_what_was_delivered() -> None:
    """By the fast way, too, there is one report when a consumer begins to drop."""
    bench = Bench().ready()
    told = bench.queue(EventsDropped)
    queue = bench.queue(PriceUpdate, maxsize=1)
    bench.take(price("one"), price("two"), price("three"))
    assert drain(told) == [EventsDropped(2, queue.name)]
    assert bench.counters.dropped == 2


def test_a_callback_buffer_that_must_not_overflow_ends_the_client() -> None:
    """The session is told of the failure, and closes."""
    bench = Bench(callbacks=Callbacks(EventQueue("callbacks", 1, "error"))).ready()
    bench.router.add_callback("token", [Price("one")], lambda event: None)
    bench.take(price("one"), price("one"))
    assert bench.session.state is State.CLOSED
    assert isinstance(bench.session.error, SlowConsumer)


# --- Counting


def test_every_byte_is_counted() -> None:
    """Of payloads, whatever is in them."""
    bench = Bench().ready()
    frames = bench.take(price("one"), b"not JSON", PONG)
    assert bench.counters.bytes_received == sum(map(len, frames))
    bench.take(PONG)
    assert bench.counters.bytes_received == sum(map(len, frames)) + len(json.dumps(PONG))


def test_odd_messages_are_counted_twice() -> None:
    """As messages of their type, and as what is wrong with them."""
    bench = Bench().ready()
    bench.take({"type": "news"}, {"type": "news"}, b"not JSON", b"[]", b"{}", PONG)
    assert (bench.counters.unknown, bench.counters.invalid) == (2, 3)
    assert bench.counters.received_by_type == {"news": 2, "(invalid)": 3, "pong": 1}


# --- Taps


@pytest.mark.parametrize("state", [State.CONNECTING, State.READY])
def test_taps_get_all_of_a_read_undecoded_and_first(state: State) -> None:
    """With the time at which it was read, in every state; what is no message, too."""
    bench = Bench() if state is State.CONNECTING else Bench().ready()
    bench.intake.taps = (Tap(bench.log, "one"), Tap(bench.log, "two"))
    frames = bench.take(b"not JSON", price("one"))
    assert bench.log[:2] == [("one", LATER.wall, frames), ("two", LATER.wall, frames)]
    assert [entry[0] for entry in bench.log[2:]] == ["session"] * (2 if state is State.CONNECTING else 1)


def test_taps_get_what_is_behind_the_end() -> None:
    """It was received."""
    bench = Bench()
    bench.intake.taps = (Tap(bench.log),)
    frames = bench.take(REJECTION, price("two"))
    assert bench.log[0] == ("tap", LATER.wall, frames)


def test_a_tap_that_is_taken_out_meanwhile_harms_nobody() -> None:
    """The tuple is replaced, so the I/O thread ends its round over the old one."""
    bench = Bench().ready()

    class Leaving(Tap):
        def put(self, at: datetime, messages: Sequence[bytes], /) -> None:
            super().put(at, messages)
            bench.intake.taps = ()

    bench.intake.taps = (Leaving(bench.log, "one"), Tap(bench.log, "two"))
    bench.take(PONG)
    bench.take(PONG)
    assert [entry[0] for entry in bench.log] == ["one", "two", "session", "session"]


def test_it_tells_whether_a_read_was_data_and_nothing_else() -> None:
    """What went the plain way may want something of the loop, and so may an end."""
    one, two, pong = (json.dumps(each).encode() for each in (price("one"), price("two"), PONG))
    bench = Bench()
    assert not bench.intake.take([], LATER)
    assert not bench.intake.take([one], LATER)
    assert not bench.intake.take([pong], LATER)
    assert bench.intake.take([], LATER)
    assert bench.intake.take([one, two], LATER)
    for frames in ([pong], [pong, one], [one, pong], [one, pong, two]):
        assert not bench.intake.take(frames, LATER)
    full = Bench(callbacks=Callbacks(EventQueue("callbacks", 1, "error"))).ready()
    full.router.add_callback("token", [Price("one")], lambda event: None)
    assert full.intake.take([one], LATER)
    assert not full.intake.take([one], LATER)


def test_nothing_read_is_nothing() -> None:
    """A read that brought control frames alone."""
    bench = Bench().ready()
    bench.take()
    assert (bench.log, bench.counters.messages_received, bench.counters.bytes_received) == ([], 0, 0)
