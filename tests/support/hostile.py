"""Providers from outside that fail, in every way that tests think of."""

import asyncio
import decimal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg

from schemas.envelope import Identity
from schemas.errors import Misconfigured, PoisonRecord, RejectedDelivery, Unavailable
from schemas.providers import PROVIDERS
from schemas.providers.base import Provider, digest_of
from tests.support.records import FakeRecord, record

BODY = b'{"id":"evt_1","type":"order.paid"}'
AT = datetime(2026, 11, 21, tzinfo=UTC)

RAISED: dict[str, Callable[[], BaseException]] = {
    "division": ZeroDivisionError,
    "decimal": decimal.InvalidOperation,
    "recursion": RecursionError,
    "memory": MemoryError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "group": lambda: BaseExceptionGroup("several", [SystemExit(1)]),
    "unavailable": Unavailable,
    "not misconfigured": lambda: type("Worse", (Misconfigured,), {})("x"),
    "rejected": lambda: type("Worse", (RejectedDelivery,), {"__init__": lambda self: None})(),
    "poison of a reason of its own": lambda: PoisonRecord("acme\n", "x"),
    "connection": ConnectionResetError,
    "postgres": lambda: asyncpg.ConnectionDoesNotExistError("connection was closed"),
    "speechless": lambda: type("Mute", (OSError,), {"__str__": lambda self: 1 / 0})(),
}


class Loud(str):
    """Text that ends the process wherever it is used."""

    def encode(self, *_: object) -> Any:
        raise SystemExit

    def __hash__(self) -> int:
        raise SystemExit

    def __eq__(self, _: object) -> bool:
        raise SystemExit

    def __len__(self) -> int:
        raise SystemExit


def raising(name: str) -> Callable[..., Any]:
    def function(*_: object) -> Any:
        raise RAISED[name]()

    return function


def giving(value: Any) -> Callable[..., Any]:
    return lambda *_: value


def acme(**changes: Any) -> Provider:
    return replace(PROVIDERS["stripe"], **{"name": "acme", "event_type": None, **changes})


def named(**changes: Any) -> Any:
    return Identity("evt_1", "acme.order.paid", AT, digest_of("x"))._replace(**changes)


def record_of(body: bytes = BODY) -> FakeRecord:
    """A record of a plug-in's provider."""
    return record("webhooks.shop", "acme", body)
