"""`Stream`: the reading half of `queue.Queue` over the events of a client.

Neighbours: `client` makes streams, `_queue` holds the events and the overflow policies.  A stream holds its client, and
must never be held by anything but its user: one that is forgotten lets go of its channels.
"""

from __future__ import annotations

import contextlib
import queue
import weakref
from collections.abc import Callable, Hashable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeVar

from ._hints import Later, Self
from ._queue import Drained, EventQueue, TimedOut
from ._routes import Kind
from .errors import AllenHarkError, ClientClosed, StreamClosed, raise_again
from .events import Event

if TYPE_CHECKING:
    import pandas as pd

    import allenhark_ws
else:
    allenhark_ws, pd = Later("allenhark_ws"), Later("pandas")

__all__ = ["Stream"]

E_co = TypeVar("E_co", bound=Event, covariant=True)

_FOR_EVER: Final = 1e9
"""Seconds from which on a timeout means for ever: thirty years, less than the platform's clocks can add."""


class Stream(Generic[E_co]):
    """A thread-safe queue of events; made by `Client.stream`.

    Any number of threads may read; each event goes to one of them.  Iterating waits for events until the stream is
    closed and drained.  Use it in a ``with`` block, or call `close()`, to release the channels it subscribed.

    Example:
        >>> with client.stream(Price("M")) as prices:
        ...     for event in prices:
        ...         print(event.mint)
        ...         break
        M
    """

    def __init__(
        self,
        client: allenhark_ws.Client,
        events: EventQueue,
        holder: Hashable,
        orphan: Callable[[Hashable], None],
        kinds: tuple[Kind, ...] = (),
    ) -> None:
        self.kinds = kinds
        """The channels and event classes it takes."""
        self._client = client
        self._events = events
        self._holder = holder
        self._finalizer = weakref.finalize(self, orphan, holder)
        self._finalizer.atexit = False

    def get(self, block: bool = True, timeout: float | None = None) -> E_co:  # noqa: FBT001, FBT002 - as queue.Queue has it
        """Remove and return the oldest event.

        Args:
            block: wait for an event if there is none.
            timeout: seconds to wait at most; None: for ever.  Ctrl-C interrupts the wait.

        Raises:
            queue.Empty: nothing came in time.
            StreamClosed: the stream is closed and drained.
            AllenHarkError: the client failed (its terminal error), or this stream (`SlowConsumer`), and it is drained.
            TypeError, ValueError: the timeout is no number of seconds, or negative.
            RuntimeError: waiting in an inline callback, where nothing could ever arrive.

        Example:
            >>> client.stream(Bot("bot_abc123")).get(timeout=5).event
            'trade_executed'
        """
        seconds = self._patience(timeout if block else 0.0)
        drained, error = False, None
        try:
            event: E_co = self._events.take(seconds)
        except TimedOut:
            pass
        except Drained as end:
            drained, error = True, end.error
        else:
            return event
        if drained:
            self._end(error)
        raise queue.Empty

    def get_nowait(self) -> E_co:
        """`get` without waiting.

        Example:
            >>> from queue import Empty
            >>> try:
            ...     client.stream(Gap).get_nowait()
            ... except Empty:
            ...     print("no gap")
            no gap
        """
        return self.get(block=False)

    def get_batch(self, max_items: int, timeout: float | None = None) -> list[E_co]:
        """Remove and return up to `max_items` events, oldest first; waits for the first one only.

        Args:
            max_items: at least 1.
            timeout: seconds to wait for the first; None: for ever.

        Returns:
            The events; an empty list when nothing came in time.

        Raises:
            StreamClosed, AllenHarkError, RuntimeError: as `get`.
            TypeError, ValueError: `max_items` is no whole number from 1, or the timeout no number of seconds.

        Example:
            >>> stream = client.stream(Price("M"))
            >>> len(stream.get_batch(100, timeout=5)) >= 1
            True
            >>> client.stream(Gap).get_batch(100, timeout=0)
            []
        """
        if isinstance(max_items, bool) or not isinstance(max_items, int):
            raise TypeError(f"max_items takes a whole number, got {type(max_items).__name__}")
        if max_items < 1:
            raise ValueError(f"max_items must be at least 1, got {max_items}")
        seconds = self._patience(timeout)
        try:
            return self._events.take_batch(max_items, seconds)
        except TimedOut:
            return []
        except Drained as end:
            error = end.error
        return self._end(error)

    def _patience(self, timeout: float | None) -> float | None:
        """The timeout, checked, None for ever.

        Raises:
            ClientClosed: this process was forked from the client's.
            TypeError, ValueError: it is no number of seconds, or negative.
            RuntimeError: nothing is queued, and the thread that would have to wait is the one that fills the queue.
        """
        self._client._check_process()
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
                raise TypeError(f"timeout takes seconds or None, got {type(timeout).__name__}")
            if not timeout >= 0:
                raise ValueError("timeout must not be negative; pass None to wait for ever")
        if timeout != 0 and self._events.would_wait:
            self._client._check_may_wait("wait on a stream")
        return None if timeout is None or timeout >= _FOR_EVER else float(timeout)

    def _end(self, error: AllenHarkError | None) -> NoReturn:
        """Raise what there is to raise at the end.

        Nobody may bind `StreamClosed` to a name: a frame and an error that hold each other would keep the client until
        the collector runs.
        """
        raise_again(error or StreamClosed(self.name))

    def __iter__(self) -> Iterator[E_co]:
        """Yield events as they come; ends quietly when stream or client is closed, raises when either failed."""
        loop = self._client._loop
        while True:
            # Looked at before the queue is: a thread that is gone with the fork may hold its lock.
            for event in () if loop.forked else self._events.queued():
                yield event
                del event  # whoever waits for the next one must not keep this one
                if loop.forked:
                    break
            try:
                event = self.get()
            except StreamClosed:
                return
            yield event
            del event

    def to_dataframe(self) -> pd.DataFrame:
        """Remove what is queued now, and return it as a table; see `allenhark_ws.to_dataframe`.

        With ``Client(decimal=True)`` prices, volumes and profits are columns of `Decimal`, whatever is queued.

        Raises:
            ImportError: pandas is missing; the text says what to install, and nothing was taken.
            AllenHarkError: nothing is queued, and the client failed (its terminal error), or this stream did.

        Example:
            >>> prices = client.stream(Price("M"))
            >>> simulator.wait_for(prices.qsize) >= 1
            True
            >>> prices.to_dataframe()["mint"].unique().tolist()
            ['M']
        """
        from .dataframe import to_dataframe  # noqa: PLC0415 - pandas is an extra, and heavy

        return to_dataframe(self._take_queued(), decimal=self._client._settings.decimal)

    def _take_queued(self) -> Iterator[E_co]:
        """What is queued when the first is asked for; what comes meanwhile stays."""
        with contextlib.suppress(StreamClosed):
            yield from self.get_batch(max(1, self.qsize()), timeout=0)

    def qsize(self) -> int:
        """How many events are queued.

        Example:
            >>> client.stream(Gap).qsize()
            0
        """
        return len(self._events)

    def empty(self) -> bool:
        """Whether nothing is queued.

        Example:
            >>> client.stream(Gap).empty()
            True
        """
        return not len(self._events)

    @property
    def client(self) -> allenhark_ws.Client:
        """The client whose events these are."""
        return self._client

    @property
    def name(self) -> str:
        """The stream's name, as `EventsDropped.consumer` and `SlowConsumer.consumer` give it."""
        return self._events.name

    @property
    def dropped(self) -> int:
        """How many events were lost because the queue was full."""
        return self._events.dropped

    @property
    def conflated(self) -> int:
        """How many unread prices were replaced by newer ones (``overflow="latest"``)."""
        return self._events.conflated

    @property
    def high_water(self) -> int:
        """The most events that were ever queued at a time."""
        return self._events.high_water

    def close(self) -> None:
        """Take no more events and release the channels; what is queued can still be read.  Idempotent, any thread.

        In a forked child it does nothing: the stream is the parent's.

        Example:
            >>> stream = client.stream(Price("M"))
            >>> stream.close()
            >>> client.subscriptions
            frozenset()
        """
        if not self._finalizer.alive:
            return
        with contextlib.suppress(ClientClosed):
            self._client._check_process()
            self._events.finish()
            self._client._release(self._holder)
        self._finalizer.detach()  # last: a close that Ctrl-C cut short can be made again

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.name}: {self.qsize()} of {self._events.maxsize} queued, {self.dropped} dropped>"

    def _repr_html_(self) -> str:
        from ._html import stream_html  # noqa: PLC0415 - loaded when a notebook asks

        return stream_html(self, self._events.maxsize, self._events.overflow)
