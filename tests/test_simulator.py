"""The simulator as its users meet it: over loopback, with a plain single-threaded WebSocket client.

The client here is websocket-client's low-level one and not the threaded one of the `websockets` package: that one reads
and writes an SSLSocket from two threads, which loses the upgrade request now and then (measured on CPython 3.10).
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import pytest

for needed in ("websockets", "trustme"):
    pytest.importorskip(needed, reason="needs the extra testing")

from websocket import ABNF, WebSocket, WebSocketBadStatusException, create_connection

from allenhark_ws.channels import Bot, Price, Transactions
from allenhark_ws.errors import ConfigurationError
from allenhark_ws.testing._conversation import Conversation, Manners
from allenhark_ws.testing._feed import Feed
from allenhark_ws.testing._journal import Journal
from allenhark_ws.testing._server import Listener, Server
from allenhark_ws.testing._thread import LoopThread

from .patience import PATIENCE
from .simulators import Simulator

AUTH = {"type": "auth", "apiKey": "test-key"}
PING = {"type": "ping"}
PRICE = {"type": "subscribe", "channel": "price", "mint": "M"}
BOT = {"type": "subscribe", "channel": "bot", "botId": "B"}
WALLET = {"type": "subscribe", "channel": "transactions", "wallet": "W"}
UPDATE = {"type": "price_update", "mint": "M", "price": 1.5, "volume": 2, "timestamp": "2024-01-15T10:30:00Z"}
AT = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)
DESCRIPTORS = Path("/proc/self/fd")
NEVER = 0.1
"""Seconds to wait for what must not happen."""

Connect = Callable[..., WebSocket]


@pytest.fixture(params=[False, True], ids=["ws", "wss"])
def either(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A started simulator, without and with TLS."""
    with Simulator(tls=request.param) as simulator:
        yield simulator


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A started simulator, without TLS."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects to a simulator and sends some messages; every connection is closed at the end."""
    sockets: list[WebSocket] = []

    def make(simulator: Simulator, *messages: dict[str, Any]) -> WebSocket:
        client = create_connection(simulator.url, timeout=PATIENCE, sslopt={"context": simulator.ssl_context})
        sockets.append(client)
        for message in messages:
            client.send(json.dumps(message))
        return client

    yield make
    for client in sockets:
        hang_up(client)


def hang_up(client: WebSocket) -> None:
    """Close the client's socket without a close frame; a second time does nothing."""
    client.shutdown()  # type: ignore[no-untyped-call]


def socket_of(client: WebSocket) -> socket.socket:
    """The client's socket, an SSLSocket with TLS."""
    assert client.sock is not None
    return client.sock


def read_all(client: WebSocket) -> None:
    """Read to the end, below TLS: the ssl module before CPython 3.13 takes a reset for an end of data."""
    while socket.socket.recv(socket_of(client), 65536):
        pass


def port_of(simulator: Simulator) -> int:
    """The port in the simulator's URL."""
    return int(simulator.url.rsplit(":", 1)[1].partition("/")[0])


def tcp(simulator: Simulator) -> socket.socket:
    """A bare TCP connection to the simulator."""
    return socket.create_connection(("127.0.0.1", port_of(simulator)), timeout=PATIENCE)


def receive(client: WebSocket) -> Any:
    """The next message, decoded."""
    return json.loads(client.recv())


def settled(simulator: Simulator, client: WebSocket, *messages: dict[str, Any]) -> None:
    """Send messages and wait for the simulator to have heard them."""
    before = len(simulator.received)
    for message in messages:
        client.send(json.dumps(message))
    simulator.wait_for(lambda: len(simulator.received) == before + len(messages))


def never(simulator: Simulator, predicate: Callable[[], object]) -> None:
    """Look a while and fail should the predicate come true."""
    with pytest.raises(TimeoutError):
        simulator.wait_for(predicate, NEVER)


def simulator_threads() -> list[threading.Thread]:
    """The simulators' threads that are alive."""
    return [thread for thread in threading.enumerate() if "allenhark simulator" in thread.name]


def fails_to_connect(simulator: Simulator) -> bool:
    """Whether a new TCP connection is cut before anything is answered."""
    try:
        with tcp(simulator) as client:
            client.sendall(b"GET /v1/ws HTTP/1.1\r\n\r\n")
            return client.recv(1) == b""
    except ConnectionError:
        return True


# --- the protocol ----------------------------------------------------------------------------------------------------


def test_a_known_key_is_accepted_silently_and_pings_are_answered(either: Simulator, connect: Connect) -> None:
    """The first thing to come after auth and ping is the pong, with a UTC time."""
    pong = receive(connect(either, AUTH, PING))
    assert pong.keys() == {"type", "timestamp"}
    assert pong["type"] == "pong"
    assert pong["timestamp"].endswith("Z")
    assert abs(datetime.fromisoformat(pong["timestamp"][:-1] + "+00:00") - datetime.now(timezone.utc)).days == 0


def test_every_key_given_is_known(connect: Connect) -> None:
    """All of `api_keys` are accepted, and `api_key` is the first."""
    with Simulator(["one", "two"]) as sim:
        assert sim.api_key == "one"
        for key in ("one", "two"):
            assert receive(connect(sim, {"type": "auth", "apiKey": key}, PING))["type"] == "pong"


def test_an_unknown_key_gets_an_error_and_no_pong(sim: Simulator, connect: Connect) -> None:
    """The connection stays open, its pings stay unanswered, its subscriptions are refused."""
    client = connect(sim, {"type": "auth", "apiKey": "wrong"}, PING, PRICE)
    assert receive(client) == {"type": "error", "message": "invalid API key"}
    sim.wait_for(lambda: len(sim.received) == 3)
    sim.send_raw("next")
    assert client.recv() == "next"
    assert sim.connections == 1
    assert sim.subscriptions == frozenset()


def test_a_rejected_client_may_try_another_key(sim: Simulator, connect: Connect) -> None:
    """A second auth after an error is judged anew."""
    client = connect(sim, {"type": "auth", "apiKey": "wrong"}, AUTH, PING)
    assert [receive(client)["type"], receive(client)["type"]] == ["error", "pong"]
    assert sim.violations == []


def test_subscriptions_are_those_of_live_connections(sim: Simulator, connect: Connect) -> None:
    """They grow and shrink with the messages and end with the connection."""
    first, second = connect(sim, AUTH, PRICE, BOT), connect(sim, AUTH, WALLET)
    sim.wait_for(lambda: sim.subscriptions == {Price("M"), Bot("B"), Transactions("W")})
    settled(sim, first, {**BOT, "type": "unsubscribe"})
    assert sim.subscriptions == {Price("M"), Transactions("W")}
    hang_up(second)
    sim.wait_for(lambda: sim.connections == 1)
    assert sim.subscriptions == {Price("M")}


def test_received_and_history_keep_every_message_in_order(sim: Simulator, connect: Connect) -> None:
    """`received` runs over all connections, `history` tells them apart, and both are snapshots."""
    first = connect(sim)
    settled(sim, first, AUTH)
    second = connect(sim)
    settled(sim, second, AUTH, PRICE)
    settled(sim, first, PING)
    assert sim.received == [AUTH, AUTH, PRICE, PING]
    assert sim.history == ((AUTH, PING), (AUTH, PRICE))
    assert sim.violations == []
    sim.received.clear()
    assert len(sim.received) == 4


def test_other_paths_are_not_found(sim: Simulator) -> None:
    """Only the vendor's path is served; a query does not matter."""
    with pytest.raises(WebSocketBadStatusException) as caught:
        create_connection(sim.url + "/other", timeout=PATIENCE)
    assert caught.value.status_code == 404
    hang_up(create_connection(sim.url + "?a=b", timeout=PATIENCE))


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([PING], "ping before auth"),
        ([PRICE], "subscribe before auth"),
        ([AUTH, AUTH], "already authenticated"),
        ([{**AUTH, "apiKey": "wrong"}, PRICE], "without an accepted auth"),
        ([AUTH, PRICE, PRICE], "already subscribed"),
        ([AUTH, {**PRICE, "type": "unsubscribe"}], "not subscribed"),
        ([{**AUTH, "id": 1}], "auth with the keys ['apiKey', 'id', 'type']"),
        ([AUTH, {**PING, "id": 1}], "ping with the keys"),
        ([AUTH, {**PRICE, "botId": "B"}], "subscribe with the keys"),
        ([AUTH, {"type": "subscribe", "channel": "price"}], "subscribe with the keys"),
        ([AUTH, {**PRICE, "channel": "prices"}], "unknown channel 'prices'"),
        ([AUTH, {**PRICE, "channel": ["price"]}], "unknown channel ['price']"),
        ([AUTH, {**PRICE, "mint": 1}], "mint is no text"),
        ([AUTH, {**PRICE, "mint": " "}], "mint is no text, or blank"),
        ([AUTH, {"type": "hello"}], "unknown type 'hello'"),
        ([AUTH, {"type": ["ping"]}], "unknown type ['ping']"),
        ([AUTH, {}], "unknown type None"),
        ([AUTH, [PING]], "no object: list"),
    ],
)
def test_what_the_page_does_not_allow_is_a_violation(messages: list[Any], text: str) -> None:
    """Each is told in words, once, with no answer and no effect on the subscriptions."""
    conversation, manners = Conversation(3), Manners(frozenset({"test-key"}))
    for message in messages[:-1]:
        assert conversation.hear(json.dumps(message), manners, AT).violation is None
    before = set(conversation.subscriptions)
    heard = conversation.hear(json.dumps(messages[-1]), manners, AT)
    assert heard.reply is None
    assert heard.violation is not None
    assert heard.violation.startswith("connection 3: ")
    assert text in heard.violation
    assert conversation.subscriptions == before


@pytest.mark.parametrize("frame", ["{", "[" * 100_000, b"{}"], ids=["broken", "deep", "binary"])
def test_frames_that_are_no_json_text_are_violations(frame: str | bytes) -> None:
    """They are no messages: nothing is kept of them but the violation."""
    conversation = Conversation(1)
    heard = conversation.hear(frame, Manners(frozenset()), AT)
    assert heard.violation is not None
    assert heard.message is None
    assert conversation.messages == []


def test_violations_show_in_the_simulator_and_quote_no_key(sim: Simulator, connect: Connect) -> None:
    """A malformed auth is kept in `received` and told in `violations` by its keys' names alone."""
    client = connect(sim)
    settled(sim, client, {"type": "auth", "apiKey": "secret", "token": "secret"})
    client.send_binary(b"secret")
    assert sim.wait_for(lambda: len(sim.violations) == 2)
    assert "secret" not in "".join(sim.violations)


# --- sending ---------------------------------------------------------------------------------------------------------


def test_publish_reaches_the_subscribers_of_the_channel_alone(either: Simulator, connect: Connect) -> None:
    """Each message goes by its own key; the count says how many got it."""
    subscribe = {"M": PRICE, "B": BOT, "W": WALLET}
    clients = {name: connect(either, AUTH, message) for name, message in subscribe.items()}
    either.wait_for(lambda: len(either.subscriptions) == 3)
    messages: dict[str, dict[str, Any]] = {
        "M": UPDATE,
        "B": {"type": "bot_update", "botId": "B", "event": "started", "data": {}},
        "W": {"type": "transaction_confirmed", "signature": "s", "status": "confirmed", "slot": 1, "wallet": "W"},
    }
    for message in messages.values():
        assert either.publish(message) == 1
    assert either.publish({**UPDATE, "mint": "other"}) == 0
    assert {name: receive(client) for name, client in clients.items()} == messages


def test_a_confirmation_without_wallet_goes_to_every_watcher_of_wallets(sim: Simulator, connect: Connect) -> None:
    """The page's shape names no wallet, so all `transactions` subscribers get it, and nobody else."""
    watchers = [connect(sim, AUTH, {**WALLET, "wallet": wallet}) for wallet in "ab"]
    connect(sim, AUTH, PRICE)
    sim.wait_for(lambda: len(sim.subscriptions) == 3)
    message = {"type": "transaction_confirmed", "signature": "s", "status": "confirmed", "slot": 1}
    assert sim.publish(message) == 2
    assert [receive(client) for client in watchers] == [message, message]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "pong"},
        {"type": ["price_update"]},
        {},
        "price_update",
        {"type": "bot_update"},
        {"type": "price_update", "mint": " "},
        {"type": "transaction_confirmed", "wallet": 1},
    ],
)
def test_publish_refuses_what_has_no_channel(sim: Simulator, message: Any) -> None:
    """It points to `send_raw`, which sends anything."""
    with pytest.raises(ValueError, match="send_raw"):
        sim.publish(message)


def test_publish_refuses_what_json_cannot_hold(sim: Simulator) -> None:
    """NaN is no JSON number (RFC 8259, section 6), a date no JSON value."""
    with pytest.raises(ValueError, match="JSON"):
        sim.publish({**UPDATE, "price": float("nan")})
    with pytest.raises(TypeError):
        sim.publish({**UPDATE, "timestamp": AT})


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({**UPDATE, "price": "1.5"}, "for an InvalidMessage: "),
        (
            {"type": "price_update", "mint": "M", "prise": 1.5, "volume": 2, "timestamp": "2024-01-15T10:30:00Z"},
            "price",
        ),
        ({**UPDATE, "timestamp": "yesterday"}, "timestamp"),
        ({"type": "bot_update", "botId": "B", "event": "stopped"}, "data"),
        ({"type": "bot_update", "botId": "B", "event": "trade_executed", "data": {"signature": "s"}}, "plain mapping"),
        ({"type": "transaction_confirmed", "signature": "s", "status": "confirmed", "slot": "1"}, "slot"),
    ],
)
def test_publish_tells_of_a_typing_error(
    either: Simulator, connect: Connect, caplog: pytest.LogCaptureFixture, message: dict[str, Any], told: str
) -> None:
    """What a client will not take for what its type says is sent, and a warning says why."""
    client = connect(either, AUTH, PRICE, BOT, WALLET)
    either.wait_for(lambda: len(either.subscriptions) == 3)
    assert either.publish(message) == 1
    assert receive(client) == message
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("allenhark_ws.testing", "WARNING")
    assert told in record.message


def test_publish_is_silent_about_what_fits(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the page documents, with undocumented keys too, and bot updates of any kind."""
    for message in (
        {**UPDATE, "more": 1},
        {"type": "bot_update", "botId": "B", "event": "stopped", "data": {"why": None}},
        {
            "type": "bot_update",
            "botId": "B",
            "event": "trade_executed",
            "data": {"signature": "s", "profit": 1, "timestamp": "2024-01-15T10:30:00Z"},
        },
        {"type": "transaction_confirmed", "signature": "s", "status": "confirmed", "slot": 1},
    ):
        sim.publish(message)
    assert caplog.records == []


def test_send_raw_sends_text_and_binary_frames_to_all(sim: Simulator, connect: Connect) -> None:
    """Unauthenticated connections get them too, byte for byte."""
    clients = [connect(sim, AUTH), connect(sim)]
    sim.wait_for(lambda: sim.connections == 2)
    assert sim.send_raw("{ é") == 2
    assert sim.send_raw(b"\xff\x00") == 2
    for client in clients:
        assert client.recv_data() == (ABNF.OPCODE_TEXT, "{ é".encode())
        assert client.recv_data() == (ABNF.OPCODE_BINARY, b"\xff\x00")


def test_send_raw_refuses_other_types(sim: Simulator) -> None:
    """A dict is not guessed at, and half a surrogate pair is no text."""
    with pytest.raises(TypeError, match="dict"):
        sim.send_raw({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="surrogates"):
        sim.send_raw("\ud800")


def test_send_error_has_a_code_only_if_given(sim: Simulator, connect: Connect) -> None:
    """The error goes to every connection."""
    client = connect(sim)
    sim.wait_for(lambda: sim.connections == 1)
    assert sim.send_error("slow down", 429) == 1
    assert sim.send_error("oops") == 1
    assert receive(client) == {"type": "error", "message": "slow down", "code": 429}
    assert receive(client) == {"type": "error", "message": "oops"}


def test_threads_may_publish_at_once(sim: Simulator, connect: Connect) -> None:
    """Messages of many threads arrive whole, each thread's in its order."""
    client = connect(sim, AUTH, PRICE)
    sim.wait_for(lambda: sim.subscriptions)

    def publish(volume: int) -> None:
        for price in range(25):
            sim.publish({**UPDATE, "price": price, "volume": volume})

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    received = [receive(client) for _ in range(100)]
    for thread in threads:
        thread.join()
    for number in range(4):
        assert [message["price"] for message in received if message["volume"] == number] == list(range(25))


# --- waiting ---------------------------------------------------------------------------------------------------------


def test_wait_for_returns_the_value(sim: Simulator) -> None:
    """The first true value is the result, without a wait when it is true at once."""
    assert sim.wait_for(lambda: "value", timeout=0) == "value"


def test_wait_for_looks_again_by_itself(sim: Simulator) -> None:
    """A predicate about something else than the simulator comes true although nothing changes here."""
    calls = count()
    assert sim.wait_for(lambda: next(calls) >= 3)


def test_wait_for_tells_what_was_seen(sim: Simulator, connect: Connect) -> None:
    """The TimeoutError says how many connections and messages there were, and the last violations."""
    settled(sim, connect(sim), PING)
    with pytest.raises(TimeoutError, match=r"0\.01 s; live .*: 1, .* received: 1, .* 'ping'; violations: .*ping"):
        sim.wait_for(lambda: False, timeout=0.01)


def test_wait_for_passes_exceptions(sim: Simulator) -> None:
    """What the predicate raises reaches the test."""
    with pytest.raises(ZeroDivisionError):
        sim.wait_for(lambda: 1 / 0)


# --- faults ----------------------------------------------------------------------------------------------------------


def test_close_sends_code_and_reason_to_all(either: Simulator, connect: Connect) -> None:
    """The frame is under way and the connections are no longer live when the call returns."""
    clients = [connect(either, AUTH), connect(either)]
    either.wait_for(lambda: either.connections == 2)
    either.close(4401, "bad key")
    assert either.connections == 0
    for client in clients:
        assert client.recv_data() == (ABNF.OPCODE_CLOSE, struct.pack("!H", 4401) + b"bad key")


def test_close_without_code(sim: Simulator, connect: Connect) -> None:
    """A close frame may be empty, which a client shows as 1005 (RFC 6455, section 7.1.5)."""
    client = connect(sim)
    sim.wait_for(lambda: sim.connections == 1)
    sim.close(None)
    assert client.recv_data() == (ABNF.OPCODE_CLOSE, b"")


@pytest.mark.parametrize(
    ("code", "reason"), [(1005, ""), (1006, ""), (999, ""), (5000, ""), ("x", ""), (1000, "é" * 62), (None, "why")]
)
def test_close_refuses_what_no_frame_can_carry(sim: Simulator, code: Any, reason: str) -> None:
    """Reserved codes and long reasons are refused before anything is sent."""
    with pytest.raises(ValueError, match="close"):
        sim.close(code, reason)


def test_what_a_client_says_after_the_close_frame_is_not_heard(sim: Simulator, connect: Connect) -> None:
    """The server has ended the conversation; the other connections go on."""
    client = connect(sim, AUTH)
    sim.wait_for(lambda: sim.received == [AUTH])
    sim.close(1001)
    client.send(json.dumps(PING))
    settled(sim, connect(sim), AUTH)
    assert sim.history == ((AUTH,), (AUTH,))


def test_reset_cuts_every_connection_with_rst(either: Simulator, connect: Connect) -> None:
    """The client's socket reports a reset, not an end of data."""
    client = connect(either, AUTH)
    either.wait_for(lambda: either.connections == 1)
    either.reset()
    assert either.connections == 0
    with pytest.raises(ConnectionResetError):
        read_all(client)


def test_reset_cuts_connections_before_the_upgrade(sim: Simulator, connect: Connect) -> None:
    """One that has sent half a request is cut as well."""
    with tcp(sim) as client:
        client.sendall(b"GET /v1/ws HTTP/1.1\r\n")
        connect(sim)  # accepted in order, so the one before is there too
        sim.wait_for(lambda: sim.connections == 1)
        sim.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_refuse_cuts_new_connections_and_keeps_the_old(either: Simulator, connect: Connect) -> None:
    """Nothing is answered to a new one until it is switched off."""
    old = connect(either, AUTH)
    either.wait_for(lambda: either.received)
    either.refuse()
    assert fails_to_connect(either)
    assert fails_to_connect(either)
    old.send(json.dumps(PING))
    assert receive(old)["type"] == "pong"
    either.refuse(False)
    assert receive(connect(either, AUTH, PING))["type"] == "pong"


def test_mute_pongs_holds_pongs_back(sim: Simulator, connect: Connect) -> None:
    """Other messages come meanwhile; each muted ping is answered once when pongs are back."""
    client = connect(sim, AUTH)
    sim.mute_pongs()
    settled(sim, client, PING)
    settled(sim, client, PING)
    sim.send_raw("other")
    assert client.recv() == "other"
    sim.mute_pongs(False)
    sim.mute_pongs(False)
    sim.send_raw("next")
    assert [receive(client)["type"], receive(client)["type"]] == ["pong", "pong"]
    assert client.recv() == "next"


def test_reject_auth_answers_errors_whatever_the_key(sim: Simulator, connect: Connect) -> None:
    """With and without a code, until a message of None; an accepted connection is not touched."""
    old = connect(sim, AUTH, PING)
    receive(old)
    sim.reject_auth()
    assert receive(connect(sim, AUTH, PING)) == {"type": "error", "message": "invalid API key"}
    sim.reject_auth("too many connections", 429)
    assert receive(connect(sim, AUTH, PING)) == {"type": "error", "message": "too many connections", "code": 429}
    sim.reject_auth(None)
    assert receive(connect(sim, AUTH, PING))["type"] == "pong"
    old.send(json.dumps(PING))
    assert receive(old)["type"] == "pong"


def test_stall_stops_reading(either: Simulator, connect: Connect) -> None:
    """Messages stay unheard, sending goes on, and everything is heard when it ends."""
    client = connect(either, AUTH, PRICE)
    either.wait_for(lambda: either.subscriptions)
    either.stall()
    client.send(json.dumps(PING))
    client.send(json.dumps(BOT))
    never(either, lambda: len(either.received) > 2)
    assert either.publish(UPDATE) == 1
    assert receive(client) == UPDATE
    either.stall(False)
    assert receive(client)["type"] == "pong"
    either.wait_for(lambda: either.received == [AUTH, PRICE, PING, BOT])


def test_stall_leaves_upgrades_unread(sim: Simulator) -> None:
    """A new connection gets no answer to its upgrade until the stall ends."""
    sim.stall()
    with tcp(sim) as client:
        client.sendall(
            b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        never(sim, lambda: sim.connections)
        sim.stall(False)
        assert client.recv(12) == b"HTTP/1.1 101"


def test_a_stall_holds_what_was_read_but_not_heard(sim: Simulator, connect: Connect) -> None:
    """However the moment falls into a burst of messages, none is heard during a stall and none is lost."""
    client = connect(sim, AUTH)
    burst = [{"type": "subscribe", "channel": "price", "mint": f"M{number}"} for number in range(200)]
    for message in burst:
        client.send(json.dumps(message))
    sim.stall()
    heard = sim.received
    never(sim, lambda: sim.received != heard)
    sim.stall(False)
    sim.wait_for(lambda: sim.received == [AUTH, *burst])
    assert sim.violations == []


def test_delay_keeps_the_order(sim: Simulator, connect: Connect) -> None:
    """Delayed messages come in the order of sending, pongs among them, also when the delay gets shorter."""
    client = connect(sim, AUTH)
    sim.wait_for(lambda: sim.received)
    sim.delay(0.05)
    for number in range(5):
        sim.send_raw(str(number))
    sim.delay(0.001)
    sim.send_raw("5")
    assert [client.recv() for _ in range(6)] == list("012345")
    settled(sim, client, PING)
    assert receive(client)["type"] == "pong"


def test_delay_holds_messages_back_until_switched_off(sim: Simulator, connect: Connect) -> None:
    """Zero sends at once, in order, what was to come an hour later."""
    client = connect(sim, AUTH)
    sim.wait_for(lambda: sim.received)
    sim.delay(3600)
    assert [sim.send_raw("1"), sim.send_raw("2")] == [1, 1]
    client.settimeout(NEVER)
    with pytest.raises(TimeoutError):
        socket_of(client).recv(1)
    client.settimeout(5)
    sim.delay(0)
    sim.send_raw("3")
    assert [client.recv() for _ in range(3)] == ["1", "2", "3"]


def test_close_overtakes_delayed_messages(sim: Simulator, connect: Connect) -> None:
    """What is still delayed then is lost, as the call promises a frame under way."""
    client = connect(sim)
    sim.wait_for(lambda: sim.connections == 1)
    sim.delay(3600)
    sim.send_raw("late")
    sim.close(1012)
    assert client.recv_data() == (ABNF.OPCODE_CLOSE, struct.pack("!H", 1012))


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_delay_refuses_what_is_no_duration(sim: Simulator, seconds: float) -> None:
    """Negative and infinite ones would lose messages."""
    with pytest.raises(ValueError, match="delay"):
        sim.delay(seconds)


# --- the market ------------------------------------------------------------------------------------------------------


def test_feed_says_on_each_channel_what_its_seed_says(connect: Connect) -> None:
    """Every subscriber gets its own channel's messages, from the first, in the page's shapes."""
    expected = {channel: Feed(7).next_message(channel, AT) for channel in (Price("M"), Bot("B"), Transactions("W"))}
    with Simulator(feed=True, seed=7) as sim:
        price, bot, wallet = (connect(sim, AUTH, message) for message in (PRICE, BOT, WALLET))
        assert receive(price)["price"] == expected[Price("M")]["price"]
        assert receive(bot)["data"]["profit"] == expected[Bot("B")]["data"]["profit"]
        assert receive(wallet) == expected[Transactions("W")]
        assert receive(price)["type"] == "price_update"
    assert sim.violations == []


def test_feed_pauses_without_subscribers(connect: Connect) -> None:
    """It falls silent with the last subscription and goes on with the next one, where it was."""
    with Simulator(feed=True) as sim:
        client = connect(sim, AUTH, PRICE)
        prices = [receive(client)["price"]]
        settled(sim, client, {**PRICE, "type": "unsubscribe"})
        sim.send_raw('"silence"')
        while (message := receive(client)) != "silence":
            prices.append(message["price"])
        client.settimeout(NEVER)
        with pytest.raises(TimeoutError):
            socket_of(client).recv(1)
        client.settimeout(5)
        settled(sim, client, PRICE)
        prices.append(receive(client)["price"])
    walk = Feed(0)
    assert prices == [walk.next_message(Price("M"), AT)["price"] for _ in prices]


def test_feed_skips_a_client_that_does_not_read(connect: Connect) -> None:
    """Its unsent megabytes do not grow, while the others are served."""
    with Simulator(feed=True) as sim:
        deaf, well = connect(sim, AUTH), connect(sim, AUTH)
        sim.wait_for(lambda: len(sim.received) == 2)
        blob = bytes(16 * 2**20)
        sim.send_raw(blob)
        assert well.recv() == blob
        settled(sim, deaf, PRICE)
        settled(sim, well, PRICE)
        prices = [receive(well)["price"] for _ in range(2)]
        assert deaf.recv() == blob
        assert receive(deaf)["price"] not in prices


# --- life ------------------------------------------------------------------------------------------------------------

VERBS: dict[str, Callable[[Simulator], object]] = {
    "publish": lambda sim: sim.publish(UPDATE),
    "send_raw": lambda sim: sim.send_raw("x"),
    "send_error": lambda sim: sim.send_error("x"),
    "close": lambda sim: sim.close(),
    "reset": lambda sim: sim.reset(),
    "refuse": lambda sim: sim.refuse(),
    "mute_pongs": lambda sim: sim.mute_pongs(),
    "reject_auth": lambda sim: sim.reject_auth(),
    "stall": lambda sim: sim.stall(),
    "delay": lambda sim: sim.delay(1),
    "url": lambda sim: sim.url,
}


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_done_before_the_start(verb: str) -> None:
    """Every verb, and the URL while the port is open, says how to start."""
    with pytest.raises(RuntimeError, match=r"with statement, or call start\(\)"):
        VERBS[verb](Simulator())


def test_a_simulator_that_never_ran_has_seen_nothing() -> None:
    """Its record can be read all the same, and stopping it does nothing."""
    sim = Simulator()
    sim.stop()
    assert (sim.connections, sim.subscriptions) == (0, frozenset())
    assert (sim.received, sim.violations, sim.history) == ([], [], ())
    assert repr(sim) == "<Simulator ws stopped, connections: 0>"


def test_start_and_stop_may_be_repeated(connect: Connect) -> None:
    """Both are idempotent; a new start keeps port and record and forgets the faults."""
    sim = Simulator()
    assert sim.start() is sim.start()
    url = sim.url
    connect(sim, AUTH)
    sim.wait_for(lambda: sim.received)
    sim.refuse()
    sim.mute_pongs()
    sim.stop()
    sim.stop()
    assert (sim.connections, sim.received) == (0, [AUTH])
    with sim:
        assert sim.url == url
        assert receive(connect(sim, AUTH, PING))["type"] == "pong"
        assert repr(sim) == f"<Simulator ws port {port_of(sim)}, connections: 1>"
    assert sim.history == ((AUTH,), (AUTH, PING))


def test_stop_says_goodbye(either: Simulator, connect: Connect) -> None:
    """Clients get 1001, going away, and the port is closed afterwards."""
    client = connect(either, AUTH)
    either.wait_for(lambda: either.connections == 1)
    port = port_of(either)
    either.stop()
    assert client.recv_data() == (ABNF.OPCODE_CLOSE, struct.pack("!H", 1001))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def test_a_given_port_is_used_and_a_taken_one_refused() -> None:
    """The second simulator on a port fails with the system's error and leaves nothing behind."""
    with Simulator() as sim:
        rival = Simulator(port=port_of(sim))
        with pytest.raises(OSError, match=r"in use|10048"):
            rival.start()
        assert len(simulator_threads()) == 1
    with rival:
        assert port_of(rival) == port_of(sim)


class _Interrupted(Simulator):
    """One whose start is interrupted when the server already runs."""

    def _launch(self, listener: Listener) -> None:
        super()._launch(listener)
        raise KeyboardInterrupt


def test_an_interrupted_start_leaves_nothing() -> None:
    """Port and thread are given back when Ctrl-C falls into the start."""
    sim = _Interrupted()
    with pytest.raises(KeyboardInterrupt):
        sim.start()
    assert simulator_threads() == []
    with pytest.raises(RuntimeError):
        sim.reset()
    with Simulator(port=port_of(sim)):
        pass


def test_a_thread_that_does_not_answer_is_reported() -> None:
    """A call is cancelled after its time, and `stop` cancels what still runs; a TimeoutError of its own passes."""
    thread, cancelled = LoopThread("allenhark simulator, none"), threading.Event()

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def fail() -> None:
        raise TimeoutError("own")

    async def leave_behind() -> asyncio.Task[None]:
        task = asyncio.ensure_future(hang())
        await asyncio.sleep(0)
        return task

    with pytest.raises(RuntimeError, match=r"0\.01 s"):
        thread.call(hang(), 0.01)
    assert cancelled.wait(PATIENCE)
    with pytest.raises(TimeoutError, match="own"):
        thread.call(fail(), 5)
    task = thread.call(leave_behind(), 5)
    thread.stop(5)
    assert task.cancelled()
    assert simulator_threads() == []


def test_a_server_that_never_opened_shuts_quietly() -> None:
    """There is nothing to close but the listener, which its maker closes."""
    thread = LoopThread("allenhark simulator, none")
    with Listener(0) as listener:
        thread.call(Server(listener, Manners(frozenset()), Journal(), None).shut(), 5)
    thread.stop(5)


def test_the_thread_is_a_daemon_with_a_telling_name(sim: Simulator) -> None:
    """There is one, and it does not hold up the interpreter's exit."""
    name = f"allenhark simulator on port {port_of(sim)}"
    assert [(thread.name, thread.daemon) for thread in simulator_threads()] == [(name, True)]


def open_files() -> int:
    """How many file descriptors this process has."""
    return sum(1 for _ in DESCRIPTORS.iterdir())


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts file descriptors the Linux way")
@pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
def test_cycles_leave_no_thread_and_no_descriptor(tls: bool, connect: Connect) -> None:
    """Whatever state the clients are in when it stops: ready, silent, in mid-upgrade or in mid-handshake, stalled."""
    with Simulator(tls=tls):
        pass  # what is loaded once is loaded now
    before = open_files()
    for cycle in range(4):
        with Simulator(tls=tls) as sim:
            silent, half = tcp(sim), tcp(sim)
            half.sendall(b"\x16\x03\x01" if tls else b"GET /v1/ws")
            client = connect(sim, AUTH)
            sim.wait_for(lambda sim=sim: sim.received)  # type: ignore[misc]
            if cycle % 2:
                sim.stall()
        silent.close()
        half.close()
        hang_up(client)
        assert simulator_threads() == []
        assert open_files() == before


def test_it_runs_quietly(sim: Simulator, connect: Connect, capfd: pytest.CaptureFixture[str]) -> None:
    """Broken requests, lost clients and refused ones leave no trace on the console or in the root logger."""
    with tcp(sim) as client:
        client.sendall(b"nonsense\r\n\r\n")
        client.recv(1)
    with tcp(sim) as client:
        client.sendall(b"GET /v1/ws HTTP/1.1\r\n")
    lost = connect(sim, AUTH)
    sim.wait_for(lambda: sim.connections == 1)
    socket_of(lost).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    hang_up(lost)
    sim.wait_for(lambda: sim.connections == 0)
    sim.refuse()
    assert fails_to_connect(sim)
    sim.stop()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "arguments", [{"api_keys": "key"}, {"api_keys": ()}, {"api_keys": [1]}, {"port": -1}, {"port": "1"}]
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any]) -> None:
    """A key given as plain text would count as its letters, for one."""
    with pytest.raises(ConfigurationError, match=next(iter(arguments))):
        Simulator(**arguments)


def test_ssl_context_trusts_this_simulator_alone() -> None:
    """Without TLS there is none; with it another simulator's certificate does not verify."""
    assert Simulator().ssl_context is None
    stranger = Simulator(tls=True).ssl_context
    assert stranger is not None
    with Simulator(tls=True) as sim, tcp(sim) as client:
        assert sim.url.startswith("wss://localhost:")
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.wrap_socket(client, server_hostname="localhost")


@pytest.mark.parametrize(
    ("package", "code"),
    [
        ("websockets", "import allenhark_ws.testing"),
        ("trustme", "from allenhark_ws.testing import Simulator; Simulator(tls=True)"),
    ],
)
def test_a_missing_package_is_named_with_the_extra(package: str, code: str) -> None:
    """The last line of the traceback says what to install."""
    script = f"import sys; sys.modules[{package!r}] = None; {code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ")
    assert package in last
    assert 'pip install "allenhark-ws[testing]"' in last
