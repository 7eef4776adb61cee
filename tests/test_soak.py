"""The soak harness: its model notices what must not be, its weather is the seed's, and a short run is clean."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import islice

import pytest

pytest.importorskip("websockets", reason="allenhark_ws.testing needs the extra testing")

from allenhark_ws import (
    BotUpdate,
    Connected,
    ConnectionLost,
    Disconnected,
    Event,
    Gap,
    InvalidMessage,
    PriceUpdate,
    Reconnecting,
    TransactionConfirmed,
)

from .soak.__main__ import main, soak
from .soak.ledger import Entry, Ledger, number_of
from .soak.rig import CHANNELS, Resources, Rig
from .soak.weather import forecast

AT = datetime(2024, 1, 15, 10, 30, tzinfo=timezone.utc)
WANTED = frozenset(CHANNELS)
CAUSE = ConnectionLost("unplugged")
READY = Connected(1, 0.001)
LOSS = (Disconnected(1006, "", CAUSE, 0.0), Reconnecting(1, 0.0, CAUSE))
GAP = Gap(AT, AT + timedelta(seconds=2), 2.0, WANTED, CAUSE)
BACK = (*LOSS, READY, GAP)


def price(number: int) -> PriceUpdate:
    """The event of that number."""
    return PriceUpdate("P1", number, number, AT)


def account(sent: dict[int, int | None], *told: Event) -> Ledger:
    """The closed ledger of a run: numbers sent, each with its certain connection, and what the client told."""
    ledger = Ledger(WANTED)
    for number, connection in sent.items():
        entry = Entry(number)
        ledger.sending(entry)
        ledger.was_sent(entry, 1, connection)
    for event in told:
        ledger.hear(event)
    ledger.close()
    return ledger


def test_clean_account() -> None:
    """All seen: nothing lost, nothing odd."""
    ledger = account({1: 1, 2: 1, 3: 2}, READY, price(1), price(2), *BACK, price(3))
    assert (ledger.sent, ledger.seen, ledger.lost_inside, ledger.lost_outside, ledger.repeated) == (3, 3, 0, 0, 0)
    assert (ledger.sessions, ledger.losses, ledger.longest_outage) == (2, 1, 2.0)
    assert ledger.complaints == []


def test_loss_around_a_gap_is_announced() -> None:
    """The tail of a lost connection, what went to nobody certain, and what came before a subscription is inside."""
    ledger = account({1: 1, 2: 1, 3: None, 4: 2, 5: 3}, READY, price(1), *BACK, price(4), *BACK)
    assert (ledger.seen, ledger.lost_inside, ledger.lost_outside) == (2, 3, 0)
    assert ledger.complaints == []


def test_hole_in_a_connection_is_a_loss_outside() -> None:
    """A later event of the same connection was seen, so the one before must have been, gap or no gap."""
    ledger = account({1: 1, 2: 1, 3: 1}, READY, price(1), price(3), *BACK)
    assert (ledger.lost_inside, ledger.lost_outside) == (0, 1)
    assert "lost without a word" in ledger.complaints[0]


def test_hole_at_the_beginning_is_a_loss_outside() -> None:
    """What was sent behind the new subscription counts from the first one on."""
    ledger = account({1: 1, 2: 2, 3: 2}, READY, price(1), *BACK, price(3))
    assert ledger.lost_outside == 1


def test_audience_of_nobody_is_not_sent() -> None:
    """What no connection had asked for is in no account."""
    ledger = Ledger(WANTED)
    entry = Entry(1)
    ledger.sending(entry)
    ledger.was_sent(entry, 0, None)
    ledger.close()
    assert (ledger.sent, ledger.lost_inside, ledger.complaints) == (0, 0, [])


@pytest.mark.parametrize(
    ("told", "complaint"),
    [
        pytest.param((READY, price(1), price(1)), "came after", id="repeated"),
        pytest.param((READY, price(2), price(1)), "came after", id="out of order"),
        pytest.param((READY, price(9)), "nobody sent the numbers", id="made up"),
        pytest.param((READY, PriceUpdate("P1", 1, 2, AT)), "not as sent", id="partial"),
        pytest.param((READY, InvalidMessage("odd")), "nobody sent what", id="invalid"),
        pytest.param((price(1),), "not connected", id="event before connecting"),
        pytest.param((READY, LOSS[0], price(1)), "Reconnecting was due", id="event while disconnected"),
        pytest.param((READY, READY), "connected, came", id="connected twice"),
        pytest.param((READY, *LOSS, READY, price(1)), "Gap was due", id="no gap"),
        pytest.param((READY, GAP), "no gap was due", id="gap without a loss"),
        pytest.param((READY, *BACK, GAP), "no gap was due", id="two gaps"),
        pytest.param((READY, *LOSS, READY, Gap(AT, AT, 0.0, frozenset(), CAUSE)), "tells of", id="gap of too little"),
        pytest.param((READY, *LOSS, READY, Gap(AT, AT, -1.0, WANTED, CAUSE)), "lasts", id="negative gap"),
    ],
)
def test_what_must_not_be_is_noticed(told: tuple[Event, ...], complaint: str) -> None:
    """Each kind of wrong makes a complaint that says so."""
    ledger = account({1: 1, 2: 1}, *told)
    assert any(complaint in text for text in ledger.complaints), ledger.complaints


def test_gap_must_not_begin_before_the_last_event() -> None:
    """A gap that begins before what was still seen would have its reader fetch twice."""
    ledger = Ledger(WANTED)
    entry = Entry(1)
    ledger.sending(entry)
    ledger.was_sent(entry, 1, 1)
    seen = PriceUpdate("P1", 1, 1, AT, received_at=AT + timedelta(seconds=1))
    for event in (READY, seen, *BACK):
        ledger.hear(event)
    assert "before the last event" in ledger.complaints[0]


def test_complaints_are_bounded_and_counted() -> None:
    """A client gone mad fills no memory with its complaints."""
    ledger = account({1: 1}, READY, *(price(1) for _ in range(100)))
    assert len(ledger.complaints) == 20
    assert ledger.complaint_count == ledger.repeated == 99


def test_every_kind_of_event_carries_its_number() -> None:
    """Prices, bots and transactions alike."""
    bot = BotUpdate("B1", "numbered", {"number": 2, "again": 2})
    assert [number_of(event) for event in (price(1), bot, TransactionConfirmed("3", "confirmed", 3))] == [1, 2, 3]


def test_weather_is_the_seeds() -> None:
    """The same seed brings the same faults for the same times; another one others."""

    def outlook(seed: int) -> list[tuple[str, float, float]]:
        return [(spell.name, spell.seconds, spell.calm) for spell in islice(forecast(seed), 50)]

    assert outlook(1) == outlook(1)
    assert outlook(1) != outlook(2)


def test_weather_has_every_kind() -> None:
    """Nothing the proxy can do is left out for long."""
    names = {name for spell in islice(forecast(0), 200) for name in spell.name.split(" and ")}
    assert len(names) == 14


def test_short_soak(capsys: pytest.CaptureFixture[str]) -> None:
    """A few seconds of the real thing, clear and TLS: clean, and it says so."""
    assert main(["--minutes", "0.1", "--seed", "3"]) == 0
    report = capsys.readouterr().out
    assert report.count("lost outside them                   0\n") == 2
    assert "WRONG" not in report


def test_soak_fails_a_client_that_loses_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rig whose every hundredth event never reaches the ledger: the run tells what was lost."""
    hear = Ledger.hear

    def lossy(ledger: Ledger, event: Event) -> None:
        if not (isinstance(event, PriceUpdate) and event.price % 100 == 0):
            hear(ledger, event)

    monkeypatch.setattr(Ledger, "hear", lossy)
    result = soak(3.0, 0, tls=False)
    assert result.ledger.lost_outside > 0
    assert any("lost without a word" in wrong for wrong in result.wrong)
    assert any(line.startswith("WRONG") for line in result.lines())


def test_rig_notices_an_unrestored_channel() -> None:
    """A channel asked for twice on a connection, or in another order, is in the verdict."""
    with Rig() as rig:
        assert rig.verdict() == []
        rig.client.unsubscribe(CHANNELS[0])
        rig.client.flush()
    assert any("the client asked" in wrong for wrong in rig.verdict())


def test_resources_are_looked_at() -> None:
    """Threads are counted everywhere; descriptors and memory where the system tells."""
    now = Resources.now()
    assert now.threads >= 1
    assert (now.descriptors > 0) == (now.memory > 0)
