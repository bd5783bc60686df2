"""`redrive up` on the topics of an older version."""

from pathlib import Path

import asyncpg

from deploy.topics import Topics
from schemas.cluster import Cluster
from schemas.topics import QUARANTINE
from tests.support.processes import Installation
from tests.support.signing import SECRETS


async def test_the_quarantine_of_an_older_version_is_widened_on_record(servers: dict[str, str], tmp_path: Path) -> None:
    narrow = {"retention.bytes": "536870912", "message.timestamp.type": "CreateTime"}
    async with Topics(Cluster(servers["KAFKA_BOOTSTRAP_SERVERS"])) as topics:
        await topics.widen({QUARANTINE: narrow})
    installation = Installation(tmp_path, **servers, **SECRETS)
    try:
        await installation.up()
        assert f"topic {QUARANTINE} is as this version needs it" in installation.output()
        await installation.redrive("check")
        connection = await asyncpg.connect(installation.address("DATABASE_URL"))
        try:
            assert await connection.fetchval("SELECT count(*) FROM redrive.audit WHERE action = 'topics.widen'") == 1
        finally:
            await connection.close()
    finally:
        await installation.stop()
