"""The registry of projections: provider -> pure function from a record to events with their facts."""

from typing import Final

from pydantic import ValidationError

from processors.projections import (
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
from processors.projections.base import Event, Projection
from schemas.envelope import Record
from schemas.errors import PoisonRecord
from schemas.providers import UNPARSABLE, read_payload
from schemas.providers.base import WRONG_SHAPE

PROJECTIONS: Final[dict[str, Projection]] = {
    "stripe": stripe.project,
    "whatsapp": whatsapp.project,
    "twilio": twilio.project,
    "aircall": aircall.project,
    "hubspot": hubspot.project,
    "retell": retell.project,
    "telnyx": telnyx.project,
    "standardwebhooks": standardwebhooks.project,
    "sendgrid": sendgrid.project,
    "google_calendar": google_calendar.project,
}


def project(record: Record) -> tuple[list[Event], bytes]:
    """A record's events and its fingerprint.

    Raises `PoisonRecord`: `unparsable`, `unknown_provider`, or `invalid_payload` for a body of a known type that does
    not hold what that type holds.
    """
    provider, payload = read_payload(record)
    try:
        events = list(PROJECTIONS[provider.name](record, payload))
        return events, provider.fingerprint(payload)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PoisonRecord("invalid_payload", f"{error.title}.{where}: {first['msg']}") from error
    except WRONG_SHAPE as error:
        reason = "unparsable" if record.type.endswith("." + UNPARSABLE) else "invalid_payload"
        raise PoisonRecord(reason, f"{type(error).__name__}: {error}") from error
