"""What the operators' service says of itself at `/openapi.json`. Must not route: a test holds it to the routes."""

from functools import cache
from typing import Any, Final, Literal

from pydantic import BaseModel

from replay.api.documents import (
    Audit,
    Changed,
    CorrectionDone,
    DeadLetterList,
    Events,
    QuarantinedDelivery,
    QuarantineList,
    Reason,
    Released,
    ReleaseOrder,
    RequeueDone,
    RequeueOrder,
    ShownEvent,
    Sources,
)
from replay.api.proofs import ProofList, ProofOrder, ShownProof
from replay.api.rebuilds import RebuildDone, RebuildOrder, Rebuilds, Scratch
from replay.api.replays_openapi import OutcomeList, ReplayList, ReplayOrder, ReplayPlan, ShownReplay
from replay.jobs.ledger import VERBS as REPLAY_VERBS
from replay.jobs.outcomes import OUTCOMES
from replay.operations.corrections import Order
from replay.operations.events import STATUSES
from replay.operations.sources import VERBS
from replay.selection.selection import MAX_PAGE, MAX_TEXT
from schemas.errors import OPERATOR_PROBLEMS
from schemas.openapi import HEALTH, Answer, Description, Operation, Parameter, describe

_ALWAYS: Final = (
    "unauthorized",
    "cross_site",
    "too_many_requests",
    "internal_error",
    "database_unavailable",
    "log_unavailable",
    "unavailable",
    "unreadable_record",
)
_PAGE: Final = Answer("A page for people.", media_type="text/html")
_SOURCE: Final = Parameter("source", "The name of a source.", "path")
_REPLAY: Final = Parameter("id", "Of the ledger, or as much of it as no other begins with.", "path")
_LIMIT: Final = Parameter("limit", "Rows of a page.", schema={"type": "integer", "minimum": 1, "maximum": MAX_PAGE})
_TEXT: Final = {"type": "string", "maxLength": MAX_TEXT}
_REVEAL: Final = (
    Parameter("reveal", "Show the whole, once it is in the audit.", schema={"enum": ["true", "false", "1", "0", ""]}),
    Parameter("reason", "Why it is revealed.", schema=_TEXT),
)
_WINDOW: Final = (
    Parameter("from", "Arrival from here on: RFC 3339, or relative like `2h ago`."),
    Parameter("to", "Arrival before this."),
)
_PAGED: Final = (_LIMIT, Parameter("cursor", "What follows the page that came with it."))
_SEARCH: Final = (
    Parameter("source", "One source.", schema=_TEXT),
    Parameter("type", "A glob: `stripe.invoice.*`.", schema=_TEXT),
    Parameter("status", "The outcome.", schema={"enum": list(STATUSES)}),
    *_WINDOW,
    Parameter("q", "Contained in the event id, the type or the error.", schema=_TEXT),
    *_PAGED,
)


def _asked(
    method: Literal["get", "post"], path: str, summary: str, answer: type[BaseModel], *problems: str, **more: Any
) -> Operation:
    """An operation that asks for the key."""
    return Operation(
        method, path, summary, {200: [Answer(summary, answer)]}, (*_ALWAYS, *problems), is_open=False, **more
    )


OPERATIONS: Final = (
    Operation("get", "/", "The console", {200: [_PAGE], 401: [_PAGE]}, _ALWAYS, is_open=False),
    Operation(
        "post",
        "/login",
        "The key for a cookie",
        {303: [Answer("Logged in.", media_type="text/plain")], 401: [_PAGE], 429: [_PAGE]},
        ("request_entity_too_large",),
        body=("application/x-www-form-urlencoded",),
    ),
    _asked("get", "/api/sources", "Every source and its state", Sources),
    _asked(
        "post",
        "/api/sources/{source}/{verb}",
        "Pause, resume, disable or enable a source",
        Changed,
        "append_in_doubt",
        "invalid_selection",
        "invalid_transition",
        "locked",
        "unknown_source",
        "not_found",
        "request_entity_too_large",
        parameters=(_SOURCE, Parameter("verb", "What to do.", "path", {"enum": list(VERBS)})),
        body=Reason,
    ),
    _asked(
        "get",
        "/api/quarantine",
        "What the quarantine holds",
        QuarantineList,
        "invalid_selection",
        parameters=(Parameter("source", "Of one source only."), *_WINDOW),
    ),
    _asked(
        "get",
        "/api/quarantine/{partition}/{offset}",
        "One quarantined delivery, and whether it verifies now",
        QuarantinedDelivery,
        "invalid_selection",
        "not_found",
        parameters=(
            Parameter("partition", "Of `webhooks.quarantine`.", "path", {"type": "integer", "minimum": 0}),
            Parameter("offset", "There.", "path", {"type": "integer", "minimum": 0}),
            *_REVEAL,
        ),
    ),
    _asked(
        "post",
        "/api/quarantine/release",
        "Bring back what verifies now",
        Released,
        "append_in_doubt",
        "invalid_selection",
        "unknown_source",
        "request_entity_too_large",
        body=ReleaseOrder,
    ),
    _asked("get", "/api/events", "Search the index", Events, "invalid_selection", parameters=(*_SEARCH, *_REVEAL)),
    _asked(
        "get",
        "/api/events/{source}/{event_id}",
        "One event, with its record",
        ShownEvent,
        "invalid_selection",
        "not_found",
        parameters=(_SOURCE, Parameter("event_id", "Its `%` is `%25` in a URL.", "path"), *_REVEAL),
    ),
    Operation(
        "post",
        "/api/replays",
        "Plan a replay, or start one",
        {200: [Answer("A dry run's plan.", ReplayPlan)], 201: [Answer("On the ledger, as planned.", ShownReplay)]},
        (*_ALWAYS, "invalid_selection", "locked", "overlapping_replay", "request_entity_too_large"),
        is_open=False,
        body=ReplayOrder,
    ),
    _asked("get", "/api/replays", "The ledger", ReplayList, "invalid_selection", parameters=(_LIMIT,)),
    _asked(
        "get",
        "/api/replays/{id}",
        "One replay",
        ShownReplay,
        "invalid_selection",
        "not_found",
        parameters=(_REPLAY,),
    ),
    _asked(
        "get",
        "/api/replays/{id}/outcomes",
        "What became of a replay's records at its target",
        OutcomeList,
        "invalid_selection",
        "not_found",
        parameters=(
            _REPLAY,
            Parameter("outcome", "Only these.", schema={"enum": list(OUTCOMES)}),
            Parameter("cursor", "Of the page before.", schema=_TEXT),
            _LIMIT,
        ),
    ),
    _asked(
        "post",
        "/api/replays/{id}/{verb}",
        "Pause, resume or cancel a replay",
        ShownReplay,
        "invalid_selection",
        "invalid_transition",
        "locked",
        "not_found",
        "request_entity_too_large",
        parameters=(_REPLAY, Parameter("verb", "What to do.", "path", {"enum": list(REPLAY_VERBS)})),
        body=Reason,
    ),
    _asked(
        "get",
        "/api/dead-letters",
        "Records that no projection could apply",
        DeadLetterList,
        "invalid_selection",
        parameters=(
            Parameter("source", "One source.", schema=_TEXT),
            Parameter("reason", "Why it is dead.", schema=_TEXT),
            *_WINDOW,
            Parameter("all", "Also the revived ones.", schema={"enum": ["true", "false", "1", "0", ""]}),
            *_PAGED,
        ),
    ),
    _asked(
        "post",
        "/api/dead-letters/requeue",
        "Fold dead letters again",
        RequeueDone,
        "invalid_selection",
        "locked",
        "request_entity_too_large",
        body=RequeueOrder,
    ),
    _asked(
        "post",
        "/api/corrections",
        "Correct credits, an account or a subscription",
        CorrectionDone,
        "append_in_doubt",
        "invalid_selection",
        "invalid_transition",
        "locked",
        "unknown_source",
        "request_entity_too_large",
        body=Order,
    ),
    _asked(
        "get",
        "/api/audit",
        "What operators did",
        Audit,
        "invalid_selection",
        parameters=(
            Parameter("operator", "Who.", schema=_TEXT),
            Parameter("action", "A glob: `source.*`.", schema=_TEXT),
            Parameter("from", "From here on."),
            Parameter("to", "Before this."),
            _LIMIT,
            Parameter("cursor", "What follows the page that came with it.", schema={"type": "integer"}),
        ),
    ),
    Operation(
        "post",
        "/api/proofs",
        "Prove that the live tables are what the log says",
        {201: [Answer("It is under way.", ShownProof)]},
        (*_ALWAYS, "invalid_selection", "invalid_transition", "request_entity_too_large"),
        body=ProofOrder,
        is_open=False,
    ),
    _asked("get", "/api/proofs", "Proofs, newest first", ProofList, "invalid_selection", parameters=(_LIMIT,)),
    _asked(
        "get",
        "/api/proofs/{id}",
        "One proof, with its certificate",
        ShownProof,
        "not_found",
        parameters=(Parameter("id", "Of a proof.", "path"),),
    ),
    _asked("get", "/api/rebuilds", "The generations, and the states of the past", Rebuilds),
    Operation(
        "post",
        "/api/rebuilds",
        "Fold a new generation, make one live, look at the past, or drop either",
        {200: [Answer("Done, or begun.", RebuildDone)], 201: [Answer("A state of the past is being made.", Scratch)]},
        (*_ALWAYS, "invalid_selection", "invalid_transition", "locked", "request_entity_too_large"),
        is_open=False,
        body=RebuildOrder,
    ),
    _asked("get", "/openapi.json", "This description", Description),
    *HEALTH,
)


@cache
def description(key_header: str) -> dict[str, Any]:
    return describe("redrive: operators", OPERATIONS, OPERATOR_PROBLEMS, key_header)
