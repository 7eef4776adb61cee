"""``python -m allenhark_ws``: the same as the command ``allenhark-ws``.

Neighbours: `cli`, which does everything.  It must never do anything else.
"""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
