"""Which channels are wanted, and by whom: the reference counts behind `Client.subscribe`, `unsubscribe` and streams.

A channel is wanted as long as one holder holds it; the edits that matter to the server, first holder in and last holder
out, are returned.  Neighbours: `_router` guards it with its lock.  It must never speak to the server.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from attrs import define, field

from .channels import Channel

__all__ = ["Wanted"]


@define(eq=False)
class Wanted:
    """The holders of every wanted channel, in the order in which the channels were first wanted.

    Both mappings say the same from both sides, and neither keeps what is empty: a program that subscribes and
    unsubscribes for days, its handles dropped unclosed, leaves nothing behind.  Ctrl-C may cut off any edit, at any
    line: what was begun can be released, and a release be made again.
    """

    _holders: dict[Channel, set[Hashable]] = field(factory=dict[Channel, set[Hashable]])
    _held: dict[Hashable, dict[Channel, None]] = field(factory=dict[Hashable, dict[Channel, None]])

    def channels(self) -> frozenset[Channel]:
        """All wanted channels."""
        return frozenset(self._holders)

    def hold(self, holder: Hashable, channels: Iterable[Channel]) -> list[Channel]:
        """The holder wants the channels, beside what it holds already; those that nobody wanted before."""
        added: list[Channel] = []
        for channel in dict.fromkeys(channels):
            self._held.setdefault(holder, {})[channel] = None  # first: what was begun, `release` must find
            holders = self._holders.setdefault(channel, set())
            is_new = holder not in holders
            holders.add(holder)
            self._holders[channel] = holders  # again: a finalizer may have released the only other holder meanwhile
            if is_new and len(holders) == 1:
                added.append(channel)
        return added

    def release(self, holder: Hashable) -> list[Channel]:
        """The holder lets go of what it still holds; the channels that nobody wants any more."""
        removed: list[Channel] = []
        for channel in tuple(self._held.get(holder, ())):
            holders = self._holders.get(channel)
            if holders is not None:
                holders.discard(holder)
                if not holders:
                    self._holders.pop(channel, None)
                    removed.append(channel)
        self._held.pop(holder, None)
        return removed

    def holders_of(self, channels: Iterable[Channel]) -> dict[Channel, frozenset[Hashable]]:
        """Who holds each of the channels that are wanted."""
        found = {channel: frozenset(self._holders.get(channel, ())) for channel in channels}
        return {channel: holders for channel, holders in found.items() if holders}

    def unwant(self, channels: Iterable[Channel]) -> list[Channel]:
        """Nobody wants the channels any more; those that were wanted."""
        removed: list[Channel] = []
        for channel in dict.fromkeys(channels):
            holders = self._holders.pop(channel, None)
            if holders is not None:
                removed.append(channel)
                for holder in holders:
                    self._forget(holder, channel)
        return removed

    def _forget(self, holder: Hashable, channel: Channel) -> None:
        held = self._held.get(holder, {})
        held.pop(channel, None)
        if not held:
            self._held.pop(holder, None)
