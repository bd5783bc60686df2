"""Invariants 1 and 4 while a process of the ingress is stopped in the middle of the window that all of them share."""

import asyncio
import fcntl
import json
import os
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import psutil
import pytest

from replay.log.reader import LogReader
from schemas.cluster import Cluster
from tests.support import signing
from tests.support.processes import Installation
from tests.support.records import payment
from tests.support.waiting import WAIT_SECONDS, limit

T = TypeVar("T")
COUNT = 12
_LOCK = struct.Struct("hhqqi4x")
"""What the kernel says of a lock: type, whence, start, length, pid."""

Answer = tuple[str, str | None]
"""The status or code, and the record's place on the log."""


@pytest.fixture
async def installation(tmp_path: Path, servers: dict[str, str]) -> AsyncIterator[Installation]:
    found = Installation(tmp_path, **servers, **signing.SECRETS, INGEST_WORKERS="2")
    try:
        await found.up()
        yield found
    finally:
        await found.stop()


def open_table(process: psutil.Process) -> int:
    """The memory that the processes share, as a file."""
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(OSError):
            if os.readlink(link).startswith("/memfd:redrive-ids"):
                return os.open(link, os.O_RDWR)
    raise AssertionError("the process has no table")


def holder(table: int) -> int:
    """The pid of the process that holds the lock of the window; 0 where it is free."""
    asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    kind, _, _, _, pid = _LOCK.unpack(fcntl.fcntl(table, fcntl.F_GETLK, asked))
    return 0 if kind == fcntl.F_UNLCK else int(pid)


class Provider:
    """Delivers each time over a connection of its own, so to any of the processes."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self.answers: dict[int, list[Answer]] = {}

    async def post(self, number: int) -> Answer:
        body = payment(number)
        headers = signing.stripe(body, int(time.time()))
        async with self._session.post(f"{self._url}/webhooks/stripe", data=body, headers=headers) as response:
            found = await response.json()
            answer = (str(found.get("code") or found["status"]), response.headers.get("Redrive-Record"))
        self.answers.setdefault(number, []).append(answer)
        return answer

    async def get(self, path: str) -> tuple[int, str]:
        async with self._session.get(f"{self._url}{path}") as response:
            return response.status, await response.text()

    def places(self) -> list[tuple[int, str]]:
        """Each number with a place that an answer named."""
        return [(number, place) for number, found in self.answers.items() for _, place in found if place is not None]

    async def load(self, first: int) -> None:
        """For ever."""
        number = first
        while True:
            await self.post(number)
            number += 1


async def first_answer(ask: Callable[[], Coroutine[Any, Any, T]], waiting: asyncio.TaskGroup) -> T:
    """Asks until a process answers; what a stopped one has yet to answer stays in the group."""
    while True:
        task = waiting.create_task(ask())
        done, _ = await asyncio.wait({task}, timeout=1)
        if done:
            return task.result()


@asynccontextmanager
async def provider(installation: Installation) -> AsyncIterator[Provider]:
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Provider(installation.ingest_url, session)


async def stop_in_the_window(victim: psutil.Process, table: int, sender: Provider) -> None:
    """SIGSTOP at any instruction, until it is one of those that hold the lock."""
    loads = [asyncio.create_task(sender.load(first)) for first in range(1_000_000, 9_000_000, 1_000_000)]
    try:
        async with limit("the process is stopped while it holds the window"):
            while True:
                await asyncio.sleep(0.002)
                victim.suspend()
                while victim.status() != psutil.STATUS_STOPPED:
                    pass
                if holder(table) == victim.pid:
                    return
                victim.resume()
    finally:
        for load in loads:
            load.cancel()
        await asyncio.gather(*loads, return_exceptions=True)


async def places_on_the_log(installation: Installation) -> dict[str, str]:
    """Location -> event id."""
    found = {}
    async with LogReader(Cluster(installation.address("KAFKA_BOOTSTRAP_SERVERS"))) as reader:
        async for _, records in reader.read(await reader.tails("webhooks.stripe", 2**62)):
            for one in records:
                found[f"{one.topic}/{one.partition}/{one.offset}"] = (one.key or b"").decode()
    return found


def held(installation: Installation, outcome: str) -> list[dict[str, object]]:
    """Lines of the processes' logs about the window."""
    lines = [line for path in (installation.folder / ".redrive/logs").glob("ingest-*.log") for line in path.open()]
    return [one for one in map(json.loads, lines) if (one["action"], one["outcome"]) == ("claim", outcome)]


@pytest.mark.thorough
async def test_a_process_that_is_stopped_while_it_holds_the_window_stops_nobody_else(
    installation: Installation,
) -> None:
    victim = installation.workers()[0]
    async with provider(installation) as sender, asyncio.TaskGroup() as waiting:
        with os.fdopen(open_table(victim), "rb+") as file:
            await stop_in_the_window(victim, file.fileno(), sender)
        try:
            answers = [await first_answer(partial(sender.post, number), waiting) for number in range(COUNT)]
            assert {status for status, _ in answers} == {"accepted"}
            assert [one["pid"] for one in held(installation, "held")] == [victim.pid]
            status, ready = await first_answer(partial(sender.get, "/readyz"), waiting)
            assert (status, json.loads(ready)["checks"]["window"]) == (200, False)
            _, metrics = await first_answer(partial(sender.get, "/metrics"), waiting)
            assert "\nredrive_ingest_dedupe_held 1.0\n" in metrics
        finally:
            victim.resume()
    async with provider(installation) as again, limit("the window knows all of them"):
        for number in range(COUNT):
            while (await again.post(number))[0] != "duplicate":
                await asyncio.sleep(0.1)
    assert len(held(installation, "free")) == 1
    on_log = await places_on_the_log(installation)
    for number, place in [*sender.places(), *again.places()]:
        # The load's answers, those of the stopped process, and every `duplicate`: none names a place without it.
        assert on_log[place] == f"evt_{number}"
