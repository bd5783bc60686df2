"""Reading the tables back, for comparison."""

import asyncio
import json
from typing import Any

import asyncpg

from tests.support.story import World
from tests.support.waiting import limit

KEYS = {
    "messages": ("source", "message_id"),
    "conversations": ("source", "channel", "our_number", "peer_number"),
    "subscriptions": ("source", "subscription_id"),
    "invoices": ("source", "invoice_id"),
    "payments": ("source", "payment_intent_id"),
    "refunds": ("source", "refund_id"),
    "disputes": ("source", "dispute_id"),
    "unassigned_purchases": ("source", "payment_intent_id"),
    "conflicting_usages": ("source", "entry_id"),
    "credit_entries": ("source", "entry_id"),
    "credits": ("source", "customer_id"),
    "accounts": ("source", "customer_id"),
    "calls": ("source", "call_id"),
    "crm_objects": ("source", "portal_id", "object_type", "object_id"),
    "contact_preferences": ("source", "our_number", "peer_number", "category"),
}
FACTS = (
    "messages",
    "subscriptions",
    "invoices",
    "payments",
    "refunds",
    "disputes",
    "credit_entries",
    "account_corrections",
    "subscription_corrections",
    "calls",
    "crm_objects",
    "crm_properties",
    "contact_preferences",
)


async def read_view(
    connection: "asyncpg.Connection[asyncpg.Record]", view: str
) -> dict[tuple[str, ...], dict[str, Any]]:
    rows = await connection.fetch(f"SELECT * FROM public.{view}")
    return {tuple(row[name] for name in KEYS[view]): _decoded(row) for row in rows}


def _decoded(row: asyncpg.Record) -> dict[str, Any]:
    found = dict(row)
    if "properties" in found:
        found["properties"] = json.loads(found["properties"])
    return found


async def physical_rows(connection: "asyncpg.Connection[asyncpg.Record]") -> dict[str, list[tuple[Any, ...]]]:
    """Every fact and index row with its place and its writer's transaction: equal only if nothing was rewritten."""
    found = {}
    for table in (*(f"gen_1.{name}" for name in FACTS), "redrive.event_index", "redrive.positions"):
        rows = await connection.fetch(f"SELECT ctid::text, xmin::text, t::text FROM {table} AS t ORDER BY ctid")
        found[table] = [tuple(row) for row in rows]
    return found


def differences(
    expected: dict[tuple[str, ...], dict[str, Any]], actual: dict[tuple[str, ...], dict[str, Any]]
) -> list[str]:
    """What is missing, too much, or different in the columns that are expected."""
    found = [f"missing {key}" for key in expected.keys() - actual.keys()]
    found += [f"unexpected {key}" for key in actual.keys() - expected.keys()]
    for key in expected.keys() & actual.keys():
        for column, value in expected[key].items():
            if actual[key][column] != value:
                found.append(f"{key} {column}: expected {value!r}, is {actual[key][column]!r}")
    return sorted(found)


async def story_differences(connection: "asyncpg.Connection[asyncpg.Record]", world: World) -> list[str]:
    """Where the read models are not what the story says; of each, the first twenty places."""
    found = []
    for view in KEYS:
        expected = world.tables.get(view, {})
        if view == "credits":
            balances = {key: row["credit_balance"] for key, row in world.tables.get("accounts", {}).items()}
            customers = {(key[0], row["customer_id"]) for key, row in world.tables.get("credit_entries", {}).items()}
            expected = {key: {"balance": balances[key]} for key in customers if key[1] is not None}
        found += [f"{view}: {line}" for line in differences(expected, await read_view(connection, view))[:20]]
    return found


async def assert_tables_are_the_story(connection: "asyncpg.Connection[asyncpg.Record]", world: World) -> None:
    assert await story_differences(connection, world) == []


async def until_folded(connection: "asyncpg.Connection[asyncpg.Record]", events: set[Any]) -> None:
    """Until every event of the story is in the index."""
    async with limit("every event of the story in the index"):
        while True:
            rows = await connection.fetch("SELECT DISTINCT source, event_id FROM redrive.event_index")
            if events <= {(row["source"], row["event_id"]) for row in rows}:
                return
            await asyncio.sleep(0.2)


async def empty(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Forget everything that was folded."""
    tables = (*(f"gen_1.{name}" for name in FACTS), "redrive.event_index", "redrive.positions")
    await connection.execute(f"TRUNCATE {', '.join(tables)}")
