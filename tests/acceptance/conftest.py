"""Acceptance: the real processes, started as a user starts them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.processes import Installation
from tests.support.signing import SECRETS


@pytest.fixture
async def installation(tmp_path: Path) -> AsyncIterator[Installation]:
    """`redrive up`, ready, with known secrets."""
    found = Installation(tmp_path, **SECRETS)
    try:
        await found.up()
        yield found
    finally:
        await found.stop()
