"""Invariants 2 and 3: what fails verification is kept apart and within limits, and no topic ever holds a credential."""

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from schemas.quarantine import DroppedDeliveries, QuarantineConfig
from schemas.topics import QUARANTINE, topic_of
from tests.conftest import Stack
from tests.support import signing
from tests.support.ingresses import now_ms, post, run_ingress, source
from tests.support.records import payment

ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]


async def held_of(read_topic: ReadTopic, name: str) -> list[ConsumerRecord]:
    """The quarantine's records of one source; the topic is everybody's."""
    wanted = f"/webhooks/{name}".encode()
    return [record for record in await read_topic(QUARANTINE) if dict(record.headers).get("ce_source") == wanted]


async def post_forged(running: Any, name: str, number: int, padding: str = "") -> int:
    body = payment(number)
    headers = signing.stripe(body, int(time.time()), "whsec_forged_one")
    headers["Stripe-Signature"] += f",v0={padding}"
    async with running.session.post(f"{running.url}/webhooks/{name}", data=body, headers=headers) as response:
        assert (await response.json())["code"] == "signature_mismatch"
        return int(response.status)


async def test_a_mismatch_is_kept_with_its_bytes_and_its_arrival_and_is_on_no_other_topic(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: ReadTopic
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        before = now_ms()
        assert await post_forged(running, source_name, 1) == 401
    (record,) = await held_of(read_topic, source_name)
    headers = dict(record.headers)
    assert record.value == payment(1)
    assert before <= record.timestamp <= now_ms()
    assert headers["redrive_rejection"] == b"signature_mismatch"
    assert b"v1=" in headers["http_stripe-signature"]
    assert await read_topic(topic) == []


async def test_what_could_never_verify_is_not_kept(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: ReadTopic
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        status, answer, _ = await post(running, f"/webhooks/{source_name}", payment(1), {})
        assert (status, answer["code"]) == (401, "signature_missing")
    assert await held_of(read_topic, source_name) == []


async def test_a_flood_of_forgeries_is_held_to_its_limits_and_counted_per_minute(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: ReadTopic
) -> None:
    # A quarter for small ones at once, and a quarter for all.
    limits = QuarantineConfig(records=10)
    clock = [1_800_000_000_000]
    sources = {source_name: source(source_name, "stripe")}
    async with run_ingress(stack, sources, tmp_path, lambda: clock[0], quarantine=limits) as running:
        for number in range(12):
            assert await post_forged(running, source_name, number) == 401
        clock[0] += 60_000
        assert await post_forged(running, source_name, 12) == 401
        running.quarantine.note_dropped()
    records = await held_of(read_topic, source_name)
    notes = [
        DroppedDeliveries.decode(record.value) for record in records if b"dropped" in dict(record.headers)["ce_type"]
    ]
    assert len(records) - len(notes) == 4
    assert [(note.minute_ms, note.deliveries) for note in notes] == [(1_800_000_000_000, 8), (1_800_000_060_000, 1)]


async def test_a_fast_flood_is_held_to_its_rate(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: ReadTopic
) -> None:
    limits = QuarantineConfig(per_second=0.4, bytes=40_000)
    clock = [1000.0]
    sources = {source_name: source(source_name, "stripe")}
    async with run_ingress(stack, sources, tmp_path, now_ms, quarantine=limits, clock=lambda: clock[0]) as running:
        for number in range(6):
            await post_forged(running, source_name, number)
        assert len(await held_of(read_topic, source_name)) == 4, "ten seconds' worth at once"
        clock[0] += 20
        for number in range(6):
            await post_forged(running, source_name, number)
    assert len(await held_of(read_topic, source_name)) == 8, "and as much again after them"


async def test_large_headers_count_like_large_bodies(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: ReadTopic
) -> None:
    sources = {source_name: source(source_name, "stripe")}
    async with run_ingress(stack, sources, tmp_path, now_ms, quarantine=QuarantineConfig(bytes=32_000)) as running:
        for number in range(8):
            assert await post_forged(running, source_name, number, padding="0" * 6000) == 401
    assert len(await held_of(read_topic, source_name)) == 2


AIRCALL_BODY = {"event": "call.created", "timestamp": 1_750_000_000, "data": {"id": 7, "direction": "inbound"}}
GOOGLE = {"X-Goog-Channel-ID": "c1", "X-Goog-Resource-State": "exists", "X-Goog-Message-Number": "3"}


@pytest.mark.parametrize("provider", ["aircall", "google_calendar"])
async def test_no_topic_holds_a_shared_token_whether_it_was_right_or_wrong(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: ReadTopic, provider: str
) -> None:
    found = source(source_name, provider)
    right = found.secrets.values[0]
    wrong = "a-token-of-another-webhook-0123456789"
    async with run_ingress(stack, {source_name: found}, tmp_path, now_ms) as running:
        for token, status in ((right, 200), (wrong, 401)):
            body = json.dumps({**AIRCALL_BODY, "token": token}).encode() if provider == "aircall" else b""
            headers = {} if provider == "aircall" else {**GOOGLE, "X-Goog-Channel-Token": token}
            url = f"{running.url}/webhooks/{source_name}"
            async with running.session.post(url, data=body, headers=headers) as response:
                assert response.status == status, await response.text()
    (stored,) = await read_topic(topic_of(source_name))
    (held,) = await held_of(read_topic, source_name)
    for record in (stored, held):
        whole = b"\n".join([record.key, record.value, *(value for _, value in record.headers)])
        assert right.encode() not in whole
        assert wrong.encode() not in whole
        assert len(dict(record.headers)["redrive_token_digest"]) == 64
    assert dict(stored.headers)["redrive_provenance"] == b"token"
