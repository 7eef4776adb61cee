"""One contender, once, in a process of its own: what to do comes as JSON, what was found goes out as JSON."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

from ..lowest import pins, read_requirements
from .feed import Feed
from .probes import Count, Probe, Stamps
from .process import command, run

__all__ = ["SPEED", "do", "main", "measure"]

SPEED: Final = tuple(pin.partition("==")[0] for pin in pins(read_requirements()["speed"]))
"""What the extra ``speed`` brings; its modules have the names of their packages."""
_PROBES: Final[Mapping[str, Callable[[int], Probe]]] = {"count": Count, "stamps": Stamps}


class _Bare:
    """A finder of modules for which the extra ``speed`` is not there, so that no second environment is needed."""

    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Refuse what a bare install lacks, leave the rest to others."""
        if name.partition(".")[0] in SPEED:
            raise ModuleNotFoundError(f"{name} is not there: this is a bare install", name=name)
        return None


def measure(feed: Feed, contender: str, url: str, *, bare: bool = False, **options: Any) -> Mapping[str, Any]:
    """Run a contender, ``module:function``, against the feed; what it found."""
    job = json.dumps({"run": contender, "url": url, "bare": bare, "options": options})
    return run(command("worker", job), feed.authority)


def do(contender: str, url: str, **options: Any) -> Mapping[str, Any]:
    """Run a contender in this very process; what it found."""
    module, _, function = contender.partition(":")
    run_it = getattr(importlib.import_module(f".{module}", __package__), function)
    if "probe" not in options:
        found: Mapping[str, Any] = run_it(url, **options)
        return found
    probe = _PROBES[options.pop("probe")](options.pop("messages"))
    run_it(url, probe, **options)
    return probe.result()


def main() -> None:
    """Do the job that is the only argument."""
    job = json.loads(sys.argv[1])
    if job["bare"]:
        sys.meta_path.insert(0, _Bare)
    found = do(job["run"], job["url"], **job["options"])
    loaded = [name for name in SPEED if name in sys.modules]
    sys.stdout.write(f"{json.dumps({**found, 'speed': loaded})}\n")
