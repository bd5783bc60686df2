"""Invariants 1, 3 and 9 for code from outside, through the real processes: a plug-in that calls `sys.exit`, interrupts,
divides by zero or says nothing sensible harms its own source alone. And a topic is of the provider that redrive.toml gives it.
"""

import asyncio
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from tests.support import signing
from tests.support.processes import Installation, refuse_reload
from tests.support.records import payment, produce, record
from tests.support.waiting import limit

SECRET = "acme-signs-with-this"
PLUG_IN = """
import hmac
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from processors.projections.base import Event
from schemas.billing import Payment
from schemas.envelope import Identity
from schemas.lattice import Version
from schemas.providers import PROVIDERS as OURS
from schemas.providers.base import Signature, digest_of, hmac_sha256_hex, reject_mismatch

def verify(delivery, secrets, now):
    if b"verify-exit" in delivery.body:
        sys.exit("verify")
    if b"verify-interrupt" in delivery.body:
        raise KeyboardInterrupt
    if not hmac.compare_digest(hmac_sha256_hex(secrets.values[0].encode(), delivery.body), delivery.header("x-acme").encode()):
        raise reject_mismatch()
    return Signature(0)

def identify(payload, signed_id):
    if payload["do"] == "identify-exit":
        sys.exit("identify")
    if payload["do"] == "identify-interrupt":
        raise KeyboardInterrupt
    if payload["do"] == "identify-division":
        1 / 0
    return Identity(payload["id"], "acme." + payload["do"], None, digest_of(payload))

def project(record, payload):
    if payload["do"] == "project-exit":
        sys.exit("project")
    if payload["do"] == "project-interrupt":
        raise KeyboardInterrupt
    if payload["do"] == "before-all-calendars":
        yield Event(payload["id"], record.type, datetime.min.replace(tzinfo=timezone(timedelta(hours=14))))
        return
    if payload["do"] == "unknown-table":
        yield Event(payload["id"], record.type, None, (object(),))
        return
    source = "stripe" if payload["do"] == "other-source" else record.source
    fact = Payment(version=Version(None, 0, "x"), source=source, payment_intent_id=payload["id"], status="succeeded")
    yield Event(payload["id"], record.type, None, (fact,))

PROVIDERS = [
    replace(
        OURS["stripe"], name="acme", secret_variable="ACME_SECRET", kept_headers=("x-acme",), verify=verify,
        identify=identify, fingerprint=digest_of, event_type=None, check_secret=lambda secret: None,
    )
]
PROJECTIONS = {"acme": project}
"""
TOML = """
plugins = [{names}]

[sources.acme]
provider = "acme"
secrets = ["{secret}"]
"""
POSTED = (
    *("identify-exit", "identify-interrupt", "identify-division", "project-exit", "project-interrupt"),
    *("unknown-table", "other-source", "before-all-calendars", "sound"),
)


def event(do: str) -> bytes:
    return json.dumps({"id": f"evt_{do}", "do": do}).encode()


def name_plug_ins(installation: Installation, *names: str) -> None:
    quoted = ", ".join(f'"{name}"' for name in names)
    (installation.folder / "redrive.toml").write_text(TOML.format(names=quoted, secret=SECRET))


async def post(installation: Installation, source: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    url = f"{installation.ingest_url}/webhooks/{source}"
    async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as response:
        return response.status, await response.json()


async def post_to_acme(installation: Installation, do: str) -> tuple[int, Any]:
    body = event(do)
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return await post(installation, "acme", body, {"X-Acme": signature})


async def post_payment(installation: Installation, number: int) -> None:
    body = payment(number)
    status, _ = await post(installation, "stripe", body, signing.stripe(body, int(time.time())))
    assert status == 200


async def statuses(connection: Any) -> dict[str, tuple[str, str]]:
    """Event id -> (status, reason of a dead letter)."""
    rows = await connection.fetch("SELECT event_id, status, coalesce(error, '') AS error FROM webhook_events")
    return {row["event_id"]: (row["status"], row["error"].partition(":")[0]) for row in rows}


async def test_a_plug_in_harms_no_source_but_its_own(tmp_path: Path, servers: dict[str, str]) -> None:
    installation = Installation(tmp_path, **servers, **signing.SECRETS)
    (tmp_path / "hostile.py").write_text(PLUG_IN)
    (tmp_path / "fatal.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "interrupting.py").write_text("raise KeyboardInterrupt\n")
    name_plug_ins(installation, "hostile")
    try:
        await installation.up()
        pids = {name: installation.service(name).pid for name in installation.ports}
        connection = await asyncpg.connect(installation.address("DATABASE_URL"))
        try:
            # Refused, and no service ends: invariant 3.
            for do in ("verify-exit", "verify-interrupt"):
                assert (await post_to_acme(installation, do))[1]["code"] == "verification_failed"
            hashes = {}
            for do in POSTED:
                status, answer = await post_to_acme(installation, do)
                assert (status, answer["status"]) == (200, "accepted")
                hashes[do] = answer["record_id"]
            assert hashes["identify-exit"] == "sha256:" + hashlib.sha256(event("identify-exit")).hexdigest()
            await post_payment(installation, 1)
            # Whoever may write to its topic mints no payment of Stripe's there.
            await produce(
                installation.address("KAFKA_BOOTSTRAP_SERVERS"), [record("webhooks.acme", "stripe", payment(2))]
            )

            expected = {
                # What identify can't read, the projection may read all the same.
                "evt_identify-exit": ("applied", ""),
                "evt_identify-interrupt": ("applied", ""),
                "evt_identify-division": ("applied", ""),
                "evt_sound": ("applied", ""),
                "evt_1": ("applied", ""),
                "evt_project-exit": ("dead", "projection_failed"),
                "evt_project-interrupt": ("dead", "projection_failed"),
                "evt_before-all-calendars": ("dead", "projection_failed"),
                "evt_unknown-table": ("dead", "projection_failed"),
                "evt_other-source": ("dead", "projection_failed"),
            }
            async with limit("every event is folded"):
                while not (found := await statuses(connection)).items() >= expected.items() or len(found) <= len(
                    expected
                ):
                    await asyncio.sleep(0.1)
            (forged,) = found.keys() - expected.keys()
            assert forged.startswith("webhooks.acme/")
            assert found[forged] == ("dead", "bad_envelope")
            before = await connection.fetch("SELECT source, payment_intent_id FROM payments ORDER BY 1, 2")
            assert {row["source"] for row in before if row["payment_intent_id"] == "pi_1"} == {"stripe"}

            # Whatever folds, folds alike.
            entry = await installation.redrive_json("replay", "run", "--from", "1h ago", "--reason", "changes nothing")
            assert (entry["state"], entry["rows_changed"], entry["dead"]) == ("done", 0, 6)
            assert (await installation.redrive_json("prove"))["verdict"] == "equal"
            assert await connection.fetch("SELECT source, payment_intent_id FROM payments ORDER BY 1, 2") == before

            for failures, name in enumerate(("fatal", "interrupting"), start=1):
                name_plug_ins(installation, "hostile", name)
                for service in installation.ports:
                    await refuse_reload(installation, service, failures)
            await post_payment(installation, 3)
            async with limit("the payment is folded"):
                while (await statuses(connection)).get("evt_3") != ("applied", ""):
                    await asyncio.sleep(0.1)
            assert {name: installation.service(name).pid for name in installation.ports} == pids
            _, out = await installation.redrive("check", expect=78)
            assert "plug-in interrupting can't be imported: KeyboardInterrupt at" in " ".join(out.split())
        finally:
            await connection.close()
    finally:
        await installation.stop()
