"""What is over a limit gets a cheap answer with a stable code, and costs nobody else anything."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from schemas.limits import LimitsConfig
from tests.conftest import Stack
from tests.support import signing
from tests.support.ingresses import RunningIngress, now_ms, post, run_ingress, source
from tests.support.records import payment
from tests.support.waiting import limit, within

LIMITS = LimitsConfig(connections=4, header_seconds=0.3, headers=20, in_flight_bytes=5000)


@pytest.fixture
async def running(stack: Stack, topic: str, source_name: str, tmp_path: Path) -> AsyncIterator[RunningIngress]:
    sources = {
        source_name: source(source_name, "stripe"),
        "elsewhere": source("elsewhere", "stripe", allow_from=(ip_network("192.0.2.0/24"),)),
    }
    async with run_ingress(stack, sources, tmp_path, now_ms, limits=LIMITS) as found:
        yield found


async def talk(running: RunningIngress, data: bytes) -> tuple[int, str]:
    """Send bytes on a connection of their own; the status and code of what comes back before it is closed."""
    host, _, port = running.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with limit("the answer"):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            body = await reader.readexactly(int(length.partition(b":")[2]))
        return int(head.split()[1]), json.loads(body)["code"]
    finally:
        writer.close()


async def test_an_address_that_is_not_allowed_is_refused_before_its_signature_is_looked_at(
    running: RunningIngress,
) -> None:
    status, answer, _ = await post(running, "/webhooks/elsewhere", b"{}", {"X-Forwarded-For": "192.0.2.7"})
    assert (status, answer["code"]) == (403, "address_not_allowed")


@pytest.mark.parametrize("caller", [b"192.0.2.7", b"198.51.100.7"])
async def test_what_a_caller_says_of_itself_in_a_line_of_its_own_is_not_believed(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, caller: bytes
) -> None:
    """Some proxies append a line with the address that they see, and leave the caller's as it is."""
    allowed = source(source_name, "stripe", allow_from=(ip_network("192.0.2.0/24"),))
    proxies = LimitsConfig(trusted_proxies=(ip_network("127.0.0.0/8"),))
    async with run_ingress(stack, {source_name: allowed}, tmp_path, now_ms, limits=proxies) as running:
        start = b"POST /webhooks/%s HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n" % source_name.encode()
        lines = b"X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-For: %s\r\n" % caller
        expected = (401, "signature_missing") if caller == b"192.0.2.7" else (403, "address_not_allowed")
        assert await talk(running, start + lines + b"\r\n{}") == expected


@pytest.mark.parametrize(
    "head",
    [b"".join(b"X-%d: a\r\n" % number for number in range(30)), b"X: " + b"a" * 9000 + b"\r\n"],
    ids=["too many", "too large"],
)
async def test_headers_are_bounded(running: RunningIngress, source_name: str, head: bytes) -> None:
    start = b"POST /webhooks/%s HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n" % source_name.encode()
    assert await talk(running, start + head + b"\r\n{}") == (431, "headers_too_large")


async def test_a_body_of_unknown_length_is_bounded_like_every_other(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Callable[[str], Awaitable[list[object]]]
) -> None:
    limit = 70_000
    sources = {source_name: source(source_name, "stripe", max_body_bytes=limit)}
    async with run_ingress(stack, sources, tmp_path, now_ms) as running:
        for size, expected in ((limit, 200), (limit + 1, 413)):
            body = payment(size).ljust(size)

            async def pieces(whole: bytes = body) -> AsyncIterator[bytes]:
                for at in range(0, len(whole), 10_000):
                    yield whole[at : at + 10_000]

            headers = signing.stripe(body, now_ms() // 1000)
            url = f"{running.url}/webhooks/{source_name}"
            async with running.session.post(url, data=pieces(), headers=headers) as response:
                assert response.status == expected
                assert (await response.json()).get("code") == (None if expected == 200 else "body_too_large")
    assert len(await read_topic(topic)) == 1


async def test_who_dribbles_a_head_is_cut_off(running: RunningIngress) -> None:
    assert await talk(running, b"POST /webhooks/stripe HTTP/1.1\r\nHos") == (408, "request_timeout")


async def test_who_dribbles_a_body_is_cut_off(stack: Stack, topic: str, source_name: str, tmp_path: Path) -> None:
    limits = LimitsConfig(body_seconds=0.3)
    async with run_ingress(
        stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms, limits=limits
    ) as found:
        host, _, port = found.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /webhooks/%s HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{" % source_name.encode())
        # To its end: who was too slow gets no more time, and keeps no connection.
        answer = await within(reader.read(), "the end of the connection")
        writer.close()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"request_timeout"' in answer


async def test_a_connection_too_many_is_told_and_the_others_go_on(running: RunningIngress, source_name: str) -> None:
    host, _, port = running.url.removeprefix("http://").partition(":")
    # The session's own is the fourth.
    body = payment(1)
    headers = signing.stripe(body, now_ms() // 1000)
    assert (await post(running, f"/webhooks/{source_name}", body, headers))[0] == 200
    held = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
    try:
        assert await talk(running, b"") == (503, "overloaded")
        assert (await post(running, f"/webhooks/{source_name}", body, headers))[0] == 200
    finally:
        for _, writer in held:
            writer.close()


async def test_a_body_too_many_in_flight_is_refused_and_what_was_held_comes_free(
    running: RunningIngress, source_name: str
) -> None:
    for number in range(3):
        large = payment(number) + b" " * 5000
        status, answer, _ = await post(
            running, f"/webhooks/{source_name}", large, signing.stripe(large, now_ms() // 1000)
        )
        assert (status, answer["code"]) == (503, "overloaded")
        small = payment(number)
        status, answer, _ = await post(
            running, f"/webhooks/{source_name}", small, signing.stripe(small, now_ms() // 1000)
        )
        assert (status, answer["status"]) == (200, "accepted")
