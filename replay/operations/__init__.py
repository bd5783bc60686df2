"""The operations besides replays: corrections, dead letters, the quarantine, sources, a look at events."""
