"""What an operator picks: times, ids, keys and globs, parsed and matched with offsets of the log."""
