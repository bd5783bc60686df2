"""Invariants 1 and 3 at the ingress for a provider from outside: what it can't verify is refused and kept apart, what it
can't identify is durable under the hash of its body, and other sources have no part in it.
"""

import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replay.log.reader import LogReader
from replay.operations.quarantine import QuarantineReader
from replay.operations.release import ReleaseSelection, release
from schemas.envelope import Delivery
from schemas.errors import Misconfigured
from schemas.providers import PROVIDERS, stripe
from schemas.providers.base import Payload, Secrets, Signature
from schemas.settings import Source
from schemas.topics import QUARANTINE
from tests.conftest import Stack
from tests.support import signing
from tests.support.ingresses import RunningIngress, now_ms, post, run_ingress

SECRETS = Secrets((signing.STRIPE,), "verify-token", digest_key=b"key")
BODY = b'{"id":"evt_1","type":"order.paid"}'


def find_no_key(*_: object) -> Any:
    raise Misconfigured("the secret is no key")


def exit_for_good(*_: object) -> Any:
    raise SystemExit


def broken(name: str, **changes: Any) -> Source:
    return Source(name, replace(PROVIDERS["stripe"], name="acme", **changes), SECRETS)


@pytest.fixture
async def running(stack: Stack, source_name: str, tmp_path: Path) -> AsyncIterator[RunningIngress]:
    """With one source; a test gives it another provider while it runs."""
    async with run_ingress(stack, {source_name: broken(source_name)}, tmp_path, now_ms) as found:
        yield found


async def post_signed(running: RunningIngress, name: str) -> tuple[int, Any, str | None]:
    return await post(running, f"/webhooks/{name}", BODY, signing.stripe(BODY, int(time.time())))


@pytest.mark.parametrize("fault", [exit_for_good, lambda *_: 1 / 0, lambda *_: "evt_1"], ids=["exit", "raise", "give"])
async def test_what_can_not_be_identified_is_appended_once_under_its_hash(
    running: RunningIngress, topic: str, source_name: str, read_topic: Any, fault: Any
) -> None:
    running.ingress.use({source_name: broken(source_name, identify=fault, event_type=None)})
    name = "sha256:" + hashlib.sha256(BODY).hexdigest()
    status, answer, first = await post_signed(running, source_name)
    assert (status, answer) == (200, {"status": "accepted", "record_id": name})
    status, answer, again = await post_signed(running, source_name)
    assert (status, answer["status"], again) == (200, "duplicate", first)
    (record,) = await read_topic(topic)
    headers = dict(record.headers)
    assert (record.key, record.value, headers["ce_type"]) == (name.encode(), BODY, b"acme.unparsable")


@pytest.mark.parametrize("fault", [exit_for_good, lambda *_: 1 / 0, lambda *_: True], ids=["exit", "raise", "give"])
async def test_what_can_not_be_verified_is_refused_and_released_once_the_code_is_mended(
    running: RunningIngress, stack: Stack, topic: str, source_name: str, read_topic: Any, connection: Any, fault: Any
) -> None:
    running.ingress.use({source_name: broken(source_name, verify=fault)})
    status, answer, _ = await post_signed(running, source_name)
    assert (status, answer["code"]) == (503, "verification_failed")
    assert await read_topic(topic) == []
    (held,) = [
        record
        for record in await read_topic(QUARANTINE)
        if dict(record.headers).get("ce_source") == f"/webhooks/{source_name}".encode()
    ]
    assert (held.value, dict(held.headers)["redrive_rejection"]) == (BODY, b"verification_failed")

    async def still_failing(source: Source) -> tuple[int, int]:
        async with LogReader(stack.cluster) as reader:
            quarantine = QuarantineReader(reader, connection, {source_name: source}, None)
            done = await release(quarantine, ReleaseSelection([source_name]), None, lambda _: None)
        return done.released, done.still_failing

    for failing in (fault, find_no_key):
        assert await still_failing(broken(source_name, verify=failing)) == (0, 1)
    assert await still_failing(broken(source_name)) == (1, 0)


async def test_a_token_that_can_not_be_masked_is_kept_nowhere(
    running: RunningIngress, topic: str, source_name: str, read_topic: Any
) -> None:
    def verify(delivery: Delivery, secrets: Secrets, now: float) -> Signature:
        return Signature(0, "token")

    running.ingress.use({source_name: broken(source_name, verify=verify, mask_token=exit_for_good)})
    status, answer, _ = await post_signed(running, source_name)
    assert (status, answer["code"]) == (503, "verification_failed")
    held = [dict(record.headers).get("ce_source") for record in await read_topic(QUARANTINE)]
    assert (await read_topic(topic), f"/webhooks/{source_name}".encode() in held) == ([], False)


async def test_a_handshake_that_fails_is_refused(running: RunningIngress, source_name: str) -> None:
    running.ingress.use({source_name: broken(source_name, answer_handshake=exit_for_good)})
    async with running.session.get(f"{running.url}/webhooks/{source_name}") as response:
        assert (response.status, (await response.json())["code"]) == (503, "verification_failed")


async def test_a_payload_that_identify_changes_is_on_the_log_as_it_came(
    running: RunningIngress, topic: str, source_name: str, read_topic: Any
) -> None:
    def identify(payload: Payload, signed_id: str | None) -> Any:
        found = stripe.PROVIDER.identify({**payload, "created": 1}, signed_id)
        payload.clear()
        return found._replace(type="acme.order.paid")

    running.ingress.use({source_name: broken(source_name, identify=identify)})
    status, answer, _ = await post_signed(running, source_name)
    assert (status, answer["record_id"]) == (200, "evt_1")
    assert [record.value for record in await read_topic(topic)] == [BODY]
