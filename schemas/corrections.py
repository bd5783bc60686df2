"""A correction: what an operator says of a customer's credits, account or subscription, as an event of the log.

One declaration for who writes it and for who folds it. Must not know how it reaches the log.
"""

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import orjson
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from schemas.envelope import SPEC_VERSION, Record
from schemas.errors import PoisonRecord
from schemas.providers.base import digest_of, event_id
from schemas.topics import OPERATOR, SOURCE_NAME, source_of

SOURCE: Final = source_of(OPERATOR)
"""The `ce_source` of every correction's record; the body names the source that it corrects."""

MAX_CREDITS: Final = 10**12
_PATH: Final = f"/webhooks/{SOURCE}"


def _not_zero(credits: int) -> int:
    if credits == 0:
        raise ValueError("credits of 0 change nothing")
    return credits


def _utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("time out of range: years 1 to 9999") from error


UtcTime = Annotated[AwareDatetime, AfterValidator(_utc)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
"""An id of the provider's, or a person's words on one line."""

SubscriptionStatus = Literal[
    "incomplete", "incomplete_expired", "trialing", "active", "past_due", "unpaid", "canceled", "paused"
]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CreditsAdjusted(_Said):
    """Credits given (positive) or taken back (negative)."""

    type: Literal["credits.adjusted"]
    customer: Name
    credits: Annotated[int, Field(ge=-MAX_CREDITS, le=MAX_CREDITS), AfterValidator(_not_zero)]


class AccountCorrected(_Said):
    """Holds until a later change by the provider of what freezes accounts."""

    type: Literal["account.frozen", "account.unfrozen"]
    customer: Name


class SubscriptionCorrected(_Said):
    """Holds until a later event of the provider. `customer` is for a subscription that no event has named."""

    type: Literal["subscription.corrected"]
    subscription: Name
    status: SubscriptionStatus
    current_period_end: UtcTime | None = None
    customer: Name | None = None


CorrectionChange = Annotated[CreditsAdjusted | AccountCorrected | SubscriptionCorrected, Field(discriminator="type")]
CorrectionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.~-]{1,100}$")]


class Correction(_Said):
    """The body of a record. `source` is that of the row which is corrected; `at` orders it among the provider's."""

    id: CorrectionId
    at: UtcTime
    source: Annotated[str, Field(pattern=SOURCE_NAME.pattern)]
    operator: Annotated[str, Field(min_length=1, max_length=200)]
    reason: Annotated[str, Field(min_length=1, max_length=1000)]
    change: CorrectionChange

    @property
    def event_id(self) -> str:
        return event_id("correction", self.id)

    @property
    def type(self) -> str:
        """The CloudEvents type of its record."""
        return f"{SOURCE}.{self.change.type}"

    @property
    def fingerprint(self) -> bytes:
        """The same for a repeated correction: the time of the repetition does not count."""
        return digest_of(self.model_dump(mode="json", exclude={"at"}))

    def body(self) -> bytes:
        return orjson.dumps(self.model_dump(mode="json", exclude_none=True))

    def headers(self) -> list[tuple[str, bytes]]:
        """Kafka headers of its record: CloudEvents in binary mode, and our provenance."""
        return [
            ("ce_specversion", SPEC_VERSION),
            ("ce_source", _PATH.encode()),
            ("redrive_provenance", b"operator"),
            ("ce_id", self.event_id.encode()),
            ("ce_type", self.type.encode()),
            ("ce_time", self.at.isoformat().encode()),
            ("content-type", b"application/json"),
        ]

    @property
    def timestamp_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    @classmethod
    def decode(cls, record: Record) -> "Correction":
        """Raises `PoisonRecord`, or pydantic's ValidationError for a body that is not a correction's."""
        try:
            orjson.loads(record.body)
        except orjson.JSONDecodeError as error:
            raise PoisonRecord("unparsable", f"not JSON: {error}") from error
        correction = cls.model_validate_json(record.body)
        if (record.source, record.record_id, record.type) != (SOURCE, correction.event_id, correction.type):
            raise PoisonRecord("bad_envelope", "the headers are not those of the correction in the body")
        return correction
