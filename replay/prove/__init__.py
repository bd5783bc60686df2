"""That the tables are what the log says, and why a row is what it is. Must not change a table."""
