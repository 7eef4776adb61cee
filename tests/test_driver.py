"""The I/O thread's work, turn by turn, on the test's own thread: what it sleeps for, reads, judges and obeys."""

from __future__ import annotations

import contextlib
import math
import selectors
import socket
import weakref
from collections.abc import Callable, Generator
from typing import Any

import pytest
from attrs import define, field, fields

from allenhark_ws import Closed, Disconnected, Event, Price, PriceUpdate, Reconnecting, SlowCallback
from allenhark_ws._aside import Interrupted
from allenhark_ws._codec import Codec
from allenhark_ws._counters import Counters
from allenhark_ws._dispatch import SLOW, InlineCallbacks
from allenhark_ws._driver import Driver
from allenhark_ws._instant import Instant
from allenhark_ws._network import GOODBYE
from allenhark_ws._queue import EventQueue
from allenhark_ws._redact import Redactor
from allenhark_ws._router import Router
from allenhark_ws._session import Flushed, Session
from allenhark_ws.channels import Channel
from allenhark_ws.errors import ConnectionLost
from allenhark_ws.state import State

from .fakes import FakeClock, off_the_wire, settings
from .scripted import ScriptedServer, Wire, outcome, price

LOST = ConnectionLost("the cable was cut")
HEARTBEAT, PONG_TIMEOUT = 30.0, 10.0


class Jumping(FakeClock):
    """A clock whose waits take no time: when nothing is ready it stands at their end.

    Attributes:
        waits: the timeout of every wait, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, selector: selectors.BaseSelector, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Jump."""
        self.waits.append(timeout)
        ready = selector.select(0)
        if not ready:
            assert timeout is not None, "nothing would ever wake it"
            self.advance(timeout)
        return ready


@define(eq=False)
class Watched:
    """A callback thread that looks as it is told to.

    Attributes:
        watch: when to look at it again.
        slow: the report it has to make.
    """

    watch: float | None = None
    slow: SlowCallback | None = None

    def watch_at(self, now: float) -> float | None:
        """As told."""
        return self.watch

    def overdue(self, now: float) -> SlowCallback | None:
        """As told, once."""
        slow, self.slow = self.slow, None
        return slow


class Ticking(Session):
    """A session that notes when it is asked to do what is due: for each time, when there was nothing to read."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.ticks: list[float] = []

    def tick(self, now: Instant, *, room: bool = True, silent_at: float = math.inf) -> None:
        """Note it, and go on as ever."""
        self.ticks.append(silent_at)
        super().tick(now, room=room, silent_at=silent_at)


@define(eq=False)
class Bench:
    """A driver of a scripted server's client, with its router; every turn is made by the test.

    Attributes:
        states: what was told of the state; likewise `flushed`.
    """

    changes: dict[str, Any] = field(factory=dict[str, Any])
    callbacks: Any = None
    server: ScriptedServer = field(factory=ScriptedServer)
    clock: Jumping = field(factory=Jumping)
    states: list[State] = field(factory=list[State])
    flushed: list[Flushed] = field(factory=list[Flushed])
    session: Ticking = field(init=False)
    router: Router = field(init=False)
    driver: Driver = field(init=False)

    def __attrs_post_init__(self) -> None:
        counters, chosen = Counters(), settings(**self.changes)
        self.session = Ticking(chosen, counters, lambda: 1.0)
        self.driver = Driver(
            chosen,
            self.session,
            Codec(),
            counters,
            Redactor(),
            self.server.connect,
            self.clock,
            self.callbacks,
            self.states.append,
            self.flushed.append,
        )
        sink = InlineCallbacks(counters, lambda event: self.mail(self.driver.outlet.emit, [event]))
        self.router = Router(counters, sink, self)
        sink.attach(weakref.ref(self.router))
        self.driver.outlet.router = weakref.ref(self.router)

    # What a router asks of a loop

    def want(self, channels: list[Channel]) -> None:
        """By mail."""
        self.mail(self.session.want, channels)

    def unwant(self, channels: list[Channel]) -> None:
        """By mail."""
        self.mail(self.session.unwant, channels)

    def restate(self, channels: frozenset[Channel]) -> None:
        """By mail."""
        self.mail(self.session.restate, channels)

    def wake(self) -> None:
        """The next turn sees it without."""

    # What tests ask

    def mail(self, function: Callable[..., object], *arguments: object) -> None:
        """Something to be done on the I/O thread."""
        self.driver.mailbox.append((function, arguments))

    def turn(self, times: int = 1) -> int:
        """Make so many turns; how many of them asked the session for what is due."""
        before = len(self.session.ticks)
        for _ in range(times):
            self.driver.turn()
        return len(self.session.ticks) - before

    def ready(self) -> Bench:
        """READY, with nothing left to do but to wait for the heartbeat."""
        self.mail(self.session.start, self.clock.now())
        self.turn(2)
        assert self.session.state is State.READY
        self.clock.waits.clear()
        self.states.clear()
        return self

    def stream(self, *kinds: Any, maxsize: int = 100, overflow: str = "drop_oldest") -> EventQueue:
        """A consumer."""
        queue = EventQueue("q", maxsize, overflow)
        self.router.add_queue(queue, kinds, queue)
        return queue

    @property
    def wire(self) -> Wire:
        """The latest connection."""
        return self.server.wires[-1]


@contextlib.contextmanager
def bench(callbacks: Any = None, **changes: Any) -> Generator[Bench]:
    """One that is released at the end."""
    made = Bench(changes, callbacks)
    made.driver.sleeper.open()
    try:
        yield made
    finally:
        made.driver.finish()
        made.driver.sleeper.close()


def taken(queue: EventQueue) -> list[Any]:
    """Everything that is queued."""
    return list(queue.queued())


def names(queue: EventQueue) -> list[str]:
    """The kinds of everything that is queued."""
    return [type(event).__name__ for event in taken(queue)]


def test_what_it_comes_to_hold_is_no_argument() -> None:
    """A driver begins with an empty mailbox and no connection, and reads once a turn."""
    arguments = ["settings", "session", "codec", "counters", "redactor", "connect", "clock", "callbacks"]
    assert [each.alias for each in fields(Driver) if each.init] == [*arguments, "tell_state", "tell_flushed"]
    assert Bench().driver.messages_per_turn == 0


# --- Opening, and the states that are told


def test_states_are_told_once_each() -> None:
    """Whenever a turn has changed it, and only then."""
    with bench() as b:
        b.mail(b.session.start, b.clock.now())
        b.turn()
        assert b.states == [State.CONNECTING]
        b.turn()
        assert b.states == [State.CONNECTING, State.READY]
        b.turn(2)
        assert b.states == [State.CONNECTING, State.READY]
        assert b.server.kinds() == ["auth", "ping", "ping"]


def test_mail_is_read_while_a_connection_is_opened() -> None:
    """Within its waits, as in a turn; what comes of it is told, and the state too."""
    with bench() as b:
        b.server.hang = True
        queue = b.stream(Event)
        b.mail(b.session.start, b.clock.now())

        hang = b.server.script_of_open

        def cut_short(wait: Any) -> None:
            b.driver.sleeper.wake()
            wait(None, 0, math.inf)
            b.mail(b.session.close)
            b.driver.sleeper.wake()
            hang(wait)

        b.server.script_of_open = cut_short
        b.turn()
        assert b.session.state is State.CLOSED
        assert b.states == [State.CONNECTING, State.CLOSED]
        assert names(queue) == ["Closed"]
        assert b.driver.network.candidate is None


def test_a_wait_of_an_opening_says_whether_its_socket_is_ready() -> None:
    """And lasts until its deadline at most."""
    seen: list[bool] = []
    near, far = socket.socketpair()
    with near, far, bench() as b:

        def look(wait: Any) -> None:
            deadline = b.clock.now().mono + 2.5
            seen.append(wait(near, selectors.EVENT_READ, deadline))
            far.send(b"x")
            seen.append(wait(near, selectors.EVENT_READ, deadline))
            seen.append(b.clock.now().mono == deadline)

        b.server.script_of_open = look
        b.mail(b.session.start, b.clock.now())
        b.turn()
        assert seen == [False, True, True]


def test_a_callback_is_watched_while_a_connection_is_opened() -> None:
    """The wait ends when it is to be looked at, and the report goes out within."""
    watched = Watched()
    with bench(watched) as b:
        queue = b.stream(SlowCallback)
        waits: list[float] = []

        def look(wait: Any) -> None:
            start = b.clock.now().mono
            watched.watch, watched.slow = start + 1.0, SlowCallback(print, 1.0)
            wait(None, 0, start + 9.0)
            waits.append(b.clock.now().mono - start)
            watched.watch = None
            wait(None, 0, start + 9.0)
            waits.append(b.clock.now().mono - start)
            assert names(queue) == ["SlowCallback"]

        b.server.script_of_open = look
        b.mail(b.session.start, b.clock.now())
        b.turn()
        assert waits == [1.0, 9.0]


# --- What it sleeps for


@pytest.mark.parametrize("interval", [HEARTBEAT, 3000.0])
def test_it_sleeps_to_the_next_heartbeat(interval: float) -> None:
    """And sends it in the turn that wakes then."""
    with bench(heartbeat_interval=interval) as b:
        b.ready().turn()
        assert b.clock.waits == [interval]
        assert b.server.kinds() == ["auth", "ping", "ping"]


def test_what_is_overdue_is_done_at_once() -> None:
    """The process may have been stopped for a while: it sleeps for no time then, and not for a negative one."""
    with bench(heartbeat_interval=HEARTBEAT) as b:
        b.ready()
        b.clock.advance(HEARTBEAT + 5.0)
        b.turn()
        assert b.clock.waits == [0.0]
        assert b.server.kinds() == ["auth", "ping", "ping"]


def test_mail_is_read_at_once() -> None:
    """It does not sleep while there is some, and reads no more than there was."""
    with bench() as b:
        done: list[int] = []
        b.ready()
        b.mail(lambda: (done.append(1), b.mail(done.append, 2)))
        b.turn()
        assert (b.clock.waits, done) == ([0.0], [1])
        b.turn()
        assert done == [1, 2]


def test_what_a_transport_holds_is_read_at_once() -> None:
    """No socket becomes readable for it; but for nobody while a consumer is full."""
    with bench(heartbeat_interval=HEARTBEAT) as b:
        b.ready()
        queue = b.stream(PriceUpdate)
        b.wire.pending = True
        b.wire.push(price("m"))
        b.turn()
        assert (b.clock.waits, len(queue)) == ([0.0], 1)
        b.driver.outlet.held.append(off_the_wire(price("m")))
        b.stream(PriceUpdate, maxsize=1, overflow="block").put([off_the_wire(price("m"))])
        b.turn()
        assert b.clock.waits[-1] == HEARTBEAT


def test_it_sleeps_until_a_callback_is_to_be_looked_at() -> None:
    """Not longer, though nothing else is due; and reports it then."""
    watched = Watched()
    with bench(watched) as b:
        b.ready()
        queue = b.stream(SlowCallback)
        watched.watch, watched.slow = b.clock.now().mono + 1.0, SlowCallback(print, 1.0)
        b.turn()
        assert (b.clock.waits, names(queue)) == ([1.0], ["SlowCallback"])


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_it_sleeps_until_what_it_sends_must_have_gone(late: float) -> None:
    """And gives the connection up then, having looked at the socket first, which may have been writable meanwhile."""
    expired: list[float] = []
    with bench() as b:
        b.ready()
        start = b.clock.now().mono
        b.wire.send_deadline = start + 5.0
        b.wire.expire = lambda: expired.append(b.clock.now().mono - start)
        b.turn()
        assert (b.clock.waits, expired) == ([5.0], [])
        b.clock.advance(late)
        b.turn()
        assert (b.clock.waits, expired) == ([5.0, 0.0], [5.0 + late])


def test_it_sleeps_for_ever_when_nothing_is_due() -> None:
    """A client that was not started has nothing to wait for."""
    with bench() as b, pytest.raises(AssertionError, match="nothing would ever wake it"):
        b.turn()
    assert b.clock.waits == [None]


def test_it_writes_when_the_socket_takes_more() -> None:
    """It is watched for that while something is left, and only then; nothing is read that is not there."""
    with bench() as b:
        b.ready()
        writes: list[bool] = []

        def write() -> None:
            writes.append(True)
            b.wire.wants_write = False

        b.wire.write = write
        b.wire.push(price("m"))
        b.turn()
        b.turn()
        assert writes == []
        b.turn()  # reads the pong
        b.wire.wants_write = True
        b.turn()
        assert writes == [True]
        b.turn()
        assert writes == [True]


# --- Calm turns


def test_a_turn_ends_with_the_data() -> None:
    """What is due is not looked for: nothing was, before the data came."""
    with bench() as b:
        b.ready()
        queue = b.stream(PriceUpdate, maxsize=300)
        for number in (1, 2, 300):
            b.wire.push(*[price("m")] * number)
            assert b.turn() == 0
            assert len(taken(queue)) == number


def test_after_calm_turns_the_next_deadline_still_stands() -> None:
    """The heartbeat comes when it would have come without the data."""
    with bench(heartbeat_interval=HEARTBEAT) as b:
        b.ready()
        b.clock.advance(20.0)
        b.wire.push(price("m"))
        assert b.turn() == 0
        b.turn()
        assert b.clock.waits == [HEARTBEAT - 20.0] * 2
        assert b.server.kinds().count("ping") == 2


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_what_fell_due_while_callbacks_ran_is_done_before_anything_is_read(late: float) -> None:
    """Without a sleep, and without another read; then all goes on."""
    with bench(heartbeat_interval=HEARTBEAT) as b:
        b.ready()
        queue = b.stream(PriceUpdate)

        def slow(_: Event) -> None:
            b.clock.advance(HEARTBEAT + late)
            b.wire.push(price("m"))

        b.router.add_callback("slow", [PriceUpdate], slow)
        b.wire.push(price("m"))
        assert b.turn() == 0
        assert (b.turn(), len(queue), len(b.clock.waits)) == (1, 1, 1)
        assert b.server.kinds().count("ping") == 2
        b.turn()
        assert len(queue) == 2


def with_pending(b: Bench) -> None:
    """The transport holds more than the read took."""
    b.wire.pending = True
    b.wire.push(price("m"))


def with_something_to_write(b: Bench) -> None:
    """The read left something to write."""
    b.server.before_receive = lambda: setattr(b.wire, "wants_write", True)
    b.wire.push(price("m"))


def with_something_unsent(b: Bench) -> None:
    """What was not sent yet may have gone within the read."""
    b.wire.backlog = 1
    b.wire.push(price("m"))


def with_the_socket_writable(b: Bench) -> None:
    """Something was written."""
    b.wire.wants_write = True
    b.wire.write = lambda: setattr(b.wire, "wants_write", False)
    b.wire.push(price("m"))


def with_a_full_consumer(b: Bench) -> None:
    """Not all could be delivered."""
    b.stream(PriceUpdate, maxsize=1, overflow="block").put([off_the_wire(price("m"))])
    b.wire.push(price("m"))


def with_an_odd_message(b: Bench) -> None:
    """The session was told of it."""
    b.wire.push({"type": "news"})


def with_control_frames(b: Bench) -> None:
    """More frames than messages came."""
    receive = b.wire.receive

    def more() -> Any:
        batch = receive()
        batch.frames += 1
        return batch

    b.wire.receive = more
    b.wire.push(price("m"))


def with_the_end(b: Bench) -> None:
    """The connection is over."""
    b.wire.push(price("m"), end=LOST)


def with_a_deadline_that_is_now(b: Bench) -> None:
    """The heartbeat fell due between the wait and the read."""
    b.server.before_receive = lambda: b.clock.advance(HEARTBEAT)
    b.wire.push(price("m"))


def with_a_deadline_that_passed(b: Bench) -> None:
    """Some time before."""
    b.server.before_receive = lambda: b.clock.advance(HEARTBEAT + 1.0)
    b.wire.push(price("m"))


def with_mail_before(b: Bench) -> None:
    """What was asked may have changed what is due."""
    b.mail(int)
    b.wire.push(price("m"))


def with_nothing(_: Bench) -> None:
    """The socket was not ready: it is a deadline that woke it."""


@pytest.mark.parametrize(
    "happening",
    [
        with_pending,
        with_something_to_write,
        with_something_unsent,
        with_the_socket_writable,
        with_a_full_consumer,
        with_an_odd_message,
        with_control_frames,
        with_the_end,
        with_a_deadline_that_is_now,
        with_a_deadline_that_passed,
        with_mail_before,
        with_nothing,
    ],
)
def test_whatever_else_happens_is_no_calm(happening: Callable[[Bench], None]) -> None:
    """What is due is done in the same turn."""
    with bench(heartbeat_interval=HEARTBEAT) as b:
        b.ready()
        happening(b)
        assert b.turn() == 1


def test_mail_of_a_callback_is_no_calm() -> None:
    """The turn goes on to what is due; the next one reads it at once."""
    done: list[str] = []
    with bench() as b:
        b.ready()
        b.router.add_callback("c", [PriceUpdate], lambda _: b.mail(done.append, "asked"))
        b.turn()
        b.wire.push(price("m"))
        assert b.turn() == 1
        b.turn()
        assert (done, b.clock.waits[-1]) == (["asked"], 0.0)


def test_a_calm_turn_looks_at_the_callback_thread_a_second_later() -> None:
    """It may have been given something that takes long."""
    with bench(Watched()) as b:
        b.ready()
        b.wire.push(price("m"))
        assert b.turn() == 0
        assert b.turn() == 1
        assert b.clock.waits[-1] == SLOW


def test_a_turn_that_reads_on() -> None:
    """It takes in so many messages while there are some, a read being one here, and leaves the rest to the next."""
    with bench() as b:
        b.ready()
        queue = b.stream(PriceUpdate)
        b.driver.messages_per_turn = 3
        b.wire.pending = True
        b.server.before_receive = lambda: b.wire.push(price("m"))
        b.wire.push()
        b.turn()
        assert len(queue) == 3


def test_a_turn_that_reads_on_stops_for_mail() -> None:
    """Nobody waits for a file."""
    with bench() as b:
        b.ready()
        b.router.add_callback("c", [PriceUpdate], lambda _: b.mail(int))
        b.driver.mailbox.clear()
        queue = b.stream(PriceUpdate)
        b.driver.mailbox.clear()
        b.driver.messages_per_turn = 3
        b.wire.pending = True
        b.server.before_receive = lambda: b.wire.push(price("m"))
        b.wire.push()
        b.turn()
        b.driver.mailbox.clear()
        assert len(queue) == 1


# --- What is held


def test_nothing_is_read_while_a_consumer_is_full() -> None:
    """The socket is not even watched; what was held goes first when there is room."""
    with bench(heartbeat_interval=HEARTBEAT) as b:
        b.ready()
        queue = b.stream(PriceUpdate, maxsize=1, overflow="block")
        b.wire.push(price("one"), price("two"))
        b.turn()
        b.wire.push(price("three"))
        before = b.clock.now().mono
        b.turn()
        assert b.clock.now().mono - before == b.clock.waits[-1] == HEARTBEAT
        assert [event.mint for event in taken(queue)] == ["one"]
        b.turn()
        assert [event.mint for event in taken(queue)] == ["two"]
        b.turn(2)
        assert [event.mint for event in taken(queue)] == ["three"]


def test_no_retry_begins_while_something_is_held() -> None:
    """Nothing it led to could be delivered."""
    with bench() as b:
        b.ready()
        queue = b.stream(PriceUpdate, maxsize=1, overflow="block")
        b.wire.push(price("one"), price("two"), end=LOST)
        b.turn()
        assert b.session.state is State.BACKOFF
        with pytest.raises(AssertionError, match="nothing would ever wake it"):
            b.turn()
        assert len(b.server.wires) == 1
        taken(queue)
        b.driver.mailbox.append((int, ()))
        b.turn(2)
        assert len(b.server.wires) == 2


# --- The end of a connection


def test_a_lost_connection_is_told_and_lingers() -> None:
    """Its last moments are given to it behind the news of the loss; it is not this client's any more."""
    lingered: list[float] = []
    with bench() as b:
        queue = b.stream(Disconnected, Reconnecting)
        b.ready()
        told: list[list[str]] = []

        def linger(_wait: Any, deadline: float) -> None:
            told.append(names(queue))
            lingered.append(deadline - b.clock.now().mono)

        b.server.linger = linger
        b.wire.push(price("m"), end=LOST)
        b.turn()
        assert (told, lingered) == ([["Disconnected", "Reconnecting"]], [GOODBYE])
        assert b.driver.network.transport is None


def test_what_is_asked_cuts_the_last_moments_short() -> None:
    """And room that came is used, since the wait took the news of it."""
    with bench() as b:
        b.ready()
        queue = b.stream(PriceUpdate, maxsize=1, overflow="block")
        results: list[object] = []

        def linger(wait: Any, deadline: float) -> None:
            results.append(wait(None, 0, deadline))
            taken(queue)
            results.append(wait(None, 0, deadline))
            results.append([event.mint for event in taken(queue)])
            b.mail(int)
            results.append(type(outcome(lambda: wait(None, 0, deadline))))

        b.server.linger = linger
        b.wire.push(price("one"), price("two"), end=LOST)
        b.turn()
        assert results == [False, False, ["two"], Interrupted]


REJECTION = {"type": "error", "message": "invalid API key"}


def test_a_connection_that_was_given_up_is_not_lost_again() -> None:
    """The rest of the batch, its end too, is nobody's."""
    with bench() as b:
        queue, lingered = b.stream(Event), list[float]()
        b.server.pongs = False
        b.server.linger = lambda _wait, deadline: lingered.append(deadline)
        b.mail(b.session.start, b.clock.now())
        b.turn(2)
        b.wire.push(REJECTION, end=LOST)
        b.turn()
        assert (names(queue), lingered) == (["ServerError", "Closed"], [])


CLOSED = ConnectionLost("closed", 4401, "unauthorized")


@pytest.mark.parametrize(("end", "then"), [(CLOSED, None), (None, CLOSED), (None, None)])
def test_a_close_behind_a_rejection_is_told(end: ConnectionLost | None, then: ConnectionLost | None) -> None:
    """With its code, if it comes with it or soon; without one the server is left."""
    with bench() as b:
        queue = b.stream(Disconnected)
        b.ready()
        b.wire.push(REJECTION, price("m"), end=end)
        b.turn()
        assert (b.session.state is State.READY) == (end is None)
        if end is None and then is not None:
            b.wire.push(end=then)
        if end is None:
            b.turn()
        [event] = taken(queue)
        closes = end or then
        assert (event.code, event.reason) == ((1006, "") if closes is None else (4401, "unauthorized"))
        assert (b.wire.left, b.session.state) == ([("abort", 1000)] if closes is None else [], State.BACKOFF)


def test_a_mute_server_is_judged_by_the_last_look() -> None:
    """The turn that slept past the deadline reads once more before it gives up."""
    with bench(heartbeat_interval=HEARTBEAT, pong_timeout=PONG_TIMEOUT) as b:
        b.ready()
        b.server.pongs = False
        b.turn(2)
        assert b.clock.waits == [HEARTBEAT, PONG_TIMEOUT]
        assert b.session.state is State.READY
        b.turn()
        assert (b.clock.waits[-1], b.session.state) == (0.0, State.BACKOFF)


def test_silence_is_what_was_looked_for() -> None:
    """When the socket had nothing; never, while it had something, or the transport has."""
    with bench(heartbeat_interval=HEARTBEAT) as b:
        b.ready()
        looked_at = b.clock.now().mono
        b.wire.wants_write = True
        b.wire.write = lambda: setattr(b.wire, "wants_write", False)
        b.turn()  # writes
        b.turn()  # sleeps, and sends a ping
        b.turn()  # reads its pong
        b.wire.pending = True
        b.wire.push()
        b.turn()
        assert b.session.ticks[-4:] == [looked_at, looked_at, -math.inf, -math.inf]
        b.wire.pending = False
        b.driver.outlet.held.append(off_the_wire(price("m")))
        b.stream(PriceUpdate, maxsize=1, overflow="block").put([off_the_wire(price("m"))])
        b.wire.pending = True
        b.turn()
        assert b.session.ticks[-1] == -math.inf


# --- Obeying


def test_a_flush_is_told_when_its_pong_came() -> None:
    """To whoever asked."""
    with bench() as b:
        b.ready()
        request = object()
        b.mail(b.session.flush, request)
        b.turn()
        assert b.flushed == []
        b.turn()
        assert [flushed.request for flushed in b.flushed] == [request]


def test_wishes_go_out() -> None:
    """By mail, within the turn."""
    with bench() as b:
        b.ready()
        b.router.hold("holder", [Price("m")])
        b.turn()
        assert b.server.kinds()[-1] == "subscribe"


def test_a_forked_child_does_nothing_more_of_what_was_to_be_done() -> None:
    """A callback of the news of a loss forked: the next connection is the parent's to open."""
    with bench() as b:
        b.ready()
        b.router.add_callback("fork", [Disconnected], lambda _: b.driver.disown())
        b.driver.mailbox.clear()
        b.mail(b.session.reconnect, b.clock.now())
        b.turn()
        assert b.wire.left == [("abort", 1000)]
        assert len(b.server.wires) == 1


# --- The end


def test_finishing_hangs_up_and_delivers_what_is_left() -> None:
    """What is held first, then what the session had to say, into full queues too."""
    with bench() as b:
        b.ready()
        queue = b.stream(PriceUpdate, Closed, maxsize=1, overflow="block")
        b.wire.push(price("one"), price("two"))
        b.turn()
        b.session.close()
        b.driver.finish()
        assert names(queue) == ["PriceUpdate", "PriceUpdate", "Closed"]
        assert b.wire.left == [("abort", None)]


def test_finishing_delivers_what_is_left_though_hanging_up_fails() -> None:
    """The error is not swallowed."""
    with bench() as b:
        b.ready()
        queue = b.stream(Closed)
        b.session.close()
        abort = b.wire.abort

        def fails(code: int | None = None) -> None:
            abort(code)
            raise RuntimeError("on purpose")

        b.wire.abort = fails
        assert isinstance(outcome(b.driver.finish), RuntimeError)
        assert names(queue) == ["Closed"]


def test_a_forked_child_lets_go() -> None:
    """Of taps, connection and descriptors, without a word on the wire."""

    class Tap:
        disowned = 0

        def disown(self) -> None:
            self.disowned += 1

    tap: Any = Tap()
    with bench() as b:
        b.ready()
        b.driver.intake.taps = (tap,)
        b.driver.disown()
        assert (tap.disowned, len(b.driver.intake.taps)) == (1, 0)
        assert (b.driver.network.transport, b.wire.left) == (None, [])
        assert isinstance(outcome(lambda: b.driver.sleeper.sleep(0)), Exception)


def test_at_rest() -> None:
    """Nothing is in the mailbox, being opened, or unread; what is held back waits for its consumer."""
    resting: list[bool] = []
    with bench() as b:

        def look() -> None:
            resting.append(b.driver.at_rest)

        b.server.script_of_open = lambda wait: look()
        b.mail(b.session.start, b.clock.now())
        look()
        b.turn()  # looks while it opens
        b.turn(2)
        look()
        b.wire.pending = True
        look()
        b.driver.outlet.held.append(off_the_wire(price("m")))
        look()
        b.driver.outlet.held.clear()
        b.driver.network.hang_up()
        look()
    assert resting == [False, False, True, False, True, True]
