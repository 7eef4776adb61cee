"""What is put in the place of a user's code: one counts messages and stops the clock, the other looks at the time.

A contender calls `begin` when it asks for the traffic, gives every message to a handler (or, where the user's code is
the body of a loop, the loop's iterator to `consume`), and `wait`s when it has nothing to do itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from statistics import quantiles
from typing import Any, Final, Protocol

__all__ = ["PATIENCE", "Count", "Handler", "Probe", "Stamps"]

Handler = Callable[[Any], None]

PATIENCE: Final = 120.0
"""Seconds to wait for the last message."""


class Probe(Protocol):
    """What contenders know of a probe."""

    messages: int
    """How many will come."""

    def begin(self) -> None:
        """The traffic is asked for now."""

    def handler(self) -> Handler:
        """A new function to be called with each message; all handlers of a probe count together."""

    def consume(self, messages: Iterable[Any]) -> None:
        """Be the body of the loop, until the last message."""

    def wait(self) -> None:
        """Wait until the last message was handled."""

    def result(self) -> dict[str, float]:
        """What was found."""


class _Waiting:
    """The part they have in common."""

    def __init__(self, messages: int) -> None:
        self.messages = messages
        self._done = threading.Event()

    def wait(self) -> None:
        """Wait until the last message was handled.

        Raises:
            TimeoutError: it did not come.
        """
        if not self._done.wait(PATIENCE):
            raise TimeoutError(f"{self.messages} messages did not come within {PATIENCE:g} s")


class Count(_Waiting):
    """Counts, and takes wall and processor time from `begin` to the last message."""

    def __init__(self, messages: int) -> None:
        super().__init__(messages)
        self._begun = self._ended = (0.0, 0.0)
        self._counted: Callable[[], int] = lambda: 0
        self._handlers = self._make_handlers()

    def begin(self) -> None:
        """Start the clocks."""
        self._begun = (time.perf_counter(), time.process_time())

    def end(self, count: int) -> None:
        """Stop the clocks; for those who count by themselves."""
        self._ended = (time.perf_counter(), time.process_time())
        self._counted = lambda: count
        self._done.set()

    def handler(self) -> Handler:
        """A new function that does no more than count."""
        return next(self._handlers)

    def _make_handlers(self) -> Iterator[Handler]:
        count, expected = 0, self.messages
        counted = lambda: count  # noqa: E731 - a name for it would say less

        def make() -> Handler:
            def handle(_message: object) -> None:
                nonlocal count
                count += 1
                if count == expected:
                    self.end(count)
                    self._counted = counted

            return handle

        self._counted = counted
        while True:
            yield make()

    def consume(self, messages: Iterable[Any]) -> None:
        """Count in the body of a loop, without a call."""
        count = 0
        for _message in islice(messages, self.messages):
            count += 1
        self.end(count)

    def result(self) -> dict[str, float]:
        """Messages, seconds, and seconds of all processors that this process used."""
        wall, cpu = (end - begin for begin, end in zip(self._begun, self._ended, strict=True))
        return {"messages": self._counted(), "seconds": wall, "cpu": cpu}


class Stamps(_Waiting):
    """Takes the time from the server's stamp to the user's code, for each message; the first tenth is warm-up."""

    def __init__(self, messages: int) -> None:
        super().__init__(messages)
        self._delays: list[int] = []

    def begin(self) -> None:
        """Nothing: every message has its own beginning."""

    def handler(self) -> Handler:
        """A new function that looks at the time."""
        now, note, expected, delays = time.monotonic_ns, self._delays.append, self.messages, self._delays

        def handle(message: Any) -> None:
            at = now()
            note(at - (message["slot"] if type(message) is dict else message.slot))
            if len(delays) == expected:
                self._done.set()

        return handle

    def consume(self, messages: Iterable[Any]) -> None:
        """Look at the time in the body of a loop."""
        handle = self.handler()
        for message in islice(messages, self.messages):
            handle(message)

    def result(self) -> dict[str, float]:
        """Messages, and the median and 99th percentile of the delays in microseconds."""
        percentiles = quantiles(self._delays[len(self._delays) // 10 :], n=100, method="inclusive")
        return {"messages": len(self._delays), "p50": percentiles[49] / 1000, "p99": percentiles[98] / 1000}
