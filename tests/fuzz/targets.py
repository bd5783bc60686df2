"""Every fuzz target: what is checked, how an input is mutated, and what to begin with."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

from schemas.providers import PROVIDERS
from tests.fuzz import checks, endpoints, flags, http, operators, orders
from tests.fuzz.mutation import Native, Vocabulary, mutate_request, mutate_text
from tests.fuzz.request import Request
from tests.fuzz.signing import signed
from tests.support.fixtures import READABLE, of_fixture
from tests.support.vectors import FOLDER

CORPUS = Path(__file__).parents[1] / "corpus"
MAX_BYTES = 4096
"""Of an input; larger bombs are tests of their own."""

Mutate = Callable[[bytes, Random, Native], bytes]


@dataclass(frozen=True)
class Target:
    """`check` raises for a crash; `mutate` makes a new input of one; `seeds` are inputs from the fixtures."""

    check: Callable[[bytes], object]
    mutate: Mutate
    seeds: Callable[[], Iterable[bytes]]
    is_slow: bool = False
    """A hundredth of the runs: a guess at a relative time takes milliseconds."""

    def inputs(self, name: str) -> Iterator[tuple[str, bytes]]:
        """The seeds and the corpus, by name."""
        for number, seed in enumerate(self.seeds()):
            yield f"seed {number}", seed
        for path in sorted((CORPUS / name).glob("*")):
            yield path.name, path.read_bytes()


@cache
def fixtures(name: str) -> tuple[Request, ...]:
    """The provider's fixtures as requests, without the largest."""
    found = []
    for fixture in READABLE:
        if fixture.startswith(f"{name}/"):
            one = of_fixture(fixture)
            kept = {header: value.decode() for header, value in one.headers if value is not None}
            headers = {header.removeprefix("http_"): value for header, value in kept.items()}
            wanted = {
                header: headers[header]
                for header in (*PROVIDERS[name].kept_headers, "content-type")
                if header in headers
            }
            found.append(Request("POST", f"/webhooks/{name}", wanted, one.value or b""))
    return tuple(one for one in found if len(one.encode()) <= MAX_BYTES)


@cache
def vectors(name: str) -> tuple[Request, ...]:
    found = []
    for vector in json.loads((FOLDER / f"{name}.json").read_text())["vectors"]:
        headers = {header.lower(): value for header, value in vector["headers"].items()}
        body = vector["body"].encode("utf-8", "surrogatepass")
        found.append(Request(vector["method"], f"/webhooks/{name}", headers, body))
    return tuple(one for one in found if len(one.encode()) <= MAX_BYTES)


def vocabulary(name: str) -> Vocabulary:
    headers = (*PROVIDERS[name].kept_headers, "content-type", "host")
    return Vocabulary.of([one.body for one in fixtures(name)], headers)


def _encoded(*requests: Request) -> Callable[[], Iterator[bytes]]:
    return lambda: (one.encode() for one in requests)


def _verify_target(name: str) -> Target:
    """Hostile headers; every other input is signed, and then perhaps spoilt."""
    return Target(
        check=lambda data: checks.check_verify(name, Request.decode(data).delivery(name)),
        mutate=partial(mutate_request, words=vocabulary(name), sign=partial(signed, name)),
        seeds=lambda: (one.encode() for one in (*vectors(name), *(signed(name, found) for found in fixtures(name)))),
    )


def _signed_target(name: str) -> Target:
    return Target(
        check=lambda data: checks.check_signed(name, Request.decode(data)),
        mutate=partial(mutate_request, words=vocabulary(name), sign=None),
        seeds=lambda: (one.encode() for one in fixtures(name)),
    )


def _record_headers() -> list[Request]:
    return [
        Request(
            headers={header: value.decode() for header, value in one.headers if value is not None},
            body=one.value or b"",
        )
        for one in map(
            of_fixture, ("stripe/invoice.paid.json", "twilio/sms.inbound.form", "google_calendar/exists.http.json")
        )
    ]


def _record_target(check: Callable[[Request], object], *extra: Request) -> Target:
    """The headers are those of a record of Kafka."""
    seeds = (*_record_headers(), *extra)
    names = tuple({name for one in seeds for name in one.headers})
    words = Vocabulary.of([one.body for one in seeds], names)
    return Target(
        check=lambda data: check(Request.decode(data)),
        mutate=partial(mutate_request, words=words, sign=None),
        seeds=_encoded(*seeds),
    )


def _text_target(check: Callable[[bytes], object], *seeds: str, is_slow: bool = False) -> Target:
    words = Vocabulary.of_texts(seeds)
    return Target(check, partial(mutate_text, words=words), lambda: (seed.encode() for seed in seeds), is_slow)


def _body_target(check: Callable[[Request], object], *seeds: Request) -> Target:
    words = Vocabulary.of([one.body for one in seeds], ("content-type",))
    return Target(
        check=lambda data: check(Request.decode(data)),
        mutate=partial(mutate_request, words=words, sign=None),
        seeds=_encoded(*seeds),
    )


def _document(**fields: Any) -> Request:
    return Request(body=json.dumps(fields).encode())


TARGETS: dict[str, Target] = {
    **{f"verify-{name}": _verify_target(name) for name in PROVIDERS},
    **{f"signed-{name}": _signed_target(name) for name in PROVIDERS},
    "envelope": _record_target(operators.check_envelope),
    "quarantine": _record_target(operators.check_quarantine, *operators.QUARANTINED),
    "control": _body_target(
        operators.check_control,
        _document(state="paused", operator="ines", reason="why", at="2026-01-01T00:00:00+00:00"),
    ),
    "correction": _body_target(operators.check_correction, *operators.corrections()),
    "redaction": _body_target(operators.check_redaction, *(one for name in PROVIDERS for one in fixtures(name)[:3])),
    "handshake": _text_target(
        operators.check_handshake, "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=token"
    ),
    "request-file": _body_target(operators.check_request_file, *operators.captured_requests()),
    "config": _text_target(operators.check_config, *operators.CONFIGS),
    "time": _text_target(operators.check_time, *operators.TIMES, is_slow=True),
    "offsets": _text_target(operators.check_offsets, "webhooks.stripe:0:10-20", "a:99:0-9223372036854775807"),
    "whole-request": Target(http.check_read_alike, http.mutate_http, lambda: http.SEEDS),
    "search": _text_target(operators.check_search, *operators.SEARCHES, is_slow=True),
    "selection": _body_target(orders.check_selection, *orders.documents(*orders.SELECTIONS)),
    "replay-order": _body_target(orders.check_replay, *orders.documents(*orders.REPLAYS)),
    "replay-stored": _body_target(orders.check_stored, *orders.documents(*orders.STORED)),
    "replay-target": _text_target(endpoints.check_target, *endpoints.TEXTS),
    "replay-request": _record_target(endpoints.check_outgoing),
    "rebuild-order": _body_target(orders.check_rebuild, *orders.documents(*orders.REBUILDS)),
    "requeue-order": _body_target(orders.check_requeue, *orders.documents(*orders.REQUEUES)),
    "certificate": _body_target(orders.check_certificate, *orders.documents(orders.CERTIFICATE)),
    "flags": _text_target(flags.check_flags, *flags.seeds()),
}
