"""Why an event can't be read: a reason for machines, and what is wrong with which field, without quoting a value."""

from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import DEAD_LETTER_REASONS, PoisonRecord
from schemas.masking import describe
from schemas.providers.base import WRONG_SHAPE, wrong_shape


def poison_of(error: BaseException, reason: str = "invalid_payload") -> PoisonRecord:
    """Why an event can't be read; `reason` for one that does not hold what its type holds."""
    if isinstance(error, PoisonRecord):
        # A plug-in's may give a reason of its own; what it says stays.
        return error if error.reason in DEAD_LETTER_REASONS else PoisonRecord(reason, describe(error))
    if isinstance(error, ValidationError):
        return PoisonRecord(reason, _fault(error))
    if isinstance(error, WRONG_SHAPE):
        return PoisonRecord(reason, wrong_shape(error))
    return PoisonRecord("projection_failed", describe(error))


_OPEN: Final = frozenset({"metadata"})
"""Fields whose keys are the sender's own words."""


def _fault(error: ValidationError) -> str:
    """`StripeSubscription.status: Field required`: the first fault by field and rule, never by value."""
    return fault_of(error.title, error.errors(include_input=False, include_url=False)[0])


def fault_of(title: str, fault: ErrorDetails) -> str:
    where = [title]
    for part in fault["loc"]:
        where.append(str(part))
        if part in _OPEN:
            break
    # A validator of ours raised: what it says may quote the value.
    cause = fault.get("ctx", {}).get("error")
    return f"{'.'.join(where)}: {fault['msg'] if cause is None else wrong_shape(cause)}"
