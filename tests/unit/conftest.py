"""Fixtures of several unit tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.dedupe.id_table import IdTable
from ingest.dedupe.window import DedupeWindow
from tests.support.registries import put_back_afterwards
from tests.support.windows import WINDOW_MS
from tests.support.workshop import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """Plug-ins that are gone after the test."""
    with put_back_afterwards():
        yield Workshop(tmp_path)


@pytest.fixture
def window() -> DedupeWindow:
    return DedupeWindow(IdTable(1000), WINDOW_MS)
