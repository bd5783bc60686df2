"""Events as operators see them: redacted, or revealed and then on record (invariant 10); over HTTP and as a command."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import Stack
from tests.support.consoles import KEY, Call
from tests.support.planting import EMAIL, PHONE, TOKEN, traces
from tests.support.processes import Installation
from tests.support.records import FakeRecord, payment, produce, record, stripe_event
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

FIXTURES = Path(__file__).parents[1] / "fixtures"
WAMID = "wamid.HBgLMzM2OTg3NjU0MzIVAgASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA="
INTENT = {"id": "pi_1", "object": "payment_intent", "status": "succeeded", "amount": 4900, "currency": "eur"}
PRIVATE = {**INTENT, "receipt_email": EMAIL, "shipping": {"phone": PHONE, "name": TOKEN}, "metadata": {}}
MESSAGE = {"from": PHONE[1:], "id": WAMID, "timestamp": "1760000000", "type": "text", "text": {"body": TOKEN}}
BATCH = {"entry": [{"changes": [{"field": "messages", "value": {"messages": [MESSAGE]}}]}]}

Get = Callable[..., Any]


@pytest.fixture
async def get(pages: str) -> AsyncIterator[Get]:
    """GET of a path -> (status, document, text)."""
    async with aiohttp.ClientSession() as session:

        async def fetch(path: str, headers: dict[str, str] = KEY, **query: Any) -> tuple[int, Any, str]:
            async with session.get(pages + path, params=query, headers=headers) as response:
                text = await response.text()
                assert response.headers["Content-Type"].startswith("application/")
                return response.status, json.loads(text), text

        yield fetch


async def fold(stack: Stack, topic: str, database_url: str, connection: Any, folder: Path, *records: FakeRecord) -> str:
    """Put records on the log and fold them; returns their source."""
    await produce(stack.servers, records)
    async with run_worker(stack, database_url, topic, topic, folder):
        await until(folded(connection, len(records)), "the fold")
    return topic.removeprefix("webhooks.")


@pytest.fixture
async def source(stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path) -> str:
    """A source whose events hold a number, an address and a name: one applied, one in a batch, one dead."""
    signed = record(topic, "stripe", stripe_event("evt_1", "payment_intent.succeeded", PRIVATE))
    headers = [*signed.headers, ("http_stripe-signature", b"t=1,v1=5ecret"), ("redrive_token_digest", b"5ecret")]
    dead = stripe_event("evt_2", "customer.subscription.created", {"id": "sub_1", "customer": EMAIL})
    return await fold(
        stack, topic, database_url, connection, tmp_path,
        replace(signed, headers=headers),
        record(topic, "whatsapp", json.dumps(BATCH).encode()),
        record(topic, "stripe", dead),
    )  # fmt: skip


def quoted(event_id: str) -> str:
    """An id holds percent-encoded parts, which are to reach the server as they are."""
    return event_id.replace("%", "%25")


async def audited(connection: Any) -> list[tuple[Any, ...]]:
    rows = await connection.fetch("SELECT operator, action, reason, details FROM redrive.audit ORDER BY id")
    return [(row["operator"], row["action"], row["reason"], json.loads(row["details"])) for row in rows]


async def refuse_audit(connection: Any) -> None:
    await connection.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the audit is full'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON redrive.audit FOR EACH ROW EXECUTE FUNCTION refuse();
    """)


async def test_an_event_is_shown_by_its_shape(get: Get, source: str, connection: Any) -> None:
    status, event, text = await get(f"/api/events/{source}/evt_1")
    assert (status, event["redacted"], event["status"], event["event_id"]) == (200, True, "applied", "evt_1")
    shape = event["body"]["shape"]
    assert (shape["id"], shape["type"]) == ("evt_1", "payment_intent.succeeded")
    shown = {name: shape["data"]["object"][name] for name in INTENT}
    assert shown == INTENT
    assert shape["data"]["object"]["shipping"] == {"phone": "<text 12>", "name": f"<text {len(TOKEN)}>"}
    assert event["headers"]["http_stripe-signature"] == event["headers"]["redrive_token_digest"] == "•••"
    assert len(event["locations"]) == 1
    assert not traces(text)
    assert "5ecret" not in text
    assert await audited(connection) == []


async def test_a_reveal_is_whole_and_on_record_and_keeps_credentials(get: Get, source: str, connection: Any) -> None:
    who = {**KEY, "X-Operator": "ines", "X-Reason": "ticket 7"}
    _, event, text = await get(f"/api/events/{source}/evt_1", headers=who, reveal="true")
    assert json.loads(event["body"]["text"])["data"]["object"] == PRIVATE
    assert event["redacted"] is False
    assert "5ecret" not in text
    await get(f"/api/events/{source}/evt_1", reveal="1", reason="because")
    location = f"{event['topic']}/{event['partition']}/{event['record_offset']}"
    details = {"source": source, "event_id": "evt_1", "location": location}
    assert await audited(connection) == [
        ("ines", "events.reveal", "ticket 7", details),
        ("the-host", "events.reveal", "because", details),
    ]


async def test_what_cannot_be_put_on_record_is_not_revealed(get: Get, source: str, connection: Any) -> None:
    await refuse_audit(connection)
    for path in (f"/api/events/{source}/evt_1", "/api/events"):
        status, problem, text = await get(path, reveal="true")
        assert (status, problem["status"]) == (503, 503)
        assert "body" not in problem
        assert not traces(text)
        # Redacted, nothing has to be written.
        assert (await get(path))[0] == 200
    assert await audited(connection) == []


async def test_a_list_masks_ids_and_a_masked_id_finds_its_event(get: Get, source: str, connection: Any) -> None:
    _, page, text = await get("/api/events", source=source)
    assert {entry["status"] for entry in page["events"]} == {"applied", "dead"}
    assert not traces(text)
    assert WAMID[6:20] not in text
    (masked,) = [entry["event_id"] for entry in page["events"] if entry["provider"] == "whatsapp"]
    assert masked.startswith("wamid.•••")
    status, event, text = await get(f"/api/events/{source}/{quoted(masked)}")
    assert (status, event["body"]["shape"]["entry"][0]["changes"][0]["value"]["messages"][0]["type"]) == (200, "text")
    assert not traces(text)
    assert (await get(f"/api/events/{source}/wamid.•••nobody"))[0] == 404
    _, revealed, _ = await get("/api/events", source=source, reveal="true", q="wamid")
    assert [entry["event_id"] for entry in revealed["events"]] == [WAMID.replace("=", "%3D")]
    assert await audited(connection) == [
        ("the-host", "events.reveal", None, {"search": {"source": source, "q": "wamid"}, "events": 1})
    ]


async def test_pages_follow_one_another_without_a_gap_or_a_repetition(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path, get: Get
) -> None:
    """Also where many events came in one delivery, at one moment."""
    messages = [{**MESSAGE, "id": f"wamid.{number:040}"} for number in range(23)]
    batch = json.dumps({"entry": [{"changes": [{"field": "messages", "value": {"messages": messages}}]}]}).encode()
    records = [record(topic, "whatsapp", batch), *(record(topic, "stripe", payment(n), partition=1) for n in range(9))]
    await fold(stack, topic, database_url, connection, tmp_path, *records)
    seen: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        _, page, _ = await get("/api/events", limit=5, **cursor)
        seen += page["events"]
        if page["cursor"] is None:
            break
        assert len(page["events"]) == 5
        cursor = {"cursor": page["cursor"]}
    assert len({(entry["source"], entry["event_id"]) for entry in seen}) == len(seen) == 32
    received = [entry["received_at"] for entry in seen]
    assert received == sorted(received, reverse=True)


async def test_each_filter_narrows(get: Get, source: str, connection: Any) -> None:
    async def ids(**query: Any) -> list[str]:
        status, page, _ = await get("/api/events", **query)
        assert status == 200, page
        return sorted(entry["event_id"] for entry in page["events"] if entry["provider"] == "stripe")

    assert await ids() == await ids(source=source) == ["evt_1", "evt_2"]
    assert await ids(status="dead") == ["evt_2"]
    assert await ids(status="applied", source=source) == ["evt_1"]
    assert await ids(type="stripe.payment_intent.*") == ["evt_1"]
    assert await ids(type="stripe.payment%") == []
    assert await ids(q="vt_1") == ["evt_1"]
    assert await ids(q="Field required") == ["evt_2"]
    assert await ids(**{"from": "1h ago"}, to="2100-01-01T00:00:00Z") == ["evt_1", "evt_2"]
    assert await ids(to="1h ago") == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"},
        {"limit": "501"},
        {"limit": "ten"},
        {"status": "undead"},
        {"from": "soonish"},
        {"from": "2026-01-02", "to": "2026-01-01"},
        {"to": "9999-12-31T23:59:59-23:00"},
        {"cursor": "x"},
        {"cursor": "9" * 30 + ".1"},
        {"reveal": "maybe"},
        {"sauce": "stripe"},
        {"q": "a\0b"},
        {"source": "x" * 2000},
        {"source": "nobody"},
    ],
)
async def test_a_search_that_makes_no_sense_is_refused(get: Get, query: dict[str, str]) -> None:
    status, problem, _ = await get("/api/events", **query)
    assert (status, problem["code"]) == (400, "invalid_selection"), problem
    assert problem["detail"] != "invalid selection"


async def test_who_is_not_logged_in_learns_nothing(get: Get, source: str, connection: Any) -> None:
    for path in ("/api/events", f"/api/events/{source}/evt_1", f"/api/events/{source}/none"):
        status, problem, _ = await get(path, headers={"X-Admin-API-Key": "guess"}, reveal="true")
        assert (status, problem["code"]) == (401, "unauthorized")
    assert await audited(connection) == []


async def test_an_event_that_is_not_there_is_404_and_its_reveal_not_on_record(get: Get, connection: Any) -> None:
    for event_id in ("evt_none", "a%00b", "webhooks.x/0/1"):
        status, problem, _ = await get(f"/api/events/stripe/{event_id}", reveal="true")
        assert (status, problem["code"]) in ((404, "not_found"), (400, "invalid_selection"))
    assert await audited(connection) == []


async def test_ids_with_separators_are_found(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path, get: Get
) -> None:
    foreign = replace(record(topic, "stripe", payment(1)), headers=[("x", b"y")])
    odd = record(topic, "stripe", stripe_event("a/b+c:d e%", "invoice.sent", {"id": "in_1"}))
    source = await fold(stack, topic, database_url, connection, tmp_path, foreign, odd)
    for row in await connection.fetch("SELECT event_id FROM webhook_events"):
        status, event, _ = await get(f"/api/events/{source}/{quoted(row['event_id'])}")
        assert (status, len(event["locations"])) == (200, 1), row["event_id"]


async def test_a_record_that_the_log_no_longer_holds_is_said_to_be_gone(get: Get, source: str, connection: Any) -> None:
    await connection.execute("UPDATE redrive.event_index SET record_offset = 900 WHERE event_id = 'evt_1'")
    await connection.execute("UPDATE redrive.event_index SET topic = 'webhooks.gone' WHERE event_id = 'evt_2'")
    for event_id in ("evt_1", "evt_2"):
        status, event, _ = await get(f"/api/events/{source}/{event_id}")
        assert (status, event["headers"], event["body"]) == (200, None, None)


async def test_the_command_redacts_reveals_and_is_on_record(
    stack: Stack, source: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "cli"
    folder.mkdir()
    cli = Installation(
        folder, KAFKA_BOOTSTRAP_SERVERS=stack.servers, DATABASE_URL=database_url, REDRIVE_OPERATOR="ines"
    )
    for arguments in (("list",), ("list", "--json"), ("show", source, "evt_1"), ("show", source, "evt_1", "--json")):
        _, out = await cli.redrive("events", *arguments)
        assert "evt_1" in out
        assert not traces(out)
        assert "5ecret" not in out
    assert await audited(connection) == []
    _, out = await cli.redrive("events", "show", source, "evt_1", "--reveal", "--reason", "ticket 7")
    assert EMAIL in out
    assert "5ecret" not in out
    event = await cli.redrive_json("events", "show", source, "evt_1", "--reveal")
    assert json.loads(event["body"]["text"])["data"]["object"] == PRIVATE
    assert [row[:3] for row in await audited(connection)] == [
        ("ines", "events.reveal", "ticket 7"),
        ("ines", "events.reveal", None),
    ]
    code, out = await cli.redrive("events", "list", "--reason", "why", expect=None)
    assert (code, "--reason goes with --reveal" in out) == (2, True)
    await refuse_audit(connection)
    code, out = await cli.redrive("events", "show", source, "evt_1", "--reveal", expect=None)
    assert (code, traces(out)) == (69, [])


async def test_a_source_that_nobody_knows_is_refused_by_every_list_and_every_command_of_them(
    stack: Stack, source: str, database_url: str, connection: Any, tmp_path: Path, call: Call
) -> None:
    """Nothing found would look like nothing there. `source` is not configured, and known from what was folded of it."""
    for path in ("/api/events", "/api/dead-letters"):
        assert (await call("GET", f"{path}?source={source}"))[0] == 200
        assert (await call("GET", f"{path}?source=stripe"))[0] == 200
    requeue = {"reason": "why", "dry_run": True}
    for method, path, body in (
        ("GET", "/api/events?source=strip", None),
        ("GET", "/api/dead-letters?source=strip", None),
        ("GET", "/api/quarantine?source=strip", None),
        ("POST", "/api/dead-letters/requeue", {**requeue, "source": ["stripe", "strip"]}),
    ):
        status, problem = await call(method, path, body)
        assert (status, problem["code"]) == (400, "invalid_selection"), path
        assert "no source is called 'strip'" in problem["detail"]
        assert "stripe" in problem["detail"].partition("there are:")[2].replace(",", "").split()
    cli = Installation(tmp_path, KAFKA_BOOTSTRAP_SERVERS=stack.servers, DATABASE_URL=database_url)
    for arguments in (
        ("events", "list"),
        ("dead-letters", "list"),
        ("dead-letters", "requeue", "--reason", "why"),
        ("quarantine", "list"),
        ("quarantine", "release"),
    ):
        code, out = await cli.redrive(*arguments, "--source", "strip", expect=None)
        assert (code, "no source is called" in out) == (2, True), (arguments, out)
        assert source in out or arguments[0] == "quarantine"
    await connection.execute("DELETE FROM redrive.positions")
    assert (await call("GET", f"/api/events?source={source}"))[0] == 200, "the index still has it"
