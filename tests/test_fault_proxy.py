"""The fault proxy alone: a client's socket, a server's socket, and what every fault does to the bytes between them."""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("websockets", reason="allenhark_ws.testing needs the extra testing")

from allenhark_ws.errors import ConfigurationError
from allenhark_ws.testing import FaultProxy

from .patience import PATIENCE
from .peers import closed_port, read_exactly, reset
from .simulators import Simulator

DESCRIPTORS = Path("/proc/self/fd")
NEVER = 0.1
"""Seconds to wait for what must not happen."""
MUCH = bytes(range(256)) * 4096
"""A mebibyte: more than the proxy holds."""


class Line:
    """A proxy before a listening socket, and the connections made through it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(PATIENCE)
        self.proxy = FaultProxy(f"127.0.0.1:{self.listener.getsockname()[1]}").start()
        self.sockets: list[socket.socket] = []

    @property
    def address(self) -> tuple[str, int]:
        """Where the proxy listens."""
        host, _, port = self.proxy.url.partition(":")
        return host, int(port)

    def dial(self) -> socket.socket:
        """A client's socket, connected to the proxy."""
        client = socket.create_connection(self.address, timeout=PATIENCE)
        self.sockets.append(client)
        return client

    def answer(self) -> socket.socket:
        """The server's end of the next connection."""
        server, _ = self.listener.accept()
        server.settimeout(PATIENCE)
        self.sockets.append(server)
        return server

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A client's socket and the server's, over the proxy; a byte has gone either way."""
        client, server = self.dial(), self.answer()
        client.sendall(b"?")
        assert server.recv(1) == b"?"
        server.sendall(b"!")
        assert client.recv(1) == b"!"
        return client, server

    def close(self) -> None:
        """Close everything."""
        self.proxy.stop()
        for sock in (*self.sockets, self.listener):
            sock.close()


@pytest.fixture
def line() -> Iterator[Line]:
    """A started proxy before a listening socket."""
    line = Line()
    yield line
    line.close()


def hears_nothing(*sockets: socket.socket) -> bool:
    """Whether nothing comes for a moment, not even an end."""
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        return not selector.select(NEVER)


def settle(proxy: FaultProxy) -> None:
    """Let the proxy's thread go round often enough to have read whatever was sent before."""
    for _ in range(3):
        _ = proxy.connections  # is asked of that thread


def is_reset(sock: socket.socket) -> bool:
    """Whether the next thing that comes is a reset."""
    try:
        sock.recv(1)
    except ConnectionResetError:
        return True
    return False


def is_reset_at_once(proxy: FaultProxy) -> bool:
    """Whether a connection is reset as soon as it is made, which may be before connect() has returned."""
    try:
        with socket.create_connection(("127.0.0.1", proxy._port), timeout=PATIENCE) as client:
            return is_reset(client)
    except ConnectionResetError:
        return True


def spin_until(predicate: Callable[[], bool]) -> bool:
    """Whether it becomes true in time; looks again every 5 ms."""
    tick = threading.Event()
    return any(predicate() or tick.wait(0.005) for _ in range(int(PATIENCE / 0.005))) or predicate()


def send_all_aside(sock: socket.socket, data: bytes) -> threading.Thread:
    """Send on a thread of its own, since the other end has to read meanwhile."""
    thread = threading.Thread(target=sock.sendall, args=(data,), daemon=True)
    thread.start()
    return thread


# -- handing on ----------------------------------------------------------------------------------------------------


def test_bytes_pass_unchanged_both_ways(line: Line) -> None:
    """Much more than fits into any buffer arrives whole and in order, and is counted."""
    client, server = line.connect()
    for source, sink in ((client, server), (server, client)):
        thread = send_all_aside(source, MUCH)
        assert read_exactly(sink, len(MUCH)) == MUCH
        thread.join(PATIENCE)
    assert (line.proxy.bytes_to_server, line.proxy.bytes_to_client) == (len(MUCH) + 1, len(MUCH) + 1)


def test_end_of_stream_passes_and_the_other_way_stays_open(line: Line) -> None:
    """A half-closed connection is half closed on the other side too; with both halves it is gone."""
    client, server = line.connect()
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    server.sendall(b"late")
    assert read_exactly(client, 4) == b"late"
    server.close()
    assert client.recv(1) == b""
    assert spin_until(lambda: line.proxy.connections == 0)


@pytest.mark.parametrize("which", [0, 1], ids=["client", "server"])
def test_reset_passes(line: Line, which: int) -> None:
    """Whoever resets, the other side learns it as a reset."""
    pair = line.connect()
    reset(pair[which])
    assert is_reset(pair[1 - which])
    assert spin_until(lambda: line.proxy.connections == 0)


def test_sender_waits_for_a_slow_reader(line: Line) -> None:
    """What nobody reads fills the buffers on the way and no more; the sender then has to wait, as with TCP."""
    client, server = line.connect()
    server.setblocking(False)
    sent = 0
    with selectors.DefaultSelector() as selector:
        selector.register(server, selectors.EVENT_WRITE)
        while selector.select(1.0):
            sent += server.send(MUCH)
            assert sent < 100 * len(MUCH)
    assert len(read_exactly(client, sent)) == sent


def test_dead_server_resets_the_client() -> None:
    """Nobody listens at the target: the client is reset, and others are served the same."""
    with closed_port() as port, FaultProxy(f"127.0.0.1:{port}") as proxy:
        assert is_reset_at_once(proxy)
        assert is_reset_at_once(proxy)
        assert spin_until(lambda: proxy.connections == 0)
        assert proxy.accepted == 2


def test_client_lost_unread_is_forgotten(line: Line) -> None:
    """The client has left, which is not read yet; what the server still sends goes nowhere, and the end comes."""
    client, server = line.connect()
    line.proxy.stall(direction="to_server")
    reset(client)
    server.sendall(b"anybody?")
    settle(line.proxy)
    line.proxy.heal()
    assert is_reset(server) or server.recv(1) == b""
    server.close()
    assert spin_until(lambda: line.proxy.connections == 0)


def test_server_that_takes_no_connections(line: Line) -> None:
    """Its queue is full, so that connecting hangs: such clients are connected, and can be reset."""
    line.listener.listen(0)
    clients = [line.dial() for _ in range(5)]
    settle(line.proxy)
    assert line.proxy.connections == 5
    line.proxy.rst()
    assert all(is_reset(client) for client in clients)
    assert spin_until(lambda: line.proxy.connections == 0)
    line.dial()
    line.dial()
    line.dial()
    line.proxy.stop()


# -- slow ----------------------------------------------------------------------------------------------------------


def test_latency_delays_and_zero_sends_at_once(line: Line) -> None:
    """Bytes wait, in one direction only; switched off, what waited comes, in order."""
    client, server = line.connect()
    line.proxy.latency(60, "to_client")
    client.sendall(b"quick")
    assert read_exactly(server, 5) == b"quick"
    server.sendall(b"slow")
    assert hears_nothing(client)
    server.sendall(b"er")
    line.proxy.latency(0, "to_client")
    assert read_exactly(client, 6) == b"slower"


def test_latency_lets_through_in_the_end(line: Line) -> None:
    """A short latency needs no help, and the end of the stream comes behind the bytes."""
    client, server = line.connect()
    line.proxy.latency(0.02)
    server.sendall(b"slow")
    server.close()
    assert read_exactly(client, 4) == b"slow"
    assert client.recv(1) == b""


def test_latency_holds_a_bounded_amount(line: Line) -> None:
    """What waits for its time is bounded: the sender has to wait too."""
    client, server = line.connect()
    line.proxy.latency(60, "to_client")
    thread = send_all_aside(server, MUCH * 16)
    assert hears_nothing(client)
    assert thread.is_alive()
    line.proxy.heal()
    assert read_exactly(client, len(MUCH) * 16) == MUCH * 16
    thread.join(PATIENCE)


def test_drip_hands_on_single_bytes(line: Line) -> None:
    """A byte, then a pause, then the next; all come in the end."""
    client, server = line.connect()
    line.proxy.drip(60)
    server.sendall(b"drops")
    assert client.recv(100) == b"d"
    assert hears_nothing(client)
    line.proxy.drip(0.001)
    assert read_exactly(client, 4) == b"rops"


def test_throttle_keeps_its_rate_and_none_ends_it(line: Line) -> None:
    """At one byte a minute the second does not come; without the throttle everything does."""
    client, server = line.connect()
    line.proxy.throttle(1 / 60)
    server.sendall(b"drops")
    assert client.recv(100) == b"d"
    assert hears_nothing(client)
    line.proxy.throttle(None)
    assert read_exactly(client, 4) == b"rops"


def test_throttle_hands_on_portions(line: Line) -> None:
    """A usual rate is kept in portions, and nothing is lost."""
    client, server = line.connect()
    line.proxy.throttle(1_000_000)
    thread = send_all_aside(server, MUCH[:100_000])
    assert read_exactly(client, 100_000) == MUCH[:100_000]
    thread.join(PATIENCE)


def test_stall_loses_nothing(line: Line) -> None:
    """A stalled connection is mute, ends included, and goes on where it stopped."""
    client, server = line.connect()
    line.proxy.stall()
    client.sendall(b"up")
    server.sendall(b"down")
    assert hears_nothing(client, server)
    line.proxy.stall(on=False)
    assert read_exactly(server, 2) == b"up"
    assert read_exactly(client, 4) == b"down"


def test_stall_makes_the_sender_wait(line: Line) -> None:
    """Nobody reads, so a sender of much is stopped until the stall ends."""
    client, server = line.connect()
    line.proxy.stall(direction="to_client")
    thread = send_all_aside(server, MUCH * 16)
    assert hears_nothing(client)
    assert thread.is_alive()
    line.proxy.heal()
    assert read_exactly(client, len(MUCH) * 16) == MUCH * 16
    thread.join(PATIENCE)


# -- broken --------------------------------------------------------------------------------------------------------


def test_blackhole_swallows_one_direction(line: Line) -> None:
    """Nothing arrives, the sender learns nothing; the other direction works."""
    client, server = line.connect()
    line.proxy.blackhole(direction="to_client")
    server.sendall(MUCH)
    client.sendall(b"up")
    assert read_exactly(server, 2) == b"up"
    assert hears_nothing(client)
    assert line.proxy.bytes_to_client == 1


def test_blackhole_that_lost_bytes_leaves_no_hole_in_the_stream(line: Line) -> None:
    """Bytes were lost, so none come any more: only the end does; a connection that lost nothing goes on."""
    client, server = line.connect()
    lucky, lucky_server = line.connect()
    line.proxy.blackhole()
    server.sendall(b"lost")
    settle(line.proxy)
    line.proxy.blackhole(on=False)
    server.sendall(b"more")
    assert hears_nothing(client)
    lucky_server.sendall(b"fine")
    assert read_exactly(lucky, 4) == b"fine"
    server.close()
    assert client.recv(1) == b""


def test_blackhole_swallows_what_is_on_its_way(line: Line) -> None:
    """Delayed bytes are on their way still when the hole opens, and are lost in it."""
    client, server = line.connect()
    line.proxy.latency(60)
    server.sendall(b"late")
    settle(line.proxy)
    line.proxy.blackhole()
    line.proxy.heal()
    server.sendall(b"more")
    assert hears_nothing(client)


@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["fin", "rst"])
def test_blackhole_swallows_ends_until_healed(line: Line, end: Callable[[socket.socket], None]) -> None:
    """The server does not learn that the client has left before the hole closes."""
    client, server = line.connect()
    line.proxy.blackhole()
    end(client)
    assert hears_nothing(server)
    assert line.proxy.connections == 1
    line.proxy.heal()
    assert is_reset(server) if end is reset else server.recv(1) == b""


def test_cut_ends_after_exactly_so_many_bytes(line: Line) -> None:
    """The bytes before the cut arrive, then both sides see the end; connections made later are cut likewise."""
    client, server = line.connect()
    line.proxy.cut(3)
    server.sendall(b"bytes")
    assert read_exactly(client, 3) == b"byt"
    assert client.recv(1) == b""
    assert server.recv(1) == b""
    late, late_server = line.dial(), line.answer()
    late_server.sendall(b"12345")
    assert read_exactly(late, 3) == b"123"
    assert late.recv(1) == b""


def test_cut_counts_one_direction(line: Line) -> None:
    """The other direction's bytes do not count; a count begins anew with each call; None lifts it."""
    client, server = line.connect()
    line.proxy.cut(4, "to_server")
    server.sendall(b"downwards")
    assert read_exactly(client, 9) == b"downwards"
    client.sendall(b"up")
    assert read_exactly(server, 2) == b"up"
    line.proxy.cut(4, "to_server")
    client.sendall(b"up!")
    assert read_exactly(server, 3) == b"up!"
    line.proxy.cut(None, "to_server")
    client.sendall(b"and away")
    assert read_exactly(server, 8) == b"and away"


def test_cut_at_once(line: Line) -> None:
    """After no more bytes at all: the connection ends in the call."""
    client, server = line.connect()
    line.proxy.cut(0)
    assert (client.recv(1), server.recv(1)) == (b"", b"")


def test_cut_of_a_connection_whose_sides_have_left(line: Line) -> None:
    """Both ends were swallowed by a hole; the cut lets go of what nobody holds any more."""
    client, server = line.connect()
    line.proxy.blackhole()
    client.close()
    server.close()
    settle(line.proxy)
    assert line.proxy.connections == 1
    line.proxy.cut(0)
    assert line.proxy.connections == 0


def test_other_faults_do_not_restart_a_count(line: Line) -> None:
    """Setting a latency in between changes nothing about the place of the cut."""
    client, server = line.connect()
    line.proxy.cut(4)
    server.sendall(b"12")
    assert read_exactly(client, 2) == b"12"
    line.proxy.latency(0.01)
    server.sendall(b"345")
    assert read_exactly(client, 2) == b"34"
    assert client.recv(1) == b""


def test_corrupt_turns_one_byte(line: Line) -> None:
    """The byte behind the offset has all its bits turned, wherever a read happens to end; the rest is as sent."""
    client, server = line.connect()
    line.proxy.corrupt(4)
    server.sendall(b"abc")
    assert read_exactly(client, 3) == b"abc"
    server.sendall(b"def")
    assert read_exactly(client, 3) == bytes([ord("d"), ord("e") ^ 0xFF, ord("f")])
    server.sendall(b"abcdef")
    assert read_exactly(client, 6) == b"abcdef"


def test_corrupt_strikes_every_later_connection(line: Line) -> None:
    """From a connection's first byte, in the named direction only; switched off, no more."""
    line.proxy.corrupt(0, "to_server")
    client, server = line.dial(), line.answer()
    client.sendall(b"\x00a")
    server.sendall(b"ok")
    assert read_exactly(server, 2) == b"\xffa"
    assert read_exactly(client, 2) == b"ok"
    line.proxy.corrupt(None, "to_server")
    line.connect()


def test_rst_resets_both_sides(line: Line) -> None:
    """Both sides see a reset; new connections are served."""
    client, server = line.connect()
    line.proxy.rst()
    assert is_reset(client)
    assert is_reset(server)
    assert line.proxy.connections == 0
    line.connect()


def test_fin_ends_both_sides(line: Line) -> None:
    """Both sides see the end of the stream; what they say then reaches nobody; new connections are served."""
    client, server = line.connect()
    line.proxy.fin()
    assert (client.recv(1), server.recv(1)) == (b"", b"")
    server.sendall(b"hello?")
    server.close()
    assert client.recv(1) == b""
    client.close()
    assert spin_until(lambda: line.proxy.connections == 0)
    line.connect()


def test_rst_strikes_connections_not_yet_accepted(line: Line) -> None:
    """A client whose connect() has returned is connected, whether the proxy has looked or not."""
    clients = [line.dial() for _ in range(20)]
    line.proxy.rst()
    assert all(is_reset(client) for client in clients)


# -- closed --------------------------------------------------------------------------------------------------------


def test_refuse_refuses_new_connections_only(line: Line) -> None:
    """Open connections go on; the port is the same afterwards."""
    client, server = line.connect()
    line.proxy.refuse()
    line.proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        line.dial()
    server.sendall(b"still here")
    assert read_exactly(client, 10) == b"still here"
    line.proxy.refuse(on=False)
    line.connect()


def test_hang_on_accept_says_nothing(line: Line) -> None:
    """The client is connected and hears nothing, for good; the server learns of nobody; later ones are served."""
    client, server = line.connect()
    line.proxy.hang_on_accept()
    hung = line.dial()
    hung.sendall(b"anybody?")
    assert hears_nothing(hung, line.listener)
    server.sendall(b"here")
    assert read_exactly(client, 4) == b"here"
    line.proxy.heal()
    line.connect()
    assert hears_nothing(hung)
    hung.close()
    assert spin_until(lambda: line.proxy.connections == 2)


@pytest.mark.parametrize("end", ["rst", "fin"])
def test_hung_connection_can_be_ended(line: Line, end: str) -> None:
    """Resets and ends strike connections without a server too, other faults pass them by."""
    line.proxy.hang_on_accept()
    hung = line.dial()
    line.proxy.latency(0.01)
    getattr(line.proxy, end)()
    assert is_reset(hung) if end == "rst" else hung.recv(1) == b""


def test_hung_client_may_reset(line: Line) -> None:
    """A hung client that leaves with a reset is forgotten as well."""
    line.proxy.hang_on_accept()
    reset(line.dial())
    assert spin_until(lambda: line.proxy.accepted == 1 and line.proxy.connections == 0)


def test_heal_switches_everything_off(line: Line) -> None:
    """After all faults at once, a new connection is an ordinary one."""
    proxy = line.proxy
    proxy.latency(60)
    proxy.drip(60)
    proxy.stall()
    proxy.blackhole()
    proxy.cut(0)
    proxy.corrupt(0)
    proxy.hang_on_accept()
    proxy.refuse()
    proxy.heal()
    client, server = line.connect()
    server.sendall(MUCH[:1000])
    assert read_exactly(client, 1000) == MUCH[:1000]


# -- the handle ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "url"),
    [
        ("ws://127.0.0.1:1/v1/ws", "ws://127.0.0.1:{}/v1/ws"),
        ("wss://localhost:1/v1/ws?a=b", "wss://localhost:{}/v1/ws?a=b"),
        ("wss://localhost/v1/ws", "wss://localhost:{}/v1/ws"),
        ("localhost:1", "localhost:{}"),
        ("127.0.0.1:1", "127.0.0.1:{}"),
    ],
)
def test_url_is_the_target_with_another_port(target: str, url: str) -> None:
    """Scheme, host, path and query stay, so that certificates verify and servers find the resource."""
    with FaultProxy(target) as proxy:
        assert proxy.url == url.format(proxy._port)


def test_ipv6_target() -> None:
    """Before a server on ::1 the proxy listens on ::1 itself."""
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener, FaultProxy(f"ws://[::1]:{listener.getsockname()[1]}/") as proxy:
        assert proxy.url == f"ws://[::1]:{proxy._port}/"
        with socket.create_connection(("::1", proxy._port), timeout=PATIENCE) as client:
            client.sendall(b"six")
            server, _ = listener.accept()
            with server:
                assert read_exactly(server, 3) == b"six"


@pytest.mark.parametrize("target", ["", "127.0.0.1", "localhost:0", "127.0.0.1:99999", "wss://example.com:1/", "//:80"])
def test_target_has_to_be_on_this_machine(target: str) -> None:
    """Anything but a host and port on loopback is refused at once."""
    with pytest.raises(ConfigurationError, match="loopback"):
        FaultProxy(target)


@pytest.mark.parametrize("port", [-1, 65536, True, "80"])
def test_port_is_checked(port: int) -> None:
    """A port that cannot be is refused at once."""
    with pytest.raises(ConfigurationError, match="port"):
        FaultProxy("127.0.0.1:1", port=port)


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        ("latency", -1),
        ("latency", float("inf")),
        ("drip", -1),
        ("throttle", 0),
        ("throttle", float("inf")),
        ("cut", -1),
        ("corrupt", -1),
    ],
)
def test_arguments_are_checked(line: Line, fault: str, wrong: float) -> None:
    """What cannot be done is refused, and changes nothing."""
    with pytest.raises(ValueError, match="takes"):
        getattr(line.proxy, fault)(wrong)
    with pytest.raises(ValueError, match="direction takes"):
        getattr(line.proxy, fault)(1, "sideways")
    line.connect()


def test_life_of_the_handle() -> None:
    """Not started: no port, no faults.  Stopped and started again: the same port, counters kept, faults gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = FaultProxy(f"127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(RuntimeError, match="start"):
            _ = proxy.url
        with pytest.raises(RuntimeError, match="start"):
            proxy.rst()
        proxy.stop()
        with proxy:
            assert proxy.start() is proxy
            url = proxy.url
            socket.create_connection(("127.0.0.1", proxy._port), timeout=PATIENCE).close()
            assert spin_until(lambda: proxy.accepted == 1)
            proxy.refuse()
            assert "port" in repr(proxy)
        assert "stopped" in repr(proxy)
        assert proxy.connections == 0
        with proxy:
            assert proxy.url == url
            assert proxy.accepted == 1
            socket.create_connection(("127.0.0.1", proxy._port), timeout=PATIENCE).close()


def test_taken_port_is_an_error_and_leaves_nothing() -> None:
    """The port is somebody else's: start() says so, and can be tried again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        proxy = FaultProxy("127.0.0.1:1", port=taken.getsockname()[1])
        threads = threading.active_count()
        with pytest.raises(OSError, match="use"):
            proxy.start()
        assert threading.active_count() == threads
    with proxy:
        assert proxy.url.endswith(f":{proxy._port}")


def test_thread_that_cannot_be_started_is_an_error_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system has no thread left: start() says so, the port is free again, and it can be tried again."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    proxy = FaultProxy("127.0.0.1:1")
    with monkeypatch.context() as patched:
        patched.setattr("allenhark_ws.testing._proxy.LoopThread", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            proxy.start()
    with proxy:
        assert is_reset_at_once(proxy)


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="counts descriptors under /proc")
def test_stop_leaves_no_thread_and_no_descriptor() -> None:
    """Whatever state its connections were in, all is released, and they are closed."""
    threads, descriptors = threading.active_count(), len(list(DESCRIPTORS.iterdir()))
    line = Line()
    open_, (left, _) = line.connect(), line.connect()
    line.proxy.blackhole()
    left.close()
    line.proxy.hang_on_accept()
    hung = line.dial()
    assert spin_until(lambda: line.proxy.accepted == 3)
    line.proxy.stop()
    for sock in (*open_, hung):
        assert is_reset(sock) or sock.recv(1) == b""
    line.close()
    assert threading.active_count() == threads
    assert len(list(DESCRIPTORS.iterdir())) == descriptors


def test_faults_from_many_threads(line: Line) -> None:
    """Switched by several threads at a time, each call takes effect and none is lost."""
    client, server = line.connect()

    def toggle() -> None:
        for _ in range(20):
            line.proxy.stall()
            line.proxy.stall(on=False)

    threads = [threading.Thread(target=toggle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    server.sendall(b"through")
    assert read_exactly(client, 7) == b"through"


def test_tls_passes_through() -> None:
    """The certificate of the server behind it verifies against the proxy's URL; a turned byte breaks the session."""
    with Simulator(tls=True) as simulator, FaultProxy(simulator.url) as proxy:
        context = simulator.ssl_context
        assert context is not None
        raw = socket.create_connection(("127.0.0.1", proxy._port), timeout=PATIENCE)
        with raw, context.wrap_socket(raw, server_hostname="localhost") as client:
            assert client.version() is not None
            proxy.corrupt(7)
            client.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with pytest.raises(ssl.SSLError):
                client.recv(1)
