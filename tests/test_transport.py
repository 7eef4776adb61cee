"""One connection over loopback, plain and TLS: reading, sending, ending, and everything a peer can do meanwhile."""

from __future__ import annotations

import errno
import gc
import os
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

pytest.importorskip("trustme", reason="needs the extra testing")

import trustme

from allenhark_ws._aside import Interrupted
from allenhark_ws._frames import MAX_PONGS, BinaryMessage
from allenhark_ws._transport import Batch, Transport
from allenhark_ws.errors import ConnectionFailed, ConnectionLost

from .patience import PATIENCE
from .peers import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Clock,
    Peer,
    Waiting,
    close_frame,
    closed_port,
    frame,
    peer,
    read_exactly,
    read_frame,
    reset,
    settings,
    upgrade,
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


@pytest.fixture(params=["ws", "wss"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Both kinds of connection."""
    return str(request.param)


Connect = Callable[..., tuple[Peer, Transport]]


@pytest.fixture
def connect(scheme: str, authority: trustme.CA) -> Iterator[Connect]:
    """Makes a peer that upgrades and then runs a script, and a transport connected to it; both are ended after."""
    ends: list[tuple[Peer, Transport]] = []
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)

    def make(script: Callable[[socket.socket], Any], *, behind: bytes = b"", **options: Any) -> tuple[Peer, Transport]:
        def serve(conn: socket.socket) -> Any:
            upgrade(conn, behind=behind)
            return script(conn)

        server_end = peer(serve, context=server if scheme == "wss" else None)
        server_end.__enter__()
        arguments = {key: options.pop(key) for key in ("clock", "redact") if key in options}
        url = f"{scheme}://127.0.0.1:{server_end.port}/"
        transport = Transport(settings(url=url, ssl_context=client, **options), **arguments)
        ends.append((server_end, transport))
        waiting = Waiting()
        transport.open(waiting, waiting.wake)
        return server_end, transport

    yield make
    for server_end, transport in ends:
        transport.abort()
        server_end.__exit__(None, None, None)


def finish(server: Peer) -> Any:
    """Wait for the peer's script and give its result."""
    server.__exit__(None, None, None)
    return server.results[0]


def step(transport: Transport) -> Batch:
    """Wait as the loop would, write and read once."""
    if not transport.pending:
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if transport.wants_write else 0)
        assert Waiting()(transport.sock, mask, time.monotonic() + PATIENCE), "nothing happened"
    transport.write()
    return transport.receive()


def drive(transport: Transport, count: int | None = None) -> tuple[list[bytes], ConnectionLost | None]:
    """Go on until so many messages, or the end, have come."""
    messages: list[bytes] = []
    while count is None or len(messages) < count:
        batch = step(transport)
        messages += batch.messages
        if batch.end is not None:
            transport.linger(Waiting(), time.monotonic() + PATIENCE)
            return messages, batch.end
    return messages, None


def the_end(transport: Transport) -> ConnectionLost:
    """Go on until the end."""
    end = drive(transport)[1]
    assert end is not None
    assert transport.sock.fileno() == -1
    assert not transport.pending
    assert not transport.wants_write
    assert transport.receive() == Batch()
    return end


def wait_for_close(conn: socket.socket) -> tuple[int, bytes]:
    """Read frames until a close frame."""
    while True:
        opcode, payload = read_frame(conn)
        if opcode == CLOSE:
            return opcode, payload


# -- opening ----------------------------------------------------------------------------------------------------------


def test_opening_has_one_deadline() -> None:
    """The connect timeout from now, for every wait; an interruption leaves nothing to do, and it says what it is at."""
    deadlines, phases = [], []

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        deadlines.append(deadline)
        phases.append(transport.phase)
        raise Interrupted

    with peer(lambda conn: None) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        transport = Transport(settings(url=url, connect_timeout=7.0), clock=Clock())
        phases.append(transport.phase)
        with pytest.raises(Interrupted):
            transport.open(wait, lambda: None)
        phases.append(transport.phase)
    assert deadlines == [1007.0]
    assert phases == ["", f"TCP connect to 127.0.0.1:{server.port}", ""]
    assert transport.receive() == Batch()


def test_an_error_of_the_system_that_nobody_expected() -> None:
    """It is a failed attempt like any other, with the error, without its frames, as cause."""

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        raise OSError(22, "Invalid argument")

    with peer(lambda conn: None) as server:
        transport = Transport(settings(url=f"ws://127.0.0.1:{server.port}/"))
        with pytest.raises(ConnectionFailed) as caught:
            transport.open(wait, lambda: None)
    assert caught.value.reason == "opening the connection: invalid argument"
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.__traceback__ is None


def test_a_failed_opening_keeps_no_frames() -> None:
    """Errors may live for long: neither one with a cause nor one without holds the way it came."""
    waiting = Waiting()
    with closed_port() as port, pytest.raises(ConnectionFailed) as refused:
        Transport(settings(url=f"ws://127.0.0.1:{port}/")).open(waiting, waiting.wake)
    assert isinstance(refused.value.__cause__, ConnectionRefusedError)
    assert refused.value.__cause__.__traceback__ is None
    with pytest.raises(ConnectionFailed, match="not a possible host name") as impossible:
        Transport(settings(url=f"wss://{'x' * 64}.example/")).open(waiting, waiting.wake)
    assert impossible.value.__cause__ is None
    for caught in (refused, impossible):
        assert [entry.name for entry in caught.traceback] == [test_a_failed_opening_keeps_no_frames.__name__, "open"]


# -- messages ---------------------------------------------------------------------------------------------------------


def test_messages_both_ways(connect: Connect) -> None:
    """What one side sends the other receives, small and large, text and binary."""
    sizes = [1, 125, 126, 65_535, 65_536, 700_000]

    def script(conn: socket.socket) -> list[tuple[int, int]]:
        conn.sendall(frame(BINARY, b"\xff"))
        got = []
        for _ in sizes:
            opcode, payload = read_frame(conn)
            got.append((opcode, len(payload)))
            conn.sendall(frame(TEXT, payload))
        return got

    server, transport = connect(script)
    for size in sizes:
        transport.send(b"x" * size)
    messages, end = drive(transport, len(sizes) + 1)
    assert messages == [b"\xff", *(b"x" * size for size in sizes)]
    assert isinstance(messages[0], BinaryMessage)
    assert end is None
    assert finish(server) == [(TEXT, size) for size in sizes]


def test_bytes_behind_the_response_head_are_not_lost(connect: Connect) -> None:
    """Frames that arrive together with the upgrade's response are received, without the socket being readable."""
    _, transport = connect(lambda conn: conn.recv(1), behind=frame(TEXT, b"early") + frame(TEXT, b"half")[:3])
    if transport.pending:
        assert transport.receive().messages == [b"early"]
    else:
        assert drive(transport, 1)[0] == [b"early"]
    assert not transport.pending


def test_half_a_frame_waits_for_the_rest(connect: Connect) -> None:
    """A frame cut anywhere is no message yet; the rest completes it."""
    data = frame(TEXT, b'{"type":"pong"}')

    def script(conn: socket.socket) -> None:
        for piece in (data[:1], data[1:2], data[2:9], data[9:]):
            conn.sendall(piece)
            assert read_frame(conn) == (TEXT, b"go on")

    server, transport = connect(script)
    for _ in range(3):
        assert step_until_read(transport).messages == []
        transport.send(b"go on")
    assert drive(transport, 1)[0] == [b'{"type":"pong"}']
    transport.send(b"go on")
    finish(server)


def step_until_read(transport: Transport) -> Batch:
    """Wait until the socket is readable with something of the application, and receive it."""
    before = transport._reader._partial[:]
    while True:
        batch = step(transport)
        if batch != Batch() or transport._reader._partial != before:
            return batch


def test_nothing_to_read_is_an_empty_batch(connect: Connect) -> None:
    """A read for nothing gives nothing and ends nothing."""
    _, transport = connect(lambda conn: conn.recv(1))
    for _ in range(3):
        batch = transport.receive()
        assert (batch.messages, batch.frames, batch.end) == ([], 0, None)
    assert transport.backlog == 0
    assert transport.send_deadline is None


def test_decrypted_bytes_are_pending(connect: Connect) -> None:
    """What TLS holds decrypted is pending although the socket is not readable: every message comes out."""
    payload = b"x" * 15_000  # with its head less than one TLS record

    def script(conn: socket.socket) -> None:
        for _ in range(20):
            conn.sendall(frame(TEXT, payload))
        conn.recv(1)

    _, transport = connect(script)
    assert drive(transport, 20)[0] == [payload] * 20


def test_pings_are_answered(connect: Connect) -> None:
    """Every ping is answered with its payload, in order; several in one read too."""

    def script(conn: socket.socket) -> list[tuple[int, bytes]]:
        conn.sendall(frame(PING, b"one"))
        got = [read_frame(conn)]
        conn.sendall(frame(PING, b"two") + frame(PING, b"three") + frame(TEXT, b"{}"))
        return [*got, read_frame(conn), read_frame(conn)]

    server, transport = connect(script)
    assert drive(transport, 1)[0] == [b"{}"]
    assert finish(server) == [(PONG, b"one"), (PONG, b"two"), (PONG, b"three")]


def test_a_flood_of_pings_without_reading_costs_a_few_frames(connect: Connect) -> None:
    """A peer that pings and does not read gets only so many pongs queued."""
    blocked = threading.Event()

    def script(conn: socket.socket) -> None:
        assert blocked.wait(PATIENCE)
        conn.sendall(frame(PING, b"p" * 125) * 3000)
        conn.sendall(frame(TEXT, b"done"))
        reset(conn)

    server, transport = connect(script)
    fill(transport)
    before = transport.backlog
    blocked.set()
    drive(transport, 1)
    assert transport.backlog <= before + 131 * MAX_PONGS
    assert len(transport._pongs) <= MAX_PONGS
    transport.abort()
    finish(server)


def fill(transport: Transport) -> None:
    """Send until the kernel takes no more."""
    for _ in range(1000):
        transport.send(b"x" * 100_000)
        if transport.backlog:
            return
    pytest.fail("the kernel takes everything")


# -- sending ----------------------------------------------------------------------------------------------------------


def test_backlog_deadline_and_going_on(connect: Connect) -> None:
    """What the kernel does not take is queued, has a deadline, and goes when the peer reads on."""
    may_read = threading.Event()

    def script(conn: socket.socket) -> int:
        assert may_read.wait(PATIENCE)
        conn.sendall(frame(TEXT, b"reading"))
        count = 0
        while read_frame(conn)[1] != b"last":
            count += 1
        conn.sendall(frame(TEXT, b"got it"))
        return count

    clock = Clock()
    server, transport = connect(script, clock=clock, send_timeout=7.0)
    fill(transport)
    assert transport.wants_write
    assert transport.send_deadline == clock.now + 7
    clock.now += 1
    transport.send(b"last")
    assert transport.send_deadline == clock.now + 6
    may_read.set()
    assert drive(transport, 2)[0] == [b"reading", b"got it"]
    assert (transport.backlog, transport.wants_write) == (0, False)
    assert finish(server) >= 1


def test_expired_output_breaks_the_connection(connect: Connect) -> None:
    """When the send deadline passed, the connection is broken; what can still be read is."""
    hold = threading.Event()

    def script(conn: socket.socket) -> None:
        conn.sendall(frame(TEXT, b"still there"))
        assert hold.wait(PATIENCE)

    server, transport = connect(script, send_timeout=3.0)
    assert drive(transport, 1)[0] == [b"still there"]
    fill(transport)
    transport.expire()
    assert transport.pending
    assert transport.backlog == 0
    transport.send(b"too late")
    assert transport.backlog == 0
    end = the_end(transport)
    assert end.code == 1006
    assert "not sent within 3 s" in end.reason
    hold.set()
    finish(server)


def test_a_flooding_peer_cannot_keep_a_broken_connection(connect: Connect) -> None:
    """Reading on after a broken write is bounded."""
    hold = threading.Event()

    def script(conn: socket.socket) -> None:
        data = frame(TEXT, b"y" * 100) * 1000
        while not hold.is_set():
            try:
                conn.sendall(data)
            except OSError:
                return

    server, transport = connect(script, max_message_size=125)
    transport.expire()
    messages, end = drive(transport)
    hold.set()
    assert end is not None
    assert "not sent" in end.reason
    assert sum(map(len, messages)) < 3_000_000
    finish(server)


def test_how_much_is_read_of_a_broken_connection() -> None:
    """One message of the largest size and a mebibyte more, whatever else is there."""
    data = frame(TEXT, b"x" * 65_532)
    assert len(data) == 65_536
    transport, sock = scripted(recv=(data,) * 40)
    transport.expire()
    batches = [transport.receive() for _ in range(32)]
    assert [len(batch.messages) for batch in batches] == [1] * 31 + [0]
    assert [batch.end is None for batch in batches] == [True] * 31 + [False]
    assert len(sock.script["recv"]) == 8


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "reason", "answer"),
    [
        (close_frame(4001, b"so long"), 4001, "so long", struct.pack("!H", 4001)),
        (close_frame(1000), 1000, "", struct.pack("!H", 1000)),
        (frame(CLOSE), 1005, "", b""),
    ],
)
def test_close_frames_are_reported_and_echoed(
    connect: Connect, data: bytes, code: int, reason: str, answer: bytes
) -> None:
    """The server's close code and reason are reported, messages before it kept, and the close is answered once."""

    def script(conn: socket.socket) -> tuple[tuple[int, bytes], bytes]:
        conn.sendall(frame(TEXT, b"before") + data + frame(TEXT, b"after"))
        return read_frame(conn), conn.recv(1)

    server, transport = connect(script)
    messages, end = drive(transport)
    assert messages == [b"before"]
    assert end is not None
    assert (end.code, end.close_reason) == (code, reason)
    assert finish(server) == ((CLOSE, answer), b"")


def test_the_close_reason_is_redacted(connect: Connect) -> None:
    """Whatever echoes the key in a close reason is redacted, in the text of the error too."""
    _, transport = connect(
        lambda conn: conn.sendall(close_frame(1008, b"bad key sesame")),
        redact=lambda text: text.replace("sesame", "***"),
    )
    end = the_end(transport)
    assert end.close_reason == "bad key ***"
    assert "sesame" not in str(end)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (frame(CLOSE), "the server closed the connection without a code"),
        (close_frame(1000), "the server closed the connection with code 1000"),
        (close_frame(4001, b"so long"), "the server closed the connection with code 4001: so long"),
    ],
)
def test_what_a_close_frame_is_told_as(data: bytes, reason: str) -> None:
    """Its code and its reason, where it has them."""
    end = scripted(recv=(data,), send=(8,))[0].receive().end
    assert end is not None
    assert end.reason == reason


def test_end_of_file_without_close_frame(connect: Connect) -> None:
    """A connection that just ends is 1006."""
    _, transport = connect(lambda conn: conn.sendall(frame(TEXT, b"bye")))
    messages, end = drive(transport)
    assert messages == [b"bye"]
    assert end is not None
    assert end.code == 1006
    assert "without a close frame" in end.reason


def test_reset(connect: Connect, scheme: str) -> None:
    """A reset is 1006; where TLS does not hide it, it has the system's error as cause, without its frames."""
    _, transport = connect(reset)
    end = the_end(transport)
    assert end.code == 1006
    if scheme == "ws":
        assert isinstance(end.__cause__, OSError)
        assert end.__cause__.__traceback__ is None
        assert "the connection broke: connection reset" in end.reason


def test_close_code_is_seen_although_a_reset_follows_and_our_send_failed_first(connect: Connect) -> None:
    """A close frame that reached this machine is reported even when writing failed before it was read."""
    gone = threading.Event()

    def script(conn: socket.socket) -> None:
        conn.sendall(frame(TEXT, b"x" * 90_000) + close_frame(4008, b"busy"))
        reset(conn)
        gone.set()

    server, transport = connect(script)
    assert gone.wait(PATIENCE)
    finish(server)
    transport.send(b"one")
    transport.send(b"two")
    assert transport.pending
    messages, end = drive(transport)
    assert messages == [b"x" * 90_000]
    assert end is not None
    assert (end.code, end.close_reason) == (4008, "busy")


def test_a_failed_send_is_reported_by_receive(connect: Connect) -> None:
    """Writing to a connection that is gone does not raise; the next reads tell."""
    gone = threading.Event()

    def script(conn: socket.socket) -> None:
        reset(conn)
        gone.set()

    server, transport = connect(script)
    assert gone.wait(PATIENCE)
    finish(server)
    transport.send(b"one")
    transport.send(b"two")
    assert transport.pending
    end = the_end(transport)
    assert end.code == 1006
    assert "sending failed" in end.reason


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(3), 1002),
        (frame(TEXT, b"\xff\xff"), 1007),
        (b"\x81\x7f" + struct.pack("!Q", 1 << 40) + b"x" * 4_000_000, 1009),
    ],
)
def test_violations_close_with_their_code(connect: Connect, data: bytes, code: int) -> None:
    """A violation is answered with its close code, which arrives although more came behind it."""

    def script(conn: socket.socket) -> tuple[int, bytes]:
        conn.sendall(frame(TEXT, b"before") + data)
        return wait_for_close(conn)

    server, transport = connect(script)
    messages, end = drive(transport)
    assert messages == [b"before"]
    assert end is not None
    assert end.code == 1006
    assert "broke the WebSocket protocol" in end.reason
    assert finish(server) == (CLOSE, struct.pack("!H", code))


def test_a_turn_has_no_more_messages_than_it_can_take(connect: Connect) -> None:
    """Empty messages come 30,000 to a read; they are handed out in parts, and the end behind them last of all."""

    def script(conn: socket.socket) -> bytes:
        conn.sendall(frame(TEXT) * 5_000 + close_frame(4000, b"enough"))
        return conn.recv(1)

    server, transport = connect(script)
    sizes = []
    while True:
        batch = step(transport)
        sizes.append(len(batch.messages))
        if batch.end is not None:
            break
        assert batch.frames > 0
    assert sum(sizes) == 5_000
    assert max(sizes) == 1_024
    assert batch.end.code == 4000
    finish(server)


def test_lingering_ends_when_its_time_is_up(connect: Connect) -> None:
    """A peer that never ends a failed connection keeps it no longer than allowed."""

    def script(conn: socket.socket) -> bytes:
        conn.sendall(frame(3))
        wait_for_close(conn)
        return conn.recv(1)

    server, transport = connect(script)
    assert step(transport).end is not None
    waiting = Waiting()
    transport.linger(waiting, time.monotonic() - 1)
    assert waiting.sockets == []
    assert transport.sock.fileno() == -1
    assert finish(server) == b""


def test_lingering_can_be_interrupted(connect: Connect) -> None:
    """When the loop has something better to do the failed connection is released at once."""
    released = threading.Event()
    asked: list[float] = []

    def script(conn: socket.socket) -> bool:
        conn.sendall(frame(3))
        return released.wait(2 * PATIENCE)

    def interrupted(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        asked.append(deadline)
        raise Interrupted

    server, transport = connect(script)
    assert step(transport).end is not None
    until = time.monotonic() + PATIENCE
    transport.linger(interrupted, until)
    released.set()
    assert asked == [until]
    assert transport.sock.fileno() == -1
    assert finish(server)


@pytest.mark.parametrize(("data", "answer"), [(frame(3), 1002), (close_frame(4000), 4000)])
def test_messages_ahead_of_the_end_can_be_answered(connect: Connect, data: bytes, answer: int) -> None:
    """What arrived ahead of a violation or a close frame, in the same read, is acted on before the connection ends."""

    def script(conn: socket.socket) -> list[tuple[int, bytes]]:
        conn.sendall(frame(PING, b"p") + frame(TEXT, b"ask") + data)
        return [read_frame(conn) for _ in range(3)]

    server, transport = connect(script)
    assert drive(transport, 1) == ([b"ask"], None)
    transport.send(b"answer")
    the_end(transport)
    assert finish(server) == [(PONG, b"p"), (TEXT, b"answer"), (CLOSE, struct.pack("!H", answer))]


def test_an_end_not_told_yet_is_the_end_of_closing_too() -> None:
    """Closing does not wait for a close frame that is here already; it is answered with its own code."""
    transport, sock = scripted(recv=(frame(TEXT, b"a") + close_frame(4000),), send=(8,))
    assert transport.receive() == Batch([b"a"], 2)
    waiting = Waiting()
    transport.close(1000, "", waiting, time.monotonic() + PATIENCE)
    assert unmask(sock.sent) == struct.pack("!H", 4000)
    assert waiting.sockets == []
    assert not transport.pending
    assert transport.receive() == Batch()


def test_after_the_end_everything_is_a_no_op(connect: Connect) -> None:
    """Once over, every verb does nothing."""
    waiting = Waiting()
    _, transport = connect(lambda conn: conn.sendall(frame(CLOSE)))
    the_end(transport)
    transport.send(b"x")
    transport.write()
    transport.expire()
    transport.abort(1000)
    transport.close(1000, "", waiting, time.monotonic() + PATIENCE)
    assert transport.receive() == Batch()
    assert (transport.pending, transport.wants_write, transport.backlog, transport.send_deadline) == (
        False,
        False,
        0,
        None,
    )
    assert waiting.sockets == []


def test_a_system_error_while_opening_is_told_as_a_failed_connection() -> None:
    """Chained, the sockets closed, and without the frames between, which hold settings and whatever was being sent."""
    sockets: list[socket.socket] = []

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        assert sock is not None
        sockets.append(sock)
        raise OSError(errno.EINVAL, "Invalid argument")

    with peer(lambda conn: None) as server:
        transport = Transport(settings(url=f"ws://127.0.0.1:{server.port}/"))
        with pytest.raises(ConnectionFailed) as caught:
            transport.open(wait, lambda: None)
    error = caught.value
    assert type(error) is ConnectionFailed
    assert error.reason == "opening the connection: invalid argument"
    assert isinstance(error.__cause__, OSError)
    assert error.__cause__.errno == errno.EINVAL
    assert [entry.name for entry in caught.traceback][1:] == ["open"]
    assert [each.__traceback__ for each in (error.__cause__, error.__context__) if each is not None] == [None] * 2
    assert [sock.fileno() for sock in sockets] == [-1]
    transport.abort()


def test_a_transport_that_was_not_opened() -> None:
    """Before `open` there is no socket and nothing to do."""
    transport = Transport(settings())
    with pytest.raises(RuntimeError, match="not opened"):
        _ = transport.sock
    transport.abort(1000)
    transport.disown()
    assert transport.receive() == Batch()


# -- TLS that reads to write and writes to read -----------------------------------------------------------------------


class ScriptedSocket:
    """A socket whose calls end as scripted: an exception is raised, bytes or a number are returned."""

    def __init__(self, recv: list[Any], send: list[Any]) -> None:
        self.script = {"recv": recv, "send": send}
        self.sent = b""
        self.connected = False

    def _next(self, call: str) -> Any:
        result = self.script[call].pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def recv(self, size: int) -> Any:
        """The next scripted read."""
        return self._next("recv")

    def send(self, data: bytes) -> Any:
        """The next scripted write."""
        count = self._next("send")
        self.sent += data[:count]
        return count

    def shutdown(self, how: int) -> None:
        """Nothing to shut down, unless told otherwise; the other end is gone."""
        if not self.connected:
            raise OSError(107, "Transport endpoint is not connected")

    def close(self) -> None:
        """Nothing to close."""


def unmask(sent: bytes) -> bytes:
    """The payload of one short frame of ours."""
    assert len(sent) == 6 + (sent[1] & 0x7F) < 6 + 126
    return bytes(byte ^ sent[2 + i % 4] for i, byte in enumerate(sent[6:]))


def scripted(
    *, recv: tuple[Any, ...] = (), send: tuple[Any, ...] = (), clock: Callable[[], float] = time.monotonic
) -> tuple[Transport, ScriptedSocket]:
    """A transport that is open on a scripted socket."""
    transport, sock = Transport(settings(), clock=clock), ScriptedSocket(list(recv), list(send))
    transport._sock, transport._open = cast("socket.socket", sock), True
    return transport, sock


def test_a_connection_on_which_nothing_happened_yet() -> None:
    """There is nothing to wait for but the peer."""
    transport, _ = scripted()
    assert (transport.pending, transport.wants_write, transport.backlog) == (False, False, 0)
    assert transport.send_deadline is None


def test_a_write_that_has_to_read_first() -> None:
    """A write that waits for input does not ask for writability (it would spin), and goes on after the next read."""
    transport, sock = scripted(recv=(frame(TEXT, b"a"),), send=(ssl.SSLWantReadError(), 8))
    transport.send(b"hi")
    assert transport.backlog == 8
    assert not transport.wants_write
    assert transport.receive().messages == [b"a"]
    assert transport.backlog == 0
    assert len(sock.sent) == 8


def test_a_write_goes_on_after_a_read_that_brought_nothing() -> None:
    """The input a write waited for may be TLS's own, with nothing in it for us."""
    transport, _ = scripted(recv=(ssl.SSLWantReadError(),), send=(ssl.SSLWantReadError(), 8))
    transport.send(b"hi")
    assert transport.receive() == Batch()
    assert transport.backlog == 0


def test_a_read_that_has_to_write_first() -> None:
    """A read that waits for output asks for writability, and is tried again when it came."""
    transport, _ = scripted(recv=(ssl.SSLWantWriteError(), frame(TEXT, b"a")))
    assert transport.receive() == Batch()
    assert (transport.wants_write, transport.pending) == (True, False)
    transport.write()
    assert (transport.wants_write, transport.pending) == (False, True)
    assert transport.receive().messages == [b"a"]
    assert not transport.pending


def test_a_reset_reported_ahead_of_data() -> None:
    """An error of a read is not the end while there is still something to read behind it."""
    transport, _ = scripted(recv=(ConnectionResetError(104, "Connection reset by peer"), close_frame(4000)))
    assert transport.receive() == Batch()
    assert transport.pending
    end = transport.receive().end
    assert end is not None
    assert end.code == 4000


@pytest.mark.parametrize("second", [b"", BlockingIOError(), OSError(5, "Input/output error")])
def test_a_reset_with_nothing_behind_it(second: Any) -> None:
    """Whatever the second read says, the first error is the reason."""
    transport, _ = scripted(recv=(ConnectionResetError(104, "Connection reset by peer"), second))
    assert transport.receive() == Batch()
    end = transport.receive().end
    assert end is not None
    assert end.reason == "the connection broke: connection reset by peer"


def test_what_broke_first_is_told() -> None:
    """A deadline that passes on a connection that is broken already changes nothing."""
    transport, _ = scripted(recv=(ConnectionResetError(104, "Connection reset by peer"), b""))
    transport.receive()
    transport.expire()
    end = transport.receive().end
    assert end is not None
    assert end.reason == "the connection broke: connection reset by peer"


class ScriptedTLS(ssl.SSLSocket):
    """A TLS socket whose reads end as scripted; it holds nothing decrypted."""

    script: list[Any]
    sizes: list[int]

    def recv(self, size: int = 0, flags: int = 0) -> Any:
        """The next scripted record."""
        self.sizes.append(size)
        result = self.script.pop(0) if self.script else ssl.SSLWantReadError()
        if isinstance(result, Exception):
            raise result
        return result

    def pending(self) -> int:
        """Nothing."""
        return 0

    def close(self) -> None:
        """Nothing to close: it never had a descriptor."""


def scripted_tls(*records: Any) -> tuple[Transport, ScriptedTLS]:
    """A transport that is open on a scripted TLS socket."""
    transport, _ = scripted()
    sock = ScriptedTLS.__new__(ScriptedTLS)
    sock.script, sock.sizes = list(records), []
    transport._sock = sock
    return transport, sock


def test_one_read_takes_all_tls_records_there_are() -> None:
    """Each call of the system's brings one record; a turn of the loop for each would cost more than the messages."""
    transport, sock = scripted_tls(*(frame(TEXT, b"%d" % number) for number in range(3)))
    assert transport.receive().messages == [b"0", b"1", b"2"]
    assert sock.sizes == [98_304, 98_301, 98_298, 98_295]
    assert not transport.pending


def test_one_read_of_tls_records_is_bounded() -> None:
    """By bytes, and by records, since empty messages would otherwise keep it for ever."""
    third = frame(TEXT, b"a" * 32_764)
    transport, sock = scripted_tls(third, third, third, third)
    assert len(transport.receive().messages) == 3
    assert (sock.sizes, len(sock.script)) == ([98_304, 65_536, 32_768], 1)
    transport, sock = scripted_tls(*[frame(TEXT, b"a")] * 100)
    assert len(transport.receive().messages) == 64
    assert len(transport.receive().messages) == 36


def test_an_end_behind_tls_records_is_told_after_them() -> None:
    """Nothing more makes the socket readable, so it has to be asked for; and the socket is not read beyond it."""
    transport, sock = scripted_tls(frame(TEXT, b"a"), b"", AssertionError("read beyond the end"))
    assert transport.receive() == Batch([b"a"], 1)
    assert transport.pending
    assert the_end(transport).reason == "the TCP connection ended without a close frame"
    assert len(sock.script) == 1


def test_a_failure_behind_tls_records_is_told_after_them() -> None:
    """As it was, whatever the socket says afterwards."""
    transport, _ = scripted_tls(frame(TEXT, b"a"), ConnectionResetError(104, "Connection reset by peer"), b"")
    assert transport.receive() == Batch([b"a"], 1)
    assert transport.pending
    assert the_end(transport).reason == "the connection broke: connection reset by peer"


def test_a_write_that_tls_wants_behind_records() -> None:
    """The records before it are not held back; the read goes on when the socket takes something."""
    transport, sock = scripted_tls(frame(TEXT, b"a"), ssl.SSLWantWriteError(), frame(TEXT, b"b"))
    assert transport.receive().messages == [b"a"]
    assert (transport.wants_write, transport.pending, len(sock.script)) == (True, False, 1)
    transport.write()
    assert transport.receive().messages == [b"b"]


@pytest.mark.parametrize(("held", "pending"), [(0, False), (1, True), (20_000, True)])
def test_what_tls_holds_is_pending(held: int, pending: bool) -> None:
    """It never makes the socket readable again, so it has to be asked for."""

    class Holding(ssl.SSLSocket):
        def pending(self) -> int:
            return held

    transport, _ = scripted()
    transport._sock = Holding.__new__(Holding)
    assert transport.pending is pending


@pytest.mark.parametrize(("size", "count"), [(65_536, 16), (65_535, 17)])
def test_what_is_unread_is_discarded_behind_our_close_frame(size: int, count: int) -> None:
    """As far as a mebibyte: a reset, which unread input would cause, could overtake the frame."""
    transport, sock = scripted(recv=(close_frame(4000), *(b"x" * size,) * 20), send=(8,))
    sock.connected = True
    assert transport.receive().end is not None
    assert unmask(sock.sent) == struct.pack("!H", 4000)
    assert len(sock.script["recv"]) == 20 - count


@pytest.mark.parametrize(("spare", "more"), [(0, False), (1, True)])
def test_a_bound_is_a_bound_to_the_byte(spare: int, more: bool) -> None:
    """Of what is unread behind our close frame, of what comes while closing, of a broken connection."""
    mebibyte = (b"x" * 65_536,) * 15
    transport, sock = scripted(recv=(close_frame(4000), *mebibyte, b"x" * (65_536 - spare), b"x", b"x"), send=(8,))
    sock.connected = True
    transport.receive()
    assert len(sock.script["recv"]) == 2 - more

    plain = frame(TEXT, b"x" * 65_532)
    transport, sock = scripted(recv=(*(plain,) * 255, plain[: 65_536 - spare], b"x", b"x"), send=(8,))
    transport.close(1000, "", lambda sock, mask, deadline: True, time.monotonic() + PATIENCE)
    assert len(sock.script["recv"]) == 2 - more

    transport, sock = scripted(recv=(*(plain,) * 31, plain[: 65_536 - spare], b"x", b"x"))
    transport.expire()
    assert [transport.receive().end for _ in range(31)] == [None] * 31
    assert (transport.receive().end is None) is more


def test_discarding_ends_with_the_input() -> None:
    """The peer's end of the connection is the end of it."""
    transport, sock = scripted(recv=(close_frame(4000), b"x", b"", b"never read"), send=(8,))
    sock.connected = True
    assert transport.receive().end is not None
    assert sock.script["recv"] == [b"never read"]


# -- progress of sending ----------------------------------------------------------------------------------------------

FULL = BlockingIOError()


def test_a_queue_that_never_empties_is_not_late_while_it_moves() -> None:
    """Whenever all that was queued has gone, what was queued behind it gets the whole send timeout."""
    clock = Clock()
    transport, _ = scripted(send=(FULL, *(10, FULL) * 5), clock=clock)
    transport.send(b"four")
    assert transport.backlog == 10
    for _ in range(5):
        clock.now += 9
        transport.send(b"four")
        assert (transport.backlog, transport.send_deadline) == (10, clock.now + 10)


def test_a_queue_that_does_not_move_is_late() -> None:
    """Neither more to send nor a few bytes gone gain time: all that was queued has to go."""
    clock = Clock()
    transport, _ = scripted(send=(FULL, FULL, 9, FULL, 1, FULL, 20), clock=clock)
    transport.send(b"four")
    due = clock.now + 10
    for backlog in (20, 21):
        clock.now += 4
        transport.send(b"four")
        assert (transport.backlog, transport.send_deadline) == (backlog, due)
    transport.write()
    assert (transport.backlog, transport.send_deadline) == (20, clock.now + 10)
    transport.write()
    assert (transport.backlog, transport.send_deadline) == (0, None)


def test_a_queue_that_goes_all_at_once_is_done() -> None:
    """What came behind what had to go goes with it, and nothing is left to be late."""
    transport, _ = scripted(send=(FULL, FULL, 20))
    transport.send(b"four")
    transport.send(b"four")
    assert transport.send_deadline is not None
    transport.write()
    assert transport.backlog == 0
    assert transport.send_deadline is None


# -- our own close ----------------------------------------------------------------------------------------------------


def closing(transport: Transport, wait: Any = None, seconds: float = PATIENCE) -> None:
    """Close with a deadline on the real clock."""
    transport.close(1000, "done", wait or Waiting(), time.monotonic() + seconds)
    assert transport.sock.fileno() == -1


def test_close_makes_the_handshake(connect: Connect) -> None:
    """Our close frame carries code and reason; what arrives before the answer is discarded."""

    def script(conn: socket.socket) -> tuple[int, bytes]:
        conn.sendall(frame(TEXT, b"late") * 100)
        got = wait_for_close(conn)
        conn.sendall(frame(TEXT, b"later") + close_frame(1000))
        assert conn.recv(1) == b""
        return got

    server, transport = connect(script)
    closing(transport)
    assert finish(server) == (CLOSE, struct.pack("!H", 1000) + b"done")


def test_close_sends_what_is_queued_first(connect: Connect) -> None:
    """Queued messages go out before the close frame."""
    blocked = threading.Event()

    def script(conn: socket.socket) -> int:
        assert blocked.wait(PATIENCE)
        count = 0
        while read_frame(conn)[0] != CLOSE:
            count += 1
        conn.sendall(close_frame(1000))
        return count

    server, transport = connect(script)
    fill(transport)
    blocked.set()
    closing(transport)
    assert finish(server) >= 1


@pytest.mark.parametrize(
    ("reason", "sent"), [("ä" * 100, "ä".encode() * 61), ("a" * 124, b"a" * 123), ("a" * 123, b"a" * 123)]
)
def test_close_cuts_the_reason_to_fit(connect: Connect, reason: str, sent: bytes) -> None:
    """A reason longer than a close frame holds is cut between characters."""
    server, transport = connect(wait_for_close)
    transport.close(1001, reason, Waiting(), time.monotonic() + PATIENCE)
    assert finish(server) == (CLOSE, struct.pack("!H", 1001) + sent)


def test_close_ends_with_the_connection(connect: Connect) -> None:
    """A peer that closes the connection instead of answering ends the wait."""
    server, transport = connect(reset)
    closing(transport)
    finish(server)


@pytest.mark.parametrize(("seconds", "waits"), [(1, 5), (2, 3), (5, 1), (100, 1)])
def test_close_against_a_mute_peer_ends_at_the_deadline(connect: Connect, seconds: int, waits: int) -> None:
    """A peer that says nothing costs no more than the deadline, even where a wait took too long."""
    clock, hold = Clock(), threading.Event()
    deadlines = []

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        assert mask == selectors.EVENT_READ
        deadlines.append(deadline)
        clock.now += seconds
        return False

    server, transport = connect(lambda conn: hold.wait(PATIENCE), clock=clock)
    transport.close(1000, "", wait, 1005.0)
    assert deadlines == [1005.0] * waits
    assert transport.sock.fileno() == -1
    hold.set()
    finish(server)


def test_close_waits_for_room_only_while_it_has_something_to_send() -> None:
    """Else the socket would be ready at once, again and again."""
    transport, sock = scripted(recv=(FULL, FULL, FULL, b""), send=(FULL, FULL, 6))
    masks = []

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        masks.append(mask)
        return True

    transport.close(1005, "", wait, time.monotonic() + PATIENCE)
    both = selectors.EVENT_READ | selectors.EVENT_WRITE
    assert masks == [both, both, selectors.EVENT_READ]
    assert len(sock.sent) == 6


def test_nothing_follows_our_close_frame() -> None:
    """Whatever is sent while the peer's answer is awaited is too late (RFC 6455, section 5.5.1)."""
    transport, sock = scripted(recv=(FULL, close_frame(1000)), send=(8, 8))

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        transport.send(b"hi")
        return True

    transport.close(1000, "", wait, time.monotonic() + PATIENCE)
    assert unmask(sock.sent) == struct.pack("!H", 1000)


def test_close_against_a_dripping_peer_ends_at_the_deadline(connect: Connect) -> None:
    """A peer that sends a byte now and then costs no more than the deadline."""
    clock, waiting = Clock(), Waiting()
    drip = threading.Semaphore(0)

    def script(conn: socket.socket) -> None:
        conn.sendall(frame(TEXT, b"x" * 1000)[:4])
        while drip.acquire(timeout=PATIENCE):
            try:
                conn.sendall(b"x")
            except OSError:
                return

    server, transport = connect(script, clock=clock)

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        clock.now += 1
        drip.release()
        return waiting(sock, mask, time.monotonic() + PATIENCE)

    transport.close(1000, "", wait, clock.now + 5)
    assert transport.sock.fileno() == -1
    drip.release(3)
    finish(server)


def test_close_against_a_flooding_peer_is_bounded(connect: Connect) -> None:
    """A peer that sends without end is left after so many bytes, clock or no clock."""

    def script(conn: socket.socket) -> int:
        data, sent = frame(TEXT, b"y" * 1000) * 64, 0
        while True:
            try:
                conn.sendall(data)
            except OSError:
                return sent
            sent += len(data)

    server, transport = connect(script, clock=Clock())
    closing_time = 1e9
    transport.close(1000, "", Waiting(), closing_time)
    assert transport.sock.fileno() == -1
    assert finish(server) > 16_000_000


@pytest.mark.parametrize(("size", "count"), [(65_536, 256), (65_535, 257)])
def test_how_much_is_discarded_while_closing(size: int, count: int) -> None:
    """16 MiB, frames or not."""
    data = frame(TEXT, b"x" * (size - 4))
    assert len(data) == size
    transport, sock = scripted(recv=(data,) * 300, send=(8,))
    transport.close(1000, "", lambda sock, mask, deadline: True, time.monotonic() + PATIENCE)
    assert len(sock.script["recv"]) == 300 - count


def test_close_lets_no_interruption_out(connect: Connect) -> None:
    """A waiter that interrupts ends the closing handshake, quietly."""

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        raise Interrupted

    hold = threading.Event()
    server, transport = connect(lambda conn: hold.wait(PATIENCE))
    closing(transport, wait)
    hold.set()
    finish(server)


def test_abort_with_and_without_a_code(connect: Connect) -> None:
    """Aborting releases the socket at once; with a code a close frame is tried."""
    server, transport = connect(wait_for_close)
    transport.abort(1001)
    transport.abort()
    assert transport.sock.fileno() == -1
    assert finish(server) == (CLOSE, struct.pack("!H", 1001))

    server, transport = connect(lambda conn: conn.recv(1))
    transport.abort()
    assert finish(server) == b""


def test_disown_leaves_the_connection_alone(connect: Connect) -> None:
    """Giving up a copy of the descriptor sends nothing: the connection goes on through another copy."""

    def script(conn: socket.socket) -> bytes:
        conn.settimeout(PATIENCE)
        return read_exactly(conn, 5) if not isinstance(conn, ssl.SSLSocket) else conn.recv(1)

    server, transport = connect(script)
    copy = os.dup(transport.sock.fileno())
    transport.disown()
    transport.disown()
    assert transport.sock.fileno() == -1
    assert not transport.pending
    assert transport.receive() == Batch()
    transport.send(b"nothing")
    transport.abort(1000)
    with socket.socket(fileno=copy) as other:
        if other.family and server._context is None:
            other.sendall(b"alive")
    assert finish(server) == (b"alive" if server._context is None else b"")


def test_nothing_leaks(connect: Connect) -> None:
    """No socket is left to the garbage collector (a ResourceWarning would fail the test)."""
    server, transport = connect(lambda conn: conn.recv(1))
    transport.abort()
    finish(server)
    del transport
    gc.collect()
