"""The inputs kept from fuzzing are replayed, a few new ones are tried, and the fuzzer itself is tried."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allenhark_ws._frames import FrameReader
from allenhark_ws._session import Session

from .fuzz import __main__ as command
from .fuzz.mutate import Mutator
from .fuzz.targets import CORPUS, TARGETS, Target

targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


def dice(seed: int) -> Random:
    """The same draws every time."""
    return Random(seed)  # noqa: S311 - nothing here is secret


def seeds(target: Target) -> st.SearchStrategy[bytes]:
    """Inputs made of a target's words and of anything else."""
    return st.lists(st.one_of(st.sampled_from(target.words), st.binary(max_size=4)), max_size=12).map(b"".join)


@targets
def test_the_corpus(target: Target) -> None:
    """No input that was ever worth keeping breaks a promise."""
    inputs = target.corpus()
    assert len(inputs) >= 30
    for data in inputs:
        target.check(data)


@targets
def test_any_bytes(target: Target) -> None:
    """No bytes break a promise."""

    @settings(max_examples=300)
    @given(st.binary(max_size=60))
    def try_one(data: bytes) -> None:
        target.check(data)

    try_one()


@targets
def test_any_words(target: Target) -> None:
    """No order of things that make sense breaks a promise."""

    @settings(max_examples=300)
    @given(st.binary(min_size=2, max_size=2), seeds(target))
    def try_one(start: bytes, data: bytes) -> None:
        target.check(data if target.name == "codec" else start + data)

    try_one()


@targets
def test_changes_of_the_corpus(target: Target) -> None:
    """Nothing near an input kept breaks a promise."""
    mutator = Mutator(target.corpus(), target.words, dice(1))
    for _ in range(300):
        target.check(mutator.draw())


def test_the_corpus_is_small_and_has_no_other_targets() -> None:
    """It is read by every clone and every run: half a megabyte, and nothing that nobody replays."""
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS) == set(command.NAMES)
    files = [path for target in TARGETS.values() for path in target.files()]
    assert sum(path.stat().st_size for path in files) < 500_000
    assert all(re.fullmatch(r"[0-9a-f]{40}", path.name) for path in files)


# Would they notice? ---------------------------------------------------------------------------------------------------


def test_a_reader_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that cannot fail proves nothing: this reader does not wait for the rest of a frame."""
    monkeypatch.setattr(FrameReader, "_head", lambda self, data, position: None)
    with pytest.raises(AssertionError):
        test_the_corpus(TARGETS["frames"])


def test_a_session_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """This one does not subscribe again after a loss, nor unsubscribe."""
    monkeypatch.setattr(Session, "_plan", lambda self, items: None)
    with pytest.raises(AssertionError):
        test_the_corpus(TARGETS["session"])


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def without_atheris(monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be imported; with it, libFuzzer would end the process."""
    monkeypatch.setitem(sys.modules, "atheris", None)


@pytest.mark.usefixtures("without_atheris")
@pytest.mark.parametrize("name", TARGETS)
def test_the_command_fuzzes_without_atheris(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says that it goes blindly, and how far it got."""
    assert command.main([name, "--seconds", "0.1"]) == 0
    said = capsys.readouterr().out
    assert f"{name}: atheris is not installed" in said
    assert re.search(rf"{name}: [1-9]\d* inputs, no promise broken", said)


@pytest.mark.usefixtures("without_atheris")
def test_the_command_keeps_what_breaks_a_promise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The input is in a file, so that it can be tried again, and the exit code tells."""
    monkeypatch.setattr(FrameReader, "_head", lambda self, data, position: None)
    assert command.main(["frames", "--seconds", "30", "--finds", str(tmp_path / "new")]) == 1
    (path,) = (tmp_path / "new").iterdir()
    assert str(path) in capsys.readouterr().err
    with pytest.raises(AssertionError):
        TARGETS["frames"].check(path.read_bytes())
    monkeypatch.undo()
    TARGETS["frames"].check(path.read_bytes())


def test_merging_keeps_what_reaches_something_new(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of inputs that reach the same only the smallest stays, of those kept before too."""
    corpus, new = tmp_path / "corpus", tmp_path / "new"
    monkeypatch.setattr("tests.fuzz.targets.CORPUS", corpus)
    files = {
        corpus / "codec" / "long": b'{"type":"hello" }',
        new / "a": b'{"type":"hi"}',
        new / "b": b'{"type":"pong"}',
    }
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert command.main(["codec", "--merge", str(new)]) == 0
    assert sorted(TARGETS["codec"].corpus()) == [b'{"type":"hi"}', b'{"type":"pong"}']
    assert "codec: kept 2 inputs of 28 bytes; there were 1" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_inputs() -> None:
    """What was found can be found again."""
    first, again, other = (Mutator([b"abc", b"defg"], [b"word"], dice(seed)) for seed in (5, 5, 6))
    drawn = [first.draw() for _ in range(50)]
    assert drawn == [again.draw() for _ in range(50)]
    assert drawn != [other.draw() for _ in range(50)]
    assert len(set(drawn)) > 25
