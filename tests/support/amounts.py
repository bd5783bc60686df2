"""How much of it: `make test` holds each property with few examples, always the same; `make test-all` with many and new
ones, so that what a change is told is what it did, and luck finds its faults elsewhere.
"""

import os
import time
from typing import Final

IS_THOROUGH: Final = os.environ.get("TEST_THOROUGH") == "1"
"""As `make test-all` sets it."""


def amount(usual: int, thorough: int) -> int:
    return thorough if IS_THOROUGH else usual


def new_seed() -> int:
    """Zero in `make test`, a new one in `make test-all`; who draws from it prints it."""
    return time.time_ns() % 2**32 if IS_THOROUGH else 0
