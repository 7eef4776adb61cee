"""Who gets an event: tables from event class and channel to targets, flat in the number of keys.

A lookup is one dictionary access by class and, where channels are registered for that class, one by key.  Writers hold a
lock and replace whole tuples; a reader needs none.  Neighbours: `_router` keeps one table for callbacks and one for queues.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable
from typing import Final, Generic, TypeVar, Union

from attrs import define, field, frozen

from . import events
from .channels import Bot, Channel, Price, Transactions
from .events import BotUpdate, Event, PriceUpdate, TransactionConfirmed

__all__ = ["Kind", "RouteTable", "check_kind", "key_of"]

T = TypeVar("T")
Kind = Union[type[Event], Channel]

_CONCRETE: Final = tuple(
    cls
    for cls in (getattr(events, name) for name in events.__all__)
    if isinstance(cls, type) and issubclass(cls, Event) and not cls.__subclasses__()
)


def _mint(event: Event) -> str | None:
    return event.mint if isinstance(event, PriceUpdate) else None


def _bot(event: Event) -> str | None:
    return event.bot_id if isinstance(event, BotUpdate) else None


def _wallet(event: Event) -> str | None:
    channel = event.channel if isinstance(event, TransactionConfirmed) else None
    return None if channel is None else channel.wallet


_KEYS: Final[dict[type[Event], Callable[[Event], "str | None"]]] = {
    PriceUpdate: _mint,
    BotUpdate: _bot,
    TransactionConfirmed: _wallet,
}


def check_kind(kind: object) -> Kind:
    """The kind, if it is one: an event class or a channel.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(kind, type) and issubclass(kind, Event):
        return kind
    if isinstance(kind, (Bot, Price, Transactions)):
        return kind
    what = f"the class {kind.__name__}" if isinstance(kind, type) else type(kind).__name__
    raise TypeError(f"expected an event class such as PriceUpdate or a channel such as Price(mint), got {what}")


def key_of(channel: Channel) -> tuple[type[Event], str]:
    """The event class that a channel's events have, and the key they carry."""
    if isinstance(channel, Price):
        return PriceUpdate, channel.mint
    if isinstance(channel, Bot):
        return BotUpdate, channel.bot_id
    if isinstance(channel, Transactions):
        return TransactionConfirmed, channel.wallet
    raise TypeError(f"expected Bot(…), Price(…) or Transactions(…), got {type(channel).__name__}")


@frozen(eq=False)
class _Entry(Generic[T]):
    """One registration; `number` keeps the order in which they were made."""

    number: int
    target: T


def _merge(*groups: Iterable[_Entry[T]]) -> tuple[T, ...]:
    """The targets in order of registration, each once."""
    targets: list[T] = []
    for entry in sorted({e.number: e for group in groups for e in group}.values(), key=lambda e: e.number):
        if entry.target not in targets:
            targets.append(entry.target)
    return tuple(targets)


@define(eq=False)
class _Route(Generic[T]):
    """The targets of one concrete event class."""

    general: dict[int, _Entry[T]] = field(factory=dict)
    keyed: dict[str, dict[int, _Entry[T]]] = field(factory=dict)
    for_all: tuple[T, ...] = ()
    for_key: dict[str, tuple[T, ...]] = field(factory=dict)
    for_unknown_key: tuple[T, ...] | None = None

    def rebuild(self, key: str | None) -> None:
        """Bring the merged tuples up to date: of one key, or of all when the general targets changed."""
        self.for_unknown_key = None
        if key is None:
            self.for_all = _merge(self.general.values())
        for each in list(self.keyed) if key is None else [key]:
            entries = self.keyed[each]
            if entries:
                self.for_key[each] = _merge(self.general.values(), entries.values())
            else:
                del self.keyed[each]
                self.for_key.pop(each, None)

    def everyone(self) -> tuple[T, ...]:
        """All targets, for an event that belongs to an unknown one of the keys."""
        found = self.for_unknown_key
        if found is None:
            found = _merge(self.general.values(), *[entries.values() for entries in list(self.keyed.values())])
            self.for_unknown_key = found
        return found


@define(eq=False)
class RouteTable(Generic[T]):
    """Registrations of targets for event classes and channels."""

    _lock: threading.Lock = field(factory=threading.Lock)
    _routes: dict[type[Event], _Route[T]] = field(factory=lambda: {cls: _Route() for cls in _CONCRETE})
    _registered: dict[Hashable, tuple[tuple[Kind, ...], _Entry[T]]] = field(factory=dict)
    _numbers: int = 0

    def __bool__(self) -> bool:
        return bool(self._registered)

    def match(self, event: Event) -> tuple[T, ...]:
        """The targets of this event, in order of registration, each once."""
        cls = type(event)
        route = self._routes.get(cls)
        if route is None:
            return ()
        if not route.for_key:
            return route.for_all
        key = _KEYS[cls](event)
        if key is None:
            with self._lock:
                return route.everyone()
        return route.for_key.get(key, route.for_all)

    def add(self, token: Hashable, kinds: Iterable[Kind], target: T) -> None:
        """Register a target for several kinds under one token."""
        chosen = tuple(dict.fromkeys(kinds))
        with self._lock:
            self._numbers += 1
            entry = _Entry(self._numbers, target)
            self._registered[token] = (chosen, entry)
            for route, key in self._places(chosen):
                entries = route.general if key is None else route.keyed.setdefault(key, {})
                entries[entry.number] = entry
                route.rebuild(key)

    def remove(self, token: Hashable) -> None:
        """Undo a registration; nothing when it is undone already."""
        with self._lock:
            found = self._registered.pop(token, None)
            if found is None:
                return
            kinds, entry = found
            for route, key in self._places(kinds):
                entries = route.general if key is None else route.keyed[key]
                del entries[entry.number]
                route.rebuild(key)

    def tokens_of(self, target: T) -> list[Hashable]:
        """The tokens under which a target, or an equal one, is registered."""
        with self._lock:
            return [token for token, (_, entry) in self._registered.items() if entry.target == target]

    def targets(self) -> list[T]:
        """All registered targets."""
        with self._lock:
            return [entry.target for _, entry in self._registered.values()]

    def _places(self, kinds: tuple[Kind, ...]) -> list[tuple[_Route[T], str | None]]:
        places: dict[tuple[type[Event], str | None], None] = {}
        for kind in kinds:
            if isinstance(kind, Channel):
                places[key_of(kind)] = None
            else:
                places.update({(cls, None): None for cls in _CONCRETE if issubclass(cls, kind)})
        return [(self._routes[cls], key) for cls, key in places]
