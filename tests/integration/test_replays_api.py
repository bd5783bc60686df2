"""Replays by HTTP and by command, on the real service: what is asked is planned, put on the ledger, and run."""

import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Stack
from tests.support.consoles import Consoles, call, running_console
from tests.support.replays import never_folded
from tests.support.waiting import until

RECORDS = 90


@pytest.fixture
async def consoles(stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path) -> Consoles:
    await never_folded(stack, connection, topic, RECORDS)
    return Consoles(stack, database_url, tmp_path, topic.removeprefix("webhooks."))


@pytest.fixture
async def url(consoles: Consoles) -> AsyncIterator[str]:
    """Of a process of its own, with metrics of its own."""
    process, found = await consoles.start()
    try:
        yield found
    finally:
        process.terminate()
        await process.wait()


async def test_a_replay_from_its_plan_to_its_end(url: str, topic: str, connection: Any) -> None:
    source = topic.removeprefix("webhooks.")
    window = {"sources": [source], "from": "2h ago"}
    status, plan = await call(url, "POST", "/api/replays", {"selection": window, "dry_run": True})
    assert (status, plan["records"], plan["dry_run"]) == (200, RECORDS, True)
    status, plan = await call(url, "POST", "/api/replays", {**window, "dry_run": True, "diff": True})
    assert (status, plan["diff"]["tables"]) == (200, {"payments": {"added": RECORDS, "changed": 0}})
    assert await connection.fetchval("SELECT count(*) FROM redrive.replays") == 0
    order = {"source": source, "from": "2h ago", "rate": 20, "reason": "the outage"}
    status, created = await call(url, "POST", "/api/replays", order)
    assert (status, created["state"], created["total"], created["reason"]) == (201, "planned", RECORDS, "the outage")
    path = f"/api/replays/{created['id']}"

    status, refused = await call(url, "POST", "/api/replays", {"event_ids": ["evt_none"], "reason": "x"})
    assert status == 201, "it covers nothing of the other"
    status, refused = await call(url, "POST", "/api/replays", order)
    assert (status, refused["code"]) == (409, "overlapping_replay")
    assert created["id"] in refused["detail"]

    async def has_begun() -> bool:
        return bool((await call(url, "GET", path))[1]["records"])

    await until(has_begun, "it runs")
    status, paused = await call(url, "POST", f"{path}/pause", {"reason": "lunch"})
    assert (status, paused["state"]) == (200, "paused")
    assert 0 < paused["progress"] < 1
    status, _ = await call(url, "POST", f"{path}/resume")
    assert status == 200

    async def is_done() -> bool:
        return bool((await call(url, "GET", path))[1]["state"] == "done")

    await until(is_done, "its end")
    _, entry = await call(url, "GET", path)
    assert (entry["records"], entry["rows_changed"], entry["progress"]) == (RECORDS, RECORDS, 1)
    status, refused = await call(url, "POST", f"{path}/resume")
    assert (status, refused["code"]) == (409, "invalid_transition")
    assert "done" in refused["detail"]
    _, listed = await call(url, "GET", "/api/replays?limit=500")
    assert created["id"] in [one["id"] for one in listed["replays"]]
    assert f'redrive_replay_progress_ratio{{replay="{created["id"]}"}} 1.0' in await text_of(url, "/metrics")
    assert f'redrive_replay_records_total{{outcome="applied"}} {RECORDS}.0' in await text_of(url, "/metrics")
    audit = await connection.fetch("SELECT action, reason FROM redrive.audit ORDER BY id")
    expected = [("run", "the outage"), ("run", "x"), ("pause", "lunch"), ("resume", None)]
    assert [tuple(row) for row in audit] == [(f"replay.{verb}", reason) for verb, reason in expected]


async def text_of(url: str, path: str) -> str:
    import aiohttp

    async with aiohttp.ClientSession(url) as session, session.get(path) as response:
        return await response.text()


async def test_what_is_asked_wrongly_puts_nothing_on_the_ledger(url: str, topic: str, connection: Any) -> None:
    wrong: list[Any] = [
        {},
        {"reason": "x"},
        {"dead_letters": True},
        {"dead_letters": True, "reason": 7},
        {"dead_letters": True, "reason": ""},
        {"dead_letters": True, "reason": " "},
        {"dead_letters": True, "reason": "x", "rate": 0},
        {"dead_letters": True, "reason": "x", "rate": True},
        {"dead_letters": True, "reason": "x", "dry_run": 1},
        {"dead_letters": True, "reason": "x", "target": "http://192.0.2.1"},
        {"dead_letters": True, "reason": "x", "target": {"kind": "carrier pigeon"}},
        {"dead_letters": True, "reason": "x", "nothing": "such"},
        {"dead_letters": True, "reason": "x", "diff": True},
        {"dead_letters": True, "reason": "x", "selection": {"dead_letters": True}},
        {"selection": [], "reason": "x"},
        {"sources": ["nobody"], "dead_letters": True, "reason": "x"},
        {"keys": [["moods", "a", "b"]], "reason": "x"},
        {"keys": [["accounts", "a"]], "reason": "x"},
        {"offsets": [f"{topic}:99:0-1"], "reason": "x"},
    ]
    for body in wrong:
        status, problem = await call(url, "POST", "/api/replays", body)
        assert (status, problem["code"]) == (400, "invalid_selection"), (body, problem)
    for path in ("/api/replays/7", "/api/replays/00000000-0000-0000-0000-000000000000"):
        status, problem = await call(url, "GET", path)
        assert (status, problem["code"]) == (404, "not_found")
    nobody = "/api/replays/00000000-0000-0000-0000-000000000000"
    for path in ("/api/replays?state=running", f"{nobody}/outcomes?failed=true", "/api/proofs?verdict=different"):
        status, problem = await call(url, "GET", path)
        assert (status, problem["code"]) == (400, "invalid_selection"), "a misspelt filter would show everything"
    status, problem = await call(url, "POST", f"{nobody}/cancel")
    assert (status, problem["code"]) == (404, "not_found")
    status, problem = await call(url, "POST", f"{nobody}/dance")
    assert (status, problem["code"]) == (404, "not_found")
    assert await connection.fetchval("SELECT count(*) FROM redrive.replays") == 0


async def test_the_beginning_of_an_id_is_enough_where_no_other_begins_so(
    url: str, consoles: Consoles, connection: Any
) -> None:
    ids = [f"5f0c{number}000-0000-4000-8000-00000000000{number}" for number in range(7)]
    await connection.executemany(
        "INSERT INTO redrive.replays (id, state, selection, generation, operator, reason, total)"
        " VALUES ($1, 'done', '{}', 1, 'ada', 'why', 0)",
        [(one,) for one in ids],
    )
    for name in (ids[3], ids[3][:5], ids[3][:12], ids[3][:5].upper()):
        status, found = await call(url, "GET", f"/api/replays/{name}")
        assert (status, found["id"]) == (200, ids[3]), name
        status, found = await call(url, "GET", f"/api/replays/{name}/outcomes")
        assert (status, found["outcomes"]) == (200, [])
    status, problem = await call(url, "POST", "/api/replays/5f0c3/resume")
    assert (status, problem["code"]) == (409, "invalid_transition")
    assert ids[3] in problem["detail"]
    status, problem = await call(url, "POST", "/api/replays/5f0c/cancel")
    assert (status, problem["code"]) == (400, "invalid_selection")
    assert sum(one in problem["detail"] for one in ids) == 5
    for name in ("5f0d", "x", "5f0c3000-0000-4000-8000-0000000000030", "•"):
        assert (await call(url, "GET", f"/api/replays/{name}"))[0] == 404, name

    show = await consoles.command("replay", "show", "5f0c2", "--json")
    assert json.loads((await show.communicate())[0])["id"] == ids[2]
    for arguments, code in ((("cancel", "5f0c", "--reason", "x"), 2), (("show", "5f0d"), 1), (("show", "zz"), 2)):
        done = await consoles.command("replay", *arguments)
        _, err = await done.communicate()
        assert (done.returncode, b"replay" in err) == (code, True), arguments
    assert await connection.fetchval("SELECT count(*) FROM redrive.audit") == 0


async def test_who_stops_waiting_hears_what_becomes_of_the_replay(
    consoles: Consoles, topic: str, connection: Any
) -> None:
    run = ("replay", "run", "--source", consoles.source, "--from", "2h ago", "--reason", "the outage", "--rate", "2")

    consoles.folder.joinpath("redrive.toml").write_text(
        f'[sources.{consoles.source}]\nprovider = "stripe"\nsecrets = ["whsec_of_the_shop"]\n'
    )

    async def interrupted(*arguments: str) -> tuple[int | None, str, str]:
        waiting = await consoles.command(*run, *arguments)

        async def has_begun() -> bool:
            return bool(await connection.fetchval("SELECT sum(records) > 0 FROM redrive.replay_progress"))

        await until(has_begun, "it runs")
        waiting.send_signal(signal.SIGINT)
        _, err = await waiting.communicate()
        return waiting.returncode, err.decode(), await connection.fetchval("SELECT id::text FROM redrive.replays")

    code, said, replay = await interrupted("--foreground")
    assert code == 130
    assert f"replay {replay}: it is paused" in said
    assert f"redrive replay resume {replay}" in said
    assert f"redrive replay cancel {replay}" in said
    assert await connection.fetchval("SELECT state FROM redrive.replays") == "paused"
    await connection.execute("DELETE FROM redrive.replays")

    async with running_console(consoles):
        code, said, replay = await interrupted()
        assert code == 130
        assert f"replay {replay}: it runs on" in said
        assert f"redrive replay show {replay}" in said
        assert f"redrive replay cancel {replay}" in said
        assert await connection.fetchval("SELECT state FROM redrive.replays") == "running"


async def test_the_command_runs_what_no_service_takes_waits_for_its_end_and_its_code_says_how_it_was(
    consoles: Consoles, topic: str, connection: Any
) -> None:
    run = ("replay", "run", "--from", "2h ago", "--reason", "the outage", "--json")
    consoles.folder.joinpath("redrive.toml").write_text(
        f'[sources.{consoles.source}]\nprovider = "stripe"\nsecrets = ["whsec_of_the_shop"]\n'
    )
    waiting = await consoles.command(*run, "--rate", "2")

    async def has_begun() -> bool:
        return bool(await connection.fetchval("SELECT sum(records) > 0 FROM redrive.replay_progress"))

    await until(has_begun, "it runs it itself")
    replay = await connection.fetchval("SELECT id::text FROM redrive.replays")
    cancel = await consoles.command("replay", "cancel", replay, "--reason", "enough", "--json")
    assert json.loads((await cancel.communicate())[0])["state"] == "cancelled"
    out, _ = await waiting.communicate()
    assert (waiting.returncode, json.loads(out)["state"]) == (1, "cancelled")
    again = await consoles.command("replay", "pause", replay, "--reason", "again", "--json")
    out, _ = await again.communicate()
    assert (again.returncode, json.loads(out)["error"]) == (1, "invalid_transition")

    here = await consoles.command(*run, "--foreground")
    out, _ = await here.communicate()
    entry = json.loads(out)
    assert (here.returncode, entry["state"], entry["records"]) == (0, "done", RECORDS)

    detached = await consoles.command(*run[:-1], "--detach")
    out, _ = await detached.communicate()
    row = await connection.fetchrow("SELECT id::text, state FROM redrive.replays ORDER BY created_at DESC")
    assert (detached.returncode, out.decode().strip(), row["state"]) == (0, row["id"], "planned")
