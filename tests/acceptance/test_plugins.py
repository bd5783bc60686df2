"""Invariants 5 and 8 for code from outside: the plug-in of `docs/how-to/write-a-plugin.md`, as the page has it, run by
the real processes. And one that can't work stops a command with 78.
"""

import asyncio
import hashlib
import hmac
import json
import re
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from tests.support import signing
from tests.support.processes import Installation
from tests.support.waiting import limit

PAGE = (Path(__file__).parents[2] / "docs/how-to/write-a-plugin.md").read_text()
FILES = dict(re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = [shlex.split(line) for line in re.findall(r"^\$ redrive (.+)$", PAGE, re.MULTILINE)]
(PAID,) = (body.encode() for body in re.findall(r"^body='(.+)'$", PAGE, re.MULTILINE))

SECRET = "acme-signs-with-this"


def at(hour: int) -> datetime:
    return datetime(2026, 11, 21, hour, tzinfo=UTC)


async def post(
    installation: Installation, source: str, body: bytes, headers: dict[str, str], status: int = 200
) -> None:
    url = f"{installation.ingest_url}/webhooks/{source}"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        assert response.status == status, await response.text()


async def post_contact(installation: Installation, event_id: str, hour: int, name: str) -> None:
    event = {"type": "contact.created", "timestamp": at(hour).isoformat(), "data": {"id": "con_1", "name": name}}
    body = json.dumps(event).encode()
    await post(installation, "standardwebhooks", body, signing.standard(event_id, body, int(time.time())))


def signed_by_acme(body: bytes, secret: str = SECRET) -> dict[str, str]:
    return {"X-Acme-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}


class Database:
    """Reads what users read."""

    def __init__(self, installation: Installation) -> None:
        self._url = installation.address("DATABASE_URL")

    async def fetch(self, sql: str) -> list[tuple[Any, ...]]:
        connection = await asyncpg.connect(self._url)
        try:
            return [tuple(row) for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    async def until_statuses(self, expected: dict[str, str]) -> None:
        """Until the index holds these events, with these statuses."""
        async with limit("the events of the page"):
            while dict(await self.fetch("SELECT event_id, status FROM webhook_events")) != expected:
                await asyncio.sleep(0.1)

    async def rows_with_their_places(self) -> list[list[tuple[Any, ...]]]:
        """Equal only if nothing was rewritten."""
        return [
            await self.fetch(f"SELECT ctid::text, xmin::text, t::text FROM gen_1.{table} AS t ORDER BY ctid")
            for table in ("contacts", "orders")
        ]


async def test_the_plug_in_of_the_page_reads_what_was_ignored_and_a_provider_of_its_own(
    tmp_path: Path, servers: dict[str, str]
) -> None:
    installation = Installation(tmp_path, **servers, **signing.SECRETS, ACME_WEBHOOK_SECRET=SECRET)
    try:
        await installation.up()
        database = Database(installation)
        await post_contact(installation, "msg_1", 3, "Zoe")
        await database.until_statuses({"msg_1": "ignored"})
        await installation.stop()

        for name, text in FILES.items():
            (tmp_path / name).write_text(text)
        await installation.up()
        database = Database(installation)
        assert await database.fetch("TABLE contacts") == []
        for command in COMMANDS:
            await installation.redrive(*command)
        await database.until_statuses({"msg_1": "applied"})
        assert await database.fetch("TABLE contacts") == [("standardwebhooks", "con_1", "Zoe", at(3))]
        warnings = (await installation.redrive_json("check"))["warnings"]
        assert [text for text in warnings if "contacts" in text or "orders" in text] == []

        # A later event, then one that comes late: the name is the latest, the creation the earliest.
        await post_contact(installation, "msg_2", 4, "Zoé")
        await post_contact(installation, "msg_0", 1, "Z.")
        other = b'{"id":"evt_1002","type":"order.shipped"}'
        for body in (PAID, PAID, other):
            await post(installation, "acme", body, signed_by_acme(body))
        await post(installation, "acme", PAID, signed_by_acme(PAID, "forged"), status=401)
        applied = dict.fromkeys(("msg_0", "msg_1", "msg_2", "evt_1001"), "applied")
        await database.until_statuses({**applied, "evt_1002": "ignored"})
        assert await database.fetch("TABLE contacts") == [("standardwebhooks", "con_1", "Zoé", at(1))]
        assert await database.fetch("TABLE orders") == [("acme", "ord_1", 1200, "eur", at(3))]

        before = await database.rows_with_their_places()
        entry = await installation.redrive_json("replay", "run", "--from", "1h ago", "--reason", "to change nothing")
        assert (entry["state"], entry["records"], entry["rows_changed"], entry["dead"]) == ("done", 5, 0, 0)
        assert await database.rows_with_their_places() == before

        captured = {"headers": signed_by_acme(PAID), "body": PAID.decode(), "secret": SECRET}
        await installation.redrive("verify", "acme", "--request", "-", stdin=json.dumps(captured).encode())
        _, out = await installation.redrive("send", "acme", expect=2)
        assert "no samples" in out
    finally:
        await installation.stop()


@pytest.mark.parametrize(
    ("module", "text", "said"),
    [
        ("acme_redrive", "PROVIDERS = [", "plug-in acme_redrive can't be imported: SyntaxError"),
        ("acme_redrive", "import sys; sys.exit(0)", "plug-in acme_redrive can't be imported: SystemExit at"),
        (
            "acme_redrive",
            FILES["acme_redrive.py"].replace('Table("orders"', 'Table("payments"'),
            "plug-in acme_redrive: a table or view called 'payments' exists already",
        ),
        ("acme_redrvie", FILES["acme_redrive.py"], "plug-in acme_redrvie: no module of that name"),
    ],
    ids=["broken", "exiting", "clashing", "missing"],
)
async def test_a_plug_in_that_can_not_work_stops_a_command_with_78(
    tmp_path: Path, module: str, text: str, said: str
) -> None:
    """Also where redrive.toml is in another folder than the one that it runs in."""
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "redrive.toml").write_text(f'plugins = ["{module}"]\n')
    (folder / "acme_redrive.py").write_text(text)
    installation = Installation(tmp_path, REDRIVE_CONFIG="etc/redrive.toml")
    code, out = await installation.redrive("check", expect=None)
    assert code == 78, out
    assert said in " ".join(out.split()), out
    assert "Traceback" not in out
