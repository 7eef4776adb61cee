"""For tests without the real server: `Simulator`, a WebSocket server on loopback that speaks the vendor's protocol.

Needs the extra ``testing``: ``pip install "allenhark-ws[testing]"``.  Neighbours: `_simulator` is the handle that users
hold, `_server` what runs on its thread, `_conversation` the rules of one connection, `_journal` the record of it all,
`_feed` the generated market.
"""

from __future__ import annotations

from ._simulator import Simulator

__all__ = ["Simulator"]
