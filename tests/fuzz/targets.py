"""What can be fuzzed, and the inputs kept of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from . import codec, frames, session

CORPUS: Final = Path(__file__).parent / "corpus"
"""A directory for each target, a file for each input, named by its hash."""


@frozen
class Target:
    """Something that takes any bytes.

    Attributes:
        name: how it is called on the command line, and its directory of the corpus.
        check: does with the bytes what they are for; raises when a promise is broken.
        words: pieces of inputs for a fuzzer to put together.
    """

    name: str
    check: Callable[[bytes], None]
    words: tuple[bytes, ...]

    @property
    def directory(self) -> Path:
        """Where the inputs kept are."""
        return CORPUS / self.name

    def files(self) -> list[Path]:
        """The files of the inputs kept, in the order of their names."""
        return sorted(self.directory.glob("*"))

    def corpus(self) -> list[bytes]:
        """The inputs kept, in the same order."""
        return [path.read_bytes() for path in self.files()]


TARGETS: Final[Mapping[str, Target]] = {
    "codec": Target("codec", codec.check, codec.WORDS),
    "frames": Target("frames", frames.check, frames.WORDS),
    "session": Target("session", session.check, session.WORDS),
}
"""All targets by name."""
