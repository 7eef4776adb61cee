"""Cells that are run again: what a variable of the notebook held is closed when it holds another of its kind.

In plain Python that happens by itself: a client that nobody holds is collected, and its connection ends.  IPython,
though, keeps the value of every cell (``Out``, ``_``, ``_3``…) and the last traceback, frames and all; so a client that
was displayed once, or whose loop was interrupted, would live on behind the new one's back.  Hence a look at the user's
variables after every cell, and one level into lists, tuples, sets and dictionaries, registered with the first client,
in IPython alone, in a terminal as in Jupyter.

An object of the user's own that has a client, and a method of its own among the client's callbacks, is a circle: nobody
holds it once its variable is assigned anew, but only Python's collector finds that out, and not soon.  Hence a
collection after a cell that made a client while another one is open that no variable has; of what is kept anywhere,
collecting takes nothing.

Neighbours: `client` asks for it; `_watch` ends tables by itself.  It must never close what a variable still holds.
"""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final, cast

from attrs import define, field

from .._hints import Later
from ..state import State
from ..streams import Stream
from ._watch import Watch

if TYPE_CHECKING:
    import allenhark_ws
else:
    allenhark_ws = Later("allenhark_ws")

__all__ = ["CellMinder", "mind_cells"]

_logger = logging.getLogger("allenhark_ws")

_MAX_INSIDE: Final = 1_000
"""Values in a container that is looked into after every cell; nobody has more clients, and some have a lot of data."""


def mind_cells(
    made: allenhark_ws.Client, client: type[allenhark_ws.Client], subscription: type[allenhark_ws.Subscription]
) -> None:
    """From now on close what cells replace, if this is IPython; called with every client.

    Args:
        made: a client that was made just now.
        client: the class of clients.
        subscription: the class of their subscriptions.
    """
    from IPython import get_ipython  # noqa: PLC0415 - loaded already, or nobody would ask

    shell = get_ipython()
    if shell is None:
        return
    registered = shell.events.callbacks["post_run_cell"]
    owners = (getattr(callback, "__self__", None) for callback in registered)
    minder = next((owner for owner in owners if isinstance(owner, CellMinder)), None)
    if minder is None:
        minder = CellMinder(shell, client, subscription)
        shell.events.register("post_run_cell", minder.after_cell)
    minder.note(made)


@define(eq=False)
class CellMinder:
    """Remembers which of the user's variables hold something of ours, itself or in a container, and every client.

    It holds that weakly, except subscriptions, as long as a variable does: they stay in force when they are dropped, so
    that a cell run again would leave two where there was one.

    Args:
        shell: IPython's; its namespace holds the variables, and knows which of the names are its own.
        client: the class of clients.
        subscription: the class of their subscriptions.
    """

    _shell: Any
    _client: type[allenhark_ws.Client]
    _subscription: type[allenhark_ws.Subscription]
    _held: dict[str, list[Callable[[], Any]]] = field(factory=dict[str, list[Callable[[], Any]]], init=False)
    _made: list[weakref.ref[allenhark_ws.Client]] = field(factory=list["weakref.ref[allenhark_ws.Client]"], init=False)
    _clients: list[weakref.ref[allenhark_ws.Client]] = field(
        factory=list["weakref.ref[allenhark_ws.Client]"], init=False
    )

    def note(self, client: allenhark_ws.Client) -> None:
        """A client was made, on any thread."""
        self._made.append(weakref.ref(client))

    def after_cell(self, _result: object = None) -> None:
        """Close what the cell replaced by another of its kind, and have ended what nobody holds any more."""
        names = self._names()
        self._close_replaced(names)
        if self._has_made_clients() and self._is_any_astray(names):
            gc.collect()

    def _close_replaced(self, names: Mapping[str, Any]) -> None:
        """Close what was replaced by another of its kind, unless another variable still has it."""
        found = {name: ours for name, value in names.items() if (ours := self._ours(value))}
        before = self._held
        self._held = {name: [self._reference(each) for each in ours] for name, ours in found.items()}
        for name, references in before.items():
            old = [each for each in (reference() for reference in references) if each is not None]
            for each in self._replaced(old, self._ours(names.get(name))):
                if not _has(names, each):
                    self._close(name, each, names)

    def _has_made_clients(self) -> bool:
        """Whether there are clients that were not there after the cell before."""
        made = len(self._made)  # more may come meanwhile, from other threads
        self._clients = [each for each in (*self._clients, *self._made[:made]) if each() is not None]
        del self._made[:made]
        return made > 0

    def _is_any_astray(self, names: Mapping[str, Any]) -> bool:
        """Whether a client is under way that no variable has; it is not held here when this returns."""
        clients = (each() for each in self._clients)
        return any(each is not None and _is_under_way(each) and not _has(names, each) for each in clients)

    def _names(self) -> Mapping[str, Any]:
        """The user's variables, without those that IPython made for the values of cells."""
        hidden = self._shell.user_ns_hidden
        return {name: v for name, v in self._shell.user_ns.items() if v is not hidden.get(name, _names_nothing)}

    def _ours(self, value: object) -> list[Any]:
        """What a variable's value is or has of the kinds that end."""
        inside = _inside(value)
        found = [value, *list(inside)] if len(inside) <= _MAX_INSIDE else [value]
        return [each for each in found if self._kind(each) is not None]

    def _kind(self, value: object) -> type | None:
        """Which of the kinds that end; None for anything else."""
        kinds = (self._client, self._subscription, Stream, Watch)
        # Not isinstance: it would ask the value, which may be a proxy that raises.
        return next((kind for kind in kinds if issubclass(type(value), kind)), None)

    def _reference(self, value: Any) -> Callable[[], Any]:
        return (lambda: value) if isinstance(value, self._subscription) else weakref.ref(value)

    def _replaced(self, old: list[Any], new: list[Any]) -> list[Any]:
        """What is there no more, while others of its kind have come."""
        come = {self._kind(each) for each in new if not _is_among(each, old)}
        return [each for each in old if self._kind(each) in come and not _is_among(each, new)]

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
        if not any(each is old.client or self._is_handle_of(each, old.client) for each in _values(names)):
            old.client.close()

    def _is_handle_of(self, value: Any, client: allenhark_ws.Client) -> bool:
        return self._kind(value) not in (None, self._client) and value.client is client


_names_nothing = object()
"""No variable's value."""


def _values(names: Mapping[str, Any]) -> Iterator[Any]:
    """The values of variables, and what these hold themselves: elements, and attributes whatever they are kept in."""
    for value in names.values():
        yield value
        # Functions and modules hold the namespace, and that IPython's own names; what ours hold is no user's doing.
        if issubclass(type(value), (FunctionType, ModuleType, type)) or _is_ours(value):
            continue
        for each in gc.get_referents(value):
            yield each
            if type(each) is dict:  # of the attributes
                yield from list(cast("dict[object, Any]", each).values())


def _is_under_way(client: allenhark_ws.Client) -> bool:
    return client.state not in (State.IDLE, State.CLOSED)


def _is_ours(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == __name__.partition(".")[0]


def _inside(value: object) -> Collection[Any]:
    """What a list, tuple, set or dictionary holds; nothing for anything else."""
    if issubclass(type(value), dict):
        return dict[object, Any].values(cast("dict[object, Any]", value))
    return cast("Collection[Any]", value) if issubclass(type(value), (list, tuple, set, frozenset)) else ()


def _has(names: Mapping[str, Any], wanted: object) -> bool:
    return _is_among(wanted, _values(names))


def _is_among(wanted: object, values: Iterable[Any]) -> bool:
    return any(each is wanted for each in values)
