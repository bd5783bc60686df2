"""Invariant 2: whatever verified, or failed under the wrong secret, verifies again from the headers that Kafka keeps."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.http.whole_request import origin_form
from schemas.envelope import Delivery, called_url, delivery_of, quarantine_headers, record_headers
from schemas.errors import RejectedDelivery
from schemas.providers import PROVIDERS, identify, verify
from schemas.providers.base import Secrets
from tests.support import signing, signing_hubspot
from tests.support.cases import requests_of

NOW = 1_795_950_000
SECRETS = {"twilio": Secrets((signing.TWILIO,)), "hubspot": Secrets((signing_hubspot.HUBSPOT,))}
WRONG = Secrets(("another-secret",))
FORM = "application/x-www-form-urlencoded"
HOSTS = ("hooks.example.com", "HOOKS.Example.com:8443", "127.0.0.1:80", "[::1]:443", "", "h")
URLS = (None, "https://hooks.example.com", "https://hooks.example.com:443/", "https://user:pass@h.example/base")
CHARACTERS = st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#?")
PIECES = st.one_of(
    st.text(CHARACTERS, max_size=8), st.sampled_from(["%3A", "%40", "%2f", "%3a%2540", "//", ";a=b", "%"])
)
TAILS = st.builds(
    "{}{}".format,
    st.one_of(st.just(""), st.builds("/{}".format, PIECES)),
    st.one_of(st.just(""), st.builds("?{}".format, st.lists(PIECES, max_size=3).map("".join)), st.just("?a?b=é")),
)


def arrived(name: str, method: str, target: str, host: str, public_url: str | None, body: bytes) -> Delivery:
    """As the ingress makes a delivery of a request whose target is this, signed for the URL that was called."""
    path, _, query = target.partition("?")
    url = called_url(public_url, host, target)
    content_type = "application/json" if name == "hubspot" else FORM if body else ""
    headers = {"host": host, "content-type": content_type}
    if name == "twilio":
        headers |= {key.lower(): value for key, value in signing.twilio(url, body).items() if key != "Content-Type"}
    else:
        signed = (method + url).encode() + body + str(NOW * 1000).encode()
        digest = hmac.new(signing_hubspot.HUBSPOT.encode(), signed, hashlib.sha256).digest()
        headers |= {"x-hubspot-signature-v3": base64.b64encode(digest).decode()}
        headers |= {"x-hubspot-request-timestamp": str(NOW * 1000)}
    return Delivery(name, method, url, path, query, headers, body, "192.0.2.1", NOW * 1000)


@given(
    name=st.sampled_from(sorted(SECRETS)),
    is_get=st.booleans(),
    tail=TAILS,
    host=st.sampled_from(HOSTS),
    public_url=st.sampled_from(URLS),
)
@example("twilio", False, "?", "h", None)
@example("twilio", True, "?", "h", "https://h.example")
@example("twilio", False, "/status;v=1?", "h", None)
@example("hubspot", False, "?", "h", None)
def test_every_url_that_verifies_live_verifies_again(
    name: str, is_get: bool, tail: str, host: str, public_url: str | None
) -> None:
    provider, method = PROVIDERS[name], "GET" if is_get and name == "twilio" else "POST"
    body = b"" if method == "GET" else b"MessageSid=SM1&MessageStatus=sent" if name == "twilio" else b"[]"
    delivery = arrived(name, method, f"/webhooks/{name}{tail}", host, public_url, body)
    try:
        held = verify(provider, delivery, SECRETS[name], NOW)
    except RejectedDelivery:
        # HubSpot decodes some escapes before it signs: not by this hand.
        assert name == "hubspot"
        assert "%" in tail
        return
    with pytest.raises(RejectedDelivery):
        verify(provider, delivery, WRONG, NOW)
    kept = [quarantine_headers(delivery, "sha256:00", "signature_mismatch", name, provider.kept_headers)]
    if public_url:
        # Of a record the URL is known by the configuration alone.
        kept.append(record_headers(held, identify(provider, held), provider.kept_headers))
    for headers in kept:
        again = delivery_of(headers, body, NOW * 1000, public_url)
        assert (again.url, again.query) == (delivery.url, delivery.query)
        assert verify(provider, again, SECRETS[name], NOW).secret_index == 0


def test_a_record_of_before_the_mark_is_read_as_it_was() -> None:
    headers = [("ce_source", b"/webhooks/twilio"), ("http_method", b"POST"), ("http_path", b"/webhooks/twilio")]
    assert delivery_of(headers, b"", 0, "https://h.example").url == "https://h.example/webhooks/twilio"


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        ("/webhooks/twilio?a=http://x/y", "/webhooks/twilio?a=http://x/y", None),
        ("http://h.example/webhooks/twilio?", "/webhooks/twilio?", "h.example"),
        ("HTTPS://H.example:8443/webhooks/x", "/webhooks/x", "H.example:8443"),
        ("http://user:p@ss@h.example/webhooks/x", "/webhooks/x", "h.example"),
        ("http://h.example", "/", "h.example"),
        ("http://h.example?a", "/?a", "h.example"),
        ("ftp://h.example/webhooks/x", "ftp://h.example/webhooks/x", None),
        ("//h.example/webhooks/x", "//h.example/webhooks/x", None),
    ],
)
def test_a_target_in_the_absolute_form_is_its_path_and_its_host(target: str, path: str, host: str | None) -> None:
    assert origin_form(target) == (path, host)


def get_of(url: str, signed_url: str) -> Delivery:
    headers = {"x-twilio-signature": signing.twilio(signed_url, b"")["X-Twilio-Signature"]}
    path, _, query = url.removeprefix("https://h.example").partition("?")
    return Delivery("twilio", "GET", url, path, query, headers, b"", "", NOW * 1000)


(CASE,) = requests_of("30")
WIRE = "https://h.example" + CASE["path"]
SIGNED = CASE["signed_url"].replace("<base>", "https://h.example")


@pytest.mark.parametrize(
    ("wire", "signed"),
    [
        (WIRE, SIGNED),
        (WIRE, WIRE),
        (WIRE.replace("%3A", "%3a"), SIGNED),
        (WIRE.replace("h.example", "h.example:443"), SIGNED),
        (WIRE, SIGNED.replace("h.example", "h.example:443")),
    ],
)
def test_a_get_verifies_by_the_url_before_its_query_was_escaped(wire: str, signed: str) -> None:
    delivery = get_of(wire, signed)
    held = verify(PROVIDERS["twilio"], delivery, SECRETS["twilio"], NOW)
    assert identify(PROVIDERS["twilio"], held).record_id == "CAcase30:completed"
    again = delivery_of(
        quarantine_headers(delivery, "x", "x", "twilio", PROVIDERS["twilio"].kept_headers), b"", 0, "https://h.example"
    )
    assert verify(PROVIDERS["twilio"], again, SECRETS["twilio"], NOW)


@pytest.mark.parametrize(
    ("wire", "signed"),
    [
        # Other escapes mean other characters, twice escaped ones an escape, and a path another place.
        (WIRE.replace("sip%3A", "sip%26"), SIGNED.replace("sip:", "sip&")),
        (WIRE.replace("%3A", "%253A"), SIGNED),
        (WIRE.replace("%40", "%2540"), SIGNED),
        (WIRE.replace("/twilio?", "/twilio%3Aa?"), SIGNED.replace("/twilio?", "/twilio:a?")),
        (WIRE.replace("completed", "ringing"), SIGNED),
    ],
)
def test_no_second_spelling_says_anything_else(wire: str, signed: str) -> None:
    with pytest.raises(RejectedDelivery):
        verify(PROVIDERS["twilio"], get_of(wire, signed), SECRETS["twilio"], NOW)


def test_a_post_has_one_spelling() -> None:
    delivery = get_of(WIRE, SIGNED)._replace(method="POST")
    with pytest.raises(RejectedDelivery):
        verify(PROVIDERS["twilio"], delivery, SECRETS["twilio"], NOW)
