"""`redrive replay run` over the whole log, wired as the command wires it, with a clock. Prints one JSON document."""

import os
import resource
import time
from typing import Any

import asyncpg
import orjson
import uvloop

from bench.stack import SOURCE
from deploy.event_loop import YOUNG_OF_READERS, tune_garbage_collection
from deploy.redriving import replay_jobs
from deploy.wiring import load
from replay.audit import Author
from replay.jobs import ledger
from replay.jobs.ledger import NewReplay
from replay.jobs.plan import make_plan
from replay.log.reader import LogReader
from replay.selection.selection import parse_selection
from replay.tables.folding import LiveFolding
from schemas.cluster import Cluster


async def main() -> None:
    runtime, servers = load(), os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    folding = await LiveFolding.open(connection)
    selection = parse_selection({"from": "1970-01-01T00:00:00Z"}, [SOURCE])
    async with LogReader(Cluster(servers)) as reader:
        planning = _Clock()
        plan = await make_plan(reader, connection, selection, folding.fold, lambda done, of: None)
        planned = planning.read("plan")
    replay = await ledger.create(connection, NewReplay(plan, folding.generation, Author("bench", "benchmark")))
    tune_garbage_collection(YOUNG_OF_READERS)
    running = _Clock()
    await replay_jobs(lambda: runtime).take(replay)
    ran = running.read("run")
    entry = await ledger.show_replay(connection, replay)
    await connection.close()
    counts = {name: entry[name] for name in ("state", "records", "rows_changed", "dead")}
    peak = {"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    print(orjson.dumps({**planned, **ran, **counts, **peak}).decode())


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
