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
    unsubscribes for days, its handles dropped unclosed, leaves nothing behind.
    """

    _holders: dict[Channel, set[Hashable]] = field(factory=dict[Channel, set[Hashable]])
    _held: dict[Hashable, dict[Channel, None]] = field(factory=dict[Hashable, dict[Channel, None]])

    def channels(self) -> frozenset[Channel]:
        """All wanted channels."""
        return frozenset(self._holders)

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._holders

    def hold(self, holder: Hashable, channels: Iterable[Channel]) -> list[Channel]:
        """The holder wants the channels, beside what it holds already; those that nobody wanted before."""
        added: list[Channel] = []
        for channel in dict.fromkeys(channels):
            self._held.setdefault(holder, {})[channel] = None  # first: what was begun, `release` must find
            if channel not in self._holders:
                self._holders[channel] = set()
                added.append(channel)
            self._holders[channel].add(holder)
        return added

    def release(self, holder: Hashable) -> list[Channel]:
        """The holder lets go of what it still holds; the channels that nobody wants any more."""
        removed: list[Channel] = []
        for channel in self._held.pop(holder, ()):
            holders = self._holders.get(channel, set())
            holders.discard(holder)
            if not holders:
                self._holders.pop(channel, None)
                removed.append(channel)
        return removed

    def drop(self, channels: Iterable[Channel]) -> dict[Channel, set[Hashable]]:
        """Nobody wants the channels any more; those that were wanted, and who held them."""
        removed: dict[Channel, set[Hashable]] = {}
        for channel in dict.fromkeys(channels):
            holders = self._holders.pop(channel, set())
            for holder in holders:
                del self._held[holder][channel]
                if not self._held[holder]:
                    del self._held[holder]
            if holders:
                removed[channel] = holders
        return removed
