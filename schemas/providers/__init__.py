"""The registry of providers, and the two steps that every delivery takes: verify, then identify.

To add a provider: write its module beside these, and name it in `PROVIDERS`.
"""

from typing import Final

from schemas.envelope import Delivery, Identity, Record, VerifiedDelivery
from schemas.errors import PoisonRecord, RejectedDelivery
from schemas.providers import standardwebhooks, stripe, twilio, whatsapp
from schemas.providers.base import WRONG_SHAPE, Payload, Provider, Secrets, body_record_id, digest_of

PROVIDERS: Final[dict[str, Provider]] = {
    module.PROVIDER.name: module.PROVIDER for module in (stripe, whatsapp, twilio, standardwebhooks)
}

UNPARSABLE: Final = "unparsable"
"""Type suffix of a verified body that cannot be parsed: `stripe.unparsable`."""


def verify(provider: Provider, delivery: Delivery, secrets: Secrets, now: int) -> VerifiedDelivery:
    """Check the signature of the raw bytes; `now` is seconds since the epoch. Raises `RejectedDelivery`."""
    if not secrets.values:
        raise RejectedDelivery("misconfigured")
    held = provider.verify(delivery, secrets, now)
    return VerifiedDelivery(delivery, held.provenance, held.secret_index, held.signed_id)


def identify(provider: Provider, verified: VerifiedDelivery) -> Identity:
    """Name the record. Never fails: the provider must not drop a body that we can't read, so its bytes name it."""
    delivery = verified.delivery
    try:
        payload = provider.parse(delivery.method, delivery.query, delivery.content_type, delivery.body)
        return provider.identify(payload, verified.signed_id)
    except WRONG_SHAPE:
        whole = delivery.body or delivery.query.encode("utf-8", "surrogateescape")
        return Identity(body_record_id(whole), f"{provider.name}.{UNPARSABLE}", None, digest_of(body_record_id(whole)))


def read_payload(record: Record) -> tuple[Provider, Payload]:
    """Parse a record of the log. Raises `PoisonRecord`: `unknown_provider` or `unparsable`."""
    provider = PROVIDERS.get(record.provider)
    if provider is None:
        raise PoisonRecord("unknown_provider", f"no provider is called {record.provider!r}")
    try:
        return provider, provider.parse(record.method, record.query, record.content_type, record.body)
    except WRONG_SHAPE as error:
        raise PoisonRecord("unparsable", str(error)) from error


def fingerprint_of(record: Record) -> bytes:
    """The fingerprint that the ingress gave the record's delivery, from its bytes alone. Never fails."""
    try:
        provider, payload = read_payload(record)
        if record.type.endswith("." + UNPARSABLE):
            raise PoisonRecord("unparsable", "identified by its bytes")
        return provider.fingerprint(payload)
    except (PoisonRecord, *WRONG_SHAPE):
        return digest_of(record.record_id)
