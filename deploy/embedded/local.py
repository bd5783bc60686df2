"""The embedded stack: the real Apache Kafka and PostgreSQL as child processes, for development and for tests.

Needs the extra `[embedded]`. Must not be used where KAFKA_BOOTSTRAP_SERVERS and DATABASE_URL are set.
"""

import shutil
from pathlib import Path
from typing import Final

from deploy.embedded.embedded_kafka import MARKER
from deploy.embedded.embedded_postgres import EmbeddedPostgres
from schemas.errors import Unavailable

MIN_FREE_BYTES: Final = 1024**3


def require_space(data: Path) -> None:
    free = shutil.disk_usage(data).free
    if free < MIN_FREE_BYTES:
        raise Unavailable(f"{data.resolve()} has {free // 2**20} MiB free; the embedded stack needs 1 GiB")


def embedded_addresses(data: Path) -> dict[str, str]:
    """Variable -> address of the embedded servers that ran on this data folder before; what never ran is left out."""
    kafka, postgres = data / "kafka" / MARKER, data / "postgres"
    found = {"KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{kafka.read_text()}"} if kafka.exists() else {}
    if postgres.exists():
        found["DATABASE_URL"] = EmbeddedPostgres(postgres, postgres, print).url()
    return found
