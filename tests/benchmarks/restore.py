"""How long it takes after a loss until ten thousand wanted channels are subscribed again, server included."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from allenhark_ws import Connected, Pong, Price

from .feed import Feed
from .ours import connect
from .probes import PATIENCE
from .report import Table
from .rounds import Contender, Plan, Sample, installed, interleave, middle, spread
from .wire import mints

__all__ = ["by_hand", "ours", "run"]

CONTENDERS: Final = (
    Contender("allenhark_ws, from reconnect()", "restore:ours"),
    Contender("a loop of WebSocket.send, from opening", "restore:by_hand"),
)


def ours(url: str, count: int) -> dict[str, float]:
    """Lose the connection, and wait for a pong from behind the last subscription."""
    back = threading.Event()
    with connect(url) as client, client.stream(Pong) as pongs:
        client.subscribe(*map(Price, mints(count)))
        client.flush(PATIENCE)
        client.on(Connected, lambda _: back.set())
        begun, cpu = time.perf_counter(), time.process_time()
        client.reconnect()
        if not back.wait(PATIENCE):
            raise TimeoutError("the client did not come back")
        client.flush(PATIENCE)
        found = {"seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
        subscribed = [pong.extra["subscribed"] for pong in pongs.get_batch(1_000)]
        return {"subscribed": subscribed[-1], **found}


def by_hand(url: str, count: int) -> dict[str, float]:
    """The same messages with websocket-client's own `send`."""
    import websocket  # noqa: PLC0415 - only a process that measures it pays for it

    wanted = mints(count)
    begun, cpu = time.perf_counter(), time.process_time()
    connection: Any = websocket.create_connection(url)
    connection.send('{"type":"auth","apiKey":"a key for benchmarks"}')
    _barrier(connection)
    for mint in wanted:
        connection.send(json.dumps({"type": "subscribe", "channel": "price", "mint": mint}))
    subscribed = _barrier(connection)
    found = {"subscribed": subscribed, "seconds": time.perf_counter() - begun, "cpu": time.process_time() - cpu}
    connection.close()
    connection.shutdown()
    return found


def _barrier(connection: Any) -> int:
    connection.send('{"type":"ping"}')
    return int(json.loads(connection.recv())["subscribed"])


def run(plan: Plan) -> Iterator[Table]:
    """Restore so many channels, time and again."""
    plan.say("Restore")
    contenders = installed(CONTENDERS, plan.say)
    with Feed() as feed:
        samples = interleave(contenders, plan, partial(_restore, plan, feed))
    rows = tuple(
        (
            name,
            spread([float(sample["seconds"] * 1000) for sample in found], ".0f"),
            middle([float(sample["cpu"] * 1000) for sample in found], ".0f"),
        )
        for name, found in samples.items()
    )
    note = f"Milliseconds until a new connection has {plan.channels:,} subscriptions, spread in brackets."
    yield Table("Restore", note, ("", "ms", "CPU, ms"), rows)


def _restore(plan: Plan, feed: Feed, contender: Contender) -> Sample:
    count = plan.channels
    found = plan.measure(feed, contender.run, feed.url(), count=count)
    if found["subscribed"] != count:
        raise RuntimeError(f"{contender.name}: {count} channels were wanted, {found['subscribed']} restored")
    return found
