"""What commands share of a terminal: flags that several take, tables, progress. Must not decide anything."""
