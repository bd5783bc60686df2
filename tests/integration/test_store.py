"""Invariants 5, 7 and 9 at the store: position with the rows, poison alone, nothing backwards and nothing skipped."""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from processors import rows as rows_module
from processors import store as store_module
from processors.outcome import Dead
from processors.store import PositionGap, Span, Store
from tests.support.records import FakeRecord, payment, record, refused, stripe_event
from tests.support.stores import TOPIC, Letters, commit, fold, position


async def payments(connection: Any) -> set[str]:
    return {row[0] for row in await connection.fetch("SELECT payment_intent_id FROM payments")}


async def test_rows_and_position_commit_together(connection: Any, store: Store) -> None:
    await commit(connection, store, [record(TOPIC, "stripe", payment(n), n) for n in range(3)], 0, 3)
    assert await position(connection) == 3
    assert await payments(connection) == {"pi_0", "pi_1", "pi_2"}


async def test_a_gap_is_refused_and_leaves_nothing(connection: Any, store: Store) -> None:
    await commit(connection, store, [record(TOPIC, "stripe", payment(0), 0)], 0, 1)
    with pytest.raises(PositionGap) as gap:
        await commit(connection, store, [record(TOPIC, "stripe", payment(5), 5)], 5, 6)
    assert gap.value.stored == 1
    assert await position(connection) == 1
    assert await payments(connection) == {"pi_0"}


async def test_offsets_that_kafka_never_hands_out_are_no_gap(connection: Any, store: Store) -> None:
    """The reading stood at 1; that the next record has offset 7 says nothing about loss."""
    await commit(connection, store, [record(TOPIC, "stripe", payment(0), 0)], 0, 1)
    await commit(connection, store, [record(TOPIC, "stripe", payment(7), 7)], 1, 8)
    assert await position(connection) == 8


@pytest.mark.parametrize("place", [0, 3, 7])
async def test_a_record_that_postgres_refuses_dies_alone(
    connection: Any, store: Store, letters: Letters, place: int
) -> None:
    """Bisected out of its batch; the others' rows and the position stand."""
    batch = [record(TOPIC, "stripe", payment(n), n) for n in range(8)]
    batch[place] = record(TOPIC, "stripe", refused(place), place)
    dead = await commit(connection, store, batch, 0, 8)
    assert [(letter.raw.offset, letter.reason) for letter in dead] == [(place, "refused_by_database")]
    assert letters.written == dead
    assert await position(connection) == 8
    assert await payments(connection) == {f"pi_{n}" for n in range(8)} - {f"pi_{place}"}
    statuses = await connection.fetch("SELECT event_id, status, error FROM webhook_events WHERE status <> 'applied'")
    assert [(row["event_id"], row["status"]) for row in statuses] == [(f"evt_{place}", "dead")]
    assert statuses[0]["error"].startswith("refused_by_database: index row")


async def test_several_poison_records_all_die_and_the_rest_lives(
    connection: Any, store: Store, letters: Letters
) -> None:
    bodies = {
        0: b"not json",
        1: payment(1),
        2: refused(2),
        3: payment(3, amount=2**63),  # Beyond all bounds.
        4: payment(4, customer="\0"),  # What Postgres can't hold is represented.
        5: b'{"id":"evt_5","type":"invoice.paid","created":1,"data":{"object":{"amount_due":1}}}',
        6: payment(6),
        7: b'{"a":' * 2000,
        8: payment(8, amount=2**80),  # Beyond what JSON numbers keep exactly.
    }
    batch = [record(TOPIC, "stripe", body, offset) for offset, body in bodies.items()]
    await commit(connection, store, batch, 0, 9)
    reasons = {letter.raw.offset: letter.reason for letter in letters.written}
    assert reasons == {
        0: "unparsable",
        2: "refused_by_database",
        3: "invalid_payload",
        5: "invalid_payload",
        7: "unparsable",
        8: "invalid_payload",
    }
    assert await payments(connection) == {"pi_1", "pi_4", "pi_6"}
    assert await connection.fetchval("SELECT count(*) FROM webhook_events WHERE status = 'dead'") == 6


async def test_records_of_odd_shapes_die_alone_and_block_nothing(
    connection: Any, store: Store, letters: Letters
) -> None:
    invoice = {"id": "in_1", "customer": "cus_1", "status": "refunded"}
    batch = [
        record("webhooks.whatsapp", "whatsapp", body, n)
        for n, body in enumerate((b'{"entry":[]}', b'{"entry":[{"changes":[]}]}'))
    ]
    batch += [record(TOPIC, "stripe", stripe_event(f"evt_{n}", "invoice.updated", invoice), n) for n in (2, 3)]
    batch.append(FakeRecord(TOPIC, 0, 4, 2**62, b"k", b"v", [("ce_id", None), ("ce_type", b"x")]))
    batch.append(record(TOPIC, "stripe", payment(5), 5))
    await commit(connection, store, batch, 0, 6)
    assert [letter.raw.offset for letter in letters.written] == [0, 1, 2, 3, 4]
    assert await payments(connection) == {"pi_5"}


async def test_a_bug_that_only_a_batch_meets_is_bisected_like_refused_data(
    connection: Any, store: Store, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    from schemas.lattice import Table

    original = Table.arrays

    def broken(self: Any, rows: Any) -> Any:
        if any("pi_3" in row for row in rows):
            raise IndexError("a bug of ours")
        return original(self, rows)

    monkeypatch.setattr(Table, "arrays", broken)
    await commit(connection, store, [record(TOPIC, "stripe", payment(n), n) for n in range(6)], 0, 6)
    assert [letter.raw.offset for letter in letters.written] == [3]
    assert await payments(connection) == {f"pi_{n}" for n in range(6)} - {"pi_3"}


async def test_rows_in_statements_of_any_size_are_the_same_rows(
    connection: Any, store: Store, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres closes the connection at a message of 1 GiB, whatever the batch is."""
    for module in (store_module, rows_module):
        monkeypatch.setattr(module, "STATEMENT_SIZE", 1000)
    monkeypatch.setattr(store_module, "STATEMENT_EVENTS", 3)
    batch = [record(TOPIC, "stripe", refused(n) if n == 5 else payment(n), n) for n in range(20)]
    await commit(connection, store, batch, 0, 20)
    assert await payments(connection) == {f"pi_{n}" for n in range(20)} - {"pi_5"}
    assert [letter.raw.offset for letter in letters.written] == [5]
    assert await connection.fetchval("SELECT count(*) FROM webhook_events") == 20


async def test_a_record_that_is_not_ours_is_a_dead_letter_of_its_own(
    connection: Any, store: Store, letters: Letters
) -> None:
    await commit(connection, store, [FakeRecord(TOPIC, 0, 0, 5, b"k", b"v", [])], 0, 1)
    assert [letter.reason for letter in letters.written] == ["bad_envelope"]
    row = await connection.fetchrow("SELECT event_id, status FROM webhook_events")
    assert tuple(row) == (f"{TOPIC}/0/0", "dead")


@pytest.mark.parametrize("body", [b"junk", refused(0)], ids=["unreadable", "refused by Postgres"])
async def test_where_the_dead_letter_cannot_be_written_nothing_is_committed(connection: Any, body: bytes) -> None:
    class Unreachable:
        async def put(self, letters: Sequence[Dead]) -> None:
            if letters:
                raise ConnectionError("no broker")

    with pytest.raises(ConnectionError):
        await commit(connection, Store(1, Unreachable()), [record(TOPIC, "stripe", body, 0)], 0, 1)
    assert await position(connection) is None
    assert await connection.fetchval("SELECT count(*) FROM webhook_events") == 0


async def test_a_conflict_and_a_repeat_are_counted_at_the_earliest_location(connection: Any, store: Store) -> None:
    first, same, other = payment(1), payment(1), payment(1, amount=200)
    await commit(
        connection, store, [record(TOPIC, "stripe", body, n) for n, body in enumerate((first, same, other))], 0, 3
    )
    row = await connection.fetchrow("SELECT record_offset, repeats, conflicts, status FROM webhook_events")
    assert tuple(row) == (0, 2, 1, "applied")
    has_disagreement = await connection.fetchval("SELECT has_disagreement FROM gen_1.payments")
    assert has_disagreement, "two amounts for one payment: a constant that was not constant"


async def test_an_id_that_postgres_does_not_take_is_a_dead_letter_and_the_others_are_written(connection: Any) -> None:
    """Whoever may write to the topic names a record as he likes."""
    batch = [record(TOPIC, "stripe", payment(n), n) for n in range(3)]
    batch[1].headers = [(name, b"a\0b" if name == "ce_id" else value) for name, value in batch[1].headers]
    letters = await commit(connection, Store(1, Letters()), batch, 0, 3)
    assert [(one.raw.offset, one.reason) for one in letters] == [(1, "refused_by_database")]
    assert await payments(connection) == {"pi_0", "pi_2"}
    assert await position(connection) == 3


async def test_a_value_that_the_client_can_not_send_is_a_dead_letter_and_the_others_are_written(
    connection: Any,
) -> None:
    """It would fail at each try, and hold its partition for good."""
    batch = fold([record(TOPIC, "stripe", payment(n), n) for n in range(3)])
    beyond = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
    batch[1] = batch[1]._replace(events=tuple(one._replace(occurred_at=beyond) for one in batch[1].events))
    letters = await Store(1, Letters()).commit_batch(connection, Span(TOPIC, 0, 0, 3), batch)
    assert [(one.raw.offset, one.reason) for one in letters] == [(1, "refused_by_database")]
    rows = await connection.fetch("SELECT record_offset, status FROM redrive.event_index ORDER BY 1")
    assert [row["status"] for row in rows] == ["applied", "dead", "applied"]
