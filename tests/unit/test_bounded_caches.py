"""Caches are bounded in bytes: what a sender makes up, however long, stays in none of them."""

import functools
import gc
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest

import ingest
import processors
import replay
import schemas
from ingest.http import whole_request
from ingest.http.whole_request import MAX_NAMES, read_whole
from schemas.providers.times import time_of_iso, time_of_seconds

PACKAGES: tuple[ModuleType, ...] = (schemas, ingest, processors, replay)
LONG = "x" * 100_000
"""A body may hold megabytes of one text."""

ALLOWED_BYTES = 1_000
"""Of what one call may leave in a cache, with all texts that it takes."""

KEYED_BY_SENDERS = {
    "ingest.http.limits._address",
    "processors.projections.addresses._spelled_out",
    "processors.projections.hubspot._is_read",
    "processors.projections.whatsapp._our_number",
    "schemas.envelope._constant_headers",
    "schemas.providers.base._clean_type",
    "schemas.providers.times._time_of_iso",
    "schemas.providers.times._time_of_seconds",
}
KEYED_BY_US = {
    "ingest.http.openapi.description",
    "ingest.http.responses._date",
    "ingest.http.responses._status_line",
    "schemas.envelope._iso",
    "schemas.providers.base._keyed_states",
    "schemas.providers.keys.ed25519_public_key",
    "schemas.providers.sendgrid._public_key",
    "schemas.providers.standardwebhooks._key",
}
"""By secrets of the configuration, by numbers, or by nothing."""

BY_ITS_CALLER: Mapping[str, Callable[[Any], Any]] = {
    "schemas.providers.times._time_of_iso": time_of_iso,
    "schemas.providers.times._time_of_seconds": time_of_seconds,
}
"""The caller keeps long texts from these, since for none of them there is a time."""


@pytest.fixture(scope="module")
def caches() -> dict[str, Any]:
    """Every cache of our packages, by the name of its function."""
    for package in PACKAGES:
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(found.name)
    ours = tuple(f"{package.__name__}." for package in PACKAGES)
    kept = [one for one in gc.get_objects() if type(one) is functools._lru_cache_wrapper]
    return {f"{one.__module__}.{one.__qualname__}": one for one in kept if one.__module__.startswith(ours)}


def held_bytes(cache: Any) -> int:
    """Of the texts that a cache holds, as keys and as results."""
    total, found = 0, gc.get_referents(cache)
    while found:
        one = found.pop()
        if isinstance(one, str | bytes):
            total += sys.getsizeof(one)
        elif isinstance(one, tuple):
            found += one
    return total


def call(name: str, text: str) -> None:
    """As its module calls it."""
    module, _, function = name.rpartition(".")
    found = BY_ITS_CALLER.get(name) or getattr(importlib.import_module(module), function)
    found(*[text] * len(inspect.signature(found).parameters))


def test_every_cache_is_known_with_whose_keys_it_has(caches: Mapping[str, Any]) -> None:
    assert set(caches) == KEYED_BY_SENDERS | KEYED_BY_US


@pytest.mark.parametrize("name", sorted(KEYED_BY_SENDERS))
def test_a_cache_keeps_short_texts_and_no_long_ones(caches: Mapping[str, Any], name: str) -> None:
    caches[name].cache_clear()
    empty = held_bytes(caches[name])
    call(name, "2026-01-01")
    kept = held_bytes(caches[name])
    call(name, LONG)
    assert empty < kept == held_bytes(caches[name]) <= empty + ALLOWED_BYTES


@pytest.mark.parametrize("name", sorted(KEYED_BY_SENDERS))
def test_a_cache_forgets_short_texts_for_others(caches: Mapping[str, Any], name: str) -> None:
    entries = caches[name].cache_info().maxsize
    for number in range(entries + 10):
        call(name, str(number))
    assert caches[name].cache_info().currsize == entries


def test_names_of_headers_are_learned_within_a_number_and_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, str] = {}
    monkeypatch.setattr(whole_request, "_names", names)
    for number in range(MAX_NAMES + 10):
        sent = {f"X-{number}-{LONG[:7000]}": "1", f"X-{number}": "1", "Host": "example.com", "Content-Length": "0"}
        head = "".join([f"{name}: {value}\r\n" for name, value in sent.items()])
        found = read_whole(f"POST /webhooks/stripe HTTP/1.1\r\n{head}\r\n".encode(), 128, 8190)
        assert found is not None
        assert set(found[1]) == {name.lower() for name in sent}
    assert len(names) == MAX_NAMES
    assert sum([sys.getsizeof(text) for pair in names.items() for text in pair]) < MAX_NAMES * 256
