"""Limits of what the ingress accepts at once. Everything over a limit gets the cheapest possible answer."""

from ipaddress import IPv4Network, IPv6Network

from pydantic import BaseModel, ByteSize, ConfigDict, Field

Network = IPv4Network | IPv6Network


class LimitsConfig(BaseModel):
    """`[limits]` of redrive.toml. Limits of a source are with the source.

    `connections` and `in_flight_bytes` (bodies that are not answered yet) are per ingress process; `header_seconds` and
    `body_seconds` are how long a client may take to send them; of `trusted_proxies` we believe X-Forwarded-For.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    connections: int = Field(10_000, gt=0)
    connections_per_address: int | None = Field(None, gt=0)
    in_flight_bytes: ByteSize = Field(ByteSize(256 * 1024 * 1024), gt=0)
    headers: int = Field(128, gt=0)
    header_bytes: ByteSize = Field(ByteSize(8190), gt=0)
    header_seconds: float = Field(15.0, gt=0)
    body_seconds: float = Field(15.0, gt=0)
    trusted_proxies: tuple[Network, ...] = ()
