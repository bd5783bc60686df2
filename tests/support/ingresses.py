"""The ingress in this process, on a port, on the real Kafka."""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from deploy.services.ingest import Clocks, IngestService
from ingest.dedupe.id_table import IdTable
from ingest.dedupe.keeper import WindowKeeper
from ingest.handler import Ingress
from ingest.log.event_log import EventLog
from ingest.quarantine.quarantine import QuarantineWriter
from ingest.spool.spool import Spool
from schemas.limits import LimitsConfig
from schemas.providers import PROVIDERS
from schemas.providers.base import Secrets
from schemas.quarantine import QuarantineConfig
from schemas.settings import FileConfig, Source
from tests.conftest import Stack
from tests.support import signing
from tests.support.runtimes import runtime_of, signals

DAY_MS = 86_400_000
DEFAULT_QUARANTINE = QuarantineConfig()
DEFAULT_LIMITS = LimitsConfig()


@dataclass
class RunningIngress:
    """An ingress on a port, one source per provider, all on one topic family."""

    url: str
    ingress: Ingress
    keeper: WindowKeeper
    log: EventLog
    spool: Spool
    quarantine: QuarantineWriter
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
    runtime = runtime_of(
        stack,
        folder,
        file=FileConfig(quarantine=quarantine, limits=limits),
        sources=sources,
        PUBLIC_URL=public_url,
        APPEND_TIMEOUT_SECONDS=stall_seconds,
        SPOOL_AFTER_SECONDS=stall_seconds,
        SPOOL_MAX_BYTES=spool_max_bytes,
    )
    opened = IngestService.open(runtime, IdTable(100_000), signals(), clocks=Clocks(now_ms, clock))
    async with opened as service, aiohttp.ClientSession() as session:
        assert service.keeper is not None
        parts = (service.ingress, service.keeper, service.log, service.spool, service.quarantine)
        yield RunningIngress(f"http://127.0.0.1:{service.port}", *parts, session)


async def post(running: RunningIngress, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any, str | None]:
    # As it is: the client would otherwise rewrite the URL that was signed.
    url = URL(running.url + path, encoded=True)
    async with running.session.post(url, data=body, headers=headers) as response:
        text = await response.text()
        parsed = json.loads(text) if "json" in response.content_type else text
        return response.status, parsed, response.headers.get("Redrive-Record")
