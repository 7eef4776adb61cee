"""Who gets an event: tables from event class and channel to targets, flat in the number of keys.

A lookup is one dictionary access by class and at most two by key.  Targets are merged once after an edit, when they are
first asked for; until the next edit a reader needs no lock.  Only registered keys are ever remembered, so the tables do
not grow with what a server sends.  Neighbours: `_router` keeps one table for callbacks and one for queues.  It must
never remember a key that only a server has named.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from types import BuiltinMethodType, MethodType, MethodWrapperType
from typing import Any, Final, Generic, TypeGuard, TypeVar, cast

from attrs import define, field, frozen

from . import events
from .channels import Bot, Channel, Price, Transactions
from .config import does_nothing_yet
from .events import BotUpdate, DataEvent, Event, PriceUpdate, TransactionConfirmed

__all__ = [
    "ANY_OTHER",
    "CHANNELS",
    "Kind",
    "RouteTable",
    "check_callable",
    "check_callback",
    "check_kind",
    "event_key",
    "identity",
    "is_channel",
    "key_of",
]

T = TypeVar("T")
Kind = type[Event] | Channel

_CLASSES: Final = tuple(cls for cls in vars(events).values() if isinstance(cls, type) and issubclass(cls, Event))
_CONCRETE: Final = tuple(cls for cls in _CLASSES if sum(issubclass(other, cls) for other in _CLASSES) == 1)
"""Those of `events` without subclasses there: the twins of `_twins` are no events of their own."""


CHANNELS: Final[dict[type[Channel], tuple[type[DataEvent], Callable[[Any], str]]]] = {
    Price: (PriceUpdate, attrgetter("mint")),
    Bot: (BotUpdate, attrgetter("bot_id")),
    Transactions: (TransactionConfirmed, attrgetter("wallet")),
}
"""Of each channel: the class of the events that it brings, and what gives its id, the key that they carry.

How the wire spells a channel stands in `_spelling`.
"""


def _mint(event: Event) -> str | None:
    return event.mint if isinstance(event, PriceUpdate) else None


def _bot(event: Event) -> str | None:
    return event.bot_id if isinstance(event, BotUpdate) else None


def _wallet(event: Event) -> str | None:
    channel = event.channel if isinstance(event, TransactionConfirmed) else None
    return None if channel is None else channel.wallet


_KEYS: Final[dict[type[Event], Callable[[Event], str | None]]] = {
    PriceUpdate: _mint,
    BotUpdate: _bot,
    TransactionConfirmed: _wallet,
}
"""Of each class of events that channels bring: what gives the key of one."""


def event_key(event: Event) -> str | None:
    """The key by which the event's channel is found: mint, bot id or wallet; None when it has none or is unknown."""
    key = _KEYS.get(type(event))
    return None if key is None else key(event)


def is_channel(value: object) -> TypeGuard[Channel]:
    """Whether it can be subscribed to.

    `Channel` itself, the base of those that can, is none; nor is one of a user's subclass, which would equal no other
    of the same id: the server would be told twice of what it knows once.
    """
    return type(value) in CHANNELS


def check_kind(kind: object) -> Kind:
    """The kind, if it is one: an event class or a channel.

    Raises:
        TypeError: it is neither; or a user's subclass of an event class, which no event would ever be of.
    """
    if is_channel(kind):
        return kind
    if isinstance(kind, type) and issubclass(kind, Event):
        # A list: Ctrl-C while a generator is closed, as `any` leaves one behind, is lost.
        if [cls for cls in _CONCRETE if issubclass(cls, kind)]:
            return kind
        base = next(filter(_CLASSES.__contains__, kind.__mro__))
        raise TypeError(f"no event is ever of the class {kind.__name__}: pass {base.__name__}, which it derives from")
    what = f"the class {kind.__name__}" if isinstance(kind, type) else type(kind).__name__
    raise TypeError(f"expected an event class such as PriceUpdate or a channel such as Price(mint), got {what}")


def check_callable(callback: object) -> None:
    """Raise TypeError for what is no callable."""
    if not callable(callback):
        raise TypeError(f"a callback must be callable with one event, got {type(callback).__name__}")


def check_callback(callback: object) -> None:
    """Refuse what cannot be called back.

    Raises:
        TypeError: it is no callable, or an async function or a generator, which a call does not run.
    """
    check_callable(callback)
    if does_nothing_yet(cast("Callable[..., object]", callback)):
        raise TypeError("a callback must be a plain function: a call does not run an async one, or a generator")


def key_of(channel: Channel) -> tuple[type[Event], str]:
    """The event class that a channel's events have, and the key they carry."""
    found = CHANNELS.get(type(channel))
    if found is None:
        raise TypeError(f"expected Bot(…), Price(…) or Transactions(…), got {type(channel).__name__}")
    brought, key = found
    return brought, key(channel)


_METHODS: Final = (MethodType, BuiltinMethodType, MethodWrapperType)


def identity(target: object) -> Hashable:
    """What makes two targets the same: being one object, or methods of one object.

    Each ``handler.method`` is a new object, equal to the others.  No other `==` is asked: it is the user's code, and
    two handlers that happen to be equal are two nevertheless.
    """
    return target if type(target) in _METHODS else id(target)


@frozen(eq=False)
class _Entry(Generic[T]):
    """One registration; `number` keeps the order in which they were made."""

    number: int
    target: T
    identity: Hashable


def _merge(*groups: Iterable[_Entry[T]]) -> tuple[T, ...]:
    """The targets in order of registration, each once."""
    targets: dict[Hashable, T] = {}
    for entry in sorted((entry for group in groups for entry in group), key=lambda entry: entry.number):
        targets.setdefault(entry.identity, entry.target)
    return tuple(targets.values())


_Registered = dict[Hashable, tuple[dict[Kind, None], _Entry[T]]]
"""By token: the kinds that are left of what was registered, and the entry that stands for it in the routes."""

_Tokens = dict[Hashable, dict[Hashable, None]]
"""By identity of the target: the tokens, of which there is at least one."""


def _by_identity(registered: _Registered[T]) -> _Tokens:
    tokens: _Tokens = {}
    for token, (_, entry) in registered.items():
        tokens.setdefault(entry.identity, {})[token] = None
    return tokens


ANY_OTHER: Final = ""
"""The cache's key for events with a key that nobody registered; no channel has a blank id."""


@define(eq=False)
class _Route(Generic[T]):
    """The targets of one concrete event class: those for all its events, and those for some keys; and what was merged.

    Attributes:
        merged: the merged targets by key; None stands for an unknown one.  An edit replaces the whole mapping, so that
            what is being merged at that moment goes into the old one.
    """

    general: dict[int, _Entry[T]] = field(factory=dict[int, _Entry[T]])
    keyed: dict[str, dict[int, _Entry[T]]] = field(factory=dict[str, dict[int, _Entry[T]]])
    merged: dict[str | None, tuple[T, ...]] = field(factory=dict[str | None, tuple[T, ...]])

    def insert(self, key: str | None, entry: _Entry[T]) -> None:
        """Add an entry for one key, None for all."""
        if key is None:
            self.general[entry.number] = entry
        else:
            entries = self.keyed.setdefault(key, {})
            entries[entry.number] = entry
            self.keyed[key] = entries  # again: a finalizer may have taken out the only other one meanwhile
        self.merged = {}

    def discard(self, key: str | None, entry: _Entry[T]) -> None:
        """Remove an entry that was inserted with this key; nothing where it is not."""
        entries = self.general if key is None else self.keyed.get(key, {})
        entries.pop(entry.number, None)
        if key is not None and not entries:
            self.keyed.pop(key, None)
        self.merged = {}

    def merge(self, key: str | None) -> tuple[T, ...]:
        """Find the targets of a key, and remember them for the next time."""
        merged = self.merged
        groups = [self.general]
        if key is None:
            groups += list(self.keyed.values())
        elif key != ANY_OTHER:
            groups.append(self.keyed.get(key, {}))
        found = _merge(*[list(group.values()) for group in groups])
        merged[key] = found
        return found


@define(eq=False)
class RouteTable(Generic[T]):
    """Registrations of targets for event classes and channels.

    Ctrl-C may cut off any edit, at any line: what is registered can always be removed, and a removal be made again.
    The tokens of each target are kept, too, from the first time they are asked for; an edit that is cut off throws them
    away, so that they are made anew.
    """

    # Reentrant: the collector may run a finalizer in here that closes a subscription.
    _lock: threading.RLock = field(factory=threading.RLock)
    _routes: dict[type[Event], _Route[T]] = field(factory=lambda: {cls: _Route() for cls in _CONCRETE})
    _registered: _Registered[T] = field(factory=dict[Hashable, tuple[dict[Kind, None], _Entry[T]]])
    # The same by identity; None before it is first asked for, and after an edit that was cut off.
    _tokens: _Tokens | None = None
    _numbers: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is registered."""
        return not self._registered

    def knows(self, cls: type[Event], key: str) -> bool:
        """Whether something is registered for this very key."""
        route = self._routes.get(cls)
        return route is not None and key in route.keyed

    def match(self, event: Event) -> tuple[T, ...]:
        """The targets of this event, in order of registration, each once."""
        return self.find(type(event), event_key(event))

    def find(self, cls: type[Event], key: str | None) -> tuple[T, ...]:
        """The targets of an event of this class and `event_key`."""
        route = self._routes.get(cls)
        if route is None:
            return ()
        if key is not None and key not in route.keyed:
            key = ANY_OTHER
        found = route.merged.get(key)
        if found is not None:
            return found
        with self._lock:
            return route.merge(key)

    def add(self, token: Hashable, kinds: Iterable[Kind], target: T) -> None:
        """Register a target for several kinds under one new token."""
        self._edit(partial(self._add, token, dict.fromkeys(kinds), target))

    def remove(self, token: Hashable) -> None:
        """Undo a registration; nothing when it is undone already."""
        self._edit(partial(self._remove, token))

    def narrow(self, token: Hashable, channels: Iterable[Channel]) -> None:
        """Take channels out of a registration, and undo it when nothing of it is left."""
        self._edit(partial(self._narrow, token, channels))

    def _edit(self, edit: Callable[[], None]) -> None:
        with self._lock:
            try:
                edit()
            except BaseException:  # Ctrl-C
                self._tokens = None
                raise

    def _add(self, token: Hashable, kinds: dict[Kind, None], target: T) -> None:
        self._numbers += 1
        entry = _Entry(self._numbers, target, identity(target))
        self._registered[token] = (kinds, entry)
        tokens = self._tokens
        if tokens is not None:
            theirs = tokens.setdefault(entry.identity, {})
            theirs[token] = None
            tokens[entry.identity] = theirs  # again: as in `_Route.insert`
        for route, key in self._places(list(kinds)):
            route.insert(key, entry)

    def _remove(self, token: Hashable) -> None:
        found = self._registered.get(token)
        if found is not None:
            kinds, entry = found
            for route, key in self._places(list(kinds)):
                route.discard(key, entry)
            self._registered.pop(token, None)
            tokens = self._tokens
            if tokens is not None:
                theirs = tokens.get(entry.identity, {})
                theirs.pop(token, None)
                if not theirs:
                    tokens.pop(entry.identity, None)

    def _narrow(self, token: Hashable, channels: Iterable[Channel]) -> None:
        found = self._registered.get(token)
        if found is not None:
            kinds, entry = found
            gone = [channel for channel in channels if channel in kinds]
            for route, key in self._places(gone):
                route.discard(key, entry)
            for channel in gone:
                kinds.pop(channel, None)
            if not kinds:
                self._remove(token)

    def tokens_of(self, target: T) -> list[Hashable]:
        """The tokens under which a target is registered."""
        wanted = identity(target)
        with self._lock:
            tokens = self._tokens
            if tokens is None:
                registered = self._registered.copy()  # a finalizer, or a signal handler, may edit it meanwhile
                tokens = _by_identity(registered)
                if registered.keys() == self._registered.keys():  # nobody did
                    self._tokens = tokens
            return list(tokens.get(wanted, ()))

    def targets(self) -> list[T]:
        """All registered targets."""
        with self._lock:
            registered = self._registered.copy()  # likewise
            return [entry.target for _, entry in registered.values()]

    def _places(self, kinds: Sequence[Kind]) -> list[tuple[_Route[T], str | None]]:
        places: dict[tuple[type[Event], str | None], None] = {}
        for kind in kinds:
            if isinstance(kind, Channel):
                places[key_of(kind)] = None
            else:
                places.update({(cls, None): None for cls in _CONCRETE if issubclass(cls, kind)})
        return [(self._routes[cls], key) for cls, key in places]
