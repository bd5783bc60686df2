"""The interface of a provider module, and small tools that several providers share.

Verification sees raw bytes and comes before any parse. Comparison is constant-time.
"""

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

import orjson

from schemas.envelope import Delivery, Identity, Provenance, Request
from schemas.errors import RejectedDelivery
from schemas.providers.keys import check_token
from schemas.providers.times import time_of_iso as time_of_iso
from schemas.providers.times import time_of_milliseconds as time_of_milliseconds
from schemas.providers.times import time_of_seconds as time_of_seconds
from schemas.short_cache import cache_short
from schemas.text import loads

TOLERANCE_SECONDS: Final = 300
"""The window around now in which a signed timestamp counts: what the SDKs use, and as strict on the future."""

_BLOCK_BYTES: Final = 64
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))

Payload = Any
"""A parsed body: JSON values, or for forms the list of (name, value) pairs in order."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """The credentials that a source verifies with. Several values are valid side by side during a rotation.

    Blank values are dropped, because anybody can sign with an empty key: a source with only blank ones has none.
    """

    values: tuple[str, ...] = field(repr=False, default=())
    verify_token: str | None = field(repr=False, default=None)
    schemes: frozenset[str] = frozenset()
    """Signature schemes to accept; empty means the provider's default."""
    digest_key: bytes = field(repr=False, default=b"")
    """The installation's key for digests of shared tokens."""
    channel_ids: frozenset[str] = frozenset()
    """Google: the channels that are ours; empty means that the token alone decides."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(value for value in self.values if value.strip()))


class Signature(NamedTuple):
    """A held signature: which secret matched, and what kind of proof it was."""

    secret_index: int
    provenance: Provenance = "signed"
    signed_id: str | None = None
    """The event id where it travels in a signed header rather than in the body."""


class Unparsable(ValueError):
    """The body is not what this provider sends; the record gets an id from its bytes and becomes a dead letter."""


WRONG_SHAPE: Final = (Unparsable, KeyError, IndexError, TypeError, ValueError, AttributeError)
"""The errors that reading a body of an unexpected shape can raise; all of them mean the same."""


def wrong_shape(error: BaseException) -> str:
    """The fault of a body, without quoting it: only the message of `Unparsable` is our own."""
    return str(error) if isinstance(error, Unparsable) else "a field is missing, or not of its type"


MaskToken = Callable[[Delivery], tuple[Delivery, str]]


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider, as pure functions over bytes."""

    name: str
    secret_variable: str
    methods: frozenset[str]
    kept_headers: tuple[str, ...]
    """Lower-case names of the request headers that the log keeps: what it takes to verify and to parse again."""
    verify: Callable[[Delivery, Secrets, float], Signature]
    """(delivery, secrets, now in seconds since the epoch) -> what held; raises `RejectedDelivery`."""
    parse: Callable[[Request], Payload]
    """Raises `Unparsable`."""
    identify: Callable[[Payload, str | None], Identity]
    """(payload, signed id) -> identity; raises one of `WRONG_SHAPE` for a body of another shape."""
    fingerprint: Callable[[Payload], bytes]
    """payload -> 32 bytes, equal for honest retries; raises one of `WRONG_SHAPE`."""
    sign: Callable[[str, str, bytes, str, int], Mapping[str, str]]
    """(secret, url, body, content type, now in seconds) -> request headers; for samples."""
    event_type: Callable[[Payload], str] | None = None
    """payload -> the type of its one event, as the provider says it; raises one of `WRONG_SHAPE`. None for batches."""
    answer: Literal["json", "twiml"] = "json"
    answer_handshake: Callable[[str, Secrets], str] | None = None
    """(query of a GET, secrets) -> text to answer; raises `RejectedDelivery`. None where there is no handshake."""
    verify_token_variable: str | None = None
    check_secret: Callable[[str], None] = check_token
    """Raises `Misconfigured`, naming what is expected, for a secret that is not of this scheme or can be guessed."""
    has_chosen_secret: bool = False
    """True if users choose the secret: then a comma in it may be a part of it, and separates nothing."""
    signing_variable: str | None = None
    """Where a source holds only a public key: the variable of the private one, which samples in development need."""
    schemes: frozenset[str] = frozenset()
    """The schemes that `signature_versions` of a source may name."""
    signs_url: bool = False
    """True if the signature covers the URL that was called."""
    mask_token: MaskToken | None = None
    """For a shared token that is the credential itself: (the delivery without it, the token). Raises
    `RejectedDelivery`. None where the credential never travels.
    """
    present_token: Callable[[bytes, str], bytes] | None = None
    """(body, token) -> the body with the token in the place of its mask, for providers whose token travels there."""
    sign_as: Callable[[str, str, bytes, int], Mapping[str, str]] | None = None
    """(secret, record id, body, now in seconds) -> request headers, for event ids in a signed header: a delivery that
    is signed again stays the same event.
    """
    outdated_headers: frozenset[str] = frozenset()
    """Headers of `kept_headers` that prove nothing once a delivery is signed again, except those that `sign` sets."""
    max_body_bytes: int = 4 * 1024 * 1024
    """A source's limit where it sets none; Meta sends up to 3 MB."""


def reject_mismatch() -> RejectedDelivery:
    return RejectedDelivery("signature_mismatch")


def require_header(delivery: Delivery, name: str) -> str:
    value = delivery.headers.get(name)
    if not value:
        raise RejectedDelivery("signature_missing")
    return value


def require_fresh(timestamp: float, now: float) -> None:
    """Only after the signature held: an unsigned timestamp says nothing."""
    if abs(now - timestamp) > TOLERANCE_SECONDS:
        raise RejectedDelivery("timestamp_outside_tolerance", signed_at=timestamp)


def parse_timestamp(text: str) -> int | None:
    """Digits only: `int()` would also take signs, underscores and other scripts' numerals."""
    return int(text) if text.isdigit() and text.isascii() and len(text) <= 15 else None


@lru_cache(maxsize=1024)
def _keyed_states(key: bytes) -> "tuple[hashlib._Hash, hashlib._Hash]":
    """SHA-256 after the inner and the outer pad of HMAC (RFC 2104): the part that does not hang on the message."""
    if len(key) > _BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    padded = key.ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(padded.translate(_INNER_PAD)), hashlib.sha256(padded.translate(_OUTER_PAD))


def hmac_sha256(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA256 of the parts in a row. Copying a keyed state costs a tenth of OpenSSL's one-shot call."""
    inner_state, outer_state = _keyed_states(key)
    inner = inner_state.copy()
    for part in parts:
        inner.update(part)
    outer = outer_state.copy()
    outer.update(inner.digest())
    return outer.digest()


def hmac_sha256_hex(key: bytes, *parts: bytes) -> bytes:
    return hmac_sha256(key, *parts).hex().encode()


def token_digest(key: bytes, token: str) -> str:
    """The digest that the log keeps of a shared token: an HMAC under a key of the installation, in hex."""
    return hmac_sha256(key, token.encode("utf-8", "surrogateescape")).hex()


def match_token(token: str, delivery: Delivery, secrets: Secrets) -> Signature:
    """Compare a shared token, or where it has been masked its digest, with every secret. Raises `RejectedDelivery`.

    An empty secret never matches: a delivery without a token must not pass.
    """
    if delivery.token_digest:
        presented = delivery.token_digest.encode("utf-8", "surrogateescape")
        wanted = [token_digest(secrets.digest_key, secret).encode() for secret in secrets.values]
    else:
        presented = token.encode("utf-8", "surrogateescape")
        wanted = [secret.encode() for secret in secrets.values]
    matches = [
        hmac.compare_digest(presented, one) and bool(secret) for one, secret in zip(wanted, secrets.values, strict=True)
    ]
    if not presented or not any(matches):
        raise reject_mismatch()
    return Signature(matches.index(True), "token")


def parse_json(request: Request) -> Payload:
    try:
        return loads(request.body)
    except orjson.JSONDecodeError as error:
        raise Unparsable(f"not JSON: {error}") from error


def digest_of(value: Any) -> bytes:
    """SHA-256 of a parsed body in one canonical form."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).digest()


_UNRESERVED: Final = re.compile(r"[A-Za-z0-9_.~-]*\Z", re.ASCII)


MAX_ID_CHARACTERS: Final = 512
"""Five times the longest id that a provider sends, and a fifth of what an index of Postgres takes."""


def event_id(*parts: str) -> str:
    """Join the parts of an event id, percent-encoded, so that no part can imitate a separator."""
    is_plain = _UNRESERVED.match("".join(parts))
    name = ":".join(parts if is_plain else [quote(part, safe="") for part in parts])
    return name if len(name) <= MAX_ID_CHARACTERS else bounded_id(name)


def bounded_id(name: str) -> str:
    """A replacement of an id that is too long: made from the id alone, because the body may differ in a retry."""
    return "id-sha256:" + hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def item_id(identify: Callable[[Any], str], item: Any) -> str:
    """The part that an item adds to the record id of its batch; an item without an identity adds a hash of itself."""
    try:
        return identify(item)
    except WRONG_SHAPE:
        return "unreadable:" + digest_of(item).hex()


def batch_record_id(event_ids: set[str]) -> str:
    return "batch:" + hashlib.sha256("\n".join(sorted(event_ids)).encode()).hexdigest()


BODY_ID_PREFIX: Final = "sha256:"
"""No event id begins with it: the first part of one has no `:`."""


def body_record_id(body: bytes) -> str:
    """The record id of a verified body whose event can't be identified."""
    return BODY_ID_PREFIX + hashlib.sha256(body).hexdigest()


def require_text(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise Unparsable(f"{what}: {'not text' if value else 'missing'}")
    return value


def clean_type(value: Any) -> str:
    """An event type fit for a header and a column: printable, short, never empty."""
    return _clean_type(value) if isinstance(value, str) else "unknown"


@cache_short(entries=4096, characters=128)
def _clean_type(value: str) -> str:
    kept = "".join(c for c in value if c.isprintable() and c != " ")
    return kept[:120] or "unknown"
