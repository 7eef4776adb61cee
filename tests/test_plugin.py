"""The pytest plugin, in pytest runs of their own; and the test suite of the example that uses it."""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from allenhark_ws import Client

pytest.importorskip("websockets", reason="needs the extra testing")
pytest.importorskip("trustme", reason="needs the extra testing")

pytest_plugins = ["pytester"]

EXAMPLE = Path(__file__).parent.parent / "examples" / "testing"

BARE = ("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist")
"""Nothing written, and in order, whatever else is installed."""

WITHOUT_AN_EXTRA = "import sys; sys.modules['websockets'] = None"
"""Has the import of that package fail as if it were not installed."""


@pytest.fixture
def fresh(pytester: pytest.Pytester) -> pytest.Pytester:
    """A directory for a pytest run that finds the plugin by its entry point, warnings being errors."""
    if not [entry for entry in entry_points(group="pytest11") if entry.value == "allenhark_ws.pytest_plugin"]:
        pytest.skip("allenhark-ws is not installed, only importable")
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def run(fresh: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    """Run one file of tests in an interpreter of its own."""
    fresh.makepyfile(test_user=text)
    return fresh.runpytest_subprocess(*BARE, *arguments)


def test_fixtures(fresh: pytest.Pytester) -> None:
    """A started simulator and a client connected to it, for each test anew; both are ended afterwards."""
    done = run(
        fresh,
        """
        from allenhark_ws import State
        kept = []

        def test_connected(allenhark_simulator, allenhark_client):
            kept[:] = allenhark_simulator, allenhark_client
            assert allenhark_client.state is State.READY
            assert (allenhark_simulator.connections, allenhark_simulator.api_key) == (1, "test-key")

        def test_ended(allenhark_simulator):
            simulator, client = kept
            assert client.state is State.CLOSED
            assert client.error is None
            assert simulator is not allenhark_simulator
            assert (simulator.connections, allenhark_simulator.connections) == (0, 0)
        """,
    )
    done.assert_outcomes(passed=2)


def test_options(fresh: pytest.Pytester) -> None:
    """The arguments of both are other fixtures, to be overridden for a module, a class or a single test."""
    fresh.makepyfile(
        """
        import pytest

        @pytest.fixture
        def allenhark_simulator_options():
            return {"api_keys": ("first", "second"), "tls": True}

        def test_module(allenhark_simulator, allenhark_client):
            assert allenhark_simulator.url.startswith("wss://")
            assert allenhark_simulator.received[0] == {"type": "auth", "apiKey": "first"}

        @pytest.mark.parametrize("allenhark_client_options", [{"api_key": "second", "decimal": True}])
        def test_single(allenhark_simulator, allenhark_client):
            assert allenhark_simulator.received[0] == {"type": "auth", "apiKey": "second"}
        """
    )
    # Loaded before: modules loaded within it go with it, and the package would keep the client of one of them.
    assert Client.__module__ in sys.modules
    # In this process, for once, so that its coverage is seen.  Where the sources are on sys.path, pytest knows what
    # is distributed with them, these tests too, and would rather have rewritten them before they were imported.
    options = (*BARE, "-W", "ignore::pytest.PytestAssertRewriteWarning")
    fresh.runpytest_inprocess(*options).assert_outcomes(passed=2)


def test_a_program_that_makes_its_own_client(fresh: pytest.Pytester) -> None:
    """It finds the simulator by the environment."""
    done = run(
        fresh,
        """
        from allenhark_ws import Client

        def test_program(allenhark_simulator, monkeypatch):
            monkeypatch.setenv("ALLENHARK_WS_URL", allenhark_simulator.url)
            monkeypatch.setenv("ALLENHARK_API_KEY", allenhark_simulator.api_key)
            with Client():
                assert allenhark_simulator.connections == 1
        """,
    )
    done.assert_outcomes(passed=1)


def test_a_wrong_key_fails_with_its_error(fresh: pytest.Pytester) -> None:
    """The test that asked for the client is an error, with the client's own words and without the key."""
    done = run(
        fresh,
        """
        import pytest

        @pytest.fixture
        def allenhark_client_options():
            return {"api_key": "pa55word"}

        def test_never(allenhark_client):
            pass
        """,
        "--showlocals",
    )
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["E * allenhark_ws.errors.AuthenticationError: *invalid API key*"])
    assert not [line for line in done.outlines if "pa55word" in line and "return {" not in line]


def test_without_the_extra(fresh: pytest.Pytester) -> None:
    """The fixtures fail with one clear line, and nothing else does."""
    fresh.makeconftest(WITHOUT_AN_EXTRA)
    done = run(
        fresh,
        """
        def test_user(allenhark_client):
            pass

        def test_other():
            pass
        """,
    )
    done.assert_outcomes(passed=1, errors=1)
    hint = 'the simulator needs the package websockets, version 14 or later: pip install "allenhark-ws[testing]"'
    assert done.outlines.count(hint) == 1
    assert not [line for line in done.outlines if "Error" in line or "import" in line]


def test_without_the_package_for_tls(fresh: pytest.Pytester) -> None:
    """The same, for the simulator that cannot be made."""
    fresh.makeconftest("import sys; sys.modules['trustme'] = None")
    done = run(
        fresh,
        """
        import pytest

        @pytest.mark.parametrize("allenhark_simulator_options", [{"tls": True}])
        def test_user(allenhark_client):
            pass
        """,
    )
    done.assert_outcomes(errors=1)
    assert (
        done.outlines.count('Simulator(tls=True) needs the package trustme: pip install "allenhark-ws[testing]"') == 1
    )


def test_unused_it_costs_nothing(fresh: pytest.Pytester) -> None:
    """Installed and unused, it loads nothing but itself; and it can be left out."""
    text = """
        import sys

        def test_loaded():
            assert [name for name in sys.modules if name.startswith("allenhark_ws.")] == {expected}
            assert "websockets" not in sys.modules
        """
    run(fresh, text.format(expected=["allenhark_ws.pytest_plugin"])).assert_outcomes(passed=1)
    run(fresh, text.format(expected=[]), "-p", "no:allenhark_ws").assert_outcomes(passed=1)


def test_fixtures_are_explained(fresh: pytest.Pytester) -> None:
    """``pytest --fixtures`` says what each is."""
    done = fresh.runpytest_subprocess("--fixtures", *BARE)
    done.stdout.fnmatch_lines(
        [
            "allenhark_simulator_options -- *",
            "*The arguments of the `Simulator`; override it.",
            "allenhark_client_options -- *",
            "allenhark_simulator -- *",
            "allenhark_client -- *",
            "*connected to `allenhark_simulator`, closed after the test.",
        ]
    )


@pytest.fixture
def example(fresh: pytest.Pytester) -> pytest.Pytester:
    """A copy of the example's program and tests."""
    for path in EXAMPLE.glob("*.py"):
        shutil.copy(path, fresh.path)
    return fresh


def test_example(example: pytest.Pytester) -> None:
    """Its tests pass as they stand, in a fresh run."""
    example.runpytest_subprocess(*BARE).assert_outcomes(passed=6)


@pytest.mark.parametrize(
    ("right", "wrong", "failing"),
    [
        pytest.param("and not was_above", "", {"the_alert_rings_when_the_limit_is_crossed"}, id="alert"),
        pytest.param("self._above = False", "pass", {"the_alert_survives_a_cut"}, id="gap"),
        pytest.param("self._booked.add(trade.signature)", "pass", {"each_trade_is_booked_once"}, id="book"),
        pytest.param(
            "+= gap.duration",
            "+= 0",
            {"an_hour_without_the_server_is_an_hour_blind", "a_mute_server_is_noticed"},
            id="blind",
        ),
    ],
)
def test_example_can_fail(example: pytest.Pytester, right: str, wrong: str, failing: set[str]) -> None:
    """A fault in the program is found by the tests that are about it, and by no other."""
    program = example.path / "desk.py"
    head, found, tail = program.read_text(encoding="utf-8").rpartition(right)
    assert found
    program.write_text(head + wrong + tail, encoding="utf-8")
    done = example.runpytest_subprocess(*BARE, "-rf")
    done.assert_outcomes(passed=6 - len(failing), failed=len(failing))
    done.stdout.fnmatch_lines_random([f"FAILED test_desk.py::test_{name} - *" for name in failing])
