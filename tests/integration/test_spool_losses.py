"""Invariant 1 where the spool lost something: what it does not have is nobody's, so the provider's next copy is kept."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiokafka import ConsumerRecord

from deploy.topics import Topics
from ingest.spool.segment import Segment
from schemas.settings import Source
from schemas.topics import LOG_CONFIG, topic_of
from tests.conftest import Stack
from tests.support import signing
from tests.support.ingresses import RunningIngress, now_ms, post, run_ingress, source
from tests.support.records import payment
from tests.support.waiting import until

ReadTopic = Callable[[str], Awaitable[list[ConsumerRecord]]]
MEBIBYTE = 1024 * 1024


async def deliver(running: RunningIngress, name: str, number: int, padding: int = 0) -> str:
    body = payment(number) + b" " * padding
    status, answer, _ = await post(running, f"/webhooks/{name}", body, signing.stripe(body, now_ms() // 1000))
    return str(answer["status"] if status == 200 else answer["code"])


async def create(stack: Stack, name: str, **config: str) -> None:
    async with Topics(stack.cluster) as topics:
        await topics.create({topic_of(name): {**LOG_CONFIG, **config}}, 1, 1)


async def until_drained(running: RunningIngress) -> None:
    await until(lambda: not running.spool.has_records.is_set(), "an empty spool")


def flip(path: Path) -> list[int]:
    """A bit of its last record, which begins with the file's mark."""
    data = bytearray(path.read_bytes())
    lost = numbers(path)[-1:]
    data[data.rindex(data[8:16]) + 30] ^= 1
    path.write_bytes(bytes(data))
    return lost


def hide(path: Path) -> list[int]:
    """A folder in its place is as unreadable as a bad sector, to root, too."""
    lost = numbers(path)
    path.rename(path.with_name("hidden"))
    path.mkdir()
    return lost


def delete(path: Path) -> list[int]:
    lost = numbers(path)
    path.unlink()
    return lost


def numbers(path: Path) -> list[int]:
    return [int(one.record.key.decode().removeprefix("evt_")) for one in Segment(path).read()]


@pytest.fixture
def absent(source_name: str) -> dict[str, Source]:
    """A source whose topic is not there: the log can't take what comes for it."""
    name = f"absent-{source_name}"
    return {name: source(name, "stripe")}


@pytest.mark.parametrize("harm", [flip, hide, delete])
async def test_what_a_living_spool_lost_is_accepted_again_and_holds_up_nothing(
    stack: Stack,
    absent: dict[str, Source],
    tmp_path: Path,
    read_topic: ReadTopic,
    harm: Callable[[Path], list[int]],
) -> None:
    (name,) = absent
    async with run_ingress(stack, absent, tmp_path, now_ms, spool_max_bytes=MEBIBYTE) as running:
        assert [await deliver(running, name, number) for number in range(3)] == ["spooled"] * 3
        await running.spool.sealed()
        # A segment of its own: the drain must reach it.
        assert await deliver(running, name, 3) == "spooled"
        lost = harm(min((tmp_path / "spool" / "0").glob("segment-*.spool")))
        await create(stack, name)
        await until_drained(running)
        again = [await deliver(running, name, number) for number in range(4)]
        assert again == ["accepted" if number in lost else "duplicate" for number in range(4)]
    records = await read_topic(topic_of(name))
    assert sorted((record.key or b"").decode() for record in records) == [f"evt_{number}" for number in range(4)]


async def test_what_was_set_aside_is_accepted_again_while_its_segment_waits(
    stack: Stack, absent: dict[str, Source], tmp_path: Path
) -> None:
    (name,) = absent
    sources = {**absent, f"{name}-2": source(f"{name}-2", "stripe")}
    async with run_ingress(stack, sources, tmp_path, now_ms, spool_max_bytes=MEBIBYTE) as running:
        assert await deliver(running, f"{name}-2", 1) == "spooled"
        assert await deliver(running, name, 2, padding=5000) == "spooled"
        await create(stack, name, **{"max.message.bytes": "3000"})
        aside = tmp_path / "spool" / "0" / "set-aside"
        await until(lambda: len([*aside.glob("*")]) == 1, "it is set aside")
        # The topic still refuses it. What counts: this copy is kept as well, with its own arrival.
        assert await deliver(running, name, 2, padding=5000) == "spooled"
        await until(lambda: len([*aside.glob("*")]) == 2, "its copy is set aside")
        assert running.spool.has_records.is_set(), "the other segment waits"
