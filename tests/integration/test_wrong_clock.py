"""A clock that is wrong costs no delivery: what it refuses is kept, and an operator who knows it was wrong takes it."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from deploy.clock_check import clock_ahead
from deploy.operator_log import appending
from ingest import metrics
from ingest.dedupe.peers import Gossip
from ingest.dedupe.store import Chunk
from replay.audit import Author
from replay.log.reader import LogReader
from replay.operations.quarantine import QuarantineReader
from replay.operations.release import AuthorizedRelease, Release, ReleaseSelection, release
from schemas.errors import InvalidSelection
from schemas.settings import Source
from schemas.topics import QUARANTINE
from tests.conftest import ReadTopic, Stack
from tests.support import signing, signing_hubspot, signing_retell, signing_sendgrid, signing_telnyx
from tests.support.auditing import audited
from tests.support.ingresses import RunningIngress, now_ms, post, run_ingress, source
from tests.support.records import payment
from tests.support.waiting import until

DAY = 86_400
YEARS = 20_000 * DAY
"""A clock without a battery begins in 1970."""

ADA = Author("ada", "the clock stood a day off")


async def stored(running: RunningIngress, name: str, number: int, signed_at: float) -> tuple[int, str]:
    body = payment(number)
    status, answer, _ = await post(running, f"/webhooks/{name}", body, signing.stripe(body, int(signed_at)))
    return status, str(answer.get("code") or answer["status"])


def off_by(seconds: float) -> Callable[[], int]:
    return lambda: now_ms() + int(seconds * 1000)


async def released(
    stack: Stack, connection: Any, sources: dict[str, Source], off: float = 0, author: Author | None = None
) -> Release:
    """A dry run without an author."""
    async with LogReader(stack.cluster) as reader, appending(stack.cluster) as append:
        order = None if author is None else AuthorizedRelease(author, append)
        return await release(
            QuarantineReader(reader, connection, sources, None),
            ReleaseSelection(list(sources), off),
            order,
            lambda _: None,
        )


@pytest.mark.parametrize("ahead", [DAY, -DAY, -YEARS])
async def test_what_a_wrong_clock_refuses_is_kept_and_released_with_the_arrival_of_a_right_one(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, connection: Any, read_topic: ReadTopic, ahead: int
) -> None:
    sources = {source_name: source(source_name, "stripe")}
    before = now_ms()
    async with run_ingress(stack, sources, tmp_path, off_by(ahead)) as running:
        for number in range(3):
            found = await stored(running, source_name, number, time.time())
            assert found == (401, "timestamp_outside_tolerance")
    assert await read_topic(topic) == []
    wanted = f"/webhooks/{source_name}".encode()
    held = [record for record in await read_topic(QUARANTINE) if dict(record.headers).get("ce_source") == wanted]
    assert len(held) == 3
    assert all(record.timestamp >= before for record in held), "it expires by the broker's clock"
    counts = await released(stack, connection, sources)
    assert (counts.released, counts.still_failing, counts.untimely) == (0, 3, 3), "not by itself"
    for wrong in (-ahead, ahead / 2):
        assert (await released(stack, connection, sources, wrong)).released == 0, "the offset decides"
    assert (await released(stack, connection, sources, ahead, ADA)).released == 3
    assert await audited(connection) == [
        (
            "quarantine.release",
            ADA.reason,
            {"sources": [source_name], "clock_off_seconds": ahead, "outcome": outcome, **counts},
        )
        for outcome, counts in (
            ("begun", {}),
            ("done", {"released": 3, "duplicates": 0, "still_failing": 0, "untimely": 0, "released_before": 0}),
        )
    ]
    records = await read_topic(topic)
    assert {record.value for record in records} == {payment(number) for number in range(3)}
    assert all(before - 1 <= record.timestamp <= now_ms() for record in records), "as a right clock would have said"
    assert {dict(record.headers)["redrive_provenance"] for record in records} == {b"released"}


async def test_to_say_that_the_clock_was_off_needs_a_reason(
    stack: Stack, topic: str, source_name: str, connection: Any
) -> None:
    sources = {source_name: source(source_name, "stripe")}
    with pytest.raises(InvalidSelection, match="reason"):
        await released(stack, connection, sources, 60, Author("ada", None))
    assert await audited(connection) == []


async def test_a_captured_delivery_sent_again_is_kept_and_comes_in_only_if_the_clock_was_off_by_its_age(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, connection: Any, read_topic: ReadTopic
) -> None:
    """Its signature is right and its time is its own, so nobody but an operator can tell it from a wrong clock."""
    sources = {source_name: source(source_name, "stripe")}
    now = time.time()
    async with run_ingress(stack, sources, tmp_path, now_ms) as running:
        for number, age in enumerate((3 * DAY, 2 * DAY)):
            assert (await stored(running, source_name, number, now - age))[1] == "timestamp_outside_tolerance"
    assert (await released(stack, connection, sources, DAY, ADA)).released == 0
    done = await released(stack, connection, sources, 2 * DAY, ADA)
    assert (done.released, done.untimely) == (1, 1)
    assert [record.value for record in await read_topic(topic)] == [payment(1)]


async def test_garbage_with_an_old_time_is_a_mismatch_whatever_the_clock_was(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, connection: Any
) -> None:
    sources = {source_name: source(source_name, "stripe")}
    async with run_ingress(stack, sources, tmp_path, now_ms) as running:
        body = payment(1)
        headers = signing.stripe(body, int(time.time()) - DAY, "whsec_forged_one")
        status, answer, _ = await post(running, f"/webhooks/{source_name}", body, headers)
        assert (status, answer["code"]) == (401, "signature_mismatch")
    done = await released(stack, connection, sources, DAY)
    assert (done.released, done.still_failing, done.untimely) == (0, 1, 0)


SIGNERS: dict[str, Callable[[str, bytes, int], dict[str, str]]] = {
    "stripe": lambda _, body, now: signing.stripe(body, now),
    "hubspot": signing_hubspot.hubspot,
    "telnyx": lambda _, body, now: signing_telnyx.telnyx(body, now),
    "standardwebhooks": lambda _, body, now: signing.standard("msg_1", body, now),
    "retell": lambda _, body, now: signing_retell.retell(body, now),
    "sendgrid": lambda _, body, now: signing_sendgrid.sendgrid(body, now),
}
"""Those that sign a time: (url, body, now) -> headers."""


@pytest.mark.parametrize("provider", SIGNERS)
async def test_every_provider_that_signs_a_time_is_kept_and_released(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, connection: Any, provider: str
) -> None:
    sources = {source_name: source(source_name, provider)}
    path = f"/webhooks/{source_name}"
    async with run_ingress(stack, sources, tmp_path, off_by(-2 * DAY)) as running:
        body = json.dumps({"id": "evt_1", "data": {"id": "evt_1"}}).encode()
        headers = SIGNERS[provider](running.url + path, body, int(time.time()))
        status, answer, _ = await post(running, path, body, headers)
        assert (status, answer["code"]) == (401, "timestamp_outside_tolerance")
    assert (await released(stack, connection, sources, -2 * DAY)).released == 1


def standing_off(ahead: float) -> Any:
    """What a module takes for `time`."""
    return SimpleNamespace(time=lambda: time.time() + ahead, monotonic=time.monotonic)


def clock_ahead_of_kafka() -> float | None:
    return REGISTRY.get_sample_value("redrive_ingest_clock_ahead_seconds", {"of": "kafka"})


@pytest.mark.parametrize("ahead", [0, 400, -400])
async def test_a_host_sees_how_far_its_clock_stands_from_kafkas(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, ahead: int, caplog: pytest.LogCaptureFixture
) -> None:
    metrics.CLOCK_AHEAD.clear()
    monkeypatch.setattr("ingest.dedupe.peers.time", standing_off(ahead))
    gossip = Gossip(stack.cluster, lambda _: None)
    gossip.tell(Chunk({}, {}, 0))
    running = asyncio.create_task(gossip.run())
    try:

        async def is_seen() -> bool:
            found = clock_ahead_of_kafka()
            return found is not None and abs(found - ahead) < 60

        await until(is_seen, "the clocks are compared")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    said = [record.message for record in caplog.records if getattr(record, "code", "") == "clock_off"]
    assert [("ours is ahead" in text) for text in said] == ([ahead > 0] if ahead else [])


@pytest.mark.parametrize("ahead", [0, 4000, -4000])
async def test_check_compares_this_hosts_clock_with_postgres(
    connection: Any, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    monkeypatch.setattr("deploy.clock_check.time", standing_off(ahead))
    assert abs(await clock_ahead(connection) - ahead) < 60
