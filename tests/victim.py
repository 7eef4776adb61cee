"""A process with clients in it, told what to do over its standard streams, whose memory is measured to the byte.

It is run by `test_hostile`, whose servers live in the test's own process, so that nothing of theirs is measured.  One
JSON object a line goes in, one comes out.  Memory is what `tracemalloc` counts: every allocation of Python and of its
extensions that go through Python's allocators, the same on every system, whatever the process held before.
"""

from __future__ import annotations

import gc
import json
import logging
import ssl
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from allenhark_ws import Backoff, Client, Closed, Disconnected, Event, LifecycleEvent, Price, Reconnecting, ServerEvent

PATIENCE: Final = 60.0  # as in `patience`, which a script cannot import
_TOLD: Final = 400
"""Characters of a text that are reported: hostile ones may have a million."""

_KINDS: Final[dict[str, type[Event]]] = {"Event": Event, "ServerEvent": ServerEvent}


class _Log(logging.Handler):
    """Counts what is logged at the package's default level."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count it."""
        self.count += 1


def _told(error: BaseException) -> dict[str, Any]:
    return {"raised": type(error).__name__, "text": str(error)[:_TOLD], "length": len(str(error))}


class Case:
    """One client under attack, from its making to its end.

    Args:
        options: the client's settings; `cafile` becomes its TLS context, `backoff` is given by its fields.
        stream: options of a stream that nobody reads until `read` is asked for, or None.
        fast: have a callback on every event that counts and forgets.
    """

    def __init__(self, options: dict[str, Any], stream: dict[str, Any] | None = None, *, fast: bool = False) -> None:
        self.log = _Log()
        logging.getLogger("allenhark_ws").addHandler(self.log)
        self._changed = threading.Condition()
        self._lifecycle: list[dict[str, Any]] = []
        self._counts: Counter[str] = Counter()
        cafile = options.pop("cafile", None)
        options["ssl_context"] = ssl.create_default_context(cafile=cafile) if cafile else None
        options["backoff"] = Backoff(**options.pop("backoff"))
        gc.collect()
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]
        self.client = Client("test-key-of-a-victim", **options)
        self.client.on(LifecycleEvent, self._keep)
        if fast:
            self.client.on(Event, self._count)
        self.stream = None
        if stream is not None:
            kinds = [_KINDS[kind] for kind in stream.pop("kinds", [])]
            self.stream = self.client.stream(*kinds, **stream)

    def _keep(self, event: Event) -> None:
        kept: dict[str, Any] = {"event": type(event).__name__}
        if isinstance(event, Disconnected):
            kept |= {"code": event.code, "reason": event.reason}
        if isinstance(event, Reconnecting):
            kept |= {"delay": event.delay}
        error = event.error if isinstance(event, Closed) else getattr(event, "cause", None)
        if isinstance(error, BaseException):
            kept |= _told(error)
        with self._changed:
            self._lifecycle.append(kept)
            self._changed.notify_all()

    def _count(self, event: Event) -> None:
        with self._changed:
            self._counts[type(event).__name__] += 1
            self._changed.notify_all()

    def verb(self, name: str, *arguments: Any) -> dict[str, Any]:
        """Use one of the client's verbs; what it raised, if it did."""
        method = getattr(self.client, name)
        try:
            method(*(Price(argument["mint"]) if isinstance(argument, dict) else argument for argument in arguments))
        except Exception as error:  # noqa: BLE001 - the answer
            return _told(error)
        return {"raised": None}

    def wait(self, kind: str) -> dict[str, Any]:
        """Wait for the first lifecycle event of a class, and tell it."""
        with self._changed:
            self._wait_for(lambda: any(kept["event"] == kind for kept in self._lifecycle))
            return next(kept for kept in self._lifecycle if kept["event"] == kind)

    def wait_count(self, kind: str, count: int) -> dict[str, Any]:
        """Wait until the fast callback had so many events of a class."""
        with self._changed:
            self._wait_for(lambda: self._counts[kind] >= count)
        return {}

    def _wait_for(self, predicate: Callable[[], bool]) -> None:
        if not self._changed.wait_for(predicate, PATIENCE):
            raise TimeoutError(f"only {self._lifecycle}, {self._counts}, {self.client.stats}"[:2000])

    def tell(self) -> dict[str, Any]:
        """How things stand."""
        stats, stream = self.client.stats, self.stream
        return {
            "state": stats.state.name,
            "attempts": stats.attempts,
            "types": len(stats.received_by_type),
            "lifecycle": [kept["event"] for kept in self._lifecycle],
            "queued": None if stream is None else stream.qsize(),
            "high_water": None if stream is None else stream.high_water,
        }

    def leave(self) -> dict[str, Any]:
        """Close."""
        self.client.close()
        return {}

    def end(self) -> dict[str, Any]:
        """Close, and tell what it all cost."""
        self.client.close()
        told = self.tell()
        peak = tracemalloc.get_traced_memory()[1] - self._before
        logging.getLogger("allenhark_ws").removeHandler(self.log)
        threads = [thread.name for thread in threading.enumerate() if "allenhark" in thread.name]
        return told | {"peak": peak, "logged": self.log.count, "threads": threads}


def main() -> None:
    """Obey until there is nothing more to read."""
    tracemalloc.start()
    case: Case | None = None
    for line in sys.stdin:
        order = json.loads(line)
        name, arguments = order["do"], order["with"]
        try:
            if name == "new":
                case, answer = None, {}
                case = Case(*arguments[:2], fast=arguments[2])
            else:
                answer = getattr(case, name)(*arguments)
        except Exception as error:  # noqa: BLE001 - raised again by the test
            answer = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
