"""The Kafka cluster that the settings name. Must not guess at settings that do not agree, and imports no client."""

import ssl
from pathlib import Path
from typing import Final

from schemas.cluster import Cluster, Login
from schemas.errors import Misconfigured
from schemas.settings import Settings

_LOGIN: Final = ("KAFKA_SASL_MECHANISM", "KAFKA_SASL_USERNAME", "KAFKA_SASL_PASSWORD")
_FILES: Final = ("KAFKA_SSL_CAFILE", "KAFKA_SSL_CERTFILE", "KAFKA_SSL_KEYFILE", "KAFKA_SSL_KEY_PASSWORD")


def cluster_of(settings: Settings) -> Cluster:
    """Raises `Misconfigured` where a variable is missing, or is set and would not be used."""
    if not settings.kafka_bootstrap_servers:
        raise Misconfigured("KAFKA_BOOTSTRAP_SERVERS is not set (`redrive up` starts an embedded Kafka)")
    protocol = settings.kafka_security_protocol
    values = {name: getattr(settings, name.lower()) for name in (*_LOGIN, *_FILES)}
    unused = [] if protocol.startswith("SASL") else [name for name in _LOGIN if values[name] is not None]
    unused += [] if protocol.endswith("SSL") else [name for name in _FILES if values[name] is not None]
    if unused:
        raise Misconfigured(
            f"{' and '.join(unused)} would not be used: KAFKA_SECURITY_PROTOCOL is {protocol};"
            f" set it to {_protocol(values)}, or unset the rest"
        )
    return Cluster(settings.kafka_bootstrap_servers, _context(settings), _login(settings))


def _protocol(values: dict[str, object]) -> str:
    """The protocol that was probably meant. A login without TLS is never recommended."""
    return "SASL_SSL" if any(values[name] is not None for name in _LOGIN) else "SSL"


def _login(settings: Settings) -> Login | None:
    if not settings.kafka_security_protocol.startswith("SASL"):
        return None
    mechanism, username, password = (
        settings.kafka_sasl_mechanism,
        settings.kafka_sasl_username,
        settings.kafka_sasl_password,
    )
    if mechanism is None or username is None or password is None:
        found = (mechanism, username, password)
        missing = [name for name, value in zip(_LOGIN, found, strict=True) if value is None]
        raise Misconfigured(f"KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} needs {' and '.join(missing)}")
    return Login(mechanism, username, password)


def _context(settings: Settings) -> ssl.SSLContext | None:
    """Names are always checked. Without a CA file, those that the system trusts."""
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    certificate, key, password = (
        settings.kafka_ssl_certfile,
        settings.kafka_ssl_keyfile,
        settings.kafka_ssl_key_password,
    )
    if certificate is None and (key is not None or password is not None):
        raise Misconfigured("KAFKA_SSL_KEYFILE and KAFKA_SSL_KEY_PASSWORD need KAFKA_SSL_CERTFILE")
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
    except OSError as error:
        raise _unusable("KAFKA_SSL_CAFILE", settings.kafka_ssl_cafile, error) from error
    if certificate is not None:
        try:
            # Without a password an encrypted key would ask the terminal for one.
            context.load_cert_chain(certificate, key, password.get_secret_value() if password else "")
        except (OSError, ValueError) as error:
            raise _unusable("KAFKA_SSL_CERTFILE or KAFKA_SSL_KEYFILE", key or certificate, error) from error
    return context


def _unusable(variable: str, path: Path | None, error: Exception) -> Misconfigured:
    return Misconfigured(f"cannot load {variable}: {path}: {error}; expected PEM files that this user can read")
