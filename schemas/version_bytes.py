"""The version of a group of columns, as bytes that Python and Postgres compare alike."""

import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import orjson

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BIAS: Final = 1 << 63
_HEAD: Final = struct.Struct(">QH")
HEAD_BYTES: Final = _HEAD.size
"""Bytes of a version before the event's id: time and rank."""

UNSET: Final = b""
"""Version of a group that nobody has spoken for: less than every other."""


def version_bytes(at: datetime | None, rank: int, event_id: str, canonical: bytes) -> bytes:
    """A version as bytes whose order is the order of (time, rank, id, canonical JSON): memcmp here and in Postgres.

    An unknown time sorts before every known one. Ids hold no NUL (Postgres could not store them), so the separator
    keeps "a" before "ab", and ends what two versions that tie have in common: `version_head`.
    """
    if at is None:
        ticks = 0
    else:
        delta = at - _EPOCH
        ticks = (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds + _BIAS
    return _HEAD.pack(ticks, rank) + event_id.encode() + b"\0" + canonical


def version_head(version: bytes) -> bytes:
    """(time, rank, id) of a version, as bytes: equal heads tie."""
    return version[: version.find(b"\0", HEAD_BYTES) + 1]


def _encode_default(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value.normalize())
    raise TypeError(f"no canonical JSON for {type(value).__name__}")


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces; equal values give equal bytes."""
    return orjson.dumps(value, default=_encode_default, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
