"""A synchronous, threaded client for AllenHark's WebSocket API: live Solana prices, bot updates and confirmations.

::

    from allenhark_ws import Client, Price

    with Client() as client:                      # the key comes from ALLENHARK_API_KEY
        for event in client.stream(Price("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v")):
            print(event.price)

The map of the house.  A room is a file with one subject; ``tests/test_architecture.py`` holds who may import whom::

    verbs       client: what users call, and the wiring of everything below it
    threads     _loop: start, ask, wait, end · _process: forks and exits · _driver: turn after turn, asleep in _sleeper
                (_wakeup) · _network: the session's commands, done · _intake: what was read · _outlet: events on
                their way to consumers
    consumers   _router: who gets what (_routes, _wanted; hot path: _places, _express) · _dispatch: callbacks
                streams: what users read · _queue: what is kept and what is dropped when one is full (_locks)
    rules       _session: whatever is decided, without I/O: key, pings, pong deadline, subscriptions, losses, gaps
                (_link: a connection's books · _backoff: delays · _verdict: rejections · the moves are in state)
    network     _connect: opening, phases _dns, _tcp, _proxy, _tls, _upgrade (_target; one deadline: _guard, _aside)
                _transport: one open connection, and its bytes (_frames) · _ports: what else can stand in its place
    wire        _codec: bytes and events, what is no message too (_json, _strict; fast
                _lanes: _dicts, _structs, _twins) · _redact: no keys
    values      channels (_spelling), events, errors, config, state, stats (_counters), _instant, _frozen, _words, _log
                for types alone: _typing, _hints
    around it   _replay (_player), recording, notebook (_html), dataframe, metrics, testing, pytest_plugin, cli,
                __main__

In: socket → `_transport` → `_driver` → `_intake` → `_codec` → `_router` → callbacks and streams; what is no data of a
READY connection goes by `_session`, and what takes no fast lane by `_outlet`.  Out: `client` → `_loop` → mailbox of
`_driver` → `_session` → `_network` → `_transport` → socket.

Neighbours: every module with a public name.  Importing the package must never load ssl, websocket-client or cattrs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ._replay import replay
    from .channels import Bot, Channel, Price, Transactions
    from .client import Client, Subscription
    from .config import Backoff
    from .dataframe import to_dataframe
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
        RecordingError,
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
    "RecordingError",
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
    "replay",
    "to_dataframe",
]

__version__: Final = "0.1.0"
"""The version of the package, its one and only place; semantic versioning."""

# What follows is the same for Python as the imports above are for a type checker, a module at a time: a program that
# only wants a channel or catches an error does not pay for the client.

_NAMES = {
    "_replay": ("replay",),
    "channels": ("Bot", "Channel", "Price", "Transactions"),
    "client": ("Client", "Subscription"),
    "config": ("Backoff",),
    "dataframe": ("to_dataframe",),
    "errors": (
        "AllenHarkError",
        "AuthenticationError",
        "CertificateRejected",
        "ClientClosed",
        "ConfigurationError",
        "ConnectionFailed",
        "ConnectionLost",
        "ConnectTimeout",
        "FlushTimeout",
        "HandshakeRejected",
        "RecordingError",
        "RequestRejected",
        "SlowConsumer",
        "StreamClosed",
    ),
    "events": (
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
    ),
    "state": ("State",),
    "stats": ("Stats",),
    "streams": ("Stream",),
}
"""The modules with public names, and what each brings."""

_MODULES = ("recording",)
"""Public modules that are loaded when they are asked for, though none of their names is the package's own."""

_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __dir__() -> list[str]:
    return list(__all__)


if not TYPE_CHECKING:  # a type checker would take it that every name exists, misspelt ones too

    def __getattr__(name: str) -> object:
        """Load a public name, or module, when it is first asked for (PEP 562)."""
        if name in _NAMES or name in _MODULES:
            return import_module(f".{name}", __name__)
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value  # from here on as fast as any other
        return value
