"""How the wire spells channels (vendor's page, section "Subscriptions").

Neighbours: `_codec` writes requests by it, `events` reads by it which channel an error names, and `_verdict` whether it
names one.  It must never know what a channel brings: that stands in `_routes`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .channels import Bot, Channel, Price, Transactions

__all__ = ["SPELLINGS", "Spelling"]


class Spelling(NamedTuple):
    """What a channel is in a message, for example ``"channel":"bot","botId":ID``.

    Attributes:
        name: the value of ``channel``.
        key: the key of its id.
        attribute: the attribute of the channel that holds the id.
    """

    name: str
    key: str
    attribute: str


SPELLINGS: Final[dict[type[Channel], Spelling]] = {
    Bot: Spelling("bot", "botId", "bot_id"),
    Price: Spelling("price", "mint", "mint"),
    Transactions: Spelling("transactions", "wallet", "wallet"),
}
