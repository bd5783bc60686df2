"""A provider at an even pace: signed deliveries at their times, on connections of its own. Never waits for an answer
before the next: a slow server must not slow down what measures it.
"""

import asyncio
import time
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Final

import aiohttp
import orjson

from bench.events import STRIPE, event, padded, story, token
from bench.subject import SECRET

CONNECTIONS: Final = 32
TIMEOUT_SECONDS: Final = 10.0


@dataclass(slots=True)
class Paced:
    """What became of the deliveries; `spooled` are among the `durable`. A time runs from when a delivery was due, so it
    holds what it waited for.
    """

    due: int = 0
    durable: int = 0
    spooled: int = 0
    seconds: list[float] = field(default_factory=list)

    def percentile_ms(self, percent: int) -> float:
        return quantiles(self.seconds, n=100)[percent - 1] * 1000


async def post_paced(url: str, per_second: int, seconds: int, series: str) -> Paced:
    """All of them, and their answers."""
    found = Paced()
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session, asyncio.TaskGroup() as group:
        start = time.perf_counter()
        for number in range(per_second * seconds):
            due = start + number / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(_post(session, url, f"{series}{number}", due, found))
    return found


async def _post(session: aiohttp.ClientSession, url: str, name: str, due: float, found: Paced) -> None:
    now = int(time.time())
    kind, data = list(story(0, now))[-1]
    body = padded({**event(kind, data, 0, now), "id": f"evt_{token(name, 0)}"})
    found.due += 1
    headers = {**STRIPE.sign(SECRET, "", body, "", now), "Content-Type": "application/json"}
    try:
        async with session.post(url, data=body, headers=headers) as response:
            answer = await response.read()
            if response.status == 200:
                found.durable += 1
                found.spooled += orjson.loads(answer)["status"] == "spooled"
    except (aiohttp.ClientError, TimeoutError):
        # It has no answer, and its time as what it waited.
        pass
    found.seconds.append(time.perf_counter() - due)
