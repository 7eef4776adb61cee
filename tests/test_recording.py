"""`Client.record`: whatever the client lives through and however the disk behaves."""

from __future__ import annotations

import gc
import gzip
import json
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from allenhark_ws import (
    ClientClosed,
    ConnectionLost,
    Event,
    EventsDropped,
    Price,
    RecordingError,
    recording,
)
from allenhark_ws._frames import BinaryMessage
from allenhark_ws.recording import Recorder
from allenhark_ws.recording._files import Files

from .fakes import START
from .patience import PATIENCE
from .processes import Script, posix
from .scripted import Scripted, outcome, price

if TYPE_CHECKING:
    from typing_extensions import Self

SUFFIXES = pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
BUFFER = 1_000_000


def frames(path: str | Path) -> list[bytes]:
    """What a recording holds."""
    with recording.read(path) as entries:
        return [raw for _, raw in entries]


class Output:
    """A disk that can be made to hang and to fail."""

    path = "day.jsonl"

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.lines = 0
        self.closed = 0
        self.discarded = 0
        self.error: Exception | None = None
        self.error_of_close: OSError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Semaphore(0)

    def write(self, lines: Sequence[bytes]) -> None:
        """Wait at the gate, then take them or fail."""
        self.reached.release()
        assert self.gate.wait(PATIENCE)
        if self.error is not None:
            raise self.error
        self.written += lines
        self.lines += len(lines)

    def close(self) -> None:
        """Count it."""
        self.closed += 1
        if self.error_of_close is not None:
            raise self.error_of_close

    def discard(self) -> None:
        """Count it."""
        self.discarded += 1


class Source:
    """A loop that only notes what it is told."""

    def __init__(self) -> None:
        self.removed: list[Recorder] = []
        self.reports: list[Event] = []
        self.reported = threading.Semaphore(0)

    def remove_tap(self, tap: Recorder) -> None:
        """Note it."""
        self.removed.append(tap)

    def report(self, event: Event) -> None:
        """Note it."""
        self.reports.append(event)
        self.reported.release()


class Rig:
    """A recorder between the two; ended on leaving the ``with``."""

    def __init__(self, *, max_buffer: int = BUFFER, gather: float = 0.0) -> None:
        self.output, self.source = Output(), Source()
        self.recorder = Recorder(self.output, self.source, max_buffer, gather=gather)
        self.recorder.start()

    def put(self, *messages: bytes) -> None:
        """As the I/O thread does."""
        self.recorder.put(START.wall, messages)

    def hang(self) -> None:
        """Let the disk hang, with one frame on its way."""
        self.output.gate.clear()
        self.put(b"first")
        assert self.output.reached.acquire(timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.output.gate.set()
        self.recorder.finish()
        assert self.recorder.join(float("inf"))


# --- The recorder


def test_what_is_put_is_written_in_order() -> None:
    """All of it by the time `stop` returns, which may be called again."""
    with Rig() as rig:
        for number in range(100):
            rig.put(b"%d" % number, b"more")
        rig.put()
        rig.recorder.stop()
        rig.recorder.stop()
        assert [json.loads(line)["raw"] for line in rig.output.written[::2]] == [str(n) for n in range(100)]
        assert (rig.recorder.frames, rig.recorder.lost, rig.output.closed) == (200, 0, 1)
        assert rig.source.removed == [rig.recorder, rig.recorder]
        assert rig.source.reports == []
        assert repr(rig.recorder) == "<Recorder day.jsonl: 200 frames, 0 lost>"


def test_what_comes_after_the_end_is_not_taken() -> None:
    """A frame that the loop was about to put."""
    with Rig() as rig:
        rig.recorder.stop()
        rig.put(b"late")
        assert (rig.output.written, rig.recorder.lost) == ([], 0)


def test_frames_wait_for_others() -> None:
    """One write for many; the end does not wait."""
    with Rig(gather=1e6) as rig:
        rig.put(b"a")
        rig.put(b"b")
        assert not rig.output.reached.acquire(blocking=False)
        rig.recorder.stop()
        assert rig.output.lines == 2
        assert rig.output.reached.acquire(blocking=False)
        assert not rig.output.reached.acquire(blocking=False)


def test_a_buffer_that_fills_up_waits_no_longer() -> None:
    """From half on it is written at once."""
    with Rig(gather=1e6, max_buffer=1000) as rig:
        rig.put(b"a" * 400)
        assert rig.output.reached.acquire(timeout=PATIENCE)


def test_much_is_written_bit_by_bit() -> None:
    """The lines of a full buffer are not all made at once."""
    with Rig(gather=1e6, max_buffer=10_000_000) as rig:
        rig.output.gate.clear()
        for _ in range(6):
            rig.put(b"a" * 900_000)
        rig.output.gate.set()
        rig.recorder.stop()
        assert rig.output.lines == 6
        assert sum(rig.output.reached.acquire(blocking=False) for _ in range(10)) == 3


def test_a_slow_disk_costs_frames_that_are_told(caplog: pytest.LogCaptureFixture) -> None:
    """Once when it begins and once when it is over; whoever puts never waits."""
    with Rig(max_buffer=1000) as rig:
        rig.hang()
        rig.put(b"a" * 700)
        for _ in range(5):
            rig.put(b"b" * 100, b"c" * 100)
        assert rig.source.reports == [EventsDropped(2, "recording day.jsonl")]
        assert rig.recorder.lost == 10
        rig.output.gate.set()
        for _ in range(2):
            assert rig.source.reported.acquire(timeout=PATIENCE)
        assert rig.source.reports[1:] == [EventsDropped(8, "recording day.jsonl")]
        rig.put(b"d")
        rig.recorder.stop()
        assert [json.loads(line)["raw"][:1] for line in rig.output.written] == ["f", "a", "d"]
        assert [record.getMessage() for record in caplog.records] == [
            "recording day.jsonl: the disk was too slow, 10 frames are lost so far"
        ]


def test_a_batch_larger_than_the_buffer() -> None:
    """It is taken when nothing else waits: a small buffer slows nothing but its own writer."""
    with Rig(max_buffer=1) as rig:
        rig.put(b"a" * 1000, b"b")
        rig.recorder.stop()
        assert (rig.output.lines, rig.recorder.lost) == (2, 0)


def test_a_disk_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """What was not written and what comes after is counted and told, and `stop` raises the error, each time."""
    with Rig() as rig:
        rig.output.error = OSError(28, "No space left on device")
        rig.put(b"a", b"b")
        assert rig.source.reported.acquire(timeout=PATIENCE)
        rig.put(b"c")
        assert rig.source.reports == [EventsDropped(2, "recording day.jsonl")]
        for _ in range(2):
            with pytest.raises(OSError, match="No space left"):
                rig.recorder.stop()
        assert rig.source.reports[1:] == [EventsDropped(1, "recording day.jsonl")]
        assert (rig.recorder.lost, rig.recorder.frames, rig.output.closed) == (3, 0, 1)
        (record,) = caplog.records
        assert "failed, 2 frames are lost so far; the client goes on: [Errno 28] No space" in record.getMessage()


def test_a_disk_that_fails_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    """Network file systems tell only when the file is closed; nothing is known to be lost."""
    with Rig() as rig:
        rig.output.error_of_close = OSError(122, "Quota exceeded")
        rig.put(b"a")
        with pytest.raises(OSError, match="Quota exceeded"):
            rig.recorder.stop()
        assert (rig.recorder.lost, rig.source.reports) == (0, [])
        assert len(caplog.records) == 1


def test_the_first_failure_counts() -> None:
    """Closing a file on a full disk may fail as well."""
    with Rig() as rig:
        rig.output.error, rig.output.error_of_close = OSError(28, "No space left"), OSError(5, "I/O error")
        rig.put(b"a")
        with pytest.raises(OSError, match="No space left"):
            rig.recorder.stop()


def test_stop_gives_up_on_a_disk_that_hangs() -> None:
    """It says so, writing goes on, and waiting can go on."""
    with Rig() as rig:
        rig.hang()
        with pytest.raises(TimeoutError, match=r"day\.jsonl was not written within 0\.01 s"):
            rig.recorder.stop(0.01)
        rig.output.gate.set()
        rig.recorder.stop()
        assert rig.output.lines == 1


def test_leaving_the_block_raises_the_error_unless_there_is_another() -> None:
    """What happened first comes first; the log has both."""
    for inner, expected in ((None, OSError), (KeyError("x"), KeyError)):
        with Rig() as rig:
            rig.output.error = OSError(28, "No space left")
            rig.put(b"a")

            def use(recorder: Recorder = rig.recorder, inner: Exception | None = inner) -> None:
                with recorder:
                    if inner is not None:
                        raise inner

            assert type(outcome(use)) is expected


def refuse_to_start(_thread: threading.Thread) -> None:
    """In the place of `Thread.start`: there are too many."""
    raise RuntimeError("can't start new thread")


def test_a_recorder_that_has_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file is closed again, and removed if it was made for this."""
    output, source = Output(), Source()
    recorder = Recorder(output, source, BUFFER)
    monkeypatch.setattr(threading.Thread, "start", refuse_to_start)
    with pytest.raises(RuntimeError):
        recorder.start()
    assert (output.discarded, output.closed) == (1, 1)


@SUFFIXES
@pytest.mark.parametrize("append", [False, True])
def test_a_recording_that_cannot_begin(tmp_path: Path, suffix: str, append: bool) -> None:
    """It leaves the disk as it was: trying again makes the file, or goes on with the one that was there."""
    path = tmp_path / f"day{suffix}"
    with Scripted() as s:
        if append:
            s.client.record(path).stop()
        before = {each: each.read_bytes() for each in tmp_path.iterdir()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse_to_start)
            with pytest.raises(ClientClosed, match="no more threads"):
                s.client.record(path, append=append)
        assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before
        with s.client.record(path, append=append):
            s.ready()
            s.client.flush(PATIENCE)
    assert b'{"type": "pong"}' in frames(path)


def test_a_recorder_ends_with_its_source() -> None:
    """Which it does not keep alive; nor is it kept itself."""
    output, source = Output(), Source()
    recorder = Recorder(output, source, BUFFER, gather=0.0)
    recorder.start()
    recorder.put(START.wall, [b"a"])
    thread, reference = recorder._thread, weakref.ref(recorder)
    del source
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert (output.lines, output.closed) == (1, 1)
    recorder.stop()
    del recorder
    assert reference() is None


# --- With a client


@SUFFIXES
def test_every_frame_is_recorded(tmp_path: Path, suffix: str) -> None:
    """As received, whatever it is, with its time, before the start and over reconnects, until `close`."""
    path = tmp_path / f"day{suffix}"
    odd = [b'{"type":"welcome"}', b"{", b'{"type":"error","message":"no"}', BinaryMessage(b"\xff\x00"), b"\xc3\xa9"]
    with Scripted() as scripted:
        recorder = scripted.client.record(path)
        scripted.ready()
        scripted.wire.push(*odd, price("m"))
        scripted.settle()
        scripted.run(5.0)
        scripted.wire.push(price("m", 2.0), end=ConnectionLost("gone"))
        scripted.settle()
        scripted.run(1.0)
        scripted.settle()
        assert len(scripted.server.wires) == 2
        scripted.wire.push(price("m", 3.0))
        scripted.settle()
        received = scripted.client.stats.messages_received
    pong = b'{"type": "pong"}'
    expected = [pong, *odd, *(json.dumps(price("m", n)).encode() for n in (1.0, 2.0)), pong]
    assert frames(path) == [*expected, json.dumps(price("m", 3.0)).encode()]
    assert recorder.frames == received == len(expected) + 1
    with recording.read(path) as entries:
        times = [at for at, _ in entries]
    assert times[0] == START.wall
    assert (times[7] - times[6]).total_seconds() == 5.0
    assert not recorder._thread.is_alive()


def test_frames_that_no_event_comes_of_are_recorded(tmp_path: Path) -> None:
    """Recording needs no consumer."""
    with Scripted() as scripted, scripted.client.record(tmp_path / "day.jsonl"):
        scripted.ready()
        scripted.wire.push(price("nobody"))
        scripted.settle()
    assert len(frames(tmp_path / "day.jsonl")) == 2


def test_what_was_received_before_stop_is_recorded_and_nothing_after(tmp_path: Path) -> None:
    """`stop` in the middle of a connection; a second recorder goes on, and the first file can be gone on with."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl.gz"
    with Scripted() as scripted:
        scripted.ready()
        other = scripted.client.record(second)
        with scripted.client.record(first) as recorder:
            scripted.wire.push(price("m", 1.0))
            scripted.settle()
        scripted.wire.push(price("m", 2.0))
        scripted.settle()
        with scripted.client.record(first, append=True):
            scripted.wire.push(price("m", 3.0))
            scripted.settle()
        assert scripted.client._loop._driver.intake.taps == (other,)
    assert [json.loads(frame)["price"] for frame in frames(first)] == [1.0, 3.0]
    assert [json.loads(frame)["price"] for frame in frames(second)] == [1.0, 2.0, 3.0]
    assert recorder.frames == 1


@pytest.mark.parametrize("inline", [False, True])
def test_stop_in_a_callback(tmp_path: Path, inline: bool) -> None:
    """The frame that it is called with is in the recording."""
    path = tmp_path / "day.jsonl"
    with Scripted(inline_callbacks=inline) as scripted:
        scripted.ready()
        recorder = scripted.client.record(path)
        stopped = threading.Event()

        def stop(_event: Event) -> None:
            recorder.stop()
            stopped.set()

        scripted.client.on(Price("m"), stop)
        scripted.wire.push(price("m"))
        assert stopped.wait(PATIENCE)
        assert frames(path) == [json.dumps(price("m")).encode()]


def test_a_full_disk_leaves_the_client_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Events go on, the loss is an event, and only the recorder raises."""
    with Scripted() as scripted:
        scripted.ready()
        drops = scripted.client.stream(EventsDropped)
        prices = scripted.client.stream(Price("m"))
        recorder = scripted.client.record(tmp_path / "day.jsonl")
        output = Output()
        output.error = OSError(28, "No space left on device")
        recorder._output.close()
        recorder._output = output
        scripted.wire.push(price("m", 1.0))
        assert drops.get(timeout=PATIENCE) == EventsDropped(1, f"recording {tmp_path / 'day.jsonl'}")
        scripted.wire.push(price("m", 2.0))
        assert [prices.get(timeout=PATIENCE).price for _ in range(2)] == [1.0, 2.0]
        with pytest.raises(OSError, match="No space left"):
            recorder.stop()
        assert drops.get(timeout=PATIENCE).count == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_close_does_not_wait_for_a_disk_that_hangs(tmp_path: Path) -> None:
    """Beyond its timeout."""
    output = Output()
    with Scripted() as scripted:
        scripted.ready()
        recorder = scripted.client.record(tmp_path / "day.jsonl")
        recorder._output.close()
        recorder._output = output
        output.gate.clear()
        scripted.wire.push(price("m"))
        assert output.reached.acquire(timeout=PATIENCE)
        scripted.client.close(0.05)
        assert recorder._thread.is_alive()
        output.gate.set()
        recorder.stop()
    assert output.lines == 1


@SUFFIXES
def test_a_client_that_is_never_started(tmp_path: Path, suffix: str) -> None:
    """Closed or forgotten, it leaves an empty recording and no thread."""
    kept = Scripted()
    recorder = kept.client.record(tmp_path / f"a{suffix}")
    kept.client.close()
    assert not recorder._thread.is_alive()
    forgotten = Scripted()
    recorder = forgotten.client.record(tmp_path / f"b{suffix}")
    del forgotten
    gc.collect()
    recorder._thread.join(PATIENCE)
    assert not recorder._thread.is_alive()
    assert frames(tmp_path / f"a{suffix}") == frames(tmp_path / f"b{suffix}") == []


@pytest.mark.parametrize("begun", [False, True], ids=["before it begins", "as it begins"])
def test_ctrl_c_before_there_is_a_recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool) -> None:
    """Its file is closed: with the client at the latest, if nobody came to hold it."""
    files: list[Files] = []

    class Kept(Files):
        def __attrs_post_init__(self) -> None:
            super().__attrs_post_init__()
            files.append(self)

    def cut_off(recorder: Recorder) -> None:
        if begun:
            begin(recorder)
        raise KeyboardInterrupt

    begin = Recorder.start
    monkeypatch.setattr("allenhark_ws.recording.Files", Kept)
    monkeypatch.setattr(Recorder, "start", cut_off)
    with Scripted() as scripted, pytest.raises(KeyboardInterrupt):
        scripted.client.record(tmp_path / "day.jsonl")
    del scripted
    gc.collect()
    for thread in threading.enumerate():
        if thread.name == "allenhark-recorder":
            thread.join(PATIENCE)
    assert [each._file for each in files] == [None]


def test_a_forgotten_client_takes_its_recorder_along(tmp_path: Path) -> None:
    """All it received is written, and nothing of it stays."""
    scripted = Scripted().ready()
    thread = scripted.client.record(tmp_path / "day.jsonl")._thread
    scripted.wire.push(price("m"))
    scripted.settle()
    loop = scripted.client._loop
    with pytest.warns(ResourceWarning, match="unclosed Client"):
        del scripted.client
    loop.join(time.monotonic() + PATIENCE)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    recorder = weakref.ref(loop._driver.intake.taps[0])
    del loop, thread
    gc.collect()
    assert recorder() is None
    assert len(frames(tmp_path / "day.jsonl")) == 1


def test_a_recorder_keeps_no_client_alive(tmp_path: Path) -> None:
    """Whoever holds it holds a file, not a connection."""
    scripted = Scripted()
    reference = weakref.ref(scripted.client)
    recorder = scripted.client.record(tmp_path / "day.jsonl")
    del scripted
    gc.collect()
    assert reference() is None
    recorder.stop()


def test_record_on_a_closed_client(tmp_path: Path) -> None:
    """It is refused, and no file is made."""
    with Scripted() as scripted:
        scripted.client.close()
        with pytest.raises(ClientClosed):
            scripted.client.record(tmp_path / "day.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_a_tap_that_comes_too_late(tmp_path: Path) -> None:
    """The client ended between the check and the file: the recorder ends at once."""
    with Scripted() as scripted:
        recorder = recording.begin(
            tmp_path / "day.jsonl", scripted.client._loop, append=False, max_bytes=None, interval=None, max_buffer=1
        )
        recorder.start()
        scripted.client.close()
        scripted.client._loop.add_tap(recorder)
        recorder._thread.join(PATIENCE)
        assert not recorder._thread.is_alive()


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_bytes": 0}, ValueError, r"record\(max_bytes=…\) must be at least 1"),
        ({"max_bytes": 1.5}, TypeError, "whole number of bytes, got float"),
        ({"max_bytes": True}, TypeError, "got bool"),
        ({"interval": 0}, ValueError, "finite and more than 0"),
        ({"interval": float("inf")}, ValueError, "finite and more than 0"),
        ({"interval": "1h"}, TypeError, "seconds as a number, got str"),
        ({"interval": True}, TypeError, "got bool"),
        ({"max_buffer": 0}, ValueError, r"record\(max_buffer=…\) must be at least 1"),
        ({"path": b"day.jsonl"}, TypeError, "a path as text"),
        ({"path": 7}, TypeError, "int"),
    ],
)
def test_arguments_that_cannot_be_used(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """They are refused with a word, and no file is made."""
    with Scripted() as scripted, pytest.raises(error, match=text):
        scripted.client.record(**({"path": tmp_path / "day.jsonl"} | options))
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file(tmp_path: Path) -> None:
    """It is refused by default; what is no recording in any case; the client can record to another."""
    path = tmp_path / "day.jsonl"
    path.write_text("precious\n")
    with Scripted() as scripted:
        with pytest.raises(FileExistsError, match="append=True"):
            scripted.client.record(path)
        with pytest.raises(RecordingError, match="no recording"):
            scripted.client.record(path, append=True)
        assert scripted.client._loop._driver.intake.taps == ()
    assert path.read_text() == "precious\n"


def test_rotation(tmp_path: Path) -> None:
    """The recorder tells which file it is at."""
    path = tmp_path / "day.jsonl"
    with Scripted() as scripted:
        recorder = scripted.client.record(str(path), max_bytes=1, interval=1e6)
        scripted.ready()
        scripted.wire.push(price("m"))
        scripted.settle()
    assert recorder.path == str(tmp_path / "day_0001.jsonl")
    assert [len(frames(each)) for each in recording.series(path)] == [1, 1]


def test_without_a_recorder_nothing_is_loaded() -> None:
    """Most clients record nothing."""
    code = "import sys; from allenhark_ws import Client; print('allenhark_ws.recording' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# --- Crashes, full disks and forks of real processes

RECORDER = """
from allenhark_ws.testing import Simulator
def record(path, **options):
    sim = Simulator().start()
    client = Client(sim.api_key, url=sim.url).connect()
    stream = client.stream(Price("m"))
    recorder = client.record(path, **options)
    client.flush()
    return sim, client, stream, recorder
def publish(sim, number):
    price = {"type": "price_update", "mint": "m", "price": number, "volume": 1.0, "timestamp": "2024-01-15T10:30:00Z"}
    sim.publish(price)
"""


def prices(path: str | Path) -> list[float]:
    """The prices in a recording."""
    return [json.loads(frame)["price"] for frame in frames(path) if b"price_update" in frame]


@posix
@SUFFIXES
def test_a_killed_process_leaves_a_readable_file(tmp_path: Path, suffix: str) -> None:
    """It has all but the last moment, for other tools too, and can be gone on with."""
    pytest.importorskip("websockets", reason="needs the extra testing")
    path = tmp_path / f"day{suffix}"
    text = f"""{RECORDER}
sim, client, stream, recorder = record({str(path)!r})
number = 0
while True:
    number += 1
    publish(sim, float(number))
    stream.get(timeout=60)
    if number % 100 == 0:
        say(recorder.frames)
"""
    with Script("", text) as script:
        while True:
            written = int(script.line())
            if written >= 200:
                break
        script.process.send_signal(signal.SIGKILL)
        script.process.wait(PATIENCE)
    found = prices(path)
    assert len(found) >= written - 10  # but the pongs
    assert found == [float(n + 1) for n in range(len(found))]
    data = gzip.decompress(path.read_bytes()) if suffix.endswith(".gz") else path.read_bytes()
    assert data.startswith(b'{"format"')
    with Scripted() as scripted, scripted.client.record(path, append=True):
        scripted.ready()
        scripted.wire.push(price("m", -1.0))
        scripted.settle()
    assert prices(path) == [*found, -1.0]


@posix
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A limit of the system: the process goes on, the file is whole up to there."""
    pytest.importorskip("websockets", reason="needs the extra testing")
    path = tmp_path / "day.jsonl"
    text = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
{RECORDER}
sim, client, stream, recorder = record({str(path)!r})
drops = client.stream(EventsDropped)
for number in range(100):
    publish(sim, float(number))
    stream.get(timeout=60)
say(type(drops.get(timeout=60)).__name__)
try:
    recorder.stop()
except OSError as error:
    say(error.errno, recorder.lost + recorder.frames >= 100)
publish(sim, -1.0)
say(stream.get(timeout=60).price)
client.close()
sim.stop()
"""
    with Script("", text) as script:
        code, out, err = script.end()
    assert out.splitlines()[0] == "EventsDropped"
    assert out.splitlines()[1:] == ["27 True", "-1.0"]
    assert code == 0
    assert "File too large" in err
    assert path.stat().st_size <= 5000
    frames(path)


@posix
@SUFFIXES
def test_a_forked_child_writes_nothing(tmp_path: Path, suffix: str) -> None:
    """Whatever it does with the recorder, and however it ends; the parent's recording goes on."""
    pytest.importorskip("websockets", reason="needs the extra testing")
    path = tmp_path / f"day{suffix}"
    text = f"""{RECORDER}
sim, client, stream, recorder = record({str(path)!r})
publish(sim, 1.0)
stream.get(timeout=60)
child = os.fork()
if child == 0:
    recorder.stop()
    recorder.finish()
    client.close()
    try:
        client.record({str(tmp_path / "child.jsonl")!r})
    except ClientClosed:
        del recorder, client, stream
        gc.collect()
        sys.exit(7)
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
publish(sim, 2.0)
stream.get(timeout=60)
client.close()
say(recorder.lost)
sim.stop()
"""
    with Script("", text) as script:
        assert script.end() == (0, "7\n0", "")
    assert prices(path) == [1.0, 2.0]
    assert not (tmp_path / "child.jsonl").exists()


@posix
def test_a_fork_while_the_recorder_is_busy(tmp_path: Path) -> None:
    """A thread that the child does not have holds the lock there for ever: nothing in the child waits for it."""
    path = tmp_path / "day.jsonl"
    text = f"""
client = Client("k", url="ws://127.0.0.1:1/")
recorder = client.record({str(path)!r})
held, over = threading.Event(), threading.Event()
def hold():
    with recorder._changed:
        held.set()
        over.wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
child = os.fork()
if child == 0:
    recorder.stop()
    recorder.finish()
    closed = recorder._output._file is None
    del recorder, client
    gc.collect()
    os._exit(7 if closed else 8)
over.set()
say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
client.close()
"""
    with Script("", text) as script:
        assert script.end() == (0, "7", "")
    assert frames(path) == []


@posix
@SUFFIXES
def test_a_program_that_just_ends(tmp_path: Path, suffix: str) -> None:
    """Without `close`: what was received is written at exit."""
    pytest.importorskip("websockets", reason="needs the extra testing")
    path = tmp_path / f"day{suffix}"
    text = f"""{RECORDER}
sim, client, stream, recorder = record({str(path)!r})
publish(sim, 1.0)
stream.get(timeout=60)
"""
    with Script("", text) as script:
        assert script.end() == (0, "", "")
    assert prices(path) == [1.0]
