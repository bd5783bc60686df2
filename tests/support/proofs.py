"""What the tests read of a certificate and of a proof's session."""

from typing import Any

from replay.prove.certificate import Certificate


def named(certificate: Certificate) -> list[tuple[str, str, str, list[str]]]:
    """(table, last part of the key, kind, columns) of each difference."""
    return [(one.table, [*one.key.values()][-1], one.kind, one.columns) for one in certificate.differences]


async def is_nothing_left(connection: Any) -> bool:
    """A session's end drops its temporary tables, and nobody waits for it."""
    left = "SELECT count(*) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace WHERE nspname LIKE 'pg_temp%'"
    return bool(await connection.fetchval(left) == 0)
