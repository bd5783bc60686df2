"""Connections to Postgres as the settings name it. Must not read settings itself: `deploy.wiring` does."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, suppress
from urllib.parse import parse_qs, urlsplit

import asyncpg

from deploy.postgres import PoolConnections, Postgres
from replay.answering import ANSWER_SECONDS, TRY_SECONDS, WORK_SECONDS, is_answered, while_answering
from schemas.errors import DatabaseUnavailable, Misconfigured
from schemas.masking import reason_of
from schemas.settings import Settings


async def connect(settings: Settings) -> "asyncpg.Connection[asyncpg.Record]":
    """One connection. Raises `DatabaseUnavailable`, or `Misconfigured` where asking again can't help."""
    url = settings.require_database()
    _require_files(url)
    connecting = asyncio.ensure_future(asyncpg.connect(url, timeout=TRY_SECONDS))
    try:
        if not await is_answered(connecting, ANSWER_SECONDS):
            raise postgres(settings).silence(ANSWER_SECONDS)
        return await connecting
    except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.ClientConfigurationError, ssl.SSLError) as error:
        raise Misconfigured(f"Postgres refused the login at {hide_password(url)}: {reason_of(error)}") from error
    except TimeoutError as error:
        raise postgres(settings).silence(ANSWER_SECONDS) from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnavailable(f"Postgres does not answer at {hide_password(url)}: {reason_of(error)}") from error
    finally:
        connecting.cancel()


def postgres(settings: Settings) -> Postgres:
    """To be asked whether it answers."""
    url = settings.require_database()
    return Postgres(url, hide_password(url))


@asynccontextmanager
async def opened(settings: Settings) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """One connection, for work that outlasts a Postgres that is silent for a while."""
    connection = await connect(settings)
    try:
        yield connection
    finally:
        with suppress(TimeoutError):
            await connection.close(timeout=ANSWER_SECONDS)


@asynccontextmanager
async def connected(
    settings: Settings, patience: float = ANSWER_SECONDS
) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """One connection, for as long as Postgres answers. Once it has been silent for `patience`, `DatabaseUnavailable` is
    raised, whatever is waited for.
    """
    with closing(postgres(settings)) as server:
        async with opened(settings) as connection, while_answering(server, connection.terminate, patience):
            yield connection


def connected_for_work(settings: Settings) -> "AbstractAsyncContextManager[asyncpg.Connection[asyncpg.Record]]":
    """The same for what takes long, and would have to begin again."""
    return connected(settings, WORK_SECONDS)


def _require_files(url: str) -> None:
    """The client says that a file is missing, and not which."""
    query = parse_qs(urlsplit(url).query)
    for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        for path in query.get(name, ()):
            if not os.access(path, os.R_OK):
                raise Misconfigured(f"DATABASE_URL: {name}={path} can't be read")


async def open_pool(
    settings: Settings, size: int, connections: PoolConnections | None = None
) -> "asyncpg.Pool[asyncpg.Record]":
    """A pool that opens connections as it needs them, so that a service can start before its database.

    `connections` gets to know them.
    """
    return await asyncpg.create_pool(
        settings.require_database(),
        min_size=0,
        max_size=size,
        command_timeout=120,
        timeout=10,
        init=connections.add if connections else None,
        server_settings={"application_name": "redrive"},
    )


def hide_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    credentials, at, tail = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}{at}{tail}" if at else url
