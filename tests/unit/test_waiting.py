"""A service that waits for what it needs says why: an ingress with a spool may wait for hours, and answers meanwhile."""

import asyncio
import logging

import pytest

from deploy.service import wait_for
from schemas.errors import Unavailable


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "redrive.service")
    return caplog


async def test_who_waits_says_why_once_and_that_it_is_over(lines: pytest.LogCaptureFixture) -> None:
    tries = 0

    async def connect() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise Unavailable("Kafka does not answer at broker:9092")

    await wait_for(connect, float("inf"), asyncio.Event())
    assert tries == 4
    assert lines.messages == ["waiting: Kafka does not answer at broker:9092", "what it waited for is there"]


async def test_who_need_not_wait_says_nothing(lines: pytest.LogCaptureFixture) -> None:
    async def connect() -> None:
        pass

    await wait_for(connect, float("inf"), asyncio.Event())
    assert lines.messages == []
