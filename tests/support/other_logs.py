"""Two logs of one topic name, and what was lost between them."""

from typing import Any
from uuid import UUID

OLD, NEW = UUID(int=1), UUID(int=2)


async def lost_ranges(connection: Any) -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "SELECT generation, partition, first_offset, end_offset FROM redrive.lost_ranges ORDER BY 1, 2, 3"
    )
    return [tuple(row) for row in rows]
