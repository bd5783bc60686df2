"""Parts that commands share at a terminal: common flags, tables, progress. Must not decide anything."""
