"""Fixtures of several unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registries import put_back_afterwards
from tests.support.workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """Plug-ins that are gone after the test."""
    with put_back_afterwards():
        yield Workshop(tmp_path)
