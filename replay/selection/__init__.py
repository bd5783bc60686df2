"""An operator's selection: times, ids, keys and globs, parsed and matched with offsets of the log."""
