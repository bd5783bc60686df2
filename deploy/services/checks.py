"""Checks of a service's dependencies, made so that they can't hang the page that asks."""

import asyncio
import time
from typing import Final

from aiohttp import web
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from prometheus_client import REGISTRY, CollectorRegistry

from deploy import migrate
from deploy.http_server import Runner
from deploy.service import Details, Readiness, health_routes, listen, no_details
from processors.failures import RETRYABLE
from schemas.cluster import Cluster
from schemas.errors import Misconfigured

CHECK_SECONDS: Final = 3.0


class BrokerCheck:
    """Checks if a broker answers, at most once a second."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._asked = 0.0
        self._is_up = False

    async def is_up(self) -> bool:
        if time.monotonic() - self._asked > 1:
            self._asked = time.monotonic()
            client = AIOKafkaAdminClient(**self._cluster.client_options(), request_timeout_ms=2000)
            try:
                await asyncio.wait_for(client.start(), 3)
                self._is_up = True
            except (KafkaError, TimeoutError):
                self._is_up = False
            finally:
                await client.close()
        return self._is_up


class DatabaseCheck:
    """Whether Postgres answers, and with this version's schema.

    At most one question is under way: a server that hangs must hang this question, not the page that asks it.
    """

    def __init__(self, pool: migrate.Pool) -> None:
        self._pool = pool
        self._question: asyncio.Task[tuple[bool, bool]] | None = None

    async def ask(self) -> tuple[bool, bool]:
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._ask())
        await asyncio.wait({self._question}, timeout=CHECK_SECONDS)
        return self._question.result() if self._question.done() else (False, False)

    async def _ask(self) -> tuple[bool, bool]:
        try:
            async with self._pool.acquire(timeout=CHECK_SECONDS) as connection:
                return True, await self._is_current(connection)
        except Misconfigured:
            return True, False
        except RETRYABLE:
            return False, False

    @staticmethod
    async def _is_current(connection: migrate.Connection) -> bool:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                return await migrate.is_current(connection)
        except TimeoutError:
            # Given back as it is, it would be waited for.
            connection.terminate()
            raise


async def serve_health(
    readiness: Readiness,
    host: str,
    port: int,
    variable: str,
    shared: CollectorRegistry | None = None,
    details: Details = no_details,
) -> Runner:
    """The health pages of a service that serves nothing else; with `shared`, of one of the processes on that port."""
    app = web.Application()
    app.add_routes(health_routes(readiness, shared or REGISTRY, details))
    runner = Runner(app, access_log=None)
    await listen(runner, host, port, variable, has_siblings=shared is not None)
    return runner
