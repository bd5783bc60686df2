"""The registry of providers, and the two steps that every delivery takes: verify, then identify.

To add a provider: write its module beside these, and name it in `PROVIDERS`. A plug-in's comes in through `register`.
"""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from schemas.envelope import Delivery, Identity, Record, VerifiedDelivery
from schemas.errors import Misconfigured, PoisonRecord, RejectedDelivery
from schemas.masking import describe
from schemas.plugin_calls import call
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
    WRONG_SHAPE,
    MaskToken,
    Payload,
    Provider,
    Secrets,
    Unparsable,
    body_record_id,
    clean_type,
    digest_of,
    token_digest,
    wrong_shape,
)
from schemas.providers.keys import check_token
from schemas.providers.sound import (
    is_fingerprint,
    is_sound_signature,
    is_sound_time,
    plain,
    require_identity,
    require_provider,
)
from schemas.topics import is_source_name

P = ParamSpec("P")
T = TypeVar("T")

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

OURS: Final = frozenset(PROVIDERS)
"""The results of every other provider are checked before use."""

UNPARSABLE: Final = "unparsable"
"""Type suffix of a verified body that cannot be parsed: `stripe.unparsable`."""


def register(provider: Provider) -> None:
    """Add a plug-in's provider; the same one again changes nothing. Raises `Misconfigured`."""
    if not isinstance(provider.name, str) or not is_source_name(provider.name):
        raise Misconfigured(
            f"{provider.name!r} can't name a provider: expected ^[a-z][a-z0-9_-]{{0,39}}$, and not a reserved name"
        )
    require_provider(provider)
    if PROVIDERS.setdefault(provider.name, provider) is not provider:
        raise Misconfigured(f"a provider called {provider.name!r} exists already")


def _asked(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask a provider about a delivery that is not verified yet. Raises `RejectedDelivery`: `verification_failed` for
    any error that its code should not raise. `Misconfigured`, for a secret that is not a key, passes through.
    """
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        if type(error) is Misconfigured or (type(error) is RejectedDelivery and is_sound_time(error.signed_at)):
            raise
        raise RejectedDelivery("verification_failed") from error


def verify(provider: Provider, delivery: Delivery, secrets: Secrets, now: float) -> VerifiedDelivery:
    """Check the signature of the raw bytes; `now` is seconds since the epoch. Raises `RejectedDelivery`, also where the
    provider's code fails or gives no `Signature`: it never falls open.
    """
    if not secrets.values:
        raise RejectedDelivery("misconfigured")
    held = _asked(provider.verify, delivery, secrets, now)
    if provider.name not in OURS and not is_sound_signature(held, secrets):
        raise RejectedDelivery("verification_failed") from Misconfigured(
            "verify gave no schemas.providers.base.Signature"
        )
    return VerifiedDelivery(conceal(provider, delivery, secrets), held.provenance, held.secret_index, held.signed_id)


def check_secrets(provider: Provider, secrets: Secrets) -> None:
    """Raises `Misconfigured`: which secret is invalid, and what is expected there. Never quotes it."""
    checks = [(f"secret {place}", provider.check_secret, value) for place, value in enumerate(secrets.values, 1)]
    if secrets.verify_token is not None:
        checks.append(("the verify token", check_token, secrets.verify_token))
    for what, check, value in checks:
        try:
            value.encode()
            call(check, value)
        except UnicodeEncodeError as error:
            raise Misconfigured(f"{what} is not UTF-8") from error
        except Misconfigured as error:
            raise Misconfigured(f"{what}: {error}") from error
        except Exception as error:
            raise Misconfigured(f"{what} can't be checked: {describe(error)}") from error


def answer_handshake(provider: Provider, query: str, secrets: Secrets) -> str:
    """The text that the handshake asks for. Raises `RejectedDelivery`."""
    if provider.answer_handshake is None:
        raise RejectedDelivery("method_not_allowed")
    text = _asked(provider.answer_handshake, query, secrets)
    if not isinstance(text, str):
        raise RejectedDelivery("verification_failed")
    return text


def check_signing_secret(provider: Provider, secret: str) -> None:
    """Raises `Misconfigured` where nothing can be signed with it: what is expected. Never quotes it."""
    if provider.signing_variable is None:
        check_secrets(provider, Secrets((secret,)))
    else:
        # A key pair's private half has no shape of its own to check: whether it signs is the check.
        provider.sign(secret, "https://localhost/", b"{}", "application/json", 0)


def conceal(provider: Provider, delivery: Delivery, secrets: Secrets) -> Delivery:
    """The delivery as a topic may keep it: a shared token masked, with a digest in its place (invariant 2). Raises
    `RejectedDelivery` where the provider's code can't mask it: then nothing of it may be kept.
    """
    if provider.mask_token is None or delivery.token_digest:
        return delivery
    return _asked(_conceal, provider.name in OURS, provider.mask_token, delivery, secrets)


def _conceal(is_ours: bool, mask: MaskToken, delivery: Delivery, secrets: Secrets) -> Delivery:
    masked, token = mask(delivery)
    body, headers = masked.body, masked.headers
    if not is_ours:
        body, token = plain(body), plain(token)
        headers = {plain(name): plain(value) for name, value in headers.items()}
        texts = (token, *headers, *headers.values())
        if not isinstance(body, bytes) or not all([isinstance(text, str) for text in texts]):
            raise TypeError("the masked body is not bytes, or its token or a header is not text")
    # Nothing else of it is the provider's to change.
    masked = delivery._replace(body=body, headers=headers)
    # Nothing presented leaves nothing to compare later: it stays missing.
    return masked._replace(token_digest=token_digest(secrets.digest_key, token)) if token else masked


def identify(provider: Provider, verified: VerifiedDelivery) -> Identity:
    """Name the record. Never fails: the provider must not drop a body that we can't read, so its bytes name it, also
    where a plug-in's code raises what it should not, or gives what names no record.
    """
    delivery = verified.delivery
    payload: Payload = None
    try:
        payload = provider.parse(delivery)
        found = provider.identify(payload, verified.signed_id)
        return found if provider.name in OURS else require_identity(provider, found)
    except BaseException:  # noqa: BLE001 - whatever it is, what is verified is kept
        return _identity_of_bytes(provider, delivery, payload)


def _identity_of_bytes(provider: Provider, delivery: Delivery, payload: Payload) -> Identity:
    record_id = body_record_id(delivery.body or delivery.query.encode("utf-8", "surrogateescape"))
    try:
        kind, fingerprint = call(type_of, provider, payload), call(provider.fingerprint, payload)
        return require_identity(provider, Identity(record_id, kind, None, fingerprint))
    except Exception:  # noqa: BLE001 - as above
        return Identity(record_id, f"{provider.name}.{UNPARSABLE}", None, digest_of(record_id))


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
        provider, payload = call(read_payload, record)
        if record.type.endswith("." + UNPARSABLE):
            raise PoisonRecord("unparsable", "identified by its bytes")
        return fingerprint_by(provider, payload, record.record_id)
    except Exception:  # noqa: BLE001 - a plug-in's code may raise anything, and the window holds every source's records
        return digest_of(record.record_id)


def fingerprint_by(provider: Provider, payload: Payload, record_id: str) -> bytes:
    """The provider's fingerprint; that of the record's id for what can't be digested. It may be read all the same."""
    try:
        found = provider.fingerprint(payload)
    except BaseException:  # noqa: BLE001 - as above
        return digest_of(record_id)
    return found if is_fingerprint(found) else digest_of(record_id)
