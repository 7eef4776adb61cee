"""The API key shows up nowhere: logs, reprs, texts, chains, pickles, tracebacks; whatever the server echoes."""

from __future__ import annotations

import json
import logging
import pickle
import socket
import traceback
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import attrs
import pytest

pytest.importorskip("websockets", reason="needs the extra testing")


from allenhark_ws import (
    Backoff,
    CallbackError,
    Client,
    DataEvent,
    Disconnected,
    Event,
    Price,
    Reconnecting,
    ServerError,
    ServerEvent,
    UnknownMessage,
)
from allenhark_ws.config import Secret

from . import peers
from .fakes import LogKeeper
from .patience import PATIENCE
from .scripted import QUICK, Scripted, chain, client_of, outcome, price
from .simulators import Simulator

KEY = 'sk-live/Zq7"é+81'
SPELLINGS = (KEY, json.dumps(KEY)[1:-1], "sk-live%2FZq7%22%C3%A9%2B81", KEY.encode().decode("latin-1"), "Zq7")
"""The key as it is, as JSON and a URL spell it, misread; and the part that all of these have in common."""


def shows(text: str) -> bool:
    """Whether a text gives the key away."""
    return any(spelling in text for spelling in SPELLINGS)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Everything that is logged by anybody, at every level; checked afterwards."""
    handler = LogKeeper()
    caught = handler.records
    loggers = [logging.getLogger(name) for name in (None, "allenhark_ws", "websocket")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    loggers[0].addHandler(handler)
    yield caught
    loggers[0].removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    # The simulator's own library logs the frames it reads; that is the server's side.
    ours = [record for record in caught if not record.name.startswith(("websockets", "asyncio"))]
    assert any(record.name == "allenhark_ws" for record in ours)
    for record in ours:
        text = logging.Formatter("%(message)s").format(record) + repr(record.args)
        assert not shows(text), text
        if record.exc_info and record.exc_info[1] is not None:
            check_error(record.exc_info[1].with_traceback(record.exc_info[2]))  # with the frames as they were logged


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A simulator that accepts the key."""
    with Simulator([KEY]) as simulator:
        yield simulator


def attribute_reprs(value: object) -> Iterator[str]:
    """The repr of a value and of all its attributes."""
    yield repr(value)
    if isinstance(value, (Secret, type)):
        return
    names = {*getattr(value, "__dict__", ()), *(n for c in type(value).__mro__ for n in getattr(c, "__slots__", ()))}
    for name in names:
        yield repr(getattr(value, name, None))


def our_frames(error: BaseException) -> Iterator[FrameType]:
    """The frames of this package that an exception left."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
        if name.startswith("allenhark_ws") and not name.startswith("allenhark_ws.testing"):
            yield frame


def check_error(error: BaseException) -> None:
    """Neither the error nor anything it is chained to, nor any local of our frames, shows the key."""
    for each in chain(error):
        assert not shows(str(each))
        assert not shows(repr(each))
        assert not shows("".join(traceback.format_exception(each)))
        assert not any(shows(text) for text in attribute_reprs(each))
        for frame in our_frames(each):
            for name, value in frame.f_locals.items():
                shown = [text for text in attribute_reprs(value) if shows(text)]
                assert not shown, (frame, name)
        if type(each).__module__.startswith("allenhark_ws"):
            pickled = pickle.dumps(each)
            assert not any(spelling.encode() in pickled for spelling in SPELLINGS)


def check_event(event: Event) -> None:
    """Neither its repr nor its fields, nor a pickle of it, `raw` excluded, show the key."""
    assert not shows(repr(event))
    for name in (a.name for a in attrs.fields(type(event)) if a.name != "raw"):
        value = getattr(event, name)
        assert not shows(repr(value))
        if isinstance(value, BaseException):
            check_error(value)
    if not isinstance(event, CallbackError):
        bare = attrs.evolve(event, raw=None) if isinstance(event, (DataEvent, ServerEvent)) else event
        pickled = pickle.dumps(bare)
        assert not any(spelling.encode() in pickled for spelling in SPELLINGS)


def check_client(client: Client) -> None:
    """Nothing of the client's that can be printed shows the key, down to its inner parts."""
    inner = [client, client.stats, client._settings, client._loop, client._loop.session, client._router]
    for part in inner:
        for text in attribute_reprs(part):
            assert not shows(text), part
    if client.error is not None:
        check_error(client.error)


def seen(client: Client) -> Callable[[], list[Event]]:
    """Collect every event from now on; checks them all when asked for."""
    stream = client.stream(Event)

    def collected() -> list[Event]:
        client.close()
        events: list[Event] = []
        while not isinstance(event := outcome(stream.get), BaseException):
            assert isinstance(event, Event)
            events.append(event)
        for event in events:
            check_event(event)
        check_client(client)
        return events

    return collected


def test_a_good_life(sim: Simulator, records: list[logging.LogRecord]) -> None:
    """Connecting, subscribing, losing and coming back."""
    with client_of(sim) as client:
        collected = seen(client)
        client.subscribe(Price("m"))
        client.flush()
        sim.publish(price("m"))
        sim.reset()
        client.flush()
        check_client(client)
        assert collected()
    assert sim.received[0]["apiKey"] == KEY


def test_an_echoing_server(sim: Simulator, records: list[logging.LogRecord]) -> None:
    """Errors, close reasons, types and codes that name the key are redacted; `raw` alone stays as received."""
    with client_of(sim) as client:
        client.stream(ServerError)
        collected = seen(client)
        sim.send_error(f"the request of {KEY} was odd", KEY)
        sim.send_raw(json.dumps({"type": "error", "error": {"message": KEY, "code": KEY}}))
        sim.send_raw(json.dumps({"type": f"hello {KEY}", "key": KEY}))
        sim.send_raw(json.dumps({"type": "bot_update", "botId": 7, KEY: KEY}))
        sim.send_raw(f"{KEY} is no JSON")
        sim.send_raw(KEY.encode())
        outcome(client.flush)
        sim.close(4000, f"{KEY} must go")
        client.flush()
        assert not any(shows(name) for name in client.stats.received_by_type)
        events = collected()
    errors = [event for event in events if isinstance(event, ServerError)]
    assert "[redacted]" in errors[0].message
    assert "[redacted]" in str(errors[0].code)
    assert KEY in json.loads(errors[0].raw or b"")["message"]
    assert any("[redacted]" in event.type for event in events if isinstance(event, UnknownMessage))
    assert [event.reason for event in events if isinstance(event, Disconnected)] == ["[redacted] must go"]


def test_errors_of_a_flush(sim: Simulator, records: list[logging.LogRecord]) -> None:
    """`RequestRejected` tells what the server said, without the key."""
    with client_of(sim) as client:
        client.subscribe(Price("m"))
        sim.wait_for(lambda: sim.subscriptions)
        sim.send_error(f"{KEY} may not")
        error = outcome(client.flush)
    assert isinstance(error, BaseException)
    assert "[redacted] may not" in str(error)
    for each in chain(error):
        assert not shows(str(each))
        assert not shows(repr(each))


@pytest.mark.parametrize("code", [None, KEY, 401])
def test_a_rejected_key(sim: Simulator, records: list[logging.LogRecord], code: Any) -> None:
    """The error raised in the user's thread, its chain and its frames."""
    sim.reject_auth(f"unknown key {KEY}", code)
    client = client_of(sim)
    collected = seen(client)
    error = outcome(client.connect)
    assert isinstance(error, BaseException)
    assert "[redacted]" in str(error)
    check_error(error)
    collected()


def test_a_key_rejected_by_a_close(records: list[logging.LogRecord]) -> None:
    """With the key in the reason."""

    def script(conn: socket.socket) -> None:
        peers.upgrade(conn, behind=peers.close_frame(4001, f"no {KEY}".encode()))

    with peers.peer(script) as server:
        client = Client(KEY, url=f"ws://127.0.0.1:{server.port}/")
        collected = seen(client)
        error = outcome(lambda: client.connect(PATIENCE))
        assert isinstance(error, BaseException)
        check_error(error)
        collected()


@pytest.mark.parametrize("status", [401, 500, 302])
def test_a_handshake_that_echoes_the_key(records: list[logging.LogRecord], status: int) -> None:
    """Status line, headers and body; `HandshakeRejected.headers` alone stay as received."""

    def script(conn: socket.socket) -> None:
        peers.read_head(conn)
        text = f"HTTP/1.1 {status} {KEY}\r\nX-Echo: {KEY}\r\nLocation: ws://127.0.0.1/{KEY}\r\n\r\n{KEY}"
        conn.sendall(text.encode())

    with peers.peer(script) as server:
        client = Client(KEY, url=f"ws://127.0.0.1:{server.port}/", backoff=Backoff(max_attempts=1))
        error = outcome(lambda: client.connect(PATIENCE))
        assert isinstance(error, BaseException)
        for each in chain(error):
            assert not shows(str(each))
            assert not shows(repr(each))
            for frame in our_frames(each):
                assert not any(shows(repr(value)) for value in frame.f_locals.values())
        assert not shows("".join(traceback.format_exception(error)))


@pytest.mark.parametrize("answer", [b"HTTP/1.1 101 Oh\r\nX: %s\r\n\r\n", b"%s\r\n\r\n", b""])
def test_an_upgrade_that_fails(records: list[logging.LogRecord], answer: bytes) -> None:
    """No upgrade, no HTTP, nothing at all."""

    def script(conn: socket.socket) -> None:
        peers.read_head(conn)
        conn.sendall(answer.replace(b"%s", KEY.encode()))

    with peers.peer(script) as server:
        client = Client(KEY, url=f"ws://127.0.0.1:{server.port}/", backoff=Backoff(max_attempts=1))
        collected = seen(client)
        error = outcome(lambda: client.connect(PATIENCE))
        assert isinstance(error, BaseException)
        check_error(error)
        collected()


def test_a_failed_send(records: list[logging.LogRecord]) -> None:
    """The connection is reset under the auth message."""

    def script(conn: socket.socket) -> None:
        peers.upgrade(conn)
        peers.reset(conn)

    with peers.peer(script, script, script) as server:
        backoff = attrs.evolve(QUICK, max_attempts=3)
        client = Client(KEY, url=f"ws://127.0.0.1:{server.port}/", backoff=backoff)
        collected = seen(client)
        error = outcome(lambda: client.connect(PATIENCE))
        assert isinstance(error, BaseException)
        check_error(error)
        assert [event for event in collected() if isinstance(event, Reconnecting)]


def test_a_transport_that_fails_in_an_unforeseen_way(records: list[logging.LogRecord]) -> None:
    """Even a bug under the message that carries the key does not show it: the log has the text, no frame is kept."""
    with Scripted(api_key=Secret(KEY)) as s:

        def fail(payload: bytes) -> None:
            raise ZeroDivisionError

        connect = s.client._loop._driver.network._connect

        def failing(*arguments: Any) -> Any:
            wire = connect(*arguments)
            wire.send = fail
            return wire

        s.client._loop._driver.network._connect = failing
        error = outcome(lambda: s.client.connect(PATIENCE))
        assert isinstance(error, BaseException)
        check_error(error)
        (crash,) = (record.getMessage() for record in records if record.levelno == logging.CRITICAL)
        assert crash.endswith("in fail\n    raise ZeroDivisionError\nZeroDivisionError")


@pytest.mark.parametrize("wrong", [KEY + "\n", (KEY,), {KEY}, KEY.encode()], ids=["newline", "tuple", "set", "bytes"])
def test_a_key_that_is_none(records: list[logging.LogRecord], wrong: Any) -> None:
    """Neither given as it is nor by a callable does it appear in the error that refuses it."""
    error = outcome(lambda: Client(wrong))
    assert isinstance(error, BaseException)
    check_error(error)
    with Scripted(api_key=Secret(lambda: wrong)) as s:
        error = outcome(lambda: s.client.connect(PATIENCE))
        assert isinstance(error, BaseException)
        check_error(error)
        check_client(s.client)


def test_another_argument_that_is_wrong() -> None:
    """A traceback through the constructor shows no key, from the argument or from the environment."""
    error = outcome(lambda: Client(KEY, heartbeat_interval=-1))
    assert isinstance(error, BaseException)
    check_error(error)


def test_an_argument_that_is_wrong_beside_the_environments_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Likewise."""
    monkeypatch.setenv("ALLENHARK_API_KEY", KEY)
    error = outcome(lambda: Client(url="http://x"))
    assert isinstance(error, BaseException)
    check_error(error)


def test_rotating_keys_are_all_redacted(sim: Simulator, records: list[logging.LogRecord]) -> None:
    """A late echo names the key before the last."""
    keys = iter([KEY, "second-key", "third-key"])
    with Simulator([KEY, "second-key", "third-key"]) as server:
        with client_of(server, lambda: next(keys)) as client:
            collected = seen(client)
            for _ in range(2):
                client.reconnect()
                client.flush()
            server.send_error(f"{KEY} and second-key and third-key")
            outcome(client.flush)
            (error,) = (event for event in collected() if isinstance(event, ServerError))
        assert error.message == "[redacted] and [redacted] and [redacted]"


def test_a_callback_that_raises_leaves_no_key_in_its_report(sim: Simulator, records: list[logging.LogRecord]) -> None:
    """Our frames stand in its traceback."""
    with client_of(sim) as client:
        reports = client.stream(CallbackError)
        client.on(UnknownMessage, lambda _: 1 / 0)
        sim.send_raw('{"type":"go"}')
        check_error(reports.get(timeout=PATIENCE).error)
