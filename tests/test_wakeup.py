"""The socket pair that wakes the I/O thread: never blocks, never raises, never writes to a stranger."""

from __future__ import annotations

import select
import threading
from collections.abc import Iterator

import pytest

from allenhark_ws._wakeup import _CHUNK, WakeUp

from .patience import PATIENCE


@pytest.fixture
def wakeup() -> Iterator[WakeUp]:
    """A pair, closed afterwards."""
    pair = WakeUp()
    yield pair
    pair.close()


def awake(wakeup: WakeUp, timeout: float = 0.0) -> bool:
    """Whether a selector would return."""
    return bool(select.select([wakeup.receiver], [], [], timeout)[0])


def test_wake_and_drain(wakeup: WakeUp) -> None:
    """One byte or many: the selector returns until they are drained, all at once."""
    assert not awake(wakeup)
    for count in (1, 3):
        for _ in range(count):
            wakeup.wake()
        assert awake(wakeup)
        wakeup.drain()
        assert not awake(wakeup)


def test_drain_without_a_wake_up(wakeup: WakeUp) -> None:
    """There may be nothing to take."""
    wakeup.drain()
    assert not awake(wakeup)


def test_full_pair_does_not_block(wakeup: WakeUp) -> None:
    """However often it is woken undrained, `wake` returns, and one drain takes everything."""
    for _ in range(10_000):
        wakeup.wake()
    assert awake(wakeup)
    wakeup.drain()
    assert not awake(wakeup)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_drain_takes_more_than_one_read(wakeup: WakeUp, extra: int) -> None:
    """A pile about as large as one read is taken whole."""
    wakeup._sender.send(bytes(_CHUNK + extra))
    wakeup.drain()
    assert not awake(wakeup)


def test_wake_from_another_thread(wakeup: WakeUp) -> None:
    """A selector that sleeps returns."""
    thread = threading.Thread(target=wakeup.wake, daemon=True)
    thread.start()
    assert awake(wakeup, PATIENCE)
    thread.join(PATIENCE)


def test_after_close_nothing_happens() -> None:
    """Closing is idempotent; waking and draining a closed pair do nothing."""
    wakeup = WakeUp()
    wakeup.close()
    wakeup.close()
    wakeup.wake()
    wakeup.drain()
    assert wakeup.receiver.fileno() == -1


def test_finalizer_may_wake_while_closing(wakeup: WakeUp) -> None:
    """The lock is reentrant: the collector may run a finalizer anywhere."""
    with wakeup._lock:
        wakeup.wake()
    assert awake(wakeup)


def test_close_does_not_hang_on_a_lock_that_a_fork_left() -> None:
    """In a forked child the thread that held the lock is gone: the descriptors are closed all the same."""
    wakeup, held, done = WakeUp(), threading.Event(), threading.Event()

    def hold() -> None:
        with wakeup._lock:
            held.set()
            done.wait(PATIENCE)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(PATIENCE)
    wakeup.close()
    assert wakeup.receiver.fileno() == -1
    done.set()
    thread.join(PATIENCE)


def test_at_exit_a_lock_that_is_held_for_ever_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter ends daemon threads wherever they are, in a `wake` too; finalizers come after that."""
    wakeup = WakeUp()
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with wakeup._lock:
            held.set()
            go.wait(60)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(60)
    monkeypatch.setattr("allenhark_ws._wakeup.is_exiting", lambda: True)
    wakeup.wake()
    go.set()
    thread.join(60)
    wakeup.close()
