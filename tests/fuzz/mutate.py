"""A small fuzzer for where atheris is not: it changes the inputs kept at random, without a look at what they reach."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

__all__ = ["fuzz", "mutants"]

_MAX_SIZE: Final = 4_096
_MOST_CHANGES: Final = 6


class Mutator:
    """Makes inputs of inputs; the same seed makes the same ones.

    Args:
        inputs: what to begin with.
        words: pieces to put in.
        seed: of the dice.
    """

    def __init__(self, inputs: Sequence[bytes], words: Sequence[bytes], seed: int) -> None:
        self._inputs = [b"", *inputs]
        self._words = words
        self._dice = random.Random(seed)  # noqa: S311 - the draws have to be the same every time
        self._changes: tuple[Callable[[bytes], bytes], ...] = (
            *(self._flip, self._set, self._cut, self._repeat, self._insert, self._insert, self._splice),
        )

    def draw(self) -> bytes:
        """One of the inputs, changed in a few places."""
        data = self._dice.choice(self._inputs)
        for _ in range(self._dice.randint(1, _MOST_CHANGES)):
            data = self._dice.choice(self._changes)(data)
        return data[:_MAX_SIZE]

    def _place(self, data: bytes) -> int:
        return self._dice.randint(0, len(data))

    def _part(self, data: bytes) -> tuple[int, int]:
        start, end = sorted((self._place(data), self._place(data)))
        return start, end

    def _flip(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + bytes(byte ^ 1 << self._dice.randrange(8) for byte in data[place : place + 1]) + data[place + 1 :]

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


def mutants(inputs: Sequence[bytes], words: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Inputs without end."""
    mutator = Mutator(inputs, words, seed)
    while True:
        yield mutator.draw()


def fuzz(check: Callable[[bytes], None], inputs: Iterator[bytes], seconds: float) -> tuple[int, bytes | None]:
    """Check inputs for so many seconds; how many were tried, and the one that broke a promise, if one did."""
    end, tried = time.monotonic() + seconds, 0
    for data in inputs:
        if time.monotonic() >= end:
            break
        tried += 1
        try:
            check(data)
        except Exception:
            raise
    return tried, None
