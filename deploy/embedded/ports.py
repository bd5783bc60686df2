"""Free ports of this machine, and how the embedded servers are started on them."""

import random
import socket
from collections.abc import Callable, Sequence
from typing import Final

from schemas.errors import Unavailable

START_SECONDS: Final = 90.0
_PORTS: Final = range(20_000, 32_000)
"""Below those of outgoing connections, which could take one between the choice and the start."""

Announce = Callable[[str], None]


def free_ports(count: int, preferred: int | None = None, among: Sequence[int] = _PORTS) -> list[int]:
    """Different ports of `among` that can be bound on loopback; `preferred` is the first of them, where it can.

    A random generator that somebody seeded would give two processes the same ports before either has bound them.
    """
    found: list[int] = []
    for port in dict.fromkeys([*([preferred] if preferred else []), *random.SystemRandom().sample(among, 1000)]):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Unavailable("no free port on 127.0.0.1")
