"""What a test may ask of a simulator, checked: the keys it accepts, what it publishes and to whom.

Neighbours: `_simulator` and `_virtual`, which take the same requests.  It must never talk to a server.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, cast

from .. import ConfigurationError, Transactions
from ._conversation import CHANNEL_KEYS, Conversation

__all__ = ["audience", "check_frame", "checked_keys", "everybody"]

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


def _watches_any_wallet(conversation: Conversation) -> bool:
    return any(isinstance(channel, Transactions) for channel in conversation.subscriptions)


def checked_keys(api_keys: Collection[object]) -> tuple[str, ...]:
    """The keys to accept; ConfigurationError when they are none."""
    keys = tuple(key for key in api_keys if isinstance(key, str) and key)
    if isinstance(api_keys, str) or not keys or len(keys) != len(api_keys):
        raise ConfigurationError('api_keys takes at least one key, in a tuple: ("test-key",)')
    return keys
