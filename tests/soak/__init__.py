"""A client under random faults for minutes or hours, and a model that knows what it must have seen.

``python -m tests.soak --minutes 2 --seed 1`` runs it; `ledger` is the model, `rig` the machinery around the client,
`weather` the faults.
"""
