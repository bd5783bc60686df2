"""Searches that are made every day do not read the whole index of the log."""

from typing import Any

from replay.operations import events


async def test_the_default_list_and_the_list_of_the_dead_do_not_read_everything(connection: Any) -> None:
    await connection.execute("""
        INSERT INTO redrive.event_index
        SELECT 'stripe', 'evt_' || i, 'webhooks.stripe', 0, i, 'evt_' || i, '\\x00', 'stripe', 'stripe.x', NULL,
               now() - i * interval '1 second', CASE WHEN i % 9999 = 0 THEN 'dead' ELSE 'applied' END, NULL
        FROM generate_series(1, 30000) AS i
    """)
    await connection.execute("ANALYZE redrive.event_index")
    wanted = {
        "": (events.Search(), None),
        "a page": (events.Search(), "1760000000000000.1"),
        "a silent source": (events.Search(source="nobody"), None),
        "the dead": (events.Search(status="dead"), None),
    }
    for name, (search, cursor) in wanted.items():
        clauses, values = events._clauses(search, cursor)
        where = "WHERE " + " AND ".join(clauses) if clauses else ""
        query = "EXPLAIN " + events._LIST_EVENTS.format(where=where, limit=51)
        await connection.execute("SET plan_cache_mode = force_custom_plan")
        plan = "\n".join(row[0] for row in await connection.fetch(query, *values))
        assert "Seq Scan" not in plan, f"{name}\n{plan}"
