"""`redrive replay run` over the whole log, wired as the command wires it, with a clock. Prints one JSON document."""

import os
import time
from typing import Any

import asyncpg
import orjson
import uvloop

from bench.stack import SOURCE
from deploy.folding import LiveFolding
from replay.ledger import Ledger, show_replay
from replay.plan import make_plan
from replay.runner import RateLimit, Runner
from replay.selection import Selection
from replay.window import LogReader
from schemas.cluster import Cluster


async def main() -> None:
    servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    folding = await LiveFolding.open(connection)
    selection = Selection(sources=(SOURCE,), from_ms=0)
    async with LogReader(Cluster(servers)) as reader:
        planning = _Clock()
        plan = await make_plan(reader, connection, selection, folding.fold, lambda done, of: None)
        planned = planning.read("plan")
    ledger = Ledger(connection)
    await ledger.create(plan, folding.generation, "bench", "benchmark")
    runner = Runner(connection, folding, ledger, RateLimit(None))
    async with LogReader(Cluster(servers)) as reader:
        running = _Clock()
        await runner.run(reader, plan, lambda offsets: None)
        ran = running.read("run")
    entry = await show_replay(connection, ledger.id) or {}
    await connection.close()
    counts = {name: entry[name] for name in ("state", "records", "rows_changed", "dead")}
    print(orjson.dumps({**planned, **ran, **counts}).decode())


class _Clock:
    """Wall clock and this process's CPU, from here on."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self, name: str) -> dict[str, Any]:
        return {
            f"{name}_seconds": time.perf_counter() - self._wall,
            f"{name}_cpu_seconds": time.process_time() - self._cpu,
        }


if __name__ == "__main__":
    uvloop.run(main())
