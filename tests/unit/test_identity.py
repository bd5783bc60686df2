"""Identities that a hostile or careless sender chooses: bounded, the same for every retry, the same in log and index."""

import json
from dataclasses import replace
from typing import Any

import pytest

from processors import projections
from processors.fold import fold_record
from processors.outcome import Folded
from processors.projections.base import Event
from schemas.envelope import Identity, Record
from schemas.errors import RejectedDelivery
from schemas.providers import PROVIDERS, fingerprint_of, identify, read_payload, verify
from schemas.providers.base import MAX_ID_CHARACTERS, Secrets, digest_of, event_id
from tests.support.fixtures import READABLE, of_fixture
from tests.support.folding import letter_of
from tests.support.records import FakeRecord, record, stripe_event, verified
from tests.support.registries import put_back_afterwards

LONG = "evt_" + "x" * 3000
JSON_FIXTURES = [
    next(name for name in READABLE if name.startswith(provider + "/"))
    for provider in ("aircall", "hubspot", "retell", "sendgrid", "standardwebhooks", "stripe", "telnyx", "whatsapp")
]


def stripe(event: str, **extra: Any) -> bytes:
    return json.dumps(
        {**json.loads(stripe_event(event, "invoice.paid", {"id": "in_1", "status": "paid"})), **extra}
    ).encode()


def decoded(one: FakeRecord) -> Record:
    return Record.decode(one.topic, one.partition, one.offset, one.timestamp, one.headers, one.value)


def folded(one: FakeRecord) -> Folded:
    found = fold_record(one)
    assert not found.letters, found
    return found


def test_an_id_is_as_it_was_up_to_the_limit_and_a_hash_of_itself_beyond() -> None:
    longest = "e" * MAX_ID_CHARACTERS
    assert event_id(longest) == longest
    assert event_id(longest + "e").startswith("id-sha256:")
    assert event_id(longest + "e") != event_id(longest + "f")
    # Percent-encoding counts, and no part can imitate a hash.
    assert event_id("é" * 100).startswith("id-sha256:")
    assert event_id("id-sha256:0") == "id-sha256%3A0"


def test_a_retry_of_an_event_with_a_long_id_has_its_identity_and_the_projection_names_it_alike() -> None:
    first, retry = (record("webhooks.shop", "stripe", stripe(LONG, pending_webhooks=n)) for n in (2, 1))
    one, other = decoded(first), decoded(retry)
    assert one.record_id == other.record_id == event_id(LONG)
    assert fingerprint_of(one) == fingerprint_of(other)
    assert [event.event_id for event in folded(first).events] == [one.record_id]


def test_long_ids_in_a_batch_name_each_event_alike_whatever_the_batch() -> None:
    def batch(*ids: str) -> FakeRecord:
        messages = [{"id": name, "from": "33600000000", "timestamp": "1760000000", "type": "text"} for name in ids]
        body = {"entry": [{"changes": [{"field": "messages", "value": {"messages": messages}}]}]}
        return record("webhooks.shop", "whatsapp", json.dumps(body).encode())

    one, other = folded(batch(LONG, "wamid.1")), folded(batch("wamid.2", LONG))
    assert one.events[0].event_id == other.events[1].event_id == event_id(LONG)
    assert decoded(batch(LONG, "wamid.1")).record_id == decoded(batch("wamid.1", LONG)).record_id


def test_a_plug_ins_long_id_is_bounded_in_the_log_and_in_the_index() -> None:
    def identify_acme(payload: Any, signed_id: str | None) -> Identity:
        return Identity(payload["id"], "acme.event", None, digest_of(payload))

    with put_back_afterwards():
        PROVIDERS["acme"] = replace(PROVIDERS["stripe"], name="acme", identify=identify_acme)
        projections.PROJECTIONS["acme"] = lambda _, payload: [Event(payload["id"], "acme.event", None)]
        found = folded(record("webhooks.shop", "acme", stripe(LONG)))
    assert found.events[0].event_id == found.events[0].record_id == event_id(LONG)


def nested(name: str, depth: int) -> FakeRecord:
    """A delivery of a fixture with one field more: lists in lists."""
    original = of_fixture(name)
    body = json.loads(original.value or b"")
    (body[0] if isinstance(body, list) else body)["extra"] = "DEEP"
    raw = json.dumps(body).replace('"DEEP"', "[" * depth + "]" * depth).encode()
    signed_id = "msg_1" if name.startswith("standardwebhooks") else None
    provider = name.partition("/")[0]
    return record(original.topic, provider, raw, signed_id=signed_id)


@pytest.mark.parametrize("name", JSON_FIXTURES)
def test_what_is_nested_too_deep_to_be_digested_is_recorded_under_its_bytes_and_read(name: str) -> None:
    readable = nested(name, 240)
    assert not decoded(readable).type.endswith(".unparsable")
    for depth in (260, 900):
        one = nested(name, depth)
        found = decoded(one)
        assert (found.record_id[:7], found.type.rpartition(".")[2]) == ("sha256:", "unparsable")
        assert fingerprint_of(found) == digest_of(found.record_id)
        assert folded(one).rows == folded(readable).rows


@pytest.mark.parametrize("name", JSON_FIXTURES)
def test_what_is_nested_too_deep_to_be_parsed_is_one_dead_letter_under_its_bytes(name: str) -> None:
    one = nested(name, 2000)
    found = decoded(one)
    assert (found.record_id[:7], found.type.rpartition(".")[2]) == ("sha256:", "unparsable")
    dead = letter_of(one)
    assert (dead.reason, dead.event.event_id) == ("unparsable", found.record_id)
    assert fingerprint_of(found) == digest_of(found.record_id)


def test_bodies_that_parse_equal_are_one_content() -> None:
    """Numbers beyond 64 bits are floats, and of a repeated key the last one counts."""
    contents = [
        (b'{"id":"evt_1","n":18446744073709551617}', b'{"id":"evt_1","n":18446744073709551999}'),
        (b'{"id":"evt_1","n":1,"n":2}', b'{"id":"evt_1","n":3,"n":2}'),
    ]
    for one, other in contents:
        identities = [identify(PROVIDERS["stripe"], verified("shop", "stripe", body)) for body in (one, other)]
        assert identities[0] == identities[1]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("values", [(), ("",), (" ", "\t")])
def test_a_source_with_blank_secrets_only_is_misconfigured(provider: str, values: tuple[str, ...]) -> None:
    delivery = verified("shop", provider, b"{}").delivery
    with pytest.raises(RejectedDelivery) as raised:
        verify(PROVIDERS[provider], delivery, Secrets(values, digest_key=b"key"), 1_760_000_000)
    assert raised.value.rejection == "misconfigured"


@pytest.mark.parametrize("host", ["[", "a\u2100b", "[::1", "x]"])
def test_a_host_that_is_no_address_is_refused_like_any_wrong_signature(host: str) -> None:
    delivery = verified("shop", "twilio", b'{"a":1}', headers={"content-type": "application/json"}).delivery
    signed = delivery._replace(
        url=f"http://{host}/webhooks/shop", headers={**delivery.headers, "x-twilio-signature": "s"}
    )
    with pytest.raises(RejectedDelivery) as raised:
        verify(PROVIDERS["twilio"], signed, Secrets(("token",)), 1_760_000_000)
    assert raised.value.rejection == "signature_mismatch"


def test_every_fixture_has_an_id_far_below_the_limit() -> None:
    for name in READABLE:
        one = decoded(of_fixture(name))
        read_payload(one)
        ids = [one.record_id, *(event.event_id for event in folded(of_fixture(name)).events)]
        assert max(len(found) for found in ids) * 3 < MAX_ID_CHARACTERS


@pytest.mark.parametrize(
    ("header", "value", "said"),
    [
        ("ce_source", b"/webhooks/other", "another source than the topic's"),
        ("ce_source", b"/webhooks/", "another source than the topic's"),
        ("redrive_provenance", b"trusted", "redrive_provenance is not one of signed"),
        ("redrive_provenance", b"quarantined", "redrive_provenance is not one of signed"),
        ("redrive_provenance", b"operator", "redrive_provenance is operator, and the topic a provider's"),
    ],
)
def test_whoever_may_write_to_one_topic_says_nothing_for_another_source(header: str, value: bytes, said: str) -> None:
    sound = record("webhooks.shop", "stripe", stripe("evt_1"))
    forged = replace(sound, headers=[(name, value if name == header else was) for name, was in sound.headers])
    letter = letter_of(forged)
    assert (letter.reason, said in str(letter)) == ("bad_envelope", True)
