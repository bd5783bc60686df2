"""Invariant 9 where an event ends each session of Postgres that writes it: it is a dead letter, alone. An outage ends
sessions, too, and makes none.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil
import pytest
from faust.types import TP
from prometheus_client import REGISTRY
from tenacity import wait_fixed

from deploy import migrate
from deploy.embedded.embedded_postgres import EmbeddedPostgres
from processors import isolation
from processors import worker as fold_worker
from processors.partition_state import Batch, Extent, PartitionState
from processors.worker import Worker
from replay.audit import Author
from replay.log.reader import LogReader
from replay.operations.dead_letters import DeadLetterFilter
from replay.operations.requeue import Requeue, Requeued
from replay.tables.folding import LiveFolding
from schemas.topics import source_of
from tests.conftest import FIXTURES, Stack
from tests.support.records import FakeRecord, batch, payment, produce, record
from tests.support.stores import TOPIC, Letters, position
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

FATAL: Final = """
    CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        {then};
        RETURN NEW;
    END $$;
    CREATE TRIGGER fatal BEFORE INSERT ON gen_1.{table} FOR EACH ROW WHEN (NEW.{key} = ANY ('{{{ids}}}'))
    EXECUTE FUNCTION end_session();
"""
END_SESSION: Final = "PERFORM pg_terminate_backend(pg_backend_pid())"


def fatal(*ids: str, table: str = "payments", key: str = "payment_intent_id", then: str = END_SESSION) -> str:
    """SQL that makes Postgres end the session that writes one of these rows."""
    return FATAL.format(table=table, key=key, ids=",".join(ids), then=then)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The back-off spares whoever is away."""
    monkeypatch.setattr(fold_worker, "wait_random_exponential", lambda **_: wait_fixed(0.02))


async def never(*_: object) -> None:
    raise AssertionError("nothing is read again")


async def fold(worker: Worker, records: list[FakeRecord]) -> None:
    """All of one partition, as one batch."""
    tp = TP(records[0].topic, records[0].partition)
    starts = await worker.positions({tp: Extent(0, records[-1].offset + 1)}, True)
    found: Batch = PartitionState(starts[tp].offset).hand_on(tp, [*records])
    await worker.handle(found, never, lambda: None)


@pytest.fixture
async def losing(database_url: str, letters: Letters) -> AsyncIterator[Worker]:
    pool = await asyncpg.create_pool(database_url, min_size=0, max_size=2)
    yield Worker(pool, letters)
    pool.terminate()


async def payments(connection: Any) -> set[str]:
    return {row[0] for row in await connection.fetch("SELECT payment_intent_id FROM payments")}


async def test_an_event_that_ends_its_session_dies_alone_and_a_requeue_revives_it(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    labels = {"source": source_of(topic), "reason": "connection_lost"}
    await connection.execute(fatal("pi_16"))
    await produce(stack.servers, batch(topic, range(60)))
    async with run_worker(stack, database_url, topic, topic, tmp_path) as (worker, _):
        await until(folded(connection, 60), "everything")
        assert worker.is_database_up
    assert await payments(connection) == {f"pi_{n}" for n in range(60)} - {"pi_16"}
    (dead,) = await connection.fetch("SELECT event_id, error FROM webhook_events WHERE status = 'dead'")
    assert (dead["event_id"], dead["error"].partition(":")[0]) == ("evt_16", "connection_lost")
    assert REGISTRY.get_sample_value("redrive_dead_letters_total", labels) == 1
    await connection.execute("DROP FUNCTION end_session CASCADE")
    async with LogReader(stack.cluster) as reader:
        requeue = Requeue(connection, reader, await LiveFolding.open(connection), Author("ada", "the trigger is gone"))
        assert await requeue.run(DeadLetterFilter(reason="connection_lost"), lambda _: None) == Requeued(revived=1)
    assert await payments(connection) == {f"pi_{n}" for n in range(60)}


async def test_the_other_events_of_its_record_are_folded(losing: Worker, connection: Any, letters: Letters) -> None:
    template = json.loads((FIXTURES / "sendgrid/events.batch.json").read_bytes())[0]
    events = [{**template, "sg_message_id": f"m{n}.0", "sg_event_id": f"e{n}"} for n in range(5)]
    await connection.execute(fatal("m1", "m4", table="messages", key="message_id"))
    await fold(losing, [record("webhooks.sendgrid", "sendgrid", json.dumps(events).encode())])
    assert {row["message_id"] for row in await connection.fetch("TABLE gen_1.messages")} == {"m0", "m2", "m3"}
    assert [(letter.reason, letter.ordinal) for letter in letters.written] == [
        ("connection_lost", 2),
        ("connection_lost", 5),
    ]
    statuses = dict(await connection.fetch("SELECT status, count(*) FROM redrive.event_index GROUP BY 1"))
    assert statuses == {"dead": 2, "applied": 3}


async def test_a_table_that_takes_no_event_makes_few_dead_letters(
    losing: Worker, connection: Any, letters: Letters
) -> None:
    """The events are not at fault. Once the table is repaired, the fold resumes by itself."""
    await connection.execute(fatal(*(f"pi_{n}" for n in range(9))))
    folding = asyncio.create_task(fold(losing, [record(TOPIC, "stripe", payment(n), n) for n in range(9)]))
    await until(lambda: held() > 0, "the table is at fault")
    await connection.execute("DROP FUNCTION end_session CASCADE")
    await folding
    assert [letter.raw.offset for letter in letters.written] == list(range(isolation.IN_A_ROW))
    assert await payments(connection) == {f"pi_{n}" for n in range(isolation.IN_A_ROW, 9)}
    assert await position(connection) == 9


def held() -> float:
    return REGISTRY.get_sample_value("redrive_processors_retries_total", {"reason": "TableAtFault"}) or 0


@pytest.fixture(scope="module")
async def mortal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A Postgres of this module's own, migrated, which starts again when it is killed."""
    folder = tmp_path_factory.mktemp("mortal")
    server = EmbeddedPostgres(folder / "postgres", folder / "postgres.log", print)
    await server.start()
    try:
        admin = await asyncpg.connect(server.url())
        await migrate.migrate(admin, server.url())
        await admin.close()
        yield server
    finally:
        await server.stop()


@pytest.mark.parametrize(
    ("victim", "is_dead"),
    [("$PPID", True), ("$(head -1 postmaster.pid) $PPID", False)],
    ids=["its backend", "all of Postgres"],
)
async def test_a_killed_backend_is_of_the_event_and_a_killed_server_is_an_outage(
    mortal: EmbeddedPostgres,
    letters: Letters,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    victim: str,
    is_dead: bool,
) -> None:
    """Both die with `kill -9` while they write the event, more often than an event may; then the cause is gone."""
    monkeypatch.setattr(isolation, "BATCH_LOSSES", 1)
    monkeypatch.setattr(isolation, "LOSSES", 3)
    topic = f"webhooks.{tmp_path.name.replace('_', '-')}"
    # In the data folder of Postgres, whose user may not write to ours.
    kills = f"kills.{tmp_path.name}"
    script = f"echo >> {kills}; [ $(wc -l < {kills}) -gt 8 ] || kill -9 {victim}; cat > /dev/null"
    admin = await asyncpg.connect(mortal.url())
    await admin.execute(fatal("pi_3", then=f"COPY (SELECT 1) TO PROGRAM '{script}'"))
    await admin.close()
    pool = await asyncpg.create_pool(mortal.url(), min_size=0, max_size=2)
    await fold(Worker(pool, letters), [record(topic, "stripe", payment(n), n) for n in range(6)])
    assert [(one.raw.offset, one.reason) for one in letters.written] == [(3, "connection_lost")] * is_dead
    rows = await pool.fetch("SELECT payment_intent_id FROM payments WHERE source = $1", topic.removeprefix("webhooks."))
    assert {row[0] for row in rows} == {f"pi_{n}" for n in range(6) if n != 3 or not is_dead}
    await pool.execute("DROP FUNCTION end_session CASCADE")
    await pool.close()


@pytest.mark.thorough
async def test_outages_at_any_moment_of_the_fold_make_no_dead_letter(
    mortal: EmbeddedPostgres, letters: Letters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres is stopped, and killed with all of its processes, in whatever it does then."""
    monkeypatch.setattr(isolation, "BATCH_LOSSES", 1)
    monkeypatch.setattr(isolation, "LOSSES", 2)
    topic = f"webhooks.{tmp_path.name.replace('_', '-')}"
    pool = await asyncpg.create_pool(mortal.url(), min_size=0, max_size=2, command_timeout=1, timeout=1)
    worker, chance, done = Worker(pool, letters), random.Random(7), 0

    async def fold_all() -> None:
        nonlocal done
        while not outages.done():
            numbers = range(done, done + 40)
            await fold(worker, [record(topic, "stripe", payment(n), n) for n in numbers])
            done = numbers.stop

    async def outage() -> None:
        before = done
        await until(lambda: done > before, "a batch is folded")
        # Some way into the next one.
        for _ in range(chance.randrange(200)):
            await asyncio.sleep(0)
        await until(lambda: psutil.pid_exists(mortal.pid or 0), "it was started again")
        server = psutil.Process(mortal.pid)
        family = [server, *server.children(recursive=True)]
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in family:
                process.suspend()
        await until(lambda: not worker.is_database_up, "it is missed")
        is_killed = chance.random() < 0.7
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill() if is_killed else process.resume()

    async def several() -> None:
        for _ in range(12):
            await outage()

    outages = asyncio.create_task(several())
    await fold_all()
    await outages
    assert letters.written == []
    count = "SELECT count(*) FROM payments WHERE source = $1"
    assert await pool.fetchval(count, topic.removeprefix("webhooks.")) == done
    await pool.close()
