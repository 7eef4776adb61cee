"""Waits that Ctrl-C ends, and locks that tell who holds them."""

from __future__ import annotations

import threading
import time

import pytest

from allenhark_ws._locks import held_here, wait_slices

from .patience import PATIENCE
from .scripted import run_aside


def test_wait_slices_tells_that_the_deadline_has_passed() -> None:
    """No wait at all behind the deadline; one wait before it."""
    condition = threading.Condition()
    with condition:
        assert not wait_slices(condition, time.monotonic() - 1.0)
        assert wait_slices(condition, time.monotonic() + 0.01)


@pytest.mark.parametrize("held", [True, False])
def test_ctrl_c_when_a_wait_has_let_go_of_its_lock(monkeypatch: pytest.MonkeyPatch, held: bool) -> None:
    """The lock is held again behind it, so that KeyboardInterrupt is what comes out of the ``with``."""
    condition = threading.Condition()

    def interrupted(_timeout: float) -> bool:
        if not held:
            condition.release()
        raise KeyboardInterrupt

    monkeypatch.setattr(condition, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt), condition:
        wait_slices(condition, None)
    free: list[bool] = []
    thread = threading.Thread(target=lambda: free.append(condition.acquire(timeout=PATIENCE)))
    thread.start()
    thread.join()
    assert free == [True]


def test_a_lock_is_held_by_the_thread_that_has_it() -> None:
    """And by no other, nor when nobody has it; asking changes nothing."""
    lock = threading.RLock()
    assert not held_here(lock)
    with lock:
        assert held_here(lock)
        elsewhere: list[bool] = []
        run_aside(lambda: elsewhere.append(held_here(lock))).join(PATIENCE)
        assert elsewhere == [False]
        assert held_here(lock)
    assert not held_here(lock)
