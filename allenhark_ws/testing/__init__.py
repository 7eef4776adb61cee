"""For tests without the real server: `Simulator`, a WebSocket server on loopback that speaks the vendor's protocol.

`FaultProxy` stands between it and a client and does what networks do: delay, lose, cut, corrupt, refuse.

Needs the extra ``testing``: ``pip install "allenhark-ws[testing]"``.  Neighbours: `_simulator` is the handle that users
hold, `_server` what runs on its thread, `_conversation` the rules of one connection, `_journal` the record of it all,
`_feed` the generated market; `_proxy` is the fault proxy's handle, `_relay` what runs on its thread, `_pipe` its
connections.
"""

from __future__ import annotations

from ._proxy import FaultProxy
from ._simulator import Simulator

__all__ = ["FaultProxy", "Simulator"]
