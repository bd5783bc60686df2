"""Both roads through a connection, the short one and aiohttp's, give every kind of client the same answers."""

import asyncio
import re
import time
from pathlib import Path

import pytest

from ingest.http import responses
from schemas.envelope import Location
from tests.conftest import Stack
from tests.support import signing
from tests.support.ingresses import now_ms, run_ingress, source
from tests.support.records import payment
from tests.support.waiting import within
from tests.support.wire import parse


async def exchange(port: int, requests: list[bytes]) -> bytes:
    """Everything that comes back on one connection, until the server closes it or is silent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = b""
    for request in requests:
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        answers += head + await reader.readexactly(length)
    if b"connection: close" in requests[-1].lower() or b"HTTP/1.0" in requests[-1]:
        assert await reader.read() == b"", "the server closes what the client asked to close"
    writer.close()
    return answers


def request(name: str, body: bytes, version: str = "1.1", *extra: str) -> bytes:
    headers = {**signing.stripe(body, int(time.time())), "Host": "x", "Content-Length": str(len(body))}
    lines = [f"POST /webhooks/{name} HTTP/{version}", *(f"{k}: {v}" for k, v in headers.items()), *extra]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(("version", "extra"), [("1.1", ()), ("1.1", ("Connection: close",)), ("1.0", ())])
async def test_every_client_reads_the_same_answer(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, version: str, extra: tuple[str, ...]
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        port = int(running.url.rpartition(":")[2])
        status, headers, body = parse(await exchange(port, [request(source_name, payment(1), version, *extra)]))
        assert status.split()[1] == b"200"
        assert headers[b"content-type"] == b"application/json"
        assert headers[b"redrive-record"].startswith(topic.encode())
        assert int(headers[b"content-length"]) == len(body)
        assert b"date" in headers
        assert headers.get(b"server", b"redrive") == b"redrive", (
            "what runs here, and in which version, is nobody's business"
        )
        assert body == b'{"status":"accepted","record_id":"evt_1"}'


async def test_a_body_in_pieces_is_answered_like_a_whole_one(
    stack: Stack, topic: str, source_name: str, tmp_path: Path
) -> None:
    """In pieces it takes aiohttp's road, whole the short one: status, headers and body are the same."""
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        port = int(running.url.rpartition(":")[2])
        for whole in (request(source_name, payment(1)), request(source_name, payment(1)).replace(b"v1=", b"v1=0")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            found = []
            for pieces in ([whole], [whole[:-100], whole[-100:]], [whole[:40], whole[40:]]):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0.05)
                status, headers, _ = parse(await reader.readuntil(b"\r\n\r\n"))
                body = await reader.readexactly(int(headers[b"content-length"]))
                told = [headers.get(name) for name in (b"content-type", b"redrive-record", b"cache-control")]
                found.append((status, told, body.replace(b"duplicate", b"accepted")))
            writer.close()
            assert found[0] == found[1] == found[2]


async def test_the_answer_to_head_has_no_body(stack: Stack, topic: str, source_name: str, tmp_path: Path) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
        head = f"HEAD /webhooks/{source_name} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        writer.write(head)
        status, _, _ = parse(await reader.readuntil(b"\r\n\r\n"))
        assert status.split()[1] == b"405"
        writer.write(request(source_name, payment(1)))
        status, _, _ = parse(await within(reader.readuntil(b"\r\n\r\n"), "the first answer"))
        assert status.split()[1] == b"200", "nothing of the first answer is in the way"
        writer.close()


async def test_pipelined_requests_are_answered_in_their_order(
    stack: Stack, topic: str, source_name: str, tmp_path: Path
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        port = int(running.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(source_name, payment(0)))
        # While the first waits for the log: more, all at once, the last one in two pieces.
        tail = b"".join(request(source_name, payment(number)) for number in range(1, 30))
        writer.write(tail[:-50])
        await asyncio.sleep(0.2)
        writer.write(tail[-50:])
        for number in range(30):
            _, headers, _ = parse(await reader.readuntil(b"\r\n\r\n"))
            body = await reader.readexactly(int(headers[b"content-length"]))
            assert body == b'{"status":"accepted","record_id":"evt_%d"}' % number
        writer.close()


async def test_one_connection_carries_many_answers_good_and_bad(
    stack: Stack, topic: str, source_name: str, tmp_path: Path
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        port = int(running.url.rpartition(":")[2])
        forged = request(source_name, payment(9)).replace(b"v1=", b"v1=0")
        sent = [
            request(source_name, payment(1)),
            forged,
            request(source_name, payment(1)),
            request(source_name, payment(2)),
        ]
        answers = await exchange(port, sent)
        assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"401", b"200", b"200"]


async def test_malformed_http_is_a_problem_too(stack: Stack, topic: str, source_name: str, tmp_path: Path) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        port = int(running.url.rpartition(":")[2])
        for garbage in (
            b"\x16\x03\x01\x00\xa5\r\n\r\n",
            b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(garbage)
            answer = await within(reader.read(), "the answer")
            writer.close()
            status, headers, body = parse(answer)
            assert status.split()[1] == b"400"
            assert headers[b"content-type"] == b"application/problem+json"
            assert b'"bad_request"' in body


def test_the_date_is_of_its_second() -> None:
    assert responses._date(1_750_000_000) == "Sun, 15 Jun 2025 15:06:40 GMT"
    assert str(Location("webhooks.x", 3, 7)) == "webhooks.x/3/7"
