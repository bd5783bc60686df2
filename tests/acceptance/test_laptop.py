"""`docs/how-to/replay-to-your-laptop.md`, as the page has it: its receiver, its configuration, its commands in a row."""

import asyncio
import json
import re
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from deploy.embedded.ports import free_ports
from deploy.topics import Topics
from schemas.cluster import Cluster
from tests.support.processes import Installation
from tests.support.waiting import limit

PAGE = (Path(__file__).parents[2] / "docs/how-to/replay-to-your-laptop.md").read_text()
FILES = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = re.findall(r"^\$ redrive (.+)$", PAGE, re.MULTILINE)
RECORDS = 5


@asynccontextmanager
async def receiving(installation: Installation, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The page's receiver, once it listens; what it prints is its `stdout`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "receiver.py", str(port)), cwd=installation.folder, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with aiohttp.ClientSession() as session, limit("the receiver listens"):
            while True:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/"):
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
        yield process
    finally:
        process.terminate()
        await process.wait()


async def received(process: asyncio.subprocess.Process) -> list[list[str]]:
    """The next lines: path, record, whether it verified."""
    assert process.stdout is not None
    async with limit("the receiver's lines"):
        return [(await process.stdout.readline()).decode().split() for _ in range(RECORDS)]


async def test_the_page_does_what_it_says(installation: Installation) -> None:
    (port,) = free_ports(1)

    def here(text: str) -> str:
        return text.replace("localhost:3000", f"localhost:{port}")

    async def command(number: int, replay: str = "", expect: int = 0) -> Any:
        words = shlex.split(here(COMMANDS[number]).replace(" ID ", f" {replay} "))
        return json.loads((await installation.redrive(*words, "--json", expect=expect))[1].partition("\nnot done:")[0])

    (installation.folder / "receiver.py").write_text(FILES["receiver.py"])
    sent = await installation.redrive_json("send", "stripe", "--count", str(RECORDS), "--wait")
    places = sorted(sent["records"])
    async with receiving(installation, port) as receiver:
        plan = await command(0)
        assert (plan["records"], plan["target"]["url"]) == (RECORDS, f"http://localhost:{port}/hooks")
        refused = await command(1, expect=1)
        assert refused["first_failed"]["error"] == "answered 401"
        assert (refused["state"], refused["records"], refused["failed"]) == ("done", RECORDS, RECORDS)
        lines = await received(receiver)
        assert sorted(lines) == [["/hooks", place, "False"] for place in places]
        listed = await command(2)
        assert [one["id"] for one in listed["replays"]] == [refused["id"]]
        shown = await command(3, refused["id"])
        assert {one["status"] for one in shown["outcomes"]} == {401}
        assert len(shown["outcomes"]) == RECORDS
        (installation.folder / "redrive.toml").write_text(here(FILES["redrive.toml"]))
        taken = await command(4)
        assert (taken["state"], taken["records"], taken["failed"]) == ("done", RECORDS, 0)
        assert sorted(await received(receiver)) == [["/hooks", place, "True"] for place in places]
        assert "whsec_of_my_laptop" not in str(await installation.redrive_json("replay", "show", taken["id"]))
    async with Topics(Cluster(installation.address("KAFKA_BOOTSTRAP_SERVERS"))) as topics:
        await topics.create({"stripe-copy": {}}, partitions=3, replication=1)
        async with limit("the broker lists the topic"):
            # The broker tells of it a moment later.
            while "stripe-copy" not in await topics.names():
                await asyncio.sleep(0.05)
    copied = await command(5)
    assert (copied["state"], copied["records"], copied["failed"]) == ("done", RECORDS, 0)
    assert len(COMMANDS) == 6
