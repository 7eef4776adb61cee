"""Channels: what a client can subscribe to.

A channel is a small frozen value, usable as a dict key.  The three kinds and the one identifier each takes come from
the vendor's page, section "Subscriptions".  Another takes its class here, its line in `_spelling`, and what it brings
in `_routes` (`CHANNELS`, `_KEYS`); the event itself takes a class and a line in `_codec`, and no more.

Neighbours: `events` tells the channel of an event, `_spelling` knows what a message calls it.  It must never
know how the wire spells them.

Type checkers read in `_event` what events a channel brings, see `_typing`; when running there is no such thing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import field, frozen

if TYPE_CHECKING:
    from attrs import Attribute

    from .events import BotUpdate, DataEvent, PriceUpdate, TransactionConfirmed

__all__ = ["Bot", "Channel", "Price", "Transactions"]


def _identifier(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Refuse what cannot name anything; raise before a wrong id reaches the server, which would not answer."""
    owner = f"{type(instance).__name__}({attribute.name}=…)"
    if not isinstance(value, str):
        raise TypeError(f"{owner} takes a string, got {type(value).__name__}: pass the id as text")
    if not value.strip():
        raise ValueError(f"{owner} must not be empty or blank: pass the id as the server knows it")


@frozen(weakref_slot=False)
class Channel:
    """Base of the three channel kinds; not subscribable itself.

    Example:
        >>> isinstance(Price("So11111111111111111111111111111111111111112"), Channel)
        True
    """

    if TYPE_CHECKING:

        @property
        def _event(self) -> DataEvent: ...


@frozen(weakref_slot=False)
class Bot(Channel):
    """Updates of one trading bot (vendor's page, "Bot Updates").

    Args:
        bot_id: the bot's id, for example ``"bot_abc123"``; sent as ``botId``.

    Raises:
        TypeError: the id is not a string.
        ValueError: the id is empty or blank.

    Example:
        >>> Bot("bot_abc123") == Bot("bot_abc123")
        True
    """

    bot_id: str = field(validator=_identifier)

    if TYPE_CHECKING:

        @property
        def _event(self) -> BotUpdate: ...


@frozen(weakref_slot=False)
class Price(Channel):
    """Price changes of one token (vendor's page, "Market Data").

    Args:
        mint: the token's mint address, base58 text; sent as it is.

    Raises:
        TypeError: the mint is not a string.
        ValueError: the mint is empty or blank.

    Example:
        >>> names = {Price("So11111111111111111111111111111111111111112"): "SOL"}
        >>> names[Price("So11111111111111111111111111111111111111112")]
        'SOL'
    """

    mint: str = field(validator=_identifier)

    if TYPE_CHECKING:

        @property
        def _event(self) -> PriceUpdate: ...


@frozen(weakref_slot=False)
class Transactions(Channel):
    """Confirmations of one wallet's transactions (vendor's page, "Transaction Notifications").

    The server's ``transaction_confirmed`` names no wallet: with several wallets on one client each confirmation goes to
    all of their consumers.  Use one client per wallet to tell them apart.

    Args:
        wallet: the wallet's address, base58 text; sent as it is.

    Raises:
        TypeError: the wallet is not a string.
        ValueError: the wallet is empty or blank.

    Example:
        >>> Transactions(" ")
        Traceback (most recent call last):
        ValueError: Transactions(wallet=…) must not be empty or blank: pass the id as the server knows it
    """

    wallet: str = field(validator=_identifier)

    if TYPE_CHECKING:

        @property
        def _event(self) -> TransactionConfirmed: ...
