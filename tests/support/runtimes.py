"""What a service in this process is opened with: the addresses of the run's Kafka and of a test's database."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.service import Signals
from deploy.wiring import Runtime
from schemas.settings import FileConfig, Settings, Source
from tests.conftest import Stack

NO_SOURCES: Mapping[str, Source] = {}
EMPTY_FILE = FileConfig()


def runtime_of(
    stack: Stack,
    folder: Path,
    database_url: str | None = None,
    file: FileConfig = EMPTY_FILE,
    sources: Mapping[str, Source] = NO_SOURCES,
    **variables: Any,
) -> Runtime:
    """`variables`: more of the environment. Every service listens on a free port."""
    settings = Settings.model_validate(
        {
            "KAFKA_BOOTSTRAP_SERVERS": stack.servers,
            "DATABASE_URL": database_url,
            "REDRIVE_DATA": folder,
            "INGEST_HOST": "127.0.0.1",
            "INGEST_PORT": 0,
            "PROCESSORS_PORT": 0,
            "CONSOLE_PORT": 0,
            **variables,
        }
    )
    return Runtime(settings, file, dict(sources))


def signals() -> Signals:
    """None comes, unless the test sets one."""
    return Signals(asyncio.Event(), asyncio.Event())
