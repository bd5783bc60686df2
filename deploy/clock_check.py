"""The check of this host's clock against Postgres's. Must not decide which of them is right."""

import time
from typing import Final, LiteralString

from replay.ports import Connection
from schemas.clocks import WARN_SECONDS, ahead_seconds, apart
from schemas.providers.base import TOLERANCE_SECONDS

_CLOCK_OF_POSTGRES: Final[LiteralString] = "SELECT extract(epoch FROM clock_timestamp())::float8"


async def clock_ahead(connection: Connection) -> float:
    """The least by which this host's clock is ahead of Postgres's, in seconds; negative: behind."""
    asked = time.time()
    theirs = await connection.fetchval(_CLOCK_OF_POSTGRES)
    return ahead_seconds(asked, theirs, time.time())


def clock_findings(ahead: float) -> tuple[list[str], list[str]]:
    """(warnings, faults), together at most one. A fault where providers' timestamps are refused."""
    if abs(ahead) <= WARN_SECONDS:
        return [], []
    found = [
        f"the clocks of this host and of Postgres {apart(ahead)}; set the wrong one (NTP): beyond"
        f" {TOLERANCE_SECONDS} s, what providers sign with a time is refused and quarantined"
    ]
    return ([], found) if abs(ahead) > TOLERANCE_SECONDS else (found, [])
