"""The Kafka cluster that the settings name, and whether it lets us in. Must not guess at settings that do not agree."""

import asyncio
import ssl
from pathlib import Path
from typing import Final

from aiokafka.conn import collect_hosts
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from replay.answering import ANSWER_SECONDS, is_answered
from replay.log.broker import ask_broker
from schemas.cluster import Cluster, Login
from schemas.errors import LogUnavailable, Misconfigured, RedriveError
from schemas.masking import reason_of
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
    """What was probably meant. A login without TLS is nothing to recommend."""
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
    return Misconfigured(f"{variable} is of no use: {path}: {error}; it takes PEM files that this user can read")


async def require_kafka(cluster: Cluster) -> None:
    """Ask its brokers for nothing, to hear the reason that a client hides behind `Unable to bootstrap`.

    Raises `Misconfigured` where asking again can't help, `LogUnavailable` where it can.
    """
    entries = [asyncio.ensure_future(_entry(cluster, host, port)) for host, port, _ in collect_hosts(cluster.servers)]
    reasons: list[RedriveError] = []
    try:
        for entry in asyncio.as_completed(entries):
            reason = await entry
            if reason is None:
                return
            reasons.append(reason)
    finally:
        for one in entries:
            one.cancel()
    raise next((reason for reason in reasons if isinstance(reason, Misconfigured)), reasons[-1])


async def _entry(cluster: Cluster, host: str, port: int) -> RedriveError | None:
    """Why this broker lets nobody in; None where it does."""
    asking = asyncio.ensure_future(ask_broker(cluster, host, port))
    try:
        if await is_answered(asking, ANSWER_SECONDS):
            await asking
            return None
        return _away(cluster, host, port, f"it has been silent for {ANSWER_SECONDS:g} s")
    except ssl.SSLCertVerificationError as error:
        return Misconfigured(
            f"the certificate of Kafka at {host}:{port} is not trusted: {error.verify_message};"
            " KAFKA_SSL_CAFILE names the CA that signed it, KAFKA_BOOTSTRAP_SERVERS the name that it was made for"
        )
    except ssl.SSLError as error:
        return Misconfigured(
            f"no TLS with Kafka at {host}:{port}: {error.reason};"
            f" does its listener speak {cluster.protocol} (KAFKA_SECURITY_PROTOCOL)?"
        )
    except UnsupportedSaslMechanismError as error:
        return Misconfigured(f"KAFKA_SASL_MECHANISM: {error.args[0] if error.args else reason_of(error)}")
    except (SaslAuthenticationFailed, AuthenticationFailedError):
        return Misconfigured(
            f"Kafka at {host}:{port} refuses the login of {cluster.login.username if cluster.login else 'nobody'}:"
            " see KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM"
        )
    except (OSError, KafkaError) as error:
        return _away(cluster, host, port, reason_of(error))
    finally:
        asking.cancel()


def _away(cluster: Cluster, host: str, port: int, reason: str) -> LogUnavailable:
    return LogUnavailable(
        f"Kafka does not answer at {host}:{port}: {reason};"
        f" if it runs, see whether its listener speaks {cluster.protocol} (KAFKA_SECURITY_PROTOCOL)"
    )
