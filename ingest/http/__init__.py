"""Requests and responses: the fast path and the limits."""
