"""The session's promises, for any order of events: legal, bounded, not busy, and at rest the server has what is wanted.

An input is a byte that chooses the settings and then a program: a byte for each thing that happens, and one that says
which or how long.  What cannot happen then is left out: nothing opens that nobody opened.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from allenhark_ws._codec import Codec
from allenhark_ws._counters import Counters
from allenhark_ws._session import Drop, Flushed, Open, Output, Send, SendAuth, Session
from allenhark_ws.channels import Bot, Channel, Price, Transactions
from allenhark_ws.config import Backoff
from allenhark_ws.errors import (
    AuthenticationError,
    CertificateRejected,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    HandshakeRejected,
)
from allenhark_ws.events import (
    Closed,
    Connected,
    Disconnected,
    Event,
    Gap,
    LifecycleEvent,
    Reconnecting,
)
from allenhark_ws.state import State

from ..fakes import FakeClock, settings

_FAILURES: Final = (
    ConnectionFailed("refused"),
    HandshakeRejected(503, {}),
    HandshakeRejected(429, {}, retry_after=1e9),
    AuthenticationError("no such key"),
    CertificateRejected("example.org", "expired"),
    ConfigurationError("no key"),
)
_CODES: Final = (1006, 1000, 1001, 1005, 1008, 1011, 1013, 3000, 4001, 4403, 4999)
_SETTINGS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"heartbeat_interval": 5.0, "pong_timeout": 20.0},
    {"max_send_rate": 20.0},
    {"backoff": Backoff(max_attempts=3)},
    {"backoff": Backoff(initial=1e-3, maximum=1e-2, reset_after=0.0), "max_send_rate": 1e300},
    {"backoff": Backoff(multiplier=1e300, maximum=1e6, reset_after=1e9), "heartbeat_interval": 0.5},
)
_SMALL: Final[tuple[Channel, ...]] = (
    *(Bot("a"), Bot("b"), Price("a"), Price("b"), Transactions("a"), Transactions("b")),
)
_MANY: Final[tuple[Channel, ...]] = tuple(Price(f"mint{number}") for number in range(300))
_TEXTS: Final = (
    b'{"type":"error","message":"invalid API key","code":401}',
    b'{"type":"error","message":"rate limit exceeded","code":"429"}',
    b'{"type":"error","message":"no such bot","botId":"a"}',
    b'{"type":"error"}',
    b'{"type":"auth_failed"}',
    b'{"type":"authenticated","success":false}',
    b'{"type":"authenticated","success":true}',
    b'{"type":"welcome"}',
    b'{"type":"price_update","mint":"a","price":1.5,"volume":2,"timestamp":"2024-01-15T10:30:00Z"}',
    b'{"type":"transaction_confirmed","signature":"s","status":"confirmed","slot":5}',
    b"no JSON",
)
_FLOOD: Final = 700
"""Messages of a flood: two of them are more than what is held back before the first pong."""
_MOST_OUTPUTS: Final = 1_500
_MOST_EARLY: Final = 1_001
_MOST_ERRORS: Final = 100


class World:
    """A session, a server that keeps to the protocol but for what the input makes it say, and users who do as told.

    Args:
        choice: which of the settings.
    """

    def __init__(self, choice: int) -> None:
        changes = _SETTINGS[choice % len(_SETTINGS)]
        jitter = choice / 255
        self.clock = FakeClock()
        self.session = Session(settings(**changes), Counters(), lambda: jitter)
        self.codec = Codec(engine="stdlib")
        self.tickets = 0
        self.flushes: dict[int, bool] = {}  # whether the wanted channels are those it was asked with
        self.opening = self.open = self.ready = self.lost = self.closed = False
        self.may_open = True
        self.pings = 0
        self.server: set[str] | None = None  # what is subscribed there, once authenticated
        self.said: deque[Event] = deque()  # what the server said and nobody was told yet
        self.last: Event | None = None

    # --- What happens

    def act(self, action: int, argument: int, text: bytes) -> None:
        """Let one thing happen, obey the session, and see whether all is well."""
        _ACTIONS[action % len(_ACTIONS)](self, argument, text)
        self.obey()

    def wait(self, argument: int, _text: bytes) -> None:
        """Time passes, up to half a minute."""
        self.clock.advance(argument / 8)
        self.tick()

    def wait_until_due(self, argument: int, _text: bytes) -> None:
        """Time passes until just when, or just after, something is due."""
        deadline = self.session.next_deadline()
        if deadline is not None:
            self.clock.advance(max(0.0, deadline - self.clock.now().mono) + (argument % 2) / 1000)
        self.tick()

    def tick_without_room(self, argument: int, _text: bytes) -> None:
        """Time passes while nothing can be sent."""
        self.clock.advance(argument / 8)
        self.tick(room=False)

    def turn_the_wall_clock(self, argument: int, _text: bytes) -> None:
        """An administrator turns the clock."""
        self.clock.set_wall(self.clock.now().wall + timedelta(days=argument - 128))

    def start(self, _argument: int, _text: bytes) -> None:
        """The user starts."""
        self.session.start(self.clock.now())

    def want(self, argument: int, _text: bytes) -> None:
        """The user subscribes."""
        self.edited()
        self.session.want(_chosen(argument))

    def unwant(self, argument: int, _text: bytes) -> None:
        """The user unsubscribes."""
        self.edited()
        self.session.unwant(_chosen(argument))

    def edited(self) -> None:
        """Of flushes under way nothing can be said any more."""
        self.flushes = dict.fromkeys(self.flushes, False)

    def flush(self, _argument: int, _text: bytes) -> None:
        """The user flushes."""
        self.tickets += 1
        self.flushes[self.tickets] = True
        self.session.flush(self.tickets)

    def forget_flush(self, argument: int, _text: bytes) -> None:
        """A flush gives up, one that was answered already perhaps."""
        ticket = argument % (self.tickets + 1)
        self.flushes.pop(ticket, None)
        self.session.forget_flush(ticket)

    def reconnect(self, _argument: int, _text: bytes) -> None:
        """The user wants a new connection."""
        self.session.reconnect(self.clock.now())

    def close(self, argument: int, _text: bytes) -> None:
        """The user closes, at times."""
        if argument >= 192:
            self.session.close()

    def opened(self, _argument: int, _text: bytes) -> None:
        """The connection being opened is there."""
        if self.opening:
            self.opening, self.open = False, True
            self.session.opened(self.clock.now())

    def open_failed(self, argument: int, _text: bytes) -> None:
        """The connection could not be opened."""
        if self.opening:
            self.opening = False
            self.session.open_failed(_FAILURES[argument % len(_FAILURES)], self.clock.now())

    def lose(self, argument: int, _text: bytes) -> None:
        """The connection ends."""
        if self.open:
            self.hang_up()
            self.session.lost(ConnectionLost("gone", _CODES[argument % len(_CODES)], "bye"), self.clock.now())

    def answer(self, argument: int, _text: bytes) -> None:
        """The server answers pings, if it has any to answer."""
        for _ in range(min(1 + argument % 4, self.pings)):
            self.pings -= 1
            self.say(b'{"type":"pong","timestamp":"2024-01-15T10:30:00Z"}')

    def answer_too_often(self, _argument: int, _text: bytes) -> None:
        """The server answers a ping that nobody sent; it has lost count then."""
        self.pings = max(0, self.pings - 1)
        self.say(b'{"type":"pong"}')

    def speak(self, argument: int, _text: bytes) -> None:
        """The server says something it might well say."""
        self.say(_TEXTS[argument % len(_TEXTS)])

    def speak_freely(self, argument: int, text: bytes) -> None:
        """The server says what the input has it say, as an error's text or as the whole message."""
        said = str(text, "utf-8", "replace")
        self.say(text if argument % 2 else json.dumps({"type": "error", "message": said}).encode())

    def flood(self, argument: int, _text: bytes) -> None:
        """The server says the same over and over."""
        for _ in range(_FLOOD):
            self.speak(argument, b"")
            self.obey()

    def suspend(self, _argument: int, _text: bytes) -> None:
        """A consumer blocks."""
        self.session.suspend()

    def resume(self, _argument: int, _text: bytes) -> None:
        """It blocks no more."""
        self.session.resume(self.clock.now())

    def say(self, payload: bytes) -> None:
        """A message arrives."""
        if not self.open:
            return
        event = self.codec.decode(payload, self.clock.now().wall, self.session.wallet)
        self.said.append(event)
        self.session.heard(self.clock.now())
        self.session.received(event, self.clock.now())

    def tick(self, *, room: bool = True) -> None:
        """Do what is due, until nothing is: that must not take long."""
        self.obey()
        for _ in range(4 + len(self.session.wanted) // 128 + len(self.flushes) // 128):
            self.session.tick(self.clock.now(), room=room)
            self.obey()
            deadline = self.session.next_deadline(room=room)
            if deadline is None or deadline > self.clock.now().mono:
                return
        raise AssertionError("it stays busy")

    # --- What comes out

    def obey(self) -> None:
        """Do what the session says, and see whether it may say that."""
        outputs = self.session.take()
        assert len(outputs) <= _MOST_OUTPUTS
        for output in outputs:
            if isinstance(output, Event):
                self.hear(output)
            else:
                self.perform(output)
        self.check_state()

    def perform(self, output: Output) -> None:
        """Obey one command."""
        if isinstance(output, Open):
            assert self.may_open, "a retry that was not told"
            assert not self.opening
            assert not self.open
            assert not self.closed
            self.opening, self.may_open = True, False
        elif isinstance(output, SendAuth):
            assert self.open
            assert self.server is None, "authenticated twice"
            self.server = set()
        elif isinstance(output, Drop):
            self.hang_up()
        elif isinstance(output, Flushed):
            self.check_flushed(output)
        elif isinstance(output, Send):
            self.take_in(json.loads(output.payload))

    def hang_up(self) -> None:
        """The connection is gone, and all that the server knew of it."""
        self.opening = self.open = False
        self.server, self.pings = None, 0

    def take_in(self, message: dict[str, str]) -> None:
        """The server's part: only what makes sense, only when it makes sense."""
        assert self.open
        assert self.server is not None, "something came before auth"
        kind = message.pop("type")
        key = json.dumps(message)
        if kind == "ping":
            self.pings += 1
        elif kind == "subscribe":
            assert self.ready, "a request came before the first pong"
            assert key not in self.server, "subscribed twice"
            self.server.add(key)
        else:
            assert kind == "unsubscribe"
            self.server.remove(key)

    def check_flushed(self, flushed: Flushed) -> None:
        """A flush is answered once, and not before the server has heard of all that was asked for before."""
        assert isinstance(flushed.request, int)
        unchanged = self.flushes.pop(flushed.request)
        assert flushed.rtt >= 0
        assert len(flushed.errors) <= _MOST_ERRORS
        if unchanged:
            self.check_subscriptions()

    def hear(self, event: Event) -> None:
        """Events come in the order in which things happened."""
        assert not self.closed, "something came after Closed"
        if isinstance(self.last, Connected) and self.lost:
            assert isinstance(event, Gap)
        if isinstance(event, LifecycleEvent):
            self.hear_of_life(event)
        else:
            assert event is self.said.popleft(), "not what the server said, or not in its order"
        self.last = event

    def hear_of_life(self, event: LifecycleEvent) -> None:
        """What the client says about itself."""
        if isinstance(event, Connected):
            assert not self.ready
            assert event.attempt >= 1
            assert event.rtt >= 0
            self.ready = True
        elif isinstance(event, Gap):
            assert isinstance(self.last, Connected)
            assert event.duration >= 0
            assert event.ended_at - event.started_at == timedelta(seconds=event.duration)
            assert event.channels <= frozenset(self.session.wanted)
            self.lost = False
        elif isinstance(event, Disconnected):
            assert self.ready
            self.ready, self.lost = False, True
        elif isinstance(event, Reconnecting):
            assert not self.ready
            assert 0 <= event.delay <= 1e6
            self.may_open = True
        else:
            assert isinstance(event, Closed)
            assert event.error is self.session.error
            self.closed, self.ready = True, False

    # --- Whether all is well

    def check_state(self) -> None:
        """The state says how things stand, nothing is forgotten, and nothing grows without bound."""
        expected = {
            State.CLOSED: self.closed,
            State.READY: self.open and self.ready,
            State.CONNECTING: (self.opening or self.open) and not self.ready,
        }
        standing = not (self.opening or self.open or self.closed)
        assert expected.get(self.session.state, standing), f"it is not {self.session.state.name}"
        if self.ready or not self.open:
            assert not self.said, "it keeps back what the server said"
        self.check_memory()

    def check_memory(self) -> None:
        """Neither a server nor a network can make it keep much."""
        session = self.session
        assert len(self.said) <= _MOST_EARLY
        assert len(session._flush_errors) <= _MOST_ERRORS
        assert session._flushes.keys() == self.flushes.keys() or self.closed
        assert all(len(errors) <= _MOST_ERRORS for errors in session._flushes.values())

    def check_subscriptions(self) -> None:
        """What is subscribed at the server is what is wanted."""
        assert self.server is not None
        assert self.server == {json.dumps(_keys(channel)) for channel in self.session.wanted}

    def come_to_rest(self) -> None:
        """Let everything go well from now on: it becomes READY, and everything asked for is done."""
        self.start(0, b"")
        self.resume(0, b"")
        for _ in range(2 * len(self.session.wanted) + 2 * len(self.flushes) + 100):
            self.opened(0, b"")
            self.answer_all()
            self.wait_until_due(0, b"")
            self.answer_all()
            if self.closed or (self.ready and not self.flushes and not self.has_plans()):
                break
        else:
            raise AssertionError("it does not come to rest")
        if not self.closed:
            self.check_subscriptions()

    def answer_all(self) -> None:
        """The server answers all pings."""
        self.obey()
        while self.pings:
            self.answer(3, b"")
            self.obey()

    def has_plans(self) -> bool:
        """Whether something is to be sent still."""
        return self.session._link is not None and bool(self.session._link.todo)

    def end(self) -> None:
        """Close: that is the last word."""
        self.session.close()
        self.session.close()
        self.obey()
        assert self.closed
        assert self.session.state is State.CLOSED
        assert self.session.next_deadline() is None
        self.want(0xFF, b"")
        self.start(0, b"")
        self.reconnect(0, b"")
        self.tick()


def _chosen(argument: int) -> list[Channel]:
    """A few channels, or very many."""
    if argument >= 192:
        return list(_MANY)
    return [channel for bit, channel in enumerate(_SMALL) if argument >> bit & 1]


def _keys(channel: Channel) -> dict[str, str]:
    """The keys of a channel's messages, as the vendor's page spells them."""
    if isinstance(channel, Bot):
        return {"channel": "bot", "botId": channel.bot_id}
    if isinstance(channel, Price):
        return {"channel": "price", "mint": channel.mint}
    assert isinstance(channel, Transactions)
    return {"channel": "transactions", "wallet": channel.wallet}


_ACTIONS: Final[tuple[Callable[[World, int, bytes], None], ...]] = (
    *(World.wait, World.wait_until_due, World.tick_without_room, World.turn_the_wall_clock),
    *(World.start, World.want, World.unwant, World.flush, World.forget_flush, World.reconnect, World.close),
    *(World.opened, World.open_failed, World.lose),
    *(World.answer, World.answer_too_often, World.speak, World.speak_freely, World.flood),
    *(World.suspend, World.resume),
)
_SPEAK_FREELY: Final = _ACTIONS.index(World.speak_freely)
_MOST_ACTIONS: Final = 500


def _step(action: Callable[[World, int, bytes], None], argument: int = 0) -> bytes:
    return bytes([_ACTIONS.index(action), argument])


WORDS: Final = (
    _step(World.start) + _step(World.wait_until_due) + _step(World.opened) + _step(World.answer),
    *(_step(action) for action in _ACTIONS if action is not World.speak_freely),
    *(_step(World.want, which) for which in (1, 0x30, 0x3F, 0xFF)),
    *(_step(World.speak, which) for which in range(len(_TEXTS))),
    *(_step(World.open_failed, which) for which in range(len(_FAILURES))),
    *(_step(World.lose, which) for which in range(len(_CODES))),
    _step(World.close, 255),
    *(bytes([_SPEAK_FREELY, 0, len(text)]) + text for text in (b"bad API key", b"key 401 is invalid", b"too many")),
)
"""Pieces of programs for a fuzzer to put together."""


def check(data: bytes) -> None:
    """Let happen what the input says, then let everything go well, then close."""
    world, position = World((data[:1] or b"\x00")[0]), 1
    for _ in range(_MOST_ACTIONS):
        if position >= len(data):
            break
        action, argument, length = (*data[position : position + 3], 0, 0)[:3]
        position += 2
        text = b""
        if action % len(_ACTIONS) == _SPEAK_FREELY:
            text = data[position + 1 : position + 1 + length]
            position += 1 + len(text)
        world.act(action, argument, text)
    world.come_to_rest()
    world.end()
