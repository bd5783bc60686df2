"""Commands, run in this process."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

import click
from click.testing import CliRunner

from deploy import cli


async def invoke(folder: Path, environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """(exit code, what it printed or why it failed), in a thread of its own: a command runs an event loop.

    The folder is this process's meanwhile.
    """

    def run() -> tuple[int, str]:
        with contextlib.chdir(folder):
            done = CliRunner().invoke(cli.redrive, arguments, env=environment)
        return done.exit_code, done.output or str(done.exception)

    return await asyncio.to_thread(run)


def every_command() -> click.Group:
    """`redrive`, with the module of each command imported."""
    context = click.Context(cli.redrive)
    for name in cli.redrive.list_commands(context):
        cli.redrive.get_command(context, name)
    return cli.redrive
