"""A client at work for a command: when it gives up, when it ends, and that a slow reader loses nothing."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

for needed in ("click", "rich", "websockets", "trustme", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra cli")

from rich.console import Console

from allenhark_ws import (
    AuthenticationError,
    Client,
    Closed,
    Connected,
    ConnectionFailed,
    ConnectionLost,
    Disconnected,
    Event,
    Price,
    PriceUpdate,
    Reconnecting,
    ServerError,
    State,
)
from allenhark_ws.cli import _live
from allenhark_ws.cli._live import Live, Notices

from .peers import Clock
from .scripted import client_of, price
from .simulators import Simulator

if TYPE_CHECKING:
    from typing_extensions import Self


@pytest.fixture
def page() -> io.StringIO:
    """Where the talk goes."""
    return io.StringIO()


def live(
    simulator: Simulator, page: io.StringIO, clock: Clock, seconds: float | None = None, key: str = "test-key"
) -> Live:
    """Prices of one token, ten seconds for the first connection."""
    notices = Notices(Console(file=page, soft_wrap=True), lifecycle=True)
    return Live(client_of(simulator, key), (Price("m"),), notices, seconds=seconds, patience=10.0, clock=clock)


def subscribed(simulator: Simulator) -> bool:
    """Whether it listens."""
    return Price("m") in simulator.subscriptions


def prices(batch: list[object]) -> list[object]:
    """What they tell."""
    return [event.price for event in batch if isinstance(event, PriceUpdate)]


def test_a_signal_right_after_the_start_closes_the_client(simulator: Simulator, page: io.StringIO) -> None:
    """Nobody else would: the body of the ``with`` has not begun."""

    class Interrupted(Client):
        def start(self) -> Self:
            super().start()
            raise KeyboardInterrupt

    client = Interrupted("test-key", url=simulator.url)
    source = Live(client, (), Notices(Console(file=page), lifecycle=True), seconds=None, patience=10.0)
    with pytest.raises(KeyboardInterrupt), source:
        pytest.fail("begun")
    assert client.state is State.CLOSED


def test_a_slow_reader_loses_nothing(simulator: Simulator, page: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue fills up and the server waits; everything comes, in order, and the backlog is told of."""
    monkeypatch.setattr(_live, "_QUEUE", 20)
    monkeypatch.setattr(_live, "_BATCH", 3)
    with live(simulator, page, Clock()) as source:
        simulator.wait_for(lambda: subscribed(simulator))
        for number in range(100):
            simulator.publish(price("m", float(number)))
        simulator.wait_for(lambda: source.waiting >= 20)
        seen: list[object] = []
        for batch in source.batches():
            assert 1 <= len(batch) <= 3
            seen += prices([*batch])
            if 99.0 in seen:
                break
    assert seen == [float(number) for number in range(100)]
    assert "the server is held back; nothing is dropped" in page.getvalue()


def test_the_first_connection_has_its_time(simulator: Simulator, page: io.StringIO) -> None:
    """When that is over the last failure is the reason."""
    clock = Clock()
    simulator.refuse()
    with live(simulator, page, clock) as source:
        simulator.wait_for(lambda: source.waiting >= 1)
        clock.now += 10.0
        with pytest.raises(ConnectionFailed, match="not connected within 10 s: ") as caught:
            list(source.batches())
    assert f"failed: {caught.value.reason.partition(': ')[2]}; connecting again" in page.getvalue()


def test_the_time_for_the_first_connection_is_no_longer_than_the_whole(simulator: Simulator, page: io.StringIO) -> None:
    """Whoever asked for two seconds does not wait for ten."""
    clock = Clock()
    simulator.refuse()
    with live(simulator, page, clock, seconds=2.0) as source:
        clock.now += 2.0
        with pytest.raises(ConnectionFailed, match="within 2 s"):
            list(source.batches())


def test_once_connected_it_never_gives_up(simulator: Simulator, page: io.StringIO) -> None:
    """The time for the first connection does not count for the next ones."""
    clock = Clock()
    with live(simulator, page, clock) as source:
        simulator.wait_for(lambda: subscribed(simulator))
        simulator.publish(price("m", 1.0))
        batches = source.batches()
        assert prices([*next(batches)]) == [1.0]
        clock.now += 1000.0
        simulator.publish(price("m", 2.0))
        assert prices([*next(batches)]) == [2.0]


def test_what_came_in_time_is_given_out(
    simulator: Simulator, page: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the time is over, what is queued comes still; then it ends."""
    monkeypatch.setattr(_live, "_BATCH", 2)
    clock = Clock()
    with live(simulator, page, clock, seconds=100.0) as source:
        simulator.wait_for(lambda: subscribed(simulator))
        for number in range(9):
            simulator.publish(price("m", float(number)))
        simulator.wait_for(lambda: source.waiting == 10)
        clock.now += 100.0
        seen = [value for batch in source.batches() for value in prices([*batch])]
    assert seen == [float(number) for number in range(9)]


def test_a_terminal_error_is_raised(simulator: Simulator, page: io.StringIO) -> None:
    """A wrong key ends it at once."""
    with live(simulator, page, Clock(), key="wrong") as source, pytest.raises(AuthenticationError):
        list(source.batches())


BUSY = ServerError("too many connections")
RETRY = Reconnecting(2, 1.0, ConnectionFailed("too many connections"))
READY = Connected(1, 0.1)
LOST = Disconnected(1006, "", ConnectionLost("reset"), 0.0)


@pytest.mark.parametrize(
    ("events", "with_lifecycle", "without"),
    [
        ([BUSY, RETRY], 1, 1),
        ([BUSY, Closed(AuthenticationError("too many connections"))], 0, 0),
        ([READY, BUSY], 1, 1),
        ([READY, LOST, BUSY, RETRY], 1, 1),
        ([BUSY, READY], 1, 1),
    ],
)
def test_what_the_server_complains_of_is_told_once(
    events: list[Event], with_lifecycle: int, without: int, simulator: Simulator
) -> None:
    """Not by itself when what it leads to tells of it: the next attempt, or the error that ends the command."""
    for lifecycle, times in ((True, with_lifecycle), (False, without)):
        page = io.StringIO()
        notices = Notices(Console(file=page, soft_wrap=True), lifecycle=lifecycle)
        client = client_of(simulator, "test-key")
        source = Live(client, (), notices, seconds=None, patience=1.0)
        list(source._sorted(events))
        client.close()
        assert page.getvalue().count("too many connections") == times
