"""Where Kafka is, and how a client proves itself there. Must not read files: `deploy.cluster` does."""

from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any, Literal

from pydantic import SecretStr

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class Login:
    """How a client says who it is, over SASL."""

    mechanism: SaslMechanism
    username: str
    password: SecretStr


@dataclass(frozen=True, slots=True)
class Cluster:
    """The settings of every Kafka client: nobody passes an address alone, so nobody can forget the rest."""

    servers: str
    ssl_context: SSLContext | None = field(default=None, repr=False)
    login: Login | None = None

    @property
    def protocol(self) -> SecurityProtocol:
        if self.login is None:
            return "SSL" if self.ssl_context else "PLAINTEXT"
        return "SASL_SSL" if self.ssl_context else "SASL_PLAINTEXT"

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of aiokafka's producer, consumer and admin client."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": self.protocol,
            "ssl_context": self.ssl_context,
        }
        if self.login is not None:
            options |= {
                "sasl_mechanism": self.login.mechanism,
                "sasl_plain_username": self.login.username,
                "sasl_plain_password": self.login.password.get_secret_value(),
            }
        return options
