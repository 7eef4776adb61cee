"""Any interleaving of wishes, messages, losses and time: what holds for the session whatever happens."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from allenhark_ws._counters import Counters
from allenhark_ws._session import Drop, Flushed, Open, Output, Send, SendAuth, Session
from allenhark_ws.channels import Bot, Channel, Price, Transactions
from allenhark_ws.errors import ConnectionFailed, ConnectionLost
from allenhark_ws.events import (
    Closed,
    Connected,
    DataEvent,
    Disconnected,
    Event,
    Gap,
    Pong,
    PriceUpdate,
    Reconnecting,
    ServerError,
    ServerEvent,
    UnknownMessage,
)
from allenhark_ws.state import State

from .fakes import START, Dice, FakeClock, settings

CHANNELS: list[Channel] = [Price("one"), Price("two"), Bot("one"), Transactions("one"), Transactions("two")]
SPELLING = {
    ("price", "mint"): Price,
    ("bot", "botId"): Bot,
    ("transactions", "wallet"): Transactions,
}
SECONDS = [0.0, 0.125, 0.5, 4.0, 10.0, 30.0, 75.0]
CODES = [1006, 1000, 1011, 1008, 4401]
ERRORS = ["rate limit", "unknown mint", "invalid api key"]


class Connection:
    """A server's side of one connection: it does what it is told, and notes every offence against the protocol."""

    def __init__(self) -> None:
        self.authenticated = False
        self.proved = False
        self.unanswered = 0
        self.subscribed: set[Channel] = set()

    def execute(self, message: dict[str, Any]) -> None:
        """One message of the client's."""
        assert self.authenticated, "auth comes first"
        kind = message.pop("type")
        if kind == "ping":
            assert not message
            self.unanswered += 1
            return
        assert self.proved, "nothing is asked for before the first pong"
        name = message.pop("channel")
        ((key, identifier),) = message.items()
        channel = SPELLING[name, key](identifier)
        assert kind in {"subscribe", "unsubscribe"}
        if kind == "subscribe":
            assert channel not in self.subscribed, "subscribed twice"
            self.subscribed.add(channel)
        else:
            self.subscribed.remove(channel)


class SessionMachine(RuleBasedStateMachine):
    """Plays user, network and server to one session, and the loop that obeys it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.wanted: set[Channel] = set()
        self.connection: Connection | None = None
        self.opening = False
        self.announced = True
        self.suspended = False
        self.requests = 0
        self.pending: set[int] = set()
        self.answered: set[int] = set()
        self.said: deque[Event] = deque()
        self.connected = 0
        self.disconnected = 0
        self.wanted_at_loss: set[Channel] | None = None
        self.gap_is_due = False
        self.ended = False
        self.closed_by_user = False

    @initialize(
        rate=st.sampled_from([None, 2.0]),
        draw=st.sampled_from([0.0, 1.0]),
        progress=st.sampled_from(["none", "early", "ready"]),
    )
    def begin(self, rate: float | None, draw: float, progress: str) -> None:
        """A client not started yet, or one that is on its way."""
        self.session = Session(settings(max_send_rate=rate), Counters(), Dice(draw))
        if progress == "ready":
            self.quiesce()
        elif progress == "early":
            self.start()
            self.opened()

    # --- The loop: obey, and tick whenever something is due

    def settle(self) -> None:
        """Obey and tick until nothing is left to do now."""
        for _ in range(8):
            before = len(self.obey())
            self.session.tick(self.clock.now())
            if not before + len(self.obey()):
                break
        else:
            pytest.fail("the session does not come to rest")
        deadline = self.session.next_deadline()
        assert deadline is None or deadline > self.clock.now().mono, "a busy loop"

    def obey(self) -> list[Output]:
        """Do what the session says."""
        outputs = self.session.take()
        assert len(outputs) < 60
        for output in outputs:
            assert not self.ended, "nothing comes after Closed"
            if isinstance(output, Event):
                self.see(output)
            else:
                self.perform(output)
        assert not self.gap_is_due, "the Gap comes right after Connected"
        return outputs

    def perform(self, output: Output) -> None:
        """One command."""
        if isinstance(output, Open):
            assert self.announced, "Reconnecting comes before every retry"
            assert self.connection is None
            assert not self.opening
            self.announced, self.opening = False, True
        elif isinstance(output, Drop):
            self.connection, self.opening = None, False
        elif isinstance(output, Flushed):
            assert output.request in self.pending, "answered twice, or after it was forgotten"
            assert isinstance(output.request, int)
            self.pending.remove(output.request)
            self.answered.add(output.request)
        else:
            assert self.connection is not None
            if isinstance(output, SendAuth):
                assert not self.connection.authenticated
                self.connection.authenticated = True
            else:
                assert isinstance(output, Send)
                self.connection.execute(json.loads(output.payload))

    def see(self, event: Event) -> None:
        """One event, as a consumer of all of them sees it."""
        if self.gap_is_due:
            assert isinstance(event, Gap)
        if isinstance(event, Connected):
            assert self.connected == self.disconnected
            self.connected += 1
            self.gap_is_due = self.wanted_at_loss is not None
        elif isinstance(event, Gap):
            assert self.gap_is_due
            assert self.wanted_at_loss is not None
            assert event.channels == self.wanted_at_loss & self.wanted
            self.gap_is_due, self.wanted_at_loss = False, None
        elif isinstance(event, Disconnected):
            assert self.connected == self.disconnected + 1
            self.disconnected += 1
            self.wanted_at_loss = set(self.wanted)
        elif isinstance(event, Reconnecting):
            assert self.connected == self.disconnected
            self.announced = True
        elif isinstance(event, Closed):
            self.ended = True
        else:
            assert event is self.said.popleft(), "told in the order in which it was said, once"

    def hear(self, event: ServerEvent | DataEvent) -> None:
        """The server says something."""
        self.said.append(event)
        self.session.heard(self.clock.now())
        self.session.received(event, self.clock.now())

    # --- The user

    @rule()
    def start(self) -> None:
        """Start, the first time and later."""
        self.session.start(self.clock.now())
        self.settle()

    @rule(channels=st.lists(st.sampled_from(CHANNELS), max_size=4), at_once=st.booleans())
    def want(self, channels: list[Channel], at_once: bool) -> None:
        """Subscribe, perhaps with more to come before the next turn."""
        self.session.want(channels)
        self.wanted.update(channels)
        if at_once:
            self.settle()

    @rule(channels=st.lists(st.sampled_from(CHANNELS), max_size=4), at_once=st.booleans())
    def unwant(self, channels: list[Channel], at_once: bool) -> None:
        """Unsubscribe."""
        self.session.unwant(channels)
        self.wanted.difference_update(channels)
        if at_once:
            self.settle()

    @rule(at_once=st.booleans())
    def flush(self, at_once: bool) -> None:
        """One more flush."""
        self.requests += 1
        self.pending.add(self.requests)
        self.session.flush(self.requests)
        if at_once:
            self.settle()

    @precondition(lambda self: self.pending)
    @rule()
    def forget_flush(self) -> None:
        """The oldest flush gives up."""
        request = min(self.pending)
        self.pending.remove(request)
        self.session.forget_flush(request)

    @rule()
    def reconnect(self) -> None:
        """Reconnect, whatever is under way."""
        self.session.reconnect(self.clock.now())
        self.settle()

    @precondition(lambda self: self.requests > 5)
    @rule()
    def close(self) -> None:
        """Close; not too early, or little would be seen."""
        self.closed_by_user = self.closed_by_user or not self.ended
        self.session.close()
        self.settle()

    @rule()
    def suspend(self) -> None:
        """A consumer blocks."""
        self.suspended = True
        self.session.suspend()

    @rule()
    def resume(self) -> None:
        """It has read on."""
        self.suspended = False
        self.session.resume(self.clock.now())

    # --- The network and the server

    @rule(seconds=st.sampled_from(SECONDS))
    def advance(self, seconds: float) -> None:
        """Time goes by, with a turn at each deadline."""
        until = self.clock.now().mono + seconds
        self.settle()
        while (deadline := self.session.next_deadline()) is not None and deadline <= until:
            self.clock.advance(deadline - self.clock.now().mono)
            self.settle()
        self.clock.advance(max(0.0, until - self.clock.now().mono))
        self.settle()

    @precondition(lambda self: self.opening)
    @rule()
    def opened(self) -> None:
        """The connection stands."""
        self.opening, self.connection = False, Connection()
        self.session.opened(self.clock.now())
        self.settle()

    @precondition(lambda self: self.opening)
    @rule()
    def open_failed(self) -> None:
        """It does not."""
        self.opening = False
        self.session.open_failed(ConnectionFailed("refused"), self.clock.now())
        self.settle()

    @precondition(lambda self: self.connection)
    @rule(code=st.sampled_from(CODES))
    def lose(self, code: int) -> None:
        """The connection ends."""
        self.connection = None
        self.session.lost(ConnectionLost("lost", code), self.clock.now())
        self.settle()

    @precondition(lambda self: self.connection)
    @rule()
    def pong(self) -> None:
        """The server answers a ping, or one too many."""
        connection = self.connection
        assert connection is not None
        connection.proved = True
        connection.unanswered = max(0, connection.unanswered - 1)
        self.hear(Pong())
        self.settle()

    @precondition(lambda self: self.connection)
    @rule(text=st.sampled_from(ERRORS))
    def error(self, text: str) -> None:
        """The server complains."""
        self.hear(ServerError(text))
        self.settle()

    @precondition(lambda self: self.connection)
    @rule(data=st.booleans())
    def message(self, data: bool) -> None:
        """The server says something else."""
        self.hear(PriceUpdate("one", 1.0, 1.0, START.wall) if data else UnknownMessage("hello"))
        self.settle()

    # --- What holds

    def quiesce(self) -> None:
        """Let everybody do their part until all is done."""
        self.resume()
        self.start()
        for _ in range(200):
            if self.opening:
                self.opened()
            if self.connection is not None and self.connection.unanswered:
                self.pong()
            else:
                self.advance(0.5)
            if self.ended or self.at_rest():
                return
        pytest.fail("it never comes to rest")

    def at_rest(self) -> bool:
        """READY, every ping answered and nothing left to send."""
        link = self.session._link
        if self.connection is None or link is None:
            return False
        return self.session.state is State.READY and not link.todo and not self.connection.unanswered

    @precondition(lambda self: not self.ended)
    @rule()
    def agree(self) -> None:
        """At rest the server's set is the wanted set, and every flush has its answer."""
        self.quiesce()
        if self.ended:
            return
        assert self.connection is not None
        assert self.connection.subscribed == self.wanted
        assert not self.pending
        assert not self.said

    @invariant()
    def books_agree(self) -> None:
        """The state fits what was told, and something is always due while something is pending."""
        session = self.session
        assert set(session.wanted) == self.wanted
        assert (session.state is State.CLOSED) == self.ended
        lost = session.state is not State.READY and not self.closed_by_user
        assert self.connected - self.disconnected in ({0} if lost else {0, 1} if self.closed_by_user else {1})
        early = self.connection is not None and session.state is State.CONNECTING
        busy = session.state in {State.READY, State.BACKOFF} or (early and not self.suspended)
        assert (session.next_deadline() is not None) == busy

    def teardown(self) -> None:
        """In the end everything said was told, and Closed came last."""
        if not hasattr(self, "session"):
            return
        self.closed_by_user = self.closed_by_user or not self.ended
        self.session.close()
        self.obey()
        assert self.ended
        assert not self.said
        assert not self.pending & self.answered


def test_any_interleaving() -> None:
    """Whatever users, network and server do, in whatever order."""
    run_state_machine_as_test(
        SessionMachine,
        settings=hypothesis_settings(
            derandomize=True, deadline=None, database=None, max_examples=300, stateful_step_count=40
        ),
    )
