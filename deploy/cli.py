"""The command line: `redrive`. Exit codes: 0 done, 1 failed, 2 usage, 69 a dependency is down, 78 misconfigured."""

import functools
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import asyncpg
import click
import psycopg
import uvloop
from aiokafka.errors import KafkaConnectionError, KafkaError
from yoyo.exceptions import BadMigration, LockTimeout, MigrationConflict

from deploy.kafka import require_kafka
from deploy.service import YOUNG_OF_READERS, tune_garbage_collection
from deploy.supervisor import MISCONFIGURED
from deploy.terminal.output import print_json, warn
from deploy.wiring import adopt, load
from schemas.errors import InvalidSelection, Misconfigured, NothingSelected, RedriveError, Unavailable
from schemas.masking import describe, reason_of

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 69
EXIT_MISCONFIGURED: Final = MISCONFIGURED

P = ParamSpec("P")
T = TypeVar("T")


class Failed(RedriveError):
    """The command did what it could, and the outcome is a failure."""

    code = "failed"


class Reported(SystemExit):
    """The command has printed everything, in the form that was asked for; only the exit code is left."""


_EXITS: Final = {
    Misconfigured: EXIT_MISCONFIGURED,
    Unavailable: EXIT_UNAVAILABLE,
    NothingSelected: EXIT_FAILED,
    InvalidSelection: EXIT_USAGE,
    Failed: EXIT_FAILED,
}


_WHOLE: Final = 1000
"""Longer than any first sentence."""


class Commands(click.Group):
    """A group that lists its commands with the whole first sentence of each."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, self.commands[name].get_short_help_str(_WHOLE)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def examples(*lines: str) -> str:
    """The end of a command's help: what is typed, a line each."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def option(name: str, variable: str, help: str, **kwargs: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A flag that overrides an environment variable, and says which."""
    return click.option(name, help=f"{help}  [env: {variable}]", **kwargs)


json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
"""On every command that prints something."""

_SETTINGS_OPTIONS: Final = (
    option("--kafka", "KAFKA_BOOTSTRAP_SERVERS", "Kafka, host:port[,host:port].", metavar="SERVERS"),
    option("--database", "DATABASE_URL", "Postgres.", metavar="URL"),
    option("--data", "REDRIVE_DATA", "Folder for local data; default .redrive.", type=click.Path(path_type=Path)),
    option("--config", "REDRIVE_CONFIG", "Default redrive.toml.", type=click.Path(path_type=Path)),
)
_FIELDS: Final = {
    "kafka": "KAFKA_BOOTSTRAP_SERVERS",
    "database": "DATABASE_URL",
    "data": "REDRIVE_DATA",
    "config": "REDRIVE_CONFIG",
}


def with_runtime(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command its `Runtime`, made from flags, environment and files."""

    @functools.wraps(command)
    def wrapper(**kwargs: Any) -> T:
        runtime = load()
        adopt(runtime)
        return command(runtime, **kwargs)

    return with_settings(wrapper)


def with_settings(command: Callable[..., T]) -> Callable[..., T]:
    """Give a command the flags that settings have."""

    @functools.wraps(command)
    def wrapper(**kwargs: Any) -> T:
        for flag, variable in _FIELDS.items():
            value = kwargs.pop(flag)
            if value is not None:
                # Into the environment, so that a service which this command starts has it too.
                os.environ[variable] = str(value)
        return command(**kwargs)

    decorated: Callable[..., T] = wrapper
    for decorate in reversed(_SETTINGS_OPTIONS):
        decorated = decorate(decorated)
    return decorated


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    tune_garbage_collection(YOUNG_OF_READERS)
    return uvloop.run(coroutine)


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=examples(
        "redrive up",
        "redrive send stripe --wait",
        "redrive events list --from '1h ago'",
        "redrive replay plan --source stripe --from '2h ago' --to '1h ago'",
        "redrive prove",
    ),
)
@click.version_option(package_name="redrive")
def redrive() -> None:
    """Every webhook on the log before it is answered; any window of it re-driven safely.

    `redrive up` starts everything on this machine. Settings come from flags, the environment, .env, and redrive.toml.
    """


def load_commands() -> None:
    """Register every command; its module is imported only now."""
    from deploy.commands import (
        audit,
        check,
        correct,
        dead_letters,
        events,
        prove,
        quarantine,
        rebuild,
        replay,
        send,
        services,
        sources,
        topics,
        up,
        verify,
        why,
    )

    looking = (events, dead_letters, audit, why)
    changing = (quarantine, replay, rebuild, correct)
    for module in (up, services, check, topics, sources, send, *looking, verify, *changing, prove):
        for command in module.COMMANDS:
            redrive.add_command(command)


def main() -> None:
    """Run what the arguments say."""
    # The client reports every try to connect; a command says it once, and what to do.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    load_commands()
    with exit_codes():
        redrive.main(standalone_mode=False)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Our errors as exit codes, and one line that says what to do."""
    try:
        yield
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        if _is_json():
            print_json({"error": "usage", "message": error.format_message()})
        else:
            error.show()
        sys.exit(error.exit_code)
    except asyncpg.DataError as error:
        # A value that Postgres can't take, such as a text that is none, was typed.
        _fail(InvalidSelection(describe(error)))
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError) as error:
        _fail(Misconfigured(f"the database is not redrive's, or is older: {error}; run `redrive migrate --apply`"))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, KafkaError) as error:
        _fail(Unavailable(f"a dependency failed: {describe(error)}"))
    except (OSError, psycopg.Error, BadMigration, LockTimeout, MigrationConflict) as error:
        # A disk that is full, a socket that is refused, a migration that the database does not take.
        name, reason = type(error).__name__, reason_of(error)
        _fail(Unavailable(reason if reason == name else f"{name}: {reason}"))
    except RedriveError as error:
        _fail(_explained(error))


def _explained(error: RedriveError) -> RedriveError:
    """A client of Kafka's says no more than that it can't bootstrap: ask once more, and hear why."""
    if isinstance(error.__cause__, KafkaConnectionError):
        try:
            run(require_kafka(load().cluster()))
        except RedriveError as reason:
            return reason
    return error


def _fail(error: RedriveError) -> NoReturn:
    code = next((exit for kind, exit in _EXITS.items() if isinstance(error, kind)), EXIT_FAILED)
    if _is_json():
        print_json({"error": error.code, "message": str(error)})
    else:
        warn(str(error), "redrive:", "bold red")
    sys.exit(code)


def _is_json() -> bool:
    return "--json" in sys.argv
