"""What annotations name, and importing must not load: `Later`, a module in waiting, and `Self`.

Annotations are text until somebody evaluates them, as `typing.get_type_hints` does in the globals of their module.  A
name that only the type checker imports is missing there; a `Later` of that name imports its module then.  Neighbours:
every module that names in a signature what it does not use.  It must never be a way round the directions of imports:
nothing but annotations may name a `Later`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

if sys.version_info >= (3, 11):
    from typing import Self
elif TYPE_CHECKING:
    from typing_extensions import Self
else:
    Self = TypeVar("Self")  # an import for programs that evaluate annotations alone would be paid by all

__all__ = ["Later", "Self"]


class Later:
    """A module that is imported when a class of it is asked for.

    A name that is none of a class imports nothing and is not there: tools look for names of their own in whatever they
    meet, as pytest does, and must not load it by that.

    Args:
        name: its full name.

    Example:
        >>> Later("decimal").Decimal
        <class 'decimal.Decimal'>
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if not name[:1].isupper():
            raise AttributeError(name)
        return getattr(import_module(self._name), name)
