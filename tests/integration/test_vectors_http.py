"""Invariant 3 through the ingress itself: every vector that HTTP can carry gives its verdict, at its own time."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from deploy.commands.verify import CapturedRequest, _provider_and_secrets
from deploy.topics import Topics
from schemas.providers import PROVIDERS
from schemas.settings import Source
from schemas.topics import LOG_CONFIG, topic_of
from tests.conftest import Stack
from tests.support.ingresses import run_ingress, source
from tests.support.vectors import load_vectors, verdict
from tests.support.waiting import within

PUBLIC_URL = "https://hooks.example.com"


@dataclass
class Clocked:
    """An ingress whose clock and secrets are those of the vector at hand."""

    port: int
    sources: dict[str, Source]
    now_ms: int


@pytest.fixture(scope="module")
async def clocked(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clocked]:
    async with Topics(stack.cluster) as topics:
        await topics.create({topic_of(name): LOG_CONFIG for name in PROVIDERS}, partitions=1, replication=1)
    found = Clocked(0, {name: source(name, name) for name in PROVIDERS}, int(time.time() * 1000))
    folder = tmp_path_factory.mktemp("vectors")
    async with run_ingress(stack, found.sources, folder, lambda: found.now_ms, public_url=PUBLIC_URL) as running:
        found.port = int(running.url.rpartition(":")[2])
        yield found


def target_of(provider: str, url: str) -> str | None:
    """The request target of a vector's URL; None where the signed URL is none that an ingress can have."""
    parts = urlsplit(url)
    if not PROVIDERS[provider].signs_url:
        return f"/webhooks/{provider}"
    target = url.removeprefix(PUBLIC_URL)
    return target if parts.path.startswith(f"/webhooks/{provider}") and target != url and "#" not in url else None


def can_travel(vector: dict[str, Any]) -> bool:
    """HTTP strips the ends of a header's value, and carries no control characters in it."""
    return all(value == value.strip() and value.isprintable() for value in vector["headers"].values())


VECTORS = [
    one for one in load_vectors() if target_of(one.values[0], one.values[1]["url"]) and can_travel(one.values[1])
]


@pytest.mark.parametrize(("provider", "vector"), VECTORS)
async def test_every_vector_gives_its_verdict_through_http(
    clocked: Clocked, provider: str, vector: dict[str, Any]
) -> None:
    request = CapturedRequest.model_validate(vector)
    found, secrets = _provider_and_secrets(provider, request)
    clocked.sources[provider] = Source(provider, found, replace(secrets, digest_key=b"key"))
    clocked.now_ms = int((request.now or 0) * 1000)
    status = await send(clocked.port, request, str(target_of(provider, request.url)))
    if request.method not in found.methods and not (request.method == "GET" and found.answer_handshake):
        assert status == 405
    elif verdict(vector):
        assert status == 200
    else:
        assert status in (400, 401, 403, 503)


async def send(port: int, request: CapturedRequest, target: str) -> int:
    """As raw bytes: a client library would tidy up what is odd on purpose."""
    body = request.body.encode("utf-8", "surrogatepass")
    headers = {"Host": "internal", **request.headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write("\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body)
    answer = await within(reader.read(), "the answer")
    writer.close()
    return int(answer.split(b" ", 2)[1])
