"""A synchronous, threaded client for AllenHark's WebSocket API: live Solana prices, bot updates and confirmations.

::

    from allenhark_ws import Client, Price

    with Client() as client:                      # the key comes from ALLENHARK_API_KEY
        for event in client.stream(Price("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")):
            print(event.price)

The way of a byte: socket → `_transport` (`_frames`) → `_loop` → `_codec` → `_session` (rules) → `_router` → callbacks
(`_dispatch`) and streams (`_queue`, `streams`).  The way of a call: `client` → mailbox of `_loop` → `_session` →
`_link` → `_transport` → socket.
"""

from __future__ import annotations

from .channels import Bot, Channel, Price, Transactions
from .client import Client, Subscription
from .config import Backoff
from .errors import (
    AllenHarkError,
    AuthenticationError,
    CertificateRejected,
    ClientClosed,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    ConnectTimeout,
    FlushTimeout,
    HandshakeRejected,
    RequestRejected,
    SlowConsumer,
    StreamClosed,
)
from .events import (
    BotUpdate,
    CallbackError,
    Closed,
    Connected,
    DataEvent,
    Disconnected,
    Event,
    EventsDropped,
    Gap,
    InvalidMessage,
    LifecycleEvent,
    Pong,
    PriceUpdate,
    Reconnecting,
    ServerError,
    ServerEvent,
    SlowCallback,
    TradeExecuted,
    TransactionConfirmed,
    UnknownMessage,
)
from .state import State
from .stats import Stats
from .streams import Stream

__all__ = [
    "AllenHarkError",
    "AuthenticationError",
    "Backoff",
    "Bot",
    "BotUpdate",
    "CallbackError",
    "CertificateRejected",
    "Channel",
    "Client",
    "ClientClosed",
    "Closed",
    "ConfigurationError",
    "ConnectTimeout",
    "Connected",
    "ConnectionFailed",
    "ConnectionLost",
    "DataEvent",
    "Disconnected",
    "Event",
    "EventsDropped",
    "FlushTimeout",
    "Gap",
    "HandshakeRejected",
    "InvalidMessage",
    "LifecycleEvent",
    "Pong",
    "Price",
    "PriceUpdate",
    "Reconnecting",
    "RequestRejected",
    "ServerError",
    "ServerEvent",
    "SlowCallback",
    "SlowConsumer",
    "State",
    "Stats",
    "Stream",
    "StreamClosed",
    "Subscription",
    "TradeExecuted",
    "TransactionConfirmed",
    "Transactions",
    "UnknownMessage",
]
