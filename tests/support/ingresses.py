"""The ingress in this process, on a port, on the real Kafka."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from deploy.topic_ids import TopicIds
from ingest.app import create_server
from ingest.append_or_spool import Storing
from ingest.dedupe.id_table import IdTable
from ingest.dedupe.keeper import WindowKeeper
from ingest.dedupe.log_tail import KafkaLogTail
from ingest.dedupe.other_log import AckedEnds
from ingest.dedupe.window import DedupeWindow
from ingest.handler import Ingress
from ingest.http.limits import Limits
from ingest.log.event_log import EventLog
from ingest.log.producer import producer_factory
from ingest.quarantine.quarantine import Quarantine
from ingest.spool.drain import Drain
from ingest.spool.spool import Spool
from schemas.limits import LimitsConfig
from schemas.providers import PROVIDERS
from schemas.providers.base import Secrets
from schemas.quarantine import QuarantineConfig
from schemas.settings import Source
from schemas.topics import QUARANTINE
from tests.conftest import Stack
from tests.support import signing

DAY_MS = 86_400_000
DEFAULT_QUARANTINE = QuarantineConfig()
DEFAULT_LIMITS = LimitsConfig()


@dataclass
class RunningIngress:
    """An ingress on a port, one source per provider, all on one topic family."""

    url: str
    ingress: Ingress
    keeper: WindowKeeper
    storing: Storing
    log: EventLog
    spool: Spool
    quarantine: Quarantine
    session: aiohttp.ClientSession


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def source(name: str, provider: str, **changes: Any) -> Source:
    found = PROVIDERS[provider]
    token = signing.SECRETS.get(found.verify_token_variable or "")
    secrets = Secrets((signing.SECRETS[found.secret_variable],), token, digest_key=b"key")
    return Source(name, found, secrets, answer=found.answer, **changes)


@asynccontextmanager
async def run_ingress(
    stack: Stack,
    sources: dict[str, Source],
    folder: Path,
    now_ms: Callable[[], int],
    stall_seconds: float = 5.0,
    public_url: str | None = None,
    quarantine: QuarantineConfig = DEFAULT_QUARANTINE,
    spool_max_bytes: int = 0,
    limits: LimitsConfig = DEFAULT_LIMITS,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncIterator[RunningIngress]:
    """Start, catch up from the log as a restart does, and serve."""
    async with AsyncExitStack() as closing:
        topics = [one.topic for one in sources.values()]
        log = EventLog(producer_factory(stack.cluster), [*topics, QUARANTINE], stall_seconds)
        await log.start()
        table = IdTable(100_000)
        window = DedupeWindow(table, 7 * DAY_MS)
        log.acked = AckedEnds(window).add
        ids = TopicIds(stack.cluster)
        closing.push_async_callback(ids.stop)
        keeper = WindowKeeper(table, window, folder / "dedupe", lambda wanted: KafkaLogTail(stack.cluster, wanted), ids)
        spool = Spool(folder / "spool", spool_max_bytes)
        for found in spool.open():
            window.remember_spooled(found.content, found.record.timestamp_ms)
        storing = Storing(log, window, spool, stall_seconds)
        storing.is_caught_up = lambda: table.is_complete
        await keeper.open(topics, now_ms())
        closing.push_async_callback(spool.stop)
        closing.push_async_callback(log.stop)
        draining = asyncio.create_task(Drain(spool, log, window).run())
        closing.callback(draining.cancel)
        kept = Quarantine(log, quarantine, now_ms, clock=clock)
        limited = Limits(limits, table)
        ingress = Ingress(sources, storing, kept, limited, public_url, now_ms)

        async def readiness() -> tuple[bool, dict[str, bool]]:
            is_up = all(log.is_taking(topic) for topic in topics)
            return is_up, {"broker": is_up}

        runner = web.ServerRunner(create_server(ingress, limited, readiness))
        await runner.setup()
        closing.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        session = await closing.enter_async_context(aiohttp.ClientSession())
        yield RunningIngress(
            f"http://127.0.0.1:{runner.addresses[0][1]}", ingress, keeper, storing, log, spool, kept, session
        )


async def post(running: RunningIngress, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, str | None]:
    # As it is: the client would otherwise rewrite the URL that was signed.
    url = URL(running.url + path, encoded=True)
    async with running.session.post(url, data=body, headers=headers) as response:
        text = await response.text()
        parsed = json.loads(text) if "json" in response.content_type else text
        return response.status, parsed, response.headers.get("Redrive-Record")
