"""The bounds of the quarantine: nothing is pushed out of it, so what is let in is all that bounds it."""

from hypothesis import given
from hypothesis import strategies as st

from ingest.quarantine.allowance import Allowance, largest
from schemas.quarantine import RETENTION_SECONDS, SMALL_BYTES, QuarantineConfig
from schemas.topics import QUARANTINE, SIDE_CONFIG

MIB = 1024 * 1024
FAST = 1e9
"""Deliveries a second: a rate that never counts."""

SIZES = st.one_of(st.integers(1, SMALL_BYTES), st.integers(SMALL_BYTES + 1, 5 * MIB), st.just(4 * MIB))
GAPS = st.one_of(st.sampled_from([0.0, 60.0, RETENTION_SECONDS]), st.floats(0, RETENTION_SECONDS))
ARRIVALS = st.lists(st.tuples(GAPS, SIZES, st.sampled_from([1, 5, 400])), max_size=30)
"""(seconds since the one before, bytes, how many of them at once: some use up all that there is)."""


@given(
    arrivals=ARRIVALS,
    most=st.integers(0, 64 * MIB),
    records=st.integers(0, 400),
    processes=st.sampled_from([1, 2, 4]),
)
def test_within_any_seven_days_no_more_comes_in_than_is_configured(
    arrivals: list[tuple[float, int, int]], most: int, records: int, processes: int
) -> None:
    config = QuarantineConfig(bytes=most, records=records, per_second=FAST)
    now = 1000.0
    found = [Allowance(config, processes, now) for _ in range(processes)]
    admitted: list[tuple[float, int]] = []
    for gap, size, copies in arrivals:
        now += gap
        for number in range(copies):
            if found[number % processes].admit(size, now):
                admitted.append((now, size))
    for start in {at for at, _ in admitted}:
        within = [size for at, size in admitted if start <= at < start + RETENTION_SECONDS]
        assert sum(within) <= most + 1e-3
        assert len(within) <= records + 1e-6


def let_in(config: QuarantineConfig, processes: int) -> int:
    """Bytes that one process takes of one source in the worst seven days: a flood without a pause."""
    found = Allowance(config, processes, 0.0)
    total = 0
    for hour in range(int(RETENTION_SECONDS) // 3600):
        for size in (4 * MIB, SMALL_BYTES, 1000):
            while found.admit(size, hour * 3600.0):
                total += size
    return total


def test_the_topic_keeps_for_seven_days_all_that_a_flood_of_every_source_comes_to() -> None:
    config, sources, processes = QuarantineConfig(bytes=32 * MIB, records=10**6, per_second=FAST), 3, 2
    said = config.bytes_at_most(sources)
    assert 0.9 * said < sources * processes * let_in(config, processes) <= said
    keeps = SIDE_CONFIG[QUARANTINE]
    assert keeps["cleanup.policy"] == "delete"
    assert int(keeps["retention.ms"]) == RETENTION_SECONDS * 1000
    # No size fits: there may be any number of sources and hosts.
    assert int(keeps["retention.bytes"]) == -1


@given(
    large=st.lists(st.tuples(st.floats(0, 3600), st.integers(SMALL_BYTES + 1, 5 * MIB)), max_size=200),
    small=st.integers(200, SMALL_BYTES),
)
def test_small_deliveries_come_in_while_their_share_has_room_whatever_large_ones_came(
    large: list[tuple[float, int]], small: int
) -> None:
    config = QuarantineConfig(bytes=32 * MIB, records=10_000, per_second=100)
    now = 0.0
    found = Allowance(config, 1, now)
    for gap, size in large:
        now += gap
        found.admit(size, now)
    # Half of half at once; and of their rate, ten seconds' worth.
    room = min(config.bytes // 4 // small, config.records // 4, int(config.per_second / 2 * 10))
    assert all(found.admit(small, now) for _ in range(room))


@given(size=st.integers(SMALL_BYTES + 1, 5 * MIB), processes=st.integers(1, 8))
def test_the_largest_that_can_come_in_is_what_check_says(size: int, processes: int) -> None:
    config = QuarantineConfig(bytes=16 * MIB)
    assert Allowance(config, processes, 0.0).admit(size, 0.0) is (size <= largest(config, processes))


def test_a_share_fills_up_again_over_the_seven_days() -> None:
    config = QuarantineConfig(bytes=16 * MIB, per_second=FAST)
    found = Allowance(config, 1, 0.0)
    assert [found.admit(2 * MIB, 0.0) for _ in range(3)] == [True, True, False]
    assert not found.admit(2 * MIB, RETENTION_SECONDS / 2 - 60)
    assert found.admit(2 * MIB, RETENTION_SECONDS / 2 + 60)
