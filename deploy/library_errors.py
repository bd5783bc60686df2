"""The errors of the libraries that speak with servers, as errors of redrive."""

import asyncpg
import psycopg
from aiokafka.errors import KafkaConnectionError, KafkaError
from yoyo.exceptions import BadMigration, LockTimeout, MigrationConflict

from deploy.event_loop import run
from deploy.kafka import require_kafka
from deploy.wiring import load
from schemas.errors import InvalidSelection, Locked, Misconfigured, RedriveError, Unavailable
from schemas.masking import describe, reason_of


def explained(error: Exception) -> RedriveError | None:
    """The error to show the operator; None for an unforeseen one."""
    if isinstance(error, RedriveError):
        return _reason_of_kafka(error)
    if isinstance(error, asyncpg.DataError):
        # Postgres can't take a value that was typed, such as a text with a NUL.
        return InvalidSelection(describe(error))
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.InvalidSchemaNameError):
        return Misconfigured(f"the database is not redrive's, or is older: {error}; run `redrive migrate --apply`")
    if isinstance(error, asyncpg.LockNotAvailableError):
        return Locked()
    if isinstance(error, asyncpg.PostgresError | asyncpg.InterfaceError | KafkaError):
        return Unavailable(f"a dependency failed: {describe(error)}")
    if isinstance(error, OSError | psycopg.Error | BadMigration | LockTimeout | MigrationConflict):
        # A disk that is full, a socket that is refused, a migration that the database does not take.
        name, reason = type(error).__name__, reason_of(error)
        return Unavailable(reason if reason == name else f"{name}: {reason}")
    return None


def _reason_of_kafka(error: RedriveError) -> RedriveError:
    """A client of Kafka's says no more than that it can't bootstrap: ask once more, and hear why."""
    if isinstance(error.__cause__, KafkaConnectionError):
        try:
            run(require_kafka(load().cluster()))
        except RedriveError as reason:
            return reason
    return error
