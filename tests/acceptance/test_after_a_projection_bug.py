"""`docs/how-to/after-a-projection-bug.md` as the page has it, on the real processes: the bug is that of a plug-in."""

import asyncio
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.support import signing
from tests.support.processes import Installation
from tests.support.waiting import limit

pytestmark = pytest.mark.thorough

PAGE = (Path(__file__).parents[2] / "docs/how-to/after-a-projection-bug.md").read_text()
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ redrive (.+)$", PAGE, re.MULTILINE)]

SHOP = """
from dataclasses import dataclass
from typing import Annotated

from processors.projections.base import Event
from schemas.lattice import Fact, Key, Latest, Table, Version
from schemas.providers.base import time_of_iso

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Fact):
    source: Annotated[str, Key()]
    order_id: Annotated[str, Key()]
    amount: Annotated[int | None, Latest("state")] = None


ORDERS = Table("orders", Order)
TABLES = [ORDERS]
WRITES = (ORDERS,)


def paid(record, payload):
    at = time_of_iso(payload["timestamp"])
    data = payload["data"]
    order = Order(
        version=Version(at, 0, record.record_id), source=record.source, order_id=data["id"], amount=data["amount"] // 100
    )
    yield Event(record.record_id, record.type, at, (order,))


PROJECTIONS = {"standardwebhooks.order.paid": paid}
"""
FIXED = SHOP.replace("VERSION = 1", "VERSION = 2").replace(" // 100", "")
TOML = 'plugins = ["shop"]\n\n[read_models]\nindexes = "indexes.sql"\nviews = "more-views.sql"\n'
INDEXES = "CREATE INDEX IF NOT EXISTS orders_by_amount ON :gen.orders (amount);\n"
VIEWS = "CREATE OR REPLACE VIEW :views.large_orders AS SELECT order_id FROM :gen.orders WHERE amount > 1000;\n"


async def pay(installation: Installation, number: int) -> None:
    event = {"type": "order.paid", "timestamp": "2026-11-21T03:00:00Z", "data": {"id": f"o{number}", "amount": 1200}}
    body = json.dumps(event).encode()
    url = f"{installation.ingest_url}/webhooks/standardwebhooks"
    headers = signing.standard(f"msg_{number}", body, int(time.time()))
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        assert response.status == 200


class Readers:
    """What users read."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    async def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self._installation.address("DATABASE_URL"))
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    async def orders(self) -> dict[str, int]:
        return dict(await self.fetch("SELECT order_id, amount FROM orders ORDER BY 1"))

    async def large(self) -> int:
        return len(await self.fetch("TABLE large_orders"))


async def until_orders(installation: Installation, count: int) -> None:
    async with limit("the orders of the page"):
        while len(await Readers(installation).orders()) < count:
            await asyncio.sleep(0.1)


async def warnings(installation: Installation, *command: str) -> list[str]:
    """Those that are about the tables."""
    found = (await installation.redrive_json(*(command or ("check",))))["warnings"]
    return [text for text in found if "PUBLIC_URL" not in text]


async def test_the_page(tmp_path: Path, servers: dict[str, str]) -> None:
    for name, text in (("redrive.toml", TOML), ("shop.py", SHOP), ("indexes.sql", INDEXES), ("more-views.sql", VIEWS)):
        (tmp_path / name).write_text(text)
    installation = Installation(tmp_path, **servers, **signing.SECRETS)
    readers = Readers(installation)
    wrong, right = {"o1": 12, "o2": 12}, {"o1": 1200, "o2": 1200}
    try:
        await installation.up()
        await pay(installation, 1)
        await pay(installation, 2)
        await until_orders(installation, 2)
        assert await readers.orders() == wrong
        assert await warnings(installation) == []
        await installation.stop()

        (tmp_path / "shop.py").write_text(FIXED)
        await installation.up()
        check, build, listing, apply, back, again, drop, as_of = COMMANDS
        (warning,) = await warnings(installation, *check)
        assert "standardwebhooks.order.paid 1 (now 2); rows of orders may be wrong" in warning

        built = await installation.redrive_json(*build)
        assert (built["generation"], built["live"], built["lost"]) == (2, 1, [])
        differing = {name: view["changed"] for name, view in built["difference"]["views"].items() if view["changed"]}
        assert differing == {"orders": 2}
        found = (await installation.redrive_json(*listing))["generations"]
        assert [(one["generation"], one["state"]) for one in found] == [(1, "live"), (2, "ready")]
        assert await readers.orders() == wrong
        indexes = await readers.fetch(
            "SELECT schemaname FROM pg_indexes WHERE indexname = 'orders_by_amount' ORDER BY 1"
        )
        assert indexes == [("gen_1",), ("gen_2",)]

        for command, expected, large in ((apply, right, 2), (back, wrong, 0), (again, right, 2)):
            await installation.redrive(*command)
            assert await readers.orders() == expected
            assert await readers.large() == large
        await pay(installation, 3)
        await until_orders(installation, 3)
        assert (await readers.orders())["o3"] == 1200
        assert await warnings(installation) == []
        await installation.redrive("rebuild", "drop", "2", "--reason", "the live one", expect=1)
        await installation.redrive(*drop)
        assert await readers.fetch("SELECT nspname FROM pg_namespace WHERE nspname ~ '^gen_'") == [("gen_2",)]

        await installation.redrive(*as_of)
        assert await readers.fetch("SELECT count(*) FROM scratch_before.orders") == [(0,)]
        await installation.redrive("rebuild", "drop", "before", "--reason", "seen")
        assert (await installation.redrive_json("rebuild", "list"))["scratches"] == []
        await installation.redrive("rebuild", "--apply", "--rollback", expect=2)
        await installation.redrive("rebuild", "--rollback", "--reason", "nowhere to go", expect=1)
        actions = [row[0] for row in await readers.fetch("SELECT action FROM redrive.audit ORDER BY id")]
        flips = ["rebuild.apply", "rebuild.rollback", "rebuild.apply"]
        assert actions == ["rebuild.build", *flips, "rebuild.drop", "rebuild.as_of", "rebuild.drop"]
    finally:
        await installation.stop()
