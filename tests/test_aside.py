"""Blocking calls run aside: results, errors, deadlines and changes of mind."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from allenhark_ws._aside import _MAX_LEFT_BEHIND, Interrupted, NoThread, TookTooLong, call_aside

from .patience import PATIENCE
from .peers import Clock, Waiting
from .scripted import outcome, run_aside


@pytest.fixture(autouse=True)
def left_behind(monkeypatch: pytest.MonkeyPatch) -> set[object]:
    """The calls that hang, but for those of other tests."""
    calls: set[object] = set()
    monkeypatch.setattr("allenhark_ws._aside._left_behind", calls)
    return calls


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


def without_threads(*, is_last_resort: bool) -> object:
    """What comes of a call where no thread can be started: whose thread made it, or the error."""
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
            is_last_resort=lambda: is_last_resort,
        )

    result = outcome(here)
    assert asked == ["allenhark-dns"]
    return result


def test_when_the_main_thread_has_ended_the_call_is_made_in_place() -> None:
    """No thread can be started any more, and those that are left may need the connection still."""
    assert without_threads(is_last_resort=True) is threading.current_thread()


def test_a_process_at_its_limit_makes_no_call(left_behind: set[object]) -> None:
    """It might hang, and with it the thread that asks for it; the next attempt may have a thread."""
    assert isinstance(without_threads(is_last_resort=False), NoThread)
    assert not left_behind


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


def test_calls_that_hang_do_not_become_ever_more(left_behind: set[object]) -> None:
    """Beyond a number of them no other is begun, which fails at its own deadline; until one of them has ended."""
    clock, gate, begun = Clock(), threading.Event(), list[threading.Thread]()

    def hang() -> bool:
        return gate.wait(PATIENCE)

    def spawn(run: Callable[[], None], _name: str) -> None:
        begun.append(run_aside(run))

    def expire(sock: socket.socket | None, mask: int, deadline: float) -> bool:
        clock.now = deadline
        return False

    def attempt() -> object:
        return outcome(
            lambda: call_aside(
                hang, name="dns", wait=expire, wake=lambda: None, deadline=clock.now + 5, clock=clock, spawn=spawn
            )
        )

    assert {type(attempt()) for _ in range(3 * _MAX_LEFT_BEHIND)} == {TookTooLong}
    assert len(begun) == len(left_behind) == _MAX_LEFT_BEHIND
    gate.set()
    for thread in begun:
        thread.join(PATIENCE)
    assert not left_behind
    attempt()
    assert len(begun) == _MAX_LEFT_BEHIND + 1
    begun[-1].join(PATIENCE)


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
