"""A replay's endpoint, by real sockets: what it does with answers of every kind, and with servers that mean harm."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from deploy.embedded.local import free_ports
from replay.ports import Taken
from replay.targets.addresses import AllowedResolver
from replay.targets.document import HttpTarget
from replay.targets.http import Endpoint, Patience
from schemas.errors import InvalidSelection, Unavailable
from tests.support.endpoints import Names, serving
from tests.support.records import FakeRecord, payment, record

QUICK = Patience(
    request_seconds=0.5, connect_seconds=0.5, attempts=3, first_wait_seconds=0.001, longest_wait_seconds=0.01
)
Connected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def records(count: int) -> list[FakeRecord]:
    return [record("webhooks.stripe", "stripe", payment(number), offset=number) for number in range(count)]


@asynccontextmanager
async def endpoint(url: str, patience: Patience = QUICK, **target: Any) -> AsyncIterator[Endpoint]:
    async with Endpoint(HttpTarget(url, **target), "replay-1", AllowedResolver(()), {}, patience) as found:
        yield found


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


async def test_every_record_arrives_once_with_its_bytes_and_several_at_once() -> None:
    seen: list[tuple[str, bytes, str]] = []
    at_once, most = 0, 0
    is_full = asyncio.Event()

    async def take(request: web.Request) -> web.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        if at_once == 4:
            is_full.set()
        await is_full.wait()
        seen.append((request.path_qs, await request.read(), request.headers["Redrive-Record"]))
        at_once -= 1
        return web.json_response({"ok": True})

    sent = records(20)
    async with serving(take) as url, endpoint(url + "/hooks", concurrency=4) as target:
        taken = await target.take(sent)
    assert taken == [Taken("delivered", 200, 1)] * 20
    assert most == 4
    wanted = [("/hooks", one.value, f"webhooks.stripe/0/{one.offset}") for one in sent]
    assert sorted(seen) == sorted(wanted)


async def test_nothing_of_ours_is_told_but_what_the_record_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, no credentials of the environment, no cookie that was set before."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_ports(1)[0]}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    seen: list[dict[str, str]] = []

    async def take(request: web.Request) -> web.Response:
        seen.append({name.lower(): value for name, value in request.headers.items()})
        answer = web.Response()
        answer.set_cookie("session", "1")
        return answer

    async with serving(take) as url, endpoint(url, concurrency=1) as target:
        await target.take(records(2))
    assert {frozenset(one) for one in seen} == {
        frozenset({"host", "user-agent", "content-type", "content-length", "redrive-replay", "redrive-record"})
    }


@pytest.mark.parametrize(("status", "attempts"), [(400, 1), (401, 1), (404, 1), (410, 1), (429, 3), (500, 3), (503, 3)])
async def test_what_a_retry_may_help_is_tried_again(status: int, attempts: int) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=status, text="secret of the answer")

    async with serving(refuse) as url, endpoint(url) as target:
        assert await target.take(records(1)) == [Taken("failed", status, attempts, f"answered {status}")]


async def test_a_record_that_failed_keeps_none_of_the_others_back() -> None:
    async def pick(request: web.Request) -> web.Response:
        return web.Response(status=422 if request.headers["Redrive-Record"].endswith("/3") else 204)

    async with serving(pick) as url, endpoint(url) as target:
        taken = await target.take(records(6))
    assert [one.outcome == "failed" for one in taken] == [False, False, False, True, False, False]
    assert taken[0] == Taken("delivered", 204, 1)


@pytest.mark.parametrize("said", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", "99999999999", ""])
async def test_retry_after_is_heard_as_far_as_it_makes_sense(said: str) -> None:
    answers = iter([503, 200])

    async def later(_: web.Request) -> web.Response:
        return web.Response(status=next(answers), headers={"Retry-After": said})

    async with serving(later) as url, endpoint(url) as target:
        assert await target.take(records(1)) == [Taken("delivered", 200, 2)]


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


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    reached: list[str] = []

    async def redirect(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async with serving(redirect) as url, endpoint(url + "/hooks") as target:
        (taken,) = await target.take(records(1))
    assert (taken.outcome, taken.status, taken.attempts) == ("failed", status, 1)
    assert reached == ["/hooks"]


async def test_a_redirect_to_the_metadata_of_a_cloud_is_not_followed() -> None:
    async def redirect(_: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://169.254.169.254/latest/meta-data/"})

    async with serving(redirect) as url, endpoint(url) as target:
        (taken,) = await target.take(records(1))
    assert (taken.status, taken.error) == (302, "it redirects, and no redirect is followed")


async def test_a_server_that_hangs_is_given_up() -> None:
    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with speaking(hang) as url, endpoint(url) as target:
        (taken,) = await target.take(records(1))
    assert taken == Taken("failed", None, 3, "no answer within 0.5 s")


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
        assert await target.take(records(2)) == [Taken("delivered", 200, 1)] * 2


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
        assert await target.take(records(1)) == [Taken("delivered", 200, 1)]
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


async def test_nobody_there_is_no_fault_of_the_records() -> None:
    """Whoever runs the replay tries again; what had arrived by then may arrive once more."""
    arrived: list[str] = []

    async def take(request: web.Request) -> web.Response:
        arrived.append(request.headers["Redrive-Record"])
        if len(arrived) == 3:
            # After this one nobody takes a connection.
            await site.stop()
        return web.Response(headers={"Connection": "close"})

    app = web.Application()
    app.router.add_post("/", take)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    sent = records(6)
    try:
        async with endpoint(f"http://127.0.0.1:{port}/", concurrency=1) as target:
            with pytest.raises(Unavailable, match="takes no connections"):
                await target.take(sent)
            assert len(arrived) == 3
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            taken = await target.take(sent)
    finally:
        await runner.cleanup()
    assert taken == [Taken("delivered", 200, 1)] * 6
    assert set(arrived) == {f"webhooks.stripe/0/{number}" for number in range(6)}


async def test_a_record_that_can_not_be_a_request_is_not_tried() -> None:
    bad = FakeRecord("webhooks.stripe", 0, 9, 0, None, b"x")
    async with endpoint(f"http://127.0.0.1:{free_ports(1)[0]}/") as target:
        (taken,) = await target.take([bad])
    assert (taken.outcome, taken.attempts) == ("failed", 0)


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]", "10.0.0.1", "8.8.8.8", "0.0.0.0"]
)
async def test_an_address_that_is_not_allowed_is_never_called(host: str) -> None:
    with pytest.raises(InvalidSelection):
        async with endpoint(f"http://{host}/"):
            pass


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::ffff:127.0.0.1]"])
async def test_loopback_is_called_by_any_of_its_names(host: str) -> None:
    async def take(_: web.Request) -> web.Response:
        return web.Response()

    async with serving(take) as url, endpoint(f"http://{host}:{url.rpartition(':')[2]}/") as target:
        assert await target.take(records(1)) == [Taken("delivered", 200, 1)]


async def test_a_name_that_changes_its_address_gains_nothing() -> None:
    """Allowed when it was asked about first, and the metadata of a cloud when it is connected to."""
    resolver = AllowedResolver((), Names(["127.0.0.1"], ["169.254.169.254"]))
    async with Endpoint(HttpTarget("http://hooks.example/"), "replay-1", resolver, {}, QUICK) as target:
        with pytest.raises(InvalidSelection, match="never"):
            await target.take(records(3))
