"""A proof is equal where the tables are what the log says, names every cell that is not, and never guesses."""

from typing import Any

import pytest

from processors import projections
from processors.fold import fold_record
from processors.store import Store
from replay.log.reader import LogReader
from replay.prove.certificate import Certificate
from replay.prove.prover import Cut, Prover, Versions
from replay.selection.selection import Range
from replay.tables.folding import NoDeadLetters
from schemas.facts import TABLES
from schemas.topics import OPERATOR
from tests.conftest import Stack
from tests.support.corrections import account, correction, correction_record, credits, subscription
from tests.support.folding import fold_live
from tests.support.proofs import is_nothing_left, named
from tests.support.proving import NOTHING, RECORDS, Prove, connected
from tests.support.records import batch, on_topic, produce, record, refused, story_record
from tests.support.story import Author, write
from tests.support.tables import FACTS
from tests.support.waiting import until

NOW = 1_760_000_000


async def test_tables_that_are_what_the_log_says_are_proved_equal(folded: str, prove: Prove, connection: Any) -> None:
    steps: list[tuple[int, int]] = []
    made = await prove(lambda *step: steps.append(step))
    assert (made.verdict, made.reasons, made.differences, made.differences_total) == ("equal", [], [], 0)
    assert set(made.tables) == {table.name for table in TABLES}
    assert made.tables["payments"].rows == made.tables["payments"].log_rows == RECORDS
    assert made.counts.model_dump() == {"records": RECORDS, "events": RECORDS, "duplicates": 0, "dead_letters": 0}
    assert [(one.topic, one.partition, one.next_offset, one.records) for one in made.positions] == [
        (folded, partition, RECORDS // 3, RECORDS // 3) for partition in range(3)
    ]
    assert steps[-1] == (RECORDS, RECORDS)
    assert made.contradictions() == []
    assert Certificate.model_validate_json(made.model_dump_json()).contradictions() == []
    await until(lambda: is_nothing_left(connection), "the shadow is gone with its session")


async def test_what_comes_after_the_cut_is_no_difference(
    stack: Stack, folded: str, connection: Any, database_url: str
) -> None:
    """The cut is one snapshot of rows and positions: what live workers write meanwhile is not in it."""
    await produce(stack.servers, batch(folded, range(RECORDS, RECORDS + 30)))

    class Meanwhile(Prover):
        """Between the reading of the positions and that of the rows."""

        async def _cut(self) -> Cut:
            cut = await super()._cut()
            await fold_live(stack, connection, folded)
            return cut

    async with connected(database_url) as live, connected(database_url) as shadow, LogReader(stack.cluster) as reader:
        made = await Meanwhile(live, shadow, Versions.of_this_process()).prove(reader, NOTHING)
    assert await connection.fetchval("SELECT count(*) FROM payments") == RECORDS + 30
    assert (made.verdict, made.tables["payments"].rows, made.counts.records) == ("equal", RECORDS, RECORDS)


TAMPERED = [
    ("UPDATE gen_1.payments SET status = 'failed' WHERE payment_intent_id = 'pi_7'", "pi_7", "changed", ["status"]),
    ("UPDATE gen_1.payments SET amount = NULL WHERE payment_intent_id = 'pi_7'", "pi_7", "changed", ["amount"]),
    (
        "UPDATE gen_1.payments SET failure_code = '' WHERE payment_intent_id = 'pi_7'",
        "pi_7",
        "changed",
        ["failure_code"],
    ),
    (
        "UPDATE gen_1.payments SET occurred_at = occurred_at + interval '1 microsecond' WHERE payment_intent_id = 'pi_7'",
        "pi_7",
        "changed",
        ["occurred_at"],
    ),
    (
        "UPDATE gen_1.payments SET occurred_at = 'infinity' WHERE payment_intent_id = 'pi_7'",
        "pi_7",
        "changed",
        ["occurred_at"],
    ),
    (
        "UPDATE gen_1.payments SET has_disagreement = true WHERE payment_intent_id = 'pi_7'",
        "pi_7",
        "changed",
        ["has_disagreement"],
    ),
    (
        "UPDATE gen_1.payments SET state_version = state_version || '\\x00' WHERE payment_intent_id = 'pi_7'",
        "pi_7",
        "changed",
        ["state_version"],
    ),
    ("DELETE FROM gen_1.payments WHERE payment_intent_id = 'pi_7'", "pi_7", "missing", []),
    ("INSERT INTO gen_1.payments SELECT source, 'pi_mine' FROM gen_1.payments LIMIT 1", "pi_mine", "unexpected", []),
]


@pytest.mark.parametrize(("statement", "key", "kind", "columns"), TAMPERED)
async def test_one_cell_tampered_with_is_found_and_named(
    folded: str, prove: Prove, connection: Any, statement: str, key: str, kind: str, columns: list[str]
) -> None:
    assert (await connection.execute(statement)).endswith(" 1")
    made = await prove()
    assert (made.verdict, made.differences_total) == ("different", 1)
    assert named(made) == [("payments", key, kind, columns)]
    assert made.tables["payments"].root != made.tables["payments"].log_root
    assert made.tables["messages"].root == made.tables["messages"].log_root


async def test_differences_without_end_are_counted_and_the_first_named(
    folded: str, prove: Prove, connection: Any
) -> None:
    await connection.execute("TRUNCATE gen_1.payments")
    await connection.execute("INSERT INTO gen_1.payments SELECT 'x', 'pi_' || n FROM generate_series(1, 400) AS n")
    made = await prove()
    assert (made.verdict, made.differences_total, len(made.differences)) == ("different", 400 + RECORDS, 100)


async def test_a_window_that_was_never_folded_is_missing(
    stack: Stack, topic: str, prove: Prove, connection: Any
) -> None:
    await produce(stack.servers, batch(topic, range(30)))
    await connection.execute("INSERT INTO redrive.positions VALUES (1, $1, 0, 4)", topic)
    await fold_live(stack, connection, topic)
    made = await prove()
    # The records of the window are the first four of partition 0: 0, 3, 6 and 9.
    assert sorted(key for _, key, _, _ in named(made)) == ["pi_0", "pi_3", "pi_6", "pi_9"]
    assert {kind for _, _, kind, _ in named(made)} == {"missing"}


async def test_a_record_that_is_dead_and_that_a_projection_can_apply_is_named(
    stack: Stack, topic: str, prove: Prove, connection: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nobody re-drives it, the tables lack what it says. One that is dead in both is no difference."""
    records = batch(topic, range(12))
    records[5] = record(topic, "stripe", b"junk", partition=2)
    await produce(stack.servers, records)

    def with_a_bug(found: Any, payload: Any) -> Any:
        if payload["id"] == "evt_7":
            raise ValueError("a bug of ours")
        return project(found, payload)

    project = projections.PROJECTIONS["stripe"]
    with monkeypatch.context() as patched:
        patched.setitem(projections.PROJECTIONS, "stripe", with_a_bug)
        await fold_live(stack, connection, topic)
    made = await prove()
    assert (made.verdict, made.counts.dead_letters) == ("different", 1)
    assert named(made) == [("payments", "pi_7", "missing", []), ("webhook_events", "2", "dead", ["status"])]
    assert made.differences[1].key == {"topic": topic, "partition": "1", "record_offset": "2"}

    async with LogReader(stack.cluster) as reader:
        async for _, found in reader.read([Range(topic, 1, 2, 3)]):
            store = Store(1, NoDeadLetters())
            await store.commit(connection, [fold_record(one) for one in found], nothing_first)
    made = await prove()
    assert (made.verdict, made.counts.dead_letters, made.differences) == ("equal", 1, [])


async def nothing_first() -> None:
    return None


async def test_what_postgres_refuses_is_dead_in_the_shadow_too(
    stack: Stack, topic: str, prove: Prove, connection: Any
) -> None:
    records = batch(topic, range(9))
    records[4] = record(topic, "stripe", refused(4), partition=1)
    await produce(stack.servers, records)
    await fold_live(stack, connection, topic)
    made = await prove()
    assert (made.verdict, made.counts.dead_letters, made.tables["payments"].rows) == ("equal", 1, 8)


async def test_a_story_of_every_provider_is_proved_and_a_change_in_any_table_is_named(
    stack: Stack, topic: str, connection: Any, prove: Prove
) -> None:
    world = write(Author(7, start=NOW - 200_000), 4)
    told = [story_record(webhook, NOW) for webhook in world.webhooks]
    corrections = (credits(5), account(True), subscription("active"))
    records = [on_topic(one, topic, n % 3) for n, one in enumerate(told)]
    records += [correction_record(correction(f"{topic}{n}", change)) for n, change in enumerate(corrections)]
    await produce(stack.servers, [*records, *records[::7]])
    await fold_live(stack, connection, topic, OPERATOR)
    made = await prove()
    assert made.verdict == "equal"
    assert made.counts.events >= len(world.events) + len(corrections)
    assert made.counts.duplicates > 0
    for table in FACTS:
        assert made.tables[table].rows > 0
        await connection.execute(f"DELETE FROM gen_1.{table} WHERE ctid = (SELECT max(ctid) FROM gen_1.{table})")
    made = await prove()
    assert made.verdict == "different"
    assert [(one.table, one.kind) for one in made.differences] == [(table, "missing") for table in sorted(FACTS)]
