"""What clients live through: their process is stopped and goes on, ends in the middle of a burst, or lives for long.

And what they need of it at their start: modules.
"""

from __future__ import annotations

import signal
import socket
import ssl
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("websockets", reason="needs the extra testing")
pytest.importorskip("trustme", reason="needs the extra testing")

from allenhark_ws import Price

from .patience import PATIENCE
from .peers import peer, read_exactly, read_head
from .processes import Script, posix
from .scripted import client_of, price
from .simulators import Simulator


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def sim(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A simulator of its own for each test, plain and over TLS."""
    with Simulator(tls=request.param) as simulator:
        yield simulator


@pytest.fixture
def plain() -> Iterator[Simulator]:
    """A plain one, where TLS changes nothing."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def trust(sim: Simulator, tmp_path: Path) -> dict[str, str]:
    """The environment in which a program trusts the simulator."""
    if sim.ssl_context is None:
        return {}
    authorities = tmp_path / "authorities.pem"
    found = sim.ssl_context.get_ca_certs(binary_form=True)
    authorities.write_text("".join(map(ssl.DER_cert_to_PEM_cert, found)))
    return {"SSL_CERT_FILE": str(authorities)}


def pings(sim: Simulator, connection: int) -> int:
    """How often a connection has pinged."""
    return [message["type"] for message in sim.history[connection]].count("ping")


# --- Stopped, and going on

READER = """
client = Client("test-key", url=url, heartbeat_interval=0.05, backoff=Backoff(initial=0.001, maximum=0.002))
stream = client.stream(Price("m"), Disconnected, Reconnecting, Connected, Gap)
with client:
    client.flush()
    say("ready")
    for event in stream:
        said = event.price if isinstance(event, PriceUpdate) else type(event).__name__
        say(said)
        if said == -1:
            break
    say("flushed", client.flush() >= 0, client.stats.reconnects)
"""


@posix
def test_suspended_and_resumed_on_the_same_connection(sim: Simulator, trust: dict[str, str]) -> None:
    """What came meanwhile is delivered whole and in order, nothing is said of a loss, and the heartbeat goes on."""
    with Script(sim.url, READER, **trust) as script:
        assert [script.line(), script.line()] == ["ready", "Connected"]
        sim.wait_for(lambda: pings(sim, 0) >= 4)
        script.suspend()
        assert {sim.publish(price("m", float(n))) for n in range(500)} == {1}
        before = pings(sim, 0)
        script.resume()
        sim.wait_for(lambda: pings(sim, 0) >= before + 2, PATIENCE)
        sim.publish(price("m", -1.0))
        expected = [*(str(float(n)) for n in range(500)), "-1.0", "flushed True 0"]
        assert script.end() == (0, "\n".join(expected), "")
    assert len(sim.history) == 1
    assert sim.violations == []


@posix
@pytest.mark.parametrize("how", ["close", "reset"])
def test_the_connection_is_lost_while_suspended(sim: Simulator, trust: dict[str, str], how: str) -> None:
    """The loss is told behind what came before it, and ahead of what comes after; the subscription is restored."""
    with Script(sim.url, READER, **trust) as script:
        assert [script.line(), script.line()] == ["ready", "Connected"]
        script.suspend()
        assert {sim.publish(price("m", float(n))) for n in range(50)} == {1}
        sim.close(1012, "restarting") if how == "close" else sim.reset()
        sim.wait_for(lambda: sim.connections == 0)
        script.resume()
        sim.wait_for(lambda: sim.subscriptions == {Price("m")}, PATIENCE)
        sim.wait_for(lambda: pings(sim, -1) >= 3, PATIENCE)
        sim.publish(price("m", -1.0))
        code, out, err = script.end()
    told = out.splitlines()
    lost = told.index("Disconnected")
    expected = [str(float(n)) for n in range(50)]
    assert told[:lost] == (expected if how == "close" else expected[:lost])  # a reset may overtake what it cuts off
    assert told[lost:] == ["Disconnected", "Reconnecting", "Connected", "Gap", "-1.0", "flushed True 1"]
    assert (code, err) == (0, "")
    assert sim.violations == []


@posix
def test_suspended_for_longer_than_the_pong_timeout(sim: Simulator, trust: dict[str, str]) -> None:
    """A ping was under way all the time; its pong lies in the socket at the resume, so the connection is alive."""
    text = """
    import signal
    client = Client("test-key", url=url, heartbeat_interval=60, pong_timeout=1)
    stream = client.stream(Price("m"), LifecycleEvent)
    with client:
        client.flush()
        say("ready")
        sys.stdin.readline()
        sent = client.stats.messages_sent
        flushing = threading.Thread(target=client.flush, args=(600,))
        flushing.start()
        while client.stats.messages_sent == sent:
            pass
        os.kill(os.getpid(), signal.SIGSTOP)
        flushing.join()
        say(*(type(event).__name__ for event in stream.get_batch(10)), client.stats.reconnects)
    """
    with (
        client_of(sim, heartbeat_interval=0.25, pong_timeout=60.0) as metronome,
        Script(sim.url, text, **trust) as script,
    ):
        metronome.connect()
        assert script.line() == "ready"
        sim.mute_pongs()
        script.tell()
        script.await_stop()
        before = pings(sim, 0)
        sim.wait_for(lambda: pings(sim, 0) >= before + 6, PATIENCE)
        sim.publish(price("m"))
        sim.mute_pongs(on=False)
        script.resume()
        assert script.end() == (0, "Connected PriceUpdate 0", "")
    assert len(sim.history) == 2


@posix
def test_suspended_while_it_waits_to_retry(plain: Simulator) -> None:
    """It goes on trying, and ends as if nothing had happened."""
    plain.refuse()
    with Script(plain.url, READER.replace("with client:", "say('go')\nwith client:")) as script:
        assert script.line() == "go"
        script.suspend()
        plain.refuse(on=False)
        script.resume()
        assert [script.line(), script.line()] == ["ready", "Connected"]
        plain.publish(price("m", -1.0))
        assert script.end() == (0, "-1.0\nflushed True 0", "")


# --- Ended by others


@posix
@pytest.mark.parametrize("where", ["waiting", "in a callback", "in an inline callback"])
def test_sigterm_ends_the_process_as_ever(plain: Simulator, where: str) -> None:
    """Without a handler of the program's own the signal is deadly at once: nothing here is in its way."""
    text = f"""
    client = Client("test-key", url=url, inline_callbacks={where == "in an inline callback"})
    client.on(Connected, lambda event: (say("there"), {where != "waiting"} and never.wait()))
    client.run_forever()
    """
    with Script(plain.url, text) as script:
        assert script.line() == "there"
        script.process.terminate()
        assert script.end() == (-signal.SIGTERM, "", "")


@posix
def test_a_sigterm_handler_may_close_the_client(sim: Simulator, trust: dict[str, str]) -> None:
    """`close()` in a signal handler, while the main thread waits on the same client: an orderly end."""
    text = """
    import signal
    client = Client("test-key", url=url)
    client.on(Closed, lambda event: say(event))
    client.on(Connected, lambda event: say("there"))
    signal.signal(signal.SIGTERM, lambda *_: client.close())
    client.run_forever()
    """
    with Script(sim.url, text, **trust) as script:
        assert script.line() == "there"
        script.process.terminate()
        assert script.end() == (0, "Closed(error=None)", "")
    assert sim.violations == []


# --- The end in the middle of a burst

CONSUMERS = {
    "quick callback": 'client.subscribe(Price("m"), callback=lambda event: seen.set())',
    "slow callback": """
    calls = []
    def slow(event):
        calls.append(event)
        if len(calls) >= 5 and (inline or client.stats.callback_backlog >= 500):
            seen.set()
        never.wait(0.2)
    client.subscribe(Price("m"), callback=slow)
    """,
    "raising callback": 'client.subscribe(Price("m"), callback=lambda event: (seen.set(), 1 / 0))',
    "read stream": 'stream = client.stream(Price("m")); stream.get(timeout=60); seen.set()',
    "full stream": 'full = client.stream(Price("m"), maxsize=1, overflow="block"); full.get(timeout=60); seen.set()',
    "reader thread": """
    def read():
        for event in client.stream(Price("m"), overflow="latest"):
            seen.set()
    threading.Thread(target=read, daemon=True).start()
    """,
}


@pytest.mark.parametrize("inline", [False, True], ids=["callback thread", "inline"])
@pytest.mark.parametrize("consumer", CONSUMERS)
def test_the_interpreter_ends_in_a_burst(sim: Simulator, trust: dict[str, str], consumer: str, inline: bool) -> None:
    """Nobody closes anything: code 0, nothing on stderr, and within the time of the exit hook."""
    text = f"""
    import logging
    logging.disable()
    inline = {inline}
    client = Client("test-key", url=url, inline_callbacks=inline).connect()
    seen = threading.Event()
    {CONSUMERS[consumer]}
    assert seen.wait(60)
    """
    with Script(sim.url, text, **trust) as script:
        sim.wait_for(lambda: sim.subscriptions, PATIENCE)
        for _ in range(10_000):
            if script.ends_within(0.01) or not sim.connections:
                break
            for n in range(100):
                sim.publish(price("m", float(n)))
        assert script.end() == (0, "", "")


# --- Modules, on whose locks a child would hang that is forked while another thread loads them

IMPORTS = """
class Imports:
    found = []
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            cls.found.append(f"{name} by {threading.current_thread().name}")

sys.meta_path.insert(0, Imports)
def loaded(*names):
    return [name in sys.modules for name in names]
"""
"""Finds nothing, and is asked first whenever a module is loaded."""


@pytest.mark.parametrize("inline", [False, True], ids=["callback thread", "I/O thread"])
def test_no_thread_of_ours_loads_a_module(sim: Simulator, trust: dict[str, str], tmp_path: Path, inline: bool) -> None:
    """All that a client needs is loaded when `start()` returns, whatever it meets: names, losses, what fails."""
    text = f"""
    import logging
    from pathlib import Path
    logging.getLogger("allenhark_ws").addHandler(logging.NullHandler())
    url = url.replace("127.0.0.1", "localhost")
    client = Client(lambda: "test-key", url=url, inline_callbacks={inline})
    say(*loaded("ssl", "websocket", "allenhark_ws._transport"))
    client.start()
    say(*loaded("ssl", "websocket", "allenhark_ws._transport", "encodings.idna"))
    def fail(event):
        raise ValueError
    stream = client.stream(Price("m"), maxsize=1)
    client.on(Event, fail)
    with client, client.record(Path({str(tmp_path)!r}) / "day.jsonl.gz"):
        client.flush()
        say("ready")
        stream.get()
        client.reconnect()
        client.flush()
    say(client.stats.reconnects, Imports.found)
    """
    with Script(sim.url, IMPORTS + textwrap.dedent(text), **trust) as script:
        assert [script.line() for _ in range(3)] == ["False False False", "True True True True", "ready"]
        sim.send_raw('{"type":"odd"}')
        sim.send_raw('{"type":"price_update"}')
        sim.send_raw("no JSON")
        sim.publish(price("m"))
        assert script.end() == (0, "1 []", "")


def _grant(conn: socket.socket) -> None:
    """A SOCKS 5 proxy that connects to api.invalid, and leaves (RFC 1928)."""
    read_exactly(conn, read_exactly(conn, 2)[1])
    conn.sendall(b"\x05\x00")
    read_exactly(conn, 4 + 1 + len("api.invalid") + 2)
    conn.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x01")


def _grant_http(conn: socket.socket) -> None:
    """An HTTP proxy that does the same."""
    read_head(conn)
    conn.sendall(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
@pytest.mark.parametrize("named", ["argument", "environment"])
def test_no_thread_of_ours_loads_a_module_for_a_proxy(scheme: str, named: str) -> None:
    """Those that choose one, and speak with it, too."""
    if scheme == "socks5h":
        pytest.importorskip("python_socks", reason="needs the extra socks")
    text = f"""
    proxy = {named == "argument"} and url or None
    client = Client("test-key", url="wss://api.invalid/", proxy=proxy, backoff=Backoff(max_attempts=1)).start()
    say(*loaded("urllib.request", "python_socks.sync"))
    try:
        client.connect()
    except ConnectionFailed as error:
        say(Imports.found, error.reason)
    """
    with peer(_grant if scheme == "socks5h" else _grant_http) as proxy:
        url = f"{scheme}://127.0.0.1:{proxy.port}"
        environment = {"https_proxy": url, "no_proxy": ""} if named == "environment" else {}
        with Script(url, IMPORTS + textwrap.dedent(text), **environment) as script:
            by_urllib, by_socks = script.line().split()
            code, out, err = script.end()
    assert (code, err) == (0, "")
    assert out.startswith("[] TLS handshake with api.invalid:443")
    assert by_urllib == str(named == "environment")
    assert by_socks == "True" or scheme == "http"


def test_a_client_that_opens_no_connection_loads_no_tls(tmp_path: Path) -> None:
    """As a replay does."""
    path = tmp_path / "day.jsonl"
    text = f"""
    path = {str(path)!r}
    with replay(path) as client:
        client.run_forever()
    say(*[name in sys.modules for name in ("ssl", "websocket", "allenhark_ws._transport")])
    """
    with Simulator() as sim, client_of(sim) as client, client.record(path):
        client.flush()
    with Script("", text) as script:
        assert script.end() == (0, "False False False", "")


# --- A long life


def test_a_thousand_clients_one_after_the_other_cost_nothing(sim: Simulator, trust: dict[str, str]) -> None:
    """Threads and descriptors are as many after a thousand as after a hundred; objects and memory blocks do not grow.

    Over TLS a tenth of that.
    """
    text = """
    lives = int(sys.stdin.readline())

    def live():
        client = Client("test-key", url=url)
        client.on(Event, lambda event, client=client: None)
        with client, client.subscribe(Price("m"), callback=id), client.stream(Price("n")):
            client.flush()

    def count():
        gc.collect()  # the clients, which their callbacks refer to; their finalizers release the rest
        gc.collect()
        files = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        return threading.active_count(), files, len(gc.get_objects()), sys.getallocatedblocks()

    for _ in range(lives // 10):
        live()
    before = count()
    for _ in range(lives - lives // 10):
        live()
    say(*(now - then for then, now in zip(before, count())))
    """
    lives = 100 if trust else 1000
    with Script(sim.url, text, **trust) as script:
        script.tell(str(lives))
        code, out, err = script.end(600)
    assert (code, err) == (0, "")
    threads, files, objects, blocks = map(int, out.split())
    assert (threads, files) == (0, 0)
    assert objects < lives // 10
    assert blocks < lives * 9 // 10  # less than one a life: CPython 3.10 keeps some for itself, for bare threads too
    assert len(sim.history) == lives
    assert sim.violations == []
