"""The quarantine can be looked into: by minute and reason, and one delivery, redacted; by command and over HTTP."""

import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from schemas.topics import QUARANTINE
from tests.conftest import Stack
from tests.support import signing
from tests.support.auditing import audited
from tests.support.commands import invoke
from tests.support.consoles import Consoles, call, running_console
from tests.support.ingresses import now_ms, post, run_ingress, source
from tests.support.records import payment

DAY_MS = 86_400_000
Redrive = Callable[..., Awaitable[tuple[int, str]]]


@dataclass
class Outage:
    """A forgery of three days ago; then, minutes apart, deliveries that are genuine: two under a wrong secret, and one
    under a clock that was a day ahead.
    """

    source: str
    started_ms: int


@pytest.fixture
async def outage(stack: Stack, topic: str, source_name: str, tmp_path: Path) -> Outage:
    clock = [now_ms() - 3 * DAY_MS]
    folder = tmp_path / "ingress"
    folder.mkdir()
    path = f"/webhooks/{source_name}"
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, folder, lambda: clock[0]) as running:

        async def refuse(number: int, signed_ms: int, secret: str) -> None:
            body = payment(number, customer="cus_of_zoe")
            status, _, _ = await post(running, path, body, signing.stripe(body, signed_ms // 1000, secret))
            assert status == 401

        await refuse(0, clock[0], "whsec_forged_one")
        started_ms = clock[0] = now_ms() - 600_000
        await refuse(1, clock[0], "whsec_of_another_endpoint")
        await refuse(2, clock[0], "whsec_of_another_endpoint")
        clock[0] = now_ms() + DAY_MS
        await refuse(3, now_ms(), signing.STRIPE)
    return Outage(source_name, started_ms)


@pytest.fixture
def redrive(stack: Stack, database_url: str, tmp_path: Path, source_name: str) -> Redrive:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": stack.servers, "DATABASE_URL": database_url, "REDRIVE_OPERATOR": "ada"}
    (tmp_path / "redrive.toml").write_text(
        f'[sources.{source_name}]\nprovider = "stripe"\nsecrets = ["{signing.STRIPE}"]\n'
    )

    return partial(invoke, tmp_path, environment)


async def listed(redrive: Redrive, name: str, *more: str) -> Any:
    code, text = await redrive("quarantine", "list", "--source", name, "--json", *more)
    assert code == 0, text
    return json.loads(text)["sources"].get(name)


async def test_an_old_forgery_does_not_hide_when_an_outage_began(outage: Outage, redrive: Redrive) -> None:
    found = await listed(redrive, outage.source)
    assert (found["held"], found["verify_now"]) == (4, 0)
    minutes = found["minutes"]
    assert [(one["reason"], one["deliveries"]) for one in minutes] == [
        ("signature_mismatch", 1),
        ("signature_mismatch", 2),
        ("timestamp_outside_tolerance", 1),
    ]
    started = time.strftime("%Y-%m-%dT%H:%M:00+00:00", time.gmtime(outage.started_ms / 1000))
    assert minutes[1]["minute"] == started
    assert [one["clock_off_seconds"] for one in minutes[:2]] == [None, None]
    (least, most) = minutes[2]["clock_off_seconds"]
    assert abs(least - DAY_MS / 1000) < 60
    assert least == most
    code, text = await redrive("quarantine", "list", "--source", outage.source)
    assert code == 0
    assert text.count("signature_mismatch") == 2
    assert f"{least}s" in text
    assert all(one["first"] in text for one in minutes), "what `show` takes"


async def test_a_window_shows_what_arrived_in_it(outage: Outage, redrive: Redrive) -> None:
    found = await listed(redrive, outage.source, "--from", "1h ago", "--to", "in 1h")
    assert (found["held"], len(found["minutes"])) == (2, 1)
    assert await listed(redrive, outage.source, "--from", "30 days ago", "--to", "20 days ago") is None


async def test_one_delivery_is_shown_redacted_and_says_why_it_does_not_verify(
    outage: Outage, redrive: Redrive, connection: Any
) -> None:
    minutes = (await listed(redrive, outage.source))["minutes"]
    mismatch, untimely = minutes[1]["first"], minutes[2]["first"]
    code, text = await redrive("quarantine", "show", f"{QUARANTINE}/{mismatch}", "--json")
    shown = json.loads(text)
    assert (code, shown["reason"], shown["verifies"], shown["why_not"]) == (
        0,
        "signature_mismatch",
        False,
        "signature_mismatch",
    )
    assert shown["redacted"]
    assert "cus_of_zoe" not in text
    assert shown["body"]["shape"]["type"] == "payment_intent.succeeded"
    assert "v1=" not in text, "a signature is a credential"
    code, text = await redrive("quarantine", "show", untimely)
    assert (code, "timestamp_outside_tolerance" in text, "clock_off_seconds" in text) == (0, True, True)
    assert await audited(connection) == []

    code, text = await redrive("quarantine", "show", mismatch, "--reveal", "--reason", "why", "--json")
    assert (code, "cus_of_zoe" in text) == (0, True)
    ((action, reason, details),) = await audited(connection)
    assert (action, reason, details["location"]) == ("events.reveal", "why", f"{QUARANTINE}/{mismatch}")


async def test_the_api_shows_the_same(
    outage: Outage, redrive: Redrive, stack: Stack, database_url: str, tmp_path: Path
) -> None:
    minutes = (await listed(redrive, outage.source))["minutes"]
    place = minutes[2]["first"]
    async with running_console(Consoles(stack, database_url, tmp_path, outage.source)) as url:
        status, answer = await call(url, "GET", f"/api/quarantine?source={outage.source}")
        assert (status, answer["sources"][outage.source]["minutes"]) == (200, minutes)
        status, answer = await call(url, "GET", f"/api/quarantine?source={outage.source}&to=30%20days%20ago")
        assert (status, answer["sources"]) == (200, {})
        status, shown = await call(url, "GET", f"/api/quarantine/{place}")
        assert (status, shown["location"], shown["reason"], shown["why_not"]) == (
            200,
            f"{QUARANTINE}/{place}",
            "timestamp_outside_tolerance",
            "timestamp_outside_tolerance",
        )
        status, problem = await call(url, "GET", f"/api/quarantine/0/{10**15}")
        assert (status, problem["code"]) == (404, "not_found")
        order = {"source": outage.source, "clock_off_seconds": 86_400, "dry_run": True}
        status, done = await call(url, "POST", "/api/quarantine/release", order)
        assert (status, done["released"], done["still_failing"]) == (200, 1, 3)


async def test_what_was_released_says_where_to(outage: Outage, redrive: Redrive) -> None:
    place = (await listed(redrive, outage.source))["minutes"][2]["first"]
    release = ("quarantine", "release", "--source", outage.source, "--clock-was-off", "1d", "--json")
    code, text = await redrive(*release)
    assert (code == 0, "reason" in text) == (False, True)
    code, text = await redrive(*release, "--reason", "the clock stood a day ahead")
    assert (code, json.loads(text)["released"]) == (0, 1)
    _, text = await redrive("quarantine", "show", place, "--json")
    assert json.loads(text)["released_to"].startswith(f"webhooks.{outage.source}/")


async def test_what_is_at_the_offset_of_an_earlier_topics_release_is_released_and_once(
    outage: Outage, redrive: Redrive, connection: Any
) -> None:
    """A topic that is deleted and created again gives its offsets to other deliveries."""
    place = (await listed(redrive, outage.source))["minutes"][2]["first"]
    partition, offset = map(int, place.split("/"))
    await connection.execute(
        "INSERT INTO redrive.releases VALUES ($1, $2, $3, 'evt_of_the_earlier_topic', '\\x00', 'webhooks.x/0/1')",
        partition,
        offset,
        outage.source,
    )
    reason = ("--reason", "the clock stood a day ahead")
    release = ("quarantine", "release", "--source", outage.source, "--clock-was-off", "1d", "--json", *reason)
    done = [json.loads((await redrive(*release))[1]) for _ in range(2)]
    assert [(one["released"], one["released_before"]) for one in done] == [(1, 0), (0, 1)]
    rows = await connection.fetch("SELECT record_id FROM redrive.releases")
    assert [row["record_id"] for row in rows] == ["evt_3"]


async def test_where_there_is_no_delivery_the_command_says_so(redrive: Redrive) -> None:
    code, _ = await redrive("quarantine", "show", f"0/{10**15}")
    assert code == 1
    code, _ = await redrive("quarantine", "show", "stripe")
    assert code != 0
