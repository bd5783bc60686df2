"""Other people's programs that do a part of redrive's work, each a process of its own, with dependencies of its own.

They run in the environment that `make bench-peers` makes. Must not import redrive, nor be imported by the suites.
"""
