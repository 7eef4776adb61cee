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
imports nothing until a fixture is used; ``-p no:allenhark_ws`` leaves it out.  Neighbours: `testing`.
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
    with _simulator_class()(**allenhark_simulator_options) as simulator:
        yield simulator


@pytest.fixture
def allenhark_client(allenhark_simulator: Simulator, allenhark_client_options: dict[str, Any]) -> Iterator[Client]:
    """An `allenhark_ws.Client` connected to `allenhark_simulator`, closed after the test."""
    from allenhark_ws import Client  # noqa: PLC0415 - pytest runs without it when no test asks

    options = {"url": allenhark_simulator.url, "ssl_context": allenhark_simulator.ssl_context, "proxy": False}
    with Client(**{"api_key": allenhark_simulator.api_key, **options, **allenhark_client_options}) as client:
        yield client


def _simulator_class() -> type[Simulator]:
    try:
        from allenhark_ws.testing import Simulator  # noqa: PLC0415 - likewise; and it brings a server
    except ModuleNotFoundError as error:
        missing = error.name
    else:
        return Simulator
    # Not in the except, where pytest would show that traceback above the one line that matters.
    hint = 'the fixture allenhark_simulator needs an extra: pip install "allenhark-ws[testing]"'
    pytest.fail(f"{hint} (missing: {missing})", pytrace=False)
