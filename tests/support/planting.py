"""Records with something personal or secret in them, in every place of every fixture's body."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.support.records import FakeRecord, record

FIXTURES = Path(__file__).parents[1] / "fixtures"
PHONE = "+33698765432"
EMAIL = "zoe.martin@example.com"
TOKEN = "wh1sper-zoe"
"""A credential that nothing could recognise."""

KEY = "whsec_" + "c2VjcmV0" * 3
"""A credential that says what it is."""

EVERYTHING = f"{PHONE} {EMAIL} {TOKEN} {KEY}"
PLANTED = (EVERYTHING, EVERYTHING + "\0", int(PHONE) * 10**9)
"""As text, as text that Postgres refuses, as a number that no column holds."""

TRACES = (PHONE, PHONE[1:], EMAIL, EMAIL.replace("@", "%40"), "zoe", "martin", TOKEN, KEY, KEY[6:])
"""What would give any of it away."""


def planted_records(topic: str, value: Any, start: int = 0) -> Iterator[FakeRecord]:
    """Each fixture's body once for each of its values, which is then `value`, and for each object with a field more."""
    for path in sorted(FIXTURES.glob("*/*")):
        provider = path.parent.name
        if provider == "vectors" or path.is_dir() or path.name.endswith(".http.json"):
            continue
        is_form = path.suffix == ".form"
        kind = "application/x-www-form-urlencoded" if is_form else "application/json"
        signed_id = "msg_1" if provider == "standardwebhooks" else None
        for body in _forms(path, value) if is_form else _documents(path, value):
            yield record(topic, provider, body, start, content_type=kind, signed_id=signed_id)
            start += 1


def _forms(path: Path, value: Any) -> Iterator[bytes]:
    pairs = parse_qsl(path.read_text().strip(), keep_blank_values=True)
    for position, (name, _) in enumerate(pairs):
        yield urlencode([*pairs[:position], (name, value), *pairs[position + 1 :]]).encode()


def _documents(path: Path, value: Any) -> Iterator[bytes]:
    for document in _replaced(json.loads(path.read_bytes()), value):
        yield json.dumps(document).encode()


def _replaced(node: Any, value: Any) -> Iterator[Any]:
    """Of a list the first item stands for all."""
    if isinstance(node, dict):
        for name, item in node.items():
            yield from ({**node, name: changed} for changed in _replaced(item, value))
        yield {**node, str(value): [value]}
    elif isinstance(node, list) and node:
        yield from ([changed, *node[1:]] for changed in _replaced(node[0], value))
    yield value


def traces(text: str) -> list[str]:
    return [trace for trace in TRACES if trace in text]
