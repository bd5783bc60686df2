"""A target as an operator names it, and as the ledger keeps it. Pure: whether it is there, or allowed, others say."""

import re
from dataclasses import asdict, dataclass
from ipaddress import IPv6Address
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, TypeAdapter, ValidationError

from replay.faults import first_fault
from schemas.errors import InvalidSelection
from schemas.targets import HOST_NAME
from schemas.topics import PREFIX, WINDOW

MAX_CONCURRENCY: Final = 64
_CONFIG: Final = ConfigDict(extra="forbid")
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

    __pydantic_config__: ClassVar = _CONFIG
    topic: str
    kind: Literal["topic"] = "topic"

    def __post_init__(self) -> None:
        if not _TOPIC.match(self.topic) or self.topic in (".", ".."):
            raise InvalidSelection(f"invalid topic name {self.topic!r}: expected 1 to 249 of A-Z a-z 0-9 . _ -")
        if self.topic.startswith((PREFIX, "__")) or self.topic == WINDOW:
            # The live workers would fold them again, the ingress or Kafka itself would read them.
            raise InvalidSelection(f"{self.topic} is redrive's or Kafka's own: copy into a topic of another name")

    def __str__(self) -> str:
        return f"topic:{self.topic}"

    def as_document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class HttpTarget:
    """An endpoint. `resign`: sign again with the secrets that redrive.toml has for it; they are never in the ledger."""

    __pydantic_config__: ClassVar = _CONFIG
    url: str
    resign: StrictBool = False
    concurrency: Annotated[StrictInt, Field(ge=1, le=MAX_CONCURRENCY)] = 8
    kind: Literal["http"] = "http"

    def __post_init__(self) -> None:
        match = _URL.match(self.url) if len(self.url) <= 2000 else None
        if match is None:
            raise InvalidSelection(
                "invalid target: expected http://HOST[:PORT][/PATH] or https://…, without user, query or fragment"
            )
        if match["port"] is not None and not 1 <= int(match["port"]) <= 65535:
            raise InvalidSelection("the target URL has an invalid port: expected 1 to 65535")
        _require_one_reading(match["host"].lower().removesuffix("."))
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise InvalidSelection(f"invalid concurrency: expected 1 to {MAX_CONCURRENCY}")

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
            raise InvalidSelection(f"the target's host {host} is not a valid IPv6 address")
    elif _NUMBER.match(labels[-1]):
        if len(labels) != 4 or not all(_OCTET.match(label) and int(label) <= 255 for label in labels):
            raise InvalidSelection(f"{host} is not a plain address: use four decimal numbers")
    elif not HOST_NAME.match(host):
        raise InvalidSelection(f"the target's host {host!r} is not a valid host name")


def _is_address(text: str) -> bool:
    try:
        return bool(IPv6Address(text))
    except ValueError:
        return False


def parse_target(text: str) -> TargetDocument:
    """`topic:NAME`, `http://…` or `https://…`. Raises `InvalidSelection`."""
    kind, _, rest = text.partition(":")
    return TopicTarget(rest) if kind == "topic" else HttpTarget(text)


def _document_of(value: object) -> object:
    return parse_target(value).as_document() if isinstance(value, str) else value


_Document = Annotated[TargetDocument, Field(discriminator="kind")]
Target = Annotated[_Document, BeforeValidator(_document_of, json_schema_input_type=_Document | str)]
"""A target in the ledger or in a request: a document, or its short text."""

_TARGET: Final[TypeAdapter[TargetDocument | None]] = TypeAdapter(Target | None)


def target_of(document: object) -> TargetDocument | None:
    """None is the projections. Raises `InvalidSelection`."""
    try:
        return _TARGET.validate_python(document)
    except ValidationError as error:
        raise InvalidSelection(f"invalid target: {first_fault(error)}") from error
