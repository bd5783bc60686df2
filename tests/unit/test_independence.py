"""No test hangs on another: what several need is in `tests/support/`, or is a fixture of a `conftest.py` above them."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported(path: Path) -> Iterator[str]:
    """`module.name` for every name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{name.name}" for name in node.names)


def is_of_some_test(name: str) -> bool:
    """The rig of all, `tests/conftest.py`, says what a `Stack` is; those below it hold nothing but fixtures."""
    _, *parts = name.split(".")
    return any(part.startswith("test_") for part in parts) or "conftest" in parts[1:]


def test_nothing_is_imported_from_a_test_or_from_the_rig_of_some() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for folder in ("tests", "bench")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in imported(path)
        if name.startswith(("tests.", ".")) and is_of_some_test(name)
    ]
    assert found == []
