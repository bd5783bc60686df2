"""Groups of commands, and how they present themselves. Must not import a command."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, NamedTuple

import click

_WHOLE: Final = 1000
"""Longer than any first sentence."""


class Commands(click.Group):
    """A group that lists its commands with the whole first sentence of each."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self.sentence_of(name)) for name in self.list_commands(ctx)])

    def sentence_of(self, name: str) -> str:
        return self.commands[name].get_short_help_str(_WHOLE)


class Unloaded(NamedTuple):
    """A command whose module, of `deploy.commands`, is imported when the command is used."""

    module: str
    name: str
    sentence: str
    """The first one of its help."""


class LazyCommands(Commands):
    """A group that knows its commands by name and sentence, and imports those alone that are used."""

    def __init__(self, *arguments: Any, unloaded: Mapping[str, Unloaded], **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._unloaded = unloaded

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._unloaded)

    def sentence_of(self, name: str) -> str:
        return self._unloaded[name].sentence

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands and (found := self._unloaded.get(cmd_name)):
            module = import_module(f"deploy.commands.{found.module}")
            self.add_command(getattr(module, found.name), cmd_name)
        return self.commands.get(cmd_name)


def examples(*lines: str) -> str:
    """The end of a command's help: what is typed, a line each."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
