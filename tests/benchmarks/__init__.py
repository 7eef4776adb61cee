"""How fast, how late, how large: this client beside others on the same traffic, on this machine, on loopback.

``python -m tests.benchmarks`` runs all of it and prints tables; ``--help`` lists the parts.  Every figure is a median
over rounds that are interleaved (A B C, A B C, …), and every ratio is taken within its round, since a machine that is
busy with something else slows down whole rounds rather than one contender.  Each contender runs in an interpreter of
its own, and so does the server, which sends bytes made beforehand: the same to everybody.  What is not installed is
skipped with a line saying so; the extra ``bench`` has the peers.  Nothing here asserts a time.

The way of a figure: `wire` (traffic) → `feed` (server process) → `peers`, `ours` (contenders, each run by `worker` in a
process of its own, observed by a probe of `probes`) → `rounds` (interleaving, ratios) → one module per subject →
`report` (tables) and `chart` (SVG).
"""
