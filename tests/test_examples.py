"""Every example runs as a user would run it: as a script, with the environment telling where and with which key."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("websockets", reason="needs the extra testing")

from allenhark_ws.testing import Simulator

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    """A simulated server with a live market."""
    with Simulator(feed=True) as simulator:
        yield simulator


def run(market: Simulator, name: str, *arguments: str) -> str:
    """Run an example to its end and return what it printed."""
    environment = {**os.environ, "ALLENHARK_API_KEY": market.api_key, "ALLENHARK_WS_URL": market.url}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert market.violations == []
    return done.stdout


def test_callbacks_main_loop(market: Simulator) -> None:
    """The main loop sees prices of both tokens that callbacks collected."""
    printed = run(market, "callbacks_main_loop.py", "--seconds", "2", "mint-a", "coin-b")
    assert "mint… " in printed
    assert "coin… " in printed


def test_queue_consumer(market: Simulator) -> None:
    """The workers share the trades, and the total is the sum of what they printed."""
    printed = run(market, "queue_consumer.py", "--seconds", "2", "--workers", "2", "bot_a", "bot_b", "bot_c")
    trades = [line for line in printed.splitlines() if " made " in line]
    assert trades
    total = sum(float(line.split(" made ")[1].split()[0]) for line in trades)
    assert f"total profit seen by the workers: {total:+.6f}" == printed.splitlines()[-1]


def test_wallet_per_client(market: Simulator) -> None:
    """Each wallet's confirmations are told apart."""
    printed = run(market, "wallet_per_client.py", "--seconds", "2", "wallet-a", "wallet-b")
    assert {line.split(":")[0] for line in printed.splitlines()} == {"wallet-a", "wallet-b"}


def test_decimal_prices(market: Simulator) -> None:
    """The prices are printed as they were sent, and the average is exact to more digits than a float has."""
    lines = run(market, "decimal_prices.py", "--events", "5", "mint-a").splitlines()
    assert len(lines) == 6
    assert len(lines[-1].rpartition(".")[2]) > 17


def test_every_example_has_a_test() -> None:
    """No example rots unseen."""
    tested = {name.removeprefix("test_") + ".py" for name in globals() if name.startswith("test_")}
    assert {path.name for path in EXAMPLES.glob("*.py")} <= tested
