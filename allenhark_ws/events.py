"""Events: everything a client tells its user, as frozen attrs values.

::

    Event
    ├── DataEvent        PriceUpdate, BotUpdate (its data may be a TradeExecuted), TransactionConfirmed
    ├── ServerEvent      Pong, ServerError, UnknownMessage, InvalidMessage
    └── LifecycleEvent   Connected, Disconnected, Reconnecting, Gap, EventsDropped, SlowCallback, CallbackError, Closed

The fields of data and server events are those of the vendor's page, in Python's spelling.  What came with them, the
frame and the time it was read, hangs on the event as `.raw` and `.received_at`, which take no part in comparison; by
hand an event needs only its documented fields.  Neighbours: `_codec` makes the events off the wire, `_session`,
`_router` and `_dispatch` the lifecycle ones.  It must never touch a socket, a thread or a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from attrs import field, frozen

from ._frozen import FrozenMapping, freeze
from ._hints import Later
from ._json import InvalidJSON, is_object, parse
from ._spelling import SPELLINGS
from .channels import Bot, Channel, Price, Transactions

if TYPE_CHECKING:
    import allenhark_ws
else:
    allenhark_ws = Later("allenhark_ws")

__all__ = [
    "BotUpdate",
    "CallbackError",
    "Closed",
    "Connected",
    "DataEvent",
    "Disconnected",
    "Event",
    "EventsDropped",
    "Gap",
    "InvalidMessage",
    "LifecycleEvent",
    "Pong",
    "PriceUpdate",
    "Reconnecting",
    "ServerError",
    "ServerEvent",
    "SlowCallback",
    "TradeExecuted",
    "TransactionConfirmed",
    "UnknownMessage",
]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@frozen(weakref_slot=False)
class Event:
    """Base of all events; a callback or stream on it gets everything.

    Example:
        >>> everything = client.stream(Event)
        >>> client.reconnect()
        >>> [type(everything.get(timeout=5)).__name__ for _ in range(2)]
        ['Disconnected', 'Reconnecting']
    """

    def _repr_html_(self) -> str:
        from ._html import value_html  # noqa: PLC0415 - loaded when a notebook asks

        return value_html(self)


@frozen(weakref_slot=False)
class _WireEvent(Event):
    """What every event off the wire has beside its documented fields: no part of its identity.

    Attributes:
        raw: the frame's payload as received; None on an event made by hand.
        received_at: when it was read, aware, UTC; None on an event made by hand.
    """

    # Type checkers see the arguments of `field` only where it is called, so there is no helper for these three.
    raw: bytes | None = field(default=None, kw_only=True, eq=False, repr=False)
    received_at: datetime | None = field(default=None, kw_only=True, eq=False, repr=False)

    _declared: ClassVar[frozenset[str]] = frozenset({"type"})

    @property
    def channel(self) -> Channel | None:
        """The channel this event belongs to, or None."""
        return None

    @property
    def extra(self) -> Mapping[str, Any]:
        """The message's undeclared keys, as received; read from `.raw` when asked for, empty without one."""
        message = self._message()
        return MappingProxyType({key: value for key, value in message.items() if key not in self._declared})

    def _message(self) -> Mapping[str, Any]:
        if self.raw is None:
            return _NOTHING
        try:
            message = parse(self.raw)
        except InvalidJSON:
            return _NOTHING
        return message if is_object(message) else _NOTHING


@frozen(weakref_slot=False)
class DataEvent(_WireEvent):
    """Base of the events of subscribed channels.

    Example:
        >>> stream = client.stream(DataEvent)
        >>> subscription = client.subscribe(Price("M"))
        >>> event = stream.get(timeout=5)
        >>> event.channel, event.raw[:7]
        (Price(mint='M'), b'{"type"')
    """


@frozen(weakref_slot=False)
class ServerEvent(_WireEvent):
    """Base of what the server says beside data.

    Example:
        >>> stream = client.stream(ServerEvent)
        >>> simulator.send_error("slow down")
        1
        >>> stream.get(timeout=5).message
        'slow down'
    """


@frozen(weakref_slot=False)
class LifecycleEvent(Event):
    """Base of what the client says about itself.

    Example:
        >>> stream = client.stream(LifecycleEvent)
        >>> client.close()
        >>> list(stream)
        [Closed(error=None)]
    """


def _channel(kind: Callable[[str], Channel], identifier: object) -> Channel | None:
    return kind(identifier) if isinstance(identifier, str) and identifier.strip() else None


@frozen(weakref_slot=False)
class PriceUpdate(DataEvent):
    """The price of a token changed (``price_update``).

    Attributes:
        mint: the token's mint address.
        price: `float`, or `Decimal` with ``Client(decimal=True)``; the vendor's page names no currency.
        volume: like `price`.
        timestamp: the server's time, aware, UTC.

    Example:
        >>> from datetime import datetime, timezone
        >>> event = PriceUpdate("M", price=1.0001, volume=1e6, timestamp=datetime(2024, 1, 15, tzinfo=timezone.utc))
        >>> event.channel
        Price(mint='M')
    """

    mint: str
    price: float | Decimal
    volume: float | Decimal
    timestamp: datetime

    _declared: ClassVar[frozenset[str]] = frozenset({"type", "mint", "price", "volume", "timestamp"})

    @property
    def channel(self) -> Channel | None:
        """`Price` of the mint."""
        return _channel(Price, self.mint)


@frozen(weakref_slot=False)
class TradeExecuted:
    """What a ``trade_executed`` bot update tells.

    Attributes:
        signature: the transaction's signature, base58 text.
        profit: `float`, or `Decimal` with ``Client(decimal=True)``; the vendor's page names no currency.
        timestamp: the server's time, aware, UTC.
        extra: keys of the message's ``data`` that are not declared, as received.

    Example:
        >>> from datetime import datetime, timezone
        >>> trade = TradeExecuted("5VERv8…", profit=0.15, timestamp=datetime(2024, 1, 15, tzinfo=timezone.utc))
        >>> trade.profit
        0.15
    """

    signature: str
    profit: float | Decimal
    timestamp: datetime
    _undeclared: Mapping[str, Any] | None = field(default=None, kw_only=True, eq=False, repr=False)

    @property
    def extra(self) -> Mapping[str, Any]:
        """The undeclared keys of the message's ``data``, as received; a copy, since consumers share the event."""
        return MappingProxyType(deepcopy(dict(self._undeclared))) if self._undeclared else _NOTHING

    def _repr_html_(self) -> str:
        from ._html import value_html  # noqa: PLC0415 - loaded when a notebook asks

        return value_html(self)


def _bot_data(value: Any) -> TradeExecuted | Mapping[str, Any]:
    if isinstance(value, TradeExecuted):
        return value
    if isinstance(value, Mapping):
        frozen_data: FrozenMapping = freeze(value)
        return frozen_data
    raise TypeError(f"BotUpdate(data=…) takes a TradeExecuted or a mapping, got {type(value).__name__}")


@frozen(weakref_slot=False)
class BotUpdate(DataEvent):
    """A trading bot did something (``bot_update``).

    Attributes:
        bot_id: the bot's id.
        event: what happened; ``"trade_executed"`` is the one the vendor's page documents.
        data: `TradeExecuted` for a ``trade_executed`` that fits it, else a read-only, hashable mapping.

    Example:
        >>> event = BotUpdate("bot_abc123", "paused", {"reason": "no funds"})
        >>> event.data["reason"], event.channel
        ('no funds', Bot(bot_id='bot_abc123'))
    """

    bot_id: str
    event: str
    data: TradeExecuted | Mapping[str, Any] = field(converter=_bot_data)

    _declared: ClassVar[frozenset[str]] = frozenset({"type", "botId", "event", "data"})

    @property
    def channel(self) -> Channel | None:
        """`Bot` of the id."""
        return _channel(Bot, self.bot_id)


@frozen(weakref_slot=False)
class TransactionConfirmed(DataEvent):
    """A transaction of a watched wallet was confirmed (``transaction_confirmed``).

    Attributes:
        signature: the transaction's signature, base58 text.
        status: ``"confirmed"`` on the vendor's page; others may exist.
        slot: the Solana slot.
        channel: `Transactions` of the wallet when the message names it or just one wallet is subscribed, else None,
            since the documented message does not say whose transaction it is.  What was on its way while a wallet was
            unsubscribed cannot be told apart: with one wallet left, it is taken for that one's.

    Example:
        >>> TransactionConfirmed("5VERv8…", "confirmed", 250123456, channel=Transactions("W")).channel
        Transactions(wallet='W')
    """

    signature: str
    status: str
    slot: int
    # A frozen field is as read-only as the property that it stands in for; pyright does not see that.
    channel: Transactions | None = field(default=None, kw_only=True, eq=False, repr=False)  # pyright: ignore[reportIncompatibleMethodOverride]

    _declared: ClassVar[frozenset[str]] = frozenset({"type", "signature", "status", "slot"})


@frozen(weakref_slot=False)
class Pong(ServerEvent):
    """The server answered a ping (``pong``).

    Attributes:
        timestamp: the server's time, aware, UTC; None when absent or unreadable.

    Example:
        >>> Pong()
        Pong(timestamp=None)
    """

    timestamp: datetime | None = None

    _declared: ClassVar[frozenset[str]] = frozenset({"type", "timestamp"})


@frozen(weakref_slot=False)
class ServerError(ServerEvent):
    """The server reported an error (``error``, of undocumented shape).

    Attributes:
        message: the text found in ``message``, ``error``, ``error.message`` or ``reason``, its first 65,536 characters
            at most; empty when none was.
        code: what was found in ``code`` or ``error.code``, likewise, or None.
        channel: the channel the error names, or None.
        extra: every key but ``type``, and ``message`` and ``code`` where they are what the attributes hold: a text, and
            a text or a whole number.

    Example:
        >>> ServerError("no such mint", code=404, raw=b'{"type": "error", "mint": "M", "hint": "base58"}').extra["hint"]
        'base58'
    """

    message: str
    code: int | str | None = None

    _held: ClassVar[Mapping[str, tuple[type, ...]]] = {"message": (str,), "code": (str, int)}

    @property
    def extra(self) -> Mapping[str, Any]:
        """What the attributes do not hold, as received; read from `.raw` when asked for, empty without one."""
        message = {key: value for key, value in self._message().items() if key != "type"}
        held = [key for key, types in self._held.items() if type(message.get(key)) in types]
        return MappingProxyType({key: value for key, value in message.items() if key not in held})

    @property
    def channel(self) -> Channel | None:
        """The channel that the error's keys name, in the spelling of a subscribe message."""
        message = self._message()
        name = message.get("channel")
        for kind, spelling in SPELLINGS.items():
            if name in (None, spelling.name) and spelling.key in message:
                return _channel(cast("Callable[[str], Channel]", kind), message[spelling.key])
        return None


@frozen(weakref_slot=False)
class UnknownMessage(ServerEvent):
    """A message of a type the vendor's page does not list; its content is in `.extra` and `.raw`.

    Attributes:
        type: the message's type, its first 65,536 characters at most.

    Example:
        >>> stream = client.stream(UnknownMessage)
        >>> simulator.send_raw('{"type": "news", "title": "maintenance"}')
        1
        >>> stream.get(timeout=5).extra["title"]
        'maintenance'
    """

    type: str


@frozen(weakref_slot=False)
class InvalidMessage(ServerEvent):
    """A frame that is no message: not JSON, not an object, binary, or a known type with fields that do not fit.

    Attributes:
        reason: what does not fit.

    Example:
        >>> stream = client.stream(InvalidMessage)
        >>> simulator.send_raw("[]")
        1
        >>> stream.get(timeout=5).reason
        'expected a JSON object, got an array'
    """

    reason: str

    _declared: ClassVar[frozenset[str]] = frozenset()


@frozen(weakref_slot=False)
class Connected(LifecycleEvent):
    """The client is READY: the key was accepted and the wanted channels are being subscribed.

    Attributes:
        attempt: which try it was since the start or the loss, from 1.
        rtt: seconds from the first ping to its pong.

    Example:
        >>> Connected(attempt=1, rtt=0.02)
        Connected(attempt=1, rtt=0.02)
    """

    attempt: int
    rtt: float


@frozen(weakref_slot=False)
class Disconnected(LifecycleEvent):
    """A READY connection was lost.

    Attributes:
        code: the close code the server sent, 1005 for a close without one, 1006 when no close came (RFC 6455, 7.4.1).
        reason: the server's close reason, the key redacted.
        cause: why, in words.
        will_retry_in: seconds until the next try, or None when there will be none.

    Example:
        >>> losses = client.stream(Disconnected)
        >>> simulator.close(1001, "maintenance")
        >>> loss = losses.get(timeout=5)
        >>> loss.code, loss.reason
        (1001, 'maintenance')
    """

    code: int
    reason: str
    cause: allenhark_ws.ConnectionLost
    will_retry_in: float | None


@frozen(weakref_slot=False)
class Reconnecting(LifecycleEvent):
    """A retry is planned; told before each one, the wait of 0 s included.

    Attributes:
        attempt: the number of the coming try, counted as in `Connected`.
        delay: seconds to wait before it.
        cause: what made it necessary.

    Example:
        >>> retries = client.stream(Reconnecting)
        >>> client.reconnect()
        >>> retry = retries.get(timeout=5)
        >>> retry.attempt, retry.delay
        (1, 0.0)
    """

    attempt: int
    delay: float
    cause: allenhark_ws.ConnectionLost | allenhark_ws.ConnectionFailed | allenhark_ws.ConfigurationError


@frozen(weakref_slot=False)
class Gap(LifecycleEvent):
    """Events may have been missed: the API sends nothing again after a loss.

    It comes after `Connected` and before the first event of the new connection.  Only what a server sends before its
    first pong, if that is more than 1,000 messages or 256 KiB, comes ahead of both: no more of it is held back.

    Attributes:
        started_at: when the lost connection last sent anything, aware, UTC.
        ended_at: when the client was READY again, aware, UTC.
        duration: seconds between, by the monotonic clock.
        channels: the channels wanted before the loss and still wanted.
        cause: why the connection was lost.

    Example:
        >>> subscription, gaps = client.subscribe(Price("M")), client.stream(Gap)
        >>> client.reconnect()
        >>> gaps.get(timeout=5).channels
        frozenset({Price(mint='M')})
    """

    started_at: datetime
    ended_at: datetime
    duration: float
    channels: frozenset[Channel]
    cause: allenhark_ws.ConnectionLost


@frozen(weakref_slot=False)
class EventsDropped(LifecycleEvent):
    """A consumer started to lose events, or has caught up again (its queue fell below half).

    Attributes:
        count: how many it lost since its last report.
        consumer: its name.

    Example:
        >>> EventsDropped(count=3, consumer="stream-1(PriceUpdate)").count
        3
    """

    count: int
    consumer: str


@frozen(weakref_slot=False)
class SlowCallback(LifecycleEvent):
    """A callback has been running for more than a second; told once per call.

    With ``inline_callbacks=True`` it is told when the callback has returned: the thread that would tell it runs it.

    Attributes:
        callback: the callback.
        seconds: how long it has been running.

    Example:
        >>> SlowCallback(callback=print, seconds=1.0).seconds
        1.0
    """

    callback: Callable[..., object]
    seconds: float


@frozen(weakref_slot=False)
class CallbackError(LifecycleEvent):
    """A callback raised; the next event is delivered as usual.

    Attributes:
        callback: the callback.
        event: what it was called with.
        error: what it raised, traceback included.

    Example:
        >>> failures = client.stream(CallbackError)
        >>> @client.on(Gap)
        ... def fail(gap):
        ...     raise ValueError("not my day")
        >>> client.reconnect()
        >>> failures.get(timeout=5).error
        ValueError('not my day')
    """

    callback: Callable[..., object]
    event: Event
    error: BaseException


@frozen(weakref_slot=False)
class Closed(LifecycleEvent):
    """The client has ended; nothing comes after this.

    Attributes:
        error: the terminal error, or None after `close()`.

    Example:
        >>> ends = client.stream(Closed)
        >>> client.close()
        >>> ends.get(timeout=5)
        Closed(error=None)
    """

    error: allenhark_ws.AllenHarkError | None = None
