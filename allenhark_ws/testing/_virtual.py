"""`VirtualSimulator`: a simulated server, and real clients of it, in a time that passes when a test says so.

Neighbours: `_time` lets it pass, `_line` carries what is said; `_conversation` and `_journal` are the simulator's own.
It must never open a port.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Final

from .. import Channel, Client, ConfigurationError, ConnectionLost
from .._hints import Self
from ._conversation import Conversation, Manners, error_message, to_json
from ._journal import Journal
from ._line import Line
from ._requests import audience, check_frame, checked_keys, everybody, note_misfit
from ._server import check_close
from ._time import SleeperClock, VirtualTime

__all__ = ["VirtualSimulator"]

_URL: Final = "wss://simulator.invalid/v1/ws"
"""Nobody's name (RFC 2606), told in reprs; nothing is ever connected to it."""
_START: Final = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)


class VirtualSimulator:
    """A simulated server whose clients live in virtual time: what takes hours takes no time, and always the same.

    The clients that `client` makes are whole: their threads, rules, callbacks and streams are those of any other; in
    the place of the network there is memory, and in that of the clocks the simulator's `now`, which stands still until
    `advance`.  Heartbeats, deadlines, backoff, gaps and `received_at` go by it.  Waits are not jittered: each is the
    longest that `Backoff` allows.

    Every member waits first and afterwards until all clients have done what there was to do, callbacks included: when
    `publish` returns, the callbacks have returned.  So callbacks may not use it.  What a stream holds is there to be
    read; threads of your own that read from it are yours to wait for.  What your calls wait for themselves
    (``connect(timeout)``, ``flush(timeout)``, ``stream.get(timeout=…)``) is real time: use `Client.start` where no
    connection is to be had.

    The server behaves as that of `Simulator` does, and has the same verbs.

    Args:
        api_keys: the keys to accept.
        start: the first moment, aware.

    Raises:
        ConfigurationError: an argument cannot be used.

    Example:
        >>> with VirtualSimulator() as simulator:
        ...     client = simulator.client().connect()
        ...     gaps = client.stream(Gap)
        ...     simulator.refuse()
        ...     simulator.reset()
        ...     simulator.advance(3600)  # no time at all
        ...     simulator.refuse(False)
        ...     simulator.advance(30)
        ...     3600 <= gaps.get_nowait().duration <= 3630
        True
    """

    def __init__(self, api_keys: Collection[str] = ("test-key",), *, start: datetime = _START) -> None:
        self._api_keys = checked_keys(api_keys)
        if start.tzinfo is None:
            raise ConfigurationError("VirtualSimulator(start=…) takes an aware datetime: pass tzinfo=timezone.utc")
        self._time = VirtualTime(start.astimezone(timezone.utc))
        self._clients: list[Client] = []
        self._server = _Server(Manners(frozenset(self._api_keys)), self._time)

    def client(self, api_key: str | Callable[[], str] | None = None, **settings: Any) -> Client:
        """A client of this simulator, not started; kept alive, and closed in the end, by the simulator.

        Args:
            api_key: as for `Client`; None: the simulator's own.
            settings: the other arguments of `Client`; those about the network (`proxy`, `ssl_context`, `headers`,
                `send_timeout`) change nothing here.

        Raises:
            ConfigurationError, TypeError: as `Client`; also for `url`, which is the simulator's.
        """
        if "url" in settings:
            raise ConfigurationError("VirtualSimulator.client() takes no url: its clients have no other server")
        model = Client(self.api_key if api_key is None else api_key, url=_URL, **settings)
        clock = SleeperClock(self._time)
        client = Client._over(model._settings, self._server.line, clock, lambda: 1.0)  # noqa: SLF001 - made for this
        self._time.admit(clock, client._loop)  # noqa: SLF001 - likewise
        self._clients.append(client)
        return client

    def close_clients(self) -> None:
        """Close all clients; leaving a ``with`` block does it."""
        clients, self._clients = self._clients, []
        for client in clients:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close_clients()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.now:%Y-%m-%d %H:%M:%S}, clients: {len(self._clients)}>"

    # --- Time

    @property
    def now(self) -> datetime:
        """The virtual time, aware, UTC."""
        return self._time.moment.wall

    def advance(self, seconds: float) -> None:
        """Let time pass, with a stop at every moment at which a client has something to do.

        Args:
            seconds: 0 just lets the clients do what there is to do now.

        Raises:
            ValueError: negative or not finite.
            TimeoutError: a client does not come to rest, since a callback does not return.
            RuntimeError: called in a callback.
        """
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"advance() takes seconds, 0 or more and finite, got {seconds!r}")
        self._time.advance(seconds)

    # --- What the server has seen

    @property
    def api_key(self) -> str:
        """The first of the accepted keys."""
        return self._api_keys[0]

    @property
    def received(self) -> list[dict[str, Any]]:
        """Every JSON object the clients sent, in order over all connections; a snapshot."""
        return self._settled().journal.received

    @property
    def history(self) -> tuple[tuple[dict[str, Any], ...], ...]:
        """What `received` has, in a list for each connection; a snapshot."""
        return self._settled().journal.history

    @property
    def violations(self) -> list[str]:
        """What clients sent that the vendor's page does not allow, in words; a snapshot."""
        return self._settled().journal.violations

    @property
    def connections(self) -> int:
        """How many connections are live."""
        return self._settled().journal.connections

    @property
    def subscriptions(self) -> frozenset[Channel]:
        """The channels that live connections are subscribed to."""
        return self._settled().journal.subscriptions

    # --- What it says, and how it misbehaves

    def publish(self, message: dict[str, Any]) -> int:
        """Send a data message to the connections that are subscribed to its channel; see `Simulator.publish`.

        Returns:
            How many connections that were.
        """
        wanted = audience(message)
        data = to_json(message)
        note_misfit(data)
        return self._say(data, wanted)

    def send_raw(self, data: str | bytes) -> int:
        """Send one frame as it is, text or binary, to every connection; return how many.

        Raises:
            TypeError: neither text nor bytes.
            ValueError: text that is no Unicode.
        """
        check_frame(data)
        return self._say(data, everybody)

    def send_error(self, message: str, code: int | str | None = None) -> int:
        """Send an ``error`` with this message, and a code unless it is None, to every connection; return how many."""
        return self._say(to_json(error_message(message, code)), everybody)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close every connection, with this code and reason.

        Raises:
            ValueError: the code or the reason cannot be sent.
        """
        check_close(code, reason)
        self._settled().close(code, reason)
        self._time.settle()

    def reset(self) -> None:
        """Cut every connection, without a close frame."""
        self._settled().cut()
        self._time.settle()

    def refuse(self, on: bool = True) -> None:
        """Refuse new connections; existing ones stay."""
        self._settled().refusing = on

    def mute_pongs(self, on: bool = True) -> None:
        """Hold pongs back; when this is switched off, those that connections wait for are sent."""
        self._settled().mute_pongs(on)
        self._time.settle()

    def reject_auth(self, message: str | None = "invalid API key", code: int | str | None = None) -> None:
        """Answer every ``auth`` from now on with an ``error``, whatever the key; None: judge by the key again."""
        self._settled().manners.refusal = None if message is None else error_message(message, code)

    def _say(self, data: str | bytes, wanted: Callable[[Conversation], bool]) -> int:
        count = self._settled().say(data, wanted)
        self._time.settle()
        return count

    def _settled(self) -> _Server:
        self._time.settle()
        return self._server


class _Server:
    """The far end of all lines."""

    def __init__(self, manners: Manners, shared: VirtualTime) -> None:
        self.manners = manners
        self.journal = Journal()
        self.refusing = False
        self._time = shared
        self._lines: list[Line] = []

    def line(self, _settings: object, redact: Callable[[str], str]) -> Line:
        """A new line, unopened: the clients' transport factory."""
        return Line(self, redact)

    def connect(self, line: Line) -> Conversation | None:
        """A client calls."""
        if self.refusing:
            return None
        self._lines.append(line)
        return self.journal.begin()

    def hear(self, line: Line, frame: str) -> None:
        """A client said something: answer."""
        reply = self.journal.hear(line.conversation, frame, self.manners, self._time.moment.wall).reply
        if reply is not None:
            line.say(to_json(reply))

    def hung_up(self, line: Line) -> None:
        """A client left."""
        self._forget(line)

    def say(self, data: str | bytes, wanted: Callable[[Conversation], bool]) -> int:
        """Say something to some of them."""
        lines = [line for line in self._lines if wanted(line.conversation)]
        for line in lines:
            line.say(data)
        return len(lines)

    def mute_pongs(self, on: bool) -> None:
        """Answer no pings, or answer them again, those that waited first."""
        self.manners.pongs = not on
        for line in () if on else self._lines:
            for pong in line.conversation.answer_withheld(self._time.moment.wall):
                line.say(to_json(pong))

    def close(self, code: int | None, reason: str) -> None:
        """Say goodbye to all."""
        for line in list(self._lines):
            how = "without a code" if code is None else f"with code {code}"
            told = line.redact(reason)
            text = f"the server closed the connection {how}" + (f": {told}" if told else "")
            self._end(line, ConnectionLost(text, 1005 if code is None else code, told))

    def cut(self) -> None:
        """Leave all without a word."""
        for line in list(self._lines):
            self._end(line, ConnectionLost("the connection broke: reset by the virtual simulator"))

    def _end(self, line: Line, loss: ConnectionLost) -> None:
        self._forget(line)
        line.hang_up(loss)

    def _forget(self, line: Line) -> None:
        if line in self._lines:
            self._lines.remove(line)
        self.journal.end(line.conversation)
