"""Small inputs that were once got wrong (`tests/fixtures/cases`), signed and folded as the product does it."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from processors.fold import fold_record
from processors.outcome import Dead
from processors.store import Span, Store
from tests.support import (
    signing,
    signing_aircall,
    signing_google_calendar,
    signing_hubspot,
    signing_retell,
    signing_sendgrid,
    signing_telnyx,
)
from tests.support.records import FakeRecord, story_record
from tests.support.story import Webhook

FOLDER = Path(__file__).parents[1] / "fixtures" / "cases"
NOW = 1_795_950_000


class KeptLetters:
    """Dead letters, in a list."""

    def __init__(self) -> None:
        self.letters: list[Dead] = []

    async def put(self, letters: Sequence[Dead]) -> None:
        self.letters += letters


def requests_of(case: str) -> list[dict[str, Any]]:
    """The requests of the case whose folder starts with this name, in order."""
    (folder,) = FOLDER.glob(f"{case}*")
    return [json.loads(path.read_text()) for path in sorted(folder.glob("request*.json"))]


def webhook(provider: str, body: bytes, path: str = "", **headers: str) -> Webhook:
    """A request to the source of the provider's name, to be signed by the test's own hand."""

    def sign(url: str, signed: bytes, now: int) -> dict[str, str]:
        match provider:
            case "stripe":
                found = signing.stripe(signed, now)
            case "whatsapp":
                found = signing.whatsapp(signed)
            case "twilio" if signed.startswith((b"{", b"[")):
                found = signing.twilio_json(url)
            case "twilio":
                found = signing.twilio(url, signed)
            case "standardwebhooks":
                found = signing.standard(headers.get("webhook-id", "msg_1"), signed, now)
            case "aircall":
                found = signing_aircall.aircall()
            case "retell":
                found = signing_retell.retell(signed, now)
            case "telnyx":
                found = signing_telnyx.telnyx(signed, now)
            case "sendgrid":
                found = signing_sendgrid.sendgrid(signed, now)
            case "hubspot":
                found = signing_hubspot.hubspot(url, signed, now)
            case _:
                found = {"X-Goog-Channel-Token": signing_google_calendar.GOOGLE_CALENDAR}
        return {**found, **headers}

    return Webhook(path or f"/webhooks/{provider}", body, sign)


def webhooks_of(case: str) -> list[Webhook]:
    """Aircall's token is in its body."""
    found = []
    for one in requests_of(case):
        body = one["body"]
        if one["sign_as"] == "aircall":
            body = json.dumps({**json.loads(body), "token": signing_aircall.TOKEN})
        path = one["path"].replace("<sha256 of the body>", hashlib.sha256(body.encode()).hexdigest())
        found.append(webhook(one["sign_as"], body.encode(), path))
    return found


def records_of(webhooks: Iterable[Webhook]) -> list[FakeRecord]:
    """As the ingress would have written them, one partition, in this order."""
    found = []
    for offset, one in enumerate(webhooks):
        record = story_record(one, NOW)
        record.offset = offset
        found.append(record)
    return found


async def fold_webhooks(connection: "asyncpg.Connection[asyncpg.Record]", webhooks: Iterable[Webhook]) -> list[Dead]:
    """Fold into the live generation, one batch a source; returns the dead letters."""
    letters = KeptLetters()
    store = Store(1, letters)
    by_topic: dict[str, list[FakeRecord]] = {}
    for record in records_of(webhooks):
        by_topic.setdefault(record.topic, []).append(record)
    for topic, records in by_topic.items():
        for offset, record in enumerate(records):
            record.offset = offset
        folded = [fold_record(one) for one in records]
        await store.commit_batch(connection, Span(topic, 0, 0, len(records)), folded)
    return letters.letters
