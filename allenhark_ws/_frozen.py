"""A read-only, hashable mapping for JSON objects whose shape nobody documented.

Neighbours: `events` holds it in `BotUpdate.data`, `_codec` fills it.  It must never hand out anything mutable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

__all__ = ["FrozenMapping", "freeze"]


class FrozenMapping(Mapping[str, Any]):
    """A mapping that cannot be changed, all the way down: nested objects are frozen too, arrays become tuples.

    It compares equal to a `dict` of the same items, and can be hashed, copied and pickled.
    """

    __slots__ = ("_items",)

    _items: dict[str, Any]

    def __init__(self, items: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_items", {key: freeze(value) for key, value in items.items()})

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        """Equal to any mapping of the same items; their arrays may be lists, as JSON gives them."""
        if not isinstance(other, Mapping):
            return NotImplemented
        items = cast("Mapping[str, Any]", other)
        frozen = items if isinstance(items, FrozenMapping) else FrozenMapping(items)
        return self._items == frozen._items

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is read-only; make a dict of it to change {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is read-only; make a dict of it to remove {name!r}")

    def __reduce__(self) -> tuple[type[FrozenMapping], tuple[dict[str, Any]]]:
        return FrozenMapping, (self._items,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._items!r})"


def freeze(value: Any) -> Any:
    """The read-only twin of a JSON value: objects become `FrozenMapping`, arrays tuples, the rest stays as it is."""
    if isinstance(value, FrozenMapping):
        return value
    if isinstance(value, Mapping):
        return FrozenMapping(cast("Mapping[str, Any]", value))
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in cast("Sequence[Any]", value))
    return value
