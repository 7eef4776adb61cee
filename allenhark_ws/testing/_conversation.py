"""What one client says on one connection, and what the server answers: the vendor's protocol.

The page documents no answer but ``pong``, so nothing else is answered; what the page does not allow is told as a
violation and has no effect.  Neighbours: `_server` feeds frames in and sends the replies, `_journal` keeps the rest.
It must never do I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, cast

from attrs import define, field, frozen

from .. import Bot, Channel, Price, Transactions

__all__ = ["CHANNEL_KEYS", "Conversation", "Heard", "Manners", "error_message", "iso", "to_json"]

CHANNEL_KEYS: Final[Mapping[str, tuple[str, Callable[[str], Channel]]]] = MappingProxyType(
    {"bot": ("botId", Bot), "price": ("mint", Price), "transactions": ("wallet", Transactions)}
)
"""The channel names of the vendor's page, with the key that names the one channel and the class for it."""

_FIELDS: Final = MappingProxyType({"auth": {"type", "apiKey"}, "ping": {"type"}})


def iso(moment: datetime) -> str:
    """A UTC time as the vendor's page writes it: ISO 8601 ending in ``Z``, here with milliseconds."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def to_json(message: dict[str, Any]) -> str:
    """One line of JSON; ValueError or TypeError for what JSON cannot hold, NaN and infinities included."""
    return json.dumps(message, allow_nan=False, separators=(",", ":"))


def error_message(message: str, code: int | str | None) -> dict[str, Any]:
    """An ``error``; the page leaves its shape open, ours has ``message`` and, unless it is None, ``code``."""
    error: dict[str, Any] = {"type": "error", "message": message}
    return error if code is None else {**error, "code": code}


@define
class Manners:
    """How the server behaves towards every client.

    Attributes:
        api_keys: the keys it accepts.
        refusal: the ``error`` that answers every ``auth``, or None to go by `api_keys`.
        pongs: whether pings are answered.
    """

    api_keys: frozenset[str]
    refusal: dict[str, Any] | None = None
    pongs: bool = True

    def judge(self, api_key: str) -> dict[str, Any] | None:
        """The error to answer to this key, or None when it is good."""
        if self.refusal is not None:
            return self.refusal
        return None if api_key in self.api_keys else error_message("invalid API key", None)


def pong(now: datetime) -> dict[str, Any]:
    """The answer to a ping."""
    return {"type": "pong", "timestamp": iso(now)}


@frozen
class Heard:
    """What came of one frame.

    Attributes:
        message: the decoded object, or None when it was none.
        reply: what to answer, or None.
        violation: what the client did wrong, or None.
    """

    message: dict[str, Any] | None = None
    reply: dict[str, Any] | None = None
    violation: str | None = None


class _Violation(Exception):
    """The client said something that the page does not allow; the text says what."""


@define(eq=False)
class Conversation:
    """One connection as the protocol sees it.

    Attributes:
        number: which connection it is, from 1, in order of accept.
        authenticated: whether its key was accepted.
        subscriptions: the channels it is subscribed to.
        messages: every object it sent, oldest first.
        withheld: pings that came while pongs were muted.
    """

    number: int
    authenticated: bool = False
    subscriptions: set[Channel] = field(factory=set[Channel])
    messages: list[dict[str, Any]] = field(factory=list[dict[str, Any]])
    withheld: int = 0

    def hear(self, frame: str | bytes, manners: Manners, now: datetime) -> Heard:
        """Take one message of the client's.

        Args:
            frame: text, or bytes when it came as a binary frame.
            manners: how the server behaves at the moment.
            now: aware, UTC; goes into a pong.
        """
        message = None
        try:
            message = _decode(frame)
            self.messages.append(message)
            _check_fields(message)
            reply = self._act(message, manners, now)
        except _Violation as violation:
            return Heard(message, violation=f"connection {self.number}: {violation}")
        return Heard(message, reply)

    def _act(self, message: dict[str, Any], manners: Manners, now: datetime) -> dict[str, Any] | None:
        kind = message["type"]
        if len(self.messages) == 1 and kind != "auth":
            raise _Violation(f"{kind} before auth, which has to come first")
        if kind == "auth":
            return self._authenticate(message["apiKey"], manners)
        if kind == "ping":
            return self._answer_ping(manners, now)
        self._edit(kind, _channel_of(message))
        return None

    def _answer_ping(self, manners: Manners, now: datetime) -> dict[str, Any] | None:
        if self.authenticated and not manners.pongs:
            self.withheld += 1
        return pong(now) if self.authenticated and manners.pongs else None

    def answer_withheld(self, now: datetime) -> list[dict[str, Any]]:
        """The pongs that were held back, each told once."""
        count, self.withheld = self.withheld, 0
        return [pong(now)] * count

    def _authenticate(self, api_key: str, manners: Manners) -> dict[str, Any] | None:
        if self.authenticated:
            raise _Violation("auth although already authenticated")
        error = manners.judge(api_key)
        self.authenticated = error is None
        return error

    def _edit(self, kind: str, channel: Channel) -> None:
        if not self.authenticated:
            raise _Violation(f"{kind} {channel!r} without an accepted auth")
        if kind == "subscribe":
            if channel in self.subscriptions:
                raise _Violation(f"subscribe {channel!r} although already subscribed")
            self.subscriptions.add(channel)
        elif channel in self.subscriptions:
            self.subscriptions.remove(channel)
        else:
            raise _Violation(f"unsubscribe {channel!r} although not subscribed")


def _decode(frame: str | bytes) -> dict[str, Any]:
    if isinstance(frame, bytes):
        raise _Violation(f"a binary frame of {len(frame)} bytes")
    try:
        found = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise _Violation(f"text that is not JSON: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise _Violation(f"JSON that is no object: {type(found).__name__}")
    return cast("dict[str, Any]", found)


def _check_fields(message: dict[str, Any]) -> None:
    """Refuse a message that has not exactly the documented keys; never quotes values, one of them may be a key."""
    kind = message.get("type")
    if kind in ("subscribe", "unsubscribe"):
        wanted = {"type", "channel", _identifier_key(kind, message)}
    elif isinstance(kind, str) and kind in _FIELDS:
        wanted = _FIELDS[kind]
    else:
        raise _Violation(f"a message of unknown type {kind!r}")
    if message.keys() != wanted:
        raise _Violation(f"{kind} with the keys {sorted(message)}, documented are {sorted(wanted)}")
    for name in sorted(wanted):
        if not isinstance(message[name], str) or not message[name].strip():
            raise _Violation(f"{kind} whose {name} is no text, or blank")


def _identifier_key(kind: str, message: dict[str, Any]) -> str:
    name = message.get("channel")
    if not isinstance(name, str) or name not in CHANNEL_KEYS:
        raise _Violation(f"{kind} of the unknown channel {name!r}")
    return CHANNEL_KEYS[name][0]


def _channel_of(message: dict[str, Any]) -> Channel:
    key, make = CHANNEL_KEYS[message["channel"]]
    return make(message[key])
