"""What must hold of targets as they are named, of what is sent to them, and of what they answer."""

import contextlib
from ipaddress import ip_address
from typing import Any

import orjson
from yarl import URL

from replay.targets.addresses import require_allowed
from replay.targets.document import HttpTarget, TargetDocument, target_of
from replay.targets.http import seconds_asked
from replay.targets.request import Unsendable, request_of
from schemas.errors import InvalidSelection
from tests.fuzz.request import NOW, Request
from tests.support.records import FakeRecord

TARGET = {"kind": "http", "url": "http://a-b.example:80/", "resign": True, "concurrency": 3}
TEXTS: tuple[str, ...] = (
    "topic:copies", "http://localhost:3000/hooks/", "https://[::1]:8443", "http://127.0.0.1./x%2e%2e", "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", orjson.dumps(TARGET).decode(), '{"kind": "topic", "topic": "copies"}',
    "120", "Wed, 21 Oct 2015 07:28:00 GMT",
)  # fmt: skip
"""And what an endpoint says of when to come again."""


def json_of(body: bytes) -> Any:
    """None for what is no JSON: it gets no further."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def check_target(data: bytes) -> None:
    """It names one host to whoever reads it; and what an endpoint says of when to come again is a time, or nothing."""
    text = data.decode("utf-8", "surrogateescape")
    for document in (text, json_of(data)):
        with contextlib.suppress(InvalidSelection):
            found = target_of(document)
            if found is not None:
                require_one_reading(found)
    asked = seconds_asked(text)
    assert asked is None or asked >= 0


def require_one_reading(found: TargetDocument) -> None:
    assert target_of(orjson.loads(orjson.dumps(found.as_document()))) == found
    assert str(found).isprintable()
    if not isinstance(found, HttpTarget):
        return
    read = URL(found.url, encoded=True)
    assert (read.user, read.password, read.query_string, read.fragment) == (None, None, "", "")
    assert _addresses((read.host or "").lower()) == _addresses(found.host)
    assert f"{read.scheme}://" == found.origin.partition("//")[0].lower() + "//"
    found.host.encode("idna")
    with contextlib.suppress(ValueError):
        address = str(ip_address(found.host))
        require_allowed(found.host, address, ())


def _addresses(host: str) -> str:
    with contextlib.suppress(ValueError):
        return str(ip_address(host))
    return host


def check_outgoing(request: Request) -> None:
    """A record that anybody wrote to a topic is sent to the target that was named, or not at all."""
    raw = FakeRecord("webhooks.stripe", 0, 7, NOW * 1000, None, request.body, request.kafka_headers)
    for resign in (False, True):
        target = HttpTarget("http://localhost:3000/hooks/", resign)
        with contextlib.suppress(Unsendable):
            found = request_of(raw, target, "0b7c", {"stripe": "whsec_a", "twilio": "b"}, NOW)
            sent = URL(found.url, encoded=True)
            assert (sent.scheme, sent.host, sent.port, sent.user) == ("http", "localhost", 3000, None)
            assert sent.raw_path.startswith("/hooks/")
            assert found.url.isascii()
            assert not any(c in f"{name}{value}" for name, value in found.headers for c in "\r\n\0")
