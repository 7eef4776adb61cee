"""Random changes of inputs: all there is to a fuzzer where atheris is not, and a help to it where it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

__all__ = ["Mutator"]

_MAX_SIZE: Final = 4_096
_MOST_CHANGES: Final = 6


class Mutator:
    """Makes inputs of inputs; the same dice make the same ones.

    Args:
        inputs: what to begin with, beside nothing.
        words: pieces to put in.
        dice: what decides.
    """

    def __init__(self, inputs: Sequence[bytes], words: Sequence[bytes], dice: Random) -> None:
        self._inputs = [b"", *inputs]
        self._words = words
        self._dice = dice
        self._changes: tuple[Callable[[bytes], bytes], ...] = (
            *(self._flip, self._set, self._cut, self._repeat, self._insert, self._insert, self._splice),
        )

    def draw(self) -> bytes:
        """One of the inputs, changed in a few places."""
        return self.change(self._dice.choice(self._inputs))

    def change(self, data: bytes) -> bytes:
        """The input, changed in a few places."""
        for _ in range(self._dice.randint(1, _MOST_CHANGES)):
            data = self._dice.choice(self._changes)(data)
        return data[:_MAX_SIZE]

    def _place(self, data: bytes) -> int:
        return self._dice.randint(0, len(data))

    def _part(self, data: bytes) -> tuple[int, int]:
        start, end = sorted((self._place(data), self._place(data)))
        return start, end

    def _flip(self, data: bytes) -> bytes:
        place, bit = self._place(data), 1 << self._dice.randrange(8)
        return data[:place] + bytes(byte ^ bit for byte in data[place : place + 1]) + data[place + 1 :]

    def _set(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + self._dice.randbytes(1) + data[place + 1 :]

    def _cut(self, data: bytes) -> bytes:
        start, end = self._part(data)
        return data[:start] + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        start, end = self._part(data)
        return data[:end] + data[start:end] * self._dice.randint(1, 3) + data[end:]

    def _insert(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + self._dice.choice(self._words) + data[place:]

    def _splice(self, data: bytes) -> bytes:
        other = self._dice.choice(self._inputs)
        return data[: self._place(data)] + other[self._place(other) :]
