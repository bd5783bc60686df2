"""Samples of Google Calendar."""

import time
from collections.abc import Iterator
from typing import Final

from deploy.samples.base import Sample, token

CHANNEL_SECONDS: Final = 7 * 86_400


def samples(_: str) -> Iterator[Sample]:
    """A channel opens, and its calendar changes twice. There is no body: the headers say it all."""
    expiration = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + CHANNEL_SECONDS))
    channel = {
        "X-Goog-Channel-ID": token(32),
        "X-Goog-Channel-Expiration": expiration,
        "X-Goog-Resource-ID": token(19),
        "X-Goog-Resource-URI": "https://www.googleapis.com/calendar/v3/calendars/primary/events?alt=json",
    }
    for number, state in ((1, "sync"), (7, "exists"), (12, "exists")):
        notification = {"X-Goog-Resource-State": state, "X-Goog-Message-Number": str(number)}
        yield Sample(b"", "", headers={**channel, **notification})
