"""How many files, sockets included, this process may have open at once. Must not close any."""

import logging
import resource
from typing import Final

log: Final = logging.getLogger("redrive.service")
RESERVED: Final = 300
"""For the spool, the clients of Kafka, the logs, and a burst of connections that are about to be refused."""


def connections_within(wanted: int) -> int:
    """How many of them leave room for everything else, once the limit is as high as the system lets us have it.

    Without that room, whoever holds idle connections keeps the spool from its disk and the producer from its broker.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    needed = wanted + RESERVED
    if soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = max(soft - RESERVED, soft // 2)
    if room >= wanted:
        return wanted
    log.warning(
        "open files are limited to %d (ulimit -n): %d connections at once, not %d",
        soft,
        room,
        wanted,
        extra={"action": "start", "code": "few_open_files"},
    )
    return room
