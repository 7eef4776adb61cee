"""Stand-ins that test files share: a clock that moves when told, a kept log, settings, and messages off the wire."""

from __future__ import annotations

import json
import logging
import socket
from datetime import datetime, timedelta, timezone
from typing import Any

from allenhark_ws._codec import Codec
from allenhark_ws._instant import Instant
from allenhark_ws._ports import Clock
from allenhark_ws.channels import Channel
from allenhark_ws.config import Backoff, Secret, Settings
from allenhark_ws.events import DataEvent, ServerEvent

START = Instant(1000.0, datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc))
"""When a `FakeClock` begins."""


class FakeClock(Clock):
    """Both clocks, standing still until `advance`."""

    def __init__(self, start: Instant = START) -> None:
        self._now = start

    def now(self) -> Instant:
        """The moment."""
        return self._now

    def advance(self, seconds: float) -> Instant:
        """Let both clocks move on; the new moment."""
        self._now = Instant(self._now.mono + seconds, self._now.wall + timedelta(seconds=seconds))
        return self._now

    def set_wall(self, wall: datetime) -> None:
        """Turn the wall clock alone, as an administrator or NTP may."""
        self._now = Instant(self._now.mono, wall)


class Dice:
    """Jitter that is known beforehand: every draw gives `value`, and is counted."""

    def __init__(self, value: float = 1.0) -> None:
        self.value = value
        self.draws = 0

    def __call__(self) -> float:
        """One draw."""
        self.draws += 1
        return self.value


class LogKeeper(logging.Handler):
    """Keeps what is logged, at every level.

    Attributes:
        records: what came so far, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.records.append(record)


class Meddling(dict[Any, Any]):
    """A mapping in whose `setdefault` a finalizer runs, once."""

    finalizer: Any = None

    def setdefault(self, *arguments: Any) -> Any:
        """As ever, and then the finalizer."""
        found = super().setdefault(*arguments)
        finalizer, self.finalizer = self.finalizer, None
        if finalizer is not None:
            finalizer()
        return found


class FewDescriptors:
    """Stands for the module `socket` in a process that has no descriptors left when it asks first.

    Attributes:
        asked: how often a pair was asked for.
    """

    asked = 0

    def socketpair(self) -> tuple[socket.socket, socket.socket]:
        """A pair, but for the first time."""
        self.asked += 1
        if self.asked == 1:
            raise OSError(24, "Too many open files")
        return socket.socketpair()


class NoEdits:
    """Stands for a loop with a router that has no server to reconcile."""

    def want(self, channels: list[Channel]) -> None:
        """Channels became wanted."""

    def unwant(self, channels: list[Channel]) -> None:
        """Channels are wanted no more."""

    def restate(self, channels: frozenset[Channel]) -> None:
        """All that is wanted."""

    def wake(self) -> None:
        """Now."""


def settings(**changes: Any) -> Settings:
    """Client settings with the defaults of `Client`, but for the changes; the URL is loopback."""
    values: dict[str, Any] = {
        "api_key": Secret("test-key"),
        "allow_insecure": False,
        "url": "ws://127.0.0.1:1/",
        "heartbeat_interval": 30.0,
        "pong_timeout": 10.0,
        "connect_timeout": 10.0,
        "send_timeout": 10.0,
        "backoff": Backoff(),
        "decimal": False,
        "callback_buffer": 10_000,
        "callback_overflow": "drop_oldest",
        "inline_callbacks": False,
        "max_send_rate": None,
        "ssl_context": None,
        "proxy": None,
        "headers": None,
        "max_message_size": 1_048_576,
    }
    return Settings(**(values | changes))


def off_the_wire(message: dict[str, Any]) -> DataEvent | ServerEvent:
    """The event that a message becomes when it is received."""
    return Codec().decode(json.dumps(message).encode(), START.wall)
