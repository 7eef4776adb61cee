"""What a client does while nothing happens: how often its threads wake up; the thread that looks is not counted."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from .feed import Feed
from .ours import connect
from .report import Table
from .rounds import Contender, Plan, installed, interleave, middle
from .wire import channels
from .worker import SPEED

__all__ = ["ours", "run", "websocket_app", "websockets_sync"]

_TASKS: Final = Path("/proc/self/task")
_SWITCHES: Final = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)$", re.MULTILINE)

CONTENDERS: Final = (
    Contender("allenhark_ws", "idle:ours", SPEED),
    Contender("WebSocketApp, a ping every 30 s", "idle:websocket_app"),
    Contender("websockets, sync", "idle:websockets_sync", ("websockets",)),
)


def _wake_ups() -> int:
    """How often the other threads have gone to sleep."""
    others = (task for task in _TASKS.iterdir() if task.name != str(os.getpid()))
    found = (_SWITCHES.search((task / "status").read_text(encoding="ascii")) for task in others)
    return sum(int(match[1]) for match in found if match)


def _look(seconds: float) -> dict[str, float]:
    """Sleep, and say what the others did."""
    before, cpu = _wake_ups(), time.process_time()
    threading.Event().wait(seconds)
    return {"threads": threading.active_count() - 1, "wakeups": _wake_ups() - before, "cpu": time.process_time() - cpu}


def ours(url: str, seconds: float) -> dict[str, float]:
    """This client with its default settings, READY and subscribed."""
    with connect(url) as client:
        client.subscribe(*channels())
        client.flush()
        threading.Event().wait(seconds / 10)  # what opening has left to do
        return _look(seconds)


def websocket_app(url: str, seconds: float) -> dict[str, float]:
    """`WebSocketApp` on a thread."""
    import websocket  # noqa: PLC0415 - only a process that measures it pays for it

    opened = threading.Event()
    app = websocket.WebSocketApp(url, on_open=lambda _: opened.set())
    thread = threading.Thread(target=app.run_forever, kwargs={"ping_interval": 30}, daemon=True)
    thread.start()
    opened.wait()
    threading.Event().wait(seconds / 10)
    found = _look(seconds)
    connection = app.sock
    connection.sock.shutdown(socket.SHUT_RDWR)  # app.close() here may leave its thread waiting for ten seconds
    thread.join()
    connection.shutdown()
    return found


def websockets_sync(url: str, seconds: float) -> dict[str, float]:
    """The synchronous client of websockets, which reads on a thread of its own."""
    from websockets.sync.client import connect as connect_sync  # noqa: PLC0415 - as above

    with connect_sync(url):
        threading.Event().wait(seconds / 10)
        return _look(seconds)


def run(plan: Plan) -> Iterator[Table]:
    """Look at each for a while; where the system does not count, there is nothing to see."""
    if not _TASKS.is_dir():
        plan.say("skipped: idle, for this system does not count how often threads wake up")
        return
    plan.say("Idle")
    contenders = installed(CONTENDERS, plan.say)
    with Feed() as feed:
        samples = interleave(contenders, plan, lambda it: plan.measure(feed, it.run, feed.url(), seconds=plan.seconds))
    rows = tuple(
        (
            name,
            middle([float(sample["threads"]) for sample in found], ".0f"),
            middle([float(sample["wakeups"]) for sample in found], ".0f"),
            middle([float(sample["cpu"] * 1000) for sample in found], ".1f"),
        )
        for name, found in samples.items()
    )
    note = f"In {plan.seconds:g} s between two heartbeats."
    yield Table("Idle", note, ("", "threads", "wake-ups", "CPU, ms"), rows)
