"""No answer of any port says which library gave it, however odd the request; errors are problems like every other."""

import asyncio
import json

import pytest

from tests.support.processes import Installation
from tests.support.waiting import limit

REQUESTS = {
    "a page": b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "metrics": b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "nothing there": b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "another method": b"DELETE /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "a page for people": b"GET /nothing HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\nConnection: close\r\n\r\n",
    "an odd expectation": b"GET /healthz HTTP/1.1\r\nHost: x\r\nExpect: magic\r\nConnection: close\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "a broken header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n",
    "a long line": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "two lengths": b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a body that is too long": b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\nConnection: close\r\n"
    b"Content-Type: application/x-www-form-urlencoded\r\n\r\nkey=" + b"x" * 899_996,
}


async def ask(port: int, request: bytes) -> bytes:
    """All that the server says until it hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        found = b""
        async with limit("the server answers, and hangs up"):
            while piece := await reader.read(65536):
                found += piece
        return found
    except ConnectionError:
        # It need not read what it refuses.
        return found
    finally:
        writer.close()


async def test_no_port_names_the_library(installation: Installation) -> None:
    for service, port in installation.ports.items():
        for what, request in REQUESTS.items():
            answer = await ask(port, request)
            where = f"{service}: {what}: {answer[:500]!r}"
            assert answer.startswith(b"HTTP/1."), where
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"aiohttp" not in answer.lower(), where
            assert b"Python" not in head, where
            assert b"\r\nServer: redrive" in head, where
            if int(head.split()[1]) >= 400:
                assert b"application/problem+json" in head, where
                assert json.loads(body)["code"], where


@pytest.mark.parametrize("service", ["console", "processors"])
async def test_a_refused_method_names_the_right_ones(installation: Installation, service: str) -> None:
    answer = await ask(installation.ports[service], REQUESTS["another method"])
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET" in answer
