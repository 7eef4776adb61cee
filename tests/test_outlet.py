"""Where events leave: in order, all of them, and held back while a blocking consumer has no room."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
from attrs import define, field, fields

from allenhark_ws._instant import Instant
from allenhark_ws._outlet import Outlet
from allenhark_ws._queue import EventQueue
from allenhark_ws._router import Delivery, Router
from allenhark_ws._session import Session
from allenhark_ws.errors import SlowConsumer
from allenhark_ws.events import Closed, Event, EventsDropped, PriceUpdate, UnknownMessage

from .fakes import START, off_the_wire
from .scripted import price

A, B, C, D = (off_the_wire(price(mint)) for mint in "ABCD")
CLOSED = Closed(None)


@define(eq=False)
class Consumers:
    """A router that takes as many events as there is room, and notes them.

    Attributes:
        room: how many it takes without force.
        at_once: how many of one call's at most; the next call takes on.
        taken: the events it took.
        asked: how often it was asked to take some.
        reports: what comes of the next delivery; likewise `failure`.
        hook: called with each event that it takes.
    """

    room: int = 100
    at_once: int = 100
    taken: list[Event] = field(factory=list[Event])
    asked: int = 0
    reports: list[EventsDropped] = field(factory=list[EventsDropped])
    failure: SlowConsumer | None = None
    hook: Callable[[Event], object] = id

    def deliver(self, events: Sequence[Event], *, force: bool = False) -> Delivery:
        """Take what there is room for, or everything by force."""
        self.asked += 1
        done = len(events) if force else min(len(events), self.room, self.at_once)
        if CLOSED in events[1:done]:  # it goes alone
            done = events.index(CLOSED)
        self.taken += events[:done]
        for event in events[:done]:
            self.hook(event)
        self.room -= done
        reports, self.reports = self.reports, []
        failure, self.failure = self.failure, None
        return Delivery(done, reports, failure)


@define(eq=False)
class Life:
    """A session that notes what it is told."""

    log: list[Any] = field(factory=list[Any])

    def suspend(self) -> None:
        """Note it."""
        self.log.append("suspend")

    def resume(self, now: Instant) -> None:
        """Note it."""
        self.log.append(("resume", now))

    def close(self, error: SlowConsumer) -> None:
        """Note it."""
        self.log.append(("close", error))


@define(eq=False)
class Bench:
    """An outlet between the two."""

    consumers: Consumers = field(factory=Consumers)
    life: Life = field(factory=Life)
    outlet: Outlet = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.outlet = Outlet(cast("Session", self.life))
        self.outlet.router = lambda: cast("Router", self.consumers)


def test_what_it_comes_to_hold_is_no_argument() -> None:
    """An outlet begins without a router, holding nothing."""
    assert {attribute.alias for attribute in fields(Outlet) if attribute.init} == {"session"}
    outlet = Outlet(cast("Session", Life()))
    assert (outlet.router(), outlet.held) == (None, [])


def test_events_go_at_once() -> None:
    """In order, by one call, and nobody is told."""
    bench = Bench()
    bench.outlet.emit([A, B])
    assert bench.consumers.taken == [A, B]
    assert (bench.consumers.asked, bench.outlet.held, bench.life.log) == (1, [], [])


def test_nothing_is_no_delivery() -> None:
    """Nobody is asked to take nothing."""
    bench = Bench()
    bench.outlet.emit([])
    assert bench.consumers.asked == 0


def test_nobody_is_there_to_take_them() -> None:
    """The client was collected: there is nobody to wait for either."""
    bench = Bench()
    bench.outlet.router = lambda: None
    bench.outlet.emit([A])
    assert (bench.outlet.held, bench.life.log) == ([], [])


def test_what_finds_no_room_is_held() -> None:
    """And the session told, once: silence of a server that is not read proves nothing."""
    bench = Bench(Consumers(room=1))
    bench.outlet.emit([A, B, C])
    assert bench.consumers.taken == [A]
    assert (bench.outlet.held, bench.life.log) == ([B, C], ["suspend"])


def test_a_delivery_that_got_on_is_gone_on_with() -> None:
    """Whoever stops on the way, to tell what came of it, has room still."""
    bench = Bench(Consumers(at_once=1))
    bench.outlet.emit([A, B, C])
    assert bench.consumers.taken == [A, B, C]
    assert (bench.outlet.held, bench.life.log) == ([], [])


def test_nothing_overtakes_what_is_held() -> None:
    """Though there were room."""
    bench = Bench(Consumers(room=1))
    bench.outlet.emit([A, B])
    bench.consumers.room = 100
    bench.outlet.emit([C])
    assert bench.consumers.taken == [A]
    assert bench.outlet.held == [B, C]


def test_what_was_held_goes_when_there_is_room() -> None:
    """And the session goes on, at that moment."""
    bench = Bench(Consumers(room=0))
    bench.outlet.emit([A, B])
    bench.consumers.room = 2
    bench.outlet.emit_held(START)
    assert bench.consumers.taken == [A, B]
    assert (bench.outlet.held, bench.life.log) == ([], ["suspend", ("resume", START)])


def test_what_still_finds_no_room_is_held_on() -> None:
    """The session goes on only when all is gone."""
    bench = Bench(Consumers(room=0))
    bench.outlet.emit([A, B])
    bench.consumers.room = 1
    bench.outlet.emit_held(START)
    assert (bench.consumers.taken, bench.outlet.held) == ([A], [B])
    assert set(bench.life.log) == {"suspend"}


def test_losses_are_told_before_what_comes_next() -> None:
    """A report goes behind what was delivered and in front of the rest."""
    report = EventsDropped(1, "slow")
    bench = Bench(Consumers(at_once=1, reports=[report]))
    bench.outlet.emit([A, B])
    assert bench.consumers.taken == [A, report, B]


def test_losses_are_told_in_their_place_when_the_rest_is_held() -> None:
    """Nothing was delivered, but for the loss that the try brought about."""
    report = EventsDropped(1, "slow")
    bench = Bench(Consumers(room=0, reports=[report]))
    bench.outlet.emit([A])
    assert bench.outlet.held == [report, A]


def test_a_buffer_that_must_not_overflow_ends_the_client() -> None:
    """Others get what is left all the same."""
    failure = SlowConsumer("callbacks", 1)
    bench = Bench(Consumers(at_once=1, failure=failure))
    bench.outlet.emit([A, B])
    assert bench.consumers.taken == [A, B]
    assert bench.life.log == [("close", failure)]


@pytest.mark.parametrize("others", [[A], [A, B]])
def test_the_last_of_all_goes_alone(others: list[Event]) -> None:
    """So that whatever the others lead to comes before it."""
    report = EventsDropped(1, "slow")
    bench = Bench(Consumers(reports=[report]))
    bench.outlet.emit([*others, CLOSED])
    assert bench.consumers.taken == [*others, report, CLOSED]


def test_the_last_of_all_waits_behind_what_is_held() -> None:
    """It does not overtake either."""
    bench = Bench(Consumers(room=1))
    bench.outlet.emit([A, B, CLOSED])
    assert (bench.consumers.taken, bench.outlet.held) == ([A], [B, CLOSED])


def test_the_last_of_all_by_itself() -> None:
    """It is not taken for something that leads up to it."""
    bench = Bench()
    bench.outlet.emit([CLOSED])
    assert (bench.consumers.taken, bench.consumers.asked) == ([CLOSED], 1)


def test_reports_that_wait_go_before_the_last_of_all() -> None:
    """Nobody would hear of them afterwards; they come behind what leads up to the end, and no more come of them."""
    bench = Bench()
    bench.outlet.reports.extend([C, D])
    bench.outlet.emit([A])
    bench.consumers.at_once = 1
    bench.consumers.hook = lambda event: event is not D or bench.outlet.reports.append(C)
    bench.outlet.emit([B, CLOSED])
    assert bench.consumers.taken == [A, B, C, D, CLOSED]
    assert list(bench.outlet.reports) == [C]


def test_reports_that_find_no_room_are_held_before_the_last_of_all() -> None:
    """As everything else is."""
    bench = Bench(Consumers(room=0))
    bench.outlet.reports.append(C)
    bench.outlet.emit([CLOSED])
    assert bench.outlet.held == [C, CLOSED]
    bench.outlet.emit_last([])
    assert bench.consumers.taken == [C, CLOSED]


def test_reports_take_turns() -> None:
    """One for each time it is asked, and none when there is none."""
    bench = Bench()
    bench.outlet.reports.extend([A, B])
    bench.outlet.emit_report()
    assert bench.consumers.taken == [A]
    bench.outlet.emit_report()
    bench.outlet.emit_report()
    assert (bench.consumers.taken, bench.consumers.asked) == ([A, B], 2)


def test_at_the_end_everything_goes() -> None:
    """What is held first, then the rest, whether there is room or not."""
    bench = Bench(Consumers(room=0))
    bench.outlet.emit([A, B])
    bench.outlet.emit_last([C, D, CLOSED])
    assert bench.consumers.taken == [A, B, C, D, CLOSED]
    assert bench.outlet.held == []


def test_at_the_end_there_may_be_nothing_left() -> None:
    """Nobody is asked to take nothing then either."""
    bench = Bench()
    bench.outlet.emit_last([])
    assert bench.consumers.asked == 0


def test_recovery_is_told_with_what_was_lost() -> None:
    """In its place among the events; nothing is told when it was told already."""
    queue = EventQueue("slow", 2, "drop_newest")
    queue.put([A, B, C])
    assert queue.take_report() == 1
    queue.put([D])
    bench = Bench()
    bench.outlet.report_recovery(queue)
    bench.outlet.report_recovery(queue)
    assert bench.consumers.taken == [EventsDropped(1, "slow")]


@pytest.mark.parametrize("room", range(5))
def test_whatever_the_room_all_come_in_order(room: int) -> None:
    """At every place where it can run out."""
    events = [A, UnknownMessage("news"), B, CLOSED]
    bench = Bench(Consumers(room=room))
    bench.outlet.emit(list(events))
    while bench.outlet.held:
        bench.consumers.room = 1
        bench.outlet.emit_held(START)
    assert bench.consumers.taken == events
    assert isinstance(bench.consumers.taken[0], PriceUpdate)
