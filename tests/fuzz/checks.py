"""What must hold of any input: a verdict of the error taxonomy, never another exception. Shared by the fuzzer, by the
replay of its corpus, and by the property tests.
"""

from processors.fold import combine, fold_record
from schemas.envelope import Delivery, Record, VerifiedDelivery, record_headers
from schemas.errors import RejectedDelivery
from schemas.providers import PROVIDERS, fingerprint_of, identify, verify
from tests.fuzz.request import NOW, Request
from tests.fuzz.signing import SECRETS, signed
from tests.support.records import FakeRecord

MORE = b"&redrive=1"


def check_verify(name: str, delivery: Delivery) -> bool:
    """Invariant 3: it verifies or is rejected; and what verifies does so no more with another body."""
    if not _verifies(name, delivery):
        return False
    if PROVIDERS[name].mask_token is None:
        assert not _verifies(name, delivery._replace(body=delivery.body + MORE)), "the body is not what was signed"
    return True


def _verifies(name: str, delivery: Delivery) -> bool:
    try:
        verify(PROVIDERS[name], delivery, SECRETS[name], NOW)
    except RejectedDelivery:
        return False
    return True


def check_signed(name: str, request: Request) -> None:
    """A signed body of any kind is named, kept byte for byte, read back as the same, and folded or dead."""
    delivery = signed(name, request).delivery(name)
    try:
        verified = verify(PROVIDERS[name], delivery, SECRETS[name], NOW)
    except RejectedDelivery:
        assert may_be_refused(name, delivery), "a signature of the provider's own counts"
        return
    check_verified(name, verified)


def may_be_refused(name: str, delivery: Delivery) -> bool:
    """Aircall's token is in a readable body, Google's headers say a known state, Twilio's forms have an end."""
    return name in ("aircall", "google_calendar") or (name == "twilio" and delivery.body.count(b"&") >= 1000)


def check_verified(name: str, verified: VerifiedDelivery) -> None:
    delivery, provider = verified.delivery, PROVIDERS[name]
    if provider.mask_token is not None:
        assert SECRETS[name].values[0].encode() not in delivery.body, "a credential reaches the log"
    identity = identify(provider, verified)
    assert identity.record_id
    assert len(identity.fingerprint) == 32
    assert "\0" not in identity.record_id + identity.type
    headers = record_headers(verified, identity, provider.kept_headers)
    kept = FakeRecord(
        f"webhooks.{name}", 0, 0, delivery.arrived_ms, identity.record_id.encode(), delivery.body, headers
    )
    read = Record.decode(kept.topic, kept.partition, kept.offset, kept.timestamp, kept.headers, kept.value)
    assert read.body == delivery.body
    # What a restart reads back from the log is what the ingress knew: else a duplicate would be appended.
    assert (read.record_id, fingerprint_of(read)) == (identity.record_id, identity.fingerprint)
    check_fold(kept, frozenset({"unparsable", "invalid_payload"}))


def check_fold(kept: FakeRecord, reasons: frozenset[str]) -> None:
    """Invariant 9: rows, and a dead letter, for one of these reasons, for what has none."""
    folded = fold_record(kept)
    for letter in folded.letters:
        assert letter.reason in reasons, f"{letter.reason}: {letter.message}"
    once, twice = combine([folded]), combine([folded, folded])
    assert (once.tables, once.events) == (twice.tables, twice.events), "a record folded twice is folded once"
