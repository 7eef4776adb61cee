"""The books of one connection: pings and pongs, what is to be sent, what the server was asked for."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable

from allenhark_ws._link import Link, Ping
from allenhark_ws.channels import Bot, Channel, Price, Transactions

from .fakes import START

ONE, TWO, THREE = Price("one"), Price("two"), Bot("three")
FIRST_WALLET, SECOND_WALLET = Transactions("first"), Transactions("second")


def link() -> Link:
    """The books of a connection just opened at 1000."""
    return Link(last_heard=START, first_pong_deadline=1010.0, next_ping_at=1030.0, next_slot=1000.0)


def facts(ping: Ping | None) -> tuple[int, float, object] | None:
    """What a ping consists of."""
    return None if ping is None else (ping.number, ping.sent_at, ping.request)


def test_a_connection_just_opened() -> None:
    """Nothing was said, asked for or planned yet, so no error can be an answer."""
    subject = link()
    assert not subject.unconfirmed
    assert (subject.early, subject.early_bytes) == ([], 0)
    assert (list(subject.on_wire), list(subject.todo)) == ([], [])
    assert (subject.pong_deadline, subject.rejection, subject.leave_at, subject.gave_way) == (
        None,
        None,
        math.inf,
        False,
    )


def test_ready() -> None:
    """Not before the first pong; then the seconds since, however many."""
    subject = link()
    assert (subject.is_ready, subject.ready_for(1234.0)) == (False, 0.0)
    subject.ready_at = 1003.0
    assert (subject.is_ready, subject.ready_for(1010.5)) == (True, 7.5)
    assert subject.ready_for(5010.5) == 4007.5


def test_each_pong_answers_its_own_ping() -> None:
    """In the order in which they went out."""
    subject = link()
    subject.pinged(1000.0, None, 10.0)
    subject.pinged(1001.0, "flush", 10.0)
    assert facts(subject.ponged()) == (1, 1000.0, None)
    assert facts(subject.ponged()) == (2, 1001.0, "flush")


def test_a_pong_too_many_is_credited_to_nothing() -> None:
    """Neither before the first ping nor later does it answer a ping still to come."""
    subject = link()
    assert subject.ponged() is None
    subject.pinged(1000.0, None, 10.0)
    assert facts(subject.ponged()) == (1, 1000.0, None)
    assert subject.ponged() is None
    assert subject.ponged() is None
    subject.pinged(1002.0, "flush", 10.0)
    assert facts(subject.ponged()) == (2, 1002.0, "flush")
    assert subject.ponged() is None


def test_a_connection_of_many_hours() -> None:
    """Pings and pongs are matched, and requests confirmed, as at its beginning."""
    subject = link()
    for number in range(1, 1001):
        subject.requested(ONE, wanted=True)
        subject.pinged(float(number), number, 10.0)
        before = subject.unconfirmed
        assert facts(subject.ponged()) == (number, float(number), number)
        assert (before, subject.unconfirmed) == (True, False)
        assert subject.ponged() is None


def test_a_mute_server_fills_no_memory() -> None:
    """Of ten thousand unanswered pings the older are forgotten, but not their number."""
    subject = link()
    for number in range(1, 10_003):
        subject.pinged(float(number), number, 10.0)
    assert len(subject._unanswered) == 10_000
    assert subject.ponged() is None
    assert subject.ponged() is None
    assert facts(subject.ponged()) == (3, 3.0, 3)


def test_the_first_unanswered_ping_sets_the_deadline() -> None:
    """A later one does not put it off; after a sign of life the next one sets it anew."""
    subject = link()
    subject.pinged(1000.0, None, 10.0)
    subject.pinged(1004.0, None, 10.0)
    assert subject.pong_deadline == 1010.0
    subject.pong_deadline = None
    subject.pinged(1020.0, None, 10.0)
    assert subject.pong_deadline == 1030.0


def test_patience() -> None:
    """The barrier always moves, the silence only when a ping waits for a sign of life."""
    subject = link()
    subject.be_patient(1050.0)
    assert (subject.first_pong_deadline, subject.pong_deadline) == (1050.0, None)
    subject.pinged(1000.0, None, 10.0)
    subject.be_patient(1060.0)
    assert (subject.first_pong_deadline, subject.pong_deadline) == (1060.0, 1060.0)


def test_what_is_planned_twice_keeps_its_place() -> None:
    """First planned, first sent; taken out, it may be planned again."""
    subject = link()
    subject.plan([ONE, TWO])
    subject.plan([THREE, ONE])
    assert [subject.next_item(), subject.next_item()] == [ONE, TWO]
    subject.plan([ONE])
    assert [subject.next_item(), subject.next_item()] == [THREE, ONE]
    assert not subject.todo


def test_the_first_of_many_is_found_without_a_search() -> None:
    """A plain dictionary is searched, past all that was taken out of it, for its first key; these are not."""
    subject = link()
    assert {type(subject.todo), type(subject._wallets)} == {OrderedDict}


def test_what_the_server_was_asked_for() -> None:
    """A subscribe adds, an unsubscribe removes, and one too many is nothing."""
    subject = link()
    subject.requested(ONE, wanted=True)
    subject.requested(TWO, wanted=True)
    subject.requested(ONE, wanted=False)
    subject.requested(THREE, wanted=False)
    assert list(subject.on_wire) == [TWO]


def test_the_only_wallet() -> None:
    """Exactly one subscribed wallet can be named, whatever else is subscribed."""
    subject = link()
    assert link().wallet is None
    steps: list[tuple[Channel, bool, Transactions | None]] = [
        (ONE, True, None),
        (FIRST_WALLET, True, FIRST_WALLET),
        (SECOND_WALLET, True, None),
        (FIRST_WALLET, False, SECOND_WALLET),
        (FIRST_WALLET, False, SECOND_WALLET),
        (ONE, False, SECOND_WALLET),
        (SECOND_WALLET, False, None),
    ]
    for channel, wanted, expected in steps:
        subject.requested(channel, wanted=wanted)
        assert subject.wallet == expected


def test_a_request_is_confirmed_by_the_pong_of_a_later_ping() -> None:
    """The pong of a ping that went out before it proves nothing, and a pong too many neither."""
    subject = link()
    steps: dict[str, Callable[[], object]] = {
        "ping": lambda: subject.pinged(1000.0, None, 10.0),
        "pong": subject.ponged,
        "request": lambda: subject.requested(ONE, wanted=True),
    }
    history = [
        ("request", True),
        ("ping", True),
        ("pong", False),
        ("ping", False),
        ("request", True),
        ("ping", True),
        ("ping", True),
        ("pong", True),
        ("pong", False),
        ("request", True),
        ("pong", True),
        ("pong", True),
        ("pong", True),
        ("ping", True),
        ("request", True),
        ("pong", True),
        ("ping", True),
        ("pong", False),
    ]
    for step, unconfirmed in history:
        steps[step]()
        assert subject.unconfirmed is unconfirmed
