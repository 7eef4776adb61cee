"""``allenhark-ws record``, ``replay`` and ``convert``: what is received, in a file, back again, and as a table."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

for needed in ("click", "rich", "websockets", "trustme", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra cli")

from rich.console import Console
from rich.progress import Progress

from allenhark_ws import Bot, Client, Price, Transactions, recording
from allenhark_ws.cli import _convert, _replay, main
from allenhark_ws.cli._record import run_record
from allenhark_ws.recording._format import HEADER, encode

from .commands import COMMAND, Running, access, environment, run
from .patience import LONG
from .peers import closed_port
from .processes import posix
from .scripted import price
from .simulators import Simulator
from .terminal import Terminal, needs_tmux

NOON = datetime(2026, 1, 2, 12, tzinfo=timezone.utc)


@pytest.fixture
def recorded(simulator: Simulator, tmp_path: Path) -> Path:
    """A recording of three prices, a pong behind the first."""
    path = tmp_path / "recorded.jsonl"
    with Client("test-key", url=simulator.url) as client:
        client.subscribe(Price("m"))
        simulator.wait_for(lambda: Price("m") in simulator.subscriptions, LONG)
        with client.record(path):
            for value in (1.5, 2.5, 0.5):
                simulator.publish(price("m", value))
                if value == 1.5:
                    client.flush()
            simulator.send_raw("last")
            simulator.wait_for(lambda: client.stats.invalid, LONG)
    return path


def prices(path: Path) -> list[float]:
    """The prices in a recording."""
    messages = [json.loads(raw) for _, raw in recording.read(path)]
    return [message["price"] for message in messages if message["type"] == "price_update"]


# -- record


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("name", ["day.jsonl", "day.jsonl.gz"])
def test_a_signal_ends_a_recording_complete(
    name: str, number: signal.Signals, code: int, simulator: Simulator, tmp_path: Path
) -> None:
    """Everything that came is in the file, which is whole; nothing is on stdout, the count is on stderr."""
    path = tmp_path / name
    arguments = ("record", str(path), "--price", "m", "--bot", "b", "--wallet", "w")
    with Running(*arguments, env=access(simulator)) as record:
        simulator.wait_for(lambda: len(simulator.subscriptions) == 3, LONG)
        assert simulator.subscriptions == {Price("m"), Bot("b"), Transactions("w")}
        for value in range(50):
            simulator.publish(price("m", float(value)))
        with Client("test-key", url=simulator.url) as other:  # behind what was sent before
            other.flush()
        simulator.close(1012, "restart")
        record.await_talk("connection lost: ")
        record.await_talk("gap: events of ")
        record.process.send_signal(number)
        ended, out, talk = record.end()
    assert (ended, out) == (code, "")
    assert prices(path) == [float(value) for value in range(50)]
    assert talk.splitlines()[-1].endswith(f" frames in {path}")
    assert path.read_bytes().startswith(b"\x1f\x8b") is name.endswith(".gz")


def test_seconds_end_a_recording(tmp_path: Path) -> None:
    """With code 0; --quiet says nothing."""
    path = tmp_path / "day.jsonl"
    with Simulator(feed=True) as market:
        done = run("record", str(path), "--price", "m", "--seconds", "4", "-q", env=access(market))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert prices(path)


def test_nothing_is_overwritten(recorded: Path, simulator: Simulator) -> None:
    """A file that is there is refused, with what to do, before anything is connected; --append goes on with it."""
    before = recorded.read_bytes()
    done = run("record", str(recorded), "--price", "m", "--seconds", "0.5", env=access(simulator))
    assert done.returncode == 2
    assert "is there already" in done.stderr
    assert "--append" in done.stderr
    assert recorded.read_bytes() == before
    done = run("record", str(recorded), "--price", "m", "--seconds", "4", "--append", env=access(simulator))
    assert done.returncode == 0
    assert recorded.read_bytes().startswith(before)


def test_a_recording_is_cut_into_files(tmp_path: Path) -> None:
    """By size, as asked for; together they are the whole."""
    path = tmp_path / "day.jsonl"
    with Simulator(feed=True) as market:
        many = [word for number in range(20) for word in ("--price", f"m{number}")]
        done = run("record", str(path), *many, "--seconds", "4", "--max-bytes", "2000", env=access(market))
    assert done.returncode == 0
    files = recording.series(path)
    assert len(files) > 1
    count = len(list(recording.read(files)))
    assert done.stderr.splitlines()[-1] == f"allenhark-ws: {count} frames, the last in {files[-1]}"


@pytest.mark.parametrize("append", [(), ("--append",)])
def test_a_recording_that_never_began_leaves_no_file(append: tuple[str, ...], tmp_path: Path) -> None:
    """A wrong port, mended, finds no file of the first try in its way; one that was appended to stays."""
    path = tmp_path / "day.jsonl"
    with closed_port() as port:
        env = environment(ALLENHARK_API_KEY="test-key", ALLENHARK_WS_URL=f"ws://127.0.0.1:{port}")
        done = run("record", str(path), "--price", "m", "--connect-timeout", "0.2", *append, env=env)
    assert done.returncode == 1
    assert "not connected within 0.2 s" in done.stderr
    assert path.exists() is bool(append)


@pytest.mark.parametrize("append", [(), ("--append",)])
def test_a_rejected_key_leaves_no_file(append: tuple[str, ...], simulator: Simulator, tmp_path: Path) -> None:
    """The rejection alone is no recording, and would be in the way of the next try, with the right key."""
    path = tmp_path / "day.jsonl"
    done = run("record", str(path), "--price", "m", *append, env=access(simulator, "sk-wrong"))
    assert done.returncode == 3
    assert path.exists() is bool(append)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("record",), "FILE"),
        (("record", "x.jsonl"), "--price MINT"),
        (("record", "x.jsonl", "--price", "m"), "no API key"),
    ],
)
def test_wrong_usage_of_record_is_2(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And makes no file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALLENHARK_API_KEY", raising=False)
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_1(simulator: Simulator, tmp_path: Path) -> None:
    """In one line that names it."""
    path = tmp_path / "none" / "day.jsonl"
    done = run("record", str(path), "--price", "m", env=access(simulator))
    assert (done.returncode, done.stderr) == (1, f"allenhark-ws: {path}: No such file or directory\n")


@posix
def test_a_disk_that_is_full_ends_it(tmp_path: Path) -> None:
    """With 1 and the reason, and how much is missing; it does not go on for nothing."""
    path = tmp_path / "day.jsonl"
    script = "ulimit -f 4; trap '' XFSZ; exec \"$@\""
    with Simulator(feed=True) as market:
        many = [word for number in range(20) for word in ("--price", f"m{number}")]
        done = shell(script, "record", str(path), *many, env=access(market))
    assert done.returncode == 1
    assert " lost" in done.stderr
    assert done.stderr.splitlines()[-1] == "allenhark-ws: File too large"


def shell(script: str, *arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command by a shell that prepares something."""
    command = ["/bin/sh", "-c", script, "sh", *COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=False, env=env)


class Leaky(contextlib.nullcontext[None]):
    """A recorder whose disk is too slow."""

    path = "day.jsonl"
    frames = 1
    lost = 3
    error = None


class Slow(Client):
    """A client with such a recorder."""

    def record(self, *_: Any, **__: Any) -> Any:
        """Record hardly anything."""
        return Leaky()


def test_frames_that_are_missing_are_1(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    """A disk that is too slow is told of, and a script notices."""
    options: dict[str, Any] = {"append": False, "max_bytes": None, "interval": None, "patience": LONG, "quiet": False}
    client = Slow("test-key", url=simulator.url)
    assert run_record(client, (Price("m"),), "day.jsonl", seconds=2.0, **options) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "allenhark-ws: 1 frame in day.jsonl, 3 lost"


# -- replay


def test_replay_prints_what_was_recorded(recorded: Path) -> None:
    """As JSON in a pipe, with the recorded times, and no key is needed; at full speed nothing is lost."""
    done = run("replay", str(recorded), "--speed", "0", env=environment())
    assert done.returncode == 0
    complaint, count = done.stderr.splitlines()
    assert complaint.startswith("allenhark-ws: not a message: ")
    assert count == "allenhark-ws: 3 events"
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["price"] for event in events] == [1.5, 2.5, 0.5]
    times = [at.isoformat() for at, raw in recording.read(recorded) if b"price_update" in raw]
    assert [event["received_at"] for event in events] == times


def test_replay_as_text_with_every_digit_up_to_a_limit(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The options are those of tail; what was not printed is not counted."""
    assert main(["replay", str(recorded), "--speed", "0", "--text", "--limit", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == "allenhark-ws: 2 events"
    first, second = shown.out.splitlines()
    assert " 1.5 " in first
    assert "▲ 2.5 " in second
    assert main(["replay", str(recorded), "--speed", "0", "--json", "--decimal", "--limit", "1", "-q"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert json.loads(shown.out)["price"] == "1.5"


@posix
def test_a_slow_reader_of_a_replay_loses_nothing(tmp_path: Path) -> None:
    """At any speed: what was recorded waits for whoever reads it, beyond what a queue holds."""
    path, many = tmp_path / "burst.jsonl", 25_000
    header = json.dumps({"format": "allenhark-ws", "version": 1})
    at = "2026-01-02T03:04:05.000006+00:00"
    lines = (json.dumps({"at": at, "raw": json.dumps(price("m", float(number)))}) for number in range(many))
    path.write_text("\n".join([header, *lines, ""]))
    with Running("replay", str(path), "--speed", "1", env=environment()) as replay:
        replay.await_talk("nobody reads stdout: waiting")
        code, out, _ = replay.end()
    assert code == 0
    assert [json.loads(line)["price"] for line in out.splitlines()] == [float(number) for number in range(many)]


def test_several_recordings_in_order(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other."""
    assert main(["replay", str(recorded), str(recorded), "--speed", "0", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


@pytest.fixture
def rotated(tmp_path: Path) -> Path:
    """The first of three files of a recording, with one price each; there is another recording beside them."""
    path = tmp_path / "day.jsonl.gz"
    for number, name in enumerate((path.name, "day_0001.jsonl.gz", "day_0002.jsonl.gz", "other.jsonl.gz")):
        raw = json.dumps(price("m", float(number))).encode()
        (tmp_path / name).write_bytes(gzip.compress(HEADER + b"".join(encode(NOON, [raw]))))
    return path


def test_a_series_is_read_whole(rotated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --series one name stands for all files of a rotation, each of which is read once."""
    table = tmp_path / "day.csv"
    assert main(["replay", str(rotated), "--series", "--speed", "0", "--json"]) == 0
    assert [json.loads(line)["price"] for line in capsys.readouterr().out.splitlines()] == [0.0, 1.0, 2.0]
    assert main(["convert", str(rotated), str(tmp_path / "day_0001.jsonl.gz"), str(table), "--series"]) == 0
    assert capsys.readouterr().err == "allenhark-ws: 3 rows\n"
    with table.open(encoding="utf-8") as file:
        assert [each["price"] for each in csv.DictReader(file)] == ["0.0", "1.0", "2.0"]


def test_a_series_that_is_not_read_whole_is_told(rotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody who names the first file may well mean all; only what was named is read."""
    second, third = (str(rotated.with_name(f"day_000{number}.jsonl.gz")) for number in (1, 2))
    for named, told in (
        ([str(rotated)], f"{rotated} goes on in {second} and 1 more file: pass --series to read on there"),
        ([str(rotated), second], f"{rotated} goes on in {third}: pass --series to read on there"),
    ):
        assert main(["replay", *named, "--speed", "0", "--json"]) == 0
        shown = capsys.readouterr()
        assert shown.err.splitlines()[0] == f"allenhark-ws: {told}"
        assert len(shown.out.splitlines()) == len(named)
    assert main(["replay", second, "--speed", "0", "--json"]) == 0
    assert capsys.readouterr().err == "allenhark-ws: 1 event\n"
    assert main(["replay", str(rotated), "--speed", "0", "--json", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_damaged_recording_is_1_and_the_rest_is_printed(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line is named."""
    lines = recorded.read_bytes().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if b"price_update" in line)
    lines[number] = b"nonsense\n"
    recorded.write_bytes(b"".join(lines))
    assert main(["replay", str(recorded), "--speed", "0", "--json"]) == 1
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 2
    assert f"allenhark-ws: {recorded}, line {number + 1}: " in shown.err


@pytest.mark.parametrize("command", ["replay", "convert"])
def test_what_is_no_recording(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing file is 2, another kind of file is 1, and both are named."""
    target = ["out.csv"] if command == "convert" else []
    assert main([command, str(tmp_path / "none.jsonl"), *target]) == 2
    assert "does not exist" in capsys.readouterr().err
    other = tmp_path / "other.txt"
    other.write_text("hello\n")
    assert main([command, str(other), *[str(tmp_path / name) for name in target]]) == 1
    assert str(other) in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


@posix
def test_replay_into_a_closed_pipe_and_interrupted(recorded: Path) -> None:
    """Neither is a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    with Running("replay", str(recorded), "--speed", "0", env=environment(), stdout=writer) as replay:
        os.close(writer)
        assert replay.end()[0] == 0
    with Running("replay", str(recorded), "--speed", "0.000001", env=environment()) as replay:
        replay.line()
        replay.interrupt()
        code, out, talk = replay.end()
    assert (code, out) == (130, "")
    assert talk == "allenhark-ws: 1 event\n"


@pytest.mark.parametrize(("content", "code", "words"), [(HEADER, 0, "holds no frames"), (b"", 1, "the file is empty")])
def test_a_recording_of_nothing(
    content: bytes, code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says so, rather than nothing at all."""
    path = tmp_path / "empty.jsonl"
    path.write_bytes(content)
    assert main(["replay", str(path), "--speed", "0"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert words in shown.err


# -- convert


@pytest.mark.parametrize("name", ["day.csv", "day.csv.gz"])
def test_convert_makes_a_table(name: str, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each event; what is no event is counted."""
    path = tmp_path / name
    assert main(["convert", str(recorded), str(path)]) == 0
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "allenhark-ws: 3 rows; left out, being no data: 1 pong, 1 invalid message\n")
    content = path.read_bytes()
    text = (gzip.decompress(content) if name.endswith(".gz") else content).decode()
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["price"] for row in rows] == ["1.5", "2.5", "0.5"]
    assert main(["convert", str(recorded), str(path)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main(["convert", str(recorded), str(recorded), str(path), "--overwrite", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_convert_says_what_is_damaged(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest becomes a table, and the exit code is 1."""
    recorded.write_bytes(recorded.read_bytes() + b"nonsense\n" + recorded.read_bytes().splitlines()[-2] + b"\n")
    path = tmp_path / "day.csv"
    assert main(["convert", str(recorded), str(path)]) == 1
    said = capsys.readouterr().err
    assert "4 rows" in said
    assert f"allenhark-ws: 1 line left out that cannot be read; {recorded}, line " in said
    assert path.exists()


def test_an_unknown_kind_of_table_is_2(recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With those that are known."""
    assert main(["convert", str(recorded), str(tmp_path / "day.xlsx")]) == 2
    assert ".csv, .csv.gz or .parquet" in capsys.readouterr().err


def test_convert_shows_how_far_it_is(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bytes that were read, of those there are."""
    line = Progress(disable=True)
    monkeypatch.setattr(_convert, "progress", lambda *_: line)
    assert main(["convert", str(recorded), str(tmp_path / "day.csv"), "-q"]) == 0
    (task,) = line.tasks
    assert task.completed == task.total == recorded.stat().st_size


def test_replay_knows_how_far_it_is(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time in the recording, of which the last event is the end."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    times = [at for at, _ in recording.read(recorded)]
    with _replay._Way([str(recorded)], Console(file=io.StringIO())) as way:
        way.show(times[-1], 3)
        (task,) = way._progress.tasks
    assert task.total == task.completed == (times[-1] - times[0]).total_seconds() > 0
    assert "3 events" in task.description


# -- on a terminal


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="t") as directory:
        yield Path(directory)


@needs_tmux
def test_record_shows_how_much_there_is(short: Path, simulator: Simulator) -> None:
    """A line that changes, and is gone at the end; losses stay on the screen above it."""
    path = short / "day.jsonl"
    with Terminal(short, access(simulator), "record", str(path), "--price", "m") as terminal:
        simulator.wait_for(lambda: Price("m") in simulator.subscriptions, LONG)
        simulator.publish(price("m"))
        terminal.wait_for(r"2 frames in \S+day.jsonl +0:00")
        simulator.close(1012)
        terminal.wait_for("gap: events of ")
        terminal.press("C-c")
        screen = terminal.wait_for(r"\[exit \d+\]")
    assert "[exit 130]" in screen
    assert screen.count("frames in") == 1
    assert "connection lost: " in screen
    assert "Traceback" not in screen


@needs_tmux
def test_replay_shows_its_way_when_the_lines_go_elsewhere(short: Path, recorded: Path) -> None:
    """A bar on the terminal, none in the file."""
    out = short / "out.jsonl"
    arguments = ("replay", str(recorded), "--speed", "0.0001")
    with Terminal(short, environment(), *arguments, redirect=out) as terminal:
        terminal.wait_for(r"UTC, 1 event\b")
        terminal.press("C-c")
        terminal.wait_for(r"\[exit 130\]")
    assert len([json.loads(line) for line in out.read_text().splitlines()]) == 1
