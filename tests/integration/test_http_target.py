"""A replay's endpoint, by real sockets: what it does with answers of every kind, and with servers that mean harm."""

import asyncio

import pytest
from aiohttp import web

from deploy.embedded.ports import free_ports
from replay.ports import SendResult
from replay.targets.addresses import AllowedResolver
from replay.targets.document import HttpTarget
from replay.targets.http import HttpSender
from schemas.errors import InvalidSelection, Unavailable
from tests.support.endpoints import QUICK, Names, endpoint, records, serving
from tests.support.records import FakeRecord


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
    assert taken == [SendResult("delivered", 200, 1)] * 20
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


async def test_a_record_that_failed_keeps_none_of_the_others_back() -> None:
    async def pick(request: web.Request) -> web.Response:
        return web.Response(status=422 if request.headers["Redrive-Record"].endswith("/3") else 204)

    async with serving(pick) as url, endpoint(url) as target:
        taken = await target.take(records(6))
    assert [one.outcome == "failed" for one in taken] == [False, False, False, True, False, False]
    assert taken[0] == SendResult("delivered", 204, 1)


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
    assert (taken.status, taken.error) == (302, "the endpoint redirects; replays follow no redirects")


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
    assert taken == [SendResult("delivered", 200, 1)] * 6
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
        assert await target.take(records(1)) == [SendResult("delivered", 200, 1)]


async def test_a_name_that_changes_its_address_gains_nothing() -> None:
    """Allowed when it was asked about first, and the metadata of a cloud when it is connected to."""
    resolver = AllowedResolver((), Names(["127.0.0.1"], ["169.254.169.254"]))
    async with HttpSender(HttpTarget("http://hooks.example/"), "replay-1", resolver, {}, QUICK) as target:
        with pytest.raises(InvalidSelection, match="never"):
            await target.take(records(3))
