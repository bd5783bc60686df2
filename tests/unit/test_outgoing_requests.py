"""The requests that a target gets."""

from typing import Any

import pytest
from pydantic import ValidationError

from deploy.embedded.dev_secrets import development_secrets
from deploy.samples import SAMPLES
from replay.targets.document import HttpTarget
from replay.targets.request import Outgoing, Unsendable, request_of
from schemas.envelope import Delivery
from schemas.providers import PROVIDERS, identify, verify
from schemas.providers.base import Secrets
from schemas.settings import FileConfig
from tests.support.records import FakeRecord, record, stripe_event

NOW = 1_800_000_000
REPLAY = "0b7c"
AT_HOME = HttpTarget("http://localhost:3000/hooks/")
INVOICE = stripe_event("evt_1", "invoice.paid", {"id": "in_1"})


def logged(source: str = "stripe", provider: str = "stripe", body: bytes = INVOICE, **parts: Any) -> FakeRecord:
    return record(f"webhooks.{source}", provider, body, offset=7, partition=2, **parts)


def header(found: Outgoing, name: str) -> str | None:
    return dict(found.headers).get(name)


def test_a_request_is_what_it_was_but_for_where_it_goes() -> None:
    kept = {"content-type": "application/json; charset=utf-8", "stripe-signature": "t=1,v1=ab"}
    one = logged(headers=kept, path="/a%2Fb//c")
    one.headers = [*one.headers, ("http_query", b"x=1&y=%20\xc3\xa9")]
    found = request_of(one, AT_HOME, REPLAY, {}, NOW)
    assert found.method == "POST"
    assert found.url == "http://localhost:3000/hooks/a%2Fb//c?x=1&y=%20%C3%A9"
    assert found.body == one.value
    assert dict(found.headers) == {**kept, "redrive-replay": REPLAY, "redrive-record": "webhooks.stripe/2/7"}


def test_the_path_is_that_of_the_target_where_there_was_none_behind_the_source() -> None:
    for target, url in ((AT_HOME, "http://localhost:3000/hooks/"), (HttpTarget("http://[::1]:1"), "http://[::1]:1/")):
        assert request_of(logged(), target, REPLAY, {}, NOW).url == url


@pytest.mark.parametrize("path", ["/../admin", "/a/..", "/%2e%2E/admin", "/.", "/a/%2e", "/a%2f..%2fb", "/..%5cb"])
def test_no_path_leaves_the_targets(path: str) -> None:
    with pytest.raises(Unsendable):
        request_of(logged(path=path), AT_HOME, REPLAY, {}, NOW)


def test_what_a_path_holds_makes_no_other_request() -> None:
    found = request_of(logged(path="/a?b#c d\r\nHost: x\\y"), AT_HOME, REPLAY, {}, NOW)
    assert found.url == "http://localhost:3000/hooks/a%3Fb%23c%20d%0D%0AHost:%20x%5Cy"


def test_credentials_stay_here() -> None:
    one = logged()
    secret = ["authorization", "Cookie", "proxy-authorization", "x-goog-channel-token", "host", "content-length"]
    one.headers = [*one.headers, *((f"http_{name}", b"s3cret") for name in secret), ("redrive_token_digest", b"ab")]
    found = request_of(one, AT_HOME, REPLAY, {}, NOW)
    assert {name for name, _ in found.headers} == {"content-type", "redrive-replay", "redrive-record"}
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    "headers",
    [
        [("http_x", b"a\r\nHost: x")],
        [("http_x", b"\xff")],
        [("http_a b", b"x")],
        [("http_method", b"CONNECT")],
        [("http_method", b"get / HTTP/1.1")],
        [("ce_id", b"\xff")],
    ],
)
def test_headers_that_make_another_request_of_it_are_not_sent(headers: list[tuple[str, bytes]]) -> None:
    one = logged()
    one.headers = [*one.headers, *headers]
    with pytest.raises(Unsendable):
        request_of(one, AT_HOME, REPLAY, {}, NOW)


def test_a_header_without_a_value_is_none() -> None:
    """Kafka knows such headers; who else writes to the topic may use them."""
    one, bare = logged(), logged()
    bare.headers = [header for header in one.headers if header[0] != "http_path"]
    one.headers = [*bare.headers, ("http_path", None), ("http_stripe-signature", None)]
    assert request_of(one, AT_HOME, REPLAY, {}, NOW) == request_of(bare, AT_HOME, REPLAY, {}, NOW)


def test_a_record_that_is_not_ours_is_not_sent() -> None:
    with pytest.raises(Unsendable):
        request_of(FakeRecord("webhooks.stripe", 0, 0, 0, None, b"x"), AT_HOME, REPLAY, {}, NOW)


KEYS = development_secrets({}, {})
SIGNING = HttpTarget("http://localhost:3000/hooks", resign=True)


def signing_key(name: str) -> str:
    return KEYS[PROVIDERS[name].signing_variable or PROVIDERS[name].secret_variable]


def received(found: Outgoing, name: str) -> Delivery:
    """As the target's own ingress would have it."""
    path, _, query = found.url.removeprefix(SIGNING.origin).partition("?")
    return Delivery(name, found.method, found.url, path, query, dict(found.headers), found.body, "", NOW * 1000)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_target_verifies_what_is_signed_anew_as_the_same_event(name: str) -> None:
    sample = next(SAMPLES[name]("cus_1"))
    headers = {header.lower(): value for header, value in sample.headers.items()}
    headers |= {"content-type": sample.content_type} if sample.content_type else {}
    one = logged(name, name, body=sample.body, path=sample.path, headers=headers, signed_id="msg:ü 1")
    found = request_of(one, SIGNING, REPLAY, {name: signing_key(name)}, NOW)
    secrets = Secrets((KEYS[PROVIDERS[name].secret_variable],), digest_key=b"key")
    held = verify(PROVIDERS[name], received(found, name), secrets, NOW)
    assert identify(PROVIDERS[name], held).record_id.encode() == one.key
    assert header(found, "content-type") == (sample.content_type or None)


def test_old_signatures_go_with_a_new_one() -> None:
    old = ("webhook-id", "webhook-signature", "svix-id", "svix-timestamp", "svix-signature", "x-hubspot-signature")
    for name, body in (("standardwebhooks", b"{}"), ("hubspot", b"[]")):
        one = logged(name, name, body=body, headers={"content-type": "application/json"}, signed_id="msg_1")
        one.headers = [*one.headers, *((f"http_{header}", b"old") for header in old)]
        found = request_of(one, SIGNING, REPLAY, {name: signing_key(name)}, NOW)
        kept = {header for header in old if header in PROVIDERS[name].kept_headers}
        assert kept
        assert not {header for header, value in found.headers if value == "old"} & kept


@pytest.mark.parametrize(
    ("source", "provider", "secrets"),
    [
        ("stripe", "stripe", {}),
        ("shop", "stripe", {"stripe": "whsec_1"}),
        ("telnyx", "telnyx", {"telnyx": KEYS["TELNYX_PUBLIC_KEY"]}),
        ("standardwebhooks", "standardwebhooks", {"standardwebhooks": "not base64 !"}),
    ],
)
def test_nothing_is_signed_with_a_secret_that_was_not_given_for_it(
    source: str, provider: str, secrets: dict[str, str]
) -> None:
    with pytest.raises(Unsendable):
        request_of(logged(source, provider, body=b"{}"), SIGNING, REPLAY, secrets, NOW)


def test_a_secret_that_is_blank_is_none() -> None:
    with pytest.raises(ValidationError):
        FileConfig.model_validate({"replay": {"secrets": {"localhost:3000": {"stripe": " "}}}})
