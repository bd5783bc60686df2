"""`redrive verify`: does a captured request verify, and if not, why. Needs no other configuration."""

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from deploy.terminal.command import json_option
from deploy.terminal.group import examples
from deploy.terminal.output import say
from deploy.wiring import load
from schemas.envelope import LAST_MS, Delivery
from schemas.errors import InvalidSelection, Misconfigured, RejectedDelivery
from schemas.masking import describe
from schemas.providers import PROVIDERS, answer_handshake, verify
from schemas.providers.base import Provider, Secrets


class CapturedRequest(BaseModel):
    """A request as a JSON object. `now` is seconds since the epoch; default: the present."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    method: str = "POST"
    url: str = "http://localhost/"
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""
    now: float | None = Field(None, ge=0, lt=LAST_MS / 1000)
    secret: str | None = None
    auth_token: str | None = None
    public_key: str | None = None
    verify_token: str | None = None
    channel_id: str | None = None
    scheme: str | None = None

    @field_validator("url")
    @classmethod
    def _readable_url(cls, url: str) -> str:
        urlsplit(url)
        return url

    @property
    def given_secret(self) -> str | None:
        """None where the request brings none; an empty one is one that must fail."""
        return next((one for one in (self.secret, self.auth_token, self.public_key) if one is not None), None)


@click.command("verify", epilog=examples("redrive verify stripe --request request.json"))
@click.argument("source")
@click.option(
    "--request",
    "file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="JSON object: method, url, headers, body, now, and secret | auth_token | public_key | verify_token.",
)
@json_option
def verify_request(source: str, file: Path, as_json: bool) -> None:
    """Verify a captured request to SOURCE; exit 0 when it verifies, 1 when it doesn't.

    SOURCE is a configured source, or the name of a provider when the request brings its own secret.
    """
    request = read_request(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes(), str(file))
    verdict = judge(request, *_provider_and_secrets(source, request))
    if as_json or not sys.stdout.isatty():
        print(orjson.dumps(verdict).decode())
    elif verdict["verified"]:
        say("verified", style="green")
    else:
        reason = f" ({verdict['error']})" if "error" in verdict else ""
        say(f"{verdict['code']}{reason}", "not verified:", "red")
    sys.exit(0 if verdict["verified"] else 1)


def read_request(raw: bytes, where: str) -> CapturedRequest:
    """Raises `InvalidSelection`, naming the first fault."""
    try:
        return CapturedRequest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidSelection(f"{where}: {'.'.join(map(str, first['loc']))} {first['msg']}") from error


def _provider_and_secrets(source: str, request: CapturedRequest) -> tuple[Provider, Secrets]:
    schemes = frozenset([request.scheme]) if request.scheme else frozenset[str]()
    brings_secret = request.given_secret is not None or bool(request.verify_token)
    # To read the configuration is also what makes the providers of plug-ins known.
    configured = None if source in PROVIDERS and brings_secret else load().sources.get(source)
    if source in PROVIDERS and brings_secret:
        # The captured handshake of a vector may call its token just "secret".
        token = request.verify_token or request.secret
        values = (request.given_secret,) if request.given_secret else ()
        channels = frozenset([request.channel_id]) if request.channel_id else frozenset[str]()
        return PROVIDERS[source], Secrets(values, token, schemes, channel_ids=channels)
    if configured is None:
        raise Misconfigured(f"no source {source!r} is configured: put a secret into the request to verify without one")
    return configured.provider, replace(configured.secrets, schemes=schemes or configured.secrets.schemes)


def judge(request: CapturedRequest, provider: Provider, secrets: Secrets) -> dict[str, Any]:
    """`{"verified": …, "code": …}`; the code is null when it verifies. `error` says what the provider's code raised."""
    parts = urlsplit(request.url)
    now = time.time() if request.now is None else request.now
    delivery = Delivery(
        source=provider.name,
        method=request.method.upper(),
        url=request.url,
        path=parts.path,
        query=parts.query,
        headers={name.lower(): value for name, value in request.headers.items()},
        body=request.body.encode("utf-8", "surrogatepass"),
        remote="",
        arrived_ms=int(now * 1000),
    )
    try:
        if provider.answer_handshake is not None and delivery.method == "GET":
            answer_handshake(provider, parts.query, secrets)
        else:
            verify(provider, delivery, secrets, now)
    except RejectedDelivery as rejection:
        verdict = {"verified": False, "code": rejection.rejection}
        if rejection.rejection == "verification_failed":
            verdict["error"] = describe(rejection.__cause__ or rejection)
        return verdict
    except Misconfigured as error:
        return {"verified": False, "code": error.code}
    return {"verified": True, "code": None}
