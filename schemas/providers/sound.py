"""Checks of the parts and results of a plug-in's provider, before they are used. Pure."""

from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from schemas.envelope import Identity
from schemas.errors import Misconfigured
from schemas.providers.base import MAX_ID_CHARACTERS, Provider, Secrets, Signature, Unparsable, bounded_id

MAX_BODY_BYTES: Final = 5 * 1024 * 1024
"""With its headers, a body of this size is a record that the topics take."""

_LAST_SECOND: Final = 10**15
"""As many digits as a timestamp that a provider signs may have."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FINGERPRINT_BYTES: Final = 32
_PROOFS: Final = ("signed", "token")


def require_provider(provider: Provider) -> None:
    """Raises `Misconfigured`, naming the first field that is not of its type."""
    hints = get_type_hints(Provider)
    for name in [field.name for field in fields(Provider)]:
        # A set or a list does where a frozenset or a tuple is meant.
        is_strict = get_origin(hints[name]) not in (tuple, frozenset)
        try:
            TypeAdapter(hints[name]).validate_python(getattr(provider, name), strict=is_strict)
        except ValidationError as error:
            said = error.errors(include_input=False, include_url=False)[0]["msg"]
            raise Misconfigured(f"provider {provider.name!r}: {name}: {said}") from error
    if not 0 < provider.max_body_bytes <= MAX_BODY_BYTES:
        raise Misconfigured(f"provider {provider.name!r}: max_body_bytes must be 1 to {MAX_BODY_BYTES}")


def is_sound_signature(held: Any, secrets: Secrets) -> bool:
    """True if it names the secret that matched. A result that is merely truthy proves nothing."""
    return (
        type(held) is Signature
        and type(held[0]) is int
        and 0 <= held[0] < len(secrets.values)
        and held[1] in _PROOFS
        and (held[2] is None or type(held[2]) is str)
    )


def is_sound_time(signed_at: Any) -> bool:
    """True for a time that can be compared with a clock, and for None."""
    return signed_at is None or (type(signed_at) in (int, float) and -_LAST_SECOND <= signed_at <= _LAST_SECOND)


def require_identity(provider: Provider, found: Any) -> Identity:
    """The identity, its id bounded. Raises `Unparsable` for one that headers and the index can't hold, and whatever the
    plug-in's own types raise.
    """
    record_id, kind, occurred_at, fingerprint = map(plain, found)
    if not (
        type(found) is Identity
        and is_name(record_id)
        and is_name(kind)
        and kind.partition(".")[0] == provider.name
        and len(kind) <= MAX_ID_CHARACTERS
        and (occurred_at is None or type(occurred_at) is datetime)
        and is_fingerprint(fingerprint)
    ):
        raise Unparsable(f"{provider.name} gives an identity that no record can have")
    # A plug-in may not have made its id with `event_id`.
    name = record_id if len(record_id) <= MAX_ID_CHARACTERS else bounded_id(record_id)
    return Identity(name, kind, occurred_at, fingerprint)


def plain(value: Any) -> Any:
    """A text, a number or a time of exactly that type, a time in UTC: the value of a subclass (an `Enum`, a
    `Timestamp`) without the code that it brings along. Anything else is returned as it is.

    Raises `OverflowError` for a time that UTC can't express.
    """
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if type(value) is int else int.__int__(value)
    if isinstance(value, bytes):
        return value if type(value) is bytes else bytes.__getitem__(value, slice(None))
    if isinstance(value, Decimal):
        return value if type(value) is Decimal else Decimal(value)
    if isinstance(value, datetime):
        if type(value) is datetime and value.tzinfo is UTC:
            return value
        return value if value.utcoffset() is None else _EPOCH + (value - _EPOCH)
    return value


def is_name(value: Any) -> bool:
    """True if it can name a record, an event or a type: text that is printed as it is."""
    return type(value) is str and bool(value) and value.isprintable()


def is_fingerprint(value: Any) -> bool:
    return type(value) is bytes and len(value) == _FINGERPRINT_BYTES
