"""Blocking calls run aside: results, errors, deadlines and changes of mind."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from allenhark_ws._aside import Interrupted, TookTooLong, call_aside

from .patience import PATIENCE
from .peers import Clock, Waiting


def test_result_comes_back() -> None:
    """The function runs on a daemon thread named after the package, and its result is returned."""
    waiting = Waiting()
    thread = call_aside(
        threading.current_thread,
        name="dns",
        wait=waiting,
        wake=waiting.wake,
        deadline=time.monotonic() + PATIENCE,
        clock=time.monotonic,
    )
    assert thread.name == "allenhark-dns"
    assert thread.daemon


def test_exception_comes_back() -> None:
    """What the function raises is raised to the one who waits."""
    waiting = Waiting()

    def fail() -> None:
        raise LookupError("nowhere")

    with pytest.raises(LookupError, match="nowhere"):
        call_aside(
            fail,
            name="dns",
            wait=waiting,
            wake=waiting.wake,
            deadline=time.monotonic() + PATIENCE,
            clock=time.monotonic,
        )


def test_without_a_thread_the_call_is_made_in_place() -> None:
    """When no thread can be started the caller makes the call itself, and errors come back as ever."""
    waiting = Waiting()
    asked: list[str] = []

    def refuse(_run: object, name: str) -> None:
        asked.append(name)
        raise RuntimeError("can't start new thread")

    def here() -> threading.Thread:
        return call_aside(
            threading.current_thread,
            name="dns",
            wait=waiting,
            wake=waiting.wake,
            deadline=time.monotonic() + PATIENCE,
            clock=time.monotonic,
            spawn=refuse,
        )

    assert here() is threading.current_thread()
    assert asked == ["allenhark-dns"]


class _Hanging:
    """A function that hangs until released, and the wake-ups it caused."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.thread: threading.Thread | None = None
        self.started = threading.Event()
        self.woken = 0

    def __call__(self) -> str:
        self.thread = threading.current_thread()
        self.started.set()
        self.release.wait(PATIENCE)
        return "late"

    def wake(self) -> None:
        self.woken += 1

    def finish(self) -> None:
        assert self.started.wait(PATIENCE)
        self.release.set()
        assert self.thread is not None
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


def test_deadline_leaves_the_call_behind() -> None:
    """At the deadline TookTooLong is raised; the late result is dropped and wakes nobody."""
    hanging, clock = _Hanging(), Clock()

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        assert (sock, mask) == (None, 0)
        clock.now = deadline
        return False

    with pytest.raises(TookTooLong):
        call_aside(hanging, name="dns", wait=wait, wake=hanging.wake, deadline=clock.now + 5, clock=clock)
    hanging.finish()
    assert hanging.woken == 0


def test_interruption_passes() -> None:
    """Interrupted, raised by the waiter, passes through at once."""
    hanging, clock = _Hanging(), Clock()

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        raise Interrupted

    with pytest.raises(Interrupted):
        call_aside(hanging, name="dns", wait=wait, wake=hanging.wake, deadline=clock.now + 5, clock=clock)
    hanging.finish()
    assert hanging.woken == 0


def test_a_wake_up_for_something_else_changes_nothing() -> None:
    """The waiter may return for other reasons: the wait goes on."""
    waiting = Waiting()
    hanging = _Hanging()
    calls: list[int] = []

    def wait(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        calls.append(mask)
        if len(calls) == 3:
            hanging.release.set()
        return waiting(sock, mask, deadline) if len(calls) >= 3 else False

    result = call_aside(
        hanging,
        name="dns",
        wait=wait,
        wake=waiting.wake,
        deadline=time.monotonic() + PATIENCE,
        clock=time.monotonic,
    )
    assert result == "late"
    assert len(calls) >= 3
