"""Deliveries to choose from: webhooks of the stories, verified and identified as the ingress does, once for all seeds."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from ingest.dedupe.window import Content, content_of
from ingest.log.record_batch import LogRecord, record_of
from schemas.envelope import Delivery, Identity, VerifiedDelivery
from schemas.providers import PROVIDERS, identify, verify
from schemas.providers.base import Secrets
from schemas.settings import Source
from tests.support import signing
from tests.support.records import PUBLIC_URL
from tests.support.story import STORIES, Author, Webhook

NOW: Final = 1_760_000_000
STORIES_OF_EACH: Final = 12


@dataclass(frozen=True)
class Parcel:
    """One delivery."""

    source: Source
    verified: VerifiedDelivery
    identity: Identity

    def arriving(self, now_ms: int) -> VerifiedDelivery:
        return self.verified._replace(delivery=self.verified.delivery._replace(arrived_ms=now_ms))

    @property
    def content(self) -> Content:
        return content_of(self.source.topic, self.identity.record_id, self.identity.fingerprint)

    def record(self) -> LogRecord:
        return record_of(self.source.topic, self.verified, self.identity, self.source.provider.kept_headers)


@cache
def _stories() -> list[list[Parcel]]:
    found = []
    for tell in STORIES.values():
        for number in range(STORIES_OF_EACH):
            author = Author(number, start=NOW - 200_000)
            tell(author)
            found.append([_parcel(webhook) for webhook in author.world.webhooks])
    return found


def _parcel(webhook: Webhook) -> Parcel:
    path, _, query = webhook.path.partition("?")
    name, url = path.split("/")[2], PUBLIC_URL + webhook.path
    provider = PROVIDERS[name]
    headers = {header.lower(): value for header, value in webhook.sign(url, webhook.body, NOW).items()}
    delivery = Delivery(name, "POST", url, path, query, headers, webhook.body, "127.0.0.1", NOW * 1000)
    secrets = Secrets((signing.SECRETS[provider.secret_variable],), digest_key=b"key")
    verified = verify(provider, delivery, secrets, NOW)
    source = Source(name, provider, secrets, provider.max_body_bytes, provider.answer)
    return Parcel(source, verified, identify(provider, verified))


def choose(order: random.Random, stories: int) -> list[Parcel]:
    """The deliveries of some stories."""
    return [parcel for story in order.sample(_stories(), stories) for parcel in story]


def fingerprints(parcels: list[Parcel]) -> Mapping[tuple[str, bytes, bytes], bytes]:
    """How the log's reader would compute it: (topic, key, value) -> fingerprint."""
    found = {}
    for parcel in parcels:
        record = parcel.record()
        found[record.topic, record.key, record.value] = parcel.identity.fingerprint
    return found
