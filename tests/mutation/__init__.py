"""Mutation testing: every small change of a module has to make that module's own tests fail, or be argued for.

``python -m tests.mutation _backoff`` changes the module in every way that cosmic-ray's operators know, one change at a
time, and runs its tests against each.  `mutants` makes the changes, `trials` runs the tests, `argued` reads
``survivors.toml``: the changes that no test can or should notice, each with the reason.
"""
