"""Every fault, on plain and TLS, idle and busy, through the real client: what it tells, and what it must not lose.

A fault strikes a READY client.  One that breaks the connection has to be told as what it is, in one `Disconnected`;
one that only slows it down must not be told at all.  In both cases the ledger checks what came: no event partial,
repeated, out of order or lost without a `Gap`; the simulator checks what was asked of it; nothing is left behind.

No case depends on speed: faults that end a connection by silence use short timeouts, those that must not end it long
ones.
"""

from __future__ import annotations

import gc
import re
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

pytest.importorskip("websockets", reason="allenhark_ws.testing needs the extra testing")

from attrs import frozen

import allenhark_ws
from allenhark_ws import State
from allenhark_ws.testing import FaultProxy

from .patience import PATIENCE
from .soak.rig import Resources, Rig

SILENCE: Final = r"^nothing arrived within 1 s after a ping"
FIN: Final = r"^the TCP connection ended without a close frame"
RST: Final = r"connection reset by peer|broken pipe"
TLS_RST: Final = f"{RST}|{FIN}|(?i:eof occurred in violation of protocol)"
"""Up to CPython 3.12, SSLSocket reports a reset as the end of the stream (measured with OpenSSL 3.0)."""
TIMEOUT: Final = r"timed out after 0\.3 s during the (TLS handshake|WebSocket upgrade)"


@frozen
class Breaking:
    """A fault that costs the connection.

    Attributes:
        strike: brings it about.
        told: what the cause of `Disconnected` has to look like; with TLS, if that differs, the second one.
        codes: the close codes it may have; with TLS, if that differs, the second ones.
        retries: what a failed attempt has to look like while the fault lasts, or None when attempts succeed.
        deafens: the server hears nothing, but is heard, so that only its silence ends the connection.
    """

    strike: Callable[[FaultProxy], Any]
    told: tuple[str, ...]
    codes: tuple[set[int], ...] = ({1006},)
    retries: str | None = None
    deafens: bool = False

    def timeouts(self) -> dict[str, float]:
        """The client's, short where they have to pass: else a thread that is kept waiting would be a fault itself."""
        return {
            "pong_timeout": 1.0 if SILENCE in self.told else PATIENCE,
            "connect_timeout": 0.3 if self.retries == TIMEOUT else PATIENCE,
        }


def refuse(proxy: FaultProxy) -> None:
    """Cut what there is and let nobody in."""
    proxy.refuse()
    proxy.rst()


def hang(proxy: FaultProxy) -> None:
    """Cut what there is and answer nobody."""
    proxy.hang_on_accept()
    proxy.rst()


BREAKING: Final = {
    "rst": Breaking(lambda proxy: proxy.rst(), (RST, TLS_RST)),
    "fin": Breaking(lambda proxy: proxy.fin(), (FIN,)),
    "refuse": Breaking(refuse, (RST, TLS_RST), retries="connection refused"),
    "hang_on_accept": Breaking(hang, (RST, TLS_RST), retries=TIMEOUT),
    "cut to client": Breaking(lambda proxy: proxy.cut(33), (FIN,), retries="closed the connection|(?i:eof)"),
    "cut to server": Breaking(
        lambda proxy: proxy.cut(33, "to_server"), (FIN,), retries="closed the connection|(?i:eof)"
    ),
    "blackhole": Breaking(lambda proxy: proxy.blackhole(), (SILENCE,), retries=TIMEOUT),
    "blackhole to client": Breaking(lambda proxy: proxy.blackhole(direction="to_client"), (SILENCE,), retries=TIMEOUT),
    "blackhole to server": Breaking(
        lambda proxy: proxy.blackhole(direction="to_server"), (SILENCE,), retries=TIMEOUT, deafens=True
    ),
    "stall": Breaking(lambda proxy: proxy.stall(), (SILENCE,), retries=TIMEOUT),
    "stall to client": Breaking(lambda proxy: proxy.stall(direction="to_client"), (SILENCE,), retries=TIMEOUT),
    "stall to server": Breaking(
        lambda proxy: proxy.stall(direction="to_server"), (SILENCE,), retries=TIMEOUT, deafens=True
    ),
    **{
        f"corrupt {place} to client": Breaking(
            lambda proxy, place=place: proxy.corrupt(place),  # type: ignore[misc]
            (r"^the server broke the WebSocket protocol", "wrong version|record"),
        )
        for place in (0, 1, 2, 24)
    },
    **{
        f"corrupt {place} to server": Breaking(
            lambda proxy, place=place: proxy.corrupt(place, "to_server"),  # type: ignore[misc]
            (r"^the server closed the connection with code 100[27]", f"{TLS_RST}|alert"),
            ({1002, 1007}, {1006}),
        )
        for place in (0, 1, 2, 12)
    },
}

SLOWING: Final[dict[str, Callable[[FaultProxy], None]]] = {
    "latency": lambda proxy: proxy.latency(0.05),
    "latency to client": lambda proxy: proxy.latency(0.05, "to_client"),
    "throttle": lambda proxy: proxy.throttle(20_000),
    "drip": lambda proxy: proxy.drip(0.0002),
    "short stall": lambda proxy: proxy.stall(),
}

tls = pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
busy = pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])


def suffer(rig: Rig, fault: Breaking, *, tls: bool, busy: bool) -> None:
    """Let the fault strike, and check what is told of it while it lasts."""
    ledger = rig.ledger
    fault.strike(rig.proxy)
    if fault.deafens and busy:
        rig.see(20)
        rig.publisher.stop()
    rig.wait_for(lambda: ledger.told_losses)
    code, reason, cause = ledger.told_losses[0]
    assert re.search(fault.told[-1 if tls else 0], cause), cause
    assert code in fault.codes[-1 if tls else 0]
    assert bool(reason) == (code != 1006)
    if fault.retries is not None:
        retries = re.compile(fault.retries)
        rig.wait_for(lambda: any(retries.search(failure) for failure in list(ledger.failures)))


@tls
@busy
@pytest.mark.parametrize("name", BREAKING)
def test_breaking_fault(name: str, busy: bool, tls: bool) -> None:
    """The loss is told as what it was, once; the client comes back, and everything else is as if nothing had been."""
    fault = BREAKING[name]
    before = Resources.now()
    with Rig(tls=tls, **fault.timeouts()) as rig:
        rig.publisher.start()
        rig.see(20)
        if not busy:
            rig.publisher.stop()
        suffer(rig, fault, tls=tls, busy=busy)
        rig.recover()
        assert rig.client.state is State.READY
        assert rig.ledger.sessions == rig.ledger.losses + 1
    assert rig.verdict() == []
    assert before.is_all_that_is_left()


@tls
@busy
@pytest.mark.parametrize("name", SLOWING)
def test_slowing_fault(name: str, busy: bool, tls: bool) -> None:
    """A slow network is no loss: every event arrives, none twice, and the connection is the same one."""
    before = Resources.now()
    with Rig(tls=tls, pong_timeout=PATIENCE, connect_timeout=PATIENCE) as rig:
        SLOWING[name](rig.proxy)
        if busy:
            rig.publisher.start()
        if name == "short stall":
            rig.simulator.wait_for(lambda: rig.proxy.connections == 1)
        elif busy:
            rig.see(5)
        else:
            assert rig.client.flush(PATIENCE) > 0
        rig.recover()
        assert (rig.ledger.sessions, rig.ledger.losses, rig.ledger.lost_inside) == (1, 0, 0)
    assert rig.verdict() == []
    assert rig.simulator.history[1:] == ()
    assert before.is_all_that_is_left()


def held_by_the_package() -> int:
    """Bytes allocated by the package's own lines and held still, the testing half left out."""
    gc.collect()
    package = Path(allenhark_ws.__file__).parent
    mine = [tracemalloc.Filter(True, str(package / "*.py")), tracemalloc.Filter(False, str(package / "testing" / "*"))]
    return sum(entry.size for entry in tracemalloc.take_snapshot().filter_traces(mine).statistics("filename"))


def test_repeated_losses_cost_no_memory() -> None:
    """Forty losses more leave no more behind than the first ten did: what a connection allocates goes with it."""

    def lose(times: int) -> None:
        for goal in range(rig.ledger.losses + 1, rig.ledger.losses + times + 1):
            rig.proxy.rst()
            rig.wait_for(partial(rig.has_lost, goal))
            rig.recover()

    with Rig() as rig:
        tracemalloc.start()
        try:
            lose(10)
            first = held_by_the_package()
            lose(40)
            growth = held_by_the_package() - first
        finally:
            tracemalloc.stop()
    assert rig.verdict() == []
    assert growth < 40 * 1000
