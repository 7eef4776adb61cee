"""Servers that mean harm, at every phase, against the whole client on plain and TLS sockets.

Each is a small script over a raw socket that would go on for ever: it ends only when the client has left.  What has to
hold every time: the outcome is told as what it is, the client's verbs come back, nothing is logged or left behind, and
the whole thing costs at most 10 MB of memory.  The client lives in a process of
its own (`victim`), where `tracemalloc` counts what it allocates at its peak: that is the same on every run and every
system, which resident memory is not.

Nothing here is timed.  Deadlines are shown by the order of events: the client gave up, naming the deadline, while the
server would not have ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("trustme", reason="needs the extra testing")

import trustme
from attrs import define, field

import allenhark_ws

from .patience import PATIENCE
from .peers import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    accept_value,
    close_frame,
    frame,
    peer,
    read_frame,
    read_head,
    upgrade,
)

if TYPE_CHECKING:
    from typing_extensions import Self

LIMIT: Final = 10_000_000
"""Bytes that a hostile server may cost."""

ROOT: Final = Path(allenhark_ws.__file__).parents[1]
LEFT: Final = "the client left"
MESSAGE: Final = 1_048_576
"""Bytes of the largest message the client accepts, unless it is told otherwise."""

DEADLINE: Final = 0.3
"""Seconds for the deadlines that have to pass here."""

ROOMY: Final = 1.0
"""Seconds for those before which something has to come, however long a thread is kept waiting."""

NEVER: Final = 1000.0
"""Seconds for those that must not."""

PONGED: Final = frame(TEXT, b'{"type":"pong"}')
QUICK: Final = {"initial": 0.001, "maximum": 0.002}


class Victim:
    """The process with the client, and what it is told to do."""

    def __init__(self, cafile: Path) -> None:
        self._cafile = cafile
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("victim.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate()

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        return lambda *arguments: self._ask(name, *arguments)

    def _ask(self, name: str, *arguments: Any) -> dict[str, Any]:
        """Have something done; the answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        self._write(stdin, json.dumps({"do": name, "with": arguments}))
        answer: dict[str, Any] = json.loads(stdout.readline())
        assert "failed" not in answer, answer["failed"]
        return answer

    @staticmethod
    def _write(stdin: IO[str], line: str) -> None:
        stdin.write(line + "\n")
        stdin.flush()

    def attack(self, url: str, *, stream: dict[str, Any] | None = None, fast: bool = False, **options: Any) -> None:
        """Make a client, to be told what to do next; its deadlines do not pass unless given."""
        secure = {"cafile": str(self._cafile)} if url.startswith("wss:") else {}
        never = {"heartbeat_interval": NEVER, "pong_timeout": NEVER, "connect_timeout": NEVER, "send_timeout": NEVER}
        self._ask("new", {"url": url, "proxy": False, "backoff": QUICK} | never | secure | options, stream, fast)

    def survive(self, limit: int = LIMIT) -> dict[str, Any]:
        """Close the client; how things stood, and what it cost: not more than it may."""
        ended = self._ask("end")
        assert ended["peak"] <= limit, f"{ended['peak'] / 1e6:.1f} MB"
        assert ended["logged"] == 0
        assert ended["threads"] == []
        assert ended["state"] == "CLOSED"
        return ended


# -- what servers do --------------------------------------------------------------------------------------------------


def until_gone(conn: socket.socket) -> str:
    """Say nothing, and take whatever comes, until the client has left."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while conn.recv(65_536):
            pass
    return LEFT


def for_ever(conn: socket.socket, data: bytes) -> str:
    """Send it again and again, reading nothing, until the client has left."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while True:
            conn.sendall(data)
    return LEFT


def drip(conn: socket.socket, data: bytes) -> str:
    """Send a byte now and then, the last one again and again, until the client has left."""
    position = 0
    conn.settimeout(0.01)
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while True:
            with contextlib.suppress(TimeoutError):
                if not conn.recv(65_536):
                    break
            conn.sendall(data[position : position + 1])
            position = min(position + 1, len(data) - 1)
    return LEFT


Script = Callable[[socket.socket], str]


def answering(head: str, then: bytes = b"") -> Script:
    """A server that answers the first request with this, and goes on with that for ever."""

    def script(conn: socket.socket) -> str:
        request = read_head(conn)
        text = head.replace("ACCEPT", accept_value(request) if "Sec-WebSocket-Key" in request else "")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            conn.sendall(text.replace("\n", "\r\n").encode())
        return for_ever(conn, then) if then else until_gone(conn)

    return script


def dripping(head: str) -> Script:
    """A server that takes for ever to answer the first request."""

    def script(conn: socket.socket) -> str:
        read_head(conn)
        return drip(conn, head.replace("\n", "\r\n").encode())

    return script


def meet(conn: socket.socket) -> None:
    """Let the client become READY: the upgrade, its auth and its ping."""
    upgrade(conn)
    assert json.loads(read_frame(conn)[1])["type"] == "auth"
    assert json.loads(read_frame(conn)[1])["type"] == "ping"
    conn.sendall(PONGED)


def upgraded(attack: Script) -> Script:
    """A server that attacks once the connection is open."""

    def script(conn: socket.socket) -> str:
        upgrade(conn)
        return attack(conn)

    return script


def ready(attack: Script) -> Script:
    """A server that attacks once the client is READY."""

    def script(conn: socket.socket) -> str:
        meet(conn)
        return attack(conn)

    return script


def flooding(data: bytes) -> Script:
    """Send it for ever."""
    return lambda conn: for_ever(conn, data)


def thin(message: bytes, times: int = 200) -> bytes:
    """The message, many times: with WebSocket pongs between, or those under way would take a test too long to read."""
    return (message + 3 * frame(PONG, b"x" * 125)) * times


def beginning(start: bytes, then: Script) -> Script:
    """A server that sends this before it goes on."""

    def script(conn: socket.socket) -> str:
        conn.sendall(start)
        return then(conn)

    return script


@define
class Talker:
    """A READY server that sends without end and answers in between, one thread for both.

    Attributes:
        endless: what it sends for ever; empty: nothing but answers.
        on_subscribe: what it answers to every subscribe.
        heard: the messages it got.
    """

    endless: bytes = b""
    on_subscribe: bytes = b""
    heard: list[dict[str, Any]] = field(factory=list[dict[str, Any]])

    def __call__(self, conn: socket.socket) -> str:
        """Talk until the client has left."""
        if 0 < len(self.endless) < MESSAGE:  # an answer queues behind what is under way
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        meet(conn)
        with contextlib.suppress(ConnectionError, ssl.SSLError, EOFError):
            while True:
                while self._is_readable(conn):
                    self._answer(conn, *read_frame(conn))
                conn.sendall(self.endless)
        return LEFT

    def _is_readable(self, conn: socket.socket) -> bool:
        if isinstance(conn, ssl.SSLSocket) and conn.pending():
            return True
        return bool(select.select([conn], [], [], 0.0 if self.endless else None)[0])

    def _answer(self, conn: socket.socket, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            raise EOFError
        if opcode == TEXT:
            message = json.loads(payload)
            self.heard.append(message)
            conn.sendall(PONGED if message["type"] == "ping" else self.on_subscribe)


# -- the stage --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """A certificate authority of our own."""
    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    """The servers' TLS context."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(made)
    return made


@pytest.fixture(scope="module")
def victim(
    authority: trustme.CA, context: ssl.SSLContext, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Victim]:
    """The process with the client, warm: what is loaded with the first connection is no server's doing."""
    cafile = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(cafile)
    with Victim(cafile) as process:
        for stage in (Stage(process, None), Stage(process, context)):
            with stage.serve(Talker()) as url:
                process.attack(url)
                process.verb("connect", PATIENCE)
                process.verb("flush")
                process.end()
        yield process


@define
class Stage:
    """Where a server meets the client: plain or TLS.

    Attributes:
        victim: the client's process.
        context: the servers' TLS context, or None.
    """

    victim: Victim
    context: ssl.SSLContext | None

    @contextlib.contextmanager
    def serve(self, *scripts: Script, window: int | None = None) -> Generator[str]:
        """Run the servers, with a small TCP window if given; each has to end because the client has left."""
        with peer(*scripts, context=self.context) as server:
            if window is not None:  # connections inherit it
                server.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
            try:
                yield f"{'wss' if self.context else 'ws'}://127.0.0.1:{server.port}/"
            finally:  # a failed test's client too has to leave, or its server would not end
                self.victim.leave()
        assert server.results == [LEFT] * len(scripts)


@pytest.fixture(params=["ws", "wss"])
def stage(request: pytest.FixtureRequest, victim: Victim, context: ssl.SSLContext) -> Stage:
    """Plain, and TLS."""
    return Stage(victim, context if request.param == "wss" else None)


@pytest.fixture
def plain(victim: Victim) -> Stage:
    """Plain alone, where TLS changes nothing."""
    return Stage(victim, None)


# -- opening ----------------------------------------------------------------------------------------------------------

SWITCHING: Final = "HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n"
UPGRADE_TIMEOUT: Final = r"timed out after 1 s during the WebSocket upgrade"
TOO_MANY_HEADERS: Final = "the answer has more than 65536 bytes of headers"

OPENING: Final[dict[str, tuple[Script, str]]] = {
    "says nothing": (until_gone, UPGRADE_TIMEOUT),
    "drips its status": (dripping("HTTP/1.1 1"), UPGRADE_TIMEOUT),
    "drips a header": (dripping(SWITCHING + "X: a"), UPGRADE_TIMEOUT),
    "endless headers": (answering(SWITCHING, b"X-Header: b\r\n" * 1000), TOO_MANY_HEADERS),
    "one endless header": (answering(SWITCHING + "X: ", b"a" * 16_384), TOO_MANY_HEADERS),
    "endless interim answers": (answering("", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 500), "interim answers"),
    "drips interim answers": (dripping("HTTP/1.1 100 Continue\n\n" * 100_000), UPGRADE_TIMEOUT),
    "no HTTP": (answering("", b"\0\r\n\r\n" * 1000), "the answer is not HTTP/1.1"),
    "wrong accept": (answering(SWITCHING + "Sec-WebSocket-Accept: bm9uc2Vuc2U=\n\n"), "does not verify"),
    "unrequested extension": (
        answering(SWITCHING + "Sec-WebSocket-Accept: ACCEPT\nSec-WebSocket-Extensions: permessage-deflate\n\n"),
        "sec-websocket-extensions, which was not asked for",
    ),
    "unrequested subprotocol": (
        answering(SWITCHING + "Sec-WebSocket-Accept: ACCEPT\nSec-WebSocket-Protocol: chat\n\n"),
        "sec-websocket-protocol, which was not asked for",
    ),
    **{
        f"endless body of {status}, {name}": (
            answering(f"HTTP/1.1 {status} No\n{header}\n\n", b"400\r\n" + b"x" * 1024 + b"\r\n"),
            f"HTTP {status}",
        )
        for status in (401, 429, 500)
        for name, header in {
            "chunked": "Transfer-Encoding: chunked",
            "100 GB": "Content-Length: 100000000000",
            "no length": "Connection: close",
        }.items()
    },
}


@pytest.mark.parametrize("case", OPENING)
def test_opening(stage: Stage, case: str) -> None:
    """The attempt fails and says why, at the deadline at the latest."""
    script, told = OPENING[case]
    with stage.serve(script) as url:
        timeout = ROOMY if told == UPGRADE_TIMEOUT else NEVER
        stage.victim.attack(url, connect_timeout=timeout, backoff=QUICK | {"max_attempts": 1})
        failed = stage.victim.verb("connect", PATIENCE)
        assert re.search(told, failed["text"])
        assert failed["raised"] == ("AuthenticationError" if "401" in case else "ConnectionFailed")
        stage.victim.survive()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(plain: Stage, status: int) -> None:
    """No redirect is followed: the place it names is not visited."""
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        place = f"ws://127.0.0.1:{elsewhere.getsockname()[1]}/"
        with plain.serve(answering(f"HTTP/1.1 {status} Elsewhere\nLocation: {place}\nContent-Length: 0\n\n")) as url:
            plain.victim.attack(url, backoff=QUICK | {"max_attempts": 1})
            assert f"HTTP {status}" in plain.victim.verb("connect", PATIENCE)["text"]
            plain.victim.survive()
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        ("1000000000", True),
        ("999999999999999.9", True),
        ("Fri, 31 Dec 9999 23:59:59 GMT", True),
        ("1e9", False),
        ("-1000000000", False),
        ("Thu, 01 Jan 1970 00:00:00 GMT", False),
        ("Mon, 01 Jan 0001 00:00:00 +2359", False),
        ("soon", False),
        ("9" * 60_000, False),
        ("Fri, " * 12_000, False),
        ("inf", False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_retry_after(plain: Stage, asked: str, waits: bool) -> None:
    """However long a server asks to wait, five minutes are enough; what cannot be read is not obeyed."""
    with plain.serve(answering(f"HTTP/1.1 429 Slow Down\nRetry-After: {asked}\n\n")) as url:
        plain.victim.attack(url, backoff={"initial": 200, "maximum": 250})
        plain.victim.verb("start")
        delay = plain.victim.wait("Reconnecting")["delay"]
        assert delay == 300 if waits else delay <= 250
        plain.victim.survive()


TLS_TIMEOUT: Final = r"timed out after 1 s during the TLS handshake"


def after_hello(then: Script) -> Script:
    """A server that got the client's first TLS record."""

    def script(conn: socket.socket) -> str:
        conn.recv(65_536)
        return then(conn)

    return script


HANDSHAKE: Final[dict[str, tuple[Script, str]]] = {
    "does not answer": (until_gone, TLS_TIMEOUT),
    "drips a record": (after_hello(lambda conn: drip(conn, b"\x16\x03\x03\x40\x00\x02" + bytes(20_000))), TLS_TIMEOUT),
    "floods garbage": (flooding(b"\xff" * 65_536), "TLS handshake with .*: "),
    "floods HTTP": (flooding(b"HTTP/1.1 400 Bad Request\r\n" * 1000), "TLS handshake with .*: "),
    "floods empty records": (after_hello(flooding(b"\x16\x03\x03\0\0" * 1000)), "TLS handshake with .*: "),
    "floods warnings": (after_hello(flooding(b"\x15\x03\x03\0\2\1\0" * 1000)), "TLS handshake with .*: "),
    "announces a huge message": (
        after_hello(flooding(b"\x16\x03\x03\x40\x00\x02\xff\xff\xff" + bytes(16_380))),
        "TLS handshake with .*: ",
    ),
}


@pytest.mark.parametrize("case", HANDSHAKE)
def test_tls_handshakes(plain: Stage, case: str) -> None:
    """A server that speaks no honest TLS costs one failed attempt, at the deadline at the latest."""
    script, told = HANDSHAKE[case]
    with plain.serve(script) as url:
        timeout = ROOMY if told == TLS_TIMEOUT else NEVER
        secure = url.replace("ws:", "wss:")
        plain.victim.attack(secure, connect_timeout=timeout, backoff=QUICK | {"max_attempts": 1})
        failed = plain.victim.verb("connect", PATIENCE)
        assert re.search(told, failed["text"])
        assert failed["raised"] == "ConnectionFailed"
        plain.victim.survive()


TUNNEL_TIMEOUT: Final = r"timed out after 1 s during the tunnel through the proxy"
PROXIES: Final[dict[str, tuple[str, Script, str]]] = {
    "says nothing": ("http", until_gone, TUNNEL_TIMEOUT),
    "drips": ("http", dripping("HTTP/1.1 200 OK\nX: a"), TUNNEL_TIMEOUT),
    "endless headers": ("http", answering("HTTP/1.1 200 OK\n", b"X: b\r\n" * 1000), TOO_MANY_HEADERS),
    "one endless header": ("http", answering("HTTP/1.1 200 OK\nX: ", b"a" * 16_384), TOO_MANY_HEADERS),
    "interim answers": ("http", answering("", b"HTTP/1.1 100 Continue\r\n\r\n" * 500), "HTTP 100"),
    "endless body": ("http", answering("HTTP/1.1 200 OK\n\n", b"x" * 16_384), "nobody asked for|TLS handshake"),
    "endless refusal": ("http", answering("HTTP/1.1 407 No\n\n", b"x" * 16_384), "asks for credentials"),
    "SOCKS says nothing": ("socks5h", until_gone, TUNNEL_TIMEOUT),
    "SOCKS drips": ("socks5h", lambda conn: drip(conn, b"\5\0" + b"\5" * 1000), "tunnel through the proxy"),
    "SOCKS floods": ("socks5h", flooding(b"\5\0" * 10_000), "tunnel through the proxy|TLS handshake"),
}


@pytest.mark.parametrize("case", PROXIES)
def test_proxies(plain: Stage, case: str) -> None:
    """A proxy is trusted no more than a server."""
    scheme, script, told = PROXIES[case]
    if scheme != "http":
        pytest.importorskip("python_socks", reason="needs the extra socks")
    with plain.serve(script) as url:
        plain.victim.attack(
            "wss://nowhere.invalid/",
            proxy=url.replace("ws:", f"{scheme}:"),
            connect_timeout=ROOMY if told == TUNNEL_TIMEOUT else NEVER,
            backoff=QUICK | {"max_attempts": 1},
        )
        failed = plain.victim.verb("connect", PATIENCE)
        assert re.search(told, failed["text"])
        assert failed["raised"] == "ConnectionFailed"
        plain.victim.survive()


# -- messages ---------------------------------------------------------------------------------------------------------


def large(head: str, unit: str, tail: str) -> bytes:
    """A message of as many bytes as may be: the unit repeated, without the comma it may begin with."""
    room = MESSAGE - len(head.encode()) - len(tail.encode())
    return (head + (unit * (room // len(unit.encode()))).removeprefix(",") + tail).encode()


def many_keys(head: str, tail: str) -> bytes:
    """A message of as many different keys as it may hold."""
    keys = ",".join(f'"{number:05x}":0' for number in range((MESSAGE - len(head) - len(tail)) // 10))
    return (head + keys + tail).encode()


PRICE: Final = '{"type":"price_update","mint":"m","price":'
PRICE_TAIL: Final = ',"volume":1,"timestamp":"2024-01-15T10:30:00Z"}'
TIME: Final = '1,"volume":1,"timestamp":"2024-01-15T10:30:00.'
BOT: Final = '{"type":"bot_update","botId":"b","event":"trade_executed","data":'
UNKNOWN: Final = '{"type":"x","a":'
ERROR: Final = '{"type":"error","message":"'

MESSAGES: Final[dict[str, bytes]] = {
    "a type of a million letters": large('{"type":"', "a", '"}'),
    "a type of a million wide letters": large('{"type":"😀', "a", '"}'),
    "a type of wide letters alone": large('{"type":"', "😀", '"}'),
    "a type of wide and other letters by turns": large('{"type":"😀', "aé", '"}'),
    "a type of escaped backslashes, and a wide letter": large('{"type":"😀', "\\\\", '"}'),
    "a type of escapes": large('{"type":"\\ud83d\\ude00', "\\n", '"}'),
    "an error of a million letters": large(ERROR, "a", '"}'),
    "an error of wide letters": large(ERROR + "😀", "a", '"}'),
    "an error that is the key, with a wide letter": large(ERROR + "😀", "test-key-of-a-victim", '"}'),
    "an error with a wide code": large(ERROR + '😀","code":"😀', "a", '"}'),
    "an error of escapes": large(ERROR, "\\u20ac", '"}'),
    "an error that is nearly about limits": large(ERROR, "limit max ", '"}'),
    "an error that is nearly about keys": large(ERROR, "invalid api ", '"}'),
    "an error of blanks": large(ERROR + "key", " ", '"}'),
    "an error that is nearly the key": large(ERROR, "test-key-of-a-victi", '"}'),
    "an error that is the key": large(ERROR, "test-key-of-a-victim", '"}'),
    "an error of many keys": many_keys('{"type":"error",', "}"),
    "a mint of wide letters": large('{"type":"price_update","price":1,"mint":"😀', "a", '"' + PRICE_TAIL),
    "a status of wide letters": large(
        '{"type":"transaction_confirmed","signature":"s","slot":1,"status":"😀', "a", '"}'
    ),
    "wide letters of a bot": large(BOT + '{"a":"😀', "a", '"}}'),
    "a wide key of a bot": large(BOT + '{"😀', "a", '":1}}'),
    "wide letters that are no string": large('{"type":"x"}😀', "a", ""),
    "a number of a million digits": (PRICE + "9" * 1_000_000 + PRICE_TAIL).encode(),
    "a fraction of a million digits": (PRICE + "1." + "9" * 1_000_000 + PRICE_TAIL).encode(),
    "an exponent of a million digits": (PRICE + "1e" + "9" * 1_000_000 + PRICE_TAIL).encode(),
    "a huge exponent": (PRICE + "1e999999999" + PRICE_TAIL).encode(),
    "a tiny exponent": (PRICE + "1e-999999999" + PRICE_TAIL).encode(),
    "a time of a million digits": (PRICE + TIME + "1" * 1_000_000 + 'x"}').encode(),
    "arrays in each other": (UNKNOWN + "[" * 1_000_000).encode(),
    "closed arrays in each other": (UNKNOWN + "[" * 500_000 + "]" * 500_000 + "}").encode(),
    "objects in each other": large(UNKNOWN, '{"":', ""),
    "many numbers": large(UNKNOWN + "[", ",1.5", "]}"),
    "many empty arrays": large(UNKNOWN + "[", ",[]", "]}"),
    "many objects": large(UNKNOWN + "[", ',{"":0}', "]}"),
    "many keys": many_keys(UNKNOWN + "{", "}}"),
    "many numbers of a bot": large(BOT + '{"a":[', ",1.5", "]}}"),
    "many objects of a bot": large(BOT + '{"a":[', ',{"":0}', "]}}"),
    "many keys of a bot": many_keys(BOT + "{", "}}"),
    "many keys of a price": many_keys(PRICE + "1,", PRICE_TAIL),
    "no JSON": b'"' * MESSAGE,
    "zeros": bytes(MESSAGE),
}


@pytest.mark.parametrize(
    ("case", "decimal"),
    [(case, False) for case in MESSAGES] + [(case, True) for case in MESSAGES if re.search("number|expon|frac", case)],
)
def test_messages(plain: Stage, case: str, decimal: bool) -> None:
    """Whatever a message is made of, it is one event; the next is read as ever."""
    server = Talker(on_subscribe=frame(TEXT, MESSAGES[case]) * 3)
    with plain.serve(server) as url:
        consumer = None if "wide" in case else {"maxsize": 1, "kinds": ["Event"]}  # what a queue holds costs more
        plain.victim.attack(url, decimal=decimal, stream=consumer)
        plain.victim.verb("connect", PATIENCE)
        plain.victim.verb("subscribe", {"mint": "m"})
        told = plain.victim.verb("flush", PATIENCE)["raised"]
        assert told == ("RequestRejected" if "error" in case and "many keys" not in case else None)
        assert plain.victim.tell()["state"] == "READY"
        plain.victim.survive()


# -- before the first pong --------------------------------------------------------------------------------------------

NO_PONG: Final = r"no pong came within 0\.3 s after authentication"
BEFORE_PONG: Final[dict[str, tuple[Script, str]]] = {
    "says nothing": (until_gone, NO_PONG),
    "drips a frame": (lambda conn: drip(conn, frame(TEXT, b"a" * 60_000)), NO_PONG),
    "unknown messages": (flooding(thin(frame(TEXT, b'{"type":"x"}'))), NO_PONG),
    "no messages": (flooding(thin(frame(TEXT))), NO_PONG),
    "large messages": (flooding(frame(TEXT, MESSAGES["a type of a million letters"])), NO_PONG),
    "wide messages": (flooding(frame(TEXT, MESSAGES["a type of a million wide letters"])), NO_PONG),
    "pings": (flooding(frame(PING, b"x" * 125) * 1000), NO_PONG),
    "WebSocket pongs": (flooding(frame(PONG, b"x" * 10) * 5000), NO_PONG),
    "an error": (flooding(frame(TEXT, b'{"type":"error","message":"server busy"}')), "server busy"),
    "a huge error": (flooding(frame(TEXT, large(ERROR + "server busy", "😀", '"}'))), "server busy"),
}


@pytest.mark.parametrize("case", BEFORE_PONG)
def test_before_the_first_pong(stage: Stage, case: str) -> None:
    """Whatever else comes, the pong has to come in time; attempt after attempt costs no more than one."""
    attack, told = BEFORE_PONG[case]
    with stage.serve(*[upgraded(attack)] * 3) as url:
        stage.victim.attack(
            url,
            stream={"maxsize": 1, "kinds": ["Event"]},
            pong_timeout=DEADLINE if told == NO_PONG else NEVER,
            backoff=QUICK | {"max_attempts": 3},
        )
        failed = stage.victim.verb("connect", PATIENCE)
        assert failed["raised"] == "ConnectionFailed"
        assert re.search(told, failed["text"])
        assert failed["length"] < 2000
        lifecycle = stage.victim.survive()["lifecycle"]
    told_of = [event for event in lifecycle if event != "EventsDropped"]
    assert told_of == ["Reconnecting", "Reconnecting", "Closed"]


# -- READY: what ends the connection ----------------------------------------------------------------------------------

BROKE: Final = "^the server broke the WebSocket protocol: "
MUTE: Final = r"nothing arrived within 1 s after a ping"
STARTED: Final = frame(TEXT, final=False)
FATAL: Final[dict[str, tuple[Script, int, str]]] = {
    "2^62 bytes announced": (
        flooding(b"\x81\x7f" + struct.pack("!Q", 1 << 62) + b"x" * 65_536),
        1006,
        BROKE + ".*max_message_size",
    ),
    "2^63 bytes announced": (flooding(b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff"), 1006, BROKE),
    "a byte too many": (flooding(b"\x81\x7f" + struct.pack("!Q", MESSAGE + 1)), 1006, BROKE + ".*max_message_size"),
    "endless empty fragments": (
        beginning(STARTED, flooding(frame(0, final=False) * 1000)),
        1006,
        BROKE + ".*fragments",
    ),
    "endless fragments of a byte": (
        beginning(STARTED, flooding(frame(0, b"a", final=False) * 1000)),
        1006,
        BROKE + ".*fragments",
    ),
    "endless large fragments": (
        beginning(STARTED, flooding(frame(0, b"a" * 60_000, final=False))),
        1006,
        BROKE + ".*max_message_size",
    ),
    "no UTF-8": (flooding(frame(TEXT, b"\xff")), 1006, BROKE + ".*not UTF-8"),
    "reserved bits": (flooding(frame(TEXT, reserved=4)), 1006, BROKE + ".*reserved"),
    "masked": (flooding(frame(TEXT, b"a", masked=True)), 1006, BROKE + ".*masked"),
    "unknown opcode": (flooding(frame(3)), 1006, BROKE + ".*opcode"),
    "a long ping": (flooding(frame(PING, b"x" * 126)), 1006, BROKE + ".*125"),
    "data behind a close": (
        beginning(close_frame(1001, b"going"), flooding(b"x" * 65_536)),
        1001,
        "^the server closed the connection with code 1001: going",
    ),
    "closes for ever": (flooding(close_frame(1011)), 1011, "code 1011"),
    "drips a frame": (lambda conn: drip(conn, frame(TEXT, b"a" * 60_000)), 1006, MUTE),
    "says nothing": (until_gone, 1006, MUTE),
}


@pytest.mark.parametrize("case", FATAL)
def test_what_ends_the_connection(stage: Stage, case: str) -> None:
    """The loss is told as what it is, and the client tries again."""
    attack, code, told = FATAL[case]
    needed: dict[str, Any] = {"heartbeat_interval": DEADLINE, "pong_timeout": ROOMY} if told == MUTE else {}
    with stage.serve(ready(attack), Talker()) as url:
        stage.victim.attack(url, stream={"maxsize": 4, "kinds": ["Event"]}, **needed)
        stage.victim.verb("connect", PATIENCE)
        lost = stage.victim.wait("Disconnected")
        assert lost["code"] == code
        assert re.search(told, lost["text"])
        stage.victim.wait("Gap")
        stage.victim.survive()


# -- READY: what must not end the connection --------------------------------------------------------------------------

PRICES: Final = frame(
    TEXT, b'{"type":"price_update","mint":"m","price":1,"volume":2,"timestamp":"2024-01-15T10:30:00Z"}'
)
FLOODS: Final[dict[str, bytes]] = {
    "pings": frame(PING, b"x" * 125) * 500,
    "short pings": frame(PING, b"x" * 10) * 5000,
    "WebSocket pongs": frame(PONG, b"x" * 10) * 5000,
    "application pongs": thin(PONGED),
    "prices": thin(PRICES),
    "no messages": thin(frame(TEXT)),
    "binary messages": thin(frame(BINARY, b"x")),
    "unknown types": b"".join(thin(frame(TEXT, b'{"type":"%d"}' % number), 1) for number in range(500)),
    "errors": thin(frame(TEXT, b'{"type":"error","message":"no"}')),
    "large messages": frame(TEXT, MESSAGES["a type of a million letters"]),
    "large unknown types": b"".join(frame(TEXT, large(f'{{"type":"{number}', "a", '"}')) for number in range(12)),
    "large errors": frame(TEXT, MESSAGES["an error of a million letters"]),
}
"""Each is sent again and again."""


@pytest.mark.parametrize("case", FLOODS)
def test_floods(stage: Stage, case: str) -> None:
    """During a flood each verb gets its turn, and the connection stays."""
    server = Talker(endless=FLOODS[case])
    with stage.serve(server) as url:
        stage.victim.attack(url, fast="large" not in case, stream={"maxsize": 1, "kinds": ["Event"]})
        stage.victim.verb("connect", PATIENCE)
        for mint in ("m", "n"):
            stage.victim.verb("subscribe", {"mint": mint})
            answer = stage.victim.verb("flush", PATIENCE)
            assert answer["raised"] in {None, "RequestRejected"}
            assert answer["raised"] is None or "errors" in case
            assert answer.get("length", 0) < 2000
        assert stage.victim.tell()["state"] == "READY"
        queued = 2 * 2**20 if "large" in case else 0  # what the stream holds: one event, as received and as text
        ended = stage.victim.survive(LIMIT + queued)
    assert [message["mint"] for message in server.heard if message["type"] == "subscribe"] == ["m", "n"]
    assert ended["lifecycle"][0] == "Connected"
    assert "Disconnected" not in ended["lifecycle"]
    assert ended["types"] <= 101


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest", "latest", "block", "error"])
def test_floods_that_nobody_reads(stage: Stage, overflow: str) -> None:
    """A stream that nobody reads holds what it may; where that stops the reading, close() still comes through."""
    with stage.serve(Talker(endless=thin(PRICES) + FLOODS["no messages"])) as url:
        stage.victim.attack(url, stream={"maxsize": 100, "overflow": overflow, "kinds": ["Event"]})
        stage.victim.verb("connect", PATIENCE)
        if overflow != "block":
            assert stage.victim.verb("flush", PATIENCE) == {"raised": None}
        told = stage.victim.tell()
        assert told["state"] == "READY"
        assert told["high_water"] <= 100
        stage.victim.survive()


@pytest.mark.parametrize("answer", [b"no", b"e" * 1_000_000], ids=["small", "large"])
def test_errors_without_end(stage: Stage, answer: bytes) -> None:
    """A server that answers each request with errors fails the flush, with so many of them and no more."""
    errors = frame(TEXT, b'{"type":"error","message":"%b"}' % answer) * (1000 if len(answer) < 10 else 5)
    with stage.serve(Talker(on_subscribe=errors)) as url:
        stage.victim.attack(url)
        stage.victim.verb("connect", PATIENCE)
        for mint in "abc":
            stage.victim.verb("subscribe", {"mint": mint})
            failed = stage.victim.verb("flush", PATIENCE)
            assert failed["raised"] == "RequestRejected"
            assert failed["length"] < 2000
        assert stage.victim.tell()["state"] == "READY"
        stage.victim.survive()


@pytest.mark.parametrize("case", ["pings", "prices"])
def test_a_server_that_never_reads(stage: Stage, case: str) -> None:
    """Pongs and requests wait outside the send buffer, and the connection is given up when nothing moves."""
    with stage.serve(ready(flooding(FLOODS[case])), window=4096) as url:
        stage.victim.attack(url, send_timeout=DEADLINE)
        stage.victim.verb("connect", PATIENCE)
        for number in range(40):
            stage.victim.verb("subscribe", {"mint": f"{number:02}" + "m" * 100_000})
        lost = stage.victim.wait("Disconnected")
        assert lost["code"] == 1006
        assert re.search(r"not sent within 0\.3 s", lost["text"])
        stage.victim.survive()
