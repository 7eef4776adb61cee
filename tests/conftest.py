"""Settings for every test: Hypothesis draws the same examples on every run and asserts no times; Ctrl-C is heard.

The files that work with whole programs, many connections or real deadlines are marked `slow`: what is left when
``-m "not slow"`` leaves them out are the unit tests, each module's own branches, which run within this process.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from .simulators import Simulator

settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun by a shell in the background, which has Ctrl-C ignored, and so would the processes that tests begin.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW: Final = frozenset(
    {
        "test_autobahn",
        "test_benchmarks",
        "test_cli",
        "test_cli_doctor",
        "test_cli_live",
        "test_cli_recordings",
        "test_cli_signals",
        "test_cli_simulate",
        "test_cli_tail",
        "test_cli_terminal",
        "test_examples",
        "test_fault_matrix",
        "test_hostile",
        "test_interrupted",
        "test_mutation",
        "test_notebook_browser",
        "test_notebook_cells",
        "test_notebook_examples",
        "test_notebook_watch",
        "test_plugin",
        "test_process",
        "test_process_life",
        "test_resilience",
        "test_soak",
    }
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow ones."""
    for item in items:
        if item.path.stem in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A server that says what the test has it say; needs the extra testing."""
    pytest.importorskip("websockets", reason="needs the extra testing")
    from .simulators import Simulator  # noqa: PLC0415 - an extra, which most tests do without

    with Simulator() as server:
        yield server
        assert server.violations == []


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    """A server with a live market; needs the extra testing."""
    from .simulators import Simulator  # noqa: PLC0415 - likewise

    with Simulator(feed=True) as server:
        yield server
