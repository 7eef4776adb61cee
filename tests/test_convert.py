"""Conversion of recordings: every data event a row, every field a column, nothing left half done."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from allenhark_ws import ConfigurationError, DataEvent, RecordingError, recording, to_dataframe
from allenhark_ws._codec import Codec
from allenhark_ws.recording import COLUMNS, Converted, convert
from allenhark_ws.recording._format import HEADER, encode
from allenhark_ws.recording._table import row

from .processes import posix

AT = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
PRICE = {"type": "price_update", "mint": "m", "price": 0.1, "volume": 2.0, "timestamp": "2024-01-15T10:30:00.123456Z"}
TRADE = {
    "type": "bot_update",
    "botId": "b",
    "event": "trade_executed",
    "data": {"signature": "s", "profit": -0.3, "timestamp": "2024-01-15T10:30:00Z"},
}
NOTE = {"type": "bot_update", "botId": "b", "event": "stopped", "data": {"why": ["é", {"x": None}]}}
TRANSACTION = {"type": "transaction_confirmed", "signature": "s", "status": "confirmed", "slot": 7, "wallet": "w"}
PONG = {"type": "pong"}

RECEIVED = "2026-01-02T03:04:05.000006+00:00"
ROWS = [
    {
        "received_at": RECEIVED,
        "event_type": "PriceUpdate",
        "timestamp": "2024-01-15T10:30:00.123456+00:00",
        "mint": "m",
        "price": "0.1",
        "volume": "2.0",
    },
    {
        "received_at": RECEIVED,
        "event_type": "BotUpdate",
        "timestamp": "2024-01-15T10:30:00.000000+00:00",
        "bot_id": "b",
        "event": "trade_executed",
        "signature": "s",
        "profit": "-0.3",
    },
    {
        "received_at": RECEIVED,
        "event_type": "BotUpdate",
        "bot_id": "b",
        "event": "stopped",
        "data": '{"why": ["\\u00e9", {"x": null}]}',
    },
    {
        "received_at": RECEIVED,
        "event_type": "TransactionConfirmed",
        "signature": "s",
        "status": "confirmed",
        "slot": "7",
        "wallet": "w",
    },
]
"""The four kinds of data events as CSV has them, without the columns that are empty."""


def save(path: Path, *messages: Any) -> Path:
    """A recording of messages that came with one read."""
    raws = [message if isinstance(message, bytes) else json.dumps(message).encode() for message in messages]
    path.write_bytes(HEADER + b"".join(encode(AT, raws)))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A recording of one of each kind, and some that are no data."""
    return save(tmp_path / "day.jsonl", PRICE, PONG, TRADE, NOTE, b"rubbish", TRANSACTION)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows, without what is empty."""
    text = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode()
    reader = csv.DictReader(text.splitlines())
    assert reader.fieldnames == list(COLUMNS)
    return [{name: value for name, value in each.items() if value} for each in reader]


def test_data_is_json_whatever_the_server_sent(tmp_path: Path) -> None:
    """A number that no float can hold is a text."""
    message = b'{"type":"bot_update","botId":"b","event":"e","data":{"deep":[{"er":-1e999},0.1]}}'
    convert(save(tmp_path / "day.jsonl", message), tmp_path / "day.csv")
    (found,) = read_csv(tmp_path / "day.csv")
    assert json.loads(found["data"], parse_constant=pytest.fail) == {"deep": [{"er": "-Infinity"}, 0.1]}


@pytest.mark.parametrize("name", ["day.csv", "day.csv.gz"])
def test_csv(tmp_path: Path, source: Path, name: str) -> None:
    """A header row and a row for each data event; the rest is counted, by kind too."""
    kinds = {"Pong": 1, "InvalidMessage": 1}
    assert convert(source, tmp_path / name) == Converted(rows=4, others=2, damaged=0, error=None, kinds=kinds)
    assert read_csv(tmp_path / name) == ROWS


def test_parquet(tmp_path: Path, source: Path) -> None:
    """The same, each column of its type, empty ones null."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    parquet = pytest.importorskip("pyarrow.parquet")
    assert convert(source, tmp_path / "day.parquet").rows == 4
    table = parquet.read_table(tmp_path / "day.parquet")
    kinds = {str: "string", float: "double", int: "int64", datetime: "timestamp[us, tz=UTC]"}
    assert {field.name: str(field.type) for field in table.schema} == {n: kinds[kind] for n, kind in COLUMNS.items()}
    events = [Codec().decode(json.dumps(message).encode(), AT) for message in (PRICE, TRADE, NOTE, TRANSACTION)]
    expected = [dict(zip(COLUMNS, row(event), strict=True)) for event in events if isinstance(event, DataEvent)]
    assert table.to_pylist() == expected
    assert pyarrow.compute.sum(table["price"]).as_py() == 0.1


def test_the_words_are_those_of_dataframes() -> None:
    """What both have is called the same and is the same; a file has text where a frame has a mapping."""
    pandas = pytest.importorskip("pandas", reason="needs the extra notebook")
    decoded = [Codec().decode(json.dumps(message).encode(), AT) for message in (PRICE, TRADE, NOTE, TRANSACTION)]
    events = [event for event in decoded if isinstance(event, DataEvent)]
    frame = to_dataframe(events)
    common = [name for name in COLUMNS if name in frame.columns]
    assert {*COLUMNS} - {*common} == {frame.index.name}
    for event, (_, seen) in zip(events, frame.iterrows(), strict=True):
        values = dict(zip(COLUMNS, row(event), strict=True))
        values["data"] = values["data"] and json.loads(values["data"])
        assert {name: None if pandas.isna(seen[name]) else seen[name] for name in common} == {
            name: values[name] for name in common
        }


def test_many_rows_in_parquet(tmp_path: Path) -> None:
    """They become several row groups, in order."""
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    save(tmp_path / "day.jsonl", *({**PRICE, "price": n} for n in range(25_000)))
    convert(tmp_path / "day.jsonl", tmp_path / "day.parquet")
    file = parquet.ParquetFile(tmp_path / "day.parquet")
    assert file.num_row_groups == 3
    assert file.read()["price"].to_pylist() == [float(n) for n in range(25_000)]


@pytest.mark.parametrize("name", ["day.csv", "day.parquet"])
def test_values_at_the_edge(tmp_path: Path, name: str) -> None:
    """What a server may send and a file cannot hold as it is: half characters, slots of any size; and line breaks."""
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    raw = json.dumps({**PRICE, "mint": 'é\ud800\r\n,"'}).encode()
    save(tmp_path / "day.jsonl", raw, {**TRANSACTION, "slot": 2**63}, {**TRANSACTION, "slot": -(2**63)})
    assert convert(tmp_path / "day.jsonl", tmp_path / name).rows == 3
    if name.endswith("csv"):
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
        assert [each["slot"] for each in rows[1:]] == [str(2**63), str(-(2**63))]
    else:
        rows = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / name).to_pylist()
        assert [each["slot"] for each in rows[1:]] == [None, -(2**63)]
    assert rows[0]["mint"] == 'é\\ud800\r\n,"'


@pytest.mark.parametrize("name", ["day.csv", "day.csv.gz", "day.parquet"])
def test_an_empty_recording(tmp_path: Path, name: str) -> None:
    """Becomes a table without rows."""
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="needs the extra parquet")
    assert convert(save(tmp_path / "day.jsonl"), tmp_path / name) == Converted(0, 0, 0, None)
    if name.endswith("parquet"):
        assert pytest.importorskip("pyarrow.parquet").read_table(tmp_path / name).num_rows == 0
    else:
        assert read_csv(tmp_path / name) == []


def test_several_recordings(tmp_path: Path, source: Path) -> None:
    """One after the other."""
    assert convert([source, source], tmp_path / "day.csv").rows == 8
    assert read_csv(tmp_path / "day.csv") == ROWS * 2


def test_progress(tmp_path: Path) -> None:
    """Bytes read of bytes there are, ending with all of them."""
    paths = [save(tmp_path / f"{n}.jsonl", *[PRICE] * 2000) for n in range(2)]
    told: list[tuple[int, int]] = []
    convert(paths, tmp_path / "day.csv", progress=lambda *both: told.append(both))
    size = sum(path.stat().st_size for path in paths)
    assert {total for _, total in told} == {size}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (size, size)
    assert len(told) > 5


def test_damaged_lines(tmp_path: Path, source: Path) -> None:
    """The rest is converted; the first is named."""
    lines = source.read_bytes().splitlines(keepends=True)
    source.write_bytes(b"".join([*lines[:2], b"?\n", b"?\n", *lines[2:]]))
    done = convert(source, tmp_path / "day.csv")
    assert (done.rows, done.others, done.damaged) == (4, 2, 2)
    assert done.error is not None
    assert (done.error.path, done.error.line) == (str(source), 3)


def test_an_existing_file(tmp_path: Path, source: Path) -> None:
    """It is refused, unless asked for."""
    target = tmp_path / "day.csv"
    target.write_text("precious")
    with pytest.raises(FileExistsError, match=r"there is such a file already.*day\.csv"):
        convert(source, target)
    assert target.read_text() == "precious"
    convert(source, target, overwrite=True)
    assert read_csv(target) == ROWS
    assert sorted(each.name for each in tmp_path.iterdir()) == ["day.csv", "day.jsonl"]


def test_files_beside_the_table_are_left_alone(tmp_path: Path, source: Path) -> None:
    """What is being written has a name that nobody has."""
    beside = tmp_path / "day.csv.part"
    beside.write_text("precious")
    convert(source, tmp_path / "day.csv")
    assert beside.read_text() == "precious"
    assert {each.name for each in tmp_path.iterdir()} == {source.name, "day.csv", "day.csv.part"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left")])
def test_a_conversion_that_is_cut_off(tmp_path: Path, source: Path, overwrite: bool, error: BaseException) -> None:
    """It leaves nothing behind, and what was to be replaced as it was."""
    target = tmp_path / "day.csv"
    if overwrite:
        target.write_text("precious")

    def fail(_done: int, _total: int) -> None:
        raise error

    with pytest.raises(type(error)):
        convert(source, target, overwrite=overwrite, progress=fail)
    assert [each.name for each in tmp_path.iterdir() if each != source] == ["day.csv"] * overwrite
    assert not overwrite or target.read_text() == "precious"


def no_hard_links(_path: Path, _target: Path) -> None:
    """What a file system says that has none."""
    raise PermissionError(1, "Operation not permitted")


@pytest.mark.parametrize("links", [True, False])
def test_until_it_is_complete_there_is_no_table(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Not even an empty one; nor is one replaced that came meanwhile."""
    target = tmp_path / "day.csv"
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", no_hard_links)
    seen: list[bool] = []
    assert convert(source, target, progress=lambda *_: seen.append(target.exists())).rows == 4
    assert set(seen) == {False}
    assert read_csv(target) == ROWS
    target.unlink()
    with pytest.raises(FileExistsError, match=r"there is such a file already.*day\.csv"):
        convert(source, target, progress=lambda *_: target.write_text("precious"))
    assert target.read_text() == "precious"
    assert {each.name for each in tmp_path.iterdir()} == {source.name, target.name}


def test_a_conversion_whose_process_is_killed(tmp_path: Path, source: Path) -> None:
    """Nothing bears the table's name, and what it left behind is in nobody's way."""
    target = tmp_path / "day.csv"
    code = f"""
import os
from allenhark_ws.recording import convert
convert({str(source)!r}, {str(target)!r}, progress=lambda *_: os._exit(7))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7
    assert [each.suffix for each in tmp_path.iterdir() if each != source] == [".part"]
    assert convert(source, target).rows == 4
    assert read_csv(target) == ROWS


@pytest.mark.parametrize(("verb", "overwrite"), [("hardlink_to", False), ("replace", True)])
def test_ctrl_c_once_the_table_is_there(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, verb: str, overwrite: bool
) -> None:
    """It is complete, so it stays."""
    publish = getattr(Path, verb)

    def publish_and_be_interrupted(path: Path, other: Any) -> None:
        publish(path, other)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, verb, publish_and_be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "day.csv", overwrite=overwrite)
    assert read_csv(tmp_path / "day.csv") == ROWS
    assert {each.name for each in tmp_path.iterdir()} == {source.name, "day.csv"}


@posix
def test_what_has_the_name_may_be_no_file(tmp_path: Path, source: Path) -> None:
    """A pipe, or a link to nothing, is refused like a file, and replaced like one."""
    pipe, link = tmp_path / "pipe.csv", tmp_path / "link.csv"
    os.mkfifo(pipe)
    link.symlink_to(tmp_path / "nothing.csv")
    for target in (pipe, link):
        with pytest.raises(FileExistsError, match="there is such a file already"):
            convert(source, target)
    assert (pipe.is_fifo(), link.is_symlink()) == (True, True)
    for target in (pipe, link):
        convert(source, target, overwrite=True)
        assert read_csv(target) == ROWS
    assert {each.name for each in tmp_path.iterdir()} == {source.name, pipe.name, link.name}


def test_what_cannot_be_converted(tmp_path: Path, source: Path) -> None:
    """It is refused before anything is made."""
    with pytest.raises(ConfigurationError, match=r"day\.xlsx: a table's name ends in \.csv"):
        convert(source, tmp_path / "day.xlsx")
    with pytest.raises(FileNotFoundError):
        convert(tmp_path / "nothing.jsonl", tmp_path / "day.csv")
    (tmp_path / "other.jsonl").write_text("precious")
    with pytest.raises(RecordingError):
        convert(tmp_path / "other.jsonl", tmp_path / "day.csv")
    for overwrite in (False, True):
        with pytest.raises(FileNotFoundError, match=r"nowhere.+day\.csv'"):
            convert(source, tmp_path / "nowhere" / "day.csv", overwrite=overwrite)
    assert not (tmp_path / "day.csv").exists()


def test_without_pyarrow(tmp_path: Path, source: Path) -> None:
    """One line says what to install, and nothing is made; CSV needs nothing."""
    code = f"""
import sys
sys.modules["pyarrow"] = None
from allenhark_ws.recording import convert
convert({str(source)!r}, {str(tmp_path / "day.csv")!r})
try:
    convert({str(source)!r}, {str(tmp_path / "day.parquet")!r})
except ImportError as error:
    print(error, error.__cause__, error.__context__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == 'Parquet needs an extra: pip install "allenhark-ws[parquet]" None None\n'
    assert not (tmp_path / "day.parquet").exists()


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording four times as large costs no more, but for where a collection falls."""
    monkeypatch.setattr("allenhark_ws.recording._convert._TOGETHER", 1000)
    peaks = []
    for count in (5_000, 20_000):
        path = tmp_path / f"{count}.jsonl"
        with path.open("wb") as file:
            file.write(HEADER)
            for number in range(0, count, 1000):
                file.writelines(encode(AT + timedelta(seconds=number), [json.dumps(PRICE).encode()] * 1000))
        tracemalloc.start()
        convert(path, tmp_path / f"{count}.csv")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]


def test_public_names() -> None:
    """What the module promises is there."""
    assert all(getattr(recording, name) is not None for name in recording.__all__)
