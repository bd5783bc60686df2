"""Stripe: HMAC-SHA256 of `{t}.{body}` with the literal `whsec_…` as key. https://docs.stripe.com/webhooks/signature"""

import hmac
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field

from schemas.envelope import Delivery, Identity
from schemas.errors import Misconfigured
from schemas.providers.base import (
    Payload,
    Provider,
    Secrets,
    Signature,
    clean_type,
    digest_of,
    event_id,
    hmac_sha256_hex,
    parse_json,
    parse_timestamp,
    reject_mismatch,
    require_fresh,
    require_header,
    require_text,
    time_of_iso,
    time_of_seconds,
)
from schemas.providers.keys import check_token
from schemas.providers.models import Model, Several, require_object

HEADER: Final = "stripe-signature"
PREFIX: Final = "whsec_"


def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
    """Any one matching `v1` under any secret suffices; other schemes (`v0`) never count."""
    timestamp_text, signatures = None, []
    for item in require_header(delivery, HEADER).split(","):
        name, _, value = item.partition("=")
        if name == "v1":
            signatures.append(value.encode("utf-8", "replace"))
        elif name == "t" and timestamp_text is None:
            timestamp_text = value
    timestamp = parse_timestamp(timestamp_text or "")
    if timestamp is None:
        raise reject_mismatch()
    for index, secret in enumerate(secrets.values):
        expected = hmac_sha256_hex(secret.encode(), b"%d." % timestamp, delivery.body)
        if any([hmac.compare_digest(expected, signature) for signature in signatures]):
            require_fresh(timestamp, now)
            return Signature(index)
    raise reject_mismatch()


def check_secret(secret: str) -> None:
    """The prefix tells it from an API key (`sk_…`), which would verify nothing."""
    if not secret.startswith(PREFIX):
        raise Misconfigured("expected the signing secret of the endpoint, whsec_…")
    check_token(secret, PREFIX)


def sign(secret: str, url: str, body: bytes, content_type: str, now: int) -> dict[str, str]:
    digest = hmac_sha256_hex(secret.encode(), b"%d." % now, body).decode()
    return {"Stripe-Signature": f"t={now},v1={digest}", "Content-Type": "application/json; charset=utf-8"}


def fingerprint(payload: Payload) -> bytes:
    """Without `pending_webhooks`, which counts down between deliveries of one event."""
    lasting = dict(payload)
    lasting.pop("pending_webhooks", None)
    return digest_of(lasting)


def event_type(payload: Payload) -> str:
    return require_text(require_object(payload, "the body").get("type"), "type")


def identify(payload: Payload, signed_id: str | None) -> Identity:
    payload = require_object(payload, "the body")
    created = payload.get("created")
    return Identity(
        record_id=event_id(require_text(payload.get("id"), "id")),
        type="stripe." + clean_type(payload.get("type")),
        # Thin events (v2) carry ISO text where the others carry seconds.
        occurred_at=time_of_iso(created) if isinstance(created, str) else time_of_seconds(created),
        fingerprint=fingerprint(payload),
    )


PROVIDER: Final = Provider(
    name="stripe",
    secret_variable="STRIPE_WEBHOOK_SECRET",  # noqa: S106 - the variable's name
    methods=frozenset({"POST"}),
    kept_headers=(HEADER,),
    verify=verify,
    parse=parse_json,
    identify=identify,
    fingerprint=fingerprint,
    sign=sign,
    check_secret=check_secret,
    event_type=event_type,
)


def _id_of(value: Any) -> Any:
    """A reference is an id, or the whole object where the endpoint expands it."""
    return value.get("id") if isinstance(value, dict) else value


Reference = Annotated[str | None, BeforeValidator(_id_of)]


def _texts_of(value: Any) -> Any:
    """Metadata is a map of texts; values of other types are ignored."""
    return {key: text for key, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else {}


Metadata = Annotated[dict[str, str], BeforeValidator(_texts_of)]

Amount = Annotated[int, Field(ge=0, le=10**15)]
"""In the smallest unit of the currency, far above Stripe's own bound: sums of them fit into a bigint."""

InvoiceAmount = Annotated[int, Field(ge=-(10**15), le=10**15)]
"""The amount that an invoice owes; negative if the customer is owed it."""


class Price(Model):
    id: str | None = None


class SubscriptionItem(Model):
    price: Price | None = None
    plan: Price | None = None
    current_period_end: int | None = None

    @property
    def price_id(self) -> str | None:
        price = self.price or self.plan
        return price.id if price else None


class SubscriptionItems(Model):
    data: Several[SubscriptionItem] = ()


class StripeSubscription(Model):
    """`current_period_end` sits on the items since API version 2025-03-31 (basil), on the subscription before."""

    id: str
    customer: Reference = None
    status: str
    items: SubscriptionItems = SubscriptionItems()
    plan: Price | None = None
    current_period_end: int | None = None
    cancel_at_period_end: bool | None = None

    @property
    def prices(self) -> list[str]:
        """The prices of the items, in their order; of a subscription without items, that of its plan."""
        found = [item.price_id for item in self.items.data if item.price_id]
        return found or ([self.plan.id] if self.plan and self.plan.id else [])

    @property
    def next_period_end(self) -> int | None:
        """Items may be billed at different intervals: the earliest is the next renewal."""
        ends = [item.current_period_end for item in self.items.data if item.current_period_end is not None]
        return min(ends, default=self.current_period_end)


class SubscriptionDetails(Model):
    subscription: Reference = None


class InvoiceParent(Model):
    subscription_details: SubscriptionDetails | None = None


class StatusTransitions(Model):
    paid_at: int | None = None


class StripeInvoice(Model):
    """`subscription` moved to `parent.subscription_details` in basil."""

    id: str
    customer: Reference = None
    status: str | None = None
    amount_due: InvoiceAmount | None = None
    amount_paid: InvoiceAmount | None = None
    currency: str | None = None
    attempt_count: int | None = None
    created: int | None = None
    subscription: Reference = None
    parent: InvoiceParent | None = None
    status_transitions: StatusTransitions = StatusTransitions()

    @property
    def subscription_id(self) -> str | None:
        if self.subscription is not None:
            return self.subscription
        details = self.parent.subscription_details if self.parent else None
        return details.subscription if details else None


class PaymentError(Model):
    code: str | None = None
    decline_code: str | None = None


class StripePaymentIntent(Model):
    """`amount_received` is what was captured, which may be less than the `amount` that was authorised."""

    id: str
    customer: Reference = None
    status: str
    amount: Amount
    amount_received: Amount | None = None
    currency: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    last_payment_error: PaymentError | None = None


class StripeCheckoutSession(Model):
    id: str
    mode: str | None = None
    customer: Reference = None
    client_reference_id: str | None = None
    payment_intent: Reference = None
    subscription: Reference = None
    payment_status: str | None = None
    amount_total: Amount | None = None
    currency: str | None = None
    metadata: Metadata = Field(default_factory=dict)


class StripeRefund(Model):
    """`status` is pending, requires_action, succeeded, failed or canceled; old ones have none."""

    id: str
    charge: Reference = None
    payment_intent: Reference = None
    amount: Amount | None = None
    currency: str | None = None
    status: str | None = None
    failure_reason: str | None = None
    created: int | None = None


class StripeRefunds(Model):
    data: Several[StripeRefund] = ()


class StripeCharge(Model):
    """`refunds` is there before API version 2022-11-15, or where an endpoint expands it."""

    id: str
    customer: Reference = None
    payment_intent: Reference = None
    status: str | None = None
    amount_refunded: Amount = 0
    currency: str | None = None
    refunds: StripeRefunds | None = None


class StripeDispute(Model):
    id: str
    charge: Reference = None
    payment_intent: Reference = None
    amount: Amount | None = None
    currency: str | None = None
    status: str | None = None
    reason: str | None = None
    created: int | None = None
