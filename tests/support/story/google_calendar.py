"""A customer's calendars are watched over two channels, whose notifications are counted and make no rows."""

from urllib.parse import quote

from tests.support import signing_google_calendar as signing
from tests.support.story.base import Author, Webhook


def tell(author: Author) -> None:
    """The channels count alike: only both parts together name a notification."""
    # Google takes ids of base64 as well: they hold what an event id must encode.
    channels = [author.name("channel-") + ending for ending in ("", "+/=")]
    for channel in channels:
        _notification(author, channel, 1, "sync")
        number = 1
        for _ in range(author.random.randrange(4)):
            number += author.random.randrange(1, 4)
            _notification(author, channel, number, "exists")
        if author.random.random() < 0.3:
            _notification(author, channel, number + 1, "not_exists")


def _notification(author: Author, channel: str, number: int, state: str) -> None:
    headers = signing.google_calendar(channel, number, state)
    webhook = Webhook("/webhooks/google_calendar", b"", lambda _, __, ___: headers)
    author.tells(webhook, "google_calendar", f"{quote(channel, safe='')}:{number}")
