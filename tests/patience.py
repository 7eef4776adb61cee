"""How long tests wait for what has to come.

Nothing that works takes so long; but a machine with more to do than it can keeps a thread that is ready from running
for half a minute at times (seen on Linux 6.18 with two busy processors), and that is no failure of what is tested.
"""

from __future__ import annotations

from typing import Final

PATIENCE: Final = 60.0
"""Seconds after which a wait for one thing fails; no test may reach it."""

LONG: Final = 2 * PATIENCE
"""Seconds for a whole run of a program, start of the interpreter included."""
