"""What is told of generations that are kept next to the live one."""

from typing import Any

import pytest

from replay import metrics
from replay.rebuild import lifecycle
from replay.rebuild.follower import Follower
from replay.window import LogReader
from schemas.cluster import Cluster
from schemas.errors import Unavailable
from tests.conftest import Stack
from tests.support.rebuilds import TESTER, rebuilding
from tests.support.replays import never_folded


async def test_it_is_told_how_far_a_generation_is_behind_also_while_nobody_can_fold_it(
    stack: Stack, topic: str, database_url: str, connection: Any
) -> None:
    def behind() -> dict[str, float]:
        return {sample.labels["generation"]: sample.value for sample in next(iter(metrics.BEHIND.collect())).samples}

    await never_folded(stack, connection, topic, 30)
    async with (
        rebuilding(stack, database_url) as ports,
        rebuilding(stack, database_url, open_log=lambda: LogReader(Cluster("127.0.0.1:1"))) as severed,
    ):
        await lifecycle.begin(connection, ports, None, TESTER)
        with pytest.raises(Unavailable):
            await Follower(severed).follow()
        assert behind() == {"2": 30}
        await Follower(ports).follow()
        assert behind() == {"2": 0}
        await lifecycle.drop(connection, 2, TESTER)
        await Follower(ports).follow()
        assert behind() == {}
