"""The tests of `allenhark_ws`, and `tests.run`, which runs them all on every supported Python it can find."""
