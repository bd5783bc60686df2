"""Invariant 3 on the wire: where one request ends is never a matter of opinion, on both roads through a connection.

Each of these is read in two ways by some pair of servers, which is how a request is smuggled past the first. Here each is
refused, its connection is closed, and what follows it is never taken for a request.
"""

import asyncio
import gzip
import re
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Stack
from tests.support import signing
from tests.support.ingresses import now_ms, run_ingress, source
from tests.support.records import payment
from tests.support.waiting import within
from tests.support.wire import parse

ROADS: dict[str, list[bytes]] = {"the short road": [], "aiohttp's road": [b"Connection: close"]}
BODY = payment("outer")
SIZE = len(BODY)
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE, BODY)

FRAMINGS: dict[str, tuple[list[bytes], bytes]] = {
    "two different lengths": ([b"Content-Length: %d" % SIZE, b"Content-Length: 0"], BODY),
    "two equal lengths": ([b"Content-Length: %d" % SIZE] * 2, BODY),
    "a list of lengths": ([b"Content-Length: %d, %d" % (SIZE, SIZE)], BODY),
    "length, then chunked": ([b"Content-Length: %d" % SIZE, b"Transfer-Encoding: chunked"], CHUNKED),
    "chunked, then length": ([b"Transfer-Encoding: chunked", b"Content-Length: 4"], CHUNKED),
    "a negative length": ([b"Content-Length: -1"], BODY),
    "a length with a plus": ([b"Content-Length: +%d" % SIZE], BODY),
    "a length in hex": ([b"Content-Length: 0x%x" % SIZE], BODY),
    "a length with an underscore": ([b"Content-Length: 1_0"], BODY),
    "a length with a fraction": ([b"Content-Length: %d.0" % SIZE], BODY),
    "a length of 25 digits": ([b"Content-Length: " + b"9" * 25], BODY),
    "an empty length": ([b"Content-Length:"], BODY),
    "a length and a word": ([b"Content-Length: %d x" % SIZE], BODY),
    "chunked twice": ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], CHUNKED),
    "chunked, then identity": ([b"Transfer-Encoding: chunked, identity"], CHUNKED),
    "chunked in quotes": ([b'Transfer-Encoding: "chunked"'], CHUNKED),
    "xchunked": ([b"Transfer-Encoding: xchunked"], CHUNKED),
    "chunked after a vertical tab": ([b"Transfer-Encoding: \x0bchunked"], CHUNKED),
    "a space before the colon of a length": ([b"Content-Length : %d" % SIZE], BODY),
    "a space before the colon of chunked": ([b"Transfer-Encoding : chunked"], CHUNKED),
    "a folded header": ([b"X-Folded: a\r\n b", b"Content-Length: %d" % SIZE], BODY),
    "a folded length": ([b"Content-Length:\r\n %d" % SIZE], BODY),
    "a header that starts with a space": ([b" Content-Length: %d" % SIZE], BODY),
    "a NUL in a header": ([b"X-Nul: a\0b", b"Content-Length: %d" % SIZE], BODY),
    "a bare CR in a header": ([b"X-Bare: a\rContent-Length: 0", b"Content-Length: %d" % SIZE], BODY),
    "a bare LF in a header": ([b"X-Bare: a\nTransfer-Encoding: chunked", b"Content-Length: %d" % SIZE], BODY),
    "a header without a colon": ([b"Nothing", b"Content-Length: %d" % SIZE], BODY),
    "a header without a name": ([b": nothing", b"Content-Length: %d" % SIZE], BODY),
    "a chunk with a negative size": ([b"Transfer-Encoding: chunked"], b"-1\r\nx\r\n0\r\n\r\n"),
    "a chunk with 0x": ([b"Transfer-Encoding: chunked"], b"0x%x\r\n%s\r\n0\r\n\r\n" % (SIZE, BODY)),
    "a chunk that ends in LF": ([b"Transfer-Encoding: chunked"], b"%x\n%s\n0\n\n" % (SIZE, BODY)),
    "a chunk longer than it says": ([b"Transfer-Encoding: chunked"], b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE - 3, BODY)),
    "a chunk size of 20 digits": ([b"Transfer-Encoding: chunked"], b"%s\r\n%s\r\n0\r\n\r\n" % (b"f" * 20, BODY)),
}


VERSIONS = (" HTTP/0.9", " HTTP/1.2", " HTTP/2.0", " HTTP/3.0", "")
"""Of the request line; none at all is HTTP/0.9."""

ENCODINGS: dict[str, tuple[bytes, bytes]] = {
    "gzip": (b"Content-Encoding: gzip", gzip.compress(BODY)),
    "deflate": (b"Content-Encoding: deflate", zlib.compress(BODY)),
    "br": (b"Content-Encoding: br", BODY),
    "zstd": (b"Content-Encoding: zstd", BODY),
    "twice": (b"Content-Encoding: identity, gzip", gzip.compress(BODY)),
    "a bomb": (b"Content-Encoding: gzip", gzip.compress(bytes(2**27))),
    "gzip, although it is none": (b"Content-Encoding: GZIP", BODY),
}


def framed(name: str, framing: list[bytes], body: bytes, signed: bytes) -> bytes:
    headers = [f"{header}: {value}".encode() for header, value in signing.stripe(signed, int(time.time())).items()]
    lines = [b"POST /webhooks/%s HTTP/1.1" % name.encode(), b"Host: x", *framing, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def say(port: int, raw: bytes) -> bytes:
    """All that is answered until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        return await within(reader.read(), "the answer")
    finally:
        writer.close()


async def test_an_end_that_can_be_read_in_two_ways_is_refused(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    inner = payment("inner")
    behind = framed(source_name, [b"Content-Length: %d" % len(inner)], inner, inner)
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        port = int(running.url.rpartition(":")[2])
        wrong = {}
        for name, (framing, body) in FRAMINGS.items():
            for road, extra in ROADS.items():
                answer = await say(port, framed(source_name, [*framing, *extra], body, BODY) + behind)
                if re.findall(rb"HTTP/1\.. (\d+)", answer) != [b"400"] or b'"bad_request"' not in answer:
                    wrong[name, road] = answer
        assert not wrong
    assert await read_topic(topic) == []


async def test_a_version_that_is_not_spoken_here_is_refused_in_one_that_is(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        port = int(running.url.rpartition(":")[2])
        for version in VERSIONS:
            whole = framed(source_name, [b"Content-Length: %d" % SIZE], BODY, BODY)
            answer = await say(port, whole.replace(b" HTTP/1.1", version.encode(), 1))
            assert re.findall(rb"HTTP/\d\.\d \d+", answer) == [b"HTTP/1.0 400"], version
            assert b'"bad_request"' in answer
    assert await read_topic(topic) == []


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_compressed_body_is_refused_as_it_is(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, encoding: str
) -> None:
    """Whichever bytes were signed: before or after compression."""
    header, body = ENCODINGS[encoding]
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        port = int(running.url.rpartition(":")[2])
        for extra in ROADS.values():
            for signed in (body, BODY):
                framing = [header, b"Content-Length: %d" % len(body), *extra]
                status, _, problem = parse(await first_answer(port, framed(source_name, framing, body, signed)))
                assert status.split()[1] == b"415"
                assert b'"unsupported_media_type"' in problem


async def test_a_compressed_transfer_is_refused_as_it_is(
    stack: Stack, topic: str, source_name: str, tmp_path: Path
) -> None:
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        port = int(running.url.rpartition(":")[2])
        for extra in ROADS.values():
            framing = [b"Transfer-Encoding: gzip, chunked", *extra]
            status, _, _ = parse(await first_answer(port, framed(source_name, framing, CHUNKED, BODY)))
            assert status.split()[1] == b"415"


async def first_answer(port: int, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        head = await within(reader.readuntil(b"\r\n\r\n"), "the head of the answer")
        _, headers, _ = parse(head)
        return head + await reader.readexactly(int(headers[b"content-length"]))
    finally:
        writer.close()


async def test_a_trailer_says_nothing_of_the_next_request(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, read_topic: Any
) -> None:
    """A proxy may send the requests of several senders over one connection."""
    chunked = framed(source_name, [b"Transfer-Encoding: chunked"], CHUNKED, BODY)
    trailed = chunked.removesuffix(b"\r\n") + b"X-Forwarded-For: 9.9.9.9\r\n\r\n"
    other = payment("other")
    unsigned = b"POST /webhooks/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (
        source_name.encode(),
        len(other),
    )
    signature = signing.stripe(other, int(time.time()))["Stripe-Signature"].encode()
    with_signature = chunked.removesuffix(b"\r\n") + b"Stripe-Signature: %s\r\n\r\n" % signature
    async with run_ingress(stack, {source_name: source(source_name, "stripe")}, tmp_path, now_ms) as running:
        port = int(running.url.rpartition(":")[2])
        elsewhere = trailed.replace(b"/webhooks/%s" % source_name.encode(), b"/healthz")
        for first, status in ((trailed, b"200"), (with_signature, b"200"), (elsewhere, b"405")):
            answer = await say(port, first + unsigned + other)
            assert re.findall(rb"HTTP/1\.. (\d+)", answer) == [status]
            assert b"connection: close" in answer.lower()
    assert [record.value for record in await read_topic(topic)] == [BODY]
