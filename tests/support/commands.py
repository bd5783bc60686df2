"""A command, run in this process."""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner

from deploy import cli


async def invoke(folder: Path, environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """(exit code, what it printed or why it failed), in a thread of its own: a command runs an event loop.

    The folder is this process's meanwhile.
    """

    def run() -> tuple[int, str]:
        cli.load_commands()
        with contextlib.chdir(folder):
            done = CliRunner().invoke(cli.redrive, arguments, env=environment)
        return done.exit_code, done.output or str(done.exception)

    return await asyncio.to_thread(run)
