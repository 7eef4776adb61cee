"""Fuzzing: what any bytes whatever must not be able to do, to be tried for as long as one likes.

``python -m tests.fuzz codec --seconds 60`` looks for inputs that break a promise; `tests.test_fuzz` replays the inputs
that were worth keeping, ``corpus/<target>/``, and tries a few new ones.
"""
