"""What the simulator has seen: written by its thread, read and waited for by the user's.

One lock guards it all and is held for moments only; predicates must never run under it, since they may ask for
anything.  Neighbours: `_server` writes, `_simulator` shows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar

from .. import Channel
from ._conversation import Conversation, Heard, Manners

__all__ = ["Journal"]

_T = TypeVar("_T")

_LOOK_AGAIN: Final = 0.02
"""Seconds between looks at a predicate when nothing changes here: it may ask about the client."""


class Journal:
    """All conversations, the live ones among them, and what went wrong; safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._version = 0
        self._conversations: list[Conversation] = []
        self._live: set[Conversation] = set()
        self._received: list[dict[str, Any]] = []
        self._violations: list[str] = []

    def begin(self) -> Conversation:
        """A client has connected: start its conversation."""
        with self._changed:
            conversation = Conversation(len(self._conversations) + 1)
            self._conversations.append(conversation)
            self._live.add(conversation)
            self._tell()
        return conversation

    def end(self, conversation: Conversation) -> None:
        """The conversation's connection is closing or lost; a second time changes nothing."""
        with self._changed:
            self._live.discard(conversation)
            self._tell()

    def hear(self, conversation: Conversation, frame: str | bytes, manners: Manners, now: datetime) -> Heard:
        """Let the conversation hear a frame and note what came of it."""
        with self._changed:
            heard = conversation.hear(frame, manners, now)
            if heard.message is not None:
                self._received.append(heard.message)
            if heard.violation is not None:
                self._violations.append(heard.violation)
            self._tell()
        return heard

    def touch(self) -> None:
        """Something else changed: have waiters look again."""
        with self._changed:
            self._tell()

    def _tell(self) -> None:
        self._version += 1
        self._changed.notify_all()

    @property
    def received(self) -> list[dict[str, Any]]:
        """Every decoded client message, in order over all connections."""
        with self._changed:
            return list(self._received)

    @property
    def violations(self) -> list[str]:
        """What clients did that the vendor's page does not allow, in order."""
        with self._changed:
            return list(self._violations)

    @property
    def history(self) -> tuple[tuple[dict[str, Any], ...], ...]:
        """The decoded messages of each connection, connections in order of accept."""
        with self._changed:
            return tuple(tuple(conversation.messages) for conversation in self._conversations)

    @property
    def connections(self) -> int:
        """How many connections are live."""
        with self._changed:
            return len(self._live)

    @property
    def subscriptions(self) -> frozenset[Channel]:
        """Every channel that a live connection is subscribed to."""
        with self._changed:
            return frozenset[Channel]().union(*(conversation.subscriptions for conversation in self._live))

    def wait_for(self, predicate: Callable[[], _T], timeout: float) -> _T:
        """Call the predicate now and after every change until it gives something true, and return that."""
        deadline = time.monotonic() + timeout
        while True:
            seen = self._version
            value = predicate()
            if value:
                return value
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(self._report(timeout))
            with self._changed:
                if self._version == seen:
                    self._changed.wait(min(left, _LOOK_AGAIN))

    def _report(self, timeout: float) -> str:
        with self._changed:
            facts = f"live connections: {len(self._live)}, messages received: {len(self._received)}"
            last = f", the last of type {self._received[-1].get('type')!r}" if self._received else ""
            wrong = f"; violations: {'; '.join(self._violations[-3:])}" if self._violations else ""
        return f"not so within {timeout:g} s; {facts}{last}{wrong}"
