"""The operators' API: what is asked wrongly is told to who asks, and what is our fault is counted and logged."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from deploy.wiring import Runtime
from replay import metrics
from tests.support.auditing import audited
from tests.support.consoles import KEY, Call, serving_console


async def test_what_is_asked_wrongly_is_a_problem_of_who_asks_and_changes_nothing(
    call: Call, console: str, connection: Any
) -> None:
    release, pause, audit = "/api/quarantine/release", "/api/sources/stripe/pause", "/api/audit"
    cases: list[tuple[str, str, Any]] = [
        ("POST", release, {"source": [{}]}),
        ("POST", release, {"source": [["stripe"]]}),
        ("POST", release, {"source": []}),
        ("POST", release, {"source": "stripe", "dry_run": 1}),
        ("POST", release, {"source": "stripe", "clock_off_seconds": "2h", "reason": "why"}),
        ("POST", release, {"source": "stripe", "clock_off_seconds": 10**11, "reason": "why"}),
        ("POST", release, {"source": "stripe", "clock_off_seconds": 60}),
        ("POST", release, {"source": "stripe", "clock": 60}),
        ("GET", "/api/quarantine?since=2h", None),
        ("GET", "/api/quarantine?from=2026-01-01&to=2025-01-01", None),
        ("GET", "/api/quarantine/0/x", None),
        ("GET", f"/api/quarantine/{2**31}/0", None),
        ("GET", "/api/quarantine/0/0?reveal=maybe", None),
        ("POST", release, {"source": "stripe", "reason": "a\0b"}),
        ("POST", release, {"source": "stripe", "reason": "x" * 1001}),
        ("POST", pause, {"reason": "a\0b"}),
        ("POST", pause, {"reason": 7}),
        ("POST", pause, [1]),
        ("POST", pause, {"reason": "why", "dry_run": True}),
        ("POST", f"{pause}?dry_run=true", None),
        ("POST", "/api/proofs", {"accept_los": True}),
        ("GET", "/api/sources?source=stripe", None),
        ("GET", "/api/replays/0?limit=5", None),
        ("GET", "/api/replays/0/outcomes?outcome=lost", None),
        ("GET", f"{audit}?limit=5&limit=6", None),
        ("GET", f"{audit}?actio=x", None),
        *(("GET", f"{audit}?limit={limit}", None) for limit in ("0", "-1", "501", "x", "%C2%B2", "1_0")),
        *(("GET", f"{audit}?cursor={cursor}", None) for cursor in ("9" * 23, str(2**63), "-1", "x")),
    ]
    for method, path, body in cases:
        status, problem = await call(method, path, body)
        assert (status, problem["code"]) == (400, "invalid_selection"), (path, body, problem)
    for method, path in (
        ("POST", "/api/sources/stripe/stop"),
        ("POST", "/api/replays/0/stop"),
        ("GET", "/api/proofs/0"),
    ):
        status, problem = await call(method, path)
        assert (status, problem["code"]) == (404, "not_found"), path
    status, problem = await call("POST", "/api/sources/nobody/resume")
    assert (status, problem["code"]) == (404, "unknown_source")
    status, problem = await call("POST", release, {"source": "nobody"})
    assert (status, problem["code"]) == (404, "unknown_source")

    # A client that sends what no client library would.
    reader, writer = await asyncio.open_connection("127.0.0.1", int(console.rpartition(":")[2]))
    writer.write(
        f"POST {pause} HTTP/1.1\r\nHost: x\r\nX-Admin-API-Key: admin\r\nConnection: close\r\n".encode()
        + b"X-Operator: \xff\r\nContent-Length: 0\r\n\r\n"
    )
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"invalid_selection"' in answer
    assert await audited(connection) == []


async def test_the_audit_is_read_page_by_page_to_its_end(call: Call, connection: Any) -> None:
    for number in range(4):
        await connection.execute(
            "INSERT INTO redrive.audit (operator, action, reason, details) VALUES ('ada', $1, NULL, '{}')",
            f"a.{number}",
        )
    pages, cursor = [], ""
    for _ in range(2):
        status, page = await call("GET", f"/api/audit?limit=2{cursor}")
        assert status == 200
        pages.append([one["action"] for one in page["audit"]])
        cursor = f"&cursor={page['cursor']}"
    assert pages == [["a.3", "a.2"], ["a.1", "a.0"]]
    assert page["cursor"] is None, "a page that ends with the last row has none after it"


async def test_what_nobody_expected_is_counted_logged_and_answered_and_bad_data_is_not(
    runtime: Runtime, pool: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def boom(_: web.Request) -> web.Response:
        raise LookupError("a bug of ours")

    async def no_number(_: web.Request) -> web.Response:
        await pool.fetch("SELECT $1::bigint", 2**80)
        return web.Response()

    before = metrics.FAILURES._value.get()
    async with (
        serving_console(runtime, web.get("/boom", boom), web.get("/no-number", no_number)) as url,
        aiohttp.ClientSession(url, headers=KEY) as session,
    ):
        for path, status, code in (("/boom", 500, "internal_error"), ("/no-number", 400, "invalid_selection")):
            async with session.get(path) as response:
                assert response.content_type == "application/problem+json"
                problem = json.loads(await response.text())
                assert (response.status, problem["status"], problem["code"]) == (status, status, code)
    assert metrics.FAILURES._value.get() == before + 1
    (logged,) = [one for one in caplog.records if one.name == "redrive.console"]
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], LookupError)
