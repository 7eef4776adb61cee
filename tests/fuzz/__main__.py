"""Look for inputs that break a promise.

::

    python -m tests.fuzz codec --seconds 60                 look, beginning with the inputs kept
    python -m tests.fuzz codec --seconds 600 --finds new    and write to the directory new what reached something new
    python -m tests.fuzz codec --merge new                  take what is worth keeping of it over into the corpus

With atheris installed the fuzzer sees which code an input reaches, and goes on from there; without, inputs are changed
at random, the same way each time for the same ``--seed``.  An input that breaks a promise is written to a file, and the
exit code is not 0.
"""

# ruff: noqa: T201 - a command: it talks
from __future__ import annotations

import argparse
import hashlib
import importlib
import importlib.util
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from .mutate import Mutator

if TYPE_CHECKING:
    from .targets import Target

NAMES = ("codec", "frames", "session")
"""The targets, which are imported late: atheris has to watch that."""

_MAX_SIZE = 1_024


def main(arguments: list[str]) -> int:
    """Do what the command line says; the exit code."""
    options = _parse(arguments)
    if options.merge is not None:
        return _merge(_target(options.target), options.merge)
    if importlib.util.find_spec("atheris") is not None:
        return _fuzz_guided(options)
    return _fuzz_blindly(_target(options.target), options)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Look for inputs that break a promise.")
    parser.add_argument("target", choices=NAMES)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to look (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the random changes (default: 1)")
    parser.add_argument("--finds", type=Path, metavar="DIRECTORY", help="where inputs go that reach something new")
    parser.add_argument("--merge", type=Path, metavar="DIRECTORY", help="keep what is worth keeping of these inputs")
    return parser.parse_args(arguments)


def _target(name: str) -> Target:
    from .targets import TARGETS  # noqa: PLC0415 - atheris has to watch that

    return TARGETS[name]


def _merge(target: Target, directory: Path) -> int:
    """Keep, of the corpus and the directory's files, the fewest that reach all that they reach."""
    from .reach import worth_keeping  # noqa: PLC0415 - as above

    files = target.files()
    found = [path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()]
    kept = {_name(data): data for data in worth_keeping(target.check, [*target.corpus(), *found])}
    target.directory.mkdir(parents=True, exist_ok=True)
    for path in files:
        if path.name not in kept:
            path.unlink()
    for name, data in kept.items():
        target.directory.joinpath(name).write_bytes(data)
    print(f"{target.name}: kept {len(kept)} inputs of {sum(map(len, kept.values()))} bytes; there were {len(files)}")
    return 0


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:40]


# With atheris ---------------------------------------------------------------------------------------------------------


def _fuzz_guided(options: argparse.Namespace) -> int:
    """Hand over to atheris, that is to libFuzzer, which ends the process itself."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["allenhark_ws"]):
        target = _target(options.target)
    print(f"{target.name}: guided by the code that inputs reach (atheris)", flush=True)
    arguments = [sys.argv[0], f"-max_len={_MAX_SIZE}", *_flags(target, options)]
    atheris.Setup(arguments, target.check, custom_mutator=_mutate_with(target, atheris))
    atheris.Fuzz()
    return 0


def _flags(target: Target, options: argparse.Namespace) -> list[str]:
    flags = [f"-max_total_time={max(1, int(options.seconds))}", f"-seed={options.seed}", "-timeout=10"]
    if options.finds is None:
        return [*flags, "-seed_inputs=" + ",".join(map(str, target.files()))]
    options.finds.mkdir(parents=True, exist_ok=True)
    return [*flags, f"-artifact_prefix={options.finds}{os.sep}", str(options.finds), str(target.directory)]


def _mutate_with(target: Target, atheris: Any) -> Callable[[bytes, int, int], bytes]:
    """Changes by libFuzzer and by ourselves, half each: we know the words."""
    inputs = target.corpus()

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 2:
            mutated: bytes = atheris.Mutate(data, max_size)  # which is another function before the fuzzing begins
            return mutated
        dice = Random(seed)  # noqa: S311 - the changes have to be the same every time
        return Mutator(inputs, target.words, dice).change(data)[:max_size]

    return mutate


# Without --------------------------------------------------------------------------------------------------------------


def _fuzz_blindly(target: Target, options: argparse.Namespace) -> int:
    print(f"{target.name}: atheris is not installed, so inputs are changed blindly, seed {options.seed}", flush=True)
    dice = Random(options.seed)  # noqa: S311 - the changes have to be the same every time
    mutator = Mutator(target.corpus(), target.words, dice)
    end, tried = time.monotonic() + options.seconds, 0
    while time.monotonic() < end:
        data, tried = mutator.draw(), tried + 1
        try:
            target.check(data)
        except Exception:  # noqa: BLE001 - whatever it is, the input is what is wanted
            _keep_broken(data, options.finds or Path())
            return 1
    print(f"{target.name}: {tried} inputs, no promise broken")
    return 0


def _keep_broken(data: bytes, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"crash-{_name(data)}"
    path.write_bytes(data)
    traceback.print_exc()
    print(f"this input breaks a promise, see {path}: {data!r}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
