"""What a test may ask of a simulator, checked: the keys it accepts, what it publishes and to whom.

Neighbours: `_simulator` and `_virtual`, which take the same requests; `_codec` says what a client makes of a message.
It must never talk to a server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from datetime import datetime, timezone
from functools import cache
from typing import Any, Final, cast

from .. import BotUpdate, ConfigurationError, InvalidMessage, TradeExecuted, Transactions
from .._codec import Codec
from ._conversation import CHANNEL_KEYS, Conversation

__all__ = ["audience", "check_frame", "checked_keys", "everybody", "note_misfit"]

_logger = logging.getLogger("allenhark_ws.testing")
_ANY_TIME: Final = datetime(2000, 1, 1, tzinfo=timezone.utc)

_CHANNEL_OF: Final = {"bot_update": "bot", "price_update": "price", "transaction_confirmed": "transactions"}


def check_frame(data: object) -> None:
    """Raise TypeError or ValueError for what no frame can carry."""
    if not isinstance(data, (str, bytes)):
        raise TypeError(f"send_raw() takes text or bytes, got {type(data).__name__}: json.dumps() it first")
    if isinstance(data, str):
        data.encode()


def everybody(_conversation: Conversation) -> bool:
    """Whoever is connected."""
    return True


def audience(message: object) -> Callable[[Conversation], bool]:
    """Which connections a data message is for."""
    fields = cast("dict[str, Any]", message) if isinstance(message, dict) else {}
    kind = fields.get("type")
    name = _CHANNEL_OF.get(str(kind))
    if name is None:
        raise ValueError(
            "publish() takes a bot_update, price_update or transaction_confirmed: use send_raw() for anything else"
        )
    key, make = CHANNEL_KEYS[name]
    if name == "transactions" and key not in fields:
        return _watches_any_wallet
    identifier = fields.get(key)
    if not isinstance(identifier, str) or not identifier.strip():
        raise ValueError(f"publish() needs a {key} in a {kind}: use send_raw() to send it without")
    channel = make(identifier)
    return lambda conversation: channel in conversation.subscriptions


def note_misfit(data: str) -> None:
    """Log it when a client will take a data message for something else than its type says.

    That may be what a test is about, so the message is sent all the same; more often it is a typing error in a test.
    """
    event = _codec().decode(data.encode(), _ANY_TIME)
    if isinstance(event, InvalidMessage):
        _logger.warning("publish(): a client takes this for an InvalidMessage: %s", event.reason)
    elif isinstance(event, BotUpdate) and event.event == "trade_executed" and not isinstance(event.data, TradeExecuted):
        _logger.warning(
            "publish(): a client takes the data of this trade_executed for a plain mapping: "
            "a TradeExecuted has a signature (text), a profit (number) and a timestamp (ISO 8601)"
        )


@cache
def _codec() -> Codec:
    return Codec()


def _watches_any_wallet(conversation: Conversation) -> bool:
    return any(isinstance(channel, Transactions) for channel in conversation.subscriptions)


def checked_keys(api_keys: Collection[object]) -> tuple[str, ...]:
    """The keys to accept; ConfigurationError when they are none."""
    keys = tuple(key for key in api_keys if isinstance(key, str) and key)
    if isinstance(api_keys, str) or not keys or len(keys) != len(api_keys):
        raise ConfigurationError('api_keys takes at least one key, in a tuple: ("test-key",)')
    return keys
