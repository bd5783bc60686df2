"""A request as the text of a fuzzer's input: request line, headers, an empty line, the body. Every byte string is one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

from schemas.envelope import Delivery, called_url

PUBLIC_URL = "https://hooks.example.com"
NOW = 1_750_000_000


@dataclass(frozen=True)
class Request:
    """Header names are in lower case; a header that comes twice has its last value."""

    method: str = "POST"
    target: str = "/webhooks/x"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @classmethod
    def decode(cls, data: bytes) -> Self:
        head, separator, body = data.partition(b"\n\n")
        if not separator:
            return cls(body=data)
        first, *lines = head.decode("utf-8", "surrogateescape").split("\n")
        method, _, target = first.partition(" ")
        fields = (line.partition(":") for line in lines)
        return cls(method, target, {name.strip().lower(): value.strip() for name, _, value in fields}, body)

    def encode(self) -> bytes:
        lines = [f"{self.method} {self.target}", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n\n" + self.body

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        return replace(self, headers={**self.headers, **{name.lower(): value for name, value in headers.items()}})

    def delivery(self, source: str) -> Delivery:
        """As the ingress would have it, on a host without `PUBLIC_URL` where the request names one."""
        path, _, query = self.target.partition("?")
        host = self.headers.get("host")
        url = called_url(PUBLIC_URL if host is None else None, host or "", self.target)
        return Delivery(source, self.method, url, path, query, self.headers, self.body, "192.0.2.1", NOW * 1000)

    @property
    def kafka_headers(self) -> list[tuple[str, bytes]]:
        """The same lines as headers of a record."""
        return [(name, value.encode("utf-8", "surrogateescape")) for name, value in self.headers.items()]
