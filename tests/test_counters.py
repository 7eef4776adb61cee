"""The counts behind `Stats`."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any

from attrs import asdict, fields_dict

from allenhark_ws import State, Stats
from allenhark_ws._counters import Counters


def test_counting_begins_with_nothing() -> None:
    """Every number is 0, every measure and time unknown."""
    counts = asdict(Counters())
    unknown = {"connected_since", "rtt_last", "rtt_min", "rtt_avg", "clock_offset"}
    assert {name for name, value in counts.items() if value is None} == unknown
    assert counts.pop("received_by_type") == {}
    trips = counts.pop("round_trips")
    assert ({*trips["within"].values()}, trips["total"]) == ({0}, 0)
    assert {value for name, value in counts.items() if name not in unknown} == {0}


def test_types_are_counted_by_name() -> None:
    """One count per wire type."""
    counters = Counters()
    for name in ("pong", "price_update", "pong"):
        counters.count_type(name)
    assert counters.received_by_type == {"pong": 2, "price_update": 1}


def test_invented_types_cannot_fill_the_memory() -> None:
    """A hundred names are kept; later ones share one, and the known go on counting under their own."""
    counters = Counters()
    for number in range(150):
        counters.count_type(f"type-{number}")
    counters.count_type("type-0")
    counters.count_type("type-99")
    assert len(counters.received_by_type) == 101
    assert counters.received_by_type["(other)"] == 50
    assert counters.received_by_type["type-0"] == counters.received_by_type["type-99"] == 2
    assert "type-100" not in counters.received_by_type


def test_long_types_are_not_kept() -> None:
    """A type as long as a message is not counted by name, or a hundred of them would fill the memory."""
    counters = Counters()
    for name in ("a" * 100, "b" * 101, "c" * 1_000_000):
        counters.count_type(name)
    assert counters.received_by_type == {"a" * 100: 1, "(other)": 2}


def test_round_trips() -> None:
    """Last, shortest and mean."""
    counters = Counters()
    assert (counters.rtt_last, counters.rtt_min, counters.rtt_avg) == (None, None, None)
    counters.measure(3.0, None)
    assert (counters.rtt_last, counters.rtt_min, counters.rtt_avg) == (3.0, 3.0, 3.0)
    counters.measure(1.0, None)
    counters.measure(2.0, None)
    assert (counters.rtt_last, counters.rtt_min, counters.rtt_avg) == (2.0, 1.0, 2.0)


def test_round_trips_by_their_length() -> None:
    """Each counts in every class that it is no longer than; what was read before stays as it was."""
    counters = Counters()
    before = counters.round_trips
    for rtt in (0.0, 0.001, 0.25, 0.26, 11.0):
        counters.measure(rtt, None)
    trips = counters.round_trips
    told = {0.001: 2, 0.0025: 2, 0.1: 2, 0.25: 3, 0.5: 4, 10.0: 4, math.inf: 5}
    assert {length: trips.within[length] for length in told} == told
    assert [*trips.within] == sorted(trips.within)
    assert trips.total == 0.0 + 0.001 + 0.25 + 0.26 + 11.0
    assert counters.rtt_avg == trips.total / 5
    assert {*before.within.values()} == {0}


def test_the_clock_offset_is_the_last_one_known() -> None:
    """A pong without a timestamp leaves it as it is; 0 is an offset."""
    counters = Counters()
    counters.measure(1.0, None)
    assert (counters.clock_offset, counters.rtt_last) == (None, 1.0)
    counters.measure(1.0, 0.25)
    counters.measure(1.0, None)
    assert counters.clock_offset == 0.25
    counters.measure(1.0, 0.0)
    assert counters.clock_offset == 0.0


def test_a_snapshot_has_every_number_under_its_own_name() -> None:
    """Whatever is counted is shown, and stays as it was when more is counted."""
    told = {"state": State.READY, "callback_backlog": 7}
    counted: dict[str, Any] = {name: number for number, name in enumerate(fields_dict(Stats), 10) if name not in told}
    counted |= {"connected_since": datetime(2026, 1, 2, tzinfo=timezone.utc), "received_by_type": {"pong": 1}}
    counters = Counters(**counted)
    stats = counters.snapshot(State.READY, callback_backlog=7)
    counters.count_type("price_update")
    assert asdict(stats, recurse=False) == {**counted, **told, "received_by_type": {"pong": 1}}
