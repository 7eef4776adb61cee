"""This client, through its public names, in each way of reading it; every run ends with a look at what it counted."""

from __future__ import annotations

import os
import sys
from typing import Any

from allenhark_ws import (
    BotUpdate,
    Channel,
    Client,
    Price,
    PriceUpdate,
    TransactionConfirmed,
)

from .probes import PATIENCE, Probe
from .wire import START, channels, mints

__all__ = [
    "callbacks",
    "callbacks_on_one_processor",
    "connect",
    "inline",
    "iteration",
    "per_class",
    "per_mint",
    "settle",
]

KINDS = (PriceUpdate, BotUpdate, TransactionConfirmed)


def connect(url: str, **settings: Any) -> Client:
    """A client, not begun, that loses nothing."""
    return Client("a key for benchmarks", url=url, callback_overflow="block", **settings)


def settle(client: Client) -> None:
    """Wait until the server has sent all it had to send, and make sure that nothing of it was lost or odd.

    Raises:
        RuntimeError: something was.
    """
    client.flush(PATIENCE)
    stats = client.stats
    if stats.dropped or stats.invalid or stats.unknown or stats.reconnects:
        raise RuntimeError(f"not as sent: {stats}")


def _callbacks(client: Client, probe: Probe, wanted: tuple[Channel, ...]) -> None:
    """Let the client call back until the last message."""
    with client:
        client.subscribe(*wanted)
        client.flush()
        probe.begin()
        client.subscribe(START)
        probe.wait()
        settle(client)


def inline(url: str, probe: Probe) -> None:
    """A callback for each kind of event, on the background thread."""
    client = connect(url, inline_callbacks=True)
    for kind in KINDS:
        client.on(kind, probe.handler())
    _callbacks(client, probe, channels())


def callbacks(url: str, probe: Probe) -> None:
    """A callback for each kind of event, on the callback thread."""
    client = connect(url)
    for kind in KINDS:
        client.on(kind, probe.handler())
    _callbacks(client, probe, channels())


def callbacks_on_one_processor(url: str, probe: Probe) -> None:
    """The same, where nothing has to move from one processor to another; the system decides where it cannot be told."""
    if sys.platform != "linux":
        callbacks(url, probe)
        return
    processors = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(processors)})
    try:
        callbacks(url, probe)
    finally:
        os.sched_setaffinity(0, processors)


def iteration(url: str, probe: Probe) -> None:
    """``for event in stream`` on the main thread."""
    with connect(url) as client, client.stream(overflow="block") as stream:
        client.subscribe(*channels())
        client.flush()
        probe.begin()
        client.subscribe(START)
        probe.consume(stream)
        settle(client)


def per_class(url: str, probe: Probe, count: int) -> None:
    """One callback for all prices, with so many tokens subscribed."""
    client = connect(url, inline_callbacks=True)
    client.on(PriceUpdate, probe.handler())
    _callbacks(client, probe, tuple(map(Price, mints(count))))


def per_mint(url: str, probe: Probe, count: int) -> None:
    """A callback for each of so many tokens."""
    client = connect(url, inline_callbacks=True)
    wanted = tuple(map(Price, mints(count)))
    for channel in wanted:
        client.subscribe(channel, callback=probe.handler())
    _callbacks(client, probe, wanted)
