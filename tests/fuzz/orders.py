"""What must hold of what operators order, in a request, as flags, and as the ledger keeps it: it is refused by the error
taxonomy, or it is a value that Kafka and Postgres can be asked about.
"""

import contextlib
from collections.abc import Coroutine
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, Final

import orjson
from aiohttp import web
from multidict import MultiDict
from pydantic import ValidationError

from replay.api.dead_letters import dead_letter_routes
from replay.api.replays import Replays
from replay.api.route import OPERATOR
from replay.jobs.lease import planned
from replay.operations.dead_letters import DeadLetterFilter
from replay.operations.requeue import Requeued
from replay.prove.certificate import parse_certificate
from replay.rebuild.order import RebuildOrder
from replay.selection.patterns import moment
from replay.selection.row_lookup import Touched
from replay.selection.selection import Selection, iso_of, parse_selection, sources_of_log, stored_selection
from replay.tables.generations import tables_named
from replay.targets.document import TargetDocument, target_of
from schemas.errors import InvalidSelection
from tests.fuzz.endpoints import TARGET, TEXTS, json_of
from tests.fuzz.operators import SOURCES
from tests.fuzz.request import NOW, Request
from tests.support.records import FakeRecord

KNOWN: Final = sources_of_log(SOURCES)
EPOCH: Final = "1970-01-01T00:00:00+00:00"

SELECTIONS: tuple[dict[str, Any], ...] = (
    {"sources": ["stripe", "operator"], "from": "2026-11-21T00:00:00Z", "to": "2026-11-22T00:00:00.123+01:00", "by": "event",
     "types": ["stripe.invoice.*", "*.batch"], "dead_letters": False},
    {"source": "twilio", "offsets": ["webhooks.twilio:0:10-20"], "event_ids": ["SM1:sent"], "dead_letters": True},
    {"keys": [["accounts", "stripe", "cus_1"], ["conversations", "twilio", "sms", "+1", "+2"], ["credit_entries", "stripe", "e"]]},
    {"any": [{"dead_letters": True}, {"key": ["crm_objects", "hubspot", "1", "contact", "2"]}, {"from": "2026-11-21T00:00:00Z"}]},
)  # fmt: skip
REPLAYS: tuple[dict[str, Any], ...] = (
    {**SELECTIONS[0], "reason": "why", "rate": 1.5, "target": TARGET},
    {"selection": SELECTIONS[1], "dry_run": True, "diff": True},
    {"selection": SELECTIONS[3], "reason": "why", "rate": 100, "target": TEXTS[1]},
)
STORED: tuple[dict[str, Any], ...] = (
    {
        "selection": {"sources": ["gone"], "from": EPOCH, "to": None, "by": "arrival", "types": [], "event_ids": [], "offsets": [],
                      "dead_letters": False, "keys": []},
        "plan": {"ranges": {"webhooks.gone:0": [0, 5, 7, 9], "webhooks.gone:11": [3, 4]}, "located": [None]},
        "target": None,
    },
    {
        "selection": {"any": [SELECTIONS[1], SELECTIONS[1]]},
        "plan": {"ranges": {"webhooks.twilio:0": [10, 21]}, "located": [{"webhooks.twilio:0": [10, 21]}, {}]},
        "target": {"kind": "topic", "topic": "copies"},
    },
)  # fmt: skip
REQUEUES: tuple[dict[str, Any], ...] = (
    {"source": ["stripe"], "dead_reason": "invalid_payload", "from": "2026-01-01T00:00:00Z", "to": "2026-01-02", "reason": "fixed"},
    {"locations": ["webhooks.stripe/0/7", "webhooks.hubspot/11/9223372036854775807"], "dry_run": True},
    {"all": True},
)  # fmt: skip
REBUILDS: tuple[dict[str, Any], ...] = (
    {"only": ["subscriptions", "payments"], "reason": "why"}, {"apply": 2, "accept_loss": True}, {"rollback": True},
)  # fmt: skip
TABLE = {"columns": ["source", "status"], "rows": 1, "root": "00", "log_rows": 1, "log_root": "00"}
CERTIFICATE: dict[str, Any] = {
    "format": "redrive-certificate/1", "verdict": "different", "reasons": [], "tables": {"messages": TABLE},
    "differences": [{"table": "messages", "key": {"source": "twilio"}, "columns": ["status"], "kind": "changed"}],
    "differences_total": 1, "counts": {"records": 3, "events": 2, "duplicates": 1, "dead_letters": 0},
    "positions": [{"topic": "webhooks.twilio", "partition": 0, "next_offset": 3, "records": 3, "sha256": "00"}],
    "views": ["messages"], "behind": {"records": 2, "topics": {"webhooks.twilio": 2}, "as_of": "2026-11-21T00:00:00Z"},
    "losses": [{"topic": "webhooks.twilio", "partition": 0, "first_offset": 3, "end_offset": 5, "state": "accepted",
                "operator": "ada", "reason": "why"}],
    "generation": 1, "versions": {"twilio": 1}, "made_at": "2026-11-21T00:00:00Z", "redrive": "0.1", "digest": "00",
}  # fmt: skip


def documents(*some: Any) -> list[Request]:
    return [Request(body=orjson.dumps(one)) for one in some]


def check_selection(request: Request) -> None:
    """What is selected can be asked of Postgres and Kafka, and comes back from the ledger as it went in."""
    document = json_of(request.body)
    if isinstance(document, dict):
        with contextlib.suppress(InvalidSelection):
            require_whole(parse_selection(document, KNOWN))


def require_whole(found: Selection) -> None:
    stored = orjson.loads(orjson.dumps(found.as_document()))
    assert stored_selection(stored) == found
    for one in found.choices:
        assert set(one.sources) <= set(KNOWN)
        for text in (*one.types, *one.event_ids, *(value for key in one.keys for value in key)):
            require_storable(text)
        require_storable(iso_of(one.from_ms), iso_of(one.to_ms), moment(one.from_ms), moment(one.to_ms))
        assert all(0 <= part.start < part.end <= 2**63 and part.partition < 2**31 for part in one.offsets)
        one.holds_type(("stripe.invoice.paid",))
        with contextlib.suppress(InvalidSelection):
            Touched(one.keys)


def require_storable(*values: Any) -> None:
    for value in values:
        assert not isinstance(value, str) or b"\0" not in value.encode(), "Postgres takes it as text"


class _Asked(Exception):
    """The order was read: what follows needs the log."""


class _Pool:
    @contextlib.asynccontextmanager
    async def acquire(self) -> Any:
        async def fetch(*_: object) -> list[Any]:
            return []

        async def fetchval(*_: object) -> Any:
            raise _Asked

        yield SimpleNamespace(fetch=fetch, fetchval=fetchval)


class _Turn:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


def _ask(handler: Any, body: bytes) -> Any:
    """The answer of a route that waits for nothing."""

    async def read() -> bytes:
        return body

    asked: Coroutine[Any, Any, web.Response] = handler(
        SimpleNamespace(read=read, headers={}, query=MultiDict(), match_info={}, app={OPERATOR: "ines"})
    )
    try:
        asked.send(None)
    except StopIteration as done:
        return orjson.loads(done.value.body)
    raise AssertionError("it waits for something")


async def _required(found: TargetDocument | None) -> dict[str, Any] | None:
    return None if found is None else found.as_document()


def check_replay(request: Request) -> None:
    """`POST /api/replays`."""
    operations: Any = SimpleNamespace(sources=lambda: SOURCES, pool=_Pool())
    turn: Any = _Turn()
    routes = Replays(operations, lambda: turn, _required, turn).routes()
    with contextlib.suppress(InvalidSelection, _Asked):
        _ask(routes[0].handler, request.body)


def check_stored(request: Request) -> None:
    """A row of the ledger, whoever wrote it: it is run as it says, or the replay fails and says why."""
    row = json_of(request.body)
    if not isinstance(row, dict):
        return
    with contextlib.suppress(InvalidSelection):
        found = planned(orjson.dumps(row.get("selection")).decode(), orjson.dumps(row.get("plan")).decode())
        assert all(part.start < part.end for part in found.ranges)
        assert planned(*(orjson.dumps(one).decode() for one in (found.selection.as_document(), found.pin()))).pin() == (
            found.pin()
        )
        found.matcher.holds(FakeRecord("webhooks.twilio", 0, 15, NOW * 1000, None, b"", [("ce_type", b"x")]))
    with contextlib.suppress(InvalidSelection):
        target_of(row.get("target"))


def check_certificate(request: Request) -> None:
    """A file that anybody hands over."""
    with contextlib.suppress(InvalidSelection):
        found = parse_certificate(request.body)
        found.contradictions()
        sealed = found.sealed()
        assert parse_certificate(sealed.model_dump_json().encode()) == sealed
        orjson.dumps(sealed.model_dump(mode="json"))
        assert all(one.next_offset >= 0 and one.partition >= 0 for one in found.positions)


def check_rebuild(request: Request) -> None:
    """`POST /api/rebuilds`."""
    with contextlib.suppress(InvalidSelection, ValidationError):
        order = RebuildOrder.model_validate_json(request.body)
        require_storable(order.reason)
        tables_named(order.only)


def check_requeue(request: Request) -> None:
    """`POST /api/dead-letters/requeue`."""

    async def requeue(_: object, wanted: DeadLetterFilter, __: object) -> Requeued:
        require_letters(wanted)
        return Requeued()

    pool: Any = _Pool()
    with contextlib.suppress(InvalidSelection):
        answered = _ask(dead_letter_routes(pool, requeue, dict)[1].handler, request.body)
        assert answered.keys() == {*asdict(Requeued()), "dry_run"}


def require_letters(wanted: DeadLetterFilter) -> None:
    orjson.dumps(wanted.as_document())
    for value in wanted.parameters():
        require_storable(*value if isinstance(value, list) else (value,))
        assert not isinstance(value, list) or all(not isinstance(one, int) or 0 <= one < 2**63 for one in value)
