"""A server that hangs hangs nobody: whoever needs it is told which one it is, and once it answers all goes on by itself.

Servers are stopped, not killed: their connections hang rather than break, new ones as well.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from deploy.connections import connected
from replay.answering import ANSWER_SECONDS
from schemas.errors import DatabaseUnavailable
from schemas.settings import Settings
from tests.support.processes import Installation
from tests.support.waiting import within

CODES = {"postgres": "database_unavailable", "kafka": "log_unavailable"}
POSTGRES, BOTH = {"postgres"}, {"postgres", "kafka"}


@contextmanager
def frozen(installation: Installation, name: str) -> Iterator[None]:
    """SIGSTOP to the server with all of its processes, SIGCONT at the end."""
    server = installation.service(name)
    server.suspend()
    # It starts no others any more.
    family = [server, *server.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


def commands(event: str) -> dict[tuple[str, ...], set[str]]:
    """What each of them needs."""
    return {
        ("events", "list"): POSTGRES,
        ("events", "show", "stripe", event): BOTH,
        ("sources", "list"): {"kafka"},
        ("sources", "pause", "stripe"): BOTH,
        ("replay", "list"): POSTGRES,
        ("replay", "plan", "--from", "1h ago"): BOTH,
        ("dead-letters", "list"): POSTGRES,
        ("quarantine", "list"): BOTH,
        ("prove",): BOTH,
        ("check",): BOTH,
        ("topics",): {"kafka"},
        ("why", "payments", "stripe", "pi_1"): BOTH,
        ("rebuild",): BOTH,
        ("rebuild", "list"): POSTGRES,
        ("audit", "list"): POSTGRES,
        ("send", "stripe", "--count", "1", "--wait"): POSTGRES,
    }


async def assert_commands_say_what_is_silent(installation: Installation, event: str, server: str) -> None:
    asked = [command for command, needed in commands(event).items() if server in needed]
    answers = await asyncio.gather(*(installation.redrive(*command, "--json", expect=69) for command in asked))
    for command, (_, said) in zip(asked, answers, strict=True):
        # `silent for` stands in no answer but that of the bound.
        assert json.loads(said)["error"] == CODES[server], (command, said)
        assert "silent for" in json.loads(said)["message"], (command, said)


async def assert_other_commands_do_their_work(installation: Installation, event: str, server: str) -> None:
    others = [command for command, needed in commands(event).items() if server not in needed and command[0] != "send"]
    await asyncio.gather(*(installation.redrive(*command, "--json") for command in others))


class Console:
    """Its HTTP, as an operator has it."""

    def __init__(self, installation: Installation) -> None:
        self._url = installation.url("console")
        self._key = {"X-Admin-API-Key": installation.address("ADMIN_API_KEY")}

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, document), however long it takes."""
        async with (
            aiohttp.ClientSession(self._url, headers=self._key, timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.request(method, path, json=body) as response,
        ):
            answer = await within(response.read(), f"{method} {path} is answered")
            return response.status, json.loads(answer) if "json" in response.content_type else {}

    async def pages(self, event: str) -> list[str]:
        """Every path that can be read, of one event."""
        _, described = await self.call("GET", "/openapi.json")
        named = {"{source}": "stripe", "{event_id}": event, "{id}": "00000000-0000-4000-8000-000000000000"}
        found = []
        for path, methods in described["paths"].items():
            for name, value in named.items():
                path = path.replace(name, value)
            if "get" in methods and "{" not in path:
                found.append(path)
        return found

    async def assert_silence_is_said(self, code: str, *requests: tuple[Any, ...]) -> None:
        answers = await asyncio.gather(*(self.call(*request) for request in requests))
        for request, (status, problem) in zip(requests, answers, strict=True):
            assert (status, problem.get("code")) == (503, code), (request, problem)
            assert "silent for" in problem["detail"], (request, problem)


REPLAY = {"source": "stripe", "from": "1h ago", "dry_run": True}
CORRECTION = {
    "change": {"type": "credits.adjusted", "customer": "cus_1", "credits": 5},
    "source": "stripe",
    "reason": "goodwill",
    "new": True,
}
WITHOUT_TABLES = {"/openapi.json", "/healthz", "/readyz", "/metrics", "/login"}


async def readiness(installation: Installation, service: str) -> tuple[int, dict[str, bool]]:
    async with aiohttp.ClientSession() as session, session.get(f"{installation.url(service)}/readyz") as response:
        return response.status, (await response.json())["checks"]


async def query_under_way(url: str) -> "asyncio.Task[Any]":
    """That of a command whose server is healthy, and busy for long."""
    is_begun = asyncio.Event()

    async def work() -> Any:
        async with connected(Settings(_env_file=None, DATABASE_URL=url)) as connection:
            is_begun.set()
            return await connection.fetch("SELECT pg_sleep(3600)")

    query = asyncio.create_task(work())
    await within(is_begun.wait(), "the query is begun")
    # Longer than a silent server is waited for.
    await asyncio.sleep(ANSWER_SECONDS + 1)
    assert not query.done(), "it takes long, and its server answers"
    return query


async def test_a_server_that_hangs_hangs_nobody_and_afterwards_all_goes_on(embedded: Installation) -> None:
    await embedded.redrive("send", "stripe", "--wait")
    event = (await embedded.redrive_json("events", "list", "--source", "stripe"))["events"][0]["event_id"]
    console = Console(embedded)
    pages = [page for page in await console.pages(event) if page not in WITHOUT_TABLES]
    assert {"/", "/api/sources", "/api/events", f"/api/events/stripe/{event}", "/api/replays"} <= set(pages)

    query = await query_under_way(embedded.address("DATABASE_URL"))
    with frozen(embedded, "postgres"):
        with pytest.raises(DatabaseUnavailable, match="silent for"):
            await within(query, "the query is given up")
        await asyncio.gather(
            console.assert_silence_is_said(
                CODES["postgres"],
                *(("GET", page) for page in pages),
                ("POST", "/api/replays", REPLAY),
                ("POST", "/api/proofs", {"reason": "audit"}),
                ("POST", "/api/sources/stripe/pause", {"reason": "a look"}),
                ("POST", "/api/corrections", CORRECTION),
            ),
            assert_commands_say_what_is_silent(embedded, event, "postgres"),
        )
        assert (await readiness(embedded, "ingest"))[0] == 200
        for service in ("console", "processors"):
            status, checks = await readiness(embedded, service)
            assert (status, checks["database"], checks["broker"]) == (503, False, True)
        await assert_other_commands_do_their_work(embedded, event, "postgres")
    await assert_all_goes_on(embedded, console, pages, event)

    with frozen(embedded, "kafka"):
        await asyncio.gather(
            console.assert_silence_is_said(
                CODES["kafka"],
                ("GET", "/api/sources"),
                ("GET", f"/api/events/stripe/{event}"),
                ("GET", "/api/quarantine"),
                # More than are planned at a time: who waits for a turn is answered as well.
                *[("POST", "/api/replays", REPLAY)] * 6,
                *[("POST", "/api/sources/stripe/pause", {"reason": "a look"})] * 3,
                ("POST", "/api/corrections", CORRECTION),
            ),
            assert_commands_say_what_is_silent(embedded, event, "kafka"),
        )
        for service in ("console", "processors"):
            status, checks = await readiness(embedded, service)
            assert (status, checks["database"], checks["broker"]) == (503, True, False)
        status, checks = await readiness(embedded, "ingest")
        assert (status, checks["broker"]) == (200, False)
        await assert_other_commands_do_their_work(embedded, event, "kafka")
        sent = await embedded.redrive_json("send", "stripe", "--count", "1")
        assert sent["spooled"] == 1
    await assert_all_goes_on(embedded, console, pages, event)
    told = [json.loads(line) for line in (embedded.folder / ".redrive/logs/processors.log").read_text().splitlines()]
    assert told[0]["outcome"] == "begun"
    assert "another generation is live" not in {line["message"] for line in told}, "there is but one"


async def assert_all_goes_on(installation: Installation, console: Console, pages: list[str], event: str) -> None:
    """Without anybody's help: nothing was started again, and rows arrive."""
    for service in ("ingest", "processors", "console"):
        await installation.until_ready(service)
    await installation.redrive("send", "stripe", "--count", "1", "--wait")
    answers = await asyncio.gather(*(console.call("GET", page) for page in pages))
    assert {status for status, _ in answers} <= {200, 404}, dict(zip(pages, answers, strict=True))
    _, shown = await installation.redrive("events", "show", "stripe", event, "--json")
    assert json.loads(shown)["body"] is not None
    assert "starting it again" not in installation.output()
