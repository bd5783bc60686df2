"""What a service in this process is opened with: the addresses of the run's Kafka and of a test's database."""

import asyncio
from pathlib import Path
from typing import Any

from deploy.service import Signals
from deploy.wiring import Runtime
from schemas.settings import FileConfig, Settings, Source, sources_of
from tests.conftest import Stack

EMPTY_FILE = FileConfig()


def runtime_of(
    stack: Stack,
    folder: Path,
    database_url: str | None = None,
    file: FileConfig = EMPTY_FILE,
    sources: dict[str, Source] | None = None,
    **variables: Any,
) -> Runtime:
    """`sources`: those of `file`, if not given. `variables`: more of the environment. Each service listens on a free
    port.
    """
    settings = Settings.model_validate(
        {
            "KAFKA_BOOTSTRAP_SERVERS": stack.servers,
            "DATABASE_URL": database_url,
            "REDRIVE_DATA": folder,
            "INGEST_HOST": "127.0.0.1",
            "INGEST_PORT": 0,
            "PROCESSORS_PORT": 0,
            "CONSOLE_PORT": 0,
            "ADMIN_API_KEY": "admin",
            "REDRIVE_OPERATOR": "the-host",
            **variables,
        }
    )
    return Runtime(settings, file, sources_of(settings, file) if sources is None else sources)


def signals() -> Signals:
    """None comes, unless the test sets one."""
    return Signals(asyncio.Event(), asyncio.Event())
