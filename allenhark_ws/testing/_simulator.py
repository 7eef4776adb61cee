"""`Simulator`: the handle by which a test starts the server, looks at it, and makes it misbehave.

Neighbours: `_thread` carries what happens in `_server`; `_journal` is what both sides share.  It must never touch a
connection itself: those belong to the simulator's thread.
"""

from __future__ import annotations

import math
import ssl
import threading
from collections.abc import Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Final, TypeVar

from .. import Channel, ConfigurationError
from .._hints import Self
from ._conversation import Manners, error_message, to_json
from ._feed import Feed
from ._journal import Journal
from ._requests import audience, check_frame, checked_keys, everybody, note_misfit
from ._server import PATH, Listener, Server, check_close
from ._thread import LoopThread

__all__ = ["Simulator"]

_T = TypeVar("_T")

_ANSWER_TIMEOUT: Final = 10.0
"""Seconds to wait for the server's thread; every operation takes milliseconds, `stop` up to two seconds."""


class Simulator:
    """A WebSocket server on loopback that speaks the vendor's protocol, for tests without the real one.

    It accepts a known key silently, answers pings with pongs, keeps each connection's subscriptions, and answers
    nothing else, as the vendor's page documents nothing else.  An unknown key is answered with
    ``{"type": "error", "message": "invalid API key"}``; such a connection stays open and gets no pongs.  What the page
    does not allow is noted in `violations` and has no effect.

    Use it as a context manager, or call `start` and `stop`.  All members may be used from any thread; what changes the
    server has taken effect when the call returns.  Faults last until they are switched off or the simulator is stopped.
    A stopped one can be started again: it keeps its port and its record.

    Args:
        api_keys: the keys to accept.
        tls: serve ``wss://`` with a certificate of a throw-away authority; `ssl_context` trusts it.
        port: the port on 127.0.0.1; 0: a free one.
        feed: generate a live market for the channels subscribed to, a few messages per second each.
        seed: of the market; the same seed gives the same prices, trades and signatures.

    Raises:
        ConfigurationError: an argument cannot be used.
        ImportError: `tls` is asked for and the package trustme is missing.

    Example:
        >>> with Simulator() as simulator, Client(simulator.api_key, url=simulator.url) as client:
        ...     subscription = client.subscribe(Price("M"))
        ...     simulator.wait_for(lambda: simulator.subscriptions)
        frozenset({Price(mint='M')})
    """

    def __init__(
        self,
        api_keys: Collection[str] = ("test-key",),
        *,
        tls: bool = False,
        port: int = 0,
        feed: bool = False,
        seed: int = 0,
    ) -> None:
        self._api_keys = checked_keys(api_keys)
        self._port = _checked_port(port)
        self._feed = Feed(seed) if feed else None
        self._server_tls: ssl.SSLContext | None = None
        self._client_tls: ssl.SSLContext | None = None
        if tls:
            self._server_tls, self._client_tls = _tls_contexts()
        self._journal = Journal()
        self._lock = threading.RLock()
        self._running: tuple[LoopThread, Server] | None = None

    def start(self) -> Self:
        """Begin to serve, and return the simulator; does nothing when it runs already.

        Raises:
            OSError: the port is taken.
        """
        with self._lock:
            if self._running is not None:
                return self
            listener = Listener(self._port)
            try:
                self._launch(listener)
            except BaseException:
                self.stop()
                listener.close()
                raise
        return self

    def _launch(self, listener: Listener) -> None:
        self._port = listener.getsockname()[1]
        server = Server(listener, Manners(frozenset(self._api_keys)), self._journal, self._feed)
        thread = LoopThread(f"allenhark simulator on port {self._port}")
        self._running = thread, server
        thread.call(server.open(self._server_tls), _ANSWER_TIMEOUT)

    def stop(self) -> None:
        """Close all connections (1001), the port and the thread, within seconds; does nothing when it does not run."""
        with self._lock:
            if self._running is None:
                return
            thread, server = self._running
            self._running = None
            try:
                thread.call(server.shut(), _ANSWER_TIMEOUT)
            finally:
                thread.stop(_ANSWER_TIMEOUT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        scheme = "ws" if self._server_tls is None else "wss"
        place = f"port {self._port}" if self._running else "stopped"
        return f"<{type(self).__name__} {scheme} {place}, connections: {self.connections}>"

    @property
    def url(self) -> str:
        """Where to connect to.

        Raises:
            RuntimeError: not started yet, and the port is to be chosen then.
        """
        if not self._port:
            raise RuntimeError(f"the simulator has no port yet: {_HOW_TO_START}")
        origin = "ws://127.0.0.1" if self._server_tls is None else "wss://localhost"
        return f"{origin}:{self._port}{PATH}"

    @property
    def api_key(self) -> str:
        """The first of the accepted keys."""
        return self._api_keys[0]

    @property
    def ssl_context(self) -> ssl.SSLContext | None:
        """A client context that trusts this simulator and nobody else; None without `tls`."""
        return self._client_tls

    @property
    def received(self) -> list[dict[str, Any]]:
        """Every JSON object the clients sent, ``auth`` included, in order over all connections; a snapshot."""
        return self._journal.received

    @property
    def history(self) -> tuple[tuple[dict[str, Any], ...], ...]:
        """What `received` has, in a list for each connection, in order of accept; a snapshot."""
        return self._journal.history

    @property
    def violations(self) -> list[str]:
        """What clients sent that the vendor's page does not allow, in words; a snapshot, empty for a good client."""
        return self._journal.violations

    @property
    def connections(self) -> int:
        """How many connections are live: upgraded, authenticated or not, and neither closing nor lost."""
        return self._journal.connections

    @property
    def subscriptions(self) -> frozenset[Channel]:
        """The channels that live connections are subscribed to."""
        return self._journal.subscriptions

    def wait_for(self, predicate: Callable[[], _T], timeout: float = 5.0) -> _T:
        """Wait until the predicate gives something true, and return that.

        It is called at once, after every change in the simulator, and every 20 ms, since it may look at the client.

        Args:
            predicate: takes nothing; what it raises is raised here.
            timeout: seconds.

        Raises:
            TimeoutError: not true in time; the text tells what the simulator has seen.
        """
        return self._journal.wait_for(predicate, timeout)

    def publish(self, message: dict[str, Any]) -> int:
        """Send a data message to the connections that are subscribed to its channel.

        A ``bot_update`` goes by its ``botId``, a ``price_update`` by its ``mint``, a ``transaction_confirmed`` by its
        ``wallet`` or, as it has none on the vendor's page, to all with any ``transactions`` subscription.

        A message that a client will take for an `InvalidMessage`, since a field is missing or mistyped, is sent as it
        is, and a warning of the logger ``allenhark_ws.testing`` says why; likewise a trade whose data is none.

        Returns:
            How many connections that were.

        Raises:
            ValueError: any other message, one without that key, or a value that JSON cannot hold; see `send_raw`.
            TypeError: a value that JSON cannot hold.
            RuntimeError: the simulator is not started.

        Example:
            >>> subscription = client.subscribe(Transactions("W"))
            >>> seconds = client.flush()
            >>> simulator.publish({"type": "transaction_confirmed", "signature": "S", "status": "confirmed", "slot": 1})
            1
        """
        wanted = audience(message)
        data = to_json(message)
        note_misfit(data)
        return self._run(lambda server: server.send(data, wanted))

    def send_raw(self, data: str | bytes) -> int:
        """Send one frame as it is to every open connection, authenticated or not.

        Args:
            data: text for a text frame, bytes for a binary one.

        Returns:
            How many connections that were.

        Raises:
            TypeError: neither text nor bytes.
            ValueError: text that is no Unicode, such as half a surrogate pair.
            RuntimeError: the simulator is not started.
        """
        check_frame(data)
        return self._run(lambda server: server.send(data, everybody))

    def send_error(self, message: str, code: int | str | None = None) -> int:
        """Send an ``error`` with this message, and a code unless it is None, to every open connection; return how many.

        Raises:
            RuntimeError: the simulator is not started.
        """
        return self.send_raw(to_json(error_message(message, code)))

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a close frame to every open connection; messages still delayed are lost.

        Args:
            code: a code that may be sent (RFC 6455, section 7.4), or None for a close frame without one.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: the code or the reason cannot be sent.
            RuntimeError: the simulator is not started.
        """
        check_close(code, reason)
        self._run(lambda server: server.close(code, reason))

    def reset(self) -> None:
        """Cut every connection with a TCP RST, without a close frame or a TLS farewell.

        Raises:
            RuntimeError: the simulator is not started.
        """
        self._run(lambda server: server.reset())

    def refuse(self, on: bool = True) -> None:
        """Cut new connections as soon as TCP has accepted them, before TLS and upgrade; existing ones stay.

        Raises:
            RuntimeError: the simulator is not started.
        """
        self._run(lambda server: server.refuse(on))

    def mute_pongs(self, on: bool = True) -> None:
        """Hold pongs back; when this is switched off, those that open connections wait for are sent.

        A client counts pongs, since they carry no id: one that never came would be missing for the connection's life.

        Raises:
            RuntimeError: the simulator is not started.
        """
        self._run(lambda server: server.mute_pongs(on))

    def reject_auth(self, message: str | None = "invalid API key", code: int | str | None = None) -> None:
        """Answer every ``auth`` from now on with an ``error``, whatever the key.

        Args:
            message: the error's message; None: judge by the key again.
            code: the error's code; None: it has none.

        Raises:
            RuntimeError: the simulator is not started.
        """
        refusal = None if message is None else error_message(message, code)
        self._run(lambda server: server.reject_auth(refusal))

    def stall(self, on: bool = True) -> None:
        """Stop reading from every connection, new ones' upgrade requests included; off reads on where it stopped.

        Raises:
            RuntimeError: the simulator is not started.
        """
        self._run(lambda server: server.stall(on))

    def delay(self, seconds: float) -> None:
        """Send every message, pongs and errors included, so much later, in order.

        Args:
            seconds: 0 switches it off and sends at once what is on its way.

        Raises:
            ValueError: negative or not finite.
            RuntimeError: the simulator is not started.
        """
        if not math.isfinite(seconds) or seconds < 0:
            raise ValueError(f"delay() takes seconds, 0 or more and finite, got {seconds!r}")
        self._run(lambda server: server.delay(seconds))

    def _run(self, action: Callable[[Server], Coroutine[Any, Any, _T]]) -> _T:
        """Do something on the server's thread, one thing at a time, and have waiters look again."""
        with self._lock:
            if self._running is None:
                raise RuntimeError(f"the simulator is not started: {_HOW_TO_START}")
            thread, server = self._running
            result = thread.call(action(server), _ANSWER_TIMEOUT)
        self._journal.touch()
        return result


_HOW_TO_START: Final = "use it in a with statement, or call start()"


def _checked_port(port: object) -> int:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65535:
        raise ConfigurationError(f"Simulator(port=…) takes 0 (any free one) or a port up to 65535, got {port!r}")
    return port


def _tls_contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server context with a certificate for this machine's loopback names, and a client context that trusts it."""
    try:
        import trustme  # noqa: PLC0415 - only for tls=True
    except ImportError as error:
        raise ImportError(
            'Simulator(tls=True) needs the package trustme: pip install "allenhark-ws[testing]"', name="trustme"
        ) from error
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate: Any = authority.issue_cert("localhost", "127.0.0.1", "::1")
    certificate.configure_cert(server)
    client = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
    return server, client
