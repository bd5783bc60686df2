"""Invariants 1 to 4 at the ingress: durable before 2xx, byte for byte, verified, one record per content."""

import asyncio
import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ingest.dedupe.id_table import IdTable
from ingest.dedupe.store import ENTRY
from ingest.dedupe.window import content_of
from schemas.providers import PROVIDERS
from tests.conftest import Stack
from tests.support import (
    signing,
)
from tests.support.ingresses import RunningIngress, now_ms, post, run_ingress, source
from tests.support.topics import make_anew
from tests.support.waiting import until


def stripe_event(event_id: str, **changes: Any) -> bytes:
    event = {
        "id": event_id,
        "object": "event",
        "created": 1_760_000_000,
        "type": "charge.updated",
        "pending_webhooks": 1,
        "data": {"object": {"id": "ch_1", "note": "é 🌊"}},
        **changes,
    }
    return json.dumps(event, indent=2).encode()


async def post_stripe(running: RunningIngress, name: str, body: bytes) -> tuple[int, Any, str | None]:
    return await post(running, f"/webhooks/{name}", body, signing.stripe(body, int(time.time())))


async def test_a_2xx_names_a_record_that_holds_the_body_byte_for_byte(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    body = stripe_event("evt_bytes")
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        before = now_ms()
        status, answer, location = await post_stripe(running, source_name, body)
        assert (status, answer) == (200, {"status": "accepted", "record_id": "evt_bytes"})
        (record,) = await read_topic(topic)
    assert location == f"{record.topic}/{record.partition}/{record.offset}"
    assert record.value == body
    assert record.key == b"evt_bytes"
    assert before <= record.timestamp <= now_ms()
    headers = dict(record.headers)
    assert headers["ce_specversion"] == b"1.0"
    assert headers["ce_id"] == b"evt_bytes"
    assert headers["ce_source"] == f"/webhooks/{source_name}".encode()
    assert headers["ce_type"] == b"stripe.charge.updated"
    assert headers["ce_time"] == b"2025-10-09T08:53:20+00:00"
    assert headers["redrive_provenance"] == b"signed"
    assert headers["http_method"] == b"POST"
    assert headers["http_stripe-signature"].startswith(b"t=")


async def test_a_duplicate_is_answered_with_the_first_location_and_not_appended(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        _, _, first = await post_stripe(running, source_name, stripe_event("evt_twice"))
        # An honest retry counts pending_webhooks down and is signed afresh: no conflict.
        status, answer, again = await post_stripe(running, source_name, stripe_event("evt_twice", pending_webhooks=0))
        assert (status, answer["status"], again) == (200, "duplicate", first)
        assert len(await read_topic(topic)) == 1


async def test_copies_at_the_same_instant_make_one_record(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        body = stripe_event("evt_copies")
        answers = await asyncio.gather(*(post_stripe(running, source_name, body) for _ in range(20)))
        assert {status for status, _, _ in answers} == {200}
        assert len({location for _, _, location in answers}) == 1
        assert sorted(answer["status"] for _, answer, _ in answers) == ["accepted"] + ["duplicate"] * 19
        assert len(await read_topic(topic)) == 1


async def test_the_same_id_with_another_content_is_a_conflict_and_appended_once(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        other = stripe_event("evt_conflict", type="charge.captured")
        await post_stripe(running, source_name, stripe_event("evt_conflict"))
        status, answer, location = await post_stripe(running, source_name, other)
        assert (status, answer["status"]) == (200, "accepted")
        assert await post_stripe(running, source_name, other) == (200, {**answer, "status": "duplicate"}, location)
        assert len(await read_topic(topic)) == 2


@pytest.mark.parametrize("disk", ["kept", "lost", "garbage", "torn"])
async def test_a_restart_knows_what_was_appended_before_it(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any, disk: str
) -> None:
    """Also when the window's file is gone or broken: the log has it all."""
    sources = {source_name: source(source_name, "stripe")}
    async with run_ingress(stack, sources, tmp_path, now_ms) as running:
        _, _, first = await post_stripe(running, source_name, stripe_event("evt_before"))
    (segment,) = (tmp_path / "dedupe").glob("window-*.bin")
    if disk == "lost":
        segment.unlink()
    elif disk == "garbage":
        segment.write_bytes(b"not a segment" * 100)
    elif disk == "torn":
        segment.write_bytes(segment.read_bytes()[:-7])
    async with run_ingress(stack, sources, tmp_path, now_ms) as running:
        status, answer, location = await post_stripe(running, source_name, stripe_event("evt_before"))
        assert (status, answer["status"], location) == (200, "duplicate", first)
        assert len(await read_topic(topic)) == 1


async def test_what_was_on_a_topic_that_is_made_anew_is_taken_again(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    """A copy that is answered with a location on the old one would be lost."""
    sources = {source_name: source(source_name, "stripe")}
    async with run_ingress(stack, sources, tmp_path, now_ms) as running:
        assert await taken(running, source_name, "evt_1")
        await make_anew(stack.servers, topic)
        await running.keeper.look(now_ms())
        await until(lambda: taken(running, source_name, "evt_1"), "it is taken again")
        assert {one.key for one in await read_topic(topic)} == {b"evt_1"}
        await running.keeper.save(now_ms())
    await make_anew(stack.servers, topic)
    async with run_ingress(stack, sources, tmp_path, now_ms) as running:
        # As many as there were: every location of the old one is on the new one, too.
        for number in range(2, 8):
            await until(partial(taken, running, source_name, f"evt_{number}"), "others are taken")
    async with run_ingress(stack, sources, tmp_path, now_ms) as running:
        assert (await post_stripe(running, source_name, stripe_event("evt_2")))[1]["status"] == "duplicate"
        assert await taken(running, source_name, "evt_1")
        assert {one.key for one in await read_topic(topic)} == {b"evt_%d" % number for number in range(1, 8)}


async def test_a_window_that_remembers_other_records_than_the_log_holds_is_read_from_it(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    """Kafka was restored to an older state and went on from there: a copy of what was lost is accepted."""
    sources = {source_name: source(source_name, "stripe")}
    async with run_ingress(stack, sources, tmp_path, now_ms) as running:
        for number in range(1, 9):
            assert await taken(running, source_name, f"evt_{number}")
        await running.keeper.collect()
        await running.keeper.save(now_ms())
        # As if each of them had been another one when it was saved.
        chunk = running.keeper._store.last()
        (blob,) = [one.entries[topic] for one in running.keeper._store.load(0) if topic in one.entries][-1:]
        others = []
        for number, (_, _, *place) in enumerate(ENTRY.iter_unpack(blob)):
            name = f"lost_{number}"
            fingerprint = PROVIDERS["stripe"].fingerprint(json.loads(stripe_event(name)))
            _, key, fingerprint = content_of(topic, name, fingerprint)
            others.append(ENTRY.pack(key, fingerprint, *place))
        running.keeper._store.append(replace(chunk, entries={topic: b"".join(others)}), 0)
    async with run_ingress(stack, sources, tmp_path, now_ms) as running:
        assert (await post_stripe(running, source_name, stripe_event("evt_2")))[1]["status"] == "duplicate"
        assert (await post_stripe(running, source_name, stripe_event("lost_0")))[1]["status"] == "accepted"
    assert len(await read_topic(topic)) == 9


async def taken(running: RunningIngress, name: str, event_id: str) -> bool:
    """Whether it is on the log, which refuses while its client learns of a new topic, and may take it late all the same."""
    status, _, _ = await post_stripe(running, name, stripe_event(event_id))
    return status == 200


async def test_after_the_window_an_id_is_new_again(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    clock = [now_ms()]
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, lambda: clock[0]) as running:
        body = stripe_event("evt_old")
        for days in (0, 7, 8):
            clock[0] += days * 86_400_000
            headers = signing.stripe(body, clock[0] // 1000)
            status, answer, _ = await post(running, f"/webhooks/{source_name}", body, headers)
            assert (status, answer["status"]) == (200, "duplicate" if days == 7 else "accepted")
        assert len(await read_topic(topic)) == 2


async def test_a_verified_body_that_cannot_be_parsed_is_kept_under_its_hash(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    """The provider must not drop it: it becomes a dead letter, not a 4xx."""
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        status, answer, _ = await post_stripe(running, source_name, b"\xff not json \x00")
        assert status == 200
        assert answer["record_id"].startswith("sha256:")
        (record,) = await read_topic(topic)
        assert record.value == b"\xff not json \x00"
        assert dict(record.headers)["ce_type"] == b"stripe.unparsable"


async def test_problems_have_stable_codes(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    sources = {source_name: source(source_name, "stripe", max_body_bytes=1000)}
    bare = source("bare", "stripe")
    sources["bare"] = type(bare)("bare", bare.provider, type(bare.secrets)())
    sources["wa"] = source("wa", "whatsapp")
    now = int(time.time())
    async with run_ingress(stack, {source_name: sources[source_name]}, tmp_path, now_ms) as running:
        running.ingress._sources = sources
        path = f"/webhooks/{source_name}"
        small = stripe_event("evt_x")
        cases: list[tuple[str, str, bytes, dict[str, str], int, str]] = [
            ("POST", path, small, {}, 401, "signature_missing"),
            ("POST", path, b"x", signing.stripe(small, now), 401, "signature_mismatch"),
            ("POST", path, small, signing.stripe(small, now - 301), 401, "timestamp_outside_tolerance"),
            ("POST", path, small, signing.stripe(small, now + 310), 401, "timestamp_outside_tolerance"),
            ("POST", "/webhooks/nobody", small, signing.stripe(small, now), 404, "unknown_source"),
            ("POST", "/elsewhere", small, {}, 404, "not_found"),
            ("PUT", path, small, signing.stripe(small, now), 405, "method_not_allowed"),
            ("GET", path, b"", {}, 405, "method_not_allowed"),
            ("POST", path, b"x" * 1001, {}, 413, "body_too_large"),
            ("POST", path, small, {"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
            ("POST", "/webhooks/bare", small, signing.stripe(small, now), 503, "misconfigured"),
            ("GET", "/webhooks/wa?hub.mode=subscribe&hub.challenge=1&hub.verify_token=no", b"", {}, 403,
             "verify_token_mismatch"),
            ("GET", "/webhooks/wa?hub.mode=subscribe", b"", {}, 400, "handshake_incomplete"),
        ]  # fmt: skip
        for method, target, body, headers, status, code in cases:
            async with running.session.request(method, running.url + target, data=body, headers=headers) as response:
                assert response.content_type == "application/problem+json"
                problem = await response.json()
                assert (response.status, problem["code"], problem["status"]) == (status, code, status), target
        assert await read_topic(topic) == []


async def test_the_handshake_echoes_the_bare_challenge(
    stack: Stack, topic: str, source_name: str, tmp_path: Path
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "whatsapp")}, tmp_path, now_ms) as running:
        query = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=story-verify-token"
        async with running.session.get(f"{running.url}/webhooks/{source_name}?{query}") as response:
            assert (response.status, await response.text()) == (200, "1158201444")
            assert response.content_type == "text/plain"


async def test_twilio_gets_twiml_and_may_use_get_and_any_path(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    """An answer in plain text would be sent to the customer as an SMS."""
    async with run_ingress(stack, {source_name: source(source_name, "twilio")}, tmp_path, now_ms) as running:
        url = f"{running.url}/webhooks/{source_name}/sms/eu?x=%2f"
        body = b"MessageSid=SM1&SmsStatus=received&Body=&From=%2B1&To=%2B2"
        status, text, location = await post(running, url.removeprefix(running.url), body, signing.twilio(url, body))
        assert (status, text) == (200, '<?xml version="1.0" encoding="UTF-8"?><Response/>')
        assert location
        url = f"{running.url}/webhooks/{source_name}?MessageSid=SM2&MessageStatus=sent"
        async with running.session.get(url, headers=signing.twilio(url, b"")) as response:
            assert response.status == 200
        keys = {record.key for record in await read_topic(topic)}
        assert keys == {b"SM1", b"SM2:sent"}


async def test_while_the_window_is_being_read_nothing_is_appended(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        monkeypatch.setattr(IdTable, "is_complete", False)
        status, answer, _ = await post_stripe(running, source_name, stripe_event("evt_early"))
        assert (status, answer["code"]) == (503, "log_unavailable")
        assert await read_topic(topic) == []
