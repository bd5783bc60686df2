"""Two sources beside the story, so that its expectation stays clear: one whose topic is deleted and made anew, and one
whose projection, a plug-in's, has a bug for a while.

What was on a topic that somebody deleted is lost by that hand, and must be told of; what had a bug must be whole again.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from deploy.supervisor import Child
from replay.log.reader import LogReader
from schemas.cluster import Cluster
from tests.soak.verdict import SHOWN
from tests.support import signing
from tests.support.processes import Installation

ANEW = "chaos-topic"
"""Its events make no rows."""

LETTERS = "chaos-letters"
ASIDE = (ANEW, LETTERS)
TYPES = {ANEW: "chaos.ticked", LETTERS: "chaos.paid"}
PER_SECOND = 10.0

_TOML = 'plugins = ["chaos_plugin"]\n' + "".join(
    f'\n[sources.{name}]\nprovider = "standardwebhooks"\nsecrets = ["{signing.STANDARD}"]\n' for name in ASIDE
)
_PLUG_IN = """
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from processors.projections.base import Event
from schemas.lattice import Fact, Key, Min, Table, Version

BUG = Path(__file__).with_name("bug")


@dataclass(frozen=True, slots=True, kw_only=True)
class Paid(Fact):
    source: Annotated[str, Key()]
    payment_id: Annotated[str, Key()]
    number: Annotated[int | None, Min()] = None


def project(record, payload):
    if BUG.exists():
        raise ValueError("a bug")
    fact = Paid(
        version=Version(None, 0, record.record_id),
        source=record.source,
        payment_id=record.record_id,
        number=payload["data"]["number"],
    )
    yield Event(record.record_id, record.type, None, (fact,))


PROJECTIONS = {"standardwebhooks.chaos.paid": project}
TABLES = [Table("chaos_paid", Paid)]
"""


def write(folder: Path) -> None:
    """redrive.toml, and the plug-in that it names."""
    (folder / "redrive.toml").write_text(_TOML)
    (folder / "chaos_plugin.py").write_text(_PLUG_IN)


@asynccontextmanager
async def configured(folder: Path) -> AsyncIterator[tuple[dict[str, str], Sequence[Child]]]:
    """The embedded servers, and the sources beside the story."""
    write(folder)
    yield {}, ()


def bug_of(installation: Installation) -> Path:
    """While this file is there, the projection raises."""
    return installation.folder / "bug"


class Stream:
    """Messages to one of the sources, one after the other, each until it gets its 2xx. `turn` is held for each."""

    def __init__(self, installation: Installation, source: str) -> None:
        self.source = source
        self.turn = asyncio.Lock()
        self.acknowledged: list[str] = []
        self.lost: set[str] = set()
        """Acknowledged and folded, and then deleted with the topic."""
        self.again: list[str] = []
        """To be sent once more, as providers do after a loss."""
        self.surprises: list[str] = []
        self._installation = installation
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Once everything has its 2xx."""
        self._ended.set()

    async def run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            number = 0
            while not self._ended.is_set() or self.again:
                if self.again:
                    name = self.again.pop()
                else:
                    name, number = f"{self.source}_{number:06d}", number + 1
                async with self.turn:
                    while not await self._post(session, name):
                        await asyncio.sleep(0.3)
                    if name in self.lost:
                        self.lost.discard(name)
                    else:
                        self.acknowledged.append(name)
                if not self.again:
                    await asyncio.sleep(1 / PER_SECOND)

    async def _post(self, session: aiohttp.ClientSession, name: str) -> bool:
        said = {"type": TYPES[self.source], "timestamp": "2026-11-21T08:00:00Z", "data": {"number": int(name[-6:])}}
        body = json.dumps({**said, "name": name}).encode()
        headers = signing.standard(name, body, int(time.time()))
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            url = f"{self._installation.ingest_url}/webhooks/{self.source}"
            async with session.post(url, data=body, headers=headers) as response:
                text = await response.text()
                if response.status not in (200, 503):
                    self.surprises.append(f"{self.source}: {response.status} {text[:200]}")
                return response.status == 200
        return False


async def judge(installation: Installation, streams: Sequence[Stream]) -> dict[str, Any]:
    """Of each: what is missing where, and what counts too often."""
    connection = await asyncpg.connect(installation.address("DATABASE_URL"))
    try:
        found = {stream.source: await _judge(installation, connection, stream) for stream in streams}
        rows = await connection.fetch("SELECT payment_id FROM public.chaos_paid")
    finally:
        await connection.close()
    (paid,) = (stream for stream in streams if stream.source == LETTERS)
    missing = {*paid.acknowledged} - {row[0] for row in rows}
    found[LETTERS]["wrong"] += [f"no row: {name}" for name in sorted(missing)[:SHOWN]]
    return found


async def _judge(
    installation: Installation, connection: "asyncpg.Connection[asyncpg.Record]", stream: Stream
) -> dict[str, Any]:
    on_log: Counter[str] = Counter()
    async with LogReader(Cluster(installation.address("KAFKA_BOOTSTRAP_SERVERS"))) as reader:
        async for _, records in reader.read(await reader.tails(f"webhooks.{stream.source}", 2**62)):
            on_log.update(record.key.decode() for record in records)
    rows = await connection.fetch(
        "SELECT event_id, count(*) AS n, count(*) FILTER (WHERE status = 'dead') AS dead FROM redrive.event_index"
        " WHERE source = $1 GROUP BY 1",
        stream.source,
    )
    indexed = Counter({row["event_id"]: row["n"] for row in rows})
    acknowledged = {*stream.acknowledged}
    wrong = [f"not on the log: {name}" for name in sorted(acknowledged - stream.lost - on_log.keys())]
    wrong += [f"not in the index: {name}" for name in sorted((acknowledged | on_log.keys()) - indexed.keys())]
    wrong += [f"dead: {row['event_id']}" for row in rows if row["dead"]]
    if stream.source != ANEW:
        # Of a topic that was made anew, the index also names the places on the logs that are gone.
        wrong += [f"too often in the index: {name}" for name in indexed - on_log]
    return {
        "acknowledged": len(acknowledged),
        "records": on_log.total(),
        "deleted_with_the_topic": len(stream.lost),
        "wrong": wrong[:SHOWN] + stream.surprises[:SHOWN],
    }
