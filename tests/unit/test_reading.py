"""How much is fetched ahead of the fold: enough to keep it busy, and never more than fits."""

from faust.types import TP

from processors import partition_state
from processors.partition_state import Batch, PartitionStates, Start
from tests.support.records import FakeRecord

ONE, TWO, UNSOUGHT = TP("webhooks.a", 0), TP("webhooks.a", 1), TP("webhooks.a", 2)


def readings() -> PartitionStates:
    made = PartitionStates()
    made.begin(ONE, Start(5))
    made.begin(TWO, Start(0))
    return made


def fetch(made: PartitionStates, tp: TP, offset: int, body: bytes = b"x") -> Batch:
    current = made.get(tp)
    assert current is not None
    return current.hand_on(tp, [FakeRecord(tp.topic, tp.partition, offset, 0, None, body)])


def test_a_partition_that_was_not_sought_is_not_read() -> None:
    assert readings().ready({ONE, TWO, UNSOUGHT}) == {ONE, TWO}


def test_a_batch_starts_where_the_reading_stood_and_not_at_its_first_record() -> None:
    made = readings()
    first, second = fetch(made, ONE, 7), fetch(made, ONE, 8)
    assert (first.start, first.end, second.start, second.end) == (5, 8, 8, 9)


def test_one_batch_is_fetched_ahead_and_the_next_when_the_first_is_done() -> None:
    made = readings()
    batch = fetch(made, ONE, 5)
    assert made.ready({ONE, TWO}) == {ONE, TWO}
    fetch(made, ONE, 6)
    assert made.ready({ONE, TWO}) == {TWO}
    batch.reading.finish(batch)
    assert made.ready({ONE, TWO}) == {ONE, TWO}


def test_what_waits_is_bounded_over_all_partitions() -> None:
    made = readings()
    batch = fetch(made, ONE, 5, b"x" * partition_state.MAX_WAITING_BYTES)
    assert made.ready({ONE, TWO}) == set()
    batch.reading.finish(batch)
    assert made.ready({ONE, TWO}) == {ONE, TWO}


def test_a_partition_that_is_held_up_does_not_count_against_the_others() -> None:
    made = readings()
    batch = fetch(made, ONE, 5, b"x" * partition_state.MAX_WAITING_BYTES)
    batch.reading.is_held = True
    assert TWO in made.ready({ONE, TWO})


def test_a_seek_ends_the_reading_before_and_so_does_a_new_assignment() -> None:
    made = readings()
    before, other = fetch(made, ONE, 5), fetch(made, TWO, 0)
    made.begin(ONE, Start(5))
    assert before.reading.is_over
    assert not other.reading.is_over
    made.end_all()
    assert other.reading.is_over
    assert made.ready({ONE, TWO}) == set()
