"""The pytest plugin: fixtures for the tests of programs that use the package, found by pytest on its own.

`allenhark_simulator` is a started server on loopback, `allenhark_client` a client connected to it::

    def test_my_bot(allenhark_simulator, allenhark_client):
        bot = MyBot(allenhark_client)
        allenhark_simulator.publish({"type": "price_update", "mint": "M", "price": 1.5, …})
        allenhark_simulator.wait_for(lambda: bot.orders)

Both are made for each test.  How, a test module or class says by overriding two more fixtures, which give the arguments
of `Simulator` and `Client`::

    @pytest.fixture
    def allenhark_simulator_options():
        return {"api_keys": ("first", "second"), "tls": True}

A program that makes its own ``Client()`` finds the simulator by the environment, ``ALLENHARK_WS_URL`` and
``ALLENHARK_API_KEY`` (``monkeypatch.setenv``).  To have hours pass in no time, use `VirtualSimulator` instead.

Needs the extra ``testing``: ``pip install "allenhark-ws[testing]"``.  pytest loads this module whenever it runs, so it
must never import anything before a fixture is used; ``-p no:allenhark_ws`` leaves it out.  Neighbours: `testing`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from allenhark_ws import Client
    from allenhark_ws.testing import Simulator

__all__ = ["allenhark_client", "allenhark_client_options", "allenhark_simulator", "allenhark_simulator_options"]


@pytest.fixture
def allenhark_simulator_options() -> dict[str, Any]:
    """The arguments of the `Simulator`; override it."""
    return {}


@pytest.fixture
def allenhark_client_options() -> dict[str, Any]:
    """Arguments of the `Client` beside those that lead it to the simulator; override it."""
    return {}


@pytest.fixture
def allenhark_simulator(allenhark_simulator_options: dict[str, Any]) -> Iterator[Simulator]:
    """A started `allenhark_ws.testing.Simulator`, stopped after the test."""
    with _make_simulator(allenhark_simulator_options) as simulator:
        yield simulator


@pytest.fixture
def allenhark_client(allenhark_simulator: Simulator, allenhark_client_options: dict[str, Any]) -> Iterator[Client]:
    """An `allenhark_ws.Client` connected to `allenhark_simulator`, closed after the test."""
    client = _make_client(allenhark_simulator, allenhark_client_options)
    del allenhark_client_options  # pytest can show the locals of a fixture that fails, and a key may be among these
    with client:
        yield client


def _make_simulator(options: dict[str, Any]) -> Simulator:
    try:
        from allenhark_ws.testing import Simulator  # noqa: PLC0415 - brings a web server, and pytest may need none

        return Simulator(**options)
    except ImportError as error:
        missing = str(error)
    # Not in the except, where pytest would show that traceback above the one line that matters.
    pytest.fail(missing, pytrace=False)


def _make_client(simulator: Simulator, options: dict[str, Any]) -> Client:
    from allenhark_ws import Client  # noqa: PLC0415 - likewise

    server: dict[str, Any] = {
        "api_key": simulator.api_key,
        "url": simulator.url,
        "ssl_context": simulator.ssl_context,
        "proxy": False,
    }
    return Client(**server | options)
