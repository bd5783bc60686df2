"""Operators' work on the log: plan a window, re-drive it, keep the ledger."""
