"""Bytes to events and requests to bytes: the one place that knows how the wire spells things.

::

    payload ── fast lane: `_structs` (msgspec), then `_dicts` (json) ── PriceUpdate, BotUpdate, TransactionConfirmed
       │ what they are not sure of
       └────── plain way: `_json.parse` ── dict ── cattrs, strict hooks ── the same three
                                            └──── by hand ── Pong, ServerError, UnknownMessage, InvalidMessage

The spelling is that of the vendor's page.  Types are strict: a price sent as text is no price.  The plain way decides
what a frame means.  The fast lanes are asked first and give an event only where the plain way would give the same, so
that installing an extra changes no event.  Neighbours: `_session` encodes with it, `_intake` decodes, `_strict` reads
single values, `events` re-reads a frame for `.extra`.  It must never touch a socket, a thread or a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import Attribute, fields, frozen, resolve_types

from ._dicts import stdlib_lane
from ._json import InvalidJSON, is_object, parse
from ._lanes import MAX_DEPTH, Lane, is_shallow, undeclared
from ._spelling import SPELLINGS
from ._strict import Absent, Misfit, decimal_number, float_number, json_type, moment, text, whole_number
from ._twins import INTERCHANGEABLE
from .channels import Channel, Transactions
from .config import Secret
from .events import (
    BotUpdate,
    DataEvent,
    InvalidMessage,
    Pong,
    PriceUpdate,
    ServerError,
    ServerEvent,
    TradeExecuted,
    TransactionConfirmed,
    UnknownMessage,
)

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["Codec", "encode_auth", "encode_ping", "encode_subscribe", "encode_unsubscribe", "wire_type"]

_Message = dict[str, Any]

# Out ------------------------------------------------------------------------------------------------------------------


def encode_auth(secret: Secret) -> bytes:
    """``{"type":"auth","apiKey":K}``, the first message of every connection.

    The key goes through C functions only, so that no frame of Python holds it when an exception passes.

    Raises:
        TypeError: the secret is a callable; ask its `current` first.
    """
    return b'{"type":"auth","apiKey":%b}' % encode_basestring_ascii(secret.reveal()).encode("ascii")


def encode_ping() -> bytes:
    """``{"type":"ping"}``, the application's heartbeat (no WebSocket ping)."""
    return b'{"type":"ping"}'


def encode_subscribe(channel: Channel) -> bytes:
    """The subscribe message of a channel, for example ``{"type":"subscribe","channel":"bot","botId":ID}``.

    Raises:
        TypeError: it is not one of the three kinds of channel.
    """
    return _encode_request("subscribe", channel)


def encode_unsubscribe(channel: Channel) -> bytes:
    """The unsubscribe message of a channel: the same keys as its subscribe message.

    Raises:
        TypeError: it is not one of the three kinds of channel.
    """
    return _encode_request("unsubscribe", channel)


def _encode_request(kind: str, channel: Channel) -> bytes:
    try:
        name, key, attribute = SPELLINGS[type(channel)]
    except KeyError:
        raise TypeError(f"{type(channel).__name__} is no channel: pass Bot, Price or Transactions") from None
    identifier = encode_basestring_ascii(getattr(channel, attribute))
    return f'{{"type":"{kind}","channel":"{name}","{key}":{identifier}}}'.encode("ascii")


# In: one event --------------------------------------------------------------------------------------------------------

_Hook = Callable[[Any, Any], Any]
"""cattrs' shape of a hook: the value, and the type to make of it, which these need not be told."""


def _as_it_is(value: Any, _type: Any) -> Any:
    return value


_WIRE_KEYS: Final[Mapping[str, str]] = {"bot_id": "botId", "_undeclared": "undeclared"}
"""Attributes whose key is spelled otherwise; the second is put there by this module, never by the server."""


def _converter(*, decimal: bool) -> Converter:
    """A private cattrs converter whose hooks convert nothing silently; cattrs' own would make text of a number."""
    from cattrs import Converter  # noqa: PLC0415 - loading it takes 70 ms, and importing the package must not

    converter = Converter(detailed_validation=False, prefer_attrib_converters=True)
    converter.register_structure_hook(str, text)
    converter.register_structure_hook(int, whole_number)
    converter.register_structure_hook(datetime, moment)
    converter.register_structure_hook(float | Decimal, decimal_number if decimal else float_number)
    return converter


def _documented(cls: type) -> list[Attribute[Any]]:
    """The attributes the vendor's page documents: those that make an event's identity."""
    return [attribute for attribute in fields(resolve_types(cls)) if attribute.eq]


def _hook_of(attribute: Any, converter: Converter) -> _Hook:
    """What the attribute's value has to pass; where it is converted, any object does."""
    hook: _Hook = _object if attribute.converter else converter.get_structure_hook(attribute.type)
    return hook


def _structure_of(cls: type[Any], converter: Converter) -> _Hook:
    """The generated function that makes a `cls` of a message, every hook looked up once.

    It raises `KeyError` when a documented key is missing and `Misfit` when a value is not of its type.
    """
    from cattrs.gen import make_dict_structure_fn, override  # noqa: PLC0415 - as above

    overrides: dict[str, Any] = {
        a.name: override(rename=_WIRE_KEYS.get(a.name), struct_hook=None if a.eq else _as_it_is) for a in fields(cls)
    }
    return make_dict_structure_fn(cls, converter, **overrides)


def _object(value: Any, _type: Any) -> Any:
    if is_object(value):
        return value
    raise Misfit("an object", json_type(value))


_DATA_EVENTS: Final[Mapping[str, type[DataEvent]]] = {
    "price_update": PriceUpdate,
    "bot_update": BotUpdate,
    "transaction_confirmed": TransactionConfirmed,
}
"""Of each type of message, its event; what has no builder of its own in `Codec` is decoded by this line alone.

By it an event is delivered, counted, recorded, and shown in tables, notebooks and the command line.  A builder is for
what more than the fields decides, a lane in `_structs` and `_dicts` for what comes by the thousand; the package's
`__init__` has the name once it is to be public.
"""


@frozen
class _Structures:
    """What cattrs gives one number mode: per wire type a generated function, and each key's strict hook; and trades."""

    make: Mapping[str, _Hook]
    trade: _Hook
    hooks: Mapping[str, Mapping[str, _Hook]]

    def complaint(self, kind: str, message: _Message) -> str:
        """What does not fit in a message, every field of it in the page's order."""
        found = (
            _complaint(f"{kind}.{key}", hook, message.get(key, Absent())) for key, hook in self.hooks[kind].items()
        )
        return "; ".join(text for text in found if text)


def _complaint(name: str, hook: _Hook, value: Any) -> str:
    """What the hook has against the value, or nothing."""
    try:
        hook(value, None)
    except Misfit as misfit:
        return f"{name}: {misfit}"
    return ""


@cache
def _structures(*, decimal: bool) -> _Structures:
    """Generate them, once per number mode."""
    converter = _converter(decimal=decimal)
    hooks: dict[str, dict[str, _Hook]] = {
        kind: {_WIRE_KEYS.get(a.name, a.name): _hook_of(a, converter) for a in _documented(cls)}
        for kind, cls in _DATA_EVENTS.items()
    }
    make = {kind: _structure_of(cls, converter) for kind, cls in _DATA_EVENTS.items()}
    return _Structures(make, _structure_of(TradeExecuted, converter), hooks)


# In: any frame --------------------------------------------------------------------------------------------------------


def _is_shallow_value(value: Any) -> bool:
    """Whether it is nested no deeper than allowed, level by level: a function that calls itself may not find out."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _nested(outer)]
        if not level:
            return True
    return False


def _nested(value: Any) -> Iterator[Any]:
    """The objects and arrays right inside a value."""
    contents = value.values() if is_object(value) else cast("list[object]", value) if type(value) is list else ()
    return (inner for inner in contents if type(inner) in (dict, list))


def _lane(engine: str, *, decimal: bool) -> Lane:
    """The lanes to try before the plain way, in a row; msgspec's has no decimals."""
    if engine not in ("auto", "msgspec", "stdlib", "plain"):
        raise ValueError(f'engine={engine!r}: pass "auto", "msgspec", "stdlib" or "plain"')
    if engine == "plain" or not INTERCHANGEABLE:
        return Lane.closed()
    stdlib = stdlib_lane(decimal=decimal)
    if engine == "stdlib" or decimal:
        return stdlib
    try:
        from ._structs import msgspec_lane  # noqa: PLC0415 - an extra
    except ImportError:
        if engine == "msgspec":
            raise
        return stdlib
    return msgspec_lane(stdlib.make)


_Build = Callable[[_Message, bytes, datetime, "Transactions | None"], "DataEvent | ServerEvent"]


class Codec:
    """Turns the payload of one frame into one event; holds nothing of a connection.

    Args:
        decimal: prices, volumes and profits become exact `Decimal` instead of `float`, and so do numbers with a
            fraction in a bot update's data that nobody documented.
        redact: takes the API key out of a server's text before it is shown.
        engine: which fast lanes to try first, with the same events in the end: ``"msgspec"`` (the extra ``speed``) and
            then the standard library's, ``"stdlib"`` the latter alone, ``"plain"`` none, ``"auto"`` what is installed.
            Decimals come from the standard library whatever is chosen.

    Attributes:
        lane: the fast lane; what it gives None for is for `decode`.

    Raises:
        ImportError: msgspec was asked for and is not installed.
        ValueError: no such engine.
    """

    def __init__(self, *, decimal: bool = False, redact: Callable[[str], str] = str, engine: str = "auto") -> None:
        self._decimal = decimal
        self._redact = redact
        self.lane = _lane(engine, decimal=decimal)
        self._structures = _structures(decimal=decimal)
        self._builders: dict[str, _Build] = {
            **dict.fromkeys(_DATA_EVENTS, self._data_event),
            "bot_update": self._bot_update,
            "transaction_confirmed": self._transaction_confirmed,
            "pong": self._pong,
            "error": self._error,
        }

    def decode(
        self, payload: bytes, received_at: datetime, wallet: Transactions | None = None
    ) -> DataEvent | ServerEvent:
        """One event for one frame, whatever its bytes: what is no message becomes an `InvalidMessage`.

        Args:
            payload: the frame's payload; exactly `bytes` for a text frame, any other type means a binary frame.
            received_at: when it was read, aware; kept as the event's `received_at`.
            wallet: the only wallet subscribed on the connection, or None; it is the channel of a transaction that names
                no wallet.
        """
        if type(payload) is not bytes:
            reason = "binary frame: expected a text frame with a JSON object"
            return InvalidMessage(reason, raw=bytes(payload), received_at=received_at)
        event = self.lane.make(payload, received_at, wallet)
        if event is not None:
            return event
        try:
            return self._decode_plainly(payload, received_at, wallet)
        except (InvalidJSON, Misfit) as error:
            reason = str(error)
        return InvalidMessage(reason, raw=payload, received_at=received_at)

    def _decode_plainly(
        self, payload: bytes, received_at: datetime, wallet: Transactions | None
    ) -> DataEvent | ServerEvent:
        """Decode by the standard library and cattrs.

        Raises:
            InvalidJSON: the payload is no JSON.
            Misfit: it is no message.
        """
        message = parse(payload, decimal=self._decimal)
        if not (is_shallow(payload) or _is_shallow_value(message)):
            raise InvalidJSON("nested too deeply")
        if not is_object(message):
            raise Misfit("a JSON object", json_type(message))
        kind = message.get("type", Absent())
        if type(kind) is not str:
            raise Misfit("a string", json_type(kind), where="type")
        build = self._builders.get(kind)
        if build is None:
            return UnknownMessage(self._redact(kind), raw=payload, received_at=received_at)
        try:
            return build(message, payload, received_at, wallet)
        except (KeyError, Misfit):
            reason = self._structures.complaint(kind, message)
        return InvalidMessage(reason, raw=payload, received_at=received_at)

    def _data_event(
        self, message: _Message, payload: bytes, received_at: datetime, _wallet: Transactions | None
    ) -> DataEvent:
        kind = message["type"]
        event: DataEvent = self._structures.make[kind](
            {**message, "raw": payload, "received_at": received_at}, _DATA_EVENTS[kind]
        )
        return event

    def _bot_update(
        self, message: _Message, payload: bytes, received_at: datetime, wallet: Transactions | None
    ) -> DataEvent:
        data = _object(message["data"], None)
        if message["event"] == "trade_executed":
            data = self._trade(data)
        return self._data_event({**message, "data": data}, payload, received_at, wallet)

    def _trade(self, data: _Message) -> TradeExecuted | _Message:
        """The trade, or the data as they came when they do not fit: a trade is never lost to a field."""
        with_undeclared = {**data, "undeclared": undeclared(data) or None}
        try:
            trade: TradeExecuted = self._structures.trade(with_undeclared, TradeExecuted)
        except (KeyError, Misfit):
            return data
        return trade

    def _transaction_confirmed(
        self, message: _Message, payload: bytes, received_at: datetime, wallet: Transactions | None
    ) -> DataEvent:
        named = message.get("wallet")
        channel = Transactions(named) if type(named) is str and named.strip() else wallet
        return self._data_event({**message, "channel": channel}, payload, received_at, wallet)

    def _pong(self, message: _Message, payload: bytes, received_at: datetime, _wallet: Transactions | None) -> Pong:
        try:
            timestamp = moment(message.get("timestamp"), None)
        except Misfit:
            timestamp = None
        return Pong(timestamp, raw=payload, received_at=received_at)

    def _error(
        self, message: _Message, payload: bytes, received_at: datetime, _wallet: Transactions | None
    ) -> ServerError:
        """An error of whatever shape: the vendor's page gives none."""
        error = message.get("error")
        nested: _Message = error if is_object(error) else {}
        texts = (message.get("message"), error, nested.get("message"), message.get("reason"))
        text = next((text for text in texts if type(text) is str and text), "")
        codes = (message.get("code"), nested.get("code"))
        code = next((code for code in codes if type(code) in (int, str)), None)
        if type(code) is str:
            code = self._redact(code)
        return ServerError(self._redact(text), code, raw=payload, received_at=received_at)


_WIRE_TYPES: Final[Mapping[type, str]] = {
    **{cls: kind for kind, cls in _DATA_EVENTS.items()},
    Pong: "pong",
    ServerError: "error",
    InvalidMessage: "(invalid)",
}


def wire_type(event: DataEvent | ServerEvent) -> str:
    """The ``type`` an event had on the wire, redacted if unknown; ``"(invalid)"`` for an `InvalidMessage`."""
    return event.type if isinstance(event, UnknownMessage) else _WIRE_TYPES[type(event)]
