"""Invariant 9: what the log may hold of text and Postgres may not is represented, wherever it stands."""

import json
import re
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.fold import fold_record
from processors.store import Span, Store
from schemas.text import loads
from tests.support.cases import KeptLetters
from tests.support.damage import appended, batch_of, texts
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


BAD: dict[str, tuple[bytes, Any]] = {
    "a byte that is no UTF-8": (b'{"a":"x\xffy"}', {"a": "x\ufffdy"}),
    "the same in a name": (b'{"\xff":1}', {"\ufffd": 1}),
    "half a surrogate as bytes": (b'{"a":"\xed\xa0\xbd"}', {"a": "\ufffd" * 3}),
    "half a surrogate as an escape beside it": (b'{"a":"\\ud83d\xff"}', {"a": "\ufffd\ufffd"}),
    "a byte before the end of a text": (b'{"a":"\xc3"}', {"a": "\ufffd"}),
    "a mark of the byte order": (b'\xef\xbb\xbf{"a":"\xc3\xa9"}', {"a": "é"}),
    "the mark within a text": (b'{"a":"\xef\xbb\xbf","b":NaN}', {"a": "\ufeff", "b": "NaN"}),
    "words that are no numbers": (b'[NaN,Infinity,-Infinity,"NaN",{"NaN":NaN}]', ["NaN", "Infinity", "-Infinity", "NaN", {"NaN": "NaN"}]),
    "such a word in a text": (b'["a NaN \\" Infinity",1e400]', ['a NaN " Infinity', "1e400"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_one_text_or_number_is_not_allowed_to_be_is_represented(name: str) -> None:
    body, expected = BAD[name]
    assert loads(body) == expected


@given(st.binary(max_size=12), st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_bytes_in_a_text_cost_nothing_but_themselves(raw: bytes, mark: bytes) -> None:
    inner = re.sub(rb'[\0-\x1f"\\]', b"", raw)
    assert loads(mark + b'{"bad":"' + inner + b'","good":1}') == {"bad": inner.decode("utf-8", "replace"), "good": 1}


BATCHES = {
    "whatsapp": lambda odd: batch_of(
        "whatsapp",
        [
            {
                "from": "33612345678",
                "id": f"wamid.{n}",
                "timestamp": "1795950000",
                "type": "text",
                "text": {"body": text},
            }
            for n, text in enumerate(["STOP", odd, "STOP"])
        ],
    ),
    "sendgrid": lambda odd: json.dumps(
        [
            {"sg_event_id": str(n), "sg_message_id": f"m{n}", "event": "delivered", "timestamp": 1795950000, "x": text}
            for n, text in enumerate(["a", odd, "b"])
        ]
    ).encode(),
}


@pytest.mark.parametrize("provider", BATCHES)
@pytest.mark.parametrize("odd", [b'"\xff"', b'"\xed\xa0\xbd"', b'"\\ud83d"', b"NaN", b"1e400"])
def test_one_bad_byte_does_not_cost_the_batch(provider: str, odd: bytes) -> None:
    if provider == "whatsapp" and not odd.startswith(b'"'):
        odd = b'"",' + b'"x":' + odd
    body = BATCHES[provider]("PLACE").replace(b'"PLACE"', odd)
    for whole in (body, b"\xef\xbb\xbf" + body):
        found = fold_record(record(f"webhooks.{provider}", provider, whole))
        assert ([event.status for event in found.events], found.letters) == (["applied"] * 3, ())


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a":"\\ud83d', b"1e400x", b"[1e400", b"01", b"\xff", b"[\xff]", b"nan", b"[NaNs]", b"[-]", b"[+Infinity]",
     b'["NaN', b'["\xff', b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf[]", b"[1NaN]", b'["a"NaN]', "[]".encode("utf-16")],
)  # fmt: skip
def test_what_is_not_json_stays_unreadable(body: bytes) -> None:
    with pytest.raises(ValueError, match="column"):
        loads(body)
