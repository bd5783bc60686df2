"""Invariant 3 through the ingress: an arbitrary byte string, header or query is a verdict, never a 500."""

import hashlib
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from deploy.topics import Topics
from schemas.topics import LOG_CONFIG
from tests.conftest import Stack
from tests.support import (
    signing,
    signing_google_calendar,
    signing_hubspot,
    signing_retell,
    signing_sendgrid,
    signing_telnyx,
)
from tests.support.amounts import amount
from tests.support.ingresses import RunningIngress, now_ms, post, run_ingress, source

PATHS = st.sampled_from(signing.PROVIDERS)
NAMES = st.sampled_from(
    ["stripe-signature", "x-hub-signature-256", "x-twilio-signature", "x-twilio-webhooks-signature-settings",
     "webhook-id", "webhook-timestamp", "webhook-signature", "svix-id", "svix-timestamp", "svix-signature",
     "content-type", "i-twilio-idempotency-token"]
)  # fmt: skip
HEADER_VALUES = st.one_of(
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60).map(str.strip),
    st.sampled_from(["t=1,v1=", "sha256=", "v1,", "v1,AA== v1a,AA==", "t=999999999999999999,v1=00", "1", "-1", "²",
                     "application/x-www-form-urlencoded", "application/json", "key=k,algorithm=HMAC_SHA256"]),
)  # fmt: skip
QUERIES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=40)


@pytest.fixture(scope="module")
async def hostile(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One ingress for many requests; nothing of them may reach the log, so it may have topics that are not there."""
    sources = {f"hostile-{name}": source(f"hostile-{name}", name) for name in signing.PROVIDERS}
    async with Topics(stack.cluster) as topics:
        await topics.create({one.topic: LOG_CONFIG for one in sources.values()}, 1, 1)
    async with run_ingress(stack, sources, tmp_path_factory.mktemp("hostile"), now_ms) as running:
        yield running


@settings(max_examples=amount(120, 400))
@given(
    name=PATHS,
    method=st.sampled_from(["POST", "GET"]),
    query=QUERIES,
    headers=st.dictionaries(NAMES, HEADER_VALUES, max_size=6),
    body=st.binary(max_size=200),
)
async def test_no_bytes_header_or_query_yields_a_500(
    hostile: RunningIngress, name: str, method: str, query: str, headers: dict[str, str], body: bytes
) -> None:
    url = URL(f"{hostile.url}/webhooks/hostile-{name}?{query}", encoded=True)
    async with hostile.session.request(method, url, data=body or None, headers=headers) as response:
        assert response.status in (400, 401, 403, 405), await response.text()
        assert "code" in await response.json()


@settings(max_examples=amount(60, 200))
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("\ud800"),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["id", "type", "created", "data", "object", "entry", "changes", "value"]), inner
                )
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    # Aircall's token is inside the body: what holds no readable one is not signed.
    name=PATHS.filter(lambda name: name != "aircall"),
)
async def test_whatever_is_signed_is_stored(hostile: RunningIngress, name: str, body: bytes) -> None:
    """A verified body is never refused, whatever it holds: what cannot be read becomes a dead letter later."""
    now = int(time.time())
    path = f"/webhooks/hostile-{name}"
    if name == "twilio":
        digest = hashlib.sha256(body).hexdigest()
        path += f"?bodySHA256={digest}"
        headers = {**signing.twilio(hostile.url + path, b""), "Content-Type": "application/json"}
    else:
        headers = {
            "stripe": lambda: signing.stripe(body, now),
            "whatsapp": lambda: signing.whatsapp(body),
            "hubspot": lambda: signing_hubspot.hubspot(hostile.url + path, body, now),
            "retell": lambda: signing_retell.retell(body, now),
            "telnyx": lambda: signing_telnyx.telnyx(body, now),
            "sendgrid": lambda: signing_sendgrid.sendgrid(body, now),
            "google_calendar": lambda: signing_google_calendar.google_calendar("c", hash(body), "exists"),
            "standardwebhooks": lambda: signing.standard(f"msg_{hash(body)}", body, now),
        }[name]()
    status, _, location = await post(hostile, path, body, headers)
    assert status == 200
    assert location
