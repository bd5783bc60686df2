"""Every line of our logs says what was done, and one that is to be looked into has a code to look for."""

import ast
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WARNS = frozenset({"action", "code"})
LEVELS = {"info": {"action"}, "warning": WARNS, "error": WARNS, "exception": WARNS, "critical": WARNS}


def lines(folder: str) -> Iterator[tuple[str, AbstractSet[str]]]:
    """(where it is and what it lacks) of every call that writes a line."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text())
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            said = {
                target.id: node.value
                for node in ast.walk(function)
                if isinstance(node, ast.Assign)
                for target in node.targets
                if isinstance(target, ast.Name)
            }
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and is_log(call.func.value):
                    needed = LEVELS.get(call.func.attr, set())
                    extra = next((one.value for one in call.keywords if one.arg == "extra"), None)
                    yield f"{path.relative_to(ROOT)}:{call.lineno}", needed - fields(extra, said)


def is_log(node: ast.expr) -> bool:
    is_named = isinstance(node, ast.Name) and node.id == "log"
    return is_named or (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "getLogger"
    )


def fields(node: ast.expr | None, said: dict[str, ast.expr]) -> set[str]:
    if isinstance(node, ast.Name):
        return fields(said.get(node.id), said)
    if not isinstance(node, ast.Dict):
        return set()
    named = {key.value for key in node.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    spread = [fields(value, said) for key, value in zip(node.keys, node.values, strict=True) if key is None]
    return named.union(*spread)


@pytest.mark.parametrize("folder", ["deploy", "ingest", "processors", "replay", "schemas"])
def test_every_line_has_an_action_and_one_that_warns_a_code(folder: str) -> None:
    found = dict(lines(folder))
    assert found or folder == "schemas"
    assert {where: lacking for where, lacking in found.items() if lacking} == {}
