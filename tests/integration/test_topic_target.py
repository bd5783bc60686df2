"""A replay into another topic: byte for byte, with where it is from; and what is noted of a target's outcomes."""

import uuid
from pathlib import Path
from typing import Any

import pytest

from deploy.targets import open_target, require_target
from deploy.topics import Topics
from deploy.wiring import Runtime
from replay.jobs import outcomes
from replay.ports import SendResult
from replay.targets.document import HttpTarget, TargetDocument, TopicTarget
from replay.targets.topic import Size, TopicSender
from schemas.errors import InvalidSelection, Unavailable
from schemas.settings import FileConfig
from tests.conftest import ReadTopic, Stack
from tests.support.records import FakeRecord, payment, produce, record
from tests.support.runtimes import runtime_of

REPLAY = "6f1f8a3e-0000-4000-8000-000000000001"


@pytest.fixture
def runtime(stack: Stack, tmp_path: Path) -> Runtime:
    file = FileConfig.model_validate({"replay": {"secrets": {"localhost:1": {"s": "x"}}}})
    return runtime_of(stack, tmp_path, file=file)


async def test_a_copy_is_the_record_and_says_where_it_is_from(
    runtime: Runtime, stack: Stack, topic: str, copies: str, read_topic: ReadTopic
) -> None:
    made = [record(topic, "stripe", payment(number), partition=number % 3) for number in range(30)]
    made[4].value, made[4].headers = None, [("x", b"\xff\x00"), ("x", b"")]
    made[5].key, made[5].timestamp = None, 1
    await produce(stack.servers, made)
    originals = await read_topic(topic)
    async with open_target(runtime, TopicTarget(copies), REPLAY) as target:
        assert await target.take(originals) == [SendResult("delivered")] * 30
        assert await target.take([]) == []
    found = await read_topic(copies)
    origin = {one.headers[-1][1].decode(): one for one in found}
    assert len(origin) == len(found) == 30
    for one in originals:
        copy = origin[f"{topic}/{one.partition}/{one.offset}"]
        assert (copy.key, copy.value, copy.timestamp) == (one.key, one.value, one.timestamp)
        assert list(copy.headers[:-2]) == list(one.headers)
        assert copy.headers[-2] == ("redrive_replay", REPLAY.encode())
        assert copy.partition == one.partition % 2
    for partition in (0, 1, 2):
        # Two partitions may share one of the copies', in any mixture: the order that is kept is each one's own.
        prefix = f"{topic}/{partition}/"
        copied = [place for copy in found if (place := copy.headers[-1][1].decode()).startswith(prefix)]
        assert copied == [f"{prefix}{offset}" for offset in range(10)]


async def test_what_is_too_large_for_the_topic_fails_alone(
    runtime: Runtime, topic: str, copies: str, read_topic: ReadTopic
) -> None:
    made = [FakeRecord(topic, 0, number, 1_700_000_000_000, b"k", b"x" * 30_000) for number in range(9)]
    made[3].value = b"x" * 100_000
    async with open_target(runtime, TopicTarget(copies), REPLAY) as target:
        taken = await target.take(made)
        again = await target.take(made[:1])
    assert [one.outcome for one in [*taken, *again]] == ["delivered"] * 3 + ["failed"] + ["delivered"] * 6
    assert "max.message.bytes" in (taken[3].error or "")
    assert [len(one.value or b"") for one in await read_topic(copies)] == [30_000] * 9


async def test_a_producer_that_failed_is_replaced(
    runtime: Runtime, topic: str, copies: str, read_topic: ReadTopic
) -> None:
    """The broker refuses a batch, and takes the next, of another producer."""
    honest = open_target(runtime, TopicTarget(copies), REPLAY)
    assert isinstance(honest, TopicSender)
    sizes = iter([Size(2, 6_000_000), Size(2, 100_000)])

    async def lie() -> Size:
        return next(sizes)

    large = FakeRecord(topic, 0, 0, 1_700_000_000_000, b"k", b"x" * 100_000)
    small = FakeRecord(topic, 0, 1, 1_700_000_000_000, b"k", b"x")
    async with TopicSender(copies, REPLAY, lie, honest._producing) as target:
        await target.take([small])
        with pytest.raises(Unavailable):
            await target.take([large])
        assert [one.outcome for one in await target.take([large, small])] == ["failed", "delivered"]
    assert len(await read_topic(copies)) == 2


@pytest.mark.parametrize(
    "target",
    [TopicTarget("no.such.topic"), HttpTarget("http://169.254.169.254/"), HttpTarget("http://localhost/", resign=True)],
    ids=str,
)
async def test_what_can_not_be_a_target_is_refused_beforehand(runtime: Runtime, target: TargetDocument) -> None:
    with pytest.raises(InvalidSelection):
        await require_target(runtime, target)
    with pytest.raises(InvalidSelection):
        async with open_target(runtime, target, REPLAY):
            pass


async def test_asking_for_a_topic_makes_none(runtime: Runtime, stack: Stack) -> None:
    with pytest.raises(InvalidSelection, match=r"--create --topic no\.such\.topic"):
        await require_target(runtime, TopicTarget("no.such.topic"))
    async with Topics(stack.cluster) as topics:
        assert "no.such.topic" not in await topics.names()


async def test_what_can_be_a_target_is_not_refused(runtime: Runtime, copies: str) -> None:
    for target in (
        TopicTarget(copies),
        HttpTarget("http://localhost:1/x"),
        HttpTarget("http://localhost:1", resign=True),
    ):
        await require_target(runtime, target)


@pytest.fixture
async def replay(connection: Any) -> uuid.UUID:
    found = uuid.uuid4()
    await connection.execute(
        "INSERT INTO redrive.replays (id, state, selection, generation, operator, reason, total)"
        " VALUES ($1, 'running', '{}', 1, 'tester', 'because', 5)",
        found,
    )
    return found


async def test_outcomes_are_read_page_by_page_and_a_later_one_counts(connection: Any, replay: uuid.UUID) -> None:
    made = [
        record("webhooks.stripe", "stripe", payment(number), offset=number, partition=number % 2) for number in range(5)
    ]
    taken = [SendResult("delivered", 200, 1), SendResult("failed", 500, 5, "answered 500")] + [
        SendResult("delivered", 204, 1)
    ] * 3
    await outcomes.note(connection, replay, list(zip(made, taken, strict=True)))
    await outcomes.note(connection, replay, [])
    await outcomes.note(connection, replay, [(made[1], SendResult("failed", None, 2, "no answer"))])
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page, cursor = await outcomes.list_outcomes(connection, replay, cursor=cursor, limit=2)
        found += page
        if cursor is None:
            break
    assert [(one["partition"], one["record_offset"]) for one in found] == [(0, 0), (0, 2), (0, 4), (1, 1), (1, 3)]
    (failed,), _ = await outcomes.list_outcomes(connection, replay, "failed")
    assert (failed["status"], failed["attempts"], failed["error"]) == (None, 7, "no answer")
    assert [
        (one["outcome"], one["status"], one["records"]) for one in await outcomes.count_outcomes(connection, replay)
    ] == [
        ("delivered", 200, 1),
        ("delivered", 204, 3),
        ("failed", None, 1),
    ]
    for wrong in ("x", "t/1", "t/a/1", "t/1/-1", "t/99999999999/1", "/1/1", "a\0b/1/1"):
        with pytest.raises(InvalidSelection):
            await outcomes.list_outcomes(connection, replay, cursor=wrong)


async def test_of_copies_only_failures_are_kept(connection: Any, replay: uuid.UUID) -> None:
    made = [record("webhooks.stripe", "stripe", payment(number), offset=number) for number in range(3)]
    taken = [SendResult("delivered"), SendResult("failed", None, 0, "too large"), SendResult("delivered")]
    await outcomes.note(connection, replay, list(zip(made, taken, strict=True)))
    found, _ = await outcomes.list_outcomes(connection, replay)
    assert [one["record_offset"] for one in found] == [1]
