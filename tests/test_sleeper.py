"""Where the I/O thread sleeps: what ends a sleep, what it tells, and what closing leaves."""

from __future__ import annotations

import errno
import selectors
import socket
from collections.abc import Iterator

import pytest

from allenhark_ws._sleeper import Sleeper

from .patience import PATIENCE
from .scripted import JumpingClock

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@pytest.fixture
def clock() -> JumpingClock:
    """A clock whose waits take no time."""
    return JumpingClock()


@pytest.fixture
def sleeper(clock: JumpingClock) -> Iterator[Sleeper]:
    """One that is open."""
    sleeper = Sleeper(clock)
    sleeper.open()
    yield sleeper
    sleeper.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connected sockets."""
    near, far = socket.socketpair()
    with near, far:
        yield near, far


def test_a_wake_up_ends_a_sleep_and_is_taken(sleeper: Sleeper, clock: JumpingClock) -> None:
    """It says nothing about the socket, and the next sleep is not disturbed by it."""
    sleeper.wake()
    sleeper.wake()
    assert sleeper.sleep(None) == 0
    assert sleeper.sleep(0.0) == 0
    assert clock.waits == [None, 0.0]
    assert not clock.wait(sleeper._open_selector, 0.0)


def test_the_watched_socket_ends_a_sleep(sleeper: Sleeper, pair: tuple[socket.socket, socket.socket]) -> None:
    """For what it is watched, and only as long as it is."""
    near, far = pair
    far.send(b"x")
    assert sleeper.sleep(0.0) == 0
    sleeper.watch(near, READ)
    assert sleeper.sleep(None) == READ
    sleeper.watch(near, READ | WRITE)
    assert sleeper.sleep(None) == READ | WRITE
    sleeper.watch(near, 0)
    assert sleeper.sleep(0.0) == 0
    sleeper.watch(near, WRITE)
    sleeper.unwatch()
    sleeper.unwatch()
    assert sleeper.sleep(0.0) == 0


def test_another_socket_takes_the_place_of_the_first(
    sleeper: Sleeper, pair: tuple[socket.socket, socket.socket]
) -> None:
    """One is watched at a time."""
    near, far = pair
    near.send(b"x")
    sleeper.watch(near, READ)
    sleeper.watch(far, READ)
    assert [key.fileobj for key in sleeper._open_selector.get_map().values()][1:] == [far]
    assert sleeper.sleep(None) == READ


def test_a_socket_that_was_closed_is_forgotten_too(
    sleeper: Sleeper, clock: JumpingClock, pair: tuple[socket.socket, socket.socket]
) -> None:
    """As every one is that the peer has ended; the next has its number, where numbers are dealt out as POSIX says."""
    near, far = pair
    sleeper.watch(near, READ)
    near.close()
    with far.dup() as following:
        sleeper.unwatch()
        sleeper.watch(following, WRITE)
        assert sleeper.sleep(None) == WRITE
        sleeper.unwatch()
        assert len(sleeper._open_selector.get_map()) == 1
        assert sleeper.sleep(0.0) == 0


def test_sleeping_on_a_socket_that_is_not_watched(
    sleeper: Sleeper, clock: JumpingClock, pair: tuple[socket.socket, socket.socket]
) -> None:
    """True when it is ready, False for a wake-up or at the deadline; afterwards it is forgotten."""
    near, far = pair
    now = clock.now().mono
    assert sleeper.sleep_on(near, WRITE, now + PATIENCE) is True
    sleeper.wake()
    assert sleeper.sleep_on(near, READ, now + PATIENCE) is False
    assert sleeper.sleep_on(near, READ, now - 1.0) is False
    far.send(b"x")
    assert sleeper.sleep_on(None, 0, now) is False
    assert sleeper.sleep_on(near, READ, now) is True
    assert clock.waits == [PATIENCE, PATIENCE, 0.0, 0.0, 0.0]
    assert sleeper.sleep(0.0) == 0


def test_closing_releases_everything(clock: JumpingClock, pair: tuple[socket.socket, socket.socket]) -> None:
    """Also what was watched, before it was opened, and twice; a wake-up that comes late is harmless."""
    sleeper = Sleeper(clock)
    sleeper.wake()
    sleeper.close()
    with pytest.raises(RuntimeError, match="not started"):
        sleeper.sleep(0.0)
    sleeper.open()
    sleeper.watch(pair[0], READ)
    wakeup, selector = sleeper._wakeup, sleeper._selector
    assert wakeup is not None
    sleeper.close()
    sleeper.close()
    sleeper.wake()
    sleeper.unwatch()
    assert wakeup.receiver.fileno() == -1
    assert selector is not None
    assert selector.get_map() is None


class Foreign(selectors.SelectSelector):
    """A selector that is the parent process's, as a kqueue is in a forked child: it cannot be closed."""

    def close(self) -> None:
        """Refuse.

        Raises:
            OSError: always.
        """
        super().close()
        raise OSError(errno.EBADF, "Bad file descriptor")


def test_a_selector_that_cannot_be_closed_costs_nothing(clock: JumpingClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is released all the same (macOS, in a forked child)."""
    monkeypatch.setattr(selectors, "DefaultSelector", Foreign)
    sleeper = Sleeper(clock)
    sleeper.open()
    wakeup = sleeper._wakeup
    assert wakeup is not None
    sleeper.close()
    assert wakeup.receiver.fileno() == -1
    sleeper.wake()
