"""What a type checker needs to tell events, channels and callbacks apart; nothing here does anything when running.

A *kind* is an event class or a channel: `Client.on`, `Client.stream` and `Client.subscribe` find the class of the
events it brings by one type variable, ``type[E] | Bringing[E]``.  Neighbours: `channels` says in `_event` what each
brings, `client` uses these in its signatures.  It must never hold what runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar, overload

from .events import Event

__all__ = ["E2", "E3", "Accepting", "Binding", "Bringing", "Registering"]

E2 = TypeVar("E2", bound=Event)
E3 = TypeVar("E3", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)
E_contra = TypeVar("E_contra", bound=Event, contravariant=True)
P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Bringing(Protocol[E_co]):
    """A channel, by the class of its events."""

    @property
    def _event(self) -> E_co: ...


# pyright takes any parameters for P when it looks at the variance of E_contra, and then nothing of that is left.
class Accepting(Protocol[E_contra, P, R_co]):  # pyright: ignore[reportInvalidTypeVarUse]
    """A callable of any signature that can be called with just an event of one class."""

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...

    @overload
    def __call__(self, event: E_contra, /) -> object: ...


class Binding(Protocol[E_contra, R_co]):
    """A callable with a default beside the event, ``lambda event, name=name: …``: mypy takes that for no `Callable`."""

    @overload
    def __call__(self, event: E_contra, /) -> R_co: ...

    @overload
    def __call__(self, event: E_contra, bound: Any, /) -> R_co: ...


class Registering(Protocol[E_co]):
    """The decorator that `Client.on` returns: it checks what the function accepts, and keeps its signature.

    A type variable cannot be bound by another one (``F: Callable[[E], object]``), hence `Accepting`.
    """

    def __call__(self, function: Accepting[E_co, P, R], /) -> Callable[P, R]: ...
