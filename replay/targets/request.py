"""A record as the HTTP request that it once was, addressed to another endpoint. Pure."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import quote_from_bytes, unquote

from processors.outcome import RawRecord
from replay.targets.document import HttpTarget
from schemas.envelope import Location, Record
from schemas.errors import PoisonRecord
from schemas.plugin_calls import call
from schemas.providers import PROVIDERS
from schemas.providers.base import Provider

_NO_HEADER_OF_A_REQUEST: Final = frozenset({"method", "path", "query", "remote"})
NOT_FORWARDED: Final = frozenset(
    {
        # Credentials, also where a plug-in's provider keeps them.
        *("authorization", "proxy-authorization", "cookie", "x-goog-channel-token"),
        # About the provider's connection with us.
        *("host", "connection", "keep-alive", "content-length", "content-encoding", "expect", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z", re.ASCII)
_METHOD: Final = re.compile(r"(?!CONNECT|TRACE)[A-Z]{1,20}\Z", re.ASCII)
_PATH_BYTES: Final = "!$%&'()*+,/:;=@[]|"
_QUERY_BYTES: Final = _PATH_BYTES + "?"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Outgoing(NamedTuple):
    """`url` is text, percent-encoded; nobody may normalise it: it can be signed."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class Unsendable(ValueError):
    """This record can't be sent to this target, and trying again won't help."""


def request_of(raw: RawRecord, target: HttpTarget, replay: str, secrets: Mapping[str, str], now: int) -> Outgoing:
    """The original method, path behind the source, query, headers and body; signed again if the target wants it.

    `secrets` are by source. Raises `Unsendable`.
    """
    try:
        record = Record.decode(raw.topic, raw.partition, raw.offset, raw.timestamp, raw.headers, raw.value)
    except PoisonRecord as error:
        raise Unsendable(str(error)) from error
    if not _METHOD.match(record.method):
        raise Unsendable("the record has no valid HTTP method")
    url = target.origin + _path_of(record, target.path)
    query = record.headers.get("http_query")
    if query is not None:
        url += "?" + quote_from_bytes(query, _QUERY_BYTES)
    headers, body = _kept_headers(record), record.body
    if target.resign:
        headers, body = _sign(record, url, headers, secrets, now)
    headers["redrive-replay"] = replay
    headers["redrive-record"] = str(Location(raw.topic, raw.partition, raw.offset))
    if any(not _TOKEN.match(name) or _CONTROL.search(value) for name, value in headers.items()):
        raise Unsendable("one of its headers can't be sent")
    return Outgoing(record.method, url, tuple(headers.items()), body)


def _path_of(record: Record, base: str) -> str:
    """The target's path with the original path behind the source."""
    prefix = f"/webhooks/{record.source}/".encode()
    path = record.headers.get("http_path") or b""
    if not path.startswith(prefix):
        return base
    suffix = quote_from_bytes(path.removeprefix(prefix), _PATH_BYTES)
    if any(unquote(segment) in (".", "..") for segment in re.split(r"/|%2[fF]|%5[cC]", suffix)):
        raise Unsendable("its path would leave the target's")
    return base.rstrip("/") + "/" + suffix


def _kept_headers(record: Record) -> dict[str, str]:
    found = {}
    for key, value in record.headers.items():
        if value is None or (key != "content-type" and not key.startswith("http_")):
            continue
        name = key.removeprefix("http_").lower()
        if name in _NO_HEADER_OF_A_REQUEST or name in NOT_FORWARDED:
            continue
        try:
            text = value.decode()
        except UnicodeDecodeError as error:
            raise Unsendable(f"its header {name} is not UTF-8") from error
        found[name] = text
    return found


def _sign(
    record: Record, url: str, headers: dict[str, str], secrets: Mapping[str, str], now: int
) -> tuple[dict[str, str], bytes]:
    provider, secret = PROVIDERS.get(record.provider), secrets.get(record.source)
    if provider is None:
        raise Unsendable("this version does not have the record's provider, so it can't be signed again")
    if secret is None:
        raise Unsendable(f"redrive.toml has no secret of source {record.source} for this target")
    try:
        body, anew = call(_signed, provider, secret, url, record, now)
    except Exception as error:
        # A form that is not UTF-8, a secret that is not a key; a plug-in's code may raise anything.
        raise Unsendable("it can't be signed with the target's secret") from error
    kept = {name: value for name, value in headers.items() if name not in provider.outdated_headers}
    # The type that the body came with, not that of samples.
    return {**kept, **anew, **{name: kept[name] for name in ("content-type",) if name in kept}}, body


def _signed(provider: Provider, secret: str, url: str, record: Record, now: int) -> tuple[bytes, dict[str, str]]:
    body = provider.present_token(record.body, secret) if provider.present_token else record.body
    if provider.sign_as is not None:
        signed = provider.sign_as(secret, record.record_id, body, now)
    else:
        signed = provider.sign(secret, url, body, record.content_type, now)
    anew = {name.lower(): value for name, value in signed.items() if value}
    if not isinstance(body, bytes) or not all(isinstance(value, str) for value in anew.values()):
        raise TypeError("expected the signed body as bytes and its headers as text")
    return body, anew
