"""The benchmarks: each runs to its end and counts what was sent; tables and chart show the figures they are given."""

from __future__ import annotations

import importlib.util
import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .benchmarks import chart, latency, report, rounds, throughput, wire, worker
from .benchmarks.__main__ import BENCHMARKS, main
from .benchmarks.feed import Feed
from .benchmarks.report import Table
from .benchmarks.rounds import Contender, Plan, Sample

MESSAGES = 120


def here(feed: Feed, contender: str, url: str, *, bare: bool = False, **options: Any) -> Sample:
    """Run a contender in this process, which takes milliseconds; nothing can be hidden from it here."""
    trusted = {"SSL_CERT_FILE": feed.authority, "WEBSOCKET_CLIENT_CA_BUNDLE": feed.authority} if feed.authority else {}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            patch.delenv(name)
        for name, file in trusted.items():
            patch.setenv(name, file)
        return worker.do(contender, url, **options)


def plan(measure: Callable[..., Sample] = here, *, said: list[str] | None = None, count: int = 1) -> Plan:
    """As little as can be measured."""
    say = (lambda _line: None) if said is None else said.append
    return Plan(rounds=count, messages=MESSAGES, seconds=0.02, channels=20, say=say, measure=measure)


@pytest.fixture(scope="module")
def feed() -> Iterator[Feed]:
    """The server in its process, in clear."""
    with Feed() as running:
        yield running


def available(contender: Contender) -> bool:
    """Whether it could run here."""
    return all(importlib.util.find_spec(name) is not None for name in contender.needs)


# Runs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_runs_to_its_end(name: str) -> None:
    """Every part gives tables whose rows fit their headings, or says what was skipped."""
    said: list[str] = []
    tables = list(BENCHMARKS[name](plan(said=said)))
    assert tables or any(line.startswith("skipped: ") for line in said)
    for table in tables:
        assert all(len(row) == len(table.headings) for row in table.rows)
        assert report.text(table).startswith(f"{table.title}\n")


@pytest.mark.parametrize("contender", throughput.CONTENDERS, ids=lambda contender: contender.name)
def test_what_is_counted_is_what_was_sent(feed: Feed, contender: Contender) -> None:
    """Each contender gives every message to the user's code once."""
    if not available(contender):
        pytest.skip(f"needs {' and '.join(contender.needs)}")
    url = feed.url("mix", messages=MESSAGES, close=int(contender.closes))
    found = here(feed, contender.run, url, probe="count", messages=MESSAGES)
    assert found["messages"] == MESSAGES
    assert found["seconds"] > 0


@pytest.mark.parametrize("bare", [True, False])
def test_a_process_of_its_own(feed: Feed, *, bare: bool) -> None:
    """A bare install is made by hiding the extra ``speed`` from a fresh interpreter; the events all come."""
    found = worker.measure(feed, "ours:inline", feed.url("mix", messages=50), bare=bare, probe="count", messages=50)
    assert found["messages"] == 50
    there = [name for name in worker.SPEED if importlib.util.find_spec(name) is not None]
    assert found["speed"] == ([] if bare else there)


@pytest.mark.parametrize("name", [*worker.SPEED, f"{worker.SPEED[0]}.anything"])
def test_bare_refuses_the_extra_speed(name: str) -> None:
    """Its modules cannot be found, all others are left to the usual finders."""
    with pytest.raises(ModuleNotFoundError, match="bare install"):
        worker._Bare.find_spec(name)
    assert worker._Bare.find_spec("json") is None


def test_a_process_that_fails_is_told_by_its_job(feed: Feed, capfd: pytest.CaptureFixture[str]) -> None:
    """The error names what was to be run; why it failed is on stderr."""
    with pytest.raises(RuntimeError, match="no_such_contender"):
        worker.measure(feed, "ours:no_such_contender", feed.url(), probe="count", messages=1)
    assert "AttributeError" in capfd.readouterr().err


@pytest.mark.parametrize("part", [throughput.run, latency.run], ids=["throughput", "latency"])
def test_miscounting_is_an_error(part: Callable[[Plan], Iterator[Table]]) -> None:
    """Figures of messages that were not all there are never shown."""
    with pytest.raises(RuntimeError, match=r"were sent, 1 counted"):
        list(part(plan(lambda *_, **__: {"messages": 1, "seconds": 1.0, "cpu": 1.0, "p50": 1.0, "p99": 1.0})))


def test_the_traffic_is_the_documented_mix() -> None:
    """So many whole frames come as were asked for, in equal parts of three kinds, over the end of a block as well."""
    data = b"".join(wire.pieces("mix", 50, 12_100))
    kinds: list[bytes] = []
    start = 0
    while start < len(data):
        head, length = struct.unpack_from("!HH", data, start)
        assert head == 0x817E
        kinds.append(data[start + 4 : start + 40].partition(b'"type":"')[2].partition(b'"')[0])
        start += 4 + length
    assert len(kinds) == 12_100
    assert set(Counter(kinds[:12_000]).values()) == {4_000}
    assert kinds[12_000:] == kinds[:100]


def test_unknown_traffic_is_refused() -> None:
    """A kind that does not exist is told by name."""
    with pytest.raises(ValueError, match="'noise'"):
        wire.payloads("noise", 1)


# Figures --------------------------------------------------------------------------------------------------------------


def test_what_is_missing_is_skipped_with_one_line() -> None:
    """A contender whose modules are not there is named with them, and the others run."""
    said: list[str] = []
    there, gone = Contender("here", "a:b", ("json",)), Contender("gone", "a:b", ("json", "no_such_module"))
    assert rounds.installed((there, gone), said.append) == [there]
    assert said == ["skipped: gone, for no_such_module cannot be imported"]


def test_rounds_are_interleaved() -> None:
    """Everybody runs once before anybody runs again."""
    order: list[str] = []

    def measure(contender: Contender) -> Sample:
        order.append(contender.name)
        return {"n": len(order)}

    samples = rounds.interleave([Contender("a", ""), Contender("b", "")], plan(count=2), measure)
    assert order == ["a", "b", "a", "b"]
    assert samples == {"a": [{"n": 1}, {"n": 3}], "b": [{"n": 2}, {"n": 4}]}


def test_ratios_are_taken_within_rounds() -> None:
    """A slow round, slow for both, changes no ratio; without the other one there is none."""
    samples = {"fast": [{"n": 6}, {"n": 60}, {"n": 5}], "slow": [{"n": 3}, {"n": 20}, {"n": 1}]}
    found = rounds.ratios(samples, "fast", "slow", lambda sample: float(sample["n"]))
    assert found == [2, 3, 5]
    assert rounds.spread(found, ".1f") == "3.0 (2.0-5.0)"
    assert rounds.ratios(samples, "fast", "skipped", lambda sample: float(sample["n"])) == []
    assert rounds.spread([]) == rounds.middle([]) == "-"


def test_throughput_table() -> None:
    """Rates and their ratios, by both clocks, on made-up figures."""
    samples = {
        throughput.BASELINE: [{"messages": 10, "seconds": 1.0, "cpu": 0.5}],
        throughput.LIMIT: [{"messages": 1_000, "seconds": 1.0, "cpu": 1.0}],
        "allenhark_ws": [{"messages": 800, "seconds": 1.0, "cpu": 0.0}],
    }
    table = throughput.table("Throughput, plain", samples)
    assert table.rows == (
        (throughput.BASELINE, "10", "1.0 (1.0-1.0)", "1.0 (1.0-1.0)", "0.01 / 0.02", "- / -"),
        (throughput.LIMIT, "1,000", "100.0 (100.0-100.0)", "50.0 (50.0-50.0)", "1.00 / 1.00", "- / -"),
        ("allenhark_ws", "800", "80.0 (80.0-80.0)", "0.0 (0.0-0.0)", "0.80 / 0.00", "- / -"),
    )
    assert table.bars == {throughput.BASELINE: 1, throughput.LIMIT: 100, "allenhark_ws": 80}


# Output ---------------------------------------------------------------------------------------------------------------

TABLE = Table("Speed", "Higher is better.", ("", "messages/s"), (("allenhark_ws", "1,000"), ("other", "7")))

TEXT = """\
Speed
Higher is better.

              messages/s
------------------------
allenhark_ws       1,000
other                  7
"""

MARKDOWN = """\
### Speed

Higher is better.

|              | messages/s |
| :----------- | ---------: |
| allenhark_ws |      1,000 |
| other        |          7 |

Measured on a machine.
"""

SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" width="860" height="142" viewBox="0 0 860 142" role="img" \
font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif" font-size="13" fill="#7d8590">
<title>Fast &amp; slow</title>
<text x="0" y="18" font-size="15" font-weight="600">Fast &amp; slow</text>
<rect x="270" y="32" width="12" height="12" rx="2" opacity="1"/>
<text x="288" y="43">plain</text>
<rect x="360" y="32" width="12" height="12" rx="2" opacity="0.55"/>
<text x="378" y="43">TLS</text>
<text x="258" y="80" text-anchor="end">ours, inline</text>
<rect x="270" y="62" width="520.0" height="12" rx="2" fill="#2f81f7" opacity="1"/>
<text x="796.0" y="72" font-size="11">40.0</text>
<rect x="270" y="75" width="260.0" height="12" rx="2" fill="#2f81f7" opacity="0.55"/>
<text x="536.0" y="85" font-size="11">20.0</text>
<text x="258" y="120" text-anchor="end">a &lt;peer&gt;</text>
<rect x="270" y="102" width="13.0" height="12" rx="2" fill="#8b949e" opacity="1"/>
<text x="289.0" y="112" font-size="11">1.0</text>
</svg>
"""


def test_text_table() -> None:
    """Names to the left, figures to the right, nothing behind them."""
    assert report.text(TABLE) == TEXT


def test_markdown_table() -> None:
    """The same as Markdown reads it, with where it was measured."""
    assert report.markdown([TABLE], "a machine") == MARKDOWN


def test_chart() -> None:
    """The best on top, ours in colour, names escaped, and no bar where there is no figure."""
    series = {"plain": {"a <peer>": 1.0, "ours, inline": 40.0}, "TLS": {"ours, inline": 20.0}}
    assert chart.draw("Fast & slow", series, "ours") == SVG


def test_measured_on_names_versions() -> None:
    """A figure without the versions it was measured with says little."""
    assert "CPython 3." in report.environment()
    assert "attrs 2" in report.environment()


def test_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tables are on stdout and in the file; progress, and that there is nothing to draw, on stderr."""
    file, drawing = tmp_path / "benchmarks.md", tmp_path / "benchmarks.svg"
    arguments = ["restore", "--rounds", "1", "--channels", "10", "--markdown", str(file), "--svg", str(drawing)]
    assert main(arguments) == 0
    told = capsys.readouterr()
    assert "a loop of WebSocket.send" in told.out
    assert "### Restore" in file.read_text(encoding="utf-8")
    assert "no chart" in told.err
    assert not drawing.exists()


def test_command_refuses_unknown_names(capsys: pytest.CaptureFixture[str]) -> None:
    """It says which names there are."""
    with pytest.raises(SystemExit, match="2"):
        main(["speed"])
    assert "there is no speed; there are throughput, costs, latency" in capsys.readouterr().err
