"""Invariant 11, without a clock: a replay slows down while live lag grows, and says why."""

import pytest

from replay.log.live_traffic import (
    LOOK_SECONDS,
    MAX_PAUSE_SECONDS,
    MAX_WEIGHT,
    PORTION_RECORDS,
    TOLERATED_RECORDS,
    LiveTraffic,
    Pace,
)

BEHIND = TOLERATED_RECORDS + 1


class Simulation:
    """Time that passes only where it is told to, and a lag that the test says."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lags: list[int | None] = []
        self.lag: int | None = 0
        self.growth = 0
        self.notes: list[str | None] = []
        self.slept = 0.0
        self.live = LiveTraffic(self._read, self._note, self._sleep, lambda: self.now)

    async def _read(self) -> int | None:
        if self.lag is not None:
            self.lag += self.growth
        self.lags.append(self.lag)
        return self.lag

    async def _note(self, reason: str | None) -> None:
        self.notes.append(reason)

    async def _sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.now += seconds

    async def work(self, seconds: float) -> float:
        """One portion; how long the replay paused before it."""
        before = self.slept
        await self.live.give_way()
        self.now += seconds
        return self.slept - before


def test_the_pace_halves_while_the_lag_grows_and_comes_back_when_it_shrinks() -> None:
    pace = Pace()
    weights = []
    for lag in (0, TOLERATED_RECORDS, BEHIND, 2000, 3000, 3000, 2500, 4000, TOLERATED_RECORDS):
        pace.observe(lag)
        weights.append(pace.weight)
    assert weights == [0, 0, 1, 2, 4, 2, 1, 2, 0]


def test_a_replay_never_stands_still() -> None:
    pace = Pace()
    for lag in range(BEHIND, BEHIND + 100):
        pace.observe(lag)
    assert pace.weight == MAX_WEIGHT


async def test_without_lag_there_is_no_pause_and_nothing_to_say() -> None:
    simulation = Simulation()
    assert [await simulation.work(0.4) for _ in range(20)] == [0.0] * 20
    assert simulation.notes == []


async def test_portions_are_small_only_while_live_traffic_flows() -> None:
    simulation = Simulation()
    for lag, portion in ((None, None), (0, PORTION_RECORDS), (BEHIND, PORTION_RECORDS), (None, None)):
        simulation.lag = lag
        await simulation.work(2 * LOOK_SECONDS)
        assert simulation.live.portion == portion


async def test_the_lag_is_read_at_most_once_a_second() -> None:
    simulation = Simulation()
    for _ in range(100):
        await simulation.work(LOOK_SECONDS / 10)
    assert len(simulation.lags) == 10


async def test_pauses_grow_with_the_lag_and_end_with_it_and_the_ledger_hears_both() -> None:
    simulation = Simulation()
    simulation.growth = BEHIND
    pauses = [await simulation.work(LOOK_SECONDS / 5) for _ in range(12)]
    assert pauses[0] == 0.0, "nothing was done yet that could be paused for"
    assert 0 < pauses[1] < pauses[-1] <= MAX_PAUSE_SECONDS
    assert pauses[-1] == pytest.approx(MAX_WEIGHT * LOOK_SECONDS / 5)
    simulation.lag = simulation.growth = 0
    assert await simulation.work(LOOK_SECONDS) <= LOOK_SECONDS, "until it looks again"
    assert await simulation.work(LOOK_SECONDS) == 0.0
    assert simulation.notes[0] == f"live traffic is {BEHIND} records behind; running 1/2 of the time"
    assert simulation.notes[-1] is None


async def test_a_pause_ends_as_soon_as_live_traffic_has_caught_up() -> None:
    simulation = Simulation()
    simulation.growth = BEHIND
    await simulation.work(LOOK_SECONDS)
    lags = len(simulation.lags)

    async def catch_up() -> int:
        """The second time that it is looked at."""
        simulation.lags.append(0)
        return BEHIND * 9 if len(simulation.lags) == lags + 1 else 0

    simulation.live._read_lag = catch_up
    assert await simulation.work(LOOK_SECONDS) == LOOK_SECONDS
