"""What an operator is shown of a record: its shape, and headers without credentials."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.redaction import (
    AMOUNTS,
    IDS,
    KINDS,
    TIMES,
    redacted_body,
    redacted_headers,
    revealed_body,
    revealed_headers,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"
FORM = "application/x-www-form-urlencoded"


def shape(document: Any) -> Any:
    return redacted_body(json.dumps(document).encode(), "application/json")["shape"]


def test_a_body_keeps_its_structure_and_the_values_of_safe_names() -> None:
    said = {
        "id": "evt_1NG8Du2eZvKYlo2CUI79vXWy",
        "type": "invoice.paid",
        "created": 1760000000,
        "livemode": False,
        "data": {"object": {"amount": 4900, "currency": "eur", "customer_email": "zoe@example.com", "lines": [1, "x"]}},
        "note": "",
        "other": None,
    }
    assert shape(said) == {
        **said,
        "data": {
            "object": {
                "amount": 4900,
                "currency": "eur",
                "customer_email": "<text 15>",
                "lines": ["<number>", "<text 1>"],
            }
        },
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("hello Zoe", "<text 9>"),
        ("zoe@example.com", "z•••@example.com"),
        ("+33612345678", "+33•••5678"),
        (33612345678, "33•••5678"),
        ("abc33612345678def", "abc33•••5678def"),
        (1760000000, 1760000000),
        (["hello", {"id": "x"}], ["<text 5>", {"id": "x"}]),
        ("Thu, 26 Jun 2025 09:16:20 +0000", "Thu, 26 Jun 2025 09:16:20 +0000"),
        ("x" * 201, "<text 201>"),
    ],
)
def test_a_safe_name_shows_a_plain_word_and_nothing_personal(value: Any, shown: Any) -> None:
    for name in ("id", "timestamp", "MessageStatus"):
        assert shape({name: value}) == {name: shown}


def test_names_that_are_no_names_are_hidden_and_stay_distinct() -> None:
    said = {"zoe martin": 1, "leo martin": 2, "+33612345678": 3, "33612345678": 4, "wa_id": 5}
    assert shape(said) == {
        "<name 10>": "<number>",
        "<name 10> #2": "<number>",
        "+33•••5678": "<number>",
        "33•••5678": "<number>",
        "wa_id": "<number>",
    }


def test_a_form_shows_its_names() -> None:
    body = (FIXTURES / "twilio/sms.inbound.form").read_bytes().strip()
    found = redacted_body(body, FORM + "; charset=utf-8")
    assert found["format"] == "form"
    assert ["From", "<text 12>"] in found["shape"]
    assert ["MessageSid", "SM1f0e8ae6ade43cb3c0ce4525424e404f"] in found["shape"]
    assert ["SmsStatus", "received"] in found["shape"]


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"hello Zoe, +33612345678", "application/json"),
        (b"hello Zoe", FORM),
        (b"\xff\xfe", ""),
        (b'{"a": None}', "application/json"),
        (b"&".join(b"a=1" for _ in range(1001)), FORM),
    ],
)
def test_what_is_neither_json_nor_a_form_is_its_length_and_digest(body: bytes, content_type: str) -> None:
    assert redacted_body(body, content_type) == {
        "format": "opaque",
        "bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
    }


@pytest.mark.parametrize("value", [b"NaN", b"1e999", b'"\\ud800"', b'"\xff"'])
def test_a_body_that_only_the_forgiving_parser_reads_shows_its_shape(value: bytes) -> None:
    found = redacted_body(b'{"id": "evt_1", "a": ' + value + b"}", "application/json")
    assert found["shape"]["id"] == "evt_1"
    assert found["shape"]["a"].startswith("<text ")


def test_a_body_nested_deeper_than_python_can_follow_is_cut() -> None:
    body = b"[" * 900 + b"]" * 900
    assert "<deeper>" in json.dumps(redacted_body(body, "")["shape"])
    assert redacted_body(b"", "") == {"format": "empty", "bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}


def test_a_revealed_body_is_the_whole_of_it() -> None:
    assert revealed_body("zoé".encode())["text"] == "zoé"
    assert revealed_body(b"\xff")["base64"] == "/w=="


HEADERS = {
    "ce_id": "SM1:sent",
    "ce_time": "2026-11-21T04:28:47+00:00",
    "http_remote": "203.0.113.7",
    "http_path": "/webhooks/twilio/+33612345678",
    "http_query": "From=%2B33612345678&CallSid=CA1&access_token=abc",
    "http_x-goog-resource-uri": "https://www.googleapis.com/calendar/v3/calendars/zoe%40example.com/events",
}
CREDENTIALS = {
    "http_stripe-signature": "t=1,v1=ab",
    "http_x-goog-channel-token": "***",
    "http_authorization": "Bearer x",
    "redrive_token_digest": "ab" * 32,
}


def test_headers_show_where_a_record_came_from_and_not_from_whom() -> None:
    assert redacted_headers({**HEADERS, **CREDENTIALS}) == {
        **HEADERS,
        "http_path": "/webhooks/twilio/+33•••5678",
        "http_query": "From=<text 12>&CallSid=CA1&access_token=•••",
        "http_x-goog-resource-uri": "https://www.googleapis.com/calendar/v3/calendars/z•••%40example.com/events",
        **dict.fromkeys(CREDENTIALS, "•••"),
    }


def test_credentials_are_masked_also_for_who_may_see_everything() -> None:
    assert revealed_headers({**HEADERS, **CREDENTIALS}) == {
        **HEADERS,
        "http_query": "From=%2B33612345678&CallSid=CA1&access_token=•••",
        **dict.fromkeys(CREDENTIALS, "•••"),
    }


def test_the_documentation_lists_the_names_whose_values_are_shown() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/redaction.md").read_text()
    for names in (KINDS, IDS, TIMES, AMOUNTS):
        assert " ".join(f"`{name}`" for name in names.split()) in page
