"""What happens to processes: they are killed, or stand still for some seconds."""

import asyncio
import contextlib
import random

import psutil

from tests.soak.census import by_role
from tests.soak.scenarios import Run, kill_one

FROZEN = {"ingest-0": 3, "ingest-1": 3, "ingest": 1, "processors": 3, "kafka": 3, "postgres": 3}
"""Role -> how often it is chosen."""

SECONDS = (1.0, 8.0)


async def kill(run: Run, order: random.Random) -> str:
    role = await kill_one(run.installation, order)
    run.kills[role] += 1
    return f"SIGKILL {role}"


async def freeze(run: Run, order: random.Random) -> str:
    """SIGSTOP for some seconds; of Postgres all its processes."""
    role = order.choices(list(FROZEN), list(FROZEN.values()))[0]
    seconds = order.uniform(*SECONDS)
    while (victim := (await asyncio.to_thread(by_role, run.installation)).get(role)) is None:
        # It is just being started again.
        await asyncio.sleep(0.05)
    stopped = []
    try:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.suspend()
            stopped.append(victim)
            for child in victim.children(recursive=True) if role == "postgres" else ():
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.suspend()
                    stopped.append(child)
        await asyncio.sleep(seconds)
    finally:
        for process in reversed(stopped):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
    return f"SIGSTOP {role} for {seconds:.1f} s"
