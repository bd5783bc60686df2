"""The edges of HTTP that senders reach: what verifies live is stored, and what was quarantined there can be released."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from replay.log.reader import LogReader
from replay.operations.quarantine import QuarantineReader
from replay.operations.release import ReleaseSelection, release
from schemas.providers.base import Secrets
from tests.conftest import Stack
from tests.support import signing
from tests.support.cases import requests_of
from tests.support.ingresses import RunningIngress, now_ms, run_ingress, source
from tests.support.records import payment
from tests.support.waiting import within

URL = "https://hooks.example.com"


@pytest.fixture
async def running(stack: Stack, topic: str, source_name: str, tmp_path: Path) -> AsyncIterator[RunningIngress]:
    sources = {source_name: source(source_name, "stripe")}
    async with run_ingress(stack, sources, tmp_path, now_ms, public_url=URL) as found:
        yield found


async def send(running: RunningIngress, target: str, body: bytes, headers: dict[str, str], method: str = "POST") -> int:
    """As raw bytes: a client library would tidy up what is odd on purpose."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in ({"Host": "h", "Connection": "close"} | headers).items()]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(running.url.rpartition(":")[2]))
    writer.write("\r\n".join([*lines, f"Content-Length: {len(body)}"]).encode() + b"\r\n\r\n" + body)
    answer = await within(reader.read(), "the answer")
    writer.close()
    return int(answer.split(b" ", 2)[1])


CODINGS = {
    "": 200,
    "identity": 200,
    "Identity ": 200,
    "identity, identity": 200,
    "utf-8": 200,
    "UTF8": 200,
    "identity; charset=utf-8": 200,
    "ISO-8859-1": 200,
    "us-ascii": 200,
    "gzip": 415,
    "GZip": 415,
    "identity, gzip": 415,
    "br": 415,
    "zstd": 415,
    "deflate; q=1": 415,
    "aes128gcm": 415,
}


async def test_a_coding_that_changes_nothing_is_taken_and_a_compression_refused(
    running: RunningIngress, source_name: str
) -> None:
    for number, (coding, status) in enumerate(CODINGS.items()):
        body = payment(number)
        headers = signing.stripe(body, int(time.time())) | {"Content-Encoding": coding}
        assert await send(running, f"/webhooks/{source_name}", body, headers) == status, coding


async def test_a_target_in_the_absolute_form_is_a_target(running: RunningIngress, source_name: str) -> None:
    for number, prefix in enumerate(("http://h", "HTTP://other.example:8080", "https://user@h")):
        body = payment(number)
        headers = signing.stripe(body, int(time.time()))
        assert await send(running, f"{prefix}/webhooks/{source_name}", body, headers) == 200
    assert await send(running, "http://h/healthz", b"", {}, "GET") == 200
    assert await send(running, "http://h/nothing", b"", {}, "GET") == 404


async def test_what_failed_under_an_old_token_is_released_whatever_its_url(
    stack: Stack, topic: str, source_name: str, tmp_path: Path, connection: Any
) -> None:
    (bare,) = requests_of("29")
    (escaped,) = requests_of("30")
    old = source(source_name, "twilio")
    new = replace(old, secrets=Secrets(("the-new-token",)))
    targets = [
        ("POST", bare["path"], bare["path"]),
        ("POST", "/webhooks/twilio", "/webhooks/twilio"),
        ("POST", "/webhooks/twilio?a=b%20c", "/webhooks/twilio?a=b%20c"),
        ("POST", "/webhooks/twilio/a%3Ab;v=1//x?", "/webhooks/twilio/a%3Ab;v=1//x?"),
        ("POST", "http://h/webhooks/twilio?z", "/webhooks/twilio?z"),
        ("GET", escaped["path"], escaped["signed_url"].removeprefix("<base>")),
    ]
    async with run_ingress(stack, {source_name: old}, tmp_path, now_ms, public_url=URL) as running:
        for number, (method, target, signed) in enumerate(targets):
            target, signed = (text.replace("/twilio", f"/{source_name}") for text in (target, signed))
            body = b"" if method == "GET" else b"MessageStatus=sent&MessageSid=SMcase29" + str(number).encode()
            headers = signing.twilio(URL + signed, body, "the-new-token")
            if method == "GET":
                del headers["Content-Type"]
            assert await send(running, target, body, headers, method) == 401, target
            running.ingress.use({source_name: new})
            assert await send(running, target, body, headers, method) == 200, "live it verifies"
            running.ingress.use({source_name: old})
    async with LogReader(stack.cluster) as reader:
        quarantine = QuarantineReader(reader, connection, {source_name: new}, URL)
        found = await release(quarantine, ReleaseSelection([source_name]), None, lambda _: None)
    assert (found.released, found.still_failing) == (len(targets), 0), json.dumps(targets)
