"""No module imports, by whatever way, a module that imports it; and a command loads only what it needs."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("schemas", "ingest", "processors", "replay", "deploy")
FILES: Final = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imports_of(module: str) -> set[str]:
    """The modules of ours that it imports, at its top or in a function."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            named |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            # `from package import module` needs the module; `from module import name`, the one before.
            inner = {f"{node.module}.{one.name}" for one in node.names}
            named |= (inner & FILES.keys()) or {node.module}
    return named & FILES.keys()


def test_no_module_imports_one_that_imports_it() -> None:
    graph = {module: imports_of(module) for module in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError("an import circle: " + " <- ".join(error.args[1])) from None


_LOADED: Final = """
import sys
sys.argv[1:] = {arguments}
try:
    from deploy.cli import main
    main()
except SystemExit:
    pass
print(*{{name.partition(".")[0] for name in sys.modules}}, file=sys.stderr)
"""


def loaded_by(*arguments: str) -> set[str]:
    """The top-level names of the modules that `redrive ARGUMENTS` imports."""
    program = _LOADED.format(arguments=list(arguments))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


CLIENTS: Final = {"aiohttp", "aiokafka", "faust", "psycopg", "yoyo"}


@pytest.mark.parametrize("flag", ["--version", "--help"])
def test_to_describe_itself_redrive_needs_no_library_but_that_of_commands(flag: str) -> None:
    heavy = CLIENTS | {"asyncpg", "pydantic", "uvloop", "rich", "orjson", "cryptography", "dateparser", "phonenumbers"}
    assert loaded_by(flag) & heavy == set()
    assert "click" in loaded_by(flag)


def test_a_list_of_events_needs_postgres_alone() -> None:
    loaded = loaded_by("events", "list", "--help")
    assert loaded & (CLIENTS | {"dateparser", "phonenumbers", "ingest"}) == set()
    assert "asyncpg" in loaded
