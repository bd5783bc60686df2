"""A dedupe window of a test, and what is claimed in it."""

from ingest.dedupe.window import Claim, Content, DedupeWindow, content_of
from schemas.envelope import Location

TOPIC = "webhooks.stripe"
WINDOW_MS = 10_000


def content(number: int, fingerprint: bytes = b"f" * 32) -> Content:
    return content_of(TOPIC, f"evt_{number}", fingerprint)


def location(offset: int) -> Location:
    return Location(TOPIC, 3, offset)


def claimed(window: DedupeWindow, number: int, now_ms: int = 1000) -> Claim:
    found = window.claim(content(number), now_ms)
    assert isinstance(found, Claim)
    return found
