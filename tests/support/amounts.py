"""How much of it: `make test` holds each property with few examples, `make test-all` with many."""

import os


def amount(usual: int, thorough: int) -> int:
    """`thorough` where TEST_THOROUGH=1, as `make test-all` sets it."""
    return thorough if os.environ.get("TEST_THOROUGH") == "1" else usual
