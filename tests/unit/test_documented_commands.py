"""The documentation and the command line know the same commands and flags."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from tests.support.commands import every_command

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md"))]
_BLOCK: Final = re.compile(r"^ *```(?:sh|console)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_PROMPT: Final = re.compile(r"^ *(?:\$ )?(?:[A-Z_]+=\S+ )*(?:sudo |\.venv/bin/|python -m |exec )?(redrive .*)$")
_ENDS: Final = frozenset({"|", "||", "&&", ";", "&", ">", ">>", "<", "2>"})
REFERENCE: Final = (ROOT / "docs/reference/commands.md").read_text()
PLACEHOLDERS: Final = {"ID": "0b7c2a52-6a4e-4f0e-9c1d-3c1a3ad5f8a1"}


def commands_of(path: Path) -> list[str]:
    found = []
    for block in _BLOCK.findall(path.read_text()):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if match := _PROMPT.match(line):
                found.append(match[1])
    return found


def words_of(command: str) -> list[str]:
    """Up to where the shell takes over."""
    found: list[str] = []
    for word in shlex.split(command, comments=True)[1:]:
        if word in _ENDS:
            break
        is_placeholder = word.endswith("…") and re.match(r"[0-9a-f]{2,}", word)
        found.append(PLACEHOLDERS["ID"] if is_placeholder else PLACEHOLDERS.get(word, word))
    return found


WRITTEN: Final = [(path, command) for path in PAGES for command in commands_of(path)]


@pytest.fixture(scope="module")
def root() -> click.Group:
    return every_command()


@pytest.mark.parametrize(("path", "command"), WRITTEN, ids=[f"{path.stem}: {command}" for path, command in WRITTEN])
def test_it_is_a_command(
    root: click.Group, path: Path, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    require_command(root, command)


def require_command(root: click.Group, command: str) -> None:
    """Fails where the command line does not take it; the files that it names are made here."""
    words = words_of(command)
    for name in words:
        if re.fullmatch(r"[\w-]+\.json", name):
            Path(name).touch()
    context: click.Context | None = None
    at: click.Command = root
    while True:
        context = at.make_context(at.name, list(words), parent=context)
        if not isinstance(at, click.Group):
            return
        left = [*context._protected_args, *context.args]
        if not left:
            return
        _, following, words = at.resolve_command(context, left)
        assert following is not None
        at = following


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for part, inner in command.commands.items():
            yield from leaves(inner, f"{name} {part}")
    if not isinstance(command, click.Group) or command.invoke_without_command:
        yield name, command


def test_every_command_and_flag_is_in_the_reference(root: click.Group) -> None:
    missing = set()
    for name, command in leaves(root, "redrive"):
        group, _, verb = name.rpartition(" ")
        if f"`{name}" not in REFERENCE and not re.search(rf"`{group} [\w\\|]*\b{verb}\b", REFERENCE):
            missing.add(name)
        flags = {flag for one in command.params if isinstance(one, click.Option) for flag in one.opts}
        missing |= {f"{name} {flag}" for flag in flags - {"--help"} if not re.search(rf"{flag}\b", REFERENCE)}
    assert missing == set()


EXAMPLES: Final = re.compile(r"^Examples:\n((?:  .*\n?)+)", re.MULTILINE)


def help_of(command: click.Command, name: str) -> str:
    return command.get_help(click.Context(command, info_name=name, max_content_width=110, terminal_width=110))


def test_the_help_of_every_command_shows_examples_that_it_takes(
    root: click.Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, command in (("redrive", root), *leaves(root, "redrive")):
        found = EXAMPLES.search(re.sub(r"^  ", "", help_of(command, name), flags=re.MULTILINE))
        assert found, f"{name} --help shows no example"
        lines = [line.strip() for line in found[1].splitlines()]
        assert all(name in line for line in lines), (name, lines)
        for line in lines:
            require_command(root, re.sub(r"^[A-Z_]+=\S+ ", "", line))


def groups(command: click.Group, name: str) -> Iterator[tuple[str, click.Group]]:
    yield name, command
    for part, inner in command.commands.items():
        if isinstance(inner, click.Group):
            yield from groups(inner, f"{name} {part}")


def test_a_group_says_the_whole_first_sentence_of_each_command(root: click.Group) -> None:
    for name, group in groups(root, "redrive"):
        shown = " ".join(help_of(group, name).split())
        for part, command in group.commands.items():
            first = command.get_short_help_str(10_000)
            assert first, f"{name} {part}"
            assert f" {part} {first}" in shown, f"{name} {part}"
