"""Replays to a target, run as the services run them: what arrives, what is noted, and what the routes say."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from deploy.embedded.ports import free_ports
from deploy.redriving import replay_jobs
from deploy.targets import require_target
from deploy.wiring import Runtime
from processors.outcome import RawRecord
from replay.jobs import ledger
from replay.jobs.outcomes import count_outcomes, list_outcomes
from replay.ports import SendResult
from replay.targets.document import HttpTarget, TargetDocument, TopicTarget
from schemas.errors import Unavailable
from schemas.topics import source_of
from tests.conftest import ReadTopic, Stack
from tests.support.consoles import KEY, serving_console
from tests.support.endpoints import serving
from tests.support.ingresses import source
from tests.support.replays import RECORDS, Recorder, everything, jobs_of, put
from tests.support.runtimes import runtime_of
from tests.support.tables import physical_rows
from tests.support.waiting import until, within


async def sent(
    runtime: Runtime, stack: Stack, connection: Any, topic: str, target: TargetDocument
) -> tuple[uuid.UUID, dict[str, Any]]:
    replay = await put(stack, connection, everything(topic), target=await require_target(runtime, target))
    await replay_jobs(lambda: runtime).take(replay)
    return replay, await ledger.show_replay(connection, replay)


async def test_an_endpoint_gets_every_record_and_the_outcome_of_each_is_noted(
    runtime: Runtime, stack: Stack, folded_topic: str, connection: Any
) -> None:
    seen: list[str] = []

    async def take(request: web.Request) -> web.Response:
        place = request.headers["Redrive-Record"]
        seen.append(place)
        return web.Response(status=410 if place.endswith("/7") else 200)

    before = await physical_rows(connection)
    async with serving(take) as url:
        replay, entry = await sent(runtime, stack, connection, folded_topic, HttpTarget(url))
    gone = sum(place.endswith("/7") for place in seen)
    assert (entry["state"], entry["records"], entry["failed"], entry["rows_changed"]) == ("done", RECORDS, gone, 0)
    assert len(set(seen)) == len(seen) == RECORDS
    assert await physical_rows(connection) == before
    counts = [tuple(one.values()) for one in await count_outcomes(connection, replay)]
    assert counts == [("delivered", 200, RECORDS - gone), ("failed", 410, gone)]
    failed, _ = await list_outcomes(connection, replay, "failed")
    assert {f"{one['topic']}/{one['partition']}/{one['record_offset']}" for one in failed} == {
        place for place in seen if place.endswith("/7")
    }
    details = await connection.fetchval("SELECT details->'target'->>'url' FROM redrive.audit")
    assert details == url


async def test_a_replay_waits_for_an_endpoint_that_is_away_and_says_so(
    runtime: Runtime, stack: Stack, folded_topic: str, connection: Any
) -> None:
    (port,) = free_ports(1)
    target = await require_target(runtime, HttpTarget(f"http://127.0.0.1:{port}/", concurrency=1))
    replay = await put(stack, connection, everything(folded_topic), target=target)
    running = asyncio.create_task(replay_jobs(lambda: runtime).take(replay))

    async def says_so() -> bool:
        entry = await ledger.show_replay(connection, replay)
        return entry["state"] == "running" and "takes no connections" in (entry["slowed_by"] or "")

    await until(says_so, "the replay says what it waits for")
    app = web.Application()

    async def take(_: web.Request) -> web.Response:
        return web.Response()

    app.router.add_post("/", take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await within(running, "the replay ends")
    finally:
        await runner.cleanup()
    entry = await ledger.show_replay(connection, replay)
    assert (entry["state"], entry["records"], entry["failed"], entry["slowed_by"]) == ("done", RECORDS, 0, None)


async def test_what_is_waited_for_stays_said_until_the_target_takes_something(
    stack: Stack, database_url: str, folded_topic: str, connection: Any
) -> None:
    """That it is tried again is no news, and no full pace."""
    await connection.execute("""
        CREATE TABLE said (at serial, slowed_by text);
        CREATE FUNCTION note_said() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO said (slowed_by) VALUES (NEW.slowed_by); RETURN NEW; END';
        CREATE TRIGGER said AFTER UPDATE OF slowed_by ON redrive.replays FOR EACH ROW EXECUTE FUNCTION note_said();
    """)
    passes = 0

    def answer(_: RawRecord) -> SendResult:
        if passes <= 2:
            raise Unavailable("nobody is there")
        return SendResult("delivered", 200)

    recorder = Recorder(answer=answer)
    recorder.gate.set()

    def open_target(*_: object) -> Recorder:
        nonlocal passes
        passes += 1
        return recorder

    target = HttpTarget("http://127.0.0.1/").as_document()
    replay = await put(stack, connection, everything(folded_topic), target=target)
    await jobs_of(stack, database_url, recorder, open_target=open_target).take(replay)
    assert (await ledger.show_replay(connection, replay))["state"] == "done"
    said = [row["slowed_by"] for row in await connection.fetch("SELECT slowed_by FROM said ORDER BY at")]
    assert said[:2] == ["waiting: nobody is there"] * 2
    assert set(said[2:]) == {None}


async def test_a_topic_gets_a_copy_of_every_record(
    runtime: Runtime, stack: Stack, folded_topic: str, copies: str, connection: Any, read_topic: ReadTopic
) -> None:
    replay, entry = await sent(runtime, stack, connection, folded_topic, TopicTarget(copies))
    assert (entry["state"], entry["records"], entry["failed"]) == ("done", RECORDS, 0)
    originals = {f"{one.topic}/{one.partition}/{one.offset}": one for one in await read_topic(folded_topic)}
    found = {one.headers[-1][1].decode(): one for one in await read_topic(copies)}
    assert found.keys() == originals.keys()
    assert all(found[place].value == one.value for place, one in originals.items())
    assert {dict(one.headers)["redrive_replay"].decode() for one in found.values()} == {str(replay)}
    assert await count_outcomes(connection, replay) == []


async def test_a_target_that_is_no_longer_allowed_fails_the_replay(
    runtime: Runtime, stack: Stack, folded_topic: str, connection: Any
) -> None:
    target = HttpTarget("http://10.1.2.3/").as_document()
    replay = await put(stack, connection, everything(folded_topic), target=target)
    await replay_jobs(lambda: runtime).take(replay)
    entry = await ledger.show_replay(connection, replay)
    assert (entry["state"], entry["records"]) == ("failed", 0)
    assert "allow_hosts" in entry["error"]


@pytest.fixture
async def console(stack: Stack, folded_topic: str, database_url: str, tmp_path: Path) -> AsyncIterator[ClientSession]:
    """The routes, and a session that may use them; nobody runs what they put on the ledger."""
    sources = {name: source(name, "stripe") for name in [source_of(folded_topic)]}
    async with (
        serving_console(runtime_of(stack, tmp_path, database_url, sources=sources)) as url,
        ClientSession(url, headers=KEY) as session,
    ):
        yield session


ORDER = {"from": "2020-01-01T00:00:00Z", "reason": "because"}


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest",
        "topic:webhooks.dead-letter",
        "topic:no.such.topic",
        "http://nobody.invalid/hooks",
        {"kind": "http", "url": "http://127.0.0.1/", "secret": "s"},
        {"kind": "http", "url": "http://127.0.0.1/", "resign": True},
        "https://example.com@127.0.0.1/",
        5,
    ],
    ids=str,
)
async def test_a_route_refuses_what_can_not_be_a_target(
    console: ClientSession, connection: Any, target: object
) -> None:
    for is_dry in (True, False):
        async with console.post("/api/replays", json={**ORDER, "target": target, "dry_run": is_dry}) as response:
            assert response.status == 400, await response.text()
            assert (await response.json())["code"] == "invalid_selection"
    assert await connection.fetchval("SELECT count(*) FROM redrive.replays") == 0


async def test_the_routes_take_a_target_and_tell_its_outcomes(
    console: ClientSession, runtime: Runtime, connection: Any
) -> None:
    async def take(request: web.Request) -> web.Response:
        return web.Response(status=404 if request.headers["Redrive-Record"].endswith("/1") else 200)

    async with serving(take) as url:
        wanted = HttpTarget(url).as_document()
        async with console.post("/api/replays", json={**ORDER, "target": url, "dry_run": True}) as response:
            assert (response.status, (await response.json())["target"]) == (200, wanted)
        order = {**ORDER, "target": url, "dry_run": True, "diff": True}
        async with console.post("/api/replays", json=order) as response:
            assert response.status == 400, "it is about the tables"
        async with console.post("/api/replays", json={**ORDER, "target": wanted}) as response:
            entry = await response.json()
            assert (response.status, entry["target"]) == (201, wanted)
        await replay_jobs(lambda: runtime).take(uuid.UUID(entry["id"]))
    path = f"/api/replays/{entry['id']}/outcomes"
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "40", **({"cursor": cursor} if cursor else {})}
        async with console.get(path, params=query) as response:
            page = await response.json()
            found, cursor = found + page["outcomes"], page["cursor"]
    assert len(found) == RECORDS
    async with console.get(path, params={"outcome": "failed"}) as response:
        failed = (await response.json())["outcomes"]
    assert failed == [one for one in found if one["outcome"] == "failed"] != []
    assert {(one["status"], one["error"]) for one in failed} == {(404, "answered 404")}
    for wrong in ({"outcome": "lost"}, {"cursor": "x"}, {"limit": "0"}):
        async with console.get(path, params=wrong) as response:
            assert response.status == 400
    async with console.get(f"/api/replays/{uuid.uuid4()}/outcomes") as response:
        assert response.status == 404
