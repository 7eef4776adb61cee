"""A client at work for a command: events in batches, talk of what happens to the connection, a bounded beginning.

Neighbours: `_tail` prints the batches; `_render` puts lifecycle events into words.  It must never drop an event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from allenhark_ws import (
    Channel,
    Client,
    Closed,
    Connected,
    ConnectionFailed,
    DataEvent,
    Disconnected,
    Event,
    InvalidMessage,
    LifecycleEvent,
    Reconnecting,
    ServerError,
    StreamClosed,
)

from ._output import tell
from ._render import as_talk

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Live", "Notices"]

_QUEUE: Final = 10_000
"""Events that wait for a slow reader before the server has to."""

_BATCH: Final = 256
_INTERRUPTED: Final = 0.5
"""Seconds for a goodbye after a signal."""


class Notices:
    """What is said on stderr about the connection and about a reader that falls behind.

    Args:
        console: stderr.
        lifecycle: whether to tell of connections, losses and gaps; what the server complains of is told in any case.

    Attributes:
        lifecycle: the same.
    """

    def __init__(self, console: Console, *, lifecycle: bool) -> None:
        self._console = console
        self.lifecycle = lifecycle
        self._behind = False

    def tell(self, event: Event) -> None:
        """Say what there is to say of an event."""
        talk = as_talk(event)
        if talk is not None and (self.lifecycle or not isinstance(event, LifecycleEvent)):
            text, style = talk
            tell(self._console, text, style=style)

    def tell_backlog(self, waiting: int) -> None:
        """Say once when the queue is full, and once when it is nearly empty again."""
        if not self._behind and waiting >= _QUEUE:
            self._behind = True
            tell(
                self._console,
                f"stdout is read more slowly than events come: {waiting} are waiting, the server is held back; "
                "nothing is dropped, but events are late",
                style="yellow",
            )
        elif self._behind and waiting < _QUEUE // 10:
            self._behind = False
            tell(self._console, "caught up", style="green")


class Live:
    """A client from start to close, and its data events.

    Args:
        client: not started.
        channels: what to subscribe to.
        notices: told of everything but data.
        seconds: how long; None: until somebody leaves the ``with``.
        patience: seconds for the first connection, retries included.
        clock: monotonic seconds.
    """

    def __init__(  # noqa: PLR0913 - a command's options, and the clock
        self,
        client: Client,
        channels: tuple[Channel, ...],
        notices: Notices,
        *,
        seconds: float | None,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        kinds = (*channels, LifecycleEvent, ServerError, InvalidMessage)
        self._client = client
        self._notices = notices
        self._stream = client.stream(*kinds, maxsize=_QUEUE, overflow="block")
        self._clock = clock
        self._began = now = clock()
        self._end = None if seconds is None else now + seconds
        patience = patience if seconds is None else min(patience, seconds)
        self._give_up: float | None = now + patience
        self._last_failure: Any = None
        self._ready = False
        self._complaint: ServerError | None = None

    def __enter__(self) -> Self:
        try:
            self._client.start()
        except BaseException:  # a signal, which may come when the threads run already
            self._client.close(_INTERRUPTED)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close(*([] if kind is None or issubclass(kind, Exception) else [_INTERRUPTED]))

    @property
    def connected(self) -> bool:
        """Whether it ever was, as far as was told."""
        return self._give_up is None

    @property
    def waiting(self) -> int:
        """Events that are queued."""
        return self._stream.qsize()

    def batches(self, every: float | None = None) -> Iterator[list[DataEvent]]:
        """The data events as they come; what is queued when the time is over comes still.

        Args:
            every: give out an empty batch after so many seconds, too, for whoever has to look at something else; None:
                no batch is empty.

        Raises:
            ConnectionFailed: the first connection was not made in time.
            AllenHarkError: the client ended with an error.
        """
        while True:
            self._notices.tell_backlog(self.waiting)
            events = self._stream.get_batch(_BATCH, self._remaining(every))
            yield from self._sorted(events)
            if every is not None:
                yield []
            if self._is_over():
                break
        self._client.close()
        yield from self._rest()

    def _remaining(self, every: float | None) -> float | None:
        """Seconds until something has to be decided."""
        now = self._clock()
        times = [moment - now for moment in (self._end, self._give_up) if moment is not None]
        times += [] if every is None else [every]
        return max(0.0, min(times)) if times else None

    def _is_over(self) -> bool:
        """Whether the time is over.

        Raises:
            ConnectionFailed: and there was no connection yet.
        """
        now = self._clock()
        if self._give_up is not None and now >= self._give_up:
            reason = getattr(self._last_failure, "reason", "the first attempt was still under way")
            raise ConnectionFailed(f"not connected within {self._give_up - self._began:g} s: {reason}")
        return self._end is not None and now >= self._end

    def _sorted(self, events: Iterable[Event]) -> Iterator[list[DataEvent]]:
        """The data among the events; of all else is told, in the order in which it came."""
        data: list[DataEvent] = []
        for event in events:
            if isinstance(event, DataEvent):
                data.append(event)
                continue
            if data:
                yield data
                data = []
            self._hear(event)
        if data:
            yield data

    def _hear(self, event: Event) -> None:
        if isinstance(event, ServerError) and not self._ready:
            self._complaint = event
            return
        self._tell_complaint(event)
        if isinstance(event, Connected):
            self._give_up, self._ready = None, True
        elif isinstance(event, Disconnected):
            self._ready = False
        elif isinstance(event, Reconnecting):
            self._last_failure = event.cause
        self._notices.tell(event)

    def _tell_complaint(self, following: Event) -> None:
        """Tell of an error that came before the server took the key, unless what follows from it tells of it, too."""
        complaint, self._complaint = self._complaint, None
        retold = isinstance(following, Closed) or (isinstance(following, Reconnecting) and self._notices.lifecycle)
        if complaint is not None and not retold:
            self._notices.tell(complaint)

    def _rest(self) -> Iterator[list[DataEvent]]:
        while True:
            try:
                events = self._stream.get_batch(_BATCH, 0)
            except StreamClosed:
                return
            yield from self._sorted(events)
