"""The error taxonomy: who must act, and whether a retry helps.

Adapters wrap what libraries raise into one of these; nothing else may cross a service's edge.
"""

from collections.abc import Mapping
from typing import ClassVar, Final


class RedriveError(Exception):
    """Base of every error that redrive raises on purpose; the docstring is the default message."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").splitlines()[0])


REJECTIONS: Final[dict[str, tuple[int, str]]] = {
    "signature_missing": (401, "The request carries no signature that this source knows."),
    "signature_mismatch": (401, "The signature does not match the body under any secret of this source."),
    "timestamp_outside_tolerance": (401, "The signature is right, but its timestamp is too far from now."),
    "verify_token_mismatch": (403, "The handshake's verify token is not ours."),
    "handshake_incomplete": (400, "A handshake needs hub.mode=subscribe, hub.challenge and hub.verify_token."),
    "bad_request": (400, "The request is not well-formed HTTP."),
    "not_found": (404, "There is nothing here; deliveries go to /webhooks/{source}."),
    "unknown_source": (404, "No source of that name is configured."),
    "method_not_allowed": (405, "This source does not take that method."),
    "request_timeout": (408, "The request did not arrive whole in time."),
    "source_disabled": (410, "An operator disabled this source: nothing is stored until it is enabled again."),
    "address_not_allowed": (403, "This source takes deliveries from other addresses only."),
    "body_too_large": (413, "The body is larger than this source's limit."),
    "unsupported_media_type": (415, "Bodies must come as they were signed, without a content encoding."),
    "too_many_requests": (429, "This source gets more requests than its limit allows; send it again later."),
    "headers_too_large": (431, "The request has too many headers, or too large ones."),
    "overloaded": (503, "More is on its way at once than this host takes; send it again."),
    "verification_failed": (503, "This source's provider failed while it verified; nothing is taken unverified."),
    "misconfigured": (503, "This source has no secret that could verify anything; it refuses rather than fall open."),
    "log_unavailable": (503, "The log cannot take the delivery now; send it again."),
    "internal_error": (500, "An error of ours; the delivery was not stored. Send it again."),
}
"""Stable problem code -> (HTTP status, what it means). The one table of the ingest edge."""


OPERATOR_PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "bad_request": (400, "The request is not well-formed HTTP, or not encoded as it says."),
    "invalid_selection": (400, "The request names nothing, or can't be read."),
    "unauthorized": (401, "The admin key, or the cookie of a login, is missing or wrong."),
    "cross_site": (403, "Another site sent this request with the session of a browser."),
    "not_found": (404, "There is nothing here."),
    "unknown_source": (404, "No source of that name is configured."),
    "method_not_allowed": (405, "There is something here, but not by that method."),
    "invalid_transition": (409, "The current state does not allow the request."),
    "overlapping_replay": (409, "A replay that has not ended covers some of the same records."),
    "records_gone": (409, "A topic was deleted since offsets of it were looked up: its records are gone."),
    "unreadable_record": (409, "The Kafka client can't read a record that is asked for."),
    "request_entity_too_large": (413, "The body is larger than any that is asked for."),
    "too_many_requests": (429, "Too many wrong keys came from this address."),
    "internal_error": (500, "An error of ours; the console's log says more."),
    "database_unavailable": (503, "Postgres does not answer."),
    "log_unavailable": (503, "Kafka does not answer."),
    "locked": (503, "Another session works on the same, and did not end in time; try again."),
    "append_in_doubt": (503, "Kafka did not confirm a record, which may be on the log; the same id again counts once."),
    "unavailable": (503, "A dependency is away, or did not answer in time."),
}
"""The same of the operators' edge."""


class RejectedDelivery(RedriveError):
    """The delivery is refused, and sending the same bytes again will not help.

    `signed_at` is there where the signature is right and its time alone is not: seconds since the epoch.
    """

    def __init__(self, rejection: str, signed_at: float | None = None) -> None:
        self.rejection = rejection
        self.signed_at = signed_at
        self.status, self.detail = REJECTIONS[rejection]
        super().__init__(self.detail)


DEAD_LETTER_REASONS: Final = (
    "unparsable",
    "invalid_payload",
    "unknown_provider",
    "bad_envelope",
    "projection_failed",
    "refused_by_database",
    "connection_lost",
)
"""Why an event is dead; a label of a metric, so there are no others."""


class PoisonRecord(RedriveError):
    """No projection can apply this record; it goes to the dead letters, alone. `reason`: of `DEAD_LETTER_REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class Unavailable(RedriveError):
    """A dependency is away; back off and try again, acknowledging nothing."""

    code = "unavailable"


def code_of(error: BaseException, otherwise: str) -> str:
    """The code of an error of ours; `otherwise` for any other error."""
    return error.code if isinstance(error, RedriveError) else otherwise


class DatabaseUnavailable(Unavailable):
    """Postgres does not answer."""

    code = "database_unavailable"


class LogUnavailable(Unavailable):
    """Kafka does not answer."""

    code = "log_unavailable"


class AppendInDoubt(LogUnavailable):
    """Kafka did not confirm a record, which may be on the log: the same id again counts once."""

    code = "append_in_doubt"


class Locked(Unavailable):
    """Another session works on the same, and did not end in time; try again."""

    code = "locked"


class UnreadableRecord(RedriveError):
    """The Kafka client can't read a record. `places`: location -> why."""

    code = "unreadable_record"

    def __init__(self, places: Mapping[str, str]) -> None:
        self.places = places
        named = "; ".join(f"{location} can't be read ({why})" for location, why in places.items())
        super().__init__(
            f"{named}. Everything before it, and of other partitions, was read. Ask for a part of the log without it,"
            " or get past it as docs/runbooks/dead-letters.md says"
        )


class Misconfigured(RedriveError):
    """The configuration cannot work; refuse to start (exit 78)."""

    code = "misconfigured"


class Exited(RedriveError):
    """Code of a plug-in tried to end the process."""

    code = "exited"


class NotFound(RedriveError):
    """Nothing has the name that was given."""

    code = "not_found"


class InvalidSelection(RedriveError):
    """The selection names nothing that can be re-driven."""

    code = "invalid_selection"


class NothingSelected(InvalidSelection):
    """None of what was named by its id is on the log."""

    code = "nothing_selected"


class InvalidTransition(RedriveError):
    """The current state does not allow the request."""

    code = "invalid_transition"


class RecordsGone(InvalidTransition):
    """The topic was deleted, or deleted and created again: offsets of the old log name no record of the new one."""

    code = "records_gone"


class OverlappingReplay(RedriveError):
    """A replay that has not ended covers some of the same records."""

    code = "overlapping_replay"
