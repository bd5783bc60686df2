"""Invariant 1 beside the log: spooled deliveries reach the log once, with their arrival, in the end."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from deploy.topics import Topics
from ingest import metrics
from ingest.dedupe.id_table import IdTable
from schemas.settings import Source
from schemas.topics import LOG_CONFIG, topic_of
from tests.conftest import Stack
from tests.support import signing
from tests.support.ingresses import RunningIngress, now_ms, post, run_ingress, source
from tests.support.records import payment
from tests.support.waiting import limit

ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]
MEBIBYTE = 1024 * 1024


async def deliver(running: RunningIngress, name: str, number: int, padding: int = 0) -> tuple[int, str]:
    body = payment(number) + b" " * padding
    status, answer, _ = await post(running, f"/webhooks/{name}", body, signing.stripe(body, now_ms() // 1000))
    return status, answer.get("code") or answer["status"]


async def create(stack: Stack, name: str, **config: str) -> None:
    async with Topics(stack.cluster) as topics:
        await topics.create({topic_of(name): {**LOG_CONFIG, **config}}, 2, 1)


async def until_drained(running: RunningIngress) -> None:
    async with limit("an empty spool"):
        while running.spool.has_records.is_set():
            await asyncio.sleep(0.05)


def keys(records: list[ConsumerRecord]) -> list[str]:
    return sorted((record.key or b"").decode() for record in records)


@pytest.fixture
def absent(source_name: str) -> dict[str, Source]:
    """A source whose topic is not there: the log can't take what comes for it."""
    name = f"absent-{source_name}"
    return {name: source(name, "stripe")}


async def test_what_the_log_cannot_take_is_spooled_and_drained_once_with_its_arrival(
    stack: Stack, absent: dict[str, Source], tmp_path: Path, read_topic: ReadTopic
) -> None:
    (name,) = absent
    async with run_ingress(stack, absent, tmp_path, now_ms, spool_max_bytes=MEBIBYTE) as running:
        before = now_ms()
        assert [await deliver(running, name, number) for number in range(5)] == [(200, "spooled")] * 5
        after = now_ms()
        # A copy is durable as well, and takes no room.
        size = running.spool.size
        assert await deliver(running, name, 3) == (200, "spooled")
        assert running.spool.size == size
        await create(stack, name)
        await until_drained(running)
        assert await deliver(running, name, 3) == (200, "duplicate")
    records = await read_topic(topic_of(name))
    assert keys(records) == [f"evt_{number}" for number in range(5)]
    assert all(before <= record.timestamp <= after for record in records)


async def test_a_restart_drains_what_the_last_process_left(
    stack: Stack, absent: dict[str, Source], tmp_path: Path, read_topic: ReadTopic
) -> None:
    (name,) = absent
    async with run_ingress(stack, absent, tmp_path, now_ms, spool_max_bytes=MEBIBYTE) as running:
        assert [await deliver(running, name, number) for number in range(5)] == [(200, "spooled")] * 5
    async with run_ingress(stack, absent, tmp_path, now_ms, spool_max_bytes=MEBIBYTE) as running:
        # It knows them before it drains them.
        assert await deliver(running, name, 2) == (200, "spooled")
        await create(stack, name)
        await until_drained(running)
    assert keys(await read_topic(topic_of(name))) == [f"evt_{number}" for number in range(5)]


async def test_what_is_on_the_log_already_is_not_appended_again(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: ReadTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the append and the end of the segment offers the whole segment again."""
    sources = {source_name: source(source_name, "stripe")}
    async with run_ingress(stack, sources, tmp_path, now_ms, spool_max_bytes=MEBIBYTE) as running:
        monkeypatch.setattr(IdTable, "is_complete", False)
        kept = [await deliver(running, source_name, number) for number in range(4)]
        assert kept == [(200, "spooled")] * 4
        await running.spool.sealed()
        data = next((tmp_path / "spool" / "0").glob("segment-*.spool")).read_bytes()
        await until_drained(running)
    monkeypatch.undo()
    (tmp_path / "spool" / "0" / "segment-00000007.spool").write_bytes(data)
    async with run_ingress(stack, sources, tmp_path, now_ms, spool_max_bytes=MEBIBYTE) as running:
        await until_drained(running)
    assert keys(await read_topic(topic)) == [f"evt_{number}" for number in range(4)]


async def test_what_the_broker_refuses_for_good_is_set_aside_and_blocks_nothing(
    stack: Stack, absent: dict[str, Source], tmp_path: Path, read_topic: ReadTopic
) -> None:
    (name,) = absent
    before = metrics.SPOOL_SET_ASIDE._value.get()
    async with run_ingress(stack, absent, tmp_path, now_ms, spool_max_bytes=MEBIBYTE) as running:
        for number in range(5):
            assert await deliver(running, name, number, padding=5000 if number == 2 else 0) == (200, "spooled")
        await create(stack, name, **{"max.message.bytes": "3000"})
        await until_drained(running)
    assert metrics.SPOOL_SET_ASIDE._value.get() == before + 1
    assert len(list((tmp_path / "spool" / "0" / "set-aside").iterdir())) == 1
    assert keys(await read_topic(topic_of(name))) == ["evt_0", "evt_1", "evt_3", "evt_4"]


async def test_a_full_spool_answers_503_and_loses_nothing_that_it_took(
    stack: Stack, absent: dict[str, Source], tmp_path: Path, read_topic: ReadTopic
) -> None:
    (name,) = absent
    async with run_ingress(stack, absent, tmp_path, now_ms, spool_max_bytes=8000) as running:
        answers = [await deliver(running, name, number) for number in range(20)]
        taken = [f"evt_{number}" for number, answer in enumerate(answers) if answer == (200, "spooled")]
        assert 0 < len(taken) < 20
        assert set(answers) == {(200, "spooled"), (503, "log_unavailable")}
        await create(stack, name)
        await until_drained(running)
        again = [await deliver(running, name, number) for number in range(20)]
        assert {answer for _, answer in again} == {"accepted", "duplicate"}
    assert keys(await read_topic(topic_of(name))) == sorted(f"evt_{number}" for number in range(20))


async def test_one_missing_topic_holds_up_no_other(
    stack: Stack,
    absent: dict[str, Source],
    source_name: str,
    tmp_path: Path,
    read_topic: ReadTopic,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (name,) = absent
    sources = {**absent, source_name: source(source_name, "stripe")}
    async with run_ingress(stack, sources, tmp_path, now_ms, spool_max_bytes=MEBIBYTE) as running:
        monkeypatch.setattr(IdTable, "is_complete", False)
        for number in range(4):
            assert await deliver(running, name, number) == (200, "spooled")
            assert await deliver(running, source_name, number) == (200, "spooled")
        async with limit("four records on the log"):
            while len(await read_topic(topic)) < 4:
                await asyncio.sleep(0.05)
    assert keys(await read_topic(topic)) == [f"evt_{number}" for number in range(4)]
