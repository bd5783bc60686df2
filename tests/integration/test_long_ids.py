"""Ids as long as a sender likes: their events are folded like any other."""

import json
import secrets
from pathlib import Path
from typing import Any

from schemas.providers.base import event_id
from tests.conftest import Stack
from tests.support.records import produce, record, stripe_event
from tests.support.waiting import until
from tests.support.workers import folded, run_worker


async def test_events_with_long_ids_are_applied_and_indexed_once(
    stack: Stack, topic: str, database_url: str, connection: Any, tmp_path: Path
) -> None:
    ids = [f"evt_{secrets.token_hex(size)}" for size in (600, 3_000, 1_000_000)]
    bodies = [stripe_event(name, "invoice.paid", {"id": f"in_{n}", "status": "paid"}) for n, name in enumerate(ids)]
    # Of the first one a retry, which differs in what does not count.
    bodies.append(json.dumps({**json.loads(bodies[0]), "pending_webhooks": 1}).encode())
    await produce(stack.servers, [record(topic, "stripe", body) for body in bodies])
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, len(bodies)), "the fold")
    rows = await connection.fetch("SELECT event_id, status, repeats, conflicts FROM webhook_events")
    assert {tuple(row) for row in rows} == {(event_id(name), "applied", 1 if name == ids[0] else 0, 0) for name in ids}
    assert await connection.fetchval("SELECT count(*) FROM invoices") == 3
