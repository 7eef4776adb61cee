"""What becomes of what was read: undecoded to the taps, decoded to the consumers.

Data events of a READY connection go to their consumers directly, the fast way as far as that goes; everything else
goes through the session, in its place.  A frame that is no message is an `InvalidMessage` here, counted like any other
(`_codec.Codec.decode` makes it).  Neighbours: `_driver` reads and passes on; `_router` and `_express` are the fast way,
`_codec` the plain one, `_outlet` takes the events.  It must never touch the socket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define, field

from ._codec import Codec, wire_type
from ._counters import Counters
from ._instant import Instant
from ._lanes import Incoming
from ._network import Network
from ._outlet import Outlet
from ._ports import Tap
from ._session import Session
from .events import DataEvent, Event, InvalidMessage, ServerEvent, UnknownMessage
from .state import State

__all__ = ["Intake"]


@define(eq=False)
class Intake:
    """The way in, of one client.

    Args:
        session: hears what the server said, but for the data of a READY connection.
        codec: bytes to events.
        counters: where to count what is received.
        network: says whether the connection that something was read from is still there.
        outlet: takes the events.
        obey: does what the session says.

    Attributes:
        taps: who gets every message undecoded; replaced, never changed, since the I/O thread goes through it meanwhile.
    """

    _session: Session
    _codec: Codec
    _counters: Counters
    _network: Network
    _outlet: Outlet
    _obey: Callable[[], None]
    taps: tuple[Tap, ...] = field(default=(), init=False)

    def take(self, messages: Sequence[bytes], now: Instant) -> bool:
        """Hand data to their consumers the fast way as far as that goes, and the rest the plain way, in order.

        Returns:
            Whether all were data that went the fast way, and nothing else came of them.
        """
        for tap in self.taps:
            tap.put(now.wall, messages)
        self._counters.bytes_received += sum(map(len, messages))
        network, session = self._network, self._session
        transport, incoming = network.transport, self._codec.lane.incoming(messages)
        was_odd = False
        while network.transport is transport:
            left = self._express(incoming, now)
            if not left:
                break
            was_odd = True
            self._take_plainly(left, now)
        return not was_odd and session.state is State.READY

    def _express(self, incoming: Incoming, now: Instant) -> list[bytes]:
        """Deliver data events the fast way; the payloads that have to go the plain way before going on."""
        outlet, session = self._outlet, self._session
        router = outlet.router()
        if router is None or outlet.held or session.state is not State.READY:
            return list(incoming.payloads)
        delivery = router.express(incoming, self._codec.lane, now.wall, session.wallet)
        if delivery.failure is not None:
            session.close(delivery.failure)
        if delivery.reports:
            outlet.emit(list(delivery.reports))
        return delivery.left

    def _take_plainly(self, messages: Sequence[bytes], now: Instant) -> None:
        """Decode; hand data to its consumers in one go, everything else through the session."""
        transport, wallet = self._network.transport, self._session.wallet
        ready: list[Event] = []
        for payload in messages:
            event = self._codec.decode(payload, now.wall, wallet)
            self._count(event)
            if isinstance(event, DataEvent) and self._session.state is State.READY:
                ready.append(event)
                continue
            self._outlet.emit(ready)
            ready = []
            self._session.received(event, now)
            self._obey()
            del event  # or it would be there still while the next one, as large as can be, is decoded
            if self._network.transport is not transport:
                return
        self._outlet.emit(ready)

    def _count(self, event: DataEvent | ServerEvent) -> None:
        counters = self._counters
        counters.messages_received += 1
        counters.count_type(wire_type(event))
        if isinstance(event, UnknownMessage):
            counters.unknown += 1
        elif isinstance(event, InvalidMessage):
            counters.invalid += 1
