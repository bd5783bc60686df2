"""The flags that commands share, and the settings that a command starts from."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import click

from deploy.wiring import adopt, load

P = ParamSpec("P")
T = TypeVar("T")


def option(name: str, variable: str, help: str, **kwargs: Any) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A flag that overrides an environment variable, and says which."""
    return click.option(name, help=f"{help}  [env: {variable}]", **kwargs)


json_option: Final = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
"""On every command that prints something."""


def _given(_: click.Context, __: click.Parameter, reason: str) -> str:
    if not reason.strip():
        raise click.BadParameter("must not be blank")
    return reason.strip()


required_reason: Final = click.option("--reason", required=True, callback=_given, help="Why; goes into the audit.")

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
