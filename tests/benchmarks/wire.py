"""The traffic: the documented data messages with ids of real length, as frames of a block that is repeated."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterator
from typing import Any, Final

from allenhark_ws import Bot, Channel, Price, Transactions

from ..peers import TEXT, frame

__all__ = ["GO", "GO_FRAME", "START", "channels", "mints", "payloads", "pieces", "stamped"]

START: Final = Bot("go")
"""Subscribing to it tells the server to begin."""
GO: Final = b'{"type":"subscribe","channel":"bot","botId":"go"}'
"""The same for those who write their messages by hand."""
GO_FRAME: Final = bytes([0x81, 0x80 | len(GO), 0, 0, 0, 0]) + GO
"""The same for those who write their frames by hand, masked with zeros."""

MINTS: Final = 50
"""Different tokens in the traffic, if nothing else is said."""
PIECE: Final = 128 * 1024
"""Bytes that the server sends at once."""

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BLOCK: Final = 12_000
_BOTS: Final = tuple(f"bot_{number:06x}" for number in range(10))
_WALLET: Final = "9WzDXwBbmkg8ZTbNMqUxvQRAyrZzDsGYdLVL9zYtAWWM"


def _identifier(source: random.Random, length: int) -> str:
    return "".join(source.choices(_BASE58, k=length))


@functools.cache
def mints(count: int = MINTS) -> tuple[str, ...]:
    """So many made-up tokens; the same ones in every process."""
    source = random.Random(count)  # noqa: S311 - no secrets, the same traffic every time
    return tuple(_identifier(source, 44) for _ in range(count))


def channels(count: int = MINTS) -> tuple[Channel, ...]:
    """Every channel of the mixed traffic with so many tokens."""
    return (*map(Price, mints(count)), *map(Bot, _BOTS), Transactions(_WALLET))


def _moment(number: int) -> str:
    """The server's clock at one message of a block: milliseconds, at ten thousand messages a second."""
    seconds, milliseconds = divmod(number // 10, 1_000)
    return f"2024-01-15T10:30:{seconds:02}.{milliseconds:03}Z"


def _price(source: random.Random, mint: str) -> dict[str, Any]:
    price, volume = round(source.uniform(0.01, 300), 4), source.randrange(1_000, 10_000_000)
    return {"type": "price_update", "mint": mint, "price": price, "volume": volume, "timestamp": ""}


def _trade(source: random.Random) -> dict[str, Any]:
    profit = round(source.uniform(-5, 5), 3)
    data = {"signature": _identifier(source, 88), "profit": profit, "timestamp": ""}
    return {"type": "bot_update", "botId": source.choice(_BOTS), "event": "trade_executed", "data": data}


def _transaction(source: random.Random) -> dict[str, Any]:
    signature, slot = _identifier(source, 88), source.randrange(250_000_000, 260_000_000)
    return {"type": "transaction_confirmed", "signature": signature, "status": "confirmed", "slot": slot}


def _compact(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


@functools.cache
def payloads(kind: str, count: int) -> tuple[bytes, ...]:
    """A block of messages, shuffled: ``prices`` of so many tokens, or a ``mix`` of three equal parts.

    Raises:
        ValueError: no such kind.
    """
    source = random.Random(kind)  # noqa: S311 - as above
    tokens = mints(count)
    if kind == "prices":
        messages = [_price(source, tokens[number % count]) for number in range(max(_BLOCK, count))]
    elif kind == "mix":
        third = range(_BLOCK // 3)
        messages = [_price(source, tokens[number % count]) for number in third]
        messages += [_trade(source) for _ in third]
        messages += [_transaction(source) for _ in third]
    else:
        raise ValueError(f"no traffic is called {kind!r}")
    source.shuffle(messages)
    for number, message in enumerate(messages):
        dated = message.get("data", message)
        if "timestamp" in dated:
            dated["timestamp"] = _moment(number)
    return tuple(map(_compact, messages))


@functools.cache
def _frames(kind: str, count: int) -> tuple[bytes, ...]:
    return tuple(frame(TEXT, payload) for payload in payloads(kind, count))


def pieces(kind: str, count: int, messages: int) -> Iterator[memoryview]:
    """The frames of so many messages, in pieces to be sent at once; the block is repeated as often as it takes."""
    frames = _frames(kind, count)
    whole, rest = divmod(messages, len(frames))
    block = b"".join(frames)
    for _ in range(whole):
        yield from _cut(block)
    yield from _cut(b"".join(frames[:rest]))


def _cut(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    return (view[start : start + PIECE] for start in range(0, len(data), PIECE))


def stamped(at: int) -> bytes:
    """The frame of a transaction whose slot is a time, in nanoseconds of the monotonic clock."""
    payload = b'{"type":"transaction_confirmed","signature":"%b","status":"confirmed","slot":%d}' % (b"5" * 88, at)
    return frame(TEXT, payload)
