"""The ingress' own `/openapi.json`. Must not route: `tests/contract` holds it to the routes."""

from functools import cache
from typing import Any, Final, Literal

from schemas.errors import REJECTIONS
from schemas.openapi import HEALTH, Description, Document, Operation, Parameter, ResponseBody, describe

_PAGES_ONLY: Final = ("not_found",)
_HANDSHAKE_ONLY: Final = ("handshake_incomplete", "verify_token_mismatch")
_DELIVERY: Final = tuple(code for code in REJECTIONS if code not in _PAGES_ONLY + _HANDSHAKE_ONLY)
_SOURCE: Final = Parameter("source", "The name of a configured source.", "path", {"type": "string", "minLength": 1})
_REST: Final = Parameter("rest", "Kept, and signed by those who sign URLs.", "path", {"type": "string", "minLength": 1})
_HANDSHAKE: Final = (
    Parameter("hub.mode", "`subscribe`"),
    Parameter("hub.challenge", "The text to answer."),
    Parameter("hub.verify_token", "The source's own."),
)


class StoredAnswer(Document):
    """The delivery is durable. `accepted` and `duplicate` come with `Redrive-Record`, `spooled` does not."""

    status: Literal["accepted", "duplicate", "spooled"]
    record_id: str


STORED: Final = (
    ResponseBody("Stored, or stored before.", StoredAnswer, headers=("Redrive-Record",)),
    ResponseBody("Stored: an empty TwiML document, for Twilio.", media_type="text/xml", headers=("Redrive-Record",)),
)
_CHALLENGE: Final = ResponseBody("Meta's challenge, bare.", media_type="text/plain")
_BODIES: Final = ("application/json", "application/x-www-form-urlencoded")


def _deliveries(path: str, *parameters: Parameter) -> tuple[Operation, Operation]:
    return (
        Operation("post", path, "Take a delivery", {200: STORED}, _DELIVERY, parameters, _BODIES),
        Operation(
            "get",
            path,
            "Answer Meta's handshake, or take a delivery of Twilio's",
            {200: (*STORED, _CHALLENGE)},
            (*_DELIVERY, *_HANDSHAKE_ONLY),
            (*parameters, *_HANDSHAKE),
        ),
    )


OPERATIONS: Final = (
    *_deliveries("/webhooks/{source}", _SOURCE),
    *_deliveries("/webhooks/{source}/{rest}", _SOURCE, _REST),
    *HEALTH,
    Operation("get", "/openapi.json", "This description", {200: [ResponseBody("OpenAPI 3.1.", Description)]}),
)


@cache
def description() -> dict[str, Any]:
    return describe("redrive: ingress", OPERATIONS, REJECTIONS)
