"""A delivery, a verified delivery, and a record of the log, with its CloudEvents headers.

Must not parse or change bodies: the bytes that the provider signed are the bytes that the log keeps.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args

from schemas.errors import PoisonRecord
from schemas.short_cache import cache_short
from schemas.topics import OPERATOR, PROVIDER_OF, source_of

Provenance = Literal["signed", "token", "released", "fetched"]
_OPERATORS: Final = "operator"
"""Only corrections have it; they are on a topic of their own."""

_PROVENANCES: Final = (*get_args(Provenance), _OPERATORS)
KafkaHeaders = Sequence[tuple[str, bytes | None]]
"""Kafka knows headers without a value; the ingress writes none."""

SPEC_VERSION: Final = b"1.0"
REJECTION: Final = "redrive_rejection"
ARRIVED: Final = "redrive_arrived_ms"
"""A quarantined record's timestamp is the broker's, so a header keeps its arrival."""
LAST_MS: Final = 253_402_300_799_000
"""The end of the year 9999: Kafka takes any timestamp, and a datetime does not."""

TOKEN_DIGEST: Final = "redrive_token_digest"  # noqa: S105 - a header's name


class Request(Protocol):
    """The parts of a delivery that a provider reads, fresh or read back from the log."""

    @property
    def method(self) -> str: ...
    @property
    def query(self) -> str: ...
    @property
    def content_type(self) -> str: ...
    @property
    def body(self) -> bytes: ...
    def header(self, name: str) -> str | None:
        """One of the headers that the log keeps (`Provider.kept_headers`), by its lower-case name."""
        ...


# Named tuples, not frozen dataclasses: one of each is made for every delivery, at a third of the cost.
class Delivery(NamedTuple):
    """One HTTP request as it arrived.

    `headers` is looked up with lower-case names; `url` is the URL that the provider called, for those that sign it;
    `path` and `query` are the raw request target; `arrived_ms` is milliseconds since the epoch. `token_digest` (hex)
    replaces a shared token that has been masked (invariant 2).
    """

    source: str
    method: str
    url: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    remote: str
    arrived_ms: int
    token_digest: str = ""

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "")

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


class VerifiedDelivery(NamedTuple):
    """A delivery whose signature held, its shared token masked. Only `schemas.providers.verify` makes one; only this
    can be appended.
    """

    delivery: Delivery
    provenance: Provenance
    secret_index: int
    signed_id: str | None


class Identity(NamedTuple):
    """The event, or batch of events, that a delivery announces.

    `record_id` names the record; `type` is the CloudEvents type (`stripe.invoice.paid`, `whatsapp.batch`);
    `occurred_at` is the provider's time, None where it gives none; `fingerprint` is the 32-byte SHA-256 of the parsed
    body without the provider's volatile fields.
    """

    record_id: str
    type: str
    occurred_at: datetime | None
    fingerprint: bytes


class Location(NamedTuple):
    """Where a record is in the log."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


def record_headers(
    verified: VerifiedDelivery, identity: Identity, kept_headers: Sequence[str]
) -> list[tuple[str, bytes]]:
    """Kafka headers of a record: CloudEvents in binary mode, our provenance, and what it takes to verify again."""
    delivery = verified.delivery
    headers = [
        *_constant_headers(delivery.source, verified.provenance, delivery.method, delivery.path, delivery.remote),
        ("ce_id", identity.record_id.encode()),
        ("ce_type", identity.type.encode()),
    ]
    if identity.occurred_at is not None:
        headers.append(("ce_time", _iso(identity.occurred_at)))
    return _with_request(headers, delivery, kept_headers)


def quarantine_headers(
    delivery: Delivery, record_id: str, rejection: str, provider: str, kept_headers: Sequence[str]
) -> list[tuple[str, bytes]]:
    """Kafka headers of a delivery that did not verify: why, and all that it takes to try again."""
    headers = [
        *_constant_headers(delivery.source, "quarantined", delivery.method, delivery.path, delivery.remote),
        ("ce_id", record_id.encode()),
        ("ce_type", f"{provider}.quarantined".encode()),
        (REJECTION, rejection.encode()),
        (ARRIVED, str(delivery.arrived_ms).encode()),
    ]
    # Where no PUBLIC_URL is set, the URL that was signed is known by its Host alone.
    return _with_request(headers, delivery, ("host", *kept_headers))


def delivery_of(headers: KafkaHeaders, body: bytes | None, timestamp_ms: int, public_url: str | None) -> Delivery:
    """A delivery as it arrived, from its record, to verify it again. Raises KeyError or UnicodeDecodeError."""
    found = {}
    for name, value in headers:
        if value is None:
            raise KeyError(name)
        found[name] = value.decode("utf-8", "surrogateescape")
    sent = {name.removeprefix("http_"): value for name, value in found.items() if name.startswith("http_")}
    method, path, remote = (sent.pop(name, "") for name in ("method", "path", "remote"))
    query = sent.pop("query", None)
    target = path if query is None else f"{path}?{query}"
    return Delivery(
        source=found["ce_source"].removeprefix("/webhooks/"),
        method=method,
        url=called_url(public_url, sent.get("host", ""), target),
        path=path,
        query=query or "",
        headers={**sent, "content-type": found.get("content-type", "")},
        body=body or b"",
        remote=remote,
        arrived_ms=timestamp_ms,
        token_digest=found.get(TOKEN_DIGEST, ""),
    )


def called_url(public_url: str | None, host: str, target: str) -> str:
    """The URL as the provider knows it: behind a proxy, only the configuration can tell."""
    return (public_url.rstrip("/") if public_url else f"http://{host}") + target


def _with_request(
    headers: list[tuple[str, bytes]], delivery: Delivery, kept_headers: Sequence[str]
) -> list[tuple[str, bytes]]:
    # A URL that ends in a bare `?` was signed with it: an empty query is not the same as none.
    if delivery.query or delivery.url.endswith("?"):
        headers.append(("http_query", delivery.query.encode("utf-8", "surrogateescape")))
    content_type = delivery.content_type
    if content_type:
        headers.append(("content-type", content_type.encode("utf-8", "surrogateescape")))
    if delivery.token_digest:
        headers.append((TOKEN_DIGEST, delivery.token_digest.encode()))
    for name in kept_headers:
        value = delivery.headers.get(name)
        if value is not None:
            headers.append(("http_" + name, value.encode("utf-8", "surrogateescape")))
    return headers


@lru_cache(maxsize=4096)
def _iso(occurred_at: datetime) -> bytes:
    """Events come in bursts: many of them share their second."""
    return occurred_at.isoformat().encode()


@cache_short(entries=4096, characters=512)
def _constant_headers(
    source: str, provenance: str, method: str, path: str, remote: str
) -> tuple[tuple[str, bytes], ...]:
    """The headers that a provider's deliveries share."""
    return (
        ("ce_specversion", SPEC_VERSION),
        ("ce_source", b"/webhooks/" + source.encode()),
        ("redrive_provenance", provenance.encode()),
        ("http_method", method.encode()),
        ("http_path", path.encode("utf-8", "surrogateescape")),
        ("http_remote", remote.encode()),
    )


class Record(NamedTuple):
    """One record of a `webhooks.<source>` topic. `headers` are its Kafka headers by name."""

    location: Location
    record_id: str
    source: str
    type: str
    provider: str
    provenance: str
    method: str
    query: str
    content_type: str
    arrived_ms: int
    body: bytes
    headers: Mapping[str, bytes | None]

    def header(self, name: str) -> str | None:
        value = self.headers.get("http_" + name)
        return None if value is None else value.decode("utf-8", "surrogateescape")

    @classmethod
    def decode(
        cls, topic: str, partition: int, offset: int, timestamp_ms: int, headers: KafkaHeaders, body: bytes | None
    ) -> "Record":
        """Read a record back from Kafka.

        Raises `PoisonRecord("bad_envelope")` if the headers are not ours: another program wrote to the topic. A writer
        to one source's topic can't speak for another source, nor for a provider other than the configured one. If the
        source is no longer configured, the type names the provider.
        """
        # One of these that has no value has no `decode` either.
        found: dict[str, Any] = dict(headers)
        try:
            kind = found["ce_type"].decode()
            source = found["ce_source"].decode().removeprefix("/webhooks/")
            provenance = found["redrive_provenance"].decode()
            if source != source_of(topic):
                raise PoisonRecord("bad_envelope", "ce_source is another source than the topic's")
            provider = kind.partition(".")[0]
            if provider != PROVIDER_OF.get(source, provider):
                raise PoisonRecord("bad_envelope", "ce_type is of another provider than the source's")
            if provenance not in _PROVENANCES:
                raise PoisonRecord("bad_envelope", f"redrive_provenance is not one of {', '.join(_PROVENANCES)}")
            if provenance == _OPERATORS and topic != OPERATOR:
                raise PoisonRecord("bad_envelope", f"redrive_provenance is {_OPERATORS}, and the topic a provider's")
            return cls(
                location=Location(topic, partition, offset),
                record_id=found["ce_id"].decode(),
                source=source,
                type=kind,
                provider=provider,
                provenance=provenance,
                method=found.get("http_method", b"POST").decode(),
                query=found.get("http_query", b"").decode("utf-8", "surrogateescape"),
                content_type=found.get("content-type", b"").decode("utf-8", "surrogateescape"),
                arrived_ms=timestamp_ms,
                body=body or b"",
                headers=found,
            )
        except KeyError as error:
            raise PoisonRecord("bad_envelope", f"the record has no header {error}") from error
        except (UnicodeDecodeError, AttributeError) as error:
            raise PoisonRecord("bad_envelope", f"a header is not UTF-8 text: {error}") from error
