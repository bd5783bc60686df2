"""Work goes on for as long as its server answers, and not a moment longer: whatever it waits for then."""

import asyncio
import contextlib
import time

import pytest

from replay import answering
from replay.answering import while_answering
from schemas.errors import LogUnavailable, Unavailable
from tests.support.waiting import within


class Talking:
    """A server that answers so many questions, and is silent from then on."""

    def __init__(self, answers: float) -> None:
        self.asked = 0
        self.is_asked = asyncio.Event()
        self._answers = answers

    async def ask(self) -> None:
        self.asked += 1
        self.is_asked.set()
        if self.asked > self._answers:
            await asyncio.Event().wait()

    def silence(self, seconds: float) -> Unavailable:
        return LogUnavailable(f"Kafka is silent for {seconds:g} s")


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(answering, "ASK_SECONDS", 0.01)


async def test_long_work_goes_on_while_the_server_answers() -> None:
    server = Talking(float("inf"))
    async with while_answering(server):
        for _ in range(5):
            server.is_asked.clear()
            await within(server.is_asked.wait(), "the server is asked again")
    assert server.asked >= 5


async def test_work_whose_server_falls_silent_ends_with_its_name() -> None:
    with pytest.raises(LogUnavailable, match="Kafka is silent"):
        async with while_answering(Talking(2)):
            await within(asyncio.Event().wait(), "nothing")


async def test_its_connections_are_dropped_first() -> None:
    """What a dropped connection makes of the work does not hide which server it was."""
    dropped = asyncio.get_running_loop().create_future()

    def drop() -> None:
        dropped.set_exception(ConnectionResetError("closed in the middle of operation"))

    with pytest.raises(LogUnavailable) as raised:
        async with while_answering(Talking(0), drop):
            await within(dropped, "the connection is dropped")
    assert dropped.exception() is not None
    assert raised.value.__cause__ is not None


async def test_who_was_busy_with_himself_takes_no_server_for_silent() -> None:
    answered = Talking(float("inf"))
    async with while_answering(answered):
        await within(answered.is_asked.wait(), "the server is asked")
        # Longer than a server may be silent, and nothing else runs meanwhile.
        time.sleep(2 * answering.ANSWER_SECONDS)
        for _ in range(3):
            answered.is_asked.clear()
            await within(answered.is_asked.wait(), "the server is asked again")


async def test_a_process_that_is_busy_for_long_spells_hears_the_answer_of_several_steps() -> None:
    """Such as that to a new connection: each of its steps is read in a spell of its own."""

    class Slow(Talking):
        async def ask(self) -> None:
            for _ in range(20):
                await asyncio.sleep(0)
                await asyncio.sleep(0.001)
            await super().ask()

    answered = Slow(float("inf"))
    async with while_answering(answered):
        until = time.monotonic() + 10
        while not answered.is_asked.is_set() and time.monotonic() < until:
            time.sleep(answering.ANSWER_SECONDS / 3)
            await asyncio.sleep(0)
    assert answered.is_asked.is_set()


async def test_work_that_has_taken_long_is_more_patient() -> None:
    with pytest.raises(LogUnavailable, match=r"for 0\.4 s"):
        async with while_answering(Talking(0), patience=0.4):
            await within(asyncio.Event().wait(), "nothing")


async def test_what_was_done_all_the_same_stays_done_and_nobody_is_cancelled_afterwards() -> None:
    done = asyncio.Event()
    async with while_answering(Talking(0)):
        with contextlib.suppress(asyncio.CancelledError):
            await within(asyncio.Event().wait(), "nothing")
        done.set()
    assert done.is_set()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_what_is_cancelled_by_others_stays_cancelled() -> None:
    async def work() -> None:
        async with while_answering(Talking(float("inf"))):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_errors_of_the_work_are_its_own() -> None:
    with pytest.raises(ValueError, match="of the work"):
        async with while_answering(Talking(0)):
            raise ValueError("of the work")


async def test_of_two_servers_the_silent_one_is_named() -> None:
    class Other(Talking):
        def silence(self, seconds: float) -> Unavailable:
            return Unavailable("Postgres is silent")

    with pytest.raises(LogUnavailable):
        async with while_answering(Other(float("inf"))), while_answering(Talking(1)):
            await within(asyncio.Event().wait(), "nothing")
