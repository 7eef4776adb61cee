"""Random faults: which, where, how bad and how long, all drawn from one seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING, Any, Final, get_args

from attrs import frozen

from allenhark_ws.testing._proxy import Direction

if TYPE_CHECKING:
    from .rig import Rig

__all__ = ["Spell", "forecast"]

_CLOSE_CODES: Final = (None, 1000, 1001, 1011, 1012, 1013, 4000)
"""Codes after which a client comes back; not those that mean the key."""
_DIRECTIONS: Final[tuple[Direction, ...]] = get_args(Direction)

Strike = Callable[["Rig"], Any]


@frozen
class Spell:
    """One stretch of bad weather.

    Attributes:
        name: its faults, in words.
        strikes: bring them about.
        seconds: how long it lasts before all is healed.
        calm: seconds of good weather behind it.
    """

    name: str
    strikes: tuple[Strike, ...]
    seconds: float
    calm: float


def _latency(dice: Random) -> Strike:
    seconds, direction = dice.uniform(0.001, 0.3), dice.choice(_DIRECTIONS)
    return lambda rig: rig.proxy.latency(seconds, direction)


def _throttle(dice: Random) -> Strike:
    rate, direction = dice.uniform(1_000, 50_000), dice.choice(_DIRECTIONS)
    return lambda rig: rig.proxy.throttle(rate, direction)


def _drip(dice: Random) -> Strike:
    seconds, direction = dice.uniform(0.0, 0.005), dice.choice(_DIRECTIONS)
    return lambda rig: rig.proxy.drip(seconds, direction)


def _cut(dice: Random) -> Strike:
    after, direction = dice.randrange(1_000), dice.choice(_DIRECTIONS)
    return lambda rig: rig.proxy.cut(after, direction)


def _corrupt(dice: Random) -> Strike:
    offset, direction = dice.randrange(1_000), dice.choice(_DIRECTIONS)
    return lambda rig: rig.proxy.corrupt(offset, direction)


def _blackhole(dice: Random) -> Strike:
    direction = dice.choice(_DIRECTIONS)
    return lambda rig: rig.proxy.blackhole(direction=direction)


def _stall(dice: Random) -> Strike:
    direction = dice.choice(_DIRECTIONS)
    return lambda rig: rig.proxy.stall(direction=direction)


def _close(dice: Random) -> Strike:
    code = dice.choice(_CLOSE_CODES)
    return lambda rig: rig.simulator.close(code, "" if code is None else "soaked")


def _refuse(_dice: Random) -> Strike:
    def strike(rig: Rig) -> None:
        rig.proxy.refuse()
        rig.proxy.rst()

    return strike


def _hang(_dice: Random) -> Strike:
    def strike(rig: Rig) -> None:
        rig.proxy.hang_on_accept()
        rig.proxy.fin()

    return strike


_KINDS: Final[dict[str, Callable[[Random], Strike]]] = {
    "latency": _latency,
    "throttle": _throttle,
    "drip": _drip,
    "cut": _cut,
    "corrupt": _corrupt,
    "blackhole": _blackhole,
    "stall": _stall,
    "rst": lambda _dice: lambda rig: rig.proxy.rst(),
    "fin": lambda _dice: lambda rig: rig.proxy.fin(),
    "refuse": _refuse,
    "hang on accept": _hang,
    "close frame": _close,
    "server reset": lambda _dice: lambda rig: rig.simulator.reset(),
    "reconnect()": lambda _dice: lambda rig: rig.client.reconnect(),
}


def forecast(seed: int) -> Iterator[Spell]:
    """Spells without end, the same for the same seed; one in three has two faults at a time."""
    dice = Random(seed)  # noqa: S311 - weather, not a secret
    while True:
        names = dice.sample(sorted(_KINDS), 2 if dice.random() < 1 / 3 else 1)
        strikes = tuple(_KINDS[name](dice) for name in names)
        yield Spell(" and ".join(names), strikes, dice.uniform(0.0, 1.5), dice.uniform(0.0, 0.5))
