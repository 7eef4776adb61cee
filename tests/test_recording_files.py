"""The files of recordings: made, gone on with after any crash, rotated, and read whatever is left of them."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allenhark_ws import RecordingError, recording
from allenhark_ws.recording._files import Files
from allenhark_ws.recording._format import HEADER, encode
from allenhark_ws.recording._gzip import Piece, pieces

from .peers import Clock
from .processes import posix
from .scripted import outcome

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
SUFFIXES = pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])


def line(number: int) -> bytes:
    """One frame of its own second."""
    (text,) = encode(AT + timedelta(seconds=number), [b"frame %d" % number])
    return text


def frames(path: str | Path | list[str]) -> list[str]:
    """What a recording holds."""
    with recording.read(path) as entries:
        return [raw.decode() for _, raw in entries]


def numbers(*given: int) -> list[str]:
    """Frames as `frames` gives them."""
    return [f"frame {number}" for number in given]


def write(path: Path, *given: int, append: bool = False) -> None:
    """Record frames, each in a piece of its own."""
    files = Files(str(path), append)
    for number in given:
        files.write([line(number)])
    files.close()


def content(path: Path) -> bytes:
    """What a file holds, as any tool reads it."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


@SUFFIXES
def test_a_file_is_what_the_format_says(tmp_path: Path, suffix: str) -> None:
    """A header and the lines; readable by other tools at any time, not only when it was closed."""
    path = tmp_path / f"day{suffix}"
    files = Files(str(path))
    files.write([])
    assert content(path) == HEADER
    files.write([line(1), line(2)])
    assert content(path) == HEADER + line(1) + line(2)
    assert files.lines == 2
    files.close()
    files.close()
    assert [(at.second, raw) for at, raw in recording.read(path)] == [(6, b"frame 1"), (7, b"frame 2")]


@SUFFIXES
def test_an_existing_file_is_refused(tmp_path: Path, suffix: str) -> None:
    """With a word about what to do, and it stays as it was."""
    path = tmp_path / f"day{suffix}"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="append=True") as caught:
        Files(str(path))
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"precious"


def test_a_link_that_leads_nowhere_is_refused_too(tmp_path: Path) -> None:
    """Writing through it would make a file elsewhere."""
    path = tmp_path / "day.jsonl"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        Files(str(path))


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    """The system's own error says so, with and without rotation."""
    for interval in (None, 60.0):
        with pytest.raises(FileNotFoundError):
            Files(str(tmp_path / "nowhere" / "day.jsonl"), interval=interval)


# --- Going on


@SUFFIXES
def test_appending(tmp_path: Path, suffix: str) -> None:
    """It begins what is not there, goes on with what is, and writes one header."""
    path = tmp_path / f"day{suffix}"
    write(path, 1, append=True)
    write(path, 2, 3, append=True)
    assert content(path) == HEADER + line(1) + line(2) + line(3)


@SUFFIXES
def test_a_file_torn_at_every_byte(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is whole is read, without an error; appending goes on behind it, and nothing is damaged."""
    whole, torn = tmp_path / f"whole{suffix}", tmp_path / f"torn{suffix}"
    write(whole, 1, 2, 3)
    data = whole.read_bytes()
    for end in range(len(data) + 1):
        torn.write_bytes(data[:end])
        caplog.clear()
        before = outcome(lambda: frames(torn))
        if isinstance(before, RecordingError):
            assert (before.line, before.path) == (1, str(torn))
            assert end < _length_of_header(suffix)
            before = []
        assert isinstance(before, list)
        warned = [record.levelno for record in caplog.records]
        assert warned in ([], [logging.WARNING])
        write(torn, 9, append=True)
        assert frames(torn) == before + numbers(9)
        assert content(torn).startswith(HEADER)
        assert before == numbers(1, 2, 3)[: len(before)]
        assert end < len(data) or before == numbers(1, 2, 3)


def _length_of_header(suffix: str) -> int:
    return len(gzip.compress(HEADER)) if suffix.endswith(".gz") else len(HEADER)


def test_a_write_torn_at_every_byte(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A compressed piece goes over the end of the last one: whatever of both is left, nothing older is lost."""
    path, torn = tmp_path / "day.jsonl.gz", tmp_path / "torn.jsonl.gz"
    files = Files(str(path))
    files.write([line(1)])
    old = path.read_bytes()
    files.write([line(2), line(3)])
    files.close()
    new = path.read_bytes()
    begin = next(index for index in range(len(old)) if old[index] != new[index])
    for end in range(begin, len(new)):
        torn.write_bytes(new[:end] + old[end:])
        before = frames(torn)
        assert before == numbers(1, 2, 3)[: len(before)]
        assert before
        write(torn, 9, append=True)
        assert frames(torn) == before + numbers(9)
        assert content(torn).startswith(HEADER)
    assert caplog.records


def test_lines_of_a_torn_member_are_saved(tmp_path: Path) -> None:
    """A member of many lines is torn in the middle: its whole ones stay, those that can be read."""
    path = tmp_path / "day.jsonl.gz"
    files = Files(str(path))
    files.write([line(number) for number in range(500)])
    files.close()
    path.write_bytes(path.read_bytes()[:-100])
    before = frames(path)
    assert 0 < len(before) < 500
    write(path, 1000, append=True)
    assert frames(path) == before + numbers(1000)
    assert content(path).count(b"\n") == len(before) + 2


@SUFFIXES
def test_a_last_line_without_its_break(tmp_path: Path, suffix: str) -> None:
    """As others may write it: it is whole, is read, and is not glued to what is appended."""
    path = tmp_path / f"day{suffix}"
    text = HEADER + line(1).rstrip(b"\n")
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    assert frames(path) == numbers(1)
    write(path, 2, append=True)
    assert frames(path) == numbers(1, 2)


@SUFFIXES
@pytest.mark.parametrize("size", [1, 65_536, 200_000])
def test_zeros_at_the_end(tmp_path: Path, suffix: str, size: int) -> None:
    """Some file systems leave them when the machine goes down."""
    path = tmp_path / f"day{suffix}"
    write(path, 1)
    with path.open("ab") as file:
        file.write(bytes(size))
    assert frames(path) == numbers(1)
    write(path, 2, append=True)
    assert frames(path) == numbers(1, 2)


@pytest.mark.parametrize(
    ("suffix", "data", "problem"),
    [
        (".jsonl", b"precious\n", "this is no recording"),
        (".jsonl", b"precious", "this is no recording"),
        (".jsonl", gzip.compress(HEADER), "this is no recording"),
        (".jsonl", b'{"format": "allenhark-ws", "version": 2}\n', "version 1"),
        (".jsonl.gz", b"precious\n", "no compressed recording"),
        (".jsonl.gz", HEADER, "no compressed recording"),
        (".jsonl.gz", gzip.compress(b"precious\n"), "this is no recording"),
        (".jsonl.gz", gzip.compress(HEADER) + b"x" * 50 + gzip.compress(b"precious"), "data are damaged"),
    ],
    ids=[
        "a line",
        "half a line",
        "a compressed recording",
        "another version",
        "no gzip",
        "a plain recording",
        "a compressed line",
        "a gap in it",
    ],  # by name: compressed data hold the time, and every process of a run has to find the same tests
)
def test_what_is_no_recording_is_not_appended_to(tmp_path: Path, suffix: str, data: bytes, problem: str) -> None:
    """It stays as it was."""
    path = tmp_path / f"day{suffix}"
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=f"{problem}.*record to another file"):
        Files(str(path), append=True)
    assert path.read_bytes() == data


@SUFFIXES
@posix
def test_a_pipe_is_not_appended_to(tmp_path: Path, suffix: str) -> None:
    """Nor waited for: what is in it cannot be looked at."""
    path = tmp_path / f"day{suffix}"
    os.mkfifo(path)
    with pytest.raises(RecordingError, match=r"no ordinary file; record to another file"):
        Files(str(path), append=True)


# --- Rotation


@SUFFIXES
def test_rotation_by_size(tmp_path: Path, suffix: str) -> None:
    """No file grows beyond it; each begins with a header and is a recording of its own; together they have all."""
    path = tmp_path / f"my.day{suffix}"
    files = Files(str(path), max_bytes=400)
    files.write([line(number) for number in range(10)])
    for number in range(10, 80):
        files.write([line(number)])
    files.close()
    found = recording.series(path)
    assert found[:2] == [str(path), str(tmp_path / f"my.day_0001{suffix}")]
    assert len(found) >= 3
    assert files.path == found[-1]
    assert max(Path(each).stat().st_size for each in found) <= 400
    assert all(content(Path(each)).startswith(HEADER) for each in found)
    assert frames(found) == [frame for each in found for frame in frames(each)] == numbers(*range(80))
    assert found == sorted(found)


@SUFFIXES
def test_a_frame_larger_than_a_file_may_be(tmp_path: Path, suffix: str) -> None:
    """It gets a file of its own, and is whole."""
    path = tmp_path / f"day{suffix}"
    files = Files(str(path), max_bytes=1)
    files.write([line(1), line(2), line(3)])
    files.close()
    assert [frames(each) for each in recording.series(path)] == [numbers(1), numbers(2), numbers(3)]


def test_rotation_by_time(tmp_path: Path) -> None:
    """The first frame that comes when a file is old enough goes into the next; without frames none is begun."""
    path, clock = tmp_path / "day.jsonl", Clock()
    files = Files(str(path), interval=60.0, clock=clock)
    clock.now += 1000.0
    files.write([line(1)])  # into the first file, however old it is: it has none yet
    files.write([line(2)])
    clock.now += 59.0
    files.write([line(3)])
    clock.now += 1.0
    files.write([line(4)])
    files.close()
    assert [frames(each) for each in recording.series(path)] == [numbers(1), numbers(2, 3), numbers(4)]


def test_rotation_overwrites_nothing(tmp_path: Path) -> None:
    """A name that appears meanwhile is passed over."""
    path = tmp_path / "day.jsonl"
    files = Files(str(path), max_bytes=1)
    (tmp_path / "day_0001.jsonl").write_bytes(b"precious")
    files.write([line(1), line(2)])
    files.close()
    assert (tmp_path / "day_0001.jsonl").read_bytes() == b"precious"
    assert frames(tmp_path / "day_0002.jsonl") == numbers(2)


def test_files_that_are_taken_away_meanwhile(tmp_path: Path) -> None:
    """Their numbers do not come again: what is left stays in order."""
    path = tmp_path / "day.jsonl"
    files = Files(str(path), max_bytes=1)
    files.write([line(1), line(2), line(3)])
    (tmp_path / "day_0001.jsonl").unlink()
    files.write([line(4)])
    files.close()
    assert frames(recording.series(path)) == numbers(1, 3, 4)


def test_a_rotation_that_exists_is_refused_or_gone_on_with(tmp_path: Path) -> None:
    """Even when its first file is gone; appending goes on with the last, so that the order stays."""
    path = tmp_path / "day.jsonl"
    files = Files(str(path), max_bytes=1)
    files.write([line(1), line(2), line(3)])
    files.close()
    path.unlink()
    with pytest.raises(FileExistsError, match="append=True") as caught:
        Files(str(path), max_bytes=1000)
    assert caught.value.filename == str(tmp_path / "day_0001.jsonl")
    files = Files(str(path), True, max_bytes=1000)
    files.write([line(4)])
    files.close()
    assert [frames(each) for each in recording.series(path)] == [numbers(2), numbers(3, 4)]


def test_a_series_has_no_other_files(tmp_path: Path) -> None:
    """Names that only look alike do not belong to it; numbers are compared as numbers."""
    for name in ("day_1.jsonl", "day_0001.jsonl.gz", "today_0001.jsonl", "day_0000.jsonl", "day-0001.jsonl"):
        (tmp_path / name).touch()
    assert recording.series(tmp_path / "day.jsonl") == []
    names = ["day.jsonl", "day_0002.jsonl", "day_9999.jsonl", "day_10000.jsonl"]
    for name in names:
        (tmp_path / name).touch()
    assert recording.series(tmp_path / "day.jsonl") == [str(tmp_path / name) for name in names]


def test_a_name_without_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one of the current directory."""
    monkeypatch.chdir(tmp_path)
    files = Files("day", max_bytes=1)
    files.write([line(1), line(2)])
    files.close()
    assert recording.series("day") == ["day", "day_0001"]


# --- The disk


class Disk:
    """A file on a disk that takes so many bytes at a time, and so many in all."""

    def __init__(self, path: str, mode: str, most: int, room: list[int]) -> None:
        self._file = Path(path).open(mode, buffering=0)  # noqa: SIM115 - `Files` closes it
        self._most = most
        self._room = room

    def write(self, data: memoryview) -> int:
        """Some of it, or none."""
        taken = min(len(data), self._most, self._room[0])
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self._room[0] -= taken
        return self._file.write(data[:taken])

    def truncate(self, size: int) -> int:
        """Cut; what was there is room again."""
        self._room[0] += self._file.seek(0, os.SEEK_END) - size
        return self._file.truncate(size)

    def seek(self, offset: int, whence: int) -> int:
        """Go somewhere."""
        return self._file.seek(offset, whence)

    def close(self) -> None:
        """Close."""
        self._file.close()


@SUFFIXES
@pytest.mark.parametrize("room", [200, 250, 300, 350])
def test_a_full_disk(tmp_path: Path, suffix: str, room: int) -> None:
    """The error is the system's, and the file ends with what was written whole."""
    path, left = tmp_path / f"day{suffix}", [room]
    files = Files(str(path), open_file=lambda path, mode: Disk(path, mode, 7, left))
    written: list[int] = []
    while (error := outcome(lambda: files.write([line(len(written))]))) is None:
        written.append(len(written))
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    files.close()
    assert content(path) == HEADER + b"".join(map(line, written))
    assert files.lines == len(written)


@SUFFIXES
def test_a_disk_without_room_for_a_header(tmp_path: Path, suffix: str) -> None:
    """The file is not left there, nor open; with some room it can be had."""
    path = tmp_path / f"day{suffix}"
    with pytest.raises(OSError, match="No space left"):
        Files(str(path), open_file=lambda path, mode: Disk(path, mode, 7, [10]))
    assert not path.exists()
    write(path, 1)
    assert frames(path) == numbers(1)


@SUFFIXES
def test_a_file_that_is_not_needed(tmp_path: Path, suffix: str) -> None:
    """It is removed, unless it was there before or has frames; and once only, since another may have its name then."""
    path = tmp_path / f"day{suffix}"
    files = Files(str(path))
    files.discard()
    assert not path.exists()
    write(path)
    files.discard()
    assert frames(path) == []
    Files(str(path), True).discard()
    assert frames(path) == []
    other = Files(str(tmp_path / f"other{suffix}"))
    other.write([line(1)])
    other.discard()
    assert frames(Path(other.path)) == numbers(1)


@SUFFIXES
def test_writing_goes_on_after_an_error(tmp_path: Path, suffix: str) -> None:
    """A piece that had no room is left out, whole; the next one that has is written."""
    path, left = tmp_path / f"day{suffix}", [200]
    files = Files(str(path), open_file=lambda path, mode: Disk(path, mode, 7, left))
    files.write([line(1)])
    with pytest.raises(OSError, match="No space left"):
        files.write([line(number) for number in range(100, 200)])
    left[0] = 1000
    files.write([line(2)])
    files.close()
    assert frames(path) == numbers(1, 2)
    assert content(path) == HEADER + line(1) + line(2)


@SUFFIXES
def test_two_that_write_to_one_file(tmp_path: Path, suffix: str) -> None:
    """Neither overwrites what the other wrote."""
    path = tmp_path / f"day{suffix}"
    one = Files(str(path))
    two = Files(str(path), True)
    for number in range(0, 10, 2):
        one.write([line(number)])
        two.write([line(number + 1)])
    one.close()
    two.close()
    assert frames(path) == numbers(*range(10))
    assert content(path).count(b"\n") == 11


def test_a_file_is_small_though_it_is_whole_after_every_write(tmp_path: Path) -> None:
    """Pieces are compressed with what came before them."""
    path = tmp_path / "day.jsonl.gz"
    files = Files(str(path))
    for number in range(2000):
        files.write([line(number)])
    files.close()
    assert path.stat().st_size < len(content(path)) / 4
    assert frames(path) == numbers(*range(2000))


def test_a_member_ends_for_good_some_time(tmp_path: Path) -> None:
    """So that damage, or a crash, concerns no more than the last."""
    path = tmp_path / "day.jsonl.gz"
    files = Files(str(path))
    (large,) = encode(AT, [b"x" * 600_000])
    for _ in range(5):
        files.write([large])
    files.close()
    assert [len(frame) for frame in frames(path)] == [600_000] * 5
    with path.open("rb") as file:
        ends = {piece.whole_until for piece in pieces(file) if isinstance(piece, Piece)}
    assert len(ends - {0}) == 3


def test_writing_after_the_end_is_an_error(tmp_path: Path) -> None:
    """Rather than a line that goes nowhere."""
    files = Files(str(tmp_path / "day.jsonl"))
    files.close()
    with pytest.raises(OSError, match="has ended"):
        files.write([line(1)])


# --- Reading


@SUFFIXES
def test_damaged_lines_are_told_and_the_rest_is_read(tmp_path: Path, suffix: str) -> None:
    """The error names file and line; iterating goes on behind it, or it goes to a function."""
    path = tmp_path / f"day{suffix}"
    text = HEADER + line(1) + b"rubbish\n" + line(2) + b'{"at": "never", "raw": ""}\n' + line(3)
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    found: list[object] = []
    with recording.read(path) as entries:
        while True:
            try:
                entry = next(entries, None)
            except RecordingError as error:
                found.append((error.path, error.line, error.problem))
                continue
            if entry is None:
                break
            found.append(entry.raw)
    assert found == [
        b"frame 1",
        (str(path), 3, "not JSON: Expecting value at character 0"),
        b"frame 2",
        (str(path), 5, 'no time under "at"'),
        b"frame 3",
    ]
    errors: list[RecordingError] = []
    with recording.read(path, on_damage=errors.append) as entries:
        assert [raw for _, raw in entries] == [b"frame 1", b"frame 2", b"frame 3"]
    assert [error.line for error in errors] == [3, 5]
    assert entries.damaged == 2


def test_a_damaged_member_costs_its_own_lines(tmp_path: Path) -> None:
    """The others are read, and where it is said."""
    path = tmp_path / "day.jsonl.gz"
    write(path, 1)
    first = path.read_bytes()
    write(path, 2, append=True)
    second = bytearray(path.read_bytes()[len(first) :])
    second[15] ^= 0xFF
    third = gzip.compress(line(3))
    path.write_bytes(first + bytes(second) + third)
    errors: list[RecordingError] = []
    with recording.read(path, on_damage=errors.append) as entries:
        assert [raw for _, raw in entries] == [b"frame 1", b"frame 3"]
    assert errors
    assert "damaged" in str(errors[0])


def test_frames_of_one_read_stay_together(tmp_path: Path) -> None:
    """They have one time, and damage between them parts them without disorder."""
    path = tmp_path / "day.jsonl"
    path.write_bytes(HEADER + b"".join(encode(AT, [b"1", b"2"])) + b"?\n" + b"".join(encode(AT, [b"3"])) + line(9))
    groups = []
    with recording.read(path, on_damage=lambda _error: None) as entries:
        while (group := entries.next_group()) is not None:
            groups.append((group.at, group.raws))
    assert groups == [(AT, [b"1", b"2"]), (AT, [b"3"]), (AT + timedelta(seconds=9), [b"frame 9"])]


def test_compression_is_told_by_content(tmp_path: Path) -> None:
    """A file that was renamed, or packed by hand, is read all the same."""
    plain, packed = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    write(plain, 1)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert frames([str(plain), str(packed)]) == numbers(1, 1)


def test_joined_recordings(tmp_path: Path) -> None:
    """Headers in the middle are what ``cat`` leaves."""
    path, joined = tmp_path / "day.jsonl", tmp_path / "joined.jsonl"
    write(path, 1)
    joined.write_bytes(path.read_bytes() * 2)
    assert frames(joined) == numbers(1, 1)


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"", "no recording"), (b"price\n1.0\n", "no recording"), (b"\x1f\x8b\x08 rubbish", "no recording")],
)
def test_what_is_no_recording_is_refused_at_once(tmp_path: Path, data: bytes, problem: str) -> None:
    """Before anything is read, the last of several files too."""
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    write(good, 1)
    bad.write_bytes(data)
    with pytest.raises(RecordingError, match=problem) as caught:
        recording.read([good, bad])
    assert (caught.value.path, caught.value.line) == (str(bad), 1)


@posix
def test_a_pipe_is_no_recording() -> None:
    """As a shell's ``<(zcat day.jsonl.gz)`` makes one; the error says what to do."""
    reader, writer = os.pipe()
    os.write(writer, HEADER)
    os.close(writer)
    with pytest.raises(RecordingError, match="write it to a file") as caught:
        recording.read(f"/dev/fd/{reader}")
    os.close(reader)
    assert (caught.value.path, caught.value.line) == (f"/dev/fd/{reader}", None)


@pytest.mark.parametrize(
    ("source", "error"), [([], ValueError), (b"day.jsonl", TypeError), (7, TypeError), ([b"day.jsonl"], TypeError)]
)
def test_what_is_no_path(source: object, error: type[Exception]) -> None:
    """It is refused with a word."""
    with pytest.raises(error, match=r"recording"):
        recording.read(source)  # type: ignore[arg-type]


def test_progress_is_told_in_bytes_of_the_files(tmp_path: Path) -> None:
    """Compressed as they are; at the end all were read."""
    paths = [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"]
    for path in paths:
        write(path, *range(50))
    size = sum(path.stat().st_size for path in paths)
    with recording.read(paths) as entries:
        assert (entries.position, entries.size) == (0, size)
        positions = [entries.position for _ in entries]
    assert positions == sorted(positions)
    assert entries.position == size


def test_a_line_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs bounded memory, and the lines behind it are read."""
    monkeypatch.setattr("allenhark_ws.recording._reader._LONGEST_LINE", 100_000)
    path = tmp_path / "day.jsonl"
    path.write_bytes(HEADER + b"x" * 300_000 + b"\n" + line(1))
    errors: list[RecordingError] = []
    with recording.read(path, on_damage=errors.append) as entries:
        assert [raw for _, raw in entries] == [b"frame 1"]
    assert "no line of a recording has more than 100000 bytes" in str(errors[0])


def test_a_long_line_is_not_copied_again_with_every_piece(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a damaged file costs grows with its length, not with the square of that."""
    copied: list[int] = []

    class Counted(bytes):
        def __radd__(self, before: bytes) -> bytes:
            copied.append(len(before))
            return bytes(before) + bytes(self)

    text = line(1)
    pieces_read = [HEADER, *(Counted(text[at : at + 1]) for at in range(len(text)))]
    monkeypatch.setattr("allenhark_ws.recording._reader._pieces", lambda _file: iter(pieces_read))
    path = tmp_path / "day.jsonl"
    path.touch()
    assert frames(path) == numbers(1)
    assert sum(copied) <= len(text)


def test_a_closed_reader_is_at_its_end(tmp_path: Path) -> None:
    """And can be closed again."""
    path = tmp_path / "day.jsonl"
    path.write_bytes(HEADER + b"".join(encode(AT, [b"1", b"2"])))
    entries = recording.read(path)
    assert next(entries).raw == b"1"
    entries.close()
    entries.close()
    assert list(entries) == []


@given(
    batches=st.lists(st.lists(st.binary(max_size=20), min_size=1, max_size=5), max_size=8),
    suffix=st.sampled_from([".jsonl", ".jsonl.gz"]),
    max_bytes=st.none() | st.integers(1, 500),
    again=st.integers(0, 8),
)
def test_any_batches_over_any_files_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[bytes]],
    suffix: str,
    max_bytes: int | None,
    again: int,
) -> None:
    """In order and whole, whatever the rotation, and wherever recording was ended and gone on with."""
    directory = tmp_path_factory.mktemp("day")
    path = directory / f"day{suffix}"
    files = Files(str(path), True, max_bytes)
    for number, batch in enumerate(batches):
        if number == again:
            files.close()
            files = Files(str(path), True, max_bytes)
        files.write(encode(AT + timedelta(seconds=number), batch))
    files.close()
    with recording.read(recording.series(path)) as entries:
        found = [(at, bytes(raw)) for at, raw in entries]
    assert found == [(AT + timedelta(seconds=number), raw) for number, batch in enumerate(batches) for raw in batch]
    shutil.rmtree(directory)
