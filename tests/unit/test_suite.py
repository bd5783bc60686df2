"""The suite itself: one failure is one failure, and every wait has the one limit."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
OWN_LIMITS = {
    # The limit itself.
    "support/waiting.py",
    # One of many tries, each with a delivery of its own.
    "acceptance/test_hosts.py",
}
UNSHOWABLE = """
from _pytest._code.code import ExceptionInfo
from tests.conftest import pytest_runtest_makereport

def fail(*_, **__):
    raise SystemError("AST constructor recursion depth mismatch")

ExceptionInfo.getrepr = fail
"""
TWO_TESTS = """
def test_one():
    assert "the cause" == ""

def test_two():
    pass
"""


def test_a_failure_that_can_not_be_shown_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(UNSHOWABLE)
    (tmp_path / "test_both.py").write_text(TWO_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", str(tmp_path), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent), "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "the cause" in done.stdout
    assert "recursion depth mismatch" in done.stdout


def waits(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls of `asyncio.timeout` and `asyncio.wait_for`."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="asyncio"), attr="timeout" | "wait_for")):
                yield node


def test_no_wait_has_a_limit_of_its_own() -> None:
    """A slow machine needs one number, TEST_WAIT_SECONDS, and no edit."""
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        name = str(path.relative_to(TESTS))
        # They measure a service, and are no part of `make test`.
        if name not in OWN_LIMITS and not name.startswith(("soak/", "fuzz/")):
            found += [f"{name}:{call.lineno}" for call in waits(ast.parse(path.read_text()))]
    assert found == []
