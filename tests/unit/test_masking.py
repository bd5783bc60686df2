"""What may be read in a log or on an operator's screen: no phone number, no e-mail address, no secret, no quoted value."""

import asyncpg
import pytest
from aiokafka.errors import KafkaConnectionError

from schemas.errors import PoisonRecord, Unavailable
from schemas.masking import describe, mask_id, mask_text
from schemas.providers.base import Unparsable, wrong_shape

PERSONAL = {
    "+33612345678": "+33•••5678",
    "+33 6 12 34 56 78": "+33•••5678",
    "+33 (0)6-12-34-56-78": "+33•••5678",
    "tel:+1-415-555-0123": "tel:+14•••0123",
    "whatsapp:+33612345678": "whatsapp:+33•••5678",
    "From=%2B33612345678&NumMedia=0": "From=%2B33•••5678&NumMedia=0",
    "%252B33%206%2012%2034%2056%2078": "%252B33•••5678",
    "\u202a+33\xa06\xa012\xa034\xa056\xa078\u202c": "\u202a+33•••5678\u202c",
    "(415) 555-0123": "41•••0123",
    "call 06 12 34 56 78 now": "call 06•••5678 now",
    "33612345678": "33•••5678",
    "user33612345678": "user33•••5678",
    "evt_33612345678": "evt_33•••5678",
    "5551234": "5•••34",
    "٣٣٦١٢٣٤٥٦٧٨": "٣٣•••٥٦٧٨",
    "zoe@example.com": "z•••@example.com",
    "z@example.com": "•••@example.com",
    "'zoe.martin@example.com'": "'z•••@example.com'",
    "o'brien@example.com": "o•••@example.com",
    '"zoe martin"@example.com': "z•••@example.com",
    "zoe%40example.com": "z•••%40example.com",
    "bounce+zoe=example.org@lists.example": "b•••@lists.example",
    "/calendars/zoe@example.com/events": "/calendars/z•••@example.com/events",
    "sip:zoe@example.com:5060": "sip:z•••@example.com:5060",
    "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQTRBNjU5OUFFRTAzODEwMTQ0RgA%3D:read": "wamid.•••EwMTQ0RgA%3D:read",
    "Bearer abcdef.ghi": "Bearer •••",
    "https://x/?token=abcdef&page=2": "https://x/?token=•••&page=2",
    '{"client_secret": "abcdef"}': '{"client_secret": "•••"}',
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw": "whsec_•••",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.s1gn": "•••",
}
HARMLESS = (
    "2026-11-21T04:28:47.123456+00:00",
    "2026-11-21 04:28",
    "Thu, 26 Jun 2025 09:16:20 +0000",
    "1760000000",
    "1760000000123",
    "1760000000.123",
    "webhooks.stripe/7/123456789",
    "Connect call failed ('192.168.100.200', 9092)",
    "7de74477-79e4-4af7-aa75-a05b4e78ee6f",
    "12345678-1234-1234-1234-123456789012",
    "evt_1NG8Du2eZvKYlo2CUI79vXWy",
    "CA5ef8732a3c49700934481addd5ce1659:completed",
    "sha256:" + "0123456789abcdef" * 4,
    "StripeSubscription.items.data.0.price: Field required",
)


@pytest.mark.parametrize(("text", "masked"), PERSONAL.items())
def test_what_is_personal_or_secret_is_masked_and_can_be_told_apart(text: str, masked: str) -> None:
    assert mask_text(text) == masked
    assert mask_text(masked) == masked


@pytest.mark.parametrize("text", HARMLESS)
def test_times_locations_addresses_and_random_ids_are_left_alone(text: str) -> None:
    assert mask_text(text) == text
    assert " " in text or mask_id(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("62515:12345:1246965:3816279340:1462216307945:email", "62515:12345:1246965:3816279340:1462216307945:email"),
        ("call.ended:812345678", "call.ended:812345678"),
        ("SM1:%2B33612345678", "SM1:%2B33•••5678"),
        ("zoe%40example.com:sent", "z•••%40example.com:sent"),
        ("33612345678", "33•••5678"),
        ("hello%20Zoe:sent", "<text 16>"),
    ],
)
def test_plain_numbers_in_an_id_of_several_parts_are_the_providers_own_ids(text: str, masked: str) -> None:
    assert mask_id(text) == masked


@pytest.mark.parametrize("text", ["a" * 300_000, "1" * 300_000, "1 " * 150_000, "%25" * 100_000, "-token" * 50_000])
@pytest.mark.timeout(20)
def test_no_text_takes_long_to_mask(text: str) -> None:
    mask_text(text)


def refused(code: str, message: str, **fields: str) -> BaseException:
    return asyncpg.PostgresError.new({"C": code, "M": message, **fields})


def test_postgres_errors_name_the_rule_and_not_the_values() -> None:
    detail = "Failing row contains (+33612345678, zoe@example.com)."
    named = {"D": detail, "t": "payments", "c": "amount"}
    assert describe(refused("23502", "null value violates not-null constraint", **named)) == (
        "null value violates not-null constraint (23502, payments.amount)"
    )
    assert describe(refused("22P02", 'invalid input syntax for type integer: "hello Zoe"')) == (
        "invalid input syntax for type integer (22P02)"
    )
    # What the client refuses itself.
    client = asyncpg.DataError("invalid input for query argument $7: ['hello Zoe'] (value out of int64 range)")
    assert describe(client) == "invalid input for query argument $7 (22000)"
    assert describe(refused("28P01", 'password authentication failed for user "redrive"')) == (
        'password authentication failed for user "redrive" (28P01)'
    )


def test_an_unexpected_error_says_its_type_and_place_and_nothing_of_what_it_quotes() -> None:
    try:
        int("hello Zoe")
    except ValueError as error:
        said = describe(error)
    assert said.startswith("ValueError at unit/test_masking.py:")
    assert "Zoe" not in said


def test_our_own_errors_and_those_about_connections_say_what_they_say() -> None:
    assert describe(Unavailable("Kafka does not answer")) == "Kafka does not answer"
    assert describe(PoisonRecord("unparsable", "sent by zoe@example.com")) == "sent by z•••@example.com"
    assert describe(ConnectionRefusedError(111, "Connection refused")) == (
        "ConnectionRefusedError: [Errno 111] Connection refused"
    )
    assert "9092" in describe(KafkaConnectionError("no broker at 127.0.0.1:9092"))
    assert describe(TimeoutError()) == "TimeoutError"
    assert wrong_shape(Unparsable("not a list of events")) == "not a list of events"
    assert "Zoe" not in wrong_shape(KeyError("Zoe"))
