"""Settings for every test: Hypothesis draws the same examples on every run and asserts no times."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None, database=None)
settings.load_profile("deterministic")
