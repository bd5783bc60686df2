"""What each projection's code was when its VERSION was last looked at: `python -m tests.projection_lock` writes it down.

A changed projection under an old version would fold rows that differ from those of its own version, and nobody could
tell that a generation needs a rebuild.
"""

import argparse
import ast
import hashlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypedDict

import phonenumbers

from processors import projections
from processors.projections import addresses, base, content

LOCK: Final = Path(__file__).parent / "projection_lock.json"
ROOT: Final = Path(__file__).parents[1]


class Locked(TypedDict):
    version: int
    sha256: str


def modules() -> dict[str, ModuleType]:
    """Ours by their names; `register` adds a plug-in's to the same registry."""
    found = {key: one for key, one in projections.modules().items() if isinstance(one, ModuleType)}
    return {key: one for key, one in found.items() if one.__name__ == f"processors.projections.{key}"}


def now() -> dict[str, Locked]:
    """Of a projection: its own modules, the payloads that it reads, and what all projections share.

    The numbering plans that `phonenumbers` knows are shared, too: a record can mean another number under other plans.
    """
    shared = [Path(str(one.__file__)) for one in (base, addresses, content)]
    found: dict[str, Locked] = {}
    for name, module in modules().items():
        payloads = f"providers/{name}.py" if name != "operator" else "corrections.py"
        own = Path(str(module.__file__))
        sources = [own, *sorted(own.parent.glob(f"{name}_*.py")), *shared, ROOT / "schemas" / payloads]
        meanings = [phonenumbers.__version__, *(meaning(path.read_text()) for path in sources)]
        digest = hashlib.sha256("\n".join(meanings).encode()).hexdigest()
        found[name] = {"version": module.VERSION, "sha256": digest}
    return found


def meaning(source: str) -> str:
    """The code without comments, docstrings, layout and its VERSION; the same under every Python that we support."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [one for one in node.body if not _says_nothing(one)]
    return _dump(tree)


def _says_nothing(node: ast.stmt) -> bool:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    is_version = isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "VERSION"
    return is_text or is_version


def _dump(node: Any) -> str:
    if isinstance(node, ast.AST):
        parts = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({', '.join(f'{name}={_dump(value)}' for name, value in parts)})"
    if isinstance(node, list):
        return f"[{', '.join(_dump(one) for one in node)}]"
    return repr(node)


def faults(locked: dict[str, Locked], found: dict[str, Locked]) -> list[str]:
    """What was changed without a new version, and what was not written down."""
    said = []
    for name, one in found.items():
        before = locked.get(name)
        if before is not None and one["sha256"] != before["sha256"] and one["version"] == before["version"]:
            said.append(
                f"{name}: its projection was changed. If a record now means other rows, add 1 to VERSION in"
                f" processors/projections/{name}.py; then run `python -m tests.projection_lock`, with --same-rows"
                " where it does not"
            )
        elif before != one:
            said.append(f"{name}: run `python -m tests.projection_lock`")
    return said + [
        f"{name}: is no projection any more; run `python -m tests.projection_lock`"
        for name in locked.keys() - found.keys()
    ]


def read() -> dict[str, Locked]:
    return json.loads(LOCK.read_text()) if LOCK.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--same-rows", action="store_true", help="the changed code folds every record as before")
    locked, found = read(), now()
    changed = [text for text in faults(locked, found) if "was changed" in text]
    if changed and not parser.parse_args().same_rows:
        sys.exit("\n".join(changed))
    LOCK.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
