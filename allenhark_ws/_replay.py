"""`replay`: a client over a recording instead of a network.

Everything from the loop on is the live client's own: the same decoding, routing, callbacks, streams and lifecycle.
What differs stands here, rules without a server to prove anything to (`_Session`) and verbs that know who listens
(`_Replay`), and in `_player`: a recording in the place of a network.

Neighbours: `client` is what it makes, `_player` plays, `recording` checks the files.  It must never open a connection.
"""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

from ._hints import Self
from ._instant import Instant
from ._link import Link, Ping
from ._player import MAX_FRAMES, PlayedClock, Player
from ._ports import Clock
from ._queue import EventQueue
from ._router import Callback
from ._routes import Kind
from ._session import Session
from .channels import Channel
from .client import Client, Overflow, Subscription
from .config import Backoff, Secret, Settings
from .errors import AllenHarkError, ClientClosed, ConfigurationError, ConnectionLost
from .events import DataEvent, LifecycleEvent, ServerEvent
from .recording import PathLike, Reader, Recorder, paths_of
from .streams import Stream

__all__ = ["replay"]

_NO_KEY: Final = Secret("a replay has no API key, and nothing ever asks for this")
_LONG: Final = 1_000_000.0
"""Seconds for which `run_forever` waits for callbacks that take their time; eleven days."""


def replay(  # noqa: PLR0913 - every setting is an argument of its own
    path: PathLike | Sequence[PathLike],
    speed: float = 1.0,
    *,
    decimal: bool = False,
    callback_buffer: int = 10_000,
    callback_overflow: Overflow | None = None,
    inline_callbacks: bool = False,
) -> Client:
    """A client that plays a recording as if it came off the wire; no key, no network.

    It decodes, routes, calls back and queues as a live client does, and its events bear the recorded `received_at`.  It
    begins with `Connected`, at `start()` or `run_forever()`; at `connect()` or in a ``with`` block once somebody
    listens: the first callback, stream or subscription for anything but lifecycle events.  At the end it closes itself,
    and `Closed` comes last.

    At ``speed=0`` it goes as fast as its consumers, none of whom loses an event: every stream and the callback buffer
    wait when they are full, whatever their `overflow`.  A stream that nobody reads holds it up, therefore, until that
    is closed or forgotten.  `run_forever()` returns when every callback has run.

    What needs a server does the obvious: channels only choose which events go where (every recorded frame is played,
    and a channel's events reach those who ask for it), `flush()` returns 0.0 once what was asked for before is in
    force, `reconnect()` does nothing, and `stats` count what was played; there are no pings, losses or gaps.

    Args:
        path: the recording, or several in the order in which they belong (`recording.series` lists a rotation's).
        speed: 2.0 plays twice as fast as it was recorded, 0 as fast as possible.  Time between files, or between what
            was appended, counts too.
        decimal: as of `Client`.
        callback_buffer: as of `Client`.
        callback_overflow: as of `Client`, ``"drop_oldest"`` by default; at ``speed=0`` only ``"block"``.
        inline_callbacks: as of `Client`.

    Raises:
        OSError: a file cannot be opened.
        RecordingError: a file is no recording, or one of another version.  A damaged line inside one is passed over,
            the rest is played, and then the client ends with this error, which names the first.  An end that a crash
            tore off is no error.
        ConfigurationError: an argument cannot be used.

    Example:
        >>> with client.record("day.jsonl"), client.stream(Price("M")) as prices:
        ...     first = prices.get(timeout=5)
        >>> with replay("day.jsonl", speed=0) as played, played.stream(Price("M")) as prices:
        ...     prices.get(timeout=5) == first
        True
    """
    paths = paths_of(path)
    _check_speed(speed, callback_overflow)
    Reader(paths).close()  # so that what is no recording is refused now
    settings = Settings(
        api_key=_NO_KEY,
        url="ws://127.0.0.1/",
        heartbeat_interval=_LONG,
        pong_timeout=_LONG,
        connect_timeout=10.0,
        send_timeout=10.0,
        backoff=Backoff(),
        decimal=decimal,
        callback_buffer=callback_buffer,
        callback_overflow=callback_overflow or ("drop_oldest" if speed else "block"),
        inline_callbacks=inline_callbacks,
        max_send_rate=None,
        ssl_context=None,
        proxy=False,
        headers=None,
        max_message_size=1_048_576,
        allow_insecure=False,
    )
    return _Replay(settings, paths, float(speed), Clock())


def _check_speed(speed: object, callback_overflow: object) -> None:
    if isinstance(speed, bool) or not isinstance(speed, (int, float)):
        raise ConfigurationError(f"replay(speed=…) takes a number, got {type(speed).__name__}")
    if not 0 <= speed < math.inf:
        raise ConfigurationError(f"replay(speed=…) must be at least 0, which is as fast as possible, got {speed!r}")
    if not speed and callback_overflow not in (None, "block"):
        raise ConfigurationError("replay(speed=0) loses nothing: leave callback_overflow out, or play at another speed")


class _Session(Session):
    """The rules for a recording: READY at once, every frame goes out as it is, and the end is the end."""

    def opened(self, now: Instant) -> None:
        """There is nobody to prove anything to."""
        link = self._link = Link(now, first_pong_deadline=math.inf, next_ping_at=math.inf, next_slot=now.mono)
        self._become_ready(link, 0.0, now)
        self._settle(link)

    def received(self, event: ServerEvent | DataEvent, now: Instant) -> None:
        """Nothing that a server said then has consequences now."""
        if self._link is not None:
            self._outputs.append(event)

    def lost(self, loss: ConnectionLost, now: Instant) -> None:
        """The recording is at its end."""
        error = loss.__cause__
        self.close(error if isinstance(error, AllenHarkError) else None)

    def reconnect(self, now: Instant) -> None:
        """There is no connection; begin, if that was not done yet."""
        self.start(now)

    def _plan(self, items: Iterable[Channel | Any]) -> None:
        super()._plan(items)
        if self._link is not None:
            self._settle(self._link)

    def _settle(self, link: Link) -> None:
        """What is wanted is in force, and what was flushed is through, at once."""
        while link.todo:
            item = link.next_item()
            if isinstance(item, Channel):
                link.requested(item, wanted=item in self.wanted)
            else:
                self._answer(Ping(0, 0.0, item), 0.0)


def _is_for_frames(kind: Kind) -> bool:
    return not (isinstance(kind, type) and issubclass(kind, LifecycleEvent))


class _Replay(Client):
    """A client over a `Player`; made by `replay`."""

    _last_patience = _LONG

    def __init__(self, settings: Settings, paths: list[str], speed: float, clock: Clock) -> None:
        played = PlayedClock(clock)
        player = Player(paths, speed, played)
        self._paths = paths
        self._loses_nothing = not speed
        self._player = player
        self._wire(settings, lambda _settings, _redact: player, played, random.random, _Session)
        self._loop.read_per_turn(MAX_FRAMES)

    def _where(self) -> str:
        """What is played."""
        others = f" and {len(self._paths) - 1} more" if len(self._paths) > 1 else ""
        return f"replay of {self._paths[0]}{others}"

    def connect(self, timeout: float | None = None) -> Self:
        """Begin, and wait until READY; the first frame waits for somebody who listens.

        A recording that had its listeners before may be at its end when this returns.
        """
        self._player.held_back = not self._loop.started
        seen = self._loop.readies
        try:
            return super().connect(timeout)
        except ClientClosed:
            if self._loop.readies == seen:
                raise
            return self

    def run_forever(self) -> None:
        """Play to the end, until all callbacks have run."""
        self._check_open()
        self._expect_listeners()
        try:
            super().run_forever()
        except ClientClosed:  # it came to its end meanwhile: a recording may be short
            if self.error is not None:
                raise
            self._loop.join(time.monotonic() + self._last_patience)

    def _expect_listeners(self) -> None:
        """Hold nothing back any more."""
        if not self._player.has_audience:
            self._player.has_audience = True
            self._loop.wake()

    def subscribe(self, *channels: Any, callback: Callback | None = None) -> Subscription:
        """As of any client; the channel's recorded events come from now on."""
        subscription = super().subscribe(*channels, callback=callback)
        self._expect_listeners()
        return subscription

    def on(self, kind: Any, callback: Any = None) -> Any:
        """As of any client."""
        if callback is None:
            super().on(kind)  # refuses what is no kind, before there is anything to decorate
            return partial(self.on, kind)
        super().on(kind, callback)
        if _is_for_frames(kind):
            self._expect_listeners()
        return callback

    def stream(self, *kinds: Any, maxsize: int = 10_000, overflow: Overflow = "drop_oldest") -> Stream[Any]:
        """As of any client; at speed 0 it waits when it is full, whatever the overflow."""
        stream = super().stream(*kinds, maxsize=maxsize, overflow=overflow)
        if not kinds or any(map(_is_for_frames, kinds)):
            self._expect_listeners()
        return stream

    def record(self, path: str | os.PathLike[str], **options: Any) -> Recorder:
        """As of any client: what is played from now on, with the times of its first recording."""
        recorder = super().record(path, **options)
        self._expect_listeners()
        return recorder

    def _make_queue(self, name: str, maxsize: int, overflow: str) -> EventQueue:
        queue = super()._make_queue(name, maxsize, overflow)
        return super()._make_queue(name, maxsize, "block") if self._loses_nothing else queue
