"""Generations of the fact tables, the views over them, and the difference between two of them."""
