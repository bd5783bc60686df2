"""One name means one thing: a reader who searches for it finds one class, one type or one SQL statement."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "ingest", "processors", "replay", "deploy")


class Definition(NamedTuple):
    kind: str
    name: str
    meaning: str
    where: str


def definitions(where: str, source: str) -> Iterator[Definition]:
    """Every class, every alias of a type and every SQL constant of a module.

    A class means the place where it is; an alias and a constant mean their text.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield Definition("class", node.name, f"{where}:{node.lineno}", where)
    for statement in tree.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                annotation = ast.unparse(statement.annotation)
                if "LiteralString" in annotation:
                    yield Definition("SQL", name, "".join(ast.unparse(value).replace("\\n", " ").split()), where)
                elif "TypeAlias" in annotation:
                    yield Definition("alias", name, ast.unparse(value), where)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if _is_type_name(name):
                if isinstance(value, ast.Subscript | ast.Call | ast.BinOp | ast.Name | ast.Attribute):
                    yield Definition("alias", name, ast.unparse(value), where)


def _is_type_name(name: str) -> bool:
    return name[0].isupper() and not name.isupper()


def clashes(found: Iterator[Definition]) -> list[str]:
    """A class and an alias of one name clash, too. A constant is its module's own, so it clashes with constants only."""
    by_name: defaultdict[tuple[bool, str], dict[str, str]] = defaultdict(dict)
    for one in found:
        by_name[one.kind == "SQL", one.name].setdefault(one.meaning, one.where)
    return [
        f"{name} means different things in {', '.join(sorted(meanings.values()))}"
        for (_, name), meanings in sorted(by_name.items())
        if len(meanings) > 1
    ]


def test_each_name_of_a_class_an_alias_or_a_statement_means_one_thing() -> None:
    modules = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    assert len(modules) > 200
    found = (one for path in modules for one in definitions(str(path.relative_to(ROOT)), path.read_text()))
    assert not clashes(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("class Order: ...", "class Order: ..."),
        ("class Order: ...", "class _Draft:\n    class Order: ..."),
        ("class Order: ...", "Order = tuple[str, int]"),
        ("Order = tuple[str, int]", "Order = tuple[str, int, int]"),
        ("Order: TypeAlias = 'int'", "Order: TypeAlias = 'str'"),
        ("Order = int | None", "Order = str | None"),
        ("_LIST: Final[LiteralString] = 'SELECT 1'", "_LIST: Final[LiteralString] = 'SELECT 2'"),
        ("_LIST: Final[LiteralString] = f'{A}'", "_LIST: Final[dict[str, LiteralString]] = {'a': 'SELECT 2'}"),
    ],
)
def test_two_meanings_of_a_name_are_found(one: str, other: str) -> None:
    both = [*definitions("a.py", one), *definitions("b.py", other)]
    assert len(clashes(iter(both))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Row = tuple[str, int]", "Row = tuple[str, int]"),
        ("_LIST: Final[LiteralString] = 'SELECT 1'", "_LIST: Final[LiteralString] = '''\n  SELECT 1'''"),
        ("class A: ...", "class B: ..."),
        ("LIMIT: Final = 1", "LIMIT: Final = 2"),
    ],
)
def test_one_meaning_in_two_modules_is_none_of_them(one: str, other: str) -> None:
    assert not clashes(iter([*definitions("a.py", one), *definitions("b.py", other)]))
