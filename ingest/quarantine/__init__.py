"""Deliveries that were refused and are yet kept, within limits."""
