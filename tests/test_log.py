"""The user's filters and handlers may raise; whoever logs goes on, and stderr tells."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from allenhark_ws import Closed, Connected, Disconnected, Event, Price, PriceUpdate
from allenhark_ws._log import log

from .fakes import LogKeeper
from .patience import PATIENCE
from .scripted import client_of, price

if TYPE_CHECKING:
    from .simulators import Simulator

PACKAGE = logging.getLogger("allenhark_ws")


class Raising(logging.Filter):
    """A filter that takes every record for one of the program's own."""

    def __init__(self, kind: type[BaseException] = AttributeError) -> None:
        super().__init__()
        self._kind = kind

    def filter(self, record: logging.LogRecord) -> bool:
        """Fail."""
        raise self._kind(record.levelname)


@pytest.fixture
def keeper() -> Iterator[LogKeeper]:
    """A handler of the package's log, at every level, to which a test may add a filter."""
    handler = LogKeeper()
    level = PACKAGE.level
    PACKAGE.addHandler(handler)
    PACKAGE.setLevel(logging.DEBUG)
    yield handler
    PACKAGE.setLevel(level)
    PACKAGE.removeHandler(handler)


def test_it_logs_as_logging_does(keeper: LogKeeper) -> None:
    """With the arguments, the options, and the caller's own place."""
    log(logging.INFO, "%d of %d", 1, 2, extra={"more": 3})
    (record,) = keeper.records
    assert (record.levelname, record.getMessage(), vars(record)["more"]) == ("INFO", "1 of 2", 3)
    assert record.funcName == "test_it_logs_as_logging_does"


@pytest.mark.parametrize("told", [True, False])
def test_what_a_filter_raises_is_shown_on_stderr(
    keeper: LogKeeper, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], told: bool
) -> None:
    """Unless `logging` is told not to."""
    monkeypatch.setattr(logging, "raiseExceptions", told)
    keeper.addFilter(Raising())
    log(logging.ERROR, "unheard")
    shown = capsys.readouterr().err
    assert shown.endswith("AttributeError: ERROR\n") if told else not shown
    assert not keeper.records


@pytest.mark.parametrize("stderr", [None, io.StringIO()], ids=["none", "closed"])
def test_there_may_be_no_stderr(keeper: LogKeeper, monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO | None) -> None:
    """As in a program without a console."""
    if stderr is not None:
        stderr.close()
    keeper.addFilter(Raising())
    monkeypatch.setattr(sys, "stderr", stderr)
    log(logging.ERROR, "unheard")
    assert not keeper.records


def test_ctrl_c_in_a_filter_is_no_failure(keeper: LogKeeper) -> None:
    """It is for whoever called."""
    keeper.addFilter(Raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        log(logging.ERROR, "cut off")


def test_a_client_goes_on(keeper: LogKeeper, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over losses, with errors of callbacks, and to its end."""
    monkeypatch.setattr(logging, "raiseExceptions", False)
    keeper.addFilter(Raising())
    closed: list[Event] = []
    with client_of(simulator) as client:
        lifecycle, prices = client.stream(Disconnected, Connected), client.stream(Price("m"))
        client.on(Closed, closed.append)
        client.on(PriceUpdate, lambda _: 1 / 0)
        client.flush()
        simulator.close(1001)
        assert [type(lifecycle.get(timeout=PATIENCE)) for _ in range(2)] == [Disconnected, Connected]
        client.flush()
        simulator.publish(price("m"))
        assert prices.get(timeout=PATIENCE).price == 1.0
        client.close()
    assert closed == [Closed(None)]
    assert client.stats.callback_errors == 1
