"""What a target answers, and when a request is tried again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from replay.ports import SendResult
from replay.targets.http import Patience
from tests.support.endpoints import endpoint, records, serving

Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def speaking(connected: Connected) -> AsyncIterator[str]:
    """A server that answers by hand."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await connected(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize(("status", "attempts"), [(400, 1), (401, 1), (404, 1), (410, 1), (429, 3), (500, 3), (503, 3)])
async def test_what_a_retry_may_help_is_tried_again(status: int, attempts: int) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status, text="secret of the answer")

    async with serving(refuse) as url, endpoint(url) as target:
        assert await target.take(records(1)) == [SendResult("failed", status, attempts, f"answered {status}")]


@pytest.mark.parametrize("said", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", "99999999999", ""])
async def test_retry_after_is_heard_as_far_as_it_makes_sense(said: str) -> None:
    answers = iter([503, 200])

    async def later(_: web.Request) -> web.Response:
        return web.Response(status=next(answers), headers={"Retry-After": said})

    async with serving(later) as url, endpoint(url) as target:
        assert await target.take(records(1)) == [SendResult("delivered", 200, 2)]


async def test_a_retry_after_is_waited_for_and_no_longer_than_the_longest() -> None:
    """Without the wait, the third attempt would come before the clock says so."""
    clock = asyncio.get_running_loop().time
    times: list[float] = []

    async def later(_: web.Request) -> web.Response:
        times.append(clock())
        return web.Response(status=429, headers={"Retry-After": "3600"})

    patience = Patience(attempts=2, first_wait_seconds=0.0001, longest_wait_seconds=0.001, longest_asked_seconds=0.3)
    async with serving(later) as url, endpoint(url, patience) as target:
        await target.take(records(1))
    assert times[1] - times[0] >= 0.29


async def test_a_server_that_hangs_is_given_up() -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with speaking(hang) as url, endpoint(url) as target:
        (taken,) = await target.take(records(1))
    assert taken == SendResult("failed", None, 3, "no answer within 0.5 s")


async def test_a_server_that_closes_before_it_answers_is_tried_again() -> None:
    async def close(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        return None

    async with speaking(close) as url, endpoint(url) as target:
        (taken,) = await target.take(records(1))
    assert (taken.outcome, taken.status, taken.attempts) == ("failed", None, 3)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200", b"HTTP/9 abc\r\n\r\n", b"\x00\xff\r\n\r\n", b"HTTP/1.1 200 OK\r\nA:"]
)
async def test_what_is_no_answer_is_none(answer: bytes) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with speaking(babble) as url, endpoint(url) as target:
        (taken,) = await target.take(records(1))
    assert (taken.outcome, taken.status) == ("failed", None)
    assert "abc" not in (taken.error or "")


async def test_a_status_counts_though_the_answer_breaks_off() -> None:
    async def stop(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhalf")
        await writer.drain()

    async with speaking(stop) as url, endpoint(url) as target:
        assert await target.take(records(2)) == [SendResult("delivered", 200, 1)] * 2


@pytest.mark.parametrize("head", [b"", b"Content-Length: 99999999999\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_an_answer_without_end_is_not_read_to_its_end(head: bytes) -> None:
    sent = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        block = b"x" * 8192
        piece = b"2000\r\n" + block + b"\r\n" if b"chunked" in head else block
        while sent < 2**30:
            writer.write(piece)
            await writer.drain()
            sent += len(block)

    async with speaking(pour) as url, endpoint(url) as target:
        assert await target.take(records(1)) == [SendResult("delivered", 200, 1)]
    assert sent < 2**26


async def test_headers_without_end_are_no_answer() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-A: " + b"a" * 4000 + b"\r\n")
            await writer.drain()

    async with speaking(talk) as url, endpoint(url) as target:
        (taken,) = await target.take(records(1))
    assert (taken.outcome, taken.status) == ("failed", None)
