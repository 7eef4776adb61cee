"""Settings for every test: Hypothesis draws the same examples on every run and asserts no times; Ctrl-C is heard."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Begun by a shell in the background, which has Ctrl-C ignored, and so would the processes that tests begin.
    signal.signal(signal.SIGINT, signal.default_int_handler)
