"""What must hold of what operators read back or write themselves: records, captured requests, files, times, queries."""

import contextlib
from typing import Any
from urllib.parse import parse_qsl

import orjson
from multidict import MultiDict
from pydantic import ValidationError

from deploy.commands.verify import judge, read_request
from deploy.wiring import file_config, parse_toml
from ingest.http.responses import challenge
from replay.api.events import LIST
from replay.operations import events
from replay.operations.corrections import parse_correction
from replay.operations.holdings import Holdings, fold_minutes
from replay.operations.quarantine import QuarantinedDelivery, QuarantineReader
from replay.selection.selection import MAX_PAGE, parse_offsets
from replay.selection.times import parse_time
from schemas.corrections import Correction
from schemas.errors import InvalidSelection, Misconfigured, RejectedDelivery
from schemas.masking import mask_text
from schemas.providers import PROVIDERS
from schemas.providers.whatsapp import answer_handshake
from schemas.quarantine import DROPPED_TYPE
from schemas.redaction import redacted_body, redacted_headers, revealed_body, revealed_headers
from schemas.settings import Settings, Source, parse_duration, sources_of
from schemas.source_state import STATES, SourceState
from schemas.topics import OPERATOR
from tests.fuzz.checks import check_fold
from tests.fuzz.request import NOW, Request
from tests.fuzz.signing import SECRETS
from tests.support.records import FakeRecord

POISON = frozenset({"bad_envelope", "unknown_provider", "unparsable", "invalid_payload"})
SOURCES = {name: Source(name, provider, SECRETS[name]) for name, provider in PROVIDERS.items()}
SETTINGS = Settings(_env_file=None)
NOTHING: Any = None

QUARANTINED = (
    Request(
        headers={"ce_type": DROPPED_TYPE, "ce_source": "/webhooks/stripe"},
        body=b'{"source":"stripe","minute_ms":1750000020000,"deliveries":7}',
    ),
    Request(
        headers={
            "ce_specversion": "1.0", "ce_source": "/webhooks/stripe", "redrive_provenance": "quarantined",
            "http_method": "POST", "http_path": "/webhooks/stripe", "http_remote": "192.0.2.1", "http_host": "x",
            "http_query": "a=b", "ce_id": "sha256:00", "ce_type": "stripe.quarantined", "redrive_token_digest": "00",
            "redrive_rejection": "signature_mismatch", "redrive_arrived_ms": "1750000020000",
            "content-type": "application/json", "http_stripe-signature": "t=1,v1=00",
        },
        body=b'{"id":"evt_1"}',
    ),
)  # fmt: skip
CONFIGS = (
    '[sources.stripe-eu]\nprovider = "stripe"\nsecrets = ["whsec_of_europe"]\nmax_body_bytes = 1000\n',
    '[sources.hs]\nprovider = "hubspot"\nsecrets = ["a"]\nsignature_versions = ["v1", "v2"]\nanswer = "twiml"\n',
    '[sources.cal]\nprovider = "google_calendar"\nsecrets = ["a"]\nchannel_ids = ["b"]\n[quarantine]\nrecords = 1\nper_second = 0.5\n',
    '[sources.std]\nprovider = "standardwebhooks"\nsecrets = ["whpk_x2QIDsIHu2agCyaO8xU7yZsIdilqWMqYHyelKCToRsg="]\n',
    '[price_tiers]\nprice_1 = "pro"\n[quarantine]\nbytes = 1_000\n',
)
TIMES = (
    "2h ago", "yesterday 14:00", "2026-11-21T03:00:00Z", "2026-11-21T03:00:00 02:00", "in 5 days", "last monday", "1750000000",
    "0001-01-01T00:00:00+23:59", "9999-12-31", "3 weeks 2 days ago", "12/31/2025 11pm PST",
)  # fmt: skip
SEARCHES = (
    "source=stripe&type=stripe.*&status=dead&from=2026-01-01&to=2026-01-02&q=evt&limit=5&cursor=1750000000000000.12",
    "limit=500&reveal=true&reason=why", "cursor=-9223372036854775808.9223372036854775808", "status=applied&reveal=0", "from=x",
)  # fmt: skip

CHANGES: tuple[dict[str, Any], ...] = (
    {"type": "credits.adjusted", "customer": "cus_1", "credits": -5},
    {"type": "account.frozen", "customer": "cus_1"},
    {"type": "subscription.corrected", "subscription": "sub_1", "status": "active", "customer": "cus_1",
     "current_period_end": "2026-12-21T00:00:00+01:00"},
)  # fmt: skip


def corrections() -> list[Request]:
    """As records and as orders."""
    said = {"id": "fix-1", "source": "stripe", "reason": "why"}
    stamped = {"at": "2026-01-01T00:00:00Z", "operator": "ines"}
    asked = {"new": True, "dry_run": False}
    return [
        Request(body=orjson.dumps({**said, **more, "change": change}))
        for change in CHANGES
        for more in (stamped, asked)
    ]


def captured_requests() -> list[Request]:
    request = {
        "method": "POST", "url": "https://hooks.example.com/webhooks/stripe?a=b", "headers": {"Stripe-Signature": "t=1,v1=00"},
        "body": "{}", "now": NOW, "secret": "whsec_of_europe", "auth_token": "b", "public_key": "c", "verify_token": "d", "channel_id": "e",
        "scheme": "v1",
    }  # fmt: skip
    return [Request(target=f"/{name}", body=orjson.dumps(request)) for name in PROVIDERS]


def check_envelope(request: Request) -> None:
    """A record that anybody wrote to the topic."""
    check_fold(FakeRecord("webhooks.x", 0, 7, NOW * 1000, None, request.body, request.kafka_headers), POISON)


def check_quarantine(request: Request) -> None:
    """A record that anybody wrote to the quarantine can be listed, and tried again."""
    quarantine = QuarantineReader(NOTHING, NOTHING, SOURCES, None)
    for at in (NOW * 1000, -1, 2**62):
        found = quarantine.decoded(
            FakeRecord("webhooks.quarantine", 0, 7, at, None, request.body, request.kafka_headers)
        )
        listed = Holdings()
        if isinstance(found, QuarantinedDelivery):
            verdict = quarantine.judge(found)
            assert (verdict.verified is None) is (verdict.code is not None)
            off = verdict.clock_off_seconds
            quarantine.judge(found, (off or 0) * 1000)
            listed.add(
                found.delivery.arrived_ms, found.reason, "0/7", is_released=False, verifies=False, clock_off_seconds=off
            )
        elif found is not None:
            listed.drop(found)
        orjson.dumps(listed.as_document())
        assert sum(count.deliveries for _, _, count in fold_minutes(listed, 20).rows) == listed.held + sum(
            listed.dropped.values()
        )


def check_control(request: Request) -> None:
    state = SourceState.decode(
        request.headers.get("content-type", "stripe").encode("utf-8", "surrogateescape"), request.body
    )
    if state is not None:
        assert state.state in STATES
        assert SourceState.decode(*state.encode()) == state


def check_correction(request: Request) -> None:
    """What anybody wrote to the operators' topic, under headers of its own or under those that fit; and as an order."""
    try:
        said = Correction.model_validate_json(request.body)
    except ValidationError:
        headers = request.kafka_headers
    else:
        headers = said.headers()
        assert Correction.model_validate_json(said.body()) == said
    check_fold(FakeRecord(OPERATOR, 0, 7, NOW * 1000, None, request.body, headers), POISON)
    with contextlib.suppress(InvalidSelection):
        parse_correction(request.body)


def check_redaction(request: Request) -> None:
    """Every body can be shown, as one document."""
    orjson.dumps(redacted_body(request.body, request.headers.get("content-type", "")))
    orjson.dumps(revealed_body(request.body))
    headers = {
        name.encode("ascii", "replace").decode(): value.decode("utf-8", "replace")
        for name, value in request.kafka_headers
    }
    headers["http_query"] = request.body.decode("utf-8", "replace")
    orjson.dumps([redacted_headers(headers), revealed_headers(headers), mask_text(headers["http_query"])])


def check_handshake(data: bytes) -> None:
    with contextlib.suppress(RejectedDelivery):
        answer = challenge(answer_handshake(data.decode("utf-8", "surrogateescape"), SECRETS["whatsapp"]))
        assert answer.encoded(NOW)


def check_request_file(request: Request) -> None:
    name = request.target.removeprefix("/")
    provider = PROVIDERS.get(name, PROVIDERS["twilio"])
    with contextlib.suppress(InvalidSelection):
        verdict: dict[str, Any] = judge(read_request(request.body, "a file"), provider, SECRETS[provider.name])
        assert verdict["verified"] is (verdict["code"] is None)


def check_config(data: bytes) -> None:
    with contextlib.suppress(Misconfigured):
        sources_of(SETTINGS, file_config(parse_toml(data, "redrive.toml"), "redrive.toml"))


def check_time(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        text = data.decode("utf-8", "surrogateescape")
        parse_duration(text)
        parse_time(text)


def check_offsets(data: bytes) -> None:
    with contextlib.suppress(InvalidSelection):
        found = parse_offsets(data.decode("utf-8", "surrogateescape"))
        assert 0 <= found.start < found.end <= 2**63
        assert found.partition < 2**31


def check_search(data: bytes) -> None:
    """The query of `GET /api/events`, up to what Postgres is asked."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(InvalidSelection):
        given = MultiDict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))
        query = LIST.parse_query(given)
        clauses, values = events._clauses(query.search(), query.cursor)
        assert 1 <= query.limit <= MAX_PAGE
        assert len(values) >= len(clauses)
        for value in values:
            assert not isinstance(value, str) or value.encode().find(b"\0") < 0, "Postgres takes it as text"
