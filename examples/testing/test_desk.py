"""The tests of `desk.py`, as its author would write them: `pip install "allenhark-ws[testing]" pytest`, then `pytest`.

The fixtures `allenhark_simulator` and `allenhark_client` come from the installed package: a real server on loopback,
and a real client connected to it.  Where time matters, `VirtualSimulator` lets an hour pass at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from desk import PriceAlert, TradeBook

from allenhark_ws import AuthenticationError, Bot, Client, Price, State
from allenhark_ws.testing import Simulator, VirtualSimulator

AT = "2024-01-15T10:30:00Z"


def price(value: float) -> dict[str, Any]:
    """A price as the server sends it."""
    return {"type": "price_update", "mint": "M", "price": value, "volume": 1.0, "timestamp": AT}


def trade(signature: str, profit: float) -> dict[str, Any]:
    """A bot's trade as the server sends it."""
    data = {"signature": signature, "profit": profit, "timestamp": AT}
    return {"type": "bot_update", "botId": "B", "event": "trade_executed", "data": data}


@pytest.fixture
def virtual() -> Iterator[VirtualSimulator]:
    """A server whose time is ours."""
    with VirtualSimulator() as simulator:
        yield simulator


def test_the_alert_rings_when_the_limit_is_crossed(allenhark_simulator: Simulator, allenhark_client: Client) -> None:
    """Not below it, and not again while the price stays above."""
    rung: list[float] = []
    PriceAlert(allenhark_client, "M", 100.0, rung.append)
    allenhark_simulator.wait_for(lambda: Price("M") in allenhark_simulator.subscriptions)
    for value in (99.0, 101.0, 102.0, 98.0, 103.0):
        allenhark_simulator.publish(price(value))
    allenhark_simulator.wait_for(lambda: len(rung) == 2)
    assert rung == [101.0, 103.0]


def test_the_alert_survives_a_cut(allenhark_simulator: Simulator, allenhark_client: Client) -> None:
    """After the connection was lost and came back it does not trust what it knew."""
    rung: list[float] = []
    PriceAlert(allenhark_client, "M", 100.0, rung.append)
    allenhark_simulator.wait_for(lambda: allenhark_simulator.subscriptions)
    allenhark_simulator.publish(price(101.0))
    allenhark_simulator.wait_for(lambda: rung)
    allenhark_simulator.reset()
    allenhark_simulator.wait_for(lambda: allenhark_client.stats.reconnects and allenhark_simulator.subscriptions)
    allenhark_simulator.publish(price(102.0))
    allenhark_simulator.wait_for(lambda: len(rung) == 2)


def test_a_wrong_key_is_told_at_once(allenhark_simulator: Simulator) -> None:
    """The program ends with an error that says so."""
    client = Client("wrong", url=allenhark_simulator.url)
    TradeBook(client, "B")
    with pytest.raises(AuthenticationError, match="invalid API key"):
        client.run_forever()


def test_each_trade_is_booked_once(virtual: VirtualSimulator) -> None:
    """In virtual time nothing has to be waited for: when `publish` returns, the callbacks have returned."""
    client = virtual.client()
    book = TradeBook(client, "B")
    client.connect()
    for message in (trade("s1", 1.5), trade("s2", -0.5), trade("s1", 1.5)):
        assert virtual.publish(message) == 1
    assert book.profits == {"B": 1.0}


def test_an_hour_without_the_server_is_an_hour_blind(virtual: VirtualSimulator) -> None:
    """The client comes back by itself, up to half a minute (the longest backoff) after the server does."""
    client = virtual.client()
    book = TradeBook(client, "B")
    client.connect()
    virtual.refuse()
    virtual.reset()
    virtual.advance(3600)
    assert client.state is State.BACKOFF
    virtual.refuse(False)
    virtual.advance(30)
    assert 3600 < book.blind_seconds <= 3630
    assert virtual.subscriptions == {Bot("B")}


def test_a_mute_server_is_noticed(virtual: VirtualSimulator) -> None:
    """The ping goes out after 30 s; when nothing came for 10 s more, the connection is given up."""
    client = virtual.client()
    book = TradeBook(client, "B")
    client.connect()
    virtual.mute_pongs()
    virtual.advance(39)
    assert client.stats.attempts == 0
    virtual.advance(1 + 10)
    assert client.stats.attempts == 1, "back at once, but the server is still mute"
    virtual.mute_pongs(False)
    virtual.advance(1)
    assert book.blind_seconds == 50.5
