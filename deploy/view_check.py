"""The check of the views that people read, and of the price tiers in them. Must not change anything."""

from collections.abc import Mapping

import asyncpg

from replay.ports import Connection
from replay.prove.views import Configured, compare_price_tiers, compare_views


async def other_views(connection: Connection, configured: Configured) -> tuple[list[str], list[str]]:
    """(warnings, faults): a view that is not this version's, tiers that are not those of redrive.toml."""
    try:
        _, others = await compare_views(connection, configured.declared)
        faults = [str(one) for one in others]
    except asyncpg.InsufficientPrivilegeError:
        return [
            "this login may not compare the views: it needs TEMPORARY on the database, and the role of a console"
        ], []
    return [], [*faults, *await _other_tiers(connection, configured.price_tiers)]


async def _other_tiers(connection: Connection, configured: Mapping[str, str]) -> list[str]:
    others = [one.key["price_id"] for one in await compare_price_tiers(connection, configured)]
    if not others:
        return []
    return [
        f"the price tiers in the database are not those of redrive.toml ({', '.join(others)}): run"
        " `redrive migrate --apply`"
    ]
