"""Bytes to events and requests to bytes: the one place that knows how the wire spells things.

::

    payload ── fast engine ──┐
       │                     ├── dict ── cattrs, strict hooks ── PriceUpdate, BotUpdate, TransactionConfirmed
       └── `_json.parse` ────┘      └── by hand ──────────────── Pong, ServerError, UnknownMessage, InvalidMessage

The spelling is that of the vendor's page.  Types are strict: a price sent as text is no price.  The standard library's
reader decides what a frame means.  A faster engine is asked first, and believed only where both cannot differ; whatever
else it brings, or refuses, is read again by the standard library, so that installing one changes no event.  Pure: no
socket, thread or clock.  Neighbours: `_session` encodes and decodes with it, `events` re-reads a frame for `.extra`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from json.encoder import encode_basestring_ascii
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from attrs import Attribute, fields, frozen, resolve_types

from ._json import InvalidJSON, parse
from .channels import Bot, Channel, Price, Transactions
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

_CHANNEL_KEYS: Final[Mapping[type[Channel], tuple[str, str, str]]] = {
    Bot: ("bot", "botId", "bot_id"),
    Price: ("price", "mint", "mint"),
    Transactions: ("transactions", "wallet", "wallet"),
}
"""Of each channel: its name on the wire, the key of its id, the attribute that holds it."""


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
        name, key, attribute = _CHANNEL_KEYS[type(channel)]
    except KeyError:
        raise TypeError(f"{type(channel).__name__} is no channel: pass Bot, Price or Transactions") from None
    identifier = encode_basestring_ascii(getattr(channel, attribute))
    return f'{{"type":"{kind}","channel":"{name}","{key}":{identifier}}}'.encode("ascii")


# In: one value --------------------------------------------------------------------------------------------------------


class _Misfit(Exception):
    """A value is not what the vendor's page says; the text names what was expected and what came, never the value."""

    def __init__(self, expected: str, found: str, *, where: str = "") -> None:
        super().__init__(f"{where and where + ': '}expected {expected}, got {found}")


class _Absent:
    """Stands for a key that is not there."""


_JSON_TYPES: Final[Mapping[type, str]] = {
    _Absent: "nothing",
    bool: "a boolean",
    dict: "an object",
    list: "an array",
    str: "a string",
    type(None): "null",
}


def _json_type(value: object) -> str:
    return _JSON_TYPES.get(type(value), "a number")


def _text(value: Any, _type: Any) -> str:
    if type(value) is str:
        return value
    raise _Misfit("a string", _json_type(value))


def _whole_number(value: Any, _type: Any) -> int:
    if type(value) is int:
        return value
    found = "one with a fraction or exponent" if type(value) in (float, Decimal) else _json_type(value)
    raise _Misfit("a whole number", found)


def _float(value: Any, _type: Any) -> float:
    if type(value) is float and isfinite(value):
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            pass
    elif type(value) is not float:
        raise _Misfit("a number", _json_type(value))
    raise _Misfit("a number", "one too large for a float")


def _decimal(value: Any, _type: Any) -> Decimal:
    """The exact number; what no float could hold is refused here too, so that both modes accept the same frames."""
    if type(value) not in (int, float, Decimal):
        raise _Misfit("a number", _json_type(value))
    try:
        sane = type(value) is not float and isfinite(float(value))
    except OverflowError:
        sane = False
    if not sane:
        raise _Misfit("a number", "one too large for a float")
    return Decimal(value)


_PLAIN_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{3}|\.\d{6})?Z", re.ASCII).fullmatch
"""The usual spelling, which every `datetime.fromisoformat` since 3.7 reads alike once its Z is an offset."""
_ANY_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
    r"(?:[Zz]|([+-])([01]\d|2[0-3])(?::?([0-5]\d))?)?",
    re.ASCII,
).fullmatch
_A_TIME: Final = "an ISO 8601 date and time"


def _moment(value: Any, _type: Any) -> datetime:
    """An ISO 8601 date and time as an aware `datetime` in UTC; without an offset it is UTC, digits past µs are cut."""
    if type(value) is not str:
        raise _Misfit(_A_TIME, _json_type(value))
    try:
        if _PLAIN_TIME(value):
            return datetime.fromisoformat(value[:-1] + "+00:00")
        return _any_time(value)
    except (ValueError, OverflowError):
        raise _Misfit(_A_TIME, "a string that is none") from None


def _any_time(text: str) -> datetime:
    """Read what `_ANY_TIME` describes.

    Raises:
        ValueError: it does not match, or a part is out of range.
        OverflowError: in UTC it lies before year 1 or after year 9999.
    """
    match = _ANY_TIME(text)
    if match is None:
        raise ValueError("no ISO 8601 date and time")
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    micros = int(((fraction or "") + "000000")[:6])
    local = datetime(
        int(year), int(month), int(day), int(hour), int(minute), int(second or 0), micros, tzinfo=timezone.utc
    )
    if sign is None:
        return local
    offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes or 0))
    return local - offset if sign == "+" else local + offset


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
    converter.register_structure_hook(str, _text)
    converter.register_structure_hook(int, _whole_number)
    converter.register_structure_hook(datetime, _moment)
    converter.register_structure_hook(float | Decimal, _decimal if decimal else _float)
    return converter


def _documented(cls: type) -> list[Attribute[Any]]:
    """The attributes the vendor's page documents: those that make an event's identity."""
    return [attribute for attribute in fields(resolve_types(cls)) if attribute.eq]


def _structure_of(cls: type, converter: Converter) -> _Hook:
    """The generated function that makes a `cls` of a message, every hook looked up once.

    It raises `KeyError` when a documented key is missing and `_Misfit` when a value is not of its type.
    """
    from cattrs.gen import make_dict_structure_fn, override  # noqa: PLC0415 - as above

    overrides = {
        a.name: override(rename=_WIRE_KEYS.get(a.name), struct_hook=None if a.eq else _as_it_is) for a in fields(cls)
    }
    return make_dict_structure_fn(cls, converter, **overrides)  # type: ignore[arg-type]


def _object(value: Any, _type: Any) -> Any:
    if type(value) is dict:
        return value
    raise _Misfit("an object", _json_type(value))


_DATA_EVENTS: Final[Mapping[str, type[DataEvent]]] = {
    "price_update": PriceUpdate,
    "bot_update": BotUpdate,
    "transaction_confirmed": TransactionConfirmed,
}
_TRADE_KEYS: Final = frozenset({"signature", "profit", "timestamp"})


@frozen
class _Structures:
    """What cattrs gives one number mode: a generated function per class, and per wire type each key's strict hook."""

    price: _Hook
    bot: _Hook
    transaction: _Hook
    trade: _Hook
    hooks: Mapping[str, Mapping[str, _Hook]]

    def complaint(self, kind: str, message: _Message) -> str:
        """What does not fit in a message, every field of it in the page's order."""
        found = (
            _complaint(f"{kind}.{key}", hook, message.get(key, _Absent())) for key, hook in self.hooks[kind].items()
        )
        return "; ".join(text for text in found if text)


def _complaint(name: str, hook: _Hook, value: Any) -> str:
    """What the hook has against the value, or nothing."""
    try:
        hook(value, None)
    except _Misfit as misfit:
        return f"{name}: {misfit}"
    return ""


@cache
def _structures(*, decimal: bool) -> _Structures:
    """Generate them, once per number mode."""
    converter = _converter(decimal=decimal)
    hooks = {
        kind: {
            _WIRE_KEYS.get(a.name, a.name): _object if a.converter else converter.get_structure_hook(a.type)
            for a in _documented(cls)
        }
        for kind, cls in _DATA_EVENTS.items()
    }
    price, bot, transaction, trade = (
        _structure_of(cls, converter) for cls in (PriceUpdate, BotUpdate, TransactionConfirmed, TradeExecuted)
    )
    return _Structures(price, bot, transaction, trade, hooks)


# Engines --------------------------------------------------------------------------------------------------------------

_MAX_DEPTH: Final = 100
"""Objects and arrays inside each other that a message may have (RFC 8259, section 9 lets a reader set a limit).

What lies deeper could be decoded here and then be neither copied nor pickled by its user, who may stand on a deeper
stack: `deepcopy` needs five calls a level (measured), and Python allows a thousand in all.
"""
_BIG_NUMBER: Final = re.compile(rb"\d{19}").search
"""Integers from this length on may be beyond 64 bits, which orjson turns into floats."""


def _is_shallow(payload: bytes) -> bool:
    """Whether its size or its brackets tell that nothing in it is nested too deeply; most payloads are short."""
    return len(payload) < 2 * _MAX_DEPTH or payload.count(b"[") + payload.count(b"{") <= _MAX_DEPTH


def _is_shallow_value(value: Any) -> bool:
    """Whether it is nested no deeper than allowed, level by level: a function that calls itself may not find out."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        level = [inner for outer in level for inner in _nested(outer)]
        if not level:
            return True
    return False


def _nested(value: Any) -> Iterator[Any]:
    """The objects and arrays right inside a value."""
    contents = value.values() if type(value) is dict else value if type(value) is list else ()
    return (inner for inner in contents if type(inner) in (dict, list))


class _Uncertain(Exception):
    """The fast engine may differ from the standard library here."""


def _fast_engine(engine: str, *, decimal: bool) -> Callable[[bytes], Any] | None:
    """The reader to try first, or None; orjson has no decimals."""
    if engine not in ("auto", "orjson", "stdlib"):
        raise ValueError(f'engine={engine!r}: pass "auto", "orjson" or "stdlib"')
    if engine == "stdlib" or decimal:
        return None
    try:
        import orjson  # noqa: PLC0415 - an extra
    except ImportError:
        if engine == "orjson":
            raise
        return None
    return orjson.loads


_Build = Callable[[_Message, bytes, datetime, "Transactions | None"], "DataEvent | ServerEvent"]


class Codec:
    """Turns the payload of one frame into one event; holds nothing of a connection.

    Args:
        decimal: prices, volumes and profits become exact `Decimal` instead of `float`, and so do numbers with a
            fraction in a bot update's data that nobody documented.
        redact: takes the API key out of a server's text before it is shown.
        engine: ``"stdlib"``, ``"orjson"`` (the ``speed`` extra), or ``"auto"``: orjson if it is installed.  The events
            are the same.

    Raises:
        ImportError: orjson was asked for and is not installed.
        ValueError: no such engine.
    """

    def __init__(self, *, decimal: bool = False, redact: Callable[[str], str] = str, engine: str = "auto") -> None:
        self._decimal = decimal
        self._redact = redact
        self._fast = _fast_engine(engine, decimal=decimal)
        self._structures = _structures(decimal=decimal)
        self._builders: dict[str, _Build] = {
            "price_update": self._price_update,
            "bot_update": self._bot_update,
            "transaction_confirmed": self._transaction_confirmed,
            "pong": self._pong,
            "error": self._error,
        }
        self._fast_builders: dict[str, _Build] = {
            "price_update": self._price_update,
            "bot_update": self._certain_bot_update,
            "transaction_confirmed": self._transaction_confirmed,
            "pong": self._pong,
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
        if self._fast is not None and _is_shallow(payload):
            try:
                message = self._fast(payload)
                return self._fast_builders[message["type"]](message, payload, received_at, wallet)
            except (ValueError, TypeError, KeyError, _Misfit, _Uncertain):
                pass  # the plain reader finds out why, or that nothing is wrong
        try:
            return self._decode_plainly(payload, received_at, wallet)
        except (InvalidJSON, _Misfit) as error:
            reason = str(error)
        return InvalidMessage(reason, raw=payload, received_at=received_at)

    def _decode_plainly(
        self, payload: bytes, received_at: datetime, wallet: Transactions | None
    ) -> DataEvent | ServerEvent:
        """Decode by the standard library.

        Raises:
            InvalidJSON: the payload is no JSON.
            _Misfit: it is no message.
        """
        message = parse(payload, decimal=self._decimal)
        if not (_is_shallow(payload) or _is_shallow_value(message)):
            raise InvalidJSON("nested too deeply")
        if type(message) is not dict:
            raise _Misfit("a JSON object", _json_type(message))
        kind = message.get("type", _Absent())
        if type(kind) is not str:
            raise _Misfit("a string", _json_type(kind), where="type")
        build = self._builders.get(kind)
        if build is None:
            return UnknownMessage(self._redact(kind), raw=payload, received_at=received_at)
        try:
            return build(message, payload, received_at, wallet)
        except (KeyError, _Misfit):
            reason = self._structures.complaint(kind, message)
        return InvalidMessage(reason, raw=payload, received_at=received_at)

    def _price_update(
        self, message: _Message, payload: bytes, received_at: datetime, _wallet: Transactions | None
    ) -> PriceUpdate:
        message["raw"] = payload
        message["received_at"] = received_at
        event: PriceUpdate = self._structures.price(message, PriceUpdate)
        return event

    def _bot_update(
        self, message: _Message, payload: bytes, received_at: datetime, _wallet: Transactions | None
    ) -> BotUpdate:
        data = _object(message["data"], None)
        if message["event"] == "trade_executed":
            data = self._trade(data)
        with_data = {**message, "data": data, "raw": payload, "received_at": received_at}
        event: BotUpdate = self._structures.bot(with_data, BotUpdate)
        return event

    def _certain_bot_update(
        self, message: _Message, payload: bytes, received_at: datetime, wallet: Transactions | None
    ) -> BotUpdate:
        """A bot update by the fast engine, unless it keeps integers that the engine may have rounded.

        Raises:
            _Uncertain: it may have.
        """
        event = self._bot_update(message, payload, received_at, wallet)
        as_documented = type(event.data) is TradeExecuted and len(message["data"]) == len(_TRADE_KEYS)
        if not as_documented and _BIG_NUMBER(payload):
            raise _Uncertain
        return event

    def _trade(self, data: _Message) -> TradeExecuted | _Message:
        """The trade, or the data as they came when they do not fit: a trade is never lost to a field."""
        undeclared = {key: value for key, value in data.items() if key not in _TRADE_KEYS}
        try:
            trade: TradeExecuted = self._structures.trade({**data, "undeclared": undeclared or None}, TradeExecuted)
        except (KeyError, _Misfit):
            return data
        return trade

    def _transaction_confirmed(
        self, message: _Message, payload: bytes, received_at: datetime, wallet: Transactions | None
    ) -> TransactionConfirmed:
        named = message.get("wallet")
        message["channel"] = Transactions(named) if type(named) is str and named.strip() else wallet
        message["raw"] = payload
        message["received_at"] = received_at
        event: TransactionConfirmed = self._structures.transaction(message, TransactionConfirmed)
        return event

    def _pong(self, message: _Message, payload: bytes, received_at: datetime, _wallet: Transactions | None) -> Pong:
        try:
            timestamp = _moment(message.get("timestamp"), None)
        except _Misfit:
            timestamp = None
        return Pong(timestamp, raw=payload, received_at=received_at)

    def _error(
        self, message: _Message, payload: bytes, received_at: datetime, _wallet: Transactions | None
    ) -> ServerError:
        """An error of whatever shape: the vendor's page gives none."""
        error = message.get("error")
        nested = error if type(error) is dict else {}
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
