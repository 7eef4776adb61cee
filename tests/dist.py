"""Build what is published, twice, and check it: ``python tests/dist.py [DIRECTORY]``; ``dist`` by default.

The sources are copied and built, then what that made is unpacked and built again.  Both sdists and both wheels have to
be equal, byte by byte: an sdist has all that it takes, and anybody can see that what is published is what it was made
of.  setuptools dates the wheel by ``SOURCE_DATE_EPOCH``, but not the sdist, and takes over the modes of the files; so
the sdist is packed anew, the same files with one date, no owner and plain modes, and the wheel is built from it.

Needs build, twine and check-wheel-contents; the tox environment "dist" has them and runs this.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.cfg")
TREES = ("allenhark_ws", "examples", "tests")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.py[cod]", ".ipynb_checkpoints")
EPOCH = os.environ.get("SOURCE_DATE_EPOCH", "1704067200")
"""The date of every file in what is built, in seconds since 1970: 2024, unless it is asked for another."""


def copy_sources(target: Path) -> None:
    """Just what belongs into a build: nothing that an earlier one has left beside it."""
    target.mkdir()
    for name in SOURCES:
        shutil.copyfile(ROOT / name, target / name)
    for name in TREES:
        shutil.copytree(ROOT / name, target / name, ignore=LEFT_OUT)


def run(*command: str | Path) -> None:
    """Run a tool of this interpreter's; one that fails says why, and ends all."""
    print("python -m", *command, flush=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout)


def build(sources: Path, target: Path) -> tuple[Path, Path, Path]:
    """Make the sdist, and of that the wheel; both, and the unpacked sdist."""
    run("build", "--sdist", "--outdir", target, sources)
    (sdist,) = target.glob("*.tar.gz")
    repack(sdist)
    unpacked = unpack(sdist, target / "unpacked")
    run("build", "--wheel", "--outdir", target, unpacked)
    (wheel,) = target.glob("*.whl")
    return sdist, wheel, unpacked


def repack(sdist: Path) -> None:
    """Pack it anew, so that it depends on nothing but its files' names, contents and whether they can be run."""
    packed = io.BytesIO()
    with tarfile.open(sdist) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda member: member.name):
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, int(EPOCH)
            plain.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            new.addfile(plain, old.extractfile(member) if member.isfile() else None)
    sdist.write_bytes(gzip.compress(packed.getvalue(), mtime=int(EPOCH)))


def unpack(sdist: Path, target: Path) -> Path:
    """Unpack an sdist; the one directory that is in it."""
    with tarfile.open(sdist) as archive:
        archive.extractall(target, filter="data")
    (directory,) = target.iterdir()
    return directory


def missing(sources: Path, unpacked: Path) -> list[str]:
    """The sources that did not get into the sdist."""
    files = (path.relative_to(sources) for path in sources.rglob("*") if path.is_file())
    return sorted(str(file) for file in files if not (unpacked / file).exists())


def main(arguments: list[str]) -> None:
    """Build, compare, check, and put the files where they are wanted."""
    target = Path(arguments[0] if arguments else ROOT / "dist")
    with tempfile.TemporaryDirectory(prefix="allenhark-ws-dist-") as name:
        sources, first, second = (Path(name, part) for part in ("sources", "first", "second"))
        copy_sources(sources)
        sdist, wheel, unpacked = build(sources, first)
        left_out = missing(sources, unpacked)
        if left_out:
            sys.exit(f"not in the sdist: {', '.join(left_out)}")
        for one, again in zip((sdist, wheel), build(unpacked, second), strict=False):
            if one.read_bytes() != again.read_bytes():
                sys.exit(f"{one.name} was not the same when it was built again")
        run("twine", "check", "--strict", sdist, wheel)
        run("check_wheel_contents", wheel)
        target.mkdir(parents=True, exist_ok=True)
        print("reproducible:", *(shutil.copy(file, target) for file in (sdist, wheel)))


if __name__ == "__main__":
    main(sys.argv[1:])
