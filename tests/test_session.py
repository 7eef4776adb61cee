"""The protocol's rules without I/O: every input in every state, with exact outputs and exact deadlines."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from inspect import signature
from itertools import pairwise
from typing import Any

import pytest

from allenhark_ws._counters import Counters
from allenhark_ws._instant import Instant
from allenhark_ws._session import Drop, Flushed, Open, Output, Send, SendAuth, Session
from allenhark_ws.channels import Bot, Channel, Price, Transactions
from allenhark_ws.config import Backoff
from allenhark_ws.errors import (
    AllenHarkError,
    AuthenticationError,
    CertificateRejected,
    ClientClosed,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    HandshakeRejected,
)
from allenhark_ws.events import (
    Closed,
    Connected,
    DataEvent,
    Disconnected,
    Event,
    Gap,
    InvalidMessage,
    Pong,
    PriceUpdate,
    Reconnecting,
    ServerError,
    ServerEvent,
    UnknownMessage,
)
from allenhark_ws.state import State

from .fakes import START, Dice, FakeClock, off_the_wire, settings

PING = Send(b'{"type":"ping"}')
ONE, TWO, THREE = Price("one"), Bot("two"), Price("three")
FIRST_WALLET, SECOND_WALLET = Transactions("first"), Transactions("second")
RESET = ConnectionLost("reset")
REFUSED = ConnectionFailed("refused")
REJECTED = AuthenticationError("no such key")
NO_ROOM = ServerError("no room")
KEY_ERROR = ServerError("invalid API key", "bad")


def subscribe(name: str, key: str, identifier: str) -> Send:
    """The subscribe message, spelt out."""
    return Send(f'{{"type":"subscribe","channel":"{name}","{key}":"{identifier}"}}'.encode())


def unsubscribe(name: str, key: str, identifier: str) -> Send:
    """The unsubscribe message, spelt out."""
    return Send(f'{{"type":"unsubscribe","channel":"{name}","{key}":"{identifier}"}}'.encode())


SUB_ONE, UNSUB_ONE = subscribe("price", "mint", "one"), unsubscribe("price", "mint", "one")
SUB_TWO, UNSUB_TWO = subscribe("bot", "botId", "two"), unsubscribe("bot", "botId", "two")
SUB_THREE = subscribe("price", "mint", "three")


class Bench:
    """A session, its clock, and short ways to the state a test is about."""

    def __init__(self, *wanted: Channel, draw: float = 1.0, **changes: Any) -> None:
        self.clock = FakeClock()
        self.counters = Counters()
        self.session = Session(settings(**changes), self.counters, Dice(draw))
        self.session.want(wanted)

    @property
    def now(self) -> Instant:
        """The time."""
        return self.clock.now()

    def after(self, seconds: float) -> list[Output]:
        """What is done by a tick that many seconds later."""
        self.clock.advance(seconds)
        return self.tick()

    def tick(self, *, room: bool = True) -> list[Output]:
        """What is done by a tick."""
        self.session.tick(self.now, room=room)
        return self.session.take()

    def hear(self, event: ServerEvent | DataEvent) -> list[Output]:
        """What comes of a message."""
        self.session.heard(self.now)
        self.session.received(event, self.now)
        return self.session.take()

    def lose(self, loss: ConnectionLost = RESET) -> list[Output]:
        """What comes of the connection's end."""
        self.session.lost(loss, self.now)
        return self.session.take()

    def fail(self, failure: ConnectionFailed | ConfigurationError = REFUSED) -> list[Output]:
        """What comes of an opening that failed."""
        self.session.open_failed(failure, self.now)
        return self.session.take()

    def reconnect(self) -> list[Output]:
        """What comes of the user's wish for a new connection."""
        self.session.reconnect(self.now)
        return self.session.take()

    def close(self) -> list[Output]:
        """What comes of the user's wish to end."""
        self.session.close()
        return self.session.take()

    def due(self) -> float | None:
        """Seconds until the next deadline."""
        deadline = self.session.next_deadline()
        return None if deadline is None else deadline - self.now.mono

    def opening(self) -> Bench:
        """On to a connection being opened."""
        if self.session.state is State.IDLE:
            self.session.start(self.now)
        self.clock.advance(self.due() or 0.0)
        assert self.tick() == [Open()]
        return self

    def early(self) -> Bench:
        """On to an open connection that has not answered yet."""
        self.opening()
        self.session.opened(self.now)
        assert self.session.take() == [SendAuth(), PING]
        return self

    def ready(self) -> Bench:
        """On to READY, with everything sent."""
        self.early()
        assert Pong() in self.hear(Pong())
        self.tick()
        return self

    def waiting(self) -> Bench:
        """On to the wait after a failed attempt."""
        self.opening()
        self.fail()
        return self

    def closed(self) -> Bench:
        """On to the end."""
        self.close()
        return self


def in_state(name: str, *wanted: Channel, **changes: Any) -> Bench:
    """A bench in one of the situations a client can be in."""
    bench = Bench(*wanted, **changes)
    return bench if name == "idle" else getattr(bench, name)()


IDLE, OPENING, EARLY, READY, WAITING, CLOSED = "idle", "opening", "early", "ready", "waiting", "closed"
SITUATIONS = {
    IDLE: State.IDLE,
    OPENING: State.CONNECTING,
    EARLY: State.CONNECTING,
    READY: State.READY,
    WAITING: State.BACKOFF,
    CLOSED: State.CLOSED,
}
"""Every situation, and the state that users see."""


def kinds(outputs: list[Output]) -> list[type]:
    """The outputs' classes."""
    return [type(output) for output in outputs]


def only(kind: type[Any], outputs: list[Output]) -> Any:
    """The one output of a class."""
    (found,) = [output for output in outputs if isinstance(output, kind)]
    return found


# Every situation and every input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("situation", "state"), SITUATIONS.items())
def test_situations(situation: str, state: State) -> None:
    """Each is what it is called."""
    assert in_state(situation).session.state is state


@pytest.mark.parametrize(
    ("situation", "expected"),
    [(IDLE, None), (OPENING, None), (EARLY, 10.0), (READY, 30.0), (WAITING, 0.5), (CLOSED, None)],
)
def test_the_next_deadline(situation: str, expected: float | None) -> None:
    """Nothing is due while the loop opens a connection, or before the beginning, or after the end."""
    assert in_state(situation).due() == expected


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_tick_before_anything_is_due_does_nothing(situation: str) -> None:
    """However often."""
    bench = in_state(situation)
    deadline = bench.due()
    assert bench.tick() == []
    assert bench.due() == deadline


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_late_tick_does_what_was_due(situation: str) -> None:
    """Hours later, after a sleep of the machine, as at the deadline itself."""
    bench, punctual = in_state(situation), in_state(situation)
    bench.clock.advance(10_000.0)
    punctual.clock.advance(punctual.due() or 0.0)
    assert kinds(bench.tick()) == kinds(punctual.tick())
    assert bench.session.state is punctual.session.state


@pytest.mark.parametrize("situation", SITUATIONS)
def test_start_in_every_situation(situation: str) -> None:
    """It begins once; later it is nothing."""
    bench = in_state(situation)
    bench.session.start(bench.now)
    assert bench.session.take() == []
    assert bench.tick() == ([Open()] if situation == IDLE else [])
    assert bench.session.state is (State.CONNECTING if situation == IDLE else SITUATIONS[situation])


@pytest.mark.parametrize("situation", SITUATIONS)
def test_close_in_every_situation(situation: str) -> None:
    """Drop what there is and say so, once; no Disconnected for our own doing."""
    bench = in_state(situation)
    bench.session.close()
    expected = [] if situation == CLOSED else [Drop(1000, final=True), Closed(None)]
    assert bench.session.take() == expected
    assert bench.session.state is State.CLOSED
    assert bench.session.error is None
    assert bench.due() is None
    assert bench.after(1e6) == []
    bench.session.close(REJECTED)
    assert bench.session.take() == []
    assert bench.session.error is None


def test_a_session_begins_idle() -> None:
    """Nobody can give it another state, or books of his own."""
    assert list(signature(Session).parameters) == ["settings", "counters", "draw"]


def test_close_with_an_error() -> None:
    """It is the terminal error, and told."""
    bench = in_state(READY)
    bench.session.close(REJECTED)
    assert bench.session.take() == [Drop(1000, final=True), Closed(REJECTED)]
    assert bench.session.error is REJECTED


def test_close_before_a_begun_start_opens_nothing() -> None:
    """Start and close at once: there is nothing to wait for."""
    bench = Bench()
    bench.session.start(bench.now)
    bench.session.close()
    assert bench.session.take() == [Drop(1000, final=True), Closed(None)]
    assert bench.tick() == []


@pytest.mark.parametrize("situation", SITUATIONS)
def test_reconnect_in_every_situation(situation: str) -> None:
    """Whatever is under way is given up, and the next try comes at once; nothing after the end."""
    bench = in_state(situation)
    outputs = bench.reconnect()
    assert not any(output.final for output in outputs if isinstance(output, Drop))
    expected: dict[str, list[type]] = {
        OPENING: [Drop, Reconnecting],
        EARLY: [Drop, Reconnecting],
        READY: [Drop, Disconnected, Reconnecting],
    }
    assert kinds(outputs) == expected.get(situation, [])
    if situation == CLOSED:
        assert bench.due() is None
        assert bench.tick() == []
        return
    assert bench.due() == 0.0
    assert bench.tick() == [Open()]


def test_reconnect_when_ready_is_a_loss_like_any_other() -> None:
    """Disconnected, Reconnecting, Connected, Gap; the server is told goodbye and no count suffers."""
    bench = Bench(ONE).ready()
    bench.clock.advance(3.0)
    drop, disconnected, reconnecting = bench.reconnect()
    assert drop == Drop(1000)
    cause = disconnected.cause
    assert isinstance(cause, ConnectionLost)
    assert cause.reason == "reconnect() was called"
    assert disconnected == Disconnected(1006, "", cause, 0.0)
    assert reconnecting == Reconnecting(1, 0.0, cause)
    assert bench.session.last_failure is cause
    bench.early()
    outputs = bench.hear(Pong())
    assert kinds(outputs) == [Connected, Gap, Pong]
    assert only(Gap, outputs).cause is cause
    assert only(Connected, outputs).attempt == 1
    assert only(Reconnecting, bench.lose()).delay == 0.5, "the first wait: no count went on"


@pytest.mark.parametrize("situation", [OPENING, EARLY])
def test_reconnect_while_connecting_is_the_next_try(situation: str) -> None:
    """The try given up counts as one, but not as failed."""
    bench = in_state(situation, backoff=Backoff(max_attempts=1))
    drop, reconnecting = bench.reconnect()
    assert drop == Drop(1000)
    assert isinstance(reconnecting, Reconnecting)
    assert (reconnecting.attempt, reconnecting.delay) == (2, 0.0)
    assert bench.counters.attempts == 0
    assert only(Connected, bench.early().hear(Pong())).attempt == 2


def test_reconnect_after_a_stable_connection_starts_the_counts_anew() -> None:
    """Thirty seconds READY count, whoever ended them."""
    bench = Bench()
    for _ in range(3):
        bench.opening().fail()
    bench.ready()
    bench.clock.advance(30.0)
    bench.reconnect()
    bench.opening()
    assert only(Reconnecting, bench.fail()).delay == 0.5


def test_reconnect_after_a_short_connection_leaves_the_counts() -> None:
    """A moment less does not."""
    bench = Bench()
    for _ in range(3):
        bench.opening().fail()
    bench.ready()
    bench.clock.advance(29.875)
    bench.reconnect()
    bench.opening()
    assert only(Reconnecting, bench.fail()).delay == 4.0


@pytest.mark.parametrize("situation", SITUATIONS)
def test_opened_in_every_situation(situation: str) -> None:
    """What nobody waits for any more is dropped; what is waited for authenticates."""
    bench = in_state(situation)
    bench.session.opened(bench.now)
    expected = [SendAuth(), PING] if situation in {OPENING, EARLY} else [Drop()]
    assert bench.session.take() == expected
    assert bench.session.state is SITUATIONS[situation]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_open_failed_in_every_situation(situation: str) -> None:
    """A failure counts for the attempt under way, if there is one."""
    bench = in_state(situation)
    attempts = bench.counters.attempts
    outputs = bench.fail()
    if situation in {OPENING, EARLY}:
        assert outputs == [Reconnecting(2, 0.5, REFUSED)]
        assert bench.session.last_failure is REFUSED
        assert bench.counters.attempts == attempts + 1
        assert bench.due() == 0.5
    else:
        assert outputs == []
        assert bench.session.state is SITUATIONS[situation]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_lost_in_every_situation(situation: str) -> None:
    """A READY connection is disconnected, an earlier one was an attempt, none is nothing."""
    bench = in_state(situation)
    outputs = bench.lose()
    if situation == EARLY:
        (reconnecting,) = outputs
        assert isinstance(reconnecting, Reconnecting)
        assert (reconnecting.attempt, reconnecting.delay) == (2, 0.5)
        assert isinstance(reconnecting.cause, ConnectionFailed)
        assert reconnecting.cause.reason == "the connection ended before the first pong: reset"
        assert reconnecting.cause.__cause__ is RESET
    elif situation == READY:
        assert outputs == [Disconnected(1006, "", RESET, 0.5), Reconnecting(1, 0.5, RESET)]
        assert bench.session.last_failure is RESET
    else:
        assert outputs == []


@pytest.mark.parametrize("situation", SITUATIONS)
def test_heard_suspend_and_resume_say_nothing(situation: str) -> None:
    """Books only."""
    bench = in_state(situation)
    bench.session.heard(bench.now)
    bench.session.suspend()
    bench.session.resume(bench.now)
    assert bench.session.take() == []
    assert bench.session.state is SITUATIONS[situation]


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize(
    "event", [UnknownMessage("welcome"), InvalidMessage("not JSON"), ServerError("slow down"), Pong()]
)
def test_every_message_comes_out_again(situation: str, event: ServerEvent) -> None:
    """Once, held back before the first pong, but not for ever; nothing is told of what has no connection."""
    bench = in_state(situation)
    outputs = bench.hear(event) + bench.close()
    assert outputs.count(event) == (situation in {EARLY, READY})
    assert situation == CLOSED or isinstance(outputs[-1], Closed)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_want_and_unwant_in_every_situation(situation: str) -> None:
    """The wanted set is the truth at once; the server hears of it when READY."""
    bench = in_state(situation)
    bench.session.want([ONE, TWO, ONE])
    assert list(bench.session.wanted) == [ONE, TWO]
    assert bench.tick() == ([SUB_ONE, SUB_TWO] if situation == READY else [])
    bench.session.unwant([ONE, THREE, ONE])
    assert list(bench.session.wanted) == [TWO]
    assert bench.tick() == ([UNSUB_ONE] if situation == READY else [])


@pytest.mark.parametrize("situation", SITUATIONS)
def test_restate_in_every_situation(situation: str) -> None:
    """Whatever was wanted before, these are, and the server hears of the difference."""
    bench = in_state(situation)
    bench.session.want([ONE, TWO])
    bench.tick()
    bench.session.restate(frozenset({TWO, THREE}))
    assert list(bench.session.wanted) == [TWO, THREE]
    assert bench.tick() == ([UNSUB_ONE, SUB_THREE] if situation == READY else [])


@pytest.mark.parametrize("situation", SITUATIONS)
def test_flush_in_every_situation(situation: str) -> None:
    """A READY connection pings at once, any other waits."""
    bench = in_state(situation)
    bench.session.flush("request")
    assert bench.tick() == ([PING] if situation == READY else [])


@pytest.mark.parametrize("situation", SITUATIONS)
def test_forget_flush_in_every_situation(situation: str) -> None:
    """Known or not; what is forgotten is not pinged for."""
    bench = in_state(situation)
    bench.session.flush("request")
    bench.session.forget_flush("request")
    bench.session.forget_flush("another")
    assert bench.tick() == []


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("target", State)
def test_an_illegal_move_raises_and_changes_nothing(state: State, target: State) -> None:
    """There is one table, and one setter that asks it."""
    bench = in_state(next(name for name, seen in SITUATIONS.items() if seen is state))
    legal = {
        State.IDLE: {State.CONNECTING, State.CLOSED},
        State.CONNECTING: {State.READY, State.BACKOFF, State.CLOSED},
        State.READY: {State.BACKOFF, State.CLOSED},
        State.BACKOFF: {State.CONNECTING, State.CLOSED},
        State.CLOSED: set(),
    }
    if target in legal[state]:
        bench.session._move(target)
        assert bench.session.state is target
        return
    with pytest.raises(RuntimeError, match=f"illegal move from {state.name} to {target.name}"):
        bench.session._move(target)
    assert bench.session.state is state
    assert bench.session.take() == []


def test_moves_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """For those who debug; nothing above that level."""
    with caplog.at_level("DEBUG", logger="allenhark_ws"):
        in_state(WAITING)
    assert caplog.record_tuples == [
        ("allenhark_ws", 10, "IDLE -> CONNECTING"),
        ("allenhark_ws", 10, "CONNECTING -> BACKOFF"),
    ]


def test_outputs_are_handed_out_once() -> None:
    """The second take is empty."""
    bench = Bench()
    bench.session.close()
    assert bench.session.take()
    assert bench.session.take() == []


# The authentication barrier -------------------------------------------------------------------------------------------


def test_the_first_pong_makes_ready() -> None:
    """Auth, ping; the first pong proves the key, and only then the channels are subscribed, in order."""
    bench = Bench(ONE, TWO).early()
    assert bench.tick() == []
    bench.clock.advance(0.25)
    assert bench.hear(Pong()) == [Connected(1, 0.25), Pong()]
    assert bench.session.state is State.READY
    assert bench.counters.connected_since == START.wall + timedelta(seconds=0.25)
    assert bench.tick() == [SUB_ONE, SUB_TWO]
    assert bench.tick() == []


def test_no_gap_on_the_first_connection() -> None:
    """Even when it took several attempts; nothing was lost."""
    bench = Bench(ONE).waiting()
    assert kinds(bench.early().hear(Pong())) == [Connected, Pong]
    assert bench.counters.reconnects == 0


def test_pongs_are_counted_from_zero_on_each_connection() -> None:
    """Pings that the last connection left unanswered and pongs it had too many mean nothing on the next."""
    bench = Bench().ready()
    bench.hear(Pong())
    bench.after(30.0)
    bench.after(30.0)
    bench.lose()
    bench.early()
    bench.clock.advance(0.5)
    assert only(Connected, bench.hear(Pong())).rtt == 0.5


def test_a_missing_first_pong_fails_the_attempt() -> None:
    """Exactly at the pong timeout, whatever else arrives meanwhile."""
    bench = Bench(pong_timeout=7.0).early()
    assert bench.due() == 7.0
    bench.clock.advance(6.875)
    assert bench.hear(UnknownMessage("welcome")) == []
    assert bench.tick() == []
    assert bench.due() == 0.125
    told, drop, reconnecting = bench.after(0.125)
    assert (told, drop) == (UnknownMessage("welcome"), Drop())
    assert isinstance(reconnecting, Reconnecting)
    assert (reconnecting.attempt, reconnecting.delay) == (2, 0.5)
    assert getattr(reconnecting.cause, "reason", "") == "no pong came within 7 s after authentication"
    assert bench.session.state is State.BACKOFF


def test_heartbeats_do_not_begin_before_ready() -> None:
    """One ping is the barrier; a shorter heartbeat interval waits for READY."""
    bench = Bench(heartbeat_interval=2.0).early()
    assert bench.after(3.0) == []
    assert kinds(bench.hear(Pong())) == [Connected, Pong]
    assert bench.due() == -1.0
    assert bench.tick() == [PING]
    assert bench.due() == 2.0


def test_early_messages_are_told_after_the_gap() -> None:
    """Whatever the server says before its pong belongs behind Connected and Gap: data, replies and invalid frames."""
    bench = Bench(ONE).ready()
    bench.lose()
    bench.early()
    price = PriceUpdate("one", 1.0, 2.0, START.wall)
    early: list[ServerEvent | DataEvent] = [UnknownMessage("auth_success"), price, InvalidMessage("binary")]
    for event in early:
        assert bench.hear(event) == []
    outputs = bench.hear(Pong())
    assert kinds(outputs[:2]) == [Connected, Gap]
    assert outputs[2:] == [*early, Pong()]
    assert bench.hear(UnknownMessage("subscribed")) == [UnknownMessage("subscribed")]


@pytest.mark.parametrize(
    "end",
    [
        lambda bench: bench.lose(),
        lambda bench: bench.fail(),
        lambda bench: bench.after(10.0),
        lambda bench: bench.reconnect(),
        lambda bench: bench.close(),
    ],
    ids=["lost", "failed", "barrier", "reconnect", "close"],
)
def test_early_messages_are_told_when_the_attempt_ends(end: Callable[[Bench], list[Output]]) -> None:
    """First of all, and once."""
    bench = Bench().early()
    bench.hear(UnknownMessage("hello"))
    outputs = end(bench)
    assert outputs[0] == UnknownMessage("hello")
    assert outputs.count(UnknownMessage("hello")) == 1


def test_early_messages_fill_no_memory() -> None:
    """A thousand are held; with one more all are told, and the pong still makes READY."""
    bench = Bench().early()
    events = [UnknownMessage(f"{number}") for number in range(1002)]
    assert [bench.hear(event) for event in events[:1000]] == [[]] * 1000
    assert bench.hear(events[1000]) == events[:1001]
    assert bench.hear(events[1001]) == []
    outputs = bench.hear(Pong())
    assert kinds(outputs) == [Connected, UnknownMessage, Pong]
    assert outputs[1] == events[1001]


def test_large_early_messages_fill_no_memory() -> None:
    """A quarter of a mebibyte is held; with one byte more all are told, and counting begins anew."""
    bench = Bench().early()
    half, byte = UnknownMessage("half", raw=b"x" * 131_072), UnknownMessage("byte", raw=b"x")
    for _ in range(2):
        assert [bench.hear(event) for event in (half, half)] == [[], []]
        assert bench.hear(byte) == [half, half, byte]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "error", "message": "no such key"},
        {"type": "auth_error"},
        {"type": "auth_failed"},
        {"type": "unauthorized"},
        {"type": "auth", "success": False},
        {"type": "authenticated", "status": "denied"},
    ],
)
def test_an_early_rejection_ends_a_client_that_was_never_ready(message: dict[str, Any]) -> None:
    """At once: the key will not get better."""
    bench = Bench().early()
    event = off_the_wire(message)
    outputs = bench.hear(event)
    assert kinds(outputs) == [type(event), Drop, Closed]
    assert outputs[:2] == [event, Drop(1000)]
    assert isinstance(bench.session.error, AuthenticationError)
    assert only(Closed, outputs).error is bench.session.error
    assert bench.session.last_failure is bench.session.error
    assert bench.counters.attempts == 1


@pytest.mark.parametrize(
    "text", ["rate limit", "too many connections", "internal server error", "invalid key, rate limit"]
)
def test_early_trouble_is_retried(text: str) -> None:
    """An error that says rate limit, too many connections or server trouble is no rejection, though it drops us."""
    bench = Bench().early()
    outputs = bench.hear(ServerError(text))
    assert kinds(outputs) == [ServerError, Drop, Reconnecting]
    assert outputs[1] == Drop(1000)
    cause = only(Reconnecting, outputs).cause
    assert type(cause) is ConnectionFailed
    assert text in cause.reason


def test_early_replies_that_do_not_reject() -> None:
    """They are not waited for and break nothing."""
    bench = Bench().early()
    for kind in ("auth_success", "authenticated", "connected", "auth"):
        assert bench.hear(UnknownMessage(kind)) == []
    assert kinds(bench.hear(Pong())) == [Connected, *[UnknownMessage] * 4, Pong]


# Rejections later -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 5.0])
def test_a_fresh_error_about_the_key_is_a_rejection(seconds: float) -> None:
    """For five seconds; since the client has been READY, the first is retried with backoff."""
    bench = Bench(ONE).ready()
    bench.clock.advance(seconds)
    assert bench.hear(KEY_ERROR) == [KEY_ERROR]
    assert bench.due() == 0.25
    assert bench.after(0.125) == []
    drop, disconnected, reconnecting = bench.after(0.125)
    assert drop == Drop(1000)
    assert isinstance(disconnected, Disconnected)
    assert (disconnected.code, disconnected.reason, disconnected.will_retry_in) == (1006, "", 0.5)
    assert disconnected.cause.reason == "the server rejected the API key: invalid API key"
    assert reconnecting == Reconnecting(1, 0.5, disconnected.cause)


@pytest.mark.parametrize("code", [1000, 1006, 4401])
def test_a_close_behind_a_fresh_error_about_the_key_is_told(code: int) -> None:
    """Its code and reason, whatever they are; the error has decided already, and the first one."""
    bench = Bench(ONE).ready()
    bench.hear(KEY_ERROR)
    bench.clock.advance(0.125)
    for text in ("unauthorized", "unknown mint"):
        other = off_the_wire({"type": "error", "message": text})
        assert bench.hear(other) + bench.tick() == [other]
    assert bench.due() == 0.125
    loss = ConnectionLost("closed by the server", code, "bye")
    assert bench.lose(loss) == [Disconnected(code, "bye", loss, 0.5), Reconnecting(1, 0.5, loss)]
    bench.ready()
    bench.hear(KEY_ERROR)
    assert kinds(bench.lose(loss)) == [Disconnected, Closed]
    assert isinstance(bench.session.error, AuthenticationError)
    assert bench.session.error.reason == "invalid API key"


def test_a_late_error_about_the_key_is_only_an_error() -> None:
    """A moment after the five seconds."""
    bench = Bench().ready()
    bench.clock.advance(5.125)
    assert bench.hear(KEY_ERROR) + bench.after(1.0) == [KEY_ERROR]
    assert bench.session.state is State.READY


@pytest.mark.parametrize("message", [{"message": "unknown mint"}, {"message": "unauthorized", "botId": "two"}])
def test_a_fresh_error_about_something_else_is_only_an_error(message: dict[str, Any]) -> None:
    """It must clearly speak of the key."""
    bench = Bench().ready()
    event = off_the_wire({"type": "error"} | message)
    assert bench.hear(event) + bench.after(1.0) == [event]


def test_later_auth_like_messages_are_only_unknown() -> None:
    """READY was proved."""
    bench = Bench().ready()
    for message in ({"type": "auth_failed"}, {"type": "auth", "success": False}):
        event = off_the_wire(message)
        assert bench.hear(event) + bench.after(1.0) == [event]


def test_a_second_rejection_without_a_stable_time_between_is_final() -> None:
    """The first is retried; READY for less than reset_after does not earn another; Disconnected says so."""
    bench = Bench().ready()
    bench.hear(KEY_ERROR)
    bench.after(0.25)
    bench.ready()
    outputs = bench.hear(KEY_ERROR) + bench.after(0.375)
    assert kinds(outputs) == [ServerError, Drop, Disconnected, Closed]
    assert only(Disconnected, outputs).will_retry_in is None
    error = bench.session.error
    assert isinstance(error, AuthenticationError)
    assert (error.reason, error.code) == ("invalid API key", "bad")
    assert only(Closed, outputs).error is error
    assert bench.due() is None


@pytest.mark.parametrize("code", [1008, 3000, 3003, 4001, 4003, 4401, 4403])
def test_auth_like_closes(code: int) -> None:
    """Before READY they end a client that never was; afterwards the first is retried with backoff, the second final."""
    loss = ConnectionLost("closed by the server", code, "who are you?")
    bench = Bench().early()
    assert kinds(bench.lose(loss)) == [Closed]
    assert isinstance(bench.session.error, AuthenticationError)
    assert bench.session.error.code == code
    bench = Bench().ready()
    assert bench.lose(loss) == [Disconnected(code, "who are you?", loss, 0.5), Reconnecting(1, 0.5, loss)]
    bench.ready()
    bench.clock.advance(29.875)
    outputs = bench.lose(loss)
    assert kinds(outputs) == [Disconnected, Closed]
    assert only(Disconnected, outputs).will_retry_in is None


def test_an_auth_like_close_after_a_stable_time_is_forgiven_again() -> None:
    """Exactly reset_after seconds READY; with backoff all the same."""
    loss = ConnectionLost("closed by the server", 4401)
    bench = Bench()
    for _ in range(3):
        bench.ready()
        bench.clock.advance(30.0)
        assert only(Disconnected, bench.lose(loss)).will_retry_in == 0.5


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1012, 1013, 4000])
def test_every_other_close_is_retried(code: int) -> None:
    """As often as it comes, before READY and after."""
    loss = ConnectionLost("closed by the server", code)
    bench = Bench()
    for _ in range(3):
        assert kinds(bench.early().lose(loss)) == [Reconnecting]
    for _ in range(3):
        assert kinds(bench.ready().lose(loss)) == [Disconnected, Reconnecting]


@pytest.mark.parametrize("failure", [REJECTED, CertificateRejected("expired"), ConfigurationError("the key is empty")])
def test_terminal_failures_of_an_opening(failure: ConnectionFailed | ConfigurationError) -> None:
    """Never READY: final at once. Once READY: the first is retried, the second final."""
    bench = Bench().opening()
    assert bench.fail(failure) == [Closed(failure)]
    assert bench.session.error is failure
    bench = Bench().ready()
    bench.lose()
    bench.opening()
    assert bench.fail(failure) == [Reconnecting(2, 1.0, failure)]
    bench.opening()
    assert bench.fail(failure) == [Closed(failure)]


def test_different_terminal_failures_count_together() -> None:
    """A rejection and then a certificate: two."""
    bench = Bench().ready()
    bench.hear(KEY_ERROR)
    bench.after(0.25)
    bench.opening()
    failure = CertificateRejected("expired")
    assert bench.fail(failure) == [Closed(failure)]


class Watched(Session):
    """Notes what another thread would find the moment it sees the end."""

    found: AllenHarkError | None

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "state" and value is State.CLOSED:
            self.found = self.error


@pytest.mark.parametrize("how", ["failure", "loss", "close"])
def test_whoever_sees_the_end_finds_the_error(how: str) -> None:
    """The error is there before the state says so."""
    error = ClientClosed("enough") if how == "close" else REJECTED
    bench = Bench()
    bench.session = Watched(settings(), bench.counters, Dice(1.0))
    if how == "failure":
        bench.opening().fail(REJECTED)
    elif how == "close":
        bench.ready().session.close(error)
    else:
        bench.ready().lose()
        bench.opening().fail(REJECTED)
        bench.opening().fail(REJECTED)
    assert bench.session.state is State.CLOSED
    assert bench.session.found is error


# Heartbeat and liveness -----------------------------------------------------------------------------------------------


def test_a_ping_every_interval() -> None:
    """Counted from the opening, then from ping to ping."""
    bench = Bench().early()
    bench.clock.advance(0.5)
    bench.hear(Pong())
    assert bench.due() == 29.5
    assert bench.after(29.375) == []
    for _ in range(3):
        assert bench.after(0.125) == [PING]
        assert bench.due() == 10.0
        bench.hear(Pong())
        assert bench.due() == 30.0
        assert bench.after(29.875) == []


def test_silence_after_a_ping_is_death() -> None:
    """Exactly at the pong timeout: dropped without a word, and retried."""
    bench = Bench().ready()
    bench.clock.advance(30.0)
    assert bench.tick() == [PING]
    assert bench.after(9.875) == []
    drop, disconnected, reconnecting = bench.after(0.125)
    assert drop == Drop()
    assert isinstance(disconnected, Disconnected)
    assert disconnected.cause.reason == "nothing arrived within 10 s after a ping"
    assert disconnected == Disconnected(1006, "", disconnected.cause, 0.0)
    assert reconnecting == Reconnecting(1, 0.0, disconnected.cause)


@pytest.mark.parametrize("situation", [EARLY, READY])
def test_what_lies_unread_is_read_before_life_is_judged(situation: str) -> None:
    """A machine that slept past the deadline has not listened: only a look at the socket after it shows silence."""
    bench = in_state(situation)
    bench.clock.advance(bench.due() or 0.0)
    deadline = bench.now.mono
    if situation == READY:
        assert bench.tick() == [PING]
        deadline += 10.0
    now = bench.clock.advance(3600.0)
    for silent_at in (-math.inf, deadline - 0.125):
        bench.session.tick(now, silent_at=silent_at)
        assert Drop() not in bench.session.take()
        assert bench.session.next_deadline() == deadline
    bench.session.tick(now, silent_at=deadline)
    assert Drop() in bench.session.take()


def test_a_server_that_talks_on_without_a_pong_fails_the_attempt() -> None:
    """What came before the deadline may still be read for so long again; there is no end to what may come after it."""
    bench = in_state(EARLY)
    for seconds in (bench.due() or 0.0, 9.875):
        bench.session.tick(bench.clock.advance(seconds), silent_at=-math.inf)
        assert Drop() not in bench.session.take()
    bench.session.tick(bench.clock.advance(0.125), silent_at=-math.inf)
    assert Drop() in bench.session.take()
    assert isinstance(bench.session.last_failure, ConnectionFailed)


def test_a_late_look_gives_the_first_pong_up_too() -> None:
    """The time for what may lie unread can be long over when the loop comes to look."""
    bench = in_state(EARLY)
    for seconds, given_up in ((bench.due() or 0.0, False), (3600.0, True)):
        bench.session.tick(bench.clock.advance(seconds), silent_at=-math.inf)
        assert (Drop() in bench.session.take()) is given_up


def test_any_frame_is_proof_of_life() -> None:
    """A frame without a pong suffices until the next ping."""
    bench = Bench().ready()
    assert bench.after(30.0) == [PING]
    bench.clock.advance(9.875)
    bench.session.heard(bench.now)
    assert bench.due() == 20.125
    assert bench.after(20.125) == [PING]
    assert kinds(bench.after(10.0)) == [Drop, Disconnected, Reconnecting]


def test_a_later_ping_does_not_put_death_off() -> None:
    """A heartbeat faster than the timeout: the first unanswered ping decides."""
    bench = Bench(heartbeat_interval=4.0).ready()
    assert [bench.after(4.0), bench.after(4.0), bench.after(4.0)] == [[PING]] * 3
    assert bench.due() == 2.0
    assert kinds(bench.after(2.0)) == [Drop, Disconnected, Reconnecting]


def test_wall_clock_jumps_change_nothing() -> None:
    """Rules go by the monotonic clock; a gap's end is its beginning plus its duration."""
    bench = Bench(ONE).ready()
    bench.clock.set_wall(START.wall + timedelta(days=365))
    assert bench.tick() == []
    assert bench.due() == 30.0
    bench.clock.set_wall(START.wall - timedelta(days=365))
    bench.clock.advance(2.0)
    bench.lose()
    bench.clock.set_wall(START.wall + timedelta(days=3650))
    outputs = bench.early().hear(Pong())
    gap = only(Gap, outputs)
    assert gap.duration == 2.5
    assert (gap.started_at, gap.ended_at) == (START.wall, START.wall + timedelta(seconds=2.5))


def test_seconds_are_counted_from_anywhere() -> None:
    """Monotonic clocks begin at any number, a small one after a boot: only differences count."""
    bench = Bench(ONE)
    bench.clock = FakeClock(Instant(0.25, START.wall))
    bench.early()
    bench.clock.advance(2.5)
    assert only(Connected, bench.hear(Pong())).rtt == 2.5
    bench.lose()
    bench.opening().session.opened(bench.now)
    bench.clock.advance(7.5)
    assert only(Gap, bench.hear(Pong())).duration == 8.0


def test_round_trips_and_the_clock_offset() -> None:
    """Each ping waits for its own pong; the offset takes half of the round trip into account."""
    bench = Bench(heartbeat_interval=4.0).early()
    bench.clock.advance(1.0)
    bench.hear(Pong())
    assert (bench.counters.rtt_last, bench.counters.clock_offset) == (1.0, None)
    assert [bench.after(3.0), bench.after(4.0)] == [[PING], [PING]]
    bench.clock.advance(0.5)
    bench.hear(Pong(bench.now.wall + timedelta(seconds=7.0)))
    assert bench.counters.rtt_last == 4.5
    assert bench.counters.clock_offset == 9.25
    bench.hear(Pong())
    assert (bench.counters.rtt_last, bench.counters.rtt_min, bench.counters.rtt_avg) == (0.5, 0.5, 2.0)
    bench.hear(Pong())
    assert bench.counters.rtt_avg == 2.0, "a pong too many measures nothing"


# A consumer blocks ----------------------------------------------------------------------------------------------------


def test_liveness_is_suspended_while_a_consumer_blocks() -> None:
    """Pings go on, silence proves nothing, and reading again gives the server its time anew."""
    bench = Bench().ready()
    bench.session.suspend()
    assert [bench.after(30.0) for _ in range(3)] == [[PING]] * 3
    assert bench.due() == 30.0
    bench.clock.advance(1.0)
    bench.session.resume(bench.now)
    assert bench.due() == 10.0
    assert bench.after(9.875) == []
    assert kinds(bench.after(0.125)) == [Drop, Disconnected, Reconnecting]


def test_resuming_without_a_ping_under_way_sets_no_deadline() -> None:
    """Silence counts from a ping only."""
    bench = Bench().ready()
    bench.session.suspend()
    bench.clock.advance(5.0)
    bench.session.resume(bench.now)
    assert bench.due() == 25.0


def test_the_barrier_is_suspended_too() -> None:
    """The pong may be waiting unread; afterwards it has its full time."""
    bench = Bench().early()
    bench.session.suspend()
    assert bench.due() is None
    assert bench.after(1000.0) == []
    bench.session.resume(bench.now)
    assert bench.due() == 10.0
    assert kinds(bench.after(10.0)) == [Drop, Reconnecting]


def test_suspension_holds_for_a_connection_opened_meanwhile() -> None:
    """Consumers block whatever connection there is; the backoff does not care."""
    bench = Bench().waiting()
    bench.session.suspend()
    assert bench.due() == 0.5
    bench.early()
    assert bench.due() is None


def test_requests_go_out_while_suspended() -> None:
    """Only reading rests."""
    bench = Bench().ready()
    bench.session.suspend()
    bench.session.want([ONE])
    assert bench.due() == 0.0
    assert bench.tick() == [SUB_ONE]


# Reconnecting ---------------------------------------------------------------------------------------------------------


def test_the_loss_of_a_stable_connection_is_retried_at_once() -> None:
    """Then with full jitter, the bound growing; tries are numbered since the loss."""
    bench = Bench(draw=0.5).ready()
    bench.clock.advance(30.0)
    assert bench.lose() == [Disconnected(1006, "", RESET, 0.0), Reconnecting(1, 0.0, RESET)]
    assert bench.due() == 0.0
    for attempt, delay in ((2, 0.25), (3, 0.5), (4, 1.0)):
        bench.opening()
        assert bench.fail() == [Reconnecting(attempt, delay, REFUSED)]
        assert bench.due() == delay
    assert bench.counters.attempts == 3
    outputs = bench.early().hear(Pong())
    assert only(Connected, outputs).attempt == 4
    assert bench.counters.attempts == 0


def test_a_connection_short_of_stable_waits() -> None:
    """A moment less than reset_after."""
    bench = Bench().ready()
    bench.clock.advance(29.875)
    assert only(Reconnecting, bench.lose()).delay == 0.5


def test_the_retry_comes_when_its_wait_is_over() -> None:
    """Not a moment earlier."""
    bench = Bench().waiting()
    assert bench.after(0.375) == []
    assert bench.due() == 0.125
    assert bench.after(0.125) == [Open()]
    assert bench.session.state is State.CONNECTING
    assert bench.due() is None


def test_the_first_connection_is_retried_too() -> None:
    """With Reconnecting before each wait, for ever by default."""
    bench = Bench()
    for number in range(200):
        bench.opening()
        (told,) = bench.fail()
        assert isinstance(told, Reconnecting)
        assert (told.attempt, told.delay) == (number + 2, min(30.0, 0.5 * 2.0**number))
    assert bench.counters.attempts == 200


def test_max_attempts_end_the_client() -> None:
    """With ConnectionFailed, which tells how many and the last; a single one has no retry announced."""
    bench = Bench(backoff=Backoff(max_attempts=2)).waiting()
    bench.opening()
    (closed,) = bench.fail()
    error = bench.session.error
    assert isinstance(closed, Closed)
    assert closed.error is error
    assert type(error) is ConnectionFailed
    assert (error.reason, error.attempts) == ("refused", 2)
    assert error.__cause__ is REFUSED
    assert bench.session.state is State.CLOSED
    assert bench.due() is None


def test_max_attempts_go_on_over_a_short_ready() -> None:
    """Failed attempts count until a connection was stable."""
    bench = Bench(backoff=Backoff(max_attempts=2)).waiting()
    bench.ready()
    assert kinds(bench.lose()) == [Disconnected, Reconnecting]
    bench.opening()
    assert kinds(bench.fail()) == [Closed]


def test_max_attempts_start_anew_after_a_stable_ready() -> None:
    """Then all are allowed again."""
    bench = Bench(backoff=Backoff(max_attempts=2)).waiting()
    bench.ready()
    bench.clock.advance(30.0)
    bench.lose()
    bench.opening()
    assert kinds(bench.fail()) == [Reconnecting]


def test_a_rejection_as_the_last_attempt_is_the_error_itself() -> None:
    """Its own class says more than a count."""
    bench = Bench(backoff=Backoff(max_attempts=1)).ready()
    bench.lose()
    bench.opening()
    assert bench.fail(REJECTED) == [Closed(REJECTED)]


@pytest.mark.parametrize(("asked", "delay"), [(0.0, 0.5), (42.0, 42.0), (300.0, 300.0), (301.0, 300.0)])
def test_retry_after_is_honoured(asked: float, delay: float) -> None:
    """Up to its cap."""
    failure = HandshakeRejected(429, retry_after=asked)
    bench = Bench().opening()
    assert bench.fail(failure) == [Reconnecting(2, delay, failure)]
    assert bench.due() == delay


def test_a_gap_tells_what_may_have_been_missed() -> None:
    """From the last frame to READY; what was wanted at the loss and still is; one for several failed attempts."""
    bench = Bench(ONE, TWO).ready()
    bench.clock.advance(3.0)
    bench.session.heard(bench.now)
    heard = bench.now
    bench.clock.advance(1.0)
    bench.session.unwant([TWO])
    bench.session.want([THREE])
    bench.lose()
    bench.session.unwant([THREE])
    bench.session.want([TWO, FIRST_WALLET])
    bench.opening().fail()
    bench.early()
    assert kinds(bench.lose()) == [Reconnecting], "an attempt that failed is no second loss"
    bench.early()
    bench.clock.advance(0.5)
    outputs = bench.hear(Pong())
    duration = bench.now.mono - heard.mono
    assert outputs[1] == Gap(heard.wall, bench.now.wall, duration, frozenset({ONE}), RESET)
    assert kinds(outputs) == [Connected, Gap, Pong]
    assert bench.counters.reconnects == 1
    bench.lose()
    assert kinds(bench.early().hear(Pong())) == [Connected, Gap, Pong]
    assert bench.counters.reconnects == 2


def test_a_gap_of_a_connection_that_said_nothing_more() -> None:
    """Its first pong was the last frame."""
    bench = Bench().early()
    bench.clock.advance(1.0)
    bench.hear(Pong())
    began = bench.now
    bench.clock.advance(2.0)
    bench.lose()
    gap = only(Gap, bench.early().hear(Pong()))
    assert (gap.started_at, gap.duration) == (began.wall, 2.5)


def test_connected_since_ends_with_the_connection() -> None:
    """It is None while not READY."""
    bench = Bench().ready()
    assert bench.counters.connected_since == START.wall
    bench.lose()
    assert bench.counters.connected_since is None


# What the server is asked for -----------------------------------------------------------------------------------------


def test_exact_messages() -> None:
    """The keys of the vendor's page, and no others."""
    bench = Bench(ONE, TWO, FIRST_WALLET).early()
    bench.hear(Pong())
    assert bench.tick() == [SUB_ONE, SUB_TWO, subscribe("transactions", "wallet", "first")]
    bench.session.unwant([FIRST_WALLET, TWO])
    assert bench.tick() == [unsubscribe("transactions", "wallet", "first"), UNSUB_TWO]


def test_every_connection_subscribes_to_all_that_is_wanted() -> None:
    """Edits made meanwhile included."""
    bench = Bench(ONE, TWO).ready()
    bench.lose()
    bench.session.unwant([ONE])
    bench.session.want([THREE])
    bench.early()
    bench.hear(Pong())
    assert bench.tick() == [SUB_TWO, SUB_THREE]


def test_what_is_undone_before_it_was_sent_is_never_sent() -> None:
    """Subscribe and unsubscribe, or the other way round, between two turns."""
    bench = Bench(ONE).ready()
    bench.session.want([TWO])
    bench.session.unwant([TWO])
    bench.session.unwant([ONE])
    bench.session.want([ONE])
    assert bench.due() == 0.0
    assert bench.tick() == []
    assert bench.due() == 30.0


def test_edits_between_opening_and_ready_are_not_lost() -> None:
    """Nothing is sent before the first pong."""
    bench = Bench(ONE).early()
    bench.session.want([TWO])
    bench.session.unwant([ONE])
    assert bench.tick() == []
    bench.hear(Pong())
    assert bench.tick() == [SUB_TWO]


def test_a_full_send_buffer_holds_requests_but_not_pings() -> None:
    """Without room nothing is asked for, and nothing is due for it."""
    bench = Bench().ready()
    bench.session.want([ONE])
    assert bench.session.next_deadline(room=False) == START.mono + 30.0
    assert bench.tick(room=False) == []
    bench.clock.advance(30.0)
    assert bench.tick(room=False) == [PING]
    assert bench.tick() == [SUB_ONE]


def test_there_is_room_unless_it_is_said_that_there_is_none() -> None:
    """Neither the deadline nor the tick holds anything back by itself."""
    bench = Bench().ready()
    bench.session.want([ONE])
    assert bench.session.next_deadline() == START.mono
    bench.session.tick(bench.now)
    assert bench.session.take() == [SUB_ONE]


def test_many_channels_leave_turns_for_reading() -> None:
    """256 requests a turn, the rest at once in the next."""
    bench = Bench(*(Price(f"mint-{number}") for number in range(600))).early()
    bench.hear(Pong())
    sent: list[Output] = []
    for expected in (256, 256, 88):
        assert bench.due() == 0.0
        outputs = bench.tick()
        assert len(outputs) == expected
        sent += outputs
    assert bench.due() == 30.0
    assert sent == [subscribe("price", "mint", f"mint-{number}") for number in range(600)]


def test_the_send_rate() -> None:
    """Each message takes a slot, auth and ping too; requests wait for theirs, exactly."""
    bench = Bench(ONE, TWO, THREE, max_send_rate=4.0).early()
    bench.hear(Pong())
    assert bench.due() == 0.5, "auth and ping took a quarter of a second each"
    assert bench.after(0.375) == []
    assert bench.after(0.125) == [SUB_ONE]
    assert bench.due() == 0.25
    assert bench.after(0.25) == [SUB_TWO]
    assert bench.after(0.125) == []
    assert bench.after(0.125) == [SUB_THREE]
    assert bench.due() == 29.0


def test_unused_slots_are_not_saved_up() -> None:
    """After a rest the rate holds as before."""
    bench = Bench(max_send_rate=4.0).ready()
    bench.clock.advance(20.0)
    bench.session.want([ONE, TWO])
    assert bench.due() == -19.5, "long due"
    assert bench.tick() == [SUB_ONE]
    assert bench.due() == 0.25
    assert bench.after(0.25) == [SUB_TWO]


def test_heartbeats_do_not_wait_for_a_slot_but_take_one() -> None:
    """They are due when they are due."""
    bench = Bench(max_send_rate=0.125, heartbeat_interval=16.0).ready()
    bench.session.want([ONE, TWO])
    assert bench.due() == 16.0
    assert bench.after(16.0) == [PING]
    bench.hear(Pong())
    assert bench.due() == 8.0
    assert bench.after(8.0) == [SUB_ONE]


@pytest.mark.parametrize(
    ("rate", "interval", "apart"), [(1.0, 1.0, 2.0), (0.5, 1.0, 4.0), (0.25, 0.5, 8.0), (2.0, 0.5, 1.0)]
)
def test_heartbeats_as_frequent_as_slots_leave_some_to_requests(rate: float, interval: float, apart: float) -> None:
    """A request gives way to a heartbeat once."""
    bench = Bench(max_send_rate=rate, heartbeat_interval=interval).ready()
    bench.session.want([Price(str(number)) for number in range(5)])
    sent: list[float] = []
    for turn in range(100):
        for output in bench.after(0.5):
            if output == PING:
                bench.hear(Pong())
            else:
                sent.append(turn * 0.5)
    assert [after - before for before, after in pairwise(sent)] == [apart] * 4


def test_heartbeats_of_an_idle_client_take_no_slots_ahead() -> None:
    """A request after an hour waits for one slot, though heartbeats came more often than that."""
    bench = Bench(max_send_rate=1 / 64, heartbeat_interval=16.0).ready()
    for _ in range(225):
        assert bench.after(16.0) == [PING]
        bench.hear(Pong())
    bench.session.want([ONE])
    waited = 0.0
    while SUB_ONE not in bench.after(1.0):
        waited += 1.0
        bench.hear(Pong())
    assert waited < 2 * 64.0


def test_without_a_send_rate_everything_goes_at_once() -> None:
    """The default."""
    bench = Bench(ONE, TWO, THREE).early()
    bench.hear(Pong())
    assert bench.tick() == [SUB_ONE, SUB_TWO, SUB_THREE]


def test_the_only_wallet() -> None:
    """As subscribed on this connection; none without a connection."""
    bench = Bench(FIRST_WALLET)
    seen = [bench.session.wallet]
    bench.early()
    seen.append(bench.session.wallet)
    bench.hear(Pong())
    seen.append(bench.session.wallet)
    bench.tick()
    seen.append(bench.session.wallet)
    for edit, wallet in ((bench.session.want, SECOND_WALLET), (bench.session.unwant, FIRST_WALLET)):
        edit([wallet])
        bench.tick()
        seen.append(bench.session.wallet)
    bench.lose()
    seen.append(bench.session.wallet)
    assert seen == [None, None, None, FIRST_WALLET, None, SECOND_WALLET, None]


# Flush ----------------------------------------------------------------------------------------------------------------


def test_flush_goes_behind_what_was_asked_before() -> None:
    """And before what is asked later; the answer tells the round trip, after the pong itself."""
    bench = Bench().ready()
    bench.session.want([ONE])
    bench.session.flush("request")
    bench.session.want([TWO])
    assert bench.tick() == [SUB_ONE, PING, SUB_TWO]
    bench.clock.advance(0.125)
    pong, flushed = bench.hear(Pong())
    assert pong == Pong()
    assert isinstance(flushed, Flushed)
    assert (flushed.request, flushed.rtt, flushed.errors) == ("request", 0.125, ())
    assert bench.hear(Pong()) == [Pong()], "answered once"


def test_a_surplus_pong_answers_no_flush() -> None:
    """It was credited to nothing when it came."""
    bench = Bench().ready()
    bench.hear(Pong())
    bench.session.flush("request")
    bench.tick()
    assert kinds(bench.hear(Pong())) == [Pong, Flushed]


def test_a_heartbeat_pong_answers_no_flush() -> None:
    """Each ping waits for its own."""
    bench = Bench().ready()
    bench.after(30.0)
    bench.session.flush("request")
    bench.tick()
    assert bench.hear(Pong()) == [Pong()]
    assert kinds(bench.hear(Pong())) == [Pong, Flushed]


def test_flushes_are_answered_in_order() -> None:
    """Each by its own pong."""
    bench = Bench().ready()
    for request in ("one", "two"):
        bench.session.flush(request)
    assert bench.tick() == [PING, PING]
    assert only(Flushed, bench.hear(Pong())).request == "one"
    assert only(Flushed, bench.hear(Pong())).request == "two"


def test_flush_waits_for_ready() -> None:
    """Its ping goes behind the subscribes; the barrier's pong does not answer it."""
    bench = Bench(ONE)
    bench.session.flush("request")
    bench.early()
    assert kinds(bench.hear(Pong())) == [Connected, Pong]
    assert bench.tick() == [SUB_ONE, PING]
    assert kinds(bench.hear(Pong())) == [Pong, Flushed]


def test_flush_waits_over_a_reconnect() -> None:
    """The next connection pings for it anew, with the errors heard so far."""
    bench = Bench(ONE).ready()
    bench.session.flush("request")
    assert bench.tick() == [PING]
    bench.hear(NO_ROOM)
    bench.lose()
    bench.early()
    assert kinds(bench.hear(Pong())) == [Connected, Gap, Pong]
    assert bench.tick() == [SUB_ONE, PING]
    assert only(Flushed, bench.hear(Pong())).errors == (NO_ROOM,)


def test_a_forgotten_flush_is_not_answered() -> None:
    """Its ping is under way and its pong still counts for it alone."""
    bench = Bench().ready()
    bench.session.flush("one")
    bench.session.flush("two")
    bench.tick()
    bench.session.forget_flush("one")
    assert bench.hear(Pong()) == [Pong()]
    assert only(Flushed, bench.hear(Pong())).request == "two"


def test_a_forgotten_flush_does_not_come_back_after_a_reconnect() -> None:
    """Nor is it pinged for."""
    bench = Bench().ready()
    bench.session.flush("request")
    bench.lose()
    bench.session.forget_flush("request")
    bench.early()
    bench.hear(Pong())
    assert bench.tick() == []


def test_errors_between_flush_and_pong_are_its_answer() -> None:
    """Every flush that waits hears of them; they come out as events all the same."""
    bench = Bench().ready()
    bench.session.flush("one")
    bench.session.flush("two")
    bench.tick()
    assert bench.hear(NO_ROOM) == [NO_ROOM]
    assert only(Flushed, bench.hear(Pong())).errors == (NO_ROOM,)
    other = ServerError("another")
    bench.hear(other)
    assert only(Flushed, bench.hear(Pong())).errors == (NO_ROOM, other)


def test_an_error_that_came_before_the_flush_is_reported_if_it_may_answer_a_request() -> None:
    """Subscribe, error, flush: the flush tells, once."""
    bench = Bench().ready()
    bench.session.want([ONE])
    bench.tick()
    bench.hear(NO_ROOM)
    bench.session.flush("one")
    bench.tick()
    assert only(Flushed, bench.hear(Pong())).errors == (NO_ROOM,)
    bench.session.flush("two")
    bench.tick()
    assert only(Flushed, bench.hear(Pong())).errors == ()


def test_a_heartbeat_does_not_swallow_the_errors() -> None:
    """Those heard before its pong wait for the next flush; after it an error answers nothing that was asked."""
    bench = Bench(ONE).ready()
    bench.hear(NO_ROOM)
    bench.after(30.0)
    bench.hear(Pong())
    bench.hear(ServerError("unasked"))
    bench.session.flush("request")
    bench.tick()
    assert only(Flushed, bench.hear(Pong())).errors == (NO_ROOM,)


def test_an_unasked_error_before_a_flush_is_not_its_answer() -> None:
    """Nothing had been requested that it could answer."""
    bench = Bench().ready()
    bench.hear(NO_ROOM)
    bench.session.flush("request")
    bench.tick()
    assert only(Flushed, bench.hear(Pong())).errors == ()


def test_errors_of_a_lost_connection_are_no_answer_on_the_next() -> None:
    """There the channels are asked for anew."""
    bench = Bench(ONE).ready()
    bench.hear(NO_ROOM)
    bench.lose()
    bench.ready()
    bench.session.flush("request")
    bench.tick()
    assert only(Flushed, bench.hear(Pong())).errors == ()


def test_errors_fill_no_memory() -> None:
    """A hundred are kept, the first ones."""
    bench = Bench(ONE).ready()
    bench.session.flush("early")
    bench.tick()
    errors = [ServerError(f"{number}") for number in range(150)]
    for error in errors:
        bench.hear(error)
    bench.session.flush("late")
    bench.tick()
    assert only(Flushed, bench.hear(Pong())).errors == tuple(errors[:100])
    assert only(Flushed, bench.hear(Pong())).errors == tuple(errors[:100])


def test_large_errors_fill_no_memory() -> None:
    """The first is kept whatever its size, others as long as they are small."""
    bench = Bench(ONE).ready()
    bench.session.flush("request")
    bench.tick()
    large, small = (ServerError("no", raw=b"x" * size) for size in (1_000_000, 100_000))
    for error in (small, large, small, small):
        bench.hear(error)
    assert only(Flushed, bench.hear(Pong())).errors == (small,) * 2
    bench.session.flush("request")
    bench.tick()
    for error in (large, small):
        bench.hear(error)
    assert only(Flushed, bench.hear(Pong())).errors == (large,)


def test_errors_fill_a_quarter_of_a_mebibyte() -> None:
    """One that fills it to the last byte is kept, and with it nothing more; what has no frame takes no room."""
    bench = Bench(ONE).ready()
    bench.session.flush("request")
    bench.tick()
    half, byte = (ServerError(f"{size}", raw=b"x" * size) for size in (131_072, 1))
    for error in (half, half, byte, NO_ROOM):
        bench.hear(error)
    assert only(Flushed, bench.hear(Pong())).errors == (half, half, NO_ROOM)


def test_a_rejection_while_a_flush_waits() -> None:
    """It is heard of as an error, and the flush goes on over the retry."""
    bench = Bench().ready()
    bench.session.flush("request")
    bench.tick()
    bench.hear(KEY_ERROR)
    bench.after(0.25)
    bench.early()
    bench.hear(Pong())
    bench.tick()
    assert only(Flushed, bench.hear(Pong())).errors == (KEY_ERROR,)


def test_a_whole_life() -> None:
    """The lifecycle in one piece, as a consumer of every event sees it."""
    bench = Bench(ONE)
    seen: list[Event] = []

    def note(outputs: list[Output]) -> None:
        seen.extend(output for output in outputs if isinstance(output, Event))

    note(bench.opening().fail())
    note(bench.early().hear(Pong()))
    bench.tick()
    note(bench.lose())
    note(bench.opening().fail())
    note(bench.early().hear(Pong()))
    bench.session.close()
    note(bench.session.take())
    error: AllenHarkError | None = bench.session.error
    assert error is None
    assert [type(event).__name__ for event in seen] == [
        *("Reconnecting", "Connected", "Pong"),
        *("Disconnected", "Reconnecting", "Reconnecting", "Connected", "Gap", "Pong"),
        "Closed",
    ]


def test_a_late_tick_notices_silence_too() -> None:
    """The loop may be late, after a suspend for example: past its deadline a mute connection is as dead as at it."""
    bench = in_state("ready")
    assert bench.after(30.0) == [PING]
    bench.session.heard(bench.now)
    assert bench.after(30.0) == [PING]
    lost = only(Disconnected, bench.after(10.001))
    assert lost.cause.reason == "nothing arrived within 10 s after a ping"
