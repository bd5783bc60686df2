"""Invariant 3, in constant time: what is secret is compared by `hmac.compare_digest` or by `cryptography`, under every
secret, and how much of a guess is right changes nothing.
"""

import ast
import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import RejectedDelivery
from schemas.providers import PROVIDERS, sendgrid, standardwebhooks, telnyx, verify
from tests.fuzz.request import NOW, Request
from tests.fuzz.signing import SECRETS, signed
from tests.fuzz.targets import fixtures

ROOT = Path(__file__).parents[2]
COMPARING = sorted(
    path for room in ("schemas/providers", "replay/api", "ingest") for path in (ROOT / room).glob("*.py")
)
SECRET = re.compile(r"signature|digest|expected|secret|token|presented|candidate|password|session|hmac|api_key")
PUBLIC = {
    "schemas/providers/aircall.py": ["json.loads(text.decode()) == token"],
    "schemas/providers/google_calendar.py": ["delivery.headers.get(CHANNEL) not in secrets.channel_ids"],
}
"""Both from the body that is masked; a channel's id, which is on every page of Google's."""

SIGNATURES = {
    "stripe": "stripe-signature",
    "whatsapp": "x-hub-signature-256",
    "twilio": "x-twilio-signature",
    "hubspot": "x-hubspot-signature-v3",
    "retell": "x-retell-signature",
    "telnyx": "telnyx-signature-ed25519",
    "standardwebhooks": "webhook-signature",
    "sendgrid": "x-twilio-email-event-webhook-signature",
    "google_calendar": "x-goog-channel-token",
}
"""Aircall's is in the body."""


def comparisons(path: Path) -> Iterator[str]:
    """Every `==`, `!=`, `in` and `not in` between values of which one sounds like a secret, and none is a constant."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Compare) and any(
            isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops
        ):
            sides = [node.left, *node.comparators]
            if SECRET.search(" ".join(ast.unparse(side) for side in sides)) and not any(map(_is_constant, sides)):
                yield ast.unparse(node)


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Tuple) and all(map(_is_constant, node.elts)))


def test_nothing_secret_is_compared_by_an_operator() -> None:
    found = {str(path.relative_to(ROOT)): list(comparisons(path)) for path in COMPARING}
    assert {path: compared for path, compared in found.items() if compared} == PUBLIC


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The lengths of everything that is compared."""
    calls: list[tuple[int, ...]] = []

    def noted(compare: Callable[..., bool]) -> Callable[..., bool]:
        def note(*values: Any) -> bool:
            calls.append(tuple(len(value) for value in values if isinstance(value, str | bytes)))
            return compare(*values)

        return note

    monkeypatch.setattr(hmac, "compare_digest", noted(hmac.compare_digest))
    for module in (telnyx, sendgrid, standardwebhooks):
        monkeypatch.setattr(module, "_verifies", noted(module._verifies))
    return calls


@pytest.mark.parametrize("name", PROVIDERS)
def test_every_secret_is_compared_however_much_of_a_guess_is_right(name: str, compared: list[tuple[int, ...]]) -> None:
    right = signed(name, fixtures(name)[0])
    three = replace(SECRETS[name], values=SECRETS[name].values[:1] * 3)
    verify(PROVIDERS[name], right.delivery(name), three, NOW)
    told = []
    for place in (-30, -4):
        compared.clear()
        with pytest.raises(RejectedDelivery, match="does not match"):
            verify(PROVIDERS[name], spoilt(name, right, place).delivery(name), three, NOW)
        told.append(compared.copy())
    assert told[0] == told[1]
    assert len(told[0]) >= 3


def spoilt(name: str, request: Request, place: int) -> Request:
    """One character of the signature, counted from its end, is another."""
    if name == "aircall":
        token = SECRETS[name].values[0]
        return replace(request, body=request.body.replace(token.encode(), _other(token, place).encode()))
    header = SIGNATURES[name]
    return request.with_headers({header: _other(request.headers[header], place)})


def _other(text: str, place: int) -> str:
    at = max(len(text) + place, 0)
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
