"""The codec's promises, for any payload: one event, whatever reads it, that can be used like every other."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final

from attrs import fields

from allenhark_ws._codec import Codec, wire_type
from allenhark_ws._frames import BinaryMessage
from allenhark_ws.channels import Channel, Transactions
from allenhark_ws.events import BotUpdate, DataEvent, InvalidMessage, ServerEvent, TradeExecuted

WORDS: Final = (
    b'{"type":"price_update","mint":"M","price":1.5,"volume":7,"timestamp":"2024-01-15T10:30:00Z"}',
    b'{"type":"bot_update","botId":"B","event":"trade_executed","data":{"signature":"S","profit":0.15,',
    b'"timestamp":"2024-01-15T10:30:00.123456789+05:30"}}',
    b'{"type":"transaction_confirmed","signature":"S","status":"confirmed","slot":5,"wallet":"W"}',
    b'{"type":"error","error":{"message":"no","code":7},"reason":"r","channel":"bot","botId":"B"}',
    b'{"type":"pong","timestamp":null}',
    *(b'"raw":', b'"received_at":', b'"undeclared":', b'"channel":', b'"data":{', b'"extra":1', b'"type":'),
    *(
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-0.0",
        b"1e9999999999999999999",
        b"1e-9999999999999999999",
        b"9223372036854775808",
    ),
    *(b"0001-01-01T00:00:00+01:00", b"2024-02-30", b"\\ud800", b"\\u0000", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff"),
    *(b'{"a":' * 60, b"}" * 60, b"[" * 60, b"]" * 60, b"9" * 19, b"0" * 400, b"{", b"}", b"[", b"]", b'"', b":", b","),
)
"""Pieces of payloads for a fuzzer to put together."""

_AT: Final = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
_WALLET: Final = Transactions("W")
_PLAIN: Final = Codec(engine="plain")
_EXACT: Final = Codec(decimal=True)
_EXACT_PLAIN: Final = Codec(engine="plain", decimal=True)
_FAST: Final = Codec()
_STDLIB: Final = Codec(engine="stdlib")


def check(data: bytes) -> None:
    """Decode a payload by every engine, in both number modes, and as a binary frame."""
    event = _PLAIN.decode(data, _AT, _WALLET)
    shown = _picture(event)
    assert _picture(_FAST.decode(data, _AT, _WALLET)) == shown, "the engines differ"
    assert _picture(_STDLIB.decode(data, _AT, _WALLET)) == shown, "the lane on the standard library differs"
    _check_uses(event)
    exact = _EXACT.decode(data, _AT, _WALLET)
    assert _picture(_EXACT_PLAIN.decode(data, _AT, _WALLET)) == _picture(exact), "the lane for decimals differs"
    _check_uses(exact)
    _check_exactness(event, exact)
    binary = _FAST.decode(BinaryMessage(data), _AT, _WALLET)
    assert isinstance(binary, InvalidMessage)
    assert binary.raw == data


def _picture(event: DataEvent | ServerEvent) -> str:
    """All that an event tells, as text: a 1 differs from a 1.0 here, a 0.0 from a -0.0."""
    assert isinstance(event, (DataEvent, ServerEvent))
    told = (event, event.raw, event.received_at, event.channel, dict(event.extra), _trade_extra(event))
    return f"{told!r} {wire_type(event)}"


def _trade_extra(event: DataEvent | ServerEvent) -> dict[str, Any] | None:
    if isinstance(event, BotUpdate) and isinstance(event.data, TradeExecuted):
        return dict(event.data.extra)
    return None


def _check_uses(event: DataEvent | ServerEvent) -> None:
    """It can be copied, pickled, hashed and compared, and nothing is lost on the way."""
    shown = _picture(event)
    copies: tuple[Callable[[Any], Any], ...] = (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)))
    for make in copies:
        twin = make(event)
        assert twin == event
        assert hash(twin) == hash(event)
        assert _picture(twin) == shown, "a copy differs"
    assert event.received_at is _AT
    assert event.channel is None or isinstance(event.channel, Channel)
    assert isinstance(event.extra, Mapping)
    if isinstance(event, InvalidMessage):
        assert event.reason
        assert len(event.reason) < 500


def _check_exactness(event: DataEvent | ServerEvent, exact: DataEvent | ServerEvent) -> None:
    """Decimals change the type of numbers, not which payloads are messages, nor the numbers."""
    assert type(exact) is type(event)
    assert (exact.raw, exact.channel, repr(exact.extra)) == (event.raw, event.channel, repr(event.extra))
    _check_numbers(event, exact)
    if isinstance(event, BotUpdate) and isinstance(exact, BotUpdate):
        assert type(event.data) is type(exact.data)
        if isinstance(event.data, TradeExecuted):
            _check_numbers(event.data, exact.data)


def _check_numbers(inexact: Any, exact: Any) -> None:
    for attribute in fields(type(inexact)):
        number, digits = getattr(inexact, attribute.name), getattr(exact, attribute.name)
        if isinstance(number, float):
            assert isinstance(digits, Decimal)
            assert float(digits) == number
