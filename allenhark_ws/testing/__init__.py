"""For tests without the real server: `Simulator`, a WebSocket server on loopback that speaks the vendor's protocol.

`FaultProxy` stands between it and a client and does what networks do: delay, lose, cut, corrupt, refuse.
`VirtualSimulator` is the same server in memory, in a time that passes when a test says so.

Needs the extra ``testing``: ``pip install "allenhark-ws[testing]"``.  Neighbours: `_simulator` is the handle that users
hold, `_server` what runs on its thread, `_conversation` the rules of one connection, `_journal` the record of it all,
`_feed` the generated market; `_proxy` is the fault proxy's handle, `_relay` what runs on its thread, `_pipe` its
connections; `_virtual` is the virtual simulator, `_line` a connection to it, `_time` its time; `_requests` is what both
simulators can be asked for.  It must never listen on anything but loopback.
"""

from __future__ import annotations

from ._proxy import FaultProxy
from ._simulator import Simulator
from ._virtual import VirtualSimulator

__all__ = ["FaultProxy", "Simulator", "VirtualSimulator"]
