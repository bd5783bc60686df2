"""A file of signed HTTP requests, all of one length, every one with an event id of its own."""

import time
from pathlib import Path
from typing import Final, NamedTuple

from bench.events import STRIPE, event, padded, story, token
from bench.stack import SOURCE
from bench.subject import SECRET

_PLACEHOLDER: Final = b"evt_" + token("event", 0).encode()
_HEAD: Final = (
    b"POST /webhooks/" + SOURCE.encode() + b" HTTP/1.1\r\n"
    b"Host: bench.invalid\r\n"
    b"User-Agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\n"
    b"Accept: */*\r\n"
    b"Content-Type: application/json; charset=utf-8\r\n"
    b"Content-Length: %d\r\n"
    b"Stripe-Signature: %s\r\n\r\n"
)


class RequestFile(NamedTuple):
    """Requests of `size` bytes each."""

    path: Path
    size: int


def write_requests(path: Path, count: int, series: str) -> RequestFile:
    """Sign `count` requests with the time of now: they hold for five minutes. Event ids follow from `series`."""
    now = int(time.time())
    kind, data = list(story(0, now))[-1]
    before, after = padded(event(kind, data, 0, now)).split(_PLACEHOLDER)
    size = 0
    with path.open("wb", buffering=1024 * 1024) as file:
        for number in range(count):
            body = b"%sevt_%s%s" % (before, token(f"request{series}-", number).encode(), after)
            signature = STRIPE.sign(SECRET, "", body, "", now)["Stripe-Signature"].encode()
            request = _HEAD % (len(body), signature) + body
            if size not in (0, len(request)):
                raise ValueError("requests of different lengths: the load script cuts the file by length")
            size = len(request)
            file.write(request)
    return RequestFile(path, size)
