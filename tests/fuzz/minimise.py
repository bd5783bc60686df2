"""Adds to the corpus what a long run learnt: `python -m tests.fuzz.minimise`. An input stays out of it unless it takes a
step from one line of ours to another that no seed, no input of the corpus and no smaller one takes.
"""

import sys
from hashlib import sha256
from pathlib import Path
from types import FrameType
from typing import Any

from tests.fuzz.__main__ import LEARNT
from tests.fuzz.targets import CORPUS, TARGETS, Target

OURS = ("/schemas/", "/ingest/", "/processors/", "/replay/", "/deploy/")
MAX_BYTES = 1500
"""Of an input: what takes more is a fixture, or nearly one."""

Step = tuple[str, int, int]


def steps(target: Target, data: bytes) -> set[Step]:
    found: set[Step] = set()

    def called(frame: FrameType, event: str, _: Any) -> Any:
        name = frame.f_code.co_filename
        if not any(folder in name for folder in OURS):
            return None
        before = 0

        def traced(inner: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                found.add((name, before, inner.f_lineno))
                before = inner.f_lineno
            return traced

        return traced

    sys.settrace(called)
    try:
        target.check(data)
    finally:
        sys.settrace(None)
    return found


def minimise(name: str) -> int:
    """How many inputs were added."""
    target, known, added = TARGETS[name], set[Step](), 0
    for _, data in target.inputs(name):
        known |= steps(target, data)
    for path in sorted((LEARNT / name).glob("*"), key=lambda path: path.stat().st_size):
        data = path.read_bytes()
        if len(data) <= MAX_BYTES and (new := steps(target, data) - known):
            known |= new
            (CORPUS / name / sha256(data).hexdigest()[:16]).write_bytes(data)
            added += 1
    return added


def main() -> None:
    Path(CORPUS).mkdir(exist_ok=True)
    for name in TARGETS:
        (CORPUS / name).mkdir(exist_ok=True)
        print(f"{name:24} {minimise(name)} added", flush=True)


if __name__ == "__main__":
    main()
