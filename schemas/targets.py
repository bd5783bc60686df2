"""Where a replay may send records over HTTP, and with which secrets it signs them again. Must not resolve anything."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from schemas.limits import Network

HOST_NAME: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*\Z", re.ASCII)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _host_name(value: str) -> str:
    if not HOST_NAME.match(value):
        raise ValueError("expected a host name, an address or a network")
    return value


HostName = Annotated[str, BeforeValidator(_lower), AfterValidator(_host_name)]
AllowedHost = Annotated[Network | HostName, Field(union_mode="left_to_right")]


def _not_blank(secret: SecretStr) -> SecretStr:
    """Anybody can sign with an empty key."""
    if not secret.get_secret_value().strip():
        raise ValueError("is blank")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_not_blank)]


class ReplayConfig(BaseModel):
    """`[replay]` of redrive.toml.

    `allow_hosts` are names, addresses and networks beyond loopback; `secrets` are by target (`host[:port]`, as in its
    URL), then by source.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    allow_hosts: tuple[AllowedHost, ...] = ()
    secrets: dict[str, dict[str, Secret]] = Field(default_factory=dict)
