"""`Client` and `Subscription`: the public verbs, and the wiring of the rooms behind them.

There are no rules here: what a verb means is decided in `_session` (protocol), `_router` (who wants and gets what) and
`_queue` (overflow).  Neighbours: `_loop` has the threads, `streams` the queues that users read.  The client is the one
that holds everything; the threads must never hold it.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import sys
import time
import weakref
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, overload

from ._codec import Codec
from ._counters import Counters
from ._hints import Later, Self
from ._loop import FlushTicket, Loop, abandoned, orphaned
from ._network import load_real_transport, real_transport
from ._places import Callback
from ._ports import Clock, TransportFactory
from ._process import is_exiting
from ._queue import EventQueue
from ._redact import Redactor
from ._router import Router
from ._routes import Kind, check_callable, check_callback, check_kind, is_channel
from ._session import Session
from ._typing import E2, E3, Binding, Bringing, Registering
from .channels import Channel
from .config import Backoff, Secret, Settings, key_from_environment, url_from_environment
from .errors import AllenHarkError, ClientClosed, ConnectTimeout, FlushTimeout, RequestRejected, raise_again
from .events import DataEvent, Event
from .state import State
from .stats import Stats
from .streams import Stream

if TYPE_CHECKING:
    import ssl

    from . import notebook, recording
else:
    notebook, recording, ssl = Later("allenhark_ws.notebook"), Later("allenhark_ws.recording"), Later("ssl")

__all__ = ["Client", "Subscription"]

Overflow = Literal["drop_oldest", "drop_newest", "latest", "block", "error"]
E = TypeVar("E", bound=Event)
D = TypeVar("D", bound=DataEvent)
R = TypeVar("R")

_CLOSE_TIMEOUT: Final = 5.0
_HASTY_CLOSE: Final = 0.5
"""Seconds that an orderly close may take when the user wants out, as after Ctrl-C."""

_LONGEST_WAIT: Final = 4_000_000.0
"""Seconds, six weeks: what a lock can wait for is limited (`threading.TIMEOUT_MAX`, least on Windows)."""

_numbers = itertools.count(1)


def _seconds(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} takes seconds as a number, got {type(value).__name__}")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value!r}")
    return float(min(value, _LONGEST_WAIT))


def _channels(channels: tuple[object, ...], verb: str) -> tuple[Channel, ...]:
    if not channels:
        raise TypeError(f"{verb}() needs at least one channel, for example Price(mint)")
    for channel in channels:
        if not is_channel(channel):
            what = f"the class {channel.__name__}" if isinstance(channel, type) else type(channel).__name__
            if verb == "subscribe" and what in ("function", "method"):
                what += ": pass it as callback=…"
            raise TypeError(f"{verb}() takes Bot(…), Price(…) or Transactions(…), got {what}")
    return cast("tuple[Channel, ...]", channels)


class Subscription:
    """The handle of one `Client.subscribe`; `close()`, or leaving a ``with`` block, undoes it.

    A handle that is simply dropped stays subscribed: it holds nothing open but its client.  In IPython one is closed
    when its variable holds another after a cell.

    Example:
        >>> with client.subscribe(Price("M")):
        ...     client.subscriptions
        frozenset({Price(mint='M')})
        >>> client.subscriptions
        frozenset()
    """

    def __init__(self, client: Client, holder: Hashable, channels: tuple[Channel, ...]) -> None:
        self.client = client
        """The client that it belongs to, which it holds."""
        self._holder = holder
        self.channels = channels
        """The channels it was made for, in order."""

    def close(self) -> None:
        """Let go of the channels and of the callback; idempotent, from any thread, in any state."""
        self.client._release(self._holder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Subscription {', '.join(map(repr, self.channels))}>"

    def _repr_html_(self) -> str:
        from ._html import subscription_html  # noqa: PLC0415 - loaded when a notebook asks

        return subscription_html(self)


class Client:
    """A live connection to AllenHark's WebSocket API that keeps itself alive; safe to use from any thread.

    Example:
        >>> with Client() as client, client.stream(Price("M")) as prices:
        ...     prices.get(timeout=5).mint
        'M'

    What it can be asked for, in the order in which one comes to need it::

        connect, start, run_forever, with       begin
        subscribe, on, stream                   get events: called back, or from a queue
        latest, flush                           the last event; whether the server has processed what was sent
        state, error, subscriptions, stats      how it stands
        unsubscribe, off                        get no more of them
        record, watch                           a file of all that comes; a live table in a notebook
        reconnect, close                        a new connection; the end

    Args:
        api_key: the key, or a callable without arguments that gives it, asked anew for every connection, within a
            `connect_timeout` of its own.  None: the environment's ``ALLENHARK_API_KEY``.
        url: the endpoint, ``wss://`` (``ws://`` on loopback only).  None: ``ALLENHARK_WS_URL``, else the vendor's.
        heartbeat_interval: seconds between pings; the vendor's page says 30.
        pong_timeout: seconds after a ping in which anything must arrive, or the connection is dropped and retried.
        connect_timeout: seconds for one attempt to open a connection, over DNS, TCP, proxy, TLS and upgrade together.
        send_timeout: seconds in which what is sent must leave this machine.
        backoff: how long to wait between attempts; see `Backoff`.
        decimal: prices, volumes and profits are exact `Decimal` instead of `float`.
        callback_buffer: events queued for the callback thread at most.
        callback_overflow: what happens when more come; the values of `stream`'s `overflow`.
        inline_callbacks: run callbacks on the background thread: lowest latency, and a slow one delays everything.
        max_send_rate: messages sent per second at most; None: no limit.  Heartbeats do not wait for it.
        ssl_context: an `ssl.SSLContext` to verify the server with; None: the system's certificates.
        proxy: a URL (``http://``, ``socks5h://``…), None for the environment's, False for none.
        headers: further HTTP headers for the upgrade.
        max_message_size: bytes of the largest message accepted (RFC 6455, 10.4); a larger one ends it with 1009.
        allow_insecure: allow ``ws://`` to other hosts, the key in clear.

    Raises:
        ConfigurationError: an argument cannot be used; the text says what to pass.
    """

    def __init__(  # noqa: PLR0913 - every setting is an argument of its own
        self,
        api_key: str | Callable[[], str] | Secret | None = None,
        *,
        url: str | None = None,
        heartbeat_interval: float = 30.0,
        pong_timeout: float = 10.0,
        connect_timeout: float = 10.0,
        send_timeout: float = 10.0,
        backoff: Backoff = Backoff(),  # noqa: B008 - frozen
        decimal: bool = False,
        callback_buffer: int = 10_000,
        callback_overflow: Overflow = "drop_oldest",
        inline_callbacks: bool = False,
        max_send_rate: float | None = None,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | Literal[False] | None = None,
        headers: Mapping[str, str] | None = None,
        max_message_size: int = 1_048_576,
        allow_insecure: bool = False,
    ) -> None:
        # Wrapped before anything can raise: a traceback's locals must not show the key.
        api_key = key_from_environment() if api_key is None else Secret.wrap(api_key)
        settings = Settings(
            api_key=api_key,
            url=url_from_environment() if url is None else url,
            heartbeat_interval=heartbeat_interval,
            pong_timeout=pong_timeout,
            connect_timeout=connect_timeout,
            send_timeout=send_timeout,
            backoff=backoff,
            decimal=decimal,
            callback_buffer=callback_buffer,
            callback_overflow=callback_overflow,
            inline_callbacks=inline_callbacks,
            max_send_rate=max_send_rate,
            ssl_context=ssl_context,
            proxy=proxy,
            headers=headers,
            max_message_size=max_message_size,
            allow_insecure=allow_insecure,
        )
        self._wire(settings, real_transport, Clock(), random.random)
        self._loop.load = load_real_transport

    _last_patience = _CLOSE_TIMEOUT
    """Seconds that `run_forever` leaves the callbacks, once the client has ended, for what is still queued."""

    @classmethod
    def _over(
        cls, settings: Settings, connect: TransportFactory, clock: Clock, draw: Callable[[], float] = random.random
    ) -> Self:
        """A client over another transport and clock: for tests, and whatever else is no live server."""
        client = cls.__new__(cls)
        cls._wire(client, settings, connect, clock, draw)
        return client

    def _wire(
        self,
        settings: Settings,
        connect: TransportFactory,
        clock: Clock,
        draw: Callable[[], float],
        make_session: Callable[[Settings, Counters, Callable[[], float]], Session] = Session,
    ) -> None:
        """Put the rooms together."""
        self._settings = settings
        self._counters = counters = Counters()
        redactor = Redactor()
        codec = Codec(decimal=settings.decimal, redact=redactor)
        session = make_session(settings, counters, draw)
        name = str(next(_numbers))
        self._loop = loop = Loop(name, settings, session, codec, counters, redactor, connect, clock)
        self._router = Router(counters, loop.sink, loop)
        loop.attach(self._router)
        self._streams = itertools.count(1)
        self._finalizer = weakref.finalize(self, abandoned, weakref.ref(loop), f"Client for {self._where()}")
        self._finalizer.atexit = False
        if sys.modules.get("IPython") is not None:
            from .notebook import mind_cells  # noqa: PLC0415 - for a program that runs in IPython

            mind_cells(self, Client, Subscription)

    def _where(self) -> str:
        """The endpoint without its query, which could hold anything."""
        return self._settings.url.partition("?")[0]

    # --- Life

    def start(self) -> Self:
        """Begin connecting in the background; nothing when begun already.

        The first start of a process loads TLS and websocket-client, here and not in the background: whoever forks
        afterwards must not do so in the middle of an import, which the child would wait for without end.

        Returns:
            The client.

        Raises:
            ClientClosed, or the terminal error: the client has ended.

        Example:
            >>> client = Client().start()
            >>> stream = client.stream(Price("M"))  # in any state
            >>> stream.get(timeout=5).mint
            'M'
            >>> client.close()
        """
        self._start()
        return self

    def _start(self) -> bool:
        """Whether it was this call that started the threads."""
        self._check_open()
        if is_exiting():
            raise ClientClosed("the interpreter is exiting, so no thread can be started")
        try:
            return self._loop.start()
        except (RuntimeError, OSError) as error:
            raise ClientClosed("this process can start no more threads or open no more files") from error

    def connect(self, timeout: float | None = None) -> Self:
        """Connect and wait until READY: the key was accepted.

        Args:
            timeout: seconds to wait, retries included; None: `connect_timeout`.

        Returns:
            The client.

        Raises:
            ConnectTimeout: not READY in time; the client is closed, the last failure is the cause.
            AuthenticationError, CertificateRejected: retrying is pointless; the client is closed.
            ConnectionFailed: `Backoff.max_attempts` attempts failed; the client is closed.
            ClientClosed: the client was closed, before or meanwhile.
            ConfigurationError: the ``api_key`` callable gave no key; the client is closed.
            RuntimeError: called in an inline callback, where waiting would wait for itself.
            TypeError, ValueError: the timeout is no number of seconds, or negative.

        Example:
            >>> client = Client().connect(timeout=30)
            >>> client.state
            <State.READY: 'ready'>
            >>> client.close()
        """
        patience = self._settings.connect_timeout if timeout is None else _seconds(timeout, "connect(timeout=…)")
        self._check_may_wait("connect")
        deadline = time.monotonic() + patience
        loop, seen = self._loop, self._loop.readies
        self.start()
        if not loop.wait_for(lambda: loop.state is State.READY or loop.readies > seen, deadline):
            self._give_up(patience)
        self._check_open()
        return self

    def _give_up(self, patience: float) -> None:
        """End the client with `ConnectTimeout`, or with the terminal error that came first."""
        last = self._loop.last_failure
        reason = getattr(last, "reason", str(last))
        error = ConnectTimeout(reason, attempts=self._counters.attempts or None, timeout=patience)
        error.__cause__ = last
        deadline = time.monotonic() + _HASTY_CLOSE
        self._loop.request_close(deadline, error)
        self._loop.wait_for_end(deadline)
        raise_again(self.error or error)

    def run_forever(self) -> None:
        """Start, and block until the client is closed.  Ctrl-C closes it and is raised again.

        Raises:
            AllenHarkError: the terminal error, if the client ended with one.
            ClientClosed: the client had been closed before.
            RuntimeError: called in a callback.

        Example:
            >>> client = Client()
            >>> @client.on(Connected)
            ... def leave(event):
            ...     client.close()
            >>> client.run_forever()
        """
        self._check_may_wait("run_forever")
        if self._loop.callbacks is not None and self._loop.callbacks.runs_here():
            raise RuntimeError("run_forever() must not be called in a callback: callbacks would wait for themselves")
        try:
            self.start()
            self._loop.wait_for_end(None)
            self._loop.join(time.monotonic() + self._last_patience)
        except KeyboardInterrupt:
            self.close(_HASTY_CLOSE)
            raise
        if self.error is not None:
            raise_again(self.error)

    def close(self, timeout: float = _CLOSE_TIMEOUT) -> None:
        """End for good: from any thread and any state, callbacks included, any number of times.

        It interrupts what is under way, delivers what is queued for callbacks, says goodbye and stops the threads.  It
        never raises for what the network does.  In a signal handler that has interrupted a call on this client, just
        where the end has to wait for that, it only begins it.

        Args:
            timeout: seconds it may take at most; callbacks not delivered by then are dropped, except `Closed`.

        Raises:
            TypeError, ValueError: the timeout is no number of seconds, or negative.

        Example:
            >>> client.close()
            >>> client.state
            <State.CLOSED: 'closed'>
        """
        deadline = time.monotonic() + _seconds(timeout, "close(timeout=…)")
        if self._loop.forked:
            return
        if not self._loop.close_unstarted():
            self._loop.request_close(deadline)
        self._loop.join(deadline)

    def __enter__(self) -> Self:
        """As `connect`."""
        try:
            return self.connect()
        except BaseException:
            self.close(_HASTY_CLOSE)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As `close`; within half a second after Ctrl-C."""
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        self.close(_HASTY_CLOSE if interrupted else _CLOSE_TIMEOUT)

    def reconnect(self) -> None:
        """Drop the connection and come back at once; in BACKOFF, stop waiting; in IDLE, start.

        It is a loss like any other: `Disconnected`, `Connected` and `Gap` tell of it.

        Raises:
            ClientClosed, or the terminal error: the client has ended.

        Example:
            >>> connections = client.stream(Connected)
            >>> client.reconnect()
            >>> connections.get(timeout=5).attempt
            1
        """
        if not self._start():
            self._loop.reconnect()

    # --- What is wanted

    @overload
    def subscribe(
        self, first: Bringing[E], second: Bringing[E2], /, *, callback: Callable[[E | E2], object]
    ) -> Subscription: ...

    @overload
    def subscribe(self, *channels: Bringing[E], callback: Callable[[E], object] | None = None) -> Subscription: ...

    def subscribe(self, *channels: object, callback: Callback | None = None) -> Subscription:
        """Subscribe to channels, now and after every reconnect, until the handle is closed.

        Args:
            channels: `Bot`, `Price` or `Transactions`; one wanted by others too is subscribed once on the wire.
            callback: called with the events of these channels, and no others.

        Returns:
            The handle; closing it undoes this call, dropping it does not.

        Raises:
            TypeError: no channel was given, something else than channels, or a callback that is no plain function.
            ClientClosed, or the terminal error: the client has ended.

        Example:
            >>> prices = []
            >>> subscription = client.subscribe(Price("M"), callback=prices.append)
            >>> simulator.wait_for(lambda: prices)[0].mint
            'M'
            >>> subscription.close()
        """
        chosen = _channels(channels, "subscribe")
        if callback is not None:
            check_callback(callback)
        self._check_open()
        holder = object()
        try:
            if callback is not None:
                self._router.add_callback(holder, chosen, callback)
            self._router.hold(holder, chosen)
            return Subscription(self, holder, chosen)
        except BaseException:  # Ctrl-C: nobody will have a handle
            self._release(holder)
            raise

    def unsubscribe(self, *channels: Channel) -> None:
        """Drop channels, whatever handles and streams want them; nothing when nobody does.

        Raises:
            TypeError: no channel was given, or something else than channels.
            ClientClosed: this process was forked from the client's.

        Example:
            >>> client.subscribe(Price("M"), Bot("bot_abc123"))
            <Subscription Price(mint='M'), Bot(bot_id='bot_abc123')>
            >>> client.unsubscribe(Price("M"))
            >>> client.subscriptions
            frozenset({Bot(bot_id='bot_abc123')})
        """
        chosen = _channels(channels, "unsubscribe")
        self._check_process()
        self._router.unsubscribe(chosen)

    @overload
    def on(self, kind: type[E] | Bringing[E], callback: None = None) -> Registering[E]: ...

    @overload
    def on(self, kind: type[E] | Bringing[E], callback: Callable[[E], R]) -> Callable[[E], R]: ...

    @overload
    def on(self, kind: type[E] | Bringing[E], callback: Binding[E, R]) -> Callable[[E], R]: ...

    def on(self, kind: object, callback: Any = None) -> Any:
        """Call back with every event of a kind; a plain call, or a decorator.

        A callback registered for several kinds that an event matches is called once for it.

        Args:
            kind: an event class, which matches its children too, or a channel, which this does not subscribe and which
                matches its data events (a `ServerError` about it comes to those who ask for server events).
            callback: called with the event, on the callback thread.

        Returns:
            The callback; without one, a decorator.

        Raises:
            TypeError: the kind is neither a channel nor an event class of this package, or the callback is no plain
                function.
            ClientClosed: this process was forked from the client's.

        Example:
            >>> gaps = []
            >>> @client.on(Gap)
            ... def remember(gap):
            ...     gaps.append(gap)
            >>> client.reconnect()
            >>> simulator.wait_for(lambda: len(gaps))
            1
        """
        chosen = check_kind(kind)
        self._check_process()

        def register(function: Callback) -> Callback:
            check_callback(function)
            self._check_process()
            self._router.add_callback(object(), (chosen,), function)
            return function

        return register if callback is None else register(callback)

    def off(self, callback: Callback) -> None:
        """Do not call this callback any more, whatever it was registered for; nothing when it was not.

        An event that it is being called with right now it still finishes.

        Raises:
            TypeError: it cannot be called.
            ClientClosed: this process was forked from the client's.

        Example:
            >>> callback = client.on(PriceUpdate, print)
            >>> client.off(print)
        """
        check_callable(callback)
        self._check_process()
        self._router.remove_callbacks(callback)

    @overload
    def stream(self, *, maxsize: int = ..., overflow: Overflow = ...) -> Stream[DataEvent]: ...

    @overload
    def stream(self, kind: type[E] | Bringing[E], /, *, maxsize: int = ..., overflow: Overflow = ...) -> Stream[E]: ...

    @overload
    def stream(
        self,
        first: type[E] | Bringing[E],
        second: type[E2] | Bringing[E2],
        /,
        *,
        maxsize: int = ...,
        overflow: Overflow = ...,
    ) -> Stream[E | E2]: ...

    @overload
    def stream(
        self,
        first: type[E] | Bringing[E],
        second: type[E2] | Bringing[E2],
        third: type[E3] | Bringing[E3],
        /,
        *,
        maxsize: int = ...,
        overflow: Overflow = ...,
    ) -> Stream[E | E2 | E3]: ...

    @overload
    def stream(self, *kinds: type[E] | Bringing[E], maxsize: int = ..., overflow: Overflow = ...) -> Stream[E]: ...

    def stream(self, *kinds: object, maxsize: int = 10_000, overflow: Overflow = "drop_oldest") -> Stream[Any]:
        """A thread-safe queue of the events of channels, subscribed until it is closed, and of event classes.

        Args:
            kinds: `Bot`, `Price`, `Transactions`; event classes, which match their children too.  None: all data.
            maxsize: events queued at most, at least 1.
            overflow: what happens when it is full:

                - ``"drop_oldest"``: the oldest event makes room;
                - ``"drop_newest"``: the new event is lost;
                - ``"latest"``: a price replaces the unread one of its mint, at its place; other events queue as they
                  are; when full, the oldest price goes first, then the oldest event;
                - ``"block"``: nothing is lost: the socket is not read while the stream is full.  Pings go on, liveness
                  is not judged, and every other consumer waits too;
                - ``"error"``: the stream takes no more; what is queued can be read, then `SlowConsumer` is raised.

        Raises:
            TypeError, ValueError: a kind, the size or the policy is not one of those above.
            ClientClosed, or the terminal error: the client has ended.

        Example:
            >>> with client.stream(Price("M"), Gap, maxsize=1_000, overflow="latest") as stream:
            ...     stream.get(timeout=5).mint
            'M'
        """
        asked = tuple(map(check_kind, kinds))
        chosen: tuple[Kind, ...] = asked or (DataEvent,)
        named = [kind for kind in chosen if isinstance(kind, Channel)]
        events = self._make_queue(self._stream_name(asked), maxsize, overflow)
        self._check_open()
        holder = object()
        # Made first: should anything stop this half-way, collecting it lets go of the rest.
        stream: Stream[Any] = Stream(self, events, holder, partial(orphaned, weakref.ref(self._loop)), chosen)
        self._router.add_queue(holder, chosen, events)
        self._router.hold(holder, named)
        return stream

    def _make_queue(self, name: str, maxsize: int, overflow: str) -> EventQueue:
        return self._loop.make_queue(name, maxsize, overflow)

    def _stream_name(self, kinds: tuple[Kind, ...]) -> str:
        told = ", ".join(kind.__name__ if isinstance(kind, type) else repr(kind) for kind in kinds[:3])
        return f"stream-{next(self._streams)}({told}{', …' if len(kinds) > 3 else ''})"

    def _release(self, holder: Hashable) -> None:
        """A handle or a stream lets go of all it held."""
        if not self._loop.forked:
            self._router.remove_callback(holder)
            self._router.release(holder)

    # --- Recording

    def record(
        self,
        path: str | os.PathLike[str],
        *,
        append: bool = False,
        max_bytes: int | None = None,
        interval: float | None = None,
        max_buffer: int = 33_554_432,
    ) -> recording.Recorder:
        """Write every received frame, as received, to a file, with the time it was received; `replay` plays it.

        In any state, before the start too, and over reconnects; it ends with the recorder's `stop()`, on leaving its
        ``with`` block, or with the client.  A thread of its own writes: a process that is killed loses the last second
        at most.  A disk that is too slow costs frames, told by `EventsDropped`; one that fails ends the recording.

        Args:
            path: the file, JSON Lines; compressed by gzip when it ends in ``.gz``.
            append: go on with the file if there is one; what a crash tore off its end is mended.
            max_bytes: begin another file when this one would grow larger: ``day.jsonl``, ``day_0001.jsonl``…; None:
                never.  `recording.series` finds them again.
            interval: likewise when it is so many seconds old.
            max_buffer: bytes that may wait for the disk.

        Returns:
            The recorder.

        Raises:
            FileExistsError: there is such a file, and `append` is not asked for; nothing is ever overwritten.
            OSError: the file cannot be made.
            RecordingError: what is to be appended to is no recording, or is damaged.
            ValueError, TypeError: an argument cannot be used.
            ClientClosed, or the terminal error: the client has ended.

        Example:
            >>> with client.record("day.jsonl.gz") as recorder:
            ...     seconds = client.flush()
            >>> recorder.frames, recorder.lost  # the pong
            (1, 0)
        """
        from .recording import begin  # noqa: PLC0415 - most clients record nothing

        self._check_open()
        loop = self._loop
        if is_exiting():
            raise ClientClosed("the interpreter is exiting, so no thread can be started")
        recorder = begin(path, loop, append=append, max_bytes=max_bytes, interval=interval, max_buffer=max_buffer)
        try:
            recorder.start()
        except RuntimeError as error:
            raise ClientClosed("this process can start no more threads") from error
        loop.add_tap(recorder)
        return recorder

    # --- Questions

    def latest(self, channel: Bringing[D]) -> D | None:
        """The last event of a wanted channel, or None when there was none; works without any consumer.

        Only wanted channels are remembered, from when they are until they are no more: memory stays bounded.

        Raises:
            TypeError: not a channel.
            ClientClosed: this process was forked from the client's.

        Example:
            >>> subscription = client.subscribe(Price("M"))
            >>> simulator.wait_for(lambda: client.latest(Price("M"))).mint
            'M'
        """
        (chosen,) = _channels((channel,), "latest")
        self._check_process()
        return cast("D | None", self._router.latest(chosen))

    def flush(self, timeout: float = 10.0) -> float:
        """Wait until the server has processed everything sent before; waits for READY, over a reconnect too.

        A ping goes out behind what is to be sent; since the server answers in order, its pong is the proof.  The
        vendor's page documents no other reply: none to ``auth`` or ``subscribe``.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Seconds from that ping to its pong.

        Raises:
            FlushTimeout: no pong in time.
            RequestRejected: the server answered errors to what was sent before; they are in `.errors`.
            ClientClosed, or the terminal error: the client has ended, before or meanwhile.
            RuntimeError: called in an inline callback, where the pong could never be read.
            TypeError, ValueError: the timeout is no number of seconds, or negative.

        Example:
            >>> subscription = client.subscribe(Price("M"))
            >>> client.flush(timeout=5) < 5
            True
            >>> simulator.subscriptions
            frozenset({Price(mint='M')})
        """
        patience = _seconds(timeout, "flush(timeout=…)")
        self._check_may_wait("flush")
        self._check_open()
        ticket = FlushTicket()
        self._loop.flush(ticket)
        try:
            self._loop.wait_for(lambda: ticket.flushed is not None, time.monotonic() + patience)
        finally:
            if ticket.flushed is None:
                self._loop.forget_flush(ticket)
        flushed, ticket.flushed = ticket.flushed, None  # each holds the other, and large errors with them
        if flushed is None:
            self._check_open()
            raise FlushTimeout(patience)
        if flushed.errors:
            raise RequestRejected(flushed.errors)
        return flushed.rtt

    @property
    def state(self) -> State:
        """Where the client stands: IDLE, CONNECTING, READY, BACKOFF or CLOSED."""
        return self._loop.state

    @property
    def error(self) -> AllenHarkError | None:
        """The terminal error, once the client has ended with one; else None."""
        return self._loop.error

    @property
    def subscriptions(self) -> frozenset[Channel]:
        """The wanted channels: all that callers asked for and did not give up, whether or not there is a connection."""
        if self._loop.forked:
            return frozenset()
        self._loop.catch_up()
        return self._router.wanted

    @property
    def stats(self) -> Stats:
        """What was counted so far, as a snapshot: messages, bytes, losses, round trips; see `Stats`."""
        queue = self._loop.sink.queue
        return self._counters.snapshot(self.state, callback_backlog=0 if queue is None else len(queue))

    def watch(self, refresh: float = 0.5) -> notebook.Watch:
        """A live table in a Jupyter notebook: prices with their trend, and counters; it does not block the kernel.

        It is shown at once, under the cell, and goes on until its `stop()`, until the client is closed or collected, or
        until this client is watched anew.

        Args:
            refresh: seconds between two updates.

        Raises:
            ImportError: IPython is missing; the text says what to install.
            RuntimeError: there is no notebook to show it in.
            ValueError: `refresh` is below 0.05.
            ClientClosed, or the terminal error: the client has ended.
        """
        from .notebook import watch  # noqa: PLC0415 - IPython is an extra

        seconds = _seconds(refresh, "watch(refresh=…)")
        self._check_open()
        return watch(self, seconds)

    # --- Guards

    def _check_process(self) -> None:
        if self._loop.forked:
            raise ClientClosed("this client belongs to the parent of this forked process")

    def _check_open(self) -> None:
        self._check_process()
        if self._loop.state is State.CLOSED:
            raise_again(self.error or ClientClosed())
        self._loop.catch_up()

    def _check_may_wait(self, verb: str) -> None:
        self._check_process()
        if self._loop.runs_here():
            raise RuntimeError(f"{verb} would wait for itself here: this is the thread that reads the socket")

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a Client cannot be pickled: make one in the process that uses it")

    def __repr__(self) -> str:
        if "_loop" not in self.__dict__:  # shown by a debugger or a traceback, for its arguments were refused
            return "<Client, not made>"
        count = len(self.subscriptions)
        return f"<Client {self._where()} {self.state.name}, {count} channel{'' if count == 1 else 's'}>"

    def _repr_html_(self) -> str | None:
        from ._html import client_html  # noqa: PLC0415 - loaded when a notebook asks

        return client_html(self, self._where()) if "_loop" in self.__dict__ else None
