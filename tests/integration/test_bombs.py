"""Invariant 9 end to end: a signed bomb becomes rows or a dead letter, and what comes after it is folded."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlencode

import pytest

from schemas.providers import PROVIDERS
from tests.conftest import Stack
from tests.fuzz.request import NOW, PUBLIC_URL, Request
from tests.fuzz.signing import signed
from tests.fuzz.targets import fixtures
from tests.support.amounts import amount
from tests.support.ingresses import post, run_ingress, source
from tests.support.waiting import until
from tests.support.workers import folded, run_worker

DEEP = amount(20_000, 100_000)
SMALL = (
    "1e999",
    "-1e400",
    "NaN",
    "9" * 40,
    "18446744073709551616",
    r'"\u0000"',
    r'"a\u0000b"',
    r'"\ud800"',
    '"\ufffe"',
)
"""In the place of every value."""

LARGE = (
    "[" * DEEP,
    "[" * DEEP + "]" * DEEP,
    '{"a":' * DEEP + "1" + "}" * DEEP,
    "9" * DEEP,
    "1e" + "9" * DEEP,
    '"' + "a" * DEEP + '"',
    '"' + r"\u0000" * 10_000 + '"',
    "{" + ",".join(f'"k{n}":{n}' for n in range(DEEP)) + "}",
    "{" + ",".join('"id":1' for _ in range(10_000)) + "}",
    '{"' + "k" * DEEP + '":1}',
)
"""In the place of the whole, of the first value and of the last."""

PLACE = "@place@"


def documents(body: bytes) -> Iterator[str]:
    """The document with `PLACE` for each of its values in turn; the whole is the first."""

    def placed(node: Any) -> Iterator[Any]:
        if isinstance(node, dict):
            for name, item in node.items():
                yield from ({**node, name: one} for one in placed(item))
        elif isinstance(node, list):
            for at, item in enumerate(node):
                yield from ([*node[:at], one, *node[at + 1 :]] for one in placed(item))
        else:
            yield PLACE

    yield f'"{PLACE}"'
    yield from (json.dumps(one) for one in placed(json.loads(body)))


def json_bombs(body: bytes) -> Iterator[bytes]:
    places = list(documents(body))
    for place in places:
        yield from (place.replace(f'"{PLACE}"', small).encode() for small in SMALL)
    for place in (places[0], places[1], places[-1]):
        yield from (place.replace(f'"{PLACE}"', large).encode() for large in LARGE)


def form_bombs(body: bytes) -> Iterator[bytes]:
    pairs = parse_qsl(body.decode(), keep_blank_values=True)
    for at, (name, _) in enumerate(pairs):
        for value in ("\0", "a\0b", "\ud800", "9" * 5000):
            changed = [*pairs[:at], (name, value), *pairs[at + 1 :]]
            yield urlencode(changed, errors="surrogatepass").encode()
        yield body + f"&{quote_plus(name)}=%ff%zz%".encode()
    yield body + b"&" + b"k" * DEEP + b"=1"
    yield body + b"&k=" + b"%00" * DEEP
    yield body + b"&=" * 900
    yield body + b"&a=1" * DEEP
    yield b"&".join(b"k%d=1" % number for number in range(DEEP))
    yield b"MessageSid=" + b"%00" * 300 + b"&MessageStatus=sent"
    yield b"%00=%00"


def bombs(name: str) -> Iterator[Request]:
    """What can be signed of them; each under an id of its own, where that is a header."""
    for fixture in {one.headers.get("content-type", ""): one for one in fixtures(name)}.values():
        is_form = "form" in fixture.headers.get("content-type", "")
        for body in form_bombs(fixture.body) if is_form else json_bombs(fixture.body or b'{"a":"b"}'):
            yield replace(fixture, body=body)
        yield fixture


@pytest.mark.parametrize("name", PROVIDERS)
async def test_a_bomb_stops_nothing(
    stack: Stack, topic: str, source_name: str, database_url: str, connection: Any, tmp_path: Path, name: str
) -> None:
    stored: list[str] = []
    refused: set[str] = set()
    sources = {source_name: source(source_name, name)}
    async with run_ingress(stack, sources, tmp_path, lambda: NOW * 1000, public_url=PUBLIC_URL) as running:
        for number, bomb in enumerate(bombs(name)):
            named = bomb.with_headers({"webhook-id": f"msg_{number}", "x-goog-message-number": str(number)})
            sent = signed(name, replace(named, target=f"/webhooks/{source_name}"), source_name)
            status, answer, location = await post(running, sent.target, sent.body, dict(sent.headers))
            if status == 200:
                stored.append(str(location))
            else:
                refused.add(answer["code"])
    assert refused <= REFUSALS.get(name, set())
    async with run_worker(stack, database_url, topic, topic, tmp_path):
        await until(folded(connection, len(set(stored))), "all of them are folded")
    rows = await connection.fetch("SELECT topic, partition, record_offset, status FROM redrive.event_index")
    outcomes: dict[str, set[str]] = {}
    for row in rows:
        outcomes.setdefault("/".join(map(str, tuple(row)[:3])), set()).add(row["status"])
    assert set(outcomes) == set(stored), "every record has a row or is a dead letter"
    assert outcomes[stored[-1]] <= {"applied", "ignored"}, "what comes after a bomb is read like any other"


REFUSALS = {
    # The token is in the body: what can't be read, or is too long to be read before it is verified, is not signed.
    "aircall": {"signature_missing", "signature_mismatch", "body_too_large"},
    # More parameters than any callback has are not even sorted.
    "twilio": {"signature_mismatch"},
}
