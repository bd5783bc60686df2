"""The reasons for which a Kafka cluster refuses us."""

import asyncio
import ssl

from aiokafka.conn import collect_hosts
from aiokafka.errors import (
    AuthenticationFailedError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from replay.answering import ANSWER_SECONDS, is_answered
from replay.log.broker import ask_broker
from schemas.cluster import Cluster
from schemas.errors import LogUnavailable, Misconfigured, RedriveError
from schemas.masking import reason_of


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
