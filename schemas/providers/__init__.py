"""The registry of providers, and the two steps that every delivery takes: verify, then identify.

To add a provider: write its module beside these, and name it in `PROVIDERS`. A plug-in's comes in through `register`.
"""

from typing import Final

from schemas.envelope import Delivery, Identity, Record, VerifiedDelivery
from schemas.errors import Misconfigured, PoisonRecord, RejectedDelivery
from schemas.providers import (
    aircall,
    google_calendar,
    hubspot,
    retell,
    sendgrid,
    standardwebhooks,
    stripe,
    telnyx,
    twilio,
    whatsapp,
)
from schemas.providers.base import (
    MAX_ID_CHARACTERS,
    WRONG_SHAPE,
    Payload,
    Provider,
    Secrets,
    Unparsable,
    body_record_id,
    bounded_id,
    clean_type,
    digest_of,
    token_digest,
    wrong_shape,
)
from schemas.providers.keys import check_token
from schemas.topics import is_source_name

PROVIDERS: Final[dict[str, Provider]] = {
    module.PROVIDER.name: module.PROVIDER
    for module in (
        stripe,
        whatsapp,
        twilio,
        aircall,
        hubspot,
        retell,
        telnyx,
        standardwebhooks,
        sendgrid,
        google_calendar,
    )
}

UNPARSABLE: Final = "unparsable"
"""Type suffix of a verified body that cannot be parsed: `stripe.unparsable`."""


def register(provider: Provider) -> None:
    """Add a plug-in's provider; the same one again changes nothing. Raises `Misconfigured`."""
    if not is_source_name(provider.name):
        raise Misconfigured(f"{provider.name!r} can't name a provider: ^[a-z][a-z0-9_-]{{0,39}}$, and none of ours")
    if PROVIDERS.setdefault(provider.name, provider) is not provider:
        raise Misconfigured(f"a provider called {provider.name!r} exists already")


def verify(provider: Provider, delivery: Delivery, secrets: Secrets, now: float) -> VerifiedDelivery:
    """Check the signature of the raw bytes; `now` is seconds since the epoch. Raises `RejectedDelivery`."""
    if not secrets.values:
        raise RejectedDelivery("misconfigured")
    held = provider.verify(delivery, secrets, now)
    return VerifiedDelivery(conceal(provider, delivery, secrets), held.provenance, held.secret_index, held.signed_id)


def check_secrets(provider: Provider, secrets: Secrets) -> None:
    """Raises `Misconfigured`: which secret is none, and what is expected there. Never quotes it."""
    checks = [(f"secret {place}", provider.check_secret, value) for place, value in enumerate(secrets.values, 1)]
    if secrets.verify_token is not None:
        checks.append(("the verify token", check_token, secrets.verify_token))
    for what, check, value in checks:
        try:
            value.encode()
            check(value)
        except UnicodeEncodeError as error:
            raise Misconfigured(f"{what} is not UTF-8") from error
        except Misconfigured as error:
            raise Misconfigured(f"{what}: {error}") from error


def check_signing_secret(provider: Provider, secret: str) -> None:
    """Raises `Misconfigured` where nothing can be signed with it: what is expected. Never quotes it."""
    if provider.signing_variable is None:
        check_secrets(provider, Secrets((secret,)))
    else:
        # A key pair's private half has no shape of its own to check: whether it signs is the check.
        provider.sign(secret, "https://localhost/", b"{}", "application/json", 0)


def conceal(provider: Provider, delivery: Delivery, secrets: Secrets) -> Delivery:
    """The delivery as a topic may keep it: a shared token masked, with a digest in its place (invariant 2)."""
    if provider.mask_token is None or delivery.token_digest:
        return delivery
    masked, token = provider.mask_token(delivery)
    # Nothing presented leaves nothing to compare later: it stays missing.
    return masked._replace(token_digest=token_digest(secrets.digest_key, token)) if token else masked


def identify(provider: Provider, verified: VerifiedDelivery) -> Identity:
    """Name the record. Never fails: the provider must not drop a body that we can't read, so its bytes name it."""
    delivery = verified.delivery
    payload: Payload = None
    try:
        payload = provider.parse(delivery)
        identity = provider.identify(payload, verified.signed_id)
    except WRONG_SHAPE:
        record_id = body_record_id(delivery.body or delivery.query.encode("utf-8", "surrogateescape"))
        try:
            return Identity(record_id, type_of(provider, payload), None, provider.fingerprint(payload))
        except WRONG_SHAPE:
            return Identity(record_id, f"{provider.name}.{UNPARSABLE}", None, digest_of(record_id))
    if len(identity.record_id) > MAX_ID_CHARACTERS:
        # A plug-in's, which did not make it with `event_id`.
        return identity._replace(record_id=bounded_id(identity.record_id))
    return identity


def type_of(provider: Provider, payload: Payload) -> str:
    """The type of an event that has no identity, as its record has it. Raises one of `WRONG_SHAPE`."""
    if provider.event_type is None:
        raise Unparsable("the body holds no event")
    return f"{provider.name}.{clean_type(provider.event_type(payload))}"


def read_payload(record: Record) -> tuple[Provider, Payload]:
    """Parse a record of the log. Raises `PoisonRecord`: `unknown_provider` or `unparsable`."""
    provider = PROVIDERS.get(record.provider)
    if provider is None:
        raise PoisonRecord("unknown_provider", "this version has no provider of the record's type")
    try:
        return provider, provider.parse(record)
    except WRONG_SHAPE as error:
        raise PoisonRecord("unparsable", wrong_shape(error)) from error


def fingerprint_of(record: Record) -> bytes:
    """The fingerprint that the ingress gave the record's delivery, from its bytes alone. Never fails."""
    try:
        provider, payload = read_payload(record)
        if record.type.endswith("." + UNPARSABLE):
            raise PoisonRecord("unparsable", "identified by its bytes")
        return provider.fingerprint(payload)
    except (PoisonRecord, *WRONG_SHAPE):
        return digest_of(record.record_id)
