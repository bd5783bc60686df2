"""A target as an operator names it, and as the ledger keeps it. Pure: whether it is there, or allowed, others say."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from ipaddress import IPv6Address
from typing import Any, Final, Literal

from schemas.errors import InvalidSelection
from schemas.targets import HOST_NAME
from schemas.topics import PREFIX, WINDOW

MAX_CONCURRENCY: Final = 64
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}\Z", re.ASCII)
_URL: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?\Z",
    re.ASCII,
)
"""No user, no query, no fragment, nothing that two readers could take for two hosts."""

_NUMBER: Final = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\Z", re.ASCII)
_OCTET: Final = re.compile(r"(?:0|[1-9][0-9]{0,2})\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class TopicTarget:
    """Another topic of the same cluster."""

    topic: str
    kind: Literal["topic"] = "topic"

    def __post_init__(self) -> None:
        if not _TOPIC.match(self.topic) or self.topic in (".", ".."):
            raise InvalidSelection(f"{self.topic!r} is no name of a topic")
        if self.topic.startswith((PREFIX, "__")) or self.topic == WINDOW:
            # The live workers would fold them again, the ingress or Kafka itself would read them.
            raise InvalidSelection(f"{self.topic} is redrive's or Kafka's own: copy into a topic of another name")

    def __str__(self) -> str:
        return f"topic:{self.topic}"

    def as_document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """An endpoint. `resign`: sign anew with the secrets that redrive.toml has for it; they are never in the ledger."""

    url: str
    resign: bool = False
    concurrency: int = 8
    kind: Literal["http"] = "http"

    def __post_init__(self) -> None:
        match = _URL.match(self.url) if len(self.url) <= 2000 else None
        if match is None:
            raise InvalidSelection(
                "a target is http://HOST[:PORT][/PATH] or https://…, without user, query or fragment"
            )
        if match["port"] is not None and not 1 <= int(match["port"]) <= 65535:
            raise InvalidSelection("the target's port is none")
        _require_one_reading(match["host"].lower().removesuffix("."))
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise InvalidSelection(f"concurrency is a number from 1 to {MAX_CONCURRENCY}")

    def __str__(self) -> str:
        return self.url

    @property
    def host(self) -> str:
        """Lower-case, without brackets."""
        return self._part("host").strip("[]").lower()

    @property
    def authority(self) -> str:
        """`host[:port]`, as written in the URL: what redrive.toml names it by."""
        port = self._part("port")
        return self._part("host").lower() + (f":{port}" if port else "")

    @property
    def origin(self) -> str:
        return f"{self._part('scheme')}://{self.authority}"

    @property
    def path(self) -> str:
        return self._part("path") or "/"

    def as_document(self) -> dict[str, Any]:
        return asdict(self)

    def _part(self, name: str) -> str:
        match = _URL.match(self.url)
        return (match[name] if match else None) or ""


TargetDocument = TopicTarget | HttpTarget


def _require_one_reading(host: str) -> None:
    """`0x7f.1`, `2130706433` and `0177.0.0.1` are addresses to some and names to others."""
    labels = host.split(".")
    if host.startswith("["):
        if not _is_address(host[1:-1]):
            raise InvalidSelection(f"{host} is no address")
    elif _NUMBER.match(labels[-1]):
        if len(labels) != 4 or not all(_OCTET.match(label) and int(label) <= 255 for label in labels):
            raise InvalidSelection(f"{host} is not written as an address is: use four plain numbers")
    elif not HOST_NAME.match(host):
        raise InvalidSelection(f"{host!r} is no host name")


def _is_address(text: str) -> bool:
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def parse_target(text: str) -> TargetDocument:
    """`topic:NAME`, `http://…` or `https://…`. Raises `InvalidSelection`."""
    kind, _, rest = text.partition(":")
    return TopicTarget(rest) if kind == "topic" else HttpTarget(text)


def target_of(document: object) -> TargetDocument | None:
    """What the ledger or a request holds: a document, or its short text; None is the projections.

    Raises `InvalidSelection`.
    """
    if document is None:
        return None
    if isinstance(document, str):
        return parse_target(document)
    if not isinstance(document, Mapping):
        raise InvalidSelection("target is a text or an object")
    fields = dict(document)
    kind = fields.pop("kind", None)
    wanted: dict[str, type] = {"topic": str} if kind == "topic" else {"url": str, "resign": bool, "concurrency": int}
    first = next(iter(wanted))
    if kind not in ("topic", "http") or first not in fields or fields.keys() - wanted.keys():
        raise InvalidSelection(
            'target is {"kind": "topic", "topic"} or {"kind": "http", "url", "resign", "concurrency"}'
        )
    for name, value in fields.items():
        if type(value) is not wanted[name]:
            raise InvalidSelection(f"target.{name} is of another type")
    return TopicTarget(**fields) if kind == "topic" else HttpTarget(**fields)
