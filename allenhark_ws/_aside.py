"""Waiting without owning the loop: the waiter's shape, and one blocking call run aside on a short-lived thread.

Only name resolution, urllib's for its choice of a proxy too, and the user's ``api_key`` callable go aside: none can be
made non-blocking or interrupted.  Neighbours: `_network` gives the waiter and asks for the key aside, `_guard` waits
with it, `_dns` and `_proxy` look names up aside.  A helper thread must never touch a socket, nor be waited for beyond
the deadline; and those that hang must not become ever more.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from attrs import define, field

__all__ = ["Interrupted", "NoThread", "TookTooLong", "Waiter", "call_aside"]

T = TypeVar("T")

_MAX_LEFT_BEHIND: Final = 32
"""Calls of this process that hang, beyond which no other is begun: with every attempt to connect one more would."""

Waiter = Callable[["socket.socket | None", int, float], bool]
"""``wait(sock, mask, deadline)`` sleeps until the socket is ready for the `selectors` mask (True), or until something
else woke the loop or the monotonic deadline passed (False: look at the clock and ask again).

Without a socket it waits for a wake-up alone.  It raises `Interrupted` when the connection being opened is no longer
wanted."""


class Interrupted(Exception):
    """Raised by a `Waiter`: nobody wants the connection that is being opened any more; release it and let this pass."""


class TookTooLong(Exception):
    """What was called aside was not done by its deadline; no `TimeoutError`, which it may have raised itself."""


class NoThread(Exception):
    """This process can start no more threads."""


@define(eq=False)
class _Call(Generic[T]):
    """One call on its way: the helper thread fills it in, the waiting thread reads it or turns away."""

    function: Callable[[], T]
    wake: Callable[[], None]
    abandoned: bool = False
    _results: list[T] = field(factory=list[T])
    _errors: list[BaseException] = field(factory=list[BaseException])

    def run(self) -> None:
        """Make the call (on the helper thread), keep what came of it and wake the one who waits."""
        try:
            self._results.append(self.function())
        except BaseException as error:  # noqa: BLE001 - handed over to the waiting thread whole
            self._errors.append(error)
        _left_behind.discard(self)
        if not self.abandoned:
            self.wake()

    @property
    def done(self) -> bool:
        return bool(self._results or self._errors)

    def abandon(self) -> None:
        """Nobody waits any more."""
        self.abandoned = True
        _left_behind.add(self)
        if self.done:  # and perhaps before it was among them
            _left_behind.discard(self)

    def outcome(self) -> T:
        """The result, or the exception raised; both are let go, so no cycle keeps a secret or a socket alive."""
        if self._errors:
            raise self._errors.pop()
        return self._results.pop()


_left_behind: Final[set[_Call[Any]]] = set()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_left_behind.clear)  # their threads are the parent's


def _has_main_ended() -> bool:
    """Whether the interpreter only waits for its other threads to end."""
    return not threading.main_thread().is_alive()


def _spawn(run: Callable[[], None], name: str) -> None:
    threading.Thread(target=run, name=name, daemon=True).start()


def call_aside(  # noqa: PLR0913 - all by name
    function: Callable[[], T],
    *,
    name: str,
    wait: Waiter,
    wake: Callable[[], None],
    deadline: float,
    clock: Callable[[], float],
    spawn: Callable[[Callable[[], None], str], None] = _spawn,
    is_last_resort: Callable[[], bool] = _has_main_ended,
) -> T:
    """Run a blocking function on a daemon thread of its own and wait for it, interruptibly.

    Args:
        function: what to run; nothing can stop it, so at the deadline its thread is left behind and its result dropped.
        name: what it does, in a word; becomes part of the thread's name.
        wait: the loop's waiter.
        wake: makes the waiter return; called from the helper thread, perhaps after this call returned, so it must
            neither raise nor mind being late.
        deadline: when to give up, on `clock`.
        clock: monotonic seconds.
        spawn: starts a function on a daemon thread of this name, or raises `RuntimeError`.
        is_last_resort: whether the call is then made here and now, interruptible by nothing: CPython 3.12 starts no
            thread once the main thread has ended, though others may still need the connection.

    Raises:
        TookTooLong: the deadline passed, perhaps while too many earlier calls hung for this one to begin.
        NoThread: no thread can be started.
        Interrupted: the waiter said so.
        BaseException: whatever the function raised.
    """
    call = _Call(function, wake)
    while len(_left_behind) >= _MAX_LEFT_BEHIND:
        _wait_on(name, wait, deadline, clock)
    if not _has_begun(call, name, spawn):
        if not is_last_resort():
            raise NoThread(name)
        call.run()
    try:
        while not call.done:
            _wait_on(name, wait, deadline, clock)
    finally:
        call.abandon()
    return call.outcome()


def _wait_on(name: str, wait: Waiter, deadline: float, clock: Callable[[], float]) -> None:
    if clock() >= deadline:
        raise TookTooLong(name)
    wait(None, 0, deadline)


def _has_begun(call: _Call[T], name: str, spawn: Callable[[Callable[[], None], str], None]) -> bool:
    """Begin it on a thread of its own; False when there is none to be had."""
    try:
        spawn(call.run, f"allenhark-{name}")
    except RuntimeError:
        return False
    return True
