"""Invariants 1 and 3 for code from outside: whatever a plug-in's provider raises or gives, what can't be verified is refused,
and what is verified is kept. No process ends, so no other source has the harm.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from replay.targets.document import HttpTarget
from replay.targets.request import Unsendable, request_of
from schemas.envelope import Record
from schemas.errors import Misconfigured, RejectedDelivery
from schemas.masking import describe
from schemas.providers import (
    PROVIDERS,
    answer_handshake,
    check_secrets,
    conceal,
    fingerprint_of,
    identify,
    verify,
)
from schemas.providers.base import Secrets, Signature, digest_of
from tests.support.hostile import BODY, RAISED, Loud, acme, giving, named, raising, record_of
from tests.support.records import verified
from tests.support.registries import put_back_afterwards

HASH = "sha256:" + hashlib.sha256(BODY).hexdigest()
SECRETS = Secrets(("secret-of-acme",), digest_key=b"key")


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with put_back_afterwards():
        yield


@pytest.mark.parametrize("fault", RAISED)
@pytest.mark.parametrize("step", ["parse", "identify"])
def test_whatever_identify_raises_the_delivery_is_kept_under_the_hash_of_its_body(step: str, fault: str) -> None:
    identity = identify(acme(**{step: raising(fault)}), verified("shop", "stripe", BODY))
    assert (identity.record_id, identity.type) == (HASH, "acme.unparsable")


def test_a_body_that_identify_can_not_read_keeps_the_type_that_is_read() -> None:
    provider = acme(identify=raising("exit"), event_type=lambda payload: payload["type"])
    assert identify(provider, verified("shop", "stripe", BODY))[:2] == (HASH, "acme.order.paid")
    deaf = acme(identify=raising("exit"), event_type=raising("exit"), fingerprint=raising("exit"))
    assert identify(deaf, verified("shop", "stripe", BODY))[:2] == (HASH, "acme.unparsable")


@pytest.mark.parametrize(
    "given",
    [
        None,
        "evt_1",
        (1, 2, 3, 4),
        named(record_id=7),
        named(record_id=""),
        named(record_id="evt\0"),
        named(record_id="evt\ud800"),
        named(record_id="evt\n1"),
        named(type=None),
        named(type="acme." + "x" * 600),
        named(type="acme.\0"),
        named(type="stripe.order.paid"),
        named(occurred_at="yesterday"),
        named(fingerprint="x" * 32),
        named(fingerprint=b"short"),
    ],
    ids=repr,
)
def test_an_identity_that_no_record_can_have_is_none(given: Any) -> None:
    identity = identify(acme(identify=giving(given)), verified("shop", "stripe", BODY))
    assert (identity.record_id, identity.type) == (HASH, "acme.unparsable")


@pytest.mark.parametrize("fault", RAISED)
def test_the_dedupe_window_reads_a_record_whose_fingerprint_can_not_be_made(fault: str) -> None:
    """It reads the records of every source when the ingress starts."""
    PROVIDERS["acme"] = acme(identify=giving(named()))
    one = record_of()
    found = Record.decode(one.topic, one.partition, one.offset, one.timestamp, one.headers, one.value)
    for changes in ({"fingerprint": raising(fault)}, {"parse": raising(fault)}, {"fingerprint": giving("text")}):
        PROVIDERS["acme"] = acme(**changes)
        assert fingerprint_of(found) == digest_of("evt_1")


def refusal(function: Callable[[], object]) -> RejectedDelivery:
    with pytest.raises(RejectedDelivery) as refused:
        function()
    return refused.value


@pytest.mark.parametrize("fault", RAISED)
def test_whatever_verify_raises_the_delivery_is_refused_and_the_cause_is_known(fault: str) -> None:
    delivery = verified("shop", "stripe", BODY).delivery
    refused = refusal(lambda: verify(acme(verify=raising(fault)), delivery, SECRETS, 0))
    assert (refused.rejection, refused.status) == ("verification_failed", 503)
    assert refused.__cause__ is not None
    assert describe(refused.__cause__)


@pytest.mark.parametrize(
    "held",
    [
        True,
        None,
        "yes",
        (0, "signed", None),
        Signature(1),
        Signature(-1),
        Signature(True),
        Signature("0"),  # type: ignore[arg-type]
        Signature(0, "released"),
        Signature(0, "acme"),  # type: ignore[arg-type]
        Signature(0, "signed", 7),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_what_is_no_signature_proves_nothing(held: Any) -> None:
    delivery = verified("shop", "stripe", BODY).delivery
    assert refusal(lambda: verify(acme(verify=giving(held)), delivery, SECRETS, 0)).rejection == "verification_failed"


def test_what_verify_refuses_is_refused_as_it_says() -> None:
    def missing(*_: object) -> Signature:
        raise RejectedDelivery("signature_missing")

    delivery = verified("shop", "stripe", BODY).delivery
    assert refusal(lambda: verify(acme(verify=missing), delivery, SECRETS, 0)).rejection == "signature_missing"


@pytest.mark.parametrize("signed_at", [0, -3.5, 10**15, float("nan"), float("inf"), 10**400, "now", True, ()], ids=repr)
def test_a_time_that_no_clock_can_have_is_not_believed(signed_at: Any) -> None:
    def untimely(*_: object) -> Signature:
        raise RejectedDelivery("timestamp_outside_tolerance", signed_at=signed_at)

    delivery = verified("shop", "stripe", BODY).delivery
    refused = refusal(lambda: verify(acme(verify=untimely), delivery, SECRETS, 0))
    is_time = signed_at in (0, -3.5, 10**15)
    expected = ("timestamp_outside_tolerance", signed_at) if is_time else ("verification_failed", None)
    assert (refused.rejection, refused.signed_at) == expected


@pytest.mark.parametrize("mask", [*map(raising, RAISED), giving(None), giving((None, "token")), giving(("x", "token"))])
def test_a_token_that_can_not_be_masked_is_on_no_topic(mask: Any) -> None:
    delivery = verified("shop", "stripe", BODY).delivery
    provider = acme(mask_token=mask, verify=giving(Signature(0)))
    assert refusal(lambda: conceal(provider, delivery, SECRETS)).rejection == "verification_failed"
    assert refusal(lambda: verify(provider, delivery, SECRETS, 0)).rejection == "verification_failed"


def test_masking_changes_no_more_than_body_and_headers() -> None:
    delivery = verified("shop", "stripe", BODY).delivery
    provider = acme(mask_token=lambda one: (one._replace(source="stripe", body=b"***", arrived_ms=0), "token"))
    masked = conceal(provider, delivery, SECRETS)
    assert masked == delivery._replace(body=b"***", token_digest=masked.token_digest)


def test_an_identity_of_a_plug_ins_own_types_loses_the_code_that_they_bring() -> None:
    given = named(record_id=Loud("evt_1"), type=Loud("acme.order.paid"))
    found = identify(acme(identify=giving(given)), verified("shop", "stripe", BODY))
    assert (found.record_id, found.type) == ("evt_1", "acme.order.paid")
    assert {type(found.record_id), type(found.type)} == {str}


def test_a_masked_delivery_of_a_plug_ins_own_types_loses_the_code_that_they_bring() -> None:
    delivery = verified("shop", "stripe", BODY).delivery
    masked = conceal(
        acme(mask_token=lambda one: (one._replace(headers={"x-acme": Loud("seven")}), Loud("token"))),
        delivery,
        SECRETS,
    )
    assert masked.headers == {"x-acme": "seven"}
    assert {type(text) for pair in masked.headers.items() for text in pair} == {str}


@pytest.mark.parametrize("handshake", [*map(raising, RAISED), giving(7), giving(None)])
def test_a_handshake_that_fails_is_refused(handshake: Any) -> None:
    refused = refusal(lambda: answer_handshake(acme(answer_handshake=handshake), "", SECRETS))
    assert refused.rejection == "verification_failed"


@pytest.mark.parametrize("fault", RAISED)
def test_a_secret_that_can_not_be_checked_is_misconfigured_and_not_quoted(fault: str) -> None:
    with pytest.raises(Misconfigured, match="secret 1") as refused:
        check_secrets(acme(check_secret=raising(fault)), SECRETS)
    assert SECRETS.values[0] not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        *({"sign": raising(fault)} for fault in RAISED),
        *({"present_token": raising(fault)} for fault in RAISED),
        {"present_token": giving("text")},
        {"sign": giving(None)},
        {"sign": giving({"x": 7})},
        {"sign_as": giving({7: "x"})},
    ],
)
def test_a_record_that_can_not_be_signed_anew_can_not_be_sent(changes: dict[str, Any]) -> None:
    PROVIDERS["acme"] = acme(identify=giving(named()), **changes)
    target = HttpTarget(url="http://127.0.0.1:9/hooks", resign=True)
    with pytest.raises(Unsendable):
        request_of(record_of(), target, "replay", {"shop": "secret"}, int(time.time()))
