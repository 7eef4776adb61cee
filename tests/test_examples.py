"""Every example runs as a user would run it: as a script, with the environment telling where and with which key.

Those that end by themselves are run to their end, all are ended by Ctrl-C or SIGTERM, and all run without a key.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("websockets", reason="needs the extra testing")

from allenhark_ws import recording

from .patience import LONG
from .processes import Script, posix
from .simulators import Simulator

EXAMPLES = Path(__file__).parent.parent / "examples"

SIMULATED = "ALLENHARK_API_KEY is not set: this is a simulated market at ws://127.0.0.1:"

both_signals = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])


@pytest.fixture(scope="module")
def market() -> Iterator[Simulator]:
    """A simulated server with a live market."""
    with Simulator(feed=True) as simulator:
        yield simulator
        assert simulator.violations == []


def environment(market: Simulator | None) -> dict[str, str]:
    """Where to find this market; None: nothing, not even a key."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ALLENHARK_")}
    return kept if market is None else kept | {"ALLENHARK_API_KEY": market.api_key, "ALLENHARK_WS_URL": market.url}


def command(name: str, *arguments: str) -> list[str]:
    """How it is started."""
    return [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]


def completed(arguments: list[str], env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(arguments, env=env, cwd=cwd, capture_output=True, text=True, timeout=LONG, check=False)


def run(market: Simulator, name: str, *arguments: str) -> str:
    """Run an example to its end and return what it printed."""
    done = completed(command(name, *arguments), environment(market))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


class Running(Script):
    """An example that runs until it is told to end."""

    def __init__(self, market: Simulator | None, name: str, *arguments: str) -> None:
        self._ended = False
        self.process = subprocess.Popen(
            command(name, *arguments),
            env=environment(market),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def lines(self, count: int) -> list[str]:
        """The next lines it prints."""
        return [self.line() for _ in range(count)]

    def stop(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send it a signal and wait for the end; exit code and what it had still to say."""
        self.process.send_signal(number)
        return self.end()


def test_callbacks_main_loop(market: Simulator) -> None:
    """The main loop sees prices of both tokens that callbacks collected, for as long as it was told to run."""
    printed = run(market, "callbacks_main_loop.py", "--seconds", "4", "mint-a", "coin-b")
    assert "mint… " in printed
    assert "coin… " in printed
    assert printed.splitlines()[-1] == "done"


def test_queue_consumer(market: Simulator) -> None:
    """The workers share the trades, and the total is the sum of what they printed."""
    printed = run(market, "queue_consumer.py", "--seconds", "4", "--workers", "2", "bot_a", "bot_b", "bot_c")
    assert_total(printed.splitlines())


def assert_total(lines: list[str]) -> None:
    """The last line is the sum of those before."""
    trades = [line for line in lines if " made " in line]
    assert trades
    total = sum(float(line.split(" made ")[1].split()[0]) for line in trades)
    told = lines[-1].removeprefix("total profit seen by the workers: ")
    assert float(told) == pytest.approx(total, abs=1e-5)


def test_wallet_per_client(market: Simulator) -> None:
    """Each wallet's confirmations are told apart."""
    printed = run(market, "wallet_per_client.py", "--seconds", "4", "wallet-a", "wallet-b")
    assert {line.split(":")[0] for line in printed.splitlines()} == {"wallet-a", "wallet-b"}


def test_decimal_prices(market: Simulator) -> None:
    """The prices are printed as they were sent, and the average is exact to more digits than a float has."""
    lines = run(market, "decimal_prices.py", "--events", "5", "mint-a").splitlines()
    assert len(lines) == 6
    assert len(lines[-1].rpartition(".")[2]) > 17


@posix
def test_price_alert() -> None:
    """It rings when the price has moved far enough since it rang last, either way, and says when news was missing."""
    with Simulator() as simulator, Running(simulator, "price_alert.py", "--percent", "10", "M") as example:
        assert example.line() == "watching M for moves of 10 %"
        publish(simulator, 100.0, 109.0, 111.0, 120.0, 90.0)
        first = example.lines(2)
        simulator.reset()
        simulator.wait_for(partial(connected_again, simulator))
        publish(simulator, 45.0)
        moves = [line.split("  ")[1:] for line in [*first, example.line()]]
        assert example.stop(signal.SIGINT) == (0, "", "")
    assert moves[:2] == [["111", "+11.00 %"], ["90", "-18.92 %"]]
    assert moves[2][0] == "45"
    assert re.fullmatch(r"-50\.00 % \(after \d+\.\d s without news\)", moves[2][1])


def publish(simulator: Simulator, *prices: float) -> None:
    """Prices of the token M, to a program that has subscribed."""
    simulator.wait_for(lambda: simulator.subscriptions)
    for price in prices:
        message = {"type": "price_update", "mint": "M", "price": price, "volume": 1.0}
        simulator.publish(message | {"timestamp": "2024-01-15T10:30:00Z"})


@posix
def test_dashboard() -> None:
    """What came between two looks is one line, the newest price; the rest was overtaken."""
    with Simulator() as simulator, Running(simulator, "dashboard.py", "--every", "0.5", "M") as example:
        publish(simulator, 1.0)
        assert example.line().startswith("M…             1  ")
        assert example.line() == "-- 0 prices were overtaken by newer ones"
        publish(simulator, *map(float, range(2, 100)))
        seen = [example.line()]
        while "           99  " not in seen[-1]:
            seen.append(example.line())
        overtaken = int(example.line().split()[1])
        assert overtaken
        assert overtaken + len([line for line in seen if "M…" in line]) == 98
        assert example.stop(signal.SIGINT) == (0, "", "")


@posix
def test_prometheus_exporter(market: Simulator) -> None:
    """What is scraped over HTTP is what Prometheus can read, and it counts what was printed."""
    parser = pytest.importorskip("prometheus_client.parser", reason="needs the extra metrics")
    with Running(market, "prometheus_exporter.py", "--port", "0", "bot_a", "bot_b") as example:
        url = example.line().removeprefix("metrics are at ")
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", url)
        assert {line.split(": ")[1] for line in example.lines(5)} == {"trade_executed"}
        with urlopen(url) as response:  # noqa: S310 - http on loopback, as matched above
            scraped = parser.text_string_to_metric_families(response.read().decode())
            families = {family.name: family for family in scraped}
        code, _, told = example.stop(signal.SIGTERM)
    received = {s.labels["type"]: s.value for s in families["allenhark_ws_messages_received"].samples}
    assert received["bot_update"] >= 5
    assert [s.labels["state"] for s in families["allenhark_ws_state"].samples if s.value] == ["ready"]
    counts = [s.value for s in families["allenhark_ws_latency_seconds"].samples if s.name.endswith("_count")]
    assert counts >= [5]
    assert (code, told) == (0, "")


@posix
@both_signals
def test_recording_daemon(tmp_path: Path, number: signal.Signals) -> None:
    """It records, over a loss too, tells what is missing, and goes on with its file when it is started again."""
    path = tmp_path / "market.jsonl"
    for first in (1.0, 2.0):
        with Simulator() as simulator, Running(simulator, "recording_daemon.py", str(path), "--price", "M") as example:
            publish(simulator, first, first + 0.25)
            await_price(simulator, path, first + 0.25)
            simulator.reset()
            simulator.wait_for(partial(connected_again, simulator))
            publish(simulator, first + 0.5)
            await_price(simulator, path, first + 0.5)
            code, said, told = example.stop(number)
        lines = told.splitlines()
        assert (code, said, len(lines)) == (0, "", 4)
        assert lines[0].endswith(f"INFO recording to {path}")
        assert "WARNING connection lost: the connection broke" in lines[1]
        assert re.search(r"WARNING \d+\.\d s are missing$", lines[2])
        assert re.search(r"INFO \d+ frames written, 0 lost$", lines[3])
    messages = [json.loads(entry.raw) for entry in recording.read(path)]
    assert [m["price"] for m in messages if m["type"] == "price_update"] == [1.0, 1.25, 1.5, 2.0, 2.25, 2.5]


def connected_again(simulator: Simulator) -> bool:
    """Whether the second connection has subscribed."""
    return len(simulator.history) == 2 and bool(simulator.subscriptions)


def await_price(simulator: Simulator, path: Path, price: float) -> None:
    """Wait until it is in the file."""
    simulator.wait_for(lambda: rf"\"price\":{price}" in path.read_text(encoding="utf-8"))


@posix
def test_recording_daemon_rotates(market: Simulator, tmp_path: Path) -> None:
    """Every file is whole, and together they hold everything in order."""
    path = tmp_path / "market.jsonl.gz"
    with Running(market, "recording_daemon.py", str(path), "--price", "M", "--rotate", "0.1") as example:
        market.wait_for(lambda: len(recording.series(path)) >= 3)
        code, _, told = example.stop(signal.SIGTERM)
    assert code == 0
    times = [entry.at for file in recording.series(path) for entry in recording.read(file)]
    assert times == sorted(times)
    assert f"{len(times)} frames written, 0 lost" in told


@posix
def test_recording_daemon_on_a_full_disk(market: Simulator, tmp_path: Path) -> None:
    """It ends by itself, with an exit code that a supervisor understands and a line that says why."""
    limited = ["sh", "-c", 'ulimit -f 1; exec "$@"', "sh"]
    arguments = [*limited, *command("recording_daemon.py", str(tmp_path / "market.jsonl"), "--price", "M")]
    done = subprocess.run(arguments, env=environment(market), capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 1
    assert "File too large" in done.stderr.splitlines()[-1]


ENDLESS = {
    "callbacks_main_loop.py": ("stopped",),
    "dashboard.py": (),
    "decimal_prices.py": ("volume-weighted average price: ",),
    "price_alert.py": (),
    "prometheus_exporter.py": (),
    "queue_consumer.py": ("total profit seen by the workers: ",),
    "testing/desk.py": ("profits: ",),
    "wallet_per_client.py": (),
}
"""What each still says when it is ended while it runs."""

ARGUMENTS = {
    "decimal_prices.py": ("--events", "1000000"),
    "price_alert.py": ("--percent", "0.0001"),
    "prometheus_exporter.py": ("--port", "0"),
    "queue_consumer.py": ("bot_a",),
    "wallet_per_client.py": ("wallet-a", "wallet-b"),
}


@posix
@both_signals
@pytest.mark.parametrize("name", ENDLESS)
def test_ends_cleanly(name: str, number: signal.Signals) -> None:
    """Without a key it runs on a simulated market; Ctrl-C and SIGTERM end it with 0, its last words, no traceback."""
    if "prometheus" in name:
        pytest.importorskip("prometheus_client", reason="needs the extra metrics")
    with Running(None, name, *ARGUMENTS.get(name, ())) as example:
        example.lines(2)
        code, said, told = example.stop(number)
    assert code == 0
    assert [line for line in told.splitlines() if not line.startswith(SIMULATED)] == []
    assert told.startswith(SIMULATED)
    for word in ENDLESS[name]:
        assert said.splitlines()[-1].startswith(word)


@posix
def test_the_total_is_right_when_interrupted(market: Simulator) -> None:
    """Ctrl-C lets the workers finish."""
    with Running(market, "queue_consumer.py", "bot_a", "bot_b") as example:
        before = example.lines(3)
        code, said, told = example.stop(signal.SIGINT)
    assert (code, told) == (0, "")
    assert_total([*before, *said.splitlines()])


@pytest.mark.parametrize("name", ENDLESS)
def test_a_wrong_key_is_the_last_line(market: Simulator, name: str) -> None:
    """The error says what is wrong; the key is in no line."""
    if "prometheus" in name:
        pytest.importorskip("prometheus_client", reason="needs the extra metrics")
    done = subprocess.run(
        command(name, *ARGUMENTS.get(name, ())),
        env=environment(market) | {"ALLENHARK_API_KEY": "pa55word"},
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 1
    assert "allenhark_ws.errors.AuthenticationError" in done.stderr.splitlines()[-1]
    assert "pa55word" not in done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("[!_]*.py")))
def test_help_tells_every_default(name: str) -> None:
    """Of all that need not be said; without a market, which nobody asked for."""
    done = subprocess.run(
        command(name, "--help"), env=environment(None), capture_output=True, text=True, timeout=LONG, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    defaults = re.findall(r"default=(?!\[\])", (EXAMPLES / name).read_text(encoding="utf-8"))
    assert defaults
    assert len(re.findall(r"by\s+default|\(default:", done.stdout)) >= len(defaults)


WITHOUT = """
import runpy, sys
_, missing, path, folder = sys.argv
sys.modules[missing] = None
sys.path[0] = folder
runpy.run_path(path, run_name="__main__")
"""
"""Runs a script as if a package were not installed."""


@pytest.mark.parametrize(
    ("name", "missing", "extra"),
    [
        *((name, "websockets", "testing") for name in sorted(ENDLESS | {"recording_daemon.py": ()})),
        ("prometheus_exporter.py", "prometheus_client", "metrics"),
    ],
)
def test_a_missing_extra_is_one_line(tmp_path: Path, name: str, missing: str, extra: str) -> None:
    """It names what to install, and there is no traceback."""
    if "prometheus" in name and extra != "metrics":
        pytest.importorskip("prometheus_client", reason="needs the extra metrics")
    path = EXAMPLES / name
    arguments = [sys.executable, "-W", "error", "-c", WITHOUT, missing, str(path), str(path.parent)]
    done = completed(arguments, environment(None), tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.endswith(f': pip install "allenhark-ws[{extra}]"')


def test_every_example_has_a_test() -> None:
    """No example rots unseen."""
    tested = {name.removeprefix("test_") + ".py" for name in globals() if name.startswith("test_")}
    examples = {path.name for path in EXAMPLES.glob("[!_]*.py")}
    assert examples <= tested
    assert examples | {"testing/desk.py"} == ENDLESS.keys() | {"recording_daemon.py"}
