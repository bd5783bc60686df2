"""Invariant 9: what the log may hold of text and Postgres may not is represented, wherever it stands."""

import json
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.fold import fold_record
from processors.store import Span, Store
from schemas.text import loads
from tests.support.cases import KeptLetters
from tests.support.damage import appended, texts
from tests.support.fixtures import FIXTURES, READABLE
from tests.support.records import FakeRecord, record
from tests.support.tables import empty

JSON = [name for name in READABLE if name.endswith(".json") and not name.endswith(".http.json")]
FORMS = [name for name in READABLE if name.endswith(".form")]
ODD = ("\0", "a\0b", "\ud83d", "\ude00\ud83d", "\ud83d\ud83d\ude00")
"""U+0000, and halves of a character."""

CLOSED = {"CallDuration", "occurred_at", "status"}
"""Fields that hold a number, a time, or one of a few words: with anything behind it, their event can't be read."""


def odd_documents(name: str) -> list[tuple[bytes, bool]]:
    """(body, whether what is odd stands in a closed field), for each text of a fixture."""
    document = json.loads((FIXTURES / name).read_bytes())
    places = list(texts(document))
    bodies = []
    for number, path in enumerate(places):
        body = appended(document, path, ODD[number % len(ODD)])
        bodies.append((json.dumps(body).encode(), path[-1] in CLOSED))
    return bodies


def odd_forms(name: str) -> list[tuple[bytes, bool]]:
    pairs = parse_qsl((FIXTURES / name).read_text().strip(), keep_blank_values=True)
    bodies = []
    for place, (odd_name, _) in enumerate(pairs):
        odd = ("%00", "%ed%a0%bd", "\0")[place % 3]
        body = "&".join(f"{key}={quote(text)}{odd if key == odd_name else ''}" for key, text in pairs)
        bodies.append((body.encode(), odd_name in CLOSED))
    return bodies


@pytest.mark.parametrize("name", [*JSON, *FORMS])
async def test_any_text_anywhere_becomes_rows_that_postgres_takes(name: str, shared_connection: Any) -> None:
    await empty(shared_connection)
    provider = name.partition("/")[0]
    kind = "application/json" if name in JSON else "application/x-www-form-urlencoded"
    signed_id = "msg_1" if provider == "standardwebhooks" else None
    bodies = odd_documents(name) if name in JSON else odd_forms(name)
    records: list[FakeRecord] = [
        record(f"webhooks.{provider}", provider, body, place, content_type=kind, signed_id=signed_id)
        for place, (body, _) in enumerate(bodies)
    ]
    letters = KeptLetters()
    span = Span(records[0].topic, 0, 0, len(records))
    await Store(1, letters).commit_batch(shared_connection, span, [fold_record(one) for one in records])
    closed = {place for place, (_, is_closed) in enumerate(bodies) if is_closed}
    assert {letter.raw.offset for letter in letters.letters} <= closed, letters.letters
    assert {letter.reason for letter in letters.letters} <= {"invalid_payload"}


@given(st.text(st.characters(codec=None, min_codepoint=0, max_codepoint=0x1FFFF), max_size=20))
def test_text_is_read_as_others_read_it_but_for_halves_of_a_character(text: str) -> None:
    """As UTF-16 has it, where a half next to its other half is a whole."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert loads(json.dumps({"text": text}).encode()) == {"text": whole}


@given(st.recursive(st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text(), st.lists, max_leaves=8))
def test_what_was_read_before_is_read_alike(document: Any) -> None:
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    assert loads(body) == json.loads(body)


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "1.7976931348623159e308"])
def test_a_number_beyond_a_double_is_its_own_text(number: str) -> None:
    assert loads(f'{{"a":[{number},"{number}",1]}}'.encode()) == {"a": [number, number, 1]}


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a":"\\ud83d', b"[NaN]", b"[Infinity]", b"1e400x", b"[1e400", b'"\xff"', b"01"]
)
def test_what_is_not_json_stays_unreadable(body: bytes) -> None:
    with pytest.raises(ValueError, match="column"):
        loads(body)
