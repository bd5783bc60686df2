"""An outage is told where it begins and where it ends, and not at every try; no reason is empty."""

import logging
from typing import Any

import asyncpg
import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from faust.types import TP

from ingest.outage_log import Story
from processors import metrics
from schemas.errors import Unavailable
from schemas.masking import describe, reason_of
from schemas.outage import Outage


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "redrive")
    return caplog


def outcomes(lines: pytest.LogCaptureFixture) -> list[Any]:
    return [vars(record)["outcome"] for record in lines.records]


def test_an_outage_ends_with_something_that_it_had_hit() -> None:
    outage = Outage()
    assert outage.begins(1.0, "a")
    assert not outage.begins(2.0, "b")
    assert outage.ends(3.0, "c") is None, "it was never hit"
    assert outage.ends(4.0, "b") == 3.0
    assert outage.ends(5.0, "a") is None, "it is over"
    assert outage.begins(6.0, "a")


def test_a_log_that_is_lost_is_told_once_and_each_new_error_of_it(lines: pytest.LogCaptureFixture) -> None:
    story = Story()
    for _ in range(3):
        story.overdue("webhooks.stripe", 0.5)
        story.overdue("webhooks.twilio", 0.5)
        story.failed("webhooks.stripe", KafkaTimeoutError())
    story.took("webhooks.hubspot")
    assert outcomes(lines) == ["lost", "retry"]
    story.took("webhooks.twilio")
    story.took("webhooks.stripe")
    assert outcomes(lines) == ["lost", "retry", "back"]
    assert lines.messages[1] == "Kafka takes no appends: KafkaTimeoutError"
    story.overdue("webhooks.stripe", 0.5)
    assert outcomes(lines)[-1] == "lost", "it is another outage"


def test_a_spool_is_told_from_its_first_delivery_until_it_is_empty(lines: pytest.LogCaptureFixture) -> None:
    story = Story()
    for records in (0, 1, 2, 40):
        story.spooled(records)
    for drained, left in ((30, 10), (10, 0)):
        story.drained(drained)
        story.spooled(left)
    story.spooled(0)
    assert outcomes(lines) == ["spooling", "drained"]
    begun, ended = (vars(record) for record in lines.records)
    assert (ended["records"], ended["since"]) == (40, begun["since"])


def test_a_log_that_is_slow_to_come_back_is_not_lost_twice(lines: pytest.LogCaptureFixture) -> None:
    story = Story()
    story.overdue("webhooks.stripe", 0.5)
    story.spooled(3)
    story.took("webhooks.stripe")
    story.overdue("webhooks.twilio", 0.5)
    story.took("webhooks.twilio")
    story.drained(3)
    story.spooled(0)
    assert outcomes(lines) == ["lost", "spooling", "back", "drained"]
    story.overdue("webhooks.twilio", 0.5)
    assert outcomes(lines)[-1] == "lost"


def test_a_database_that_is_away_is_told_once_and_that_it_is_back(lines: pytest.LogCaptureFixture) -> None:
    one, other = TP("webhooks.stripe", 0), TP("webhooks.stripe", 1)
    for tp in (one, other, one, None):
        metrics.database_failed(ConnectionRefusedError(111, "Connection refused"), tp)
    for tp in (one, other):
        metrics.database_took(tp)
    assert outcomes(lines) == ["lost", "back"]


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        OSError(),
        ConnectionResetError(),
        KafkaError(),
        KafkaError(""),
        KafkaConnectionError(),
        asyncpg.InterfaceError(""),
        asyncpg.PostgresError(""),
        asyncpg.ConnectionDoesNotExistError(""),
        Unavailable(),
        Unavailable(""),
    ],
    ids=repr,
)
def test_who_says_nothing_of_itself_is_told_by_its_name(error: Exception) -> None:
    for said in (describe(error), reason_of(error)):
        assert said.strip(" :"), repr(error)
        assert not said.endswith((":", ": ")), said
