"""Cells that are run again: what a variable of the notebook held is closed when it holds another of its kind.

In plain Python that happens by itself: a client that nobody holds is collected, and its connection ends.  IPython,
though, keeps the value of every cell (``Out``, ``_``, ``_3``…) and the last traceback, frames and all; so a client that
was displayed once, or whose loop was interrupted, would live on behind the new one's back.  Hence a look at the user's
variables after every cell, registered with the first client, in IPython alone, in a terminal as in Jupyter.

Neighbours: `client` asks for it; `_watch` ends tables by itself.  It must never close what a variable still holds.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field

from ..streams import Stream
from ._watch import Watch

if TYPE_CHECKING:
    from ..client import Client

__all__ = ["CellMinder", "mind_cells"]

_logger = logging.getLogger("allenhark_ws")


def mind_cells(client: type[Client]) -> None:
    """From now on close what cells replace, if this is IPython; once is enough.

    Args:
        client: the class of clients.
    """
    from IPython import get_ipython  # noqa: PLC0415 - loaded already, or nobody would ask

    shell = get_ipython()
    if shell is None:
        return
    registered = shell.events.callbacks["post_run_cell"]
    if not any(isinstance(getattr(callback, "__self__", None), CellMinder) for callback in registered):
        shell.events.register("post_run_cell", CellMinder(shell, client).after_cell)


@define(eq=False)
class CellMinder:
    """Remembers, weakly, which of the user's variables hold something of ours.

    Args:
        shell: IPython's; its namespace holds the variables, and knows which of the names are its own.
        client: the class of clients.
    """

    _shell: Any
    _client: type[Client]
    _held: dict[str, weakref.ref[Any]] = field(factory=dict[str, weakref.ref[Any]], init=False)

    def after_cell(self, _result: object = None) -> None:
        """Close what the cell replaced, unless another variable still has it."""
        names = self._names()
        before = self._held
        self._held = {name: weakref.ref(value) for name, value in names.items() if self._kind(value) is not None}
        for name, reference in before.items():
            old = reference()
            if old is not None and self._replaced(old, names.get(name)) and not _has(names, old):
                self._close(name, old, names)

    def _names(self) -> Mapping[str, Any]:
        """The user's variables, without those that IPython made for the values of cells."""
        hidden = self._shell.user_ns_hidden
        return {name: v for name, v in self._shell.user_ns.items() if v is not hidden.get(name, _names_nothing)}

    def _kind(self, value: object) -> type | None:
        """Which of the kinds that end when they are dropped; None for anything else."""
        return next((kind for kind in (self._client, Stream, Watch) if isinstance(value, kind)), None)

    def _replaced(self, old: object, new: object) -> bool:
        return new is not old and self._kind(new) is self._kind(old)

    def _close(self, name: str, old: Any, names: Mapping[str, Any]) -> None:
        _logger.info("%s: closed, since the variable %s holds another now", old, name)
        if isinstance(old, self._client):
            old.close()
            return
        if isinstance(old, Watch):
            old.stop()
        else:
            old.close()
        # What only held the connection: `prices = Client().connect().stream(…)`, run again.
        handles: list[Any] = [value for value in names.values() if isinstance(value, (Stream, Watch))]
        if not _has(names, old.client) and not any(handle.client is old.client for handle in handles):
            old.client.close()


_names_nothing = object()
"""No variable's value."""


def _has(names: Mapping[str, Any], wanted: object) -> bool:
    """Whether a variable holds it, or a list, tuple, set or dictionary of a variable's."""
    return any(value is wanted or _contains(value, wanted) for value in names.values())


def _contains(value: object, wanted: object) -> bool:
    if isinstance(value, dict):
        return any(each is wanted for each in cast("dict[object, Any]", value).values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(each is wanted for each in cast("Iterable[Any]", value))
    return False
