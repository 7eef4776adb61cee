"""`Recorder`: what is received goes to disk, on a thread of its own and from a bounded buffer.

The I/O thread must never wait here, it only puts what it has read into the buffer: a disk that hangs, crawls or is full
costs frames of the recording, which are counted and told, and never a moment of the connection.  Neighbours: `client`
makes recorders, `_intake` gives them what was read, `_loop` ends them; `_files` writes.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Final, Protocol

from .._hints import Self
from .._log import log
from .._words import counted
from ..errors import raise_again
from ..events import Event, EventsDropped
from ._format import encode

__all__ = ["Output", "Recorder", "Source"]


_GATHER: Final = 0.5
"""Seconds that frames wait for others to be written with; a crash loses those, and what is just being written."""

_OVERHEAD: Final = 128
"""Bytes that a frame takes in the buffer beside its payload."""

_TOGETHER: Final = 1_048_576
"""Bytes of lines that are made before they are written."""

_STOP_TIMEOUT: Final = 5.0
_SLICE: Final = 0.5
"""Seconds of a single wait for the thread: Ctrl-C is heard between."""


class Output(Protocol):
    """Where lines go; see `_files.Files`."""

    @property
    def path(self) -> str: ...

    @property
    def lines(self) -> int: ...

    def write(self, lines: Sequence[bytes], /) -> None: ...

    def close(self) -> None: ...

    def discard(self) -> None: ...


class Source(Protocol):
    """Whose frames are recorded; see `_loop.Loop`."""

    def remove_tap(self, tap: Recorder, /) -> None: ...

    def report(self, event: Event, /) -> None: ...


_Batch = tuple[datetime, Sequence[bytes]]
"""What one read brought, and when."""


def _size(messages: Sequence[bytes]) -> int:
    """Bytes that a batch takes in the buffer."""
    return sum(map(len, messages)) + _OVERHEAD * len(messages)


class Recorder:
    """A recording under way; made by `Client.record`.

    It ends with `stop()`, on leaving its ``with`` block, or with its client; one that nobody holds goes on until then.
    When the disk is full, or fails in any other way, it ends by itself: the client goes on, what is lost is counted,
    and `stop()` raises the error.

    Example:
        >>> recorder = client.record("day.jsonl")
        >>> seconds = client.flush()
        >>> recorder.stop()
        >>> recorder.path, recorder.frames, recorder.lost
        ('day.jsonl', 1, 0)
    """

    def __init__(
        self,
        output: Output,
        source: Source,
        max_buffer: int,
        *,
        gather: float = _GATHER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._output = output
        self._source = weakref.ref(source)  # the thread holds this recorder, and must keep no client alive
        self._max_buffer = max_buffer
        self._gather = gather
        self._clock = clock
        # Reentrant: the finalizer may run on a thread that holds it.
        # To be entered by itself: Ctrl-C can come within `Condition.__enter__`, and leave the lock taken for ever.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._batches: list[_Batch] = []
        self._buffered = 0  # bytes, with those that are just being written
        self._taken = 0  # frames
        self._refused = 0
        self._told = 0
        self._is_losing = False
        self._error: Exception | None = None
        self._finishing = False
        self._disowned = False
        self._name = f"recording {output.path}"
        self._thread = threading.Thread(target=self._run, name="allenhark-recorder", daemon=True)
        self._finalizer = weakref.finalize(source, self.finish)  # of a client that was never started
        self._finalizer.atexit = False

    # --- For its user

    @property
    def path(self) -> str:
        """The file that is, or was last, written to: with a rotation not the one that was asked for."""
        return self._output.path

    @property
    def frames(self) -> int:
        """How many frames were written so far."""
        return self._output.lines

    @property
    def lost(self) -> int:
        """How many frames are missing in the recording, since the disk was too slow or failed."""
        return self._refused + (0 if self._error is None else self._taken - self._output.lines)

    @property
    def error(self) -> Exception | None:
        """What ended the recording before its time, or None; `stop()` raises it."""
        return self._error

    def stop(self, timeout: float = _STOP_TIMEOUT) -> None:
        """End the recording, with all that was received so far written; idempotent, from any thread.

        In a forked child it does nothing: the file is the parent's.

        Args:
            timeout: seconds to wait for the disk at most.

        Raises:
            OSError: writing failed; `lost` says how much is missing.
            TimeoutError: the disk is slow; writing goes on, and so can waiting, by another call.
        """
        if self._disowned:
            return
        source = self._source()
        if source is not None:
            source.remove_tap(self)
        self.finish()
        if not self.join(time.monotonic() + timeout):
            raise TimeoutError(f"{self.path} was not written within {timeout:g} s; stop() again waits on")
        self._report(self._losses())
        if self._error is not None:
            raise_again(self._error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(*([] if error is None else [OSError])):  # it is logged, and what happened comes first
            self.stop()

    def __repr__(self) -> str:
        return f"<Recorder {self.path}: {counted(self.frames, 'frame')}, {self.lost} lost>"

    # --- For the client's threads

    def start(self) -> None:
        """Begin writing.

        Raises:
            RuntimeError: no thread can be started; a file that was made for it is gone again.
        """
        try:
            self._thread.start()
        except BaseException:  # Ctrl-C, too
            if self._thread.ident is None:
                self._output.discard()
            self.finish()
            raise

    def put(self, at: datetime, messages: Sequence[bytes]) -> None:
        """Take what one read brought, or count it as lost; never waits for the disk."""
        if not messages:
            return
        size = _size(messages)
        report = None
        with self._lock:
            if self._finishing:
                return
            if self._error is not None or (self._buffered and self._buffered + size > self._max_buffer):
                self._refused += len(messages)
                report = self._begin_losing()
            else:
                self._batches.append((at, messages))
                self._taken += len(messages)
                self._buffered += size
                if len(self._batches) == 1 or self._is_half_full():
                    self._changed.notify_all()
        self._report(report)

    def finish(self) -> None:
        """Take nothing more, and end once all is written; does not wait for that."""
        if self._disowned:  # by a fork: a thread that is gone may hold the lock
            return
        self._finalizer.detach()
        with self._lock:
            self._finishing = True
            self._changed.notify_all()
        if self._thread.ident is None:  # there is no thread, and will be none: Ctrl-C came before, or none can be had
            self._output.close()

    def join(self, deadline: float) -> bool:
        """Wait for the end, until the monotonic deadline; whether it came."""
        while self._thread.is_alive() and self._thread is not threading.current_thread():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self._thread.join(min(remaining, _SLICE))
        return True

    def disown(self) -> None:
        """In a forked child: let go of the parent's file, without a lock and without writing."""
        self._disowned = True
        self._finalizer.detach()
        self._output.close()

    # --- Losses

    def _is_half_full(self) -> bool:
        return 2 * self._buffered > self._max_buffer

    def _begin_losing(self) -> EventsDropped | None:
        """The report of it, unless that was made."""
        if self._is_losing:
            return None
        self._is_losing = True
        return self._losses()

    def _losses(self) -> EventsDropped:
        """What was lost since the last report."""
        lost = self.lost
        count, self._told = lost - self._told, lost
        return EventsDropped(count, self._name)

    def _report(self, report: EventsDropped | None) -> None:
        source = self._source()
        if report is not None and report.count and source is not None:
            source.report(report)

    # --- The thread

    def _run(self) -> None:
        """Write until there will be nothing more: the body of the thread."""
        try:
            while batches := self._next_batches():
                self._write(batches)
        except Exception as error:  # noqa: BLE001 - whatever it is, `stop` raises it
            self._fail(error)
        finally:
            self._close()

    def _next_batches(self) -> list[_Batch]:
        """What came within some time, or all that is left; nothing when nothing will come."""
        with self._lock:
            while not (self._batches or self._finishing):
                self._changed.wait()
            deadline = self._clock() + self._gather
            while not (self._finishing or self._is_half_full()):
                remaining = deadline - self._clock()
                if remaining <= 0:
                    break
                self._changed.wait(remaining)
            batches, self._batches = self._batches, []
            return batches

    def _write(self, batches: list[_Batch]) -> None:
        lines: list[bytes] = []
        size = 0
        for at, messages in batches:
            lines += encode(at, messages)
            size += _size(messages)
            if size > _TOGETHER:
                self._put_out(lines, size)
                lines, size = [], 0
        if lines:
            self._put_out(lines, size)

    def _put_out(self, lines: list[bytes], size: int) -> None:
        self._output.write(lines)
        report = None
        with self._lock:
            self._buffered -= size
            if self._is_losing and not self._is_half_full():
                self._is_losing = False
                report = self._losses()
        if report is not None:
            log(logging.WARNING, "%s: the disk was too slow, %d frames are lost so far", self._name, self.lost)
        self._report(report)

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._error = error
            self._batches.clear()
            report = self._losses()
            self._is_losing = True
        text = "%s failed, %d frames are lost so far; the client goes on: %s"
        log(logging.ERROR, text, self._name, self.lost, error)
        self._report(report)

    def _close(self) -> None:
        try:
            self._output.close()
        except OSError as error:  # some network file systems tell only now
            if self._error is None:
                self._fail(error)
