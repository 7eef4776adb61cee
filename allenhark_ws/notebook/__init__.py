"""What a notebook adds: the live table of `Client.watch`, and cells that close what they replace.

Neighbours: `_watch` keeps the table going, `_table` makes it, `_sparkline` draws its trends, `_cells` minds what
variables held before a cell was run again.  `client` calls it; it must never use a client but through its public names.
IPython comes with the extra ``notebook`` and is loaded when there is something to show.
"""

from __future__ import annotations

from ._cells import mind_cells
from ._watch import Watch, watch

__all__ = ["Watch", "mind_cells", "watch"]
