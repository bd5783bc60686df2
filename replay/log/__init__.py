"""The log as replays, rebuilds and proofs read it: in batches, no faster than they may, behind live traffic."""
