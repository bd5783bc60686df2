"""The registries that plug-ins add to: they belong to the process, so a test puts them back."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from processors import projections
from schemas import facts, providers, topics


@contextmanager
def put_back_afterwards() -> Iterator[None]:
    dicts: tuple[dict[Any, Any], ...] = (
        providers.PROVIDERS,
        projections.PROJECTIONS,
        facts.TABLE_OF,
        topics.PROVIDER_OF,
    )
    lists: tuple[list[Any], ...] = (facts.TABLES, facts.PLUGGED_IN, sys.path)
    before = [one.copy() for one in dicts], [one.copy() for one in lists]
    try:
        yield
    finally:
        for registry, known in zip(dicts, before[0], strict=True):
            registry.clear()
            registry.update(known)
        for entries, listed in zip(lists, before[1], strict=True):
            entries[:] = listed
