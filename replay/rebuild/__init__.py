"""Generations folded from the log beside the live one, and flipped to. Must not know who asks."""
