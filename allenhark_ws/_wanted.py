"""Which channels are wanted, and by whom: the reference counts behind `Client.subscribe`, `unsubscribe` and streams.

A channel is wanted as long as one holder holds it; the edits that matter to the server, first holder in and last holder
out, are returned.  Neighbours: `_router` guards it with its lock.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from attrs import define, field

from .channels import Channel

__all__ = ["Wanted"]


@define(eq=False)
class Wanted:
    """The holders of every wanted channel, in the order in which the channels were first wanted."""

    _holders: dict[Channel, set[Hashable]] = field(factory=dict)
    _held: dict[Hashable, tuple[Channel, ...]] = field(factory=dict)

    def channels(self) -> frozenset[Channel]:
        """All wanted channels."""
        return frozenset(self._holders)

    def __contains__(self, channel: Channel) -> bool:
        return channel in self._holders

    def hold(self, holder: Hashable, channels: Iterable[Channel]) -> list[Channel]:
        """The holder wants the channels; those that nobody wanted before."""
        chosen = tuple(dict.fromkeys(channels))
        self._held[holder] = chosen
        added = [channel for channel in chosen if channel not in self._holders]
        for channel in chosen:
            self._holders.setdefault(channel, set()).add(holder)
        return added

    def release(self, holder: Hashable) -> list[Channel]:
        """The holder lets go of what it still holds; the channels that nobody wants any more."""
        removed = []
        for channel in self._held.pop(holder, ()):
            holders = self._holders.get(channel)
            if holders is None or holder not in holders:
                continue
            holders.discard(holder)
            if not holders:
                del self._holders[channel]
                removed.append(channel)
        return removed

    def drop(self, channels: Iterable[Channel]) -> list[Channel]:
        """Nobody wants the channels any more, whoever held them; those that were wanted."""
        removed = []
        for channel in dict.fromkeys(channels):
            if self._holders.pop(channel, None) is not None:
                removed.append(channel)
        return removed
