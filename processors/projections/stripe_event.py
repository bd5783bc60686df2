"""The envelope of a Stripe event, as its rules read it. Pure."""

from schemas.envelope import Record
from schemas.lattice import Fact, Version
from schemas.providers.base import Payload, require_text, time_of_iso, time_of_seconds
from schemas.providers.models import require_object

StripeFacts = tuple[tuple[Fact, ...], str | None]
"""The facts of an event, and why it is ignored all the same, if it is."""


class StripeEvent:
    """The parts of the envelope that every rule needs."""

    def __init__(self, record: Record, payload: Payload) -> None:
        payload = require_object(payload, "the body")
        self.source = record.source
        self.type = require_text(payload.get("type"), "type")
        self.id = require_text(payload.get("id"), "id")
        created = payload.get("created")
        self.created = time_of_iso(created) if isinstance(created, str) else time_of_seconds(created)

    def version(self, rank: int = 0) -> Version:
        return Version(self.created, rank, self.id)
