"""The fast lanes of the codec: frames of the documented kinds, straight into events.

A lane takes a payload and gives the event, or None for whatever it is not sure of: another kind of message, a value
that is not of its documented type, a spelling off the beaten track.  `_codec` decodes those by the plain way, which
also says what is wrong with them.  A lane must never give an event that the plain way would not; it raises nothing.
What a lane is stands here, and what lanes share; `_dicts` has the one on the standard library, `_structs` the one on
msgspec.  Neighbours: `_codec` asks a lane before the plain way, `_express` reads with one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import repeat
from operator import length_hint
from typing import Any, Final

from attrs import define, frozen

from ._strict import moment
from .channels import Transactions
from .events import DataEvent

__all__ = [
    "BORDER",
    "LARGEST_PAYLOAD",
    "MANY",
    "MAX_DEPTH",
    "MOST_TOGETHER",
    "Incoming",
    "Lane",
    "Make",
    "Moments",
    "Names",
    "Pairs",
    "Reading",
    "as_they_are",
    "is_shallow",
    "joined",
    "parted",
    "undeclared",
]

Make = Callable[[bytes, datetime, "Transactions | None"], "DataEvent | None"]
"""``make(payload, received_at, wallet)``: the arguments of `Codec.decode`."""

MAX_DEPTH: Final = 100
"""Objects and arrays inside each other that a message may have (RFC 8259, section 9 lets a reader set a limit).

What lies deeper could be decoded here and then be neither copied nor pickled by its user, who may stand on a deeper
stack: `deepcopy` needs five calls a level (measured), and Python allows a thousand in all.
"""

_SHORT: Final = 2 * MAX_DEPTH
"""Bytes below which a payload cannot be nested too deeply."""

LARGEST_PAYLOAD: Final = 65_536
"""Bytes of the largest payload for a fast lane, which does not look at how much memory its values take."""

_MAX_MOMENTS: Final = 1024
_LONGEST_MOMENT: Final = 35
"""Characters of ``2024-01-15T10:30:00.123456789+00:00``; what is longer is not worth remembering."""

MANY: Final = 4
"""Payloads from which on it is quicker to read them together."""

BORDER: Final = b",0\n,"
"""What stands between payloads that are read together as one array, which takes three quarters of the time (measured).

It parts them whatever is in them, if no array is.  A line break is no part of a string (RFC 8259, section 7), and a 0
stands for no key of an object: so every border lies between elements of the whole, each payload is one or more of
these, and when their number is right, each is one.
"""

MOST_TOGETHER: Final = 4 * LARGEST_PAYLOAD
"""Bytes of an array that payloads are read in together; one read of the socket completes less, if each fits a lane."""

_TEXTS: Final = frozenset({bytes})
"""The types of payloads that are text."""


def joined(payloads: Sequence[bytes]) -> bytes | None:
    """The payloads as one array, parted by `BORDER`; None when one is no text, or they are too many or too large."""
    if not _TEXTS.issuperset(map(type, payloads)):
        return None
    array = b"[%b]" % BORDER.join(payloads)
    return array if len(array) <= MOST_TOGETHER else None


def parted(elements: list[Any], payloads: Sequence[bytes]) -> list[Any] | None:
    """What each payload is, of what was read of `joined`, if no array was in it; None when one is not one element."""
    return elements[::2] if len(elements) == 2 * len(payloads) - 1 else None


def is_shallow(payload: bytes) -> bool:
    """Whether its size or its brackets tell that nothing in it is nested too deeply; most payloads are short."""
    return len(payload) < _SHORT or payload.count(b"[") + payload.count(b"{") <= MAX_DEPTH


class Moments(dict[str, datetime]):
    """Timestamps read before: a server's clock ticks far slower than its messages come.

    Reading one takes 0.4 µs, finding it here a tenth of that, and the events share it.  ``moments[text]`` raises what
    the reader raises when the text is no timestamp.

    Args:
        read: reads a timestamp; `_strict.moment`, or what gives the same sooner.
    """

    def __init__(self, read: Callable[[Any, Any], datetime] = moment) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, text: str) -> datetime:
        found = self._read(text, None)
        if len(text) <= _LONGEST_MOMENT:
            if len(self) >= _MAX_MOMENTS:
                self.clear()
            self[text] = found
        return found


_MAX_NAMES: Final = 16_384
_LONGEST_NAME: Final = 64
"""Characters; a mint or a wallet has 44."""


class Names(dict[str, str]):
    """Texts that come again and again, each kept once: mints, bot ids, what happened.

    A queued price is 90 bytes lighter for it, and finding its place is faster: the text that was kept knows its hash.
    """

    def __missing__(self, text: str) -> str:
        if len(text) <= _LONGEST_NAME:
            if len(self) >= _MAX_NAMES:
                self.clear()
            self[text] = text
        return text


Pairs = Iterable[tuple[bytes, Any]]
"""Payloads, each beside its message, or its event, or neither."""


@frozen(eq=False)
class Reading:
    """A lane in two halves, for a loop that may do the second itself: a payload becomes a message, that an event.

    The loop makes events of messages that are objects with attributes: `mint`, `price`, `volume`, `timestamp`; or
    `signature`, `status`, `slot`; or `bot_id`, `event`, and `data` with `signature`, `profit`, `timestamp`.  Timestamps
    are texts.  A lane whose messages are something else builds its events itself.

    Attributes:
        read: makes a message of each payload, or something else; raises nothing.
        build: makes events of messages that the loop could not; takes a pair only when the one before is done.
        price: the class of the messages of one kind; likewise `transaction` and `bot`.
        otherwise: makes the events of payloads that have neither a message nor an event.
        moments: timestamps read before.
        names: texts read before.
    """

    read: Callable[[Sequence[bytes]], Iterable[Any]]
    build: Callable[[Pairs, datetime, Transactions | None], Pairs]
    price: type
    transaction: type
    bot: type
    otherwise: Make
    moments: Moments
    names: Names


class _NoMessage:
    """The class of no message."""


def as_they_are(pairs: Pairs, _received_at: datetime, _wallet: Transactions | None) -> Pairs:
    """The `Reading.build` of a lane that leaves that to the loop."""
    return pairs


def _nothing(_payload: bytes, _received_at: datetime, _wallet: Transactions | None) -> None:
    """The `Reading.otherwise` of a lane that has nothing else to try."""


@define(eq=False)
class Incoming:
    """The payloads of one read on their way to consumers, each beside its message; whoever takes one takes both.

    Not frozen, since one is made for every read.

    Attributes:
        payloads: those that nobody took yet.
        pairs: they and their messages.
    """

    payloads: Iterator[bytes]
    pairs: Iterator[tuple[bytes, Any]]

    def __len__(self) -> int:
        """How many nobody took yet."""
        return length_hint(self.payloads)


@frozen(eq=False)
class Lane:
    """A way to make events.

    Attributes:
        make: makes an event, or None.
        reading: the same in two halves.
    """

    make: Make
    reading: Reading

    @classmethod
    def of_events(
        cls,
        make: Make,
        read: Callable[[Sequence[bytes]], Iterable[Any]],
        build: Callable[[Pairs, datetime, Transactions | None], Pairs],
    ) -> Lane:
        """A lane that builds its events itself."""
        return cls(make, Reading(read, build, _NoMessage, _NoMessage, _NoMessage, _nothing, Moments(), Names()))

    @classmethod
    def closed(cls) -> Lane:
        """A lane that nothing passes."""
        return cls.of_events(_nothing, lambda _payloads: repeat(None), as_they_are)

    def incoming(self, payloads: Sequence[bytes]) -> Incoming:
        """The payloads, read, for the hot path."""
        waiting = iter(payloads)
        return Incoming(waiting, zip(waiting, self.reading.read(payloads), strict=False))


def undeclared(data: dict[str, Any]) -> dict[str, Any]:
    """The keys of a trade's data that the vendor's page does not declare."""
    return {key: value for key, value in data.items() if key not in ("signature", "profit", "timestamp")}
