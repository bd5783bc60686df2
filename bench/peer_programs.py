"""Where `make bench-peers` puts what the peers run on, and which versions it is."""

import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from bench.machine import ROOT
from schemas.errors import Unavailable

_ENVIRONMENT: Final = ROOT / ".venv-peers"
PYTHON: Final = _ENVIRONMENT / "bin" / "python"
INGRESS: Final = ROOT / "build" / "peers" / "ingress"
_NAMED: Final = ("granian", "aiokafka", "uvloop", "bytewax", "quixstreams", "confluent-kafka", "psycopg", "orjson")
_GO_FACTS: Final = re.compile(r": (go[\d.]+)$|^\tdep\tgithub\.com/twmb/(franz-go)\t(\S+)", re.MULTILINE)


def require(program: Path) -> None:
    if not program.exists():
        raise Unavailable(f"{program.relative_to(ROOT)} is missing: `make bench-peers` installs the peers")


def python_versions() -> str:
    """Of the libraries that the peers in Python are or stand on."""
    found = {
        distribution.name: distribution.version
        for folder in _ENVIRONMENT.glob("lib/python3*/site-packages")
        for distribution in distributions(path=[str(folder)])
    }
    return ", ".join(f"{name} {found[name]}" for name in _NAMED if name in found)


def go_versions() -> str:
    """As the program itself was built."""
    try:
        done = subprocess.run(["go", "version", "-m", str(INGRESS)], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise Unavailable("go is missing: https://go.dev/dl, or your system's package of it") from error
    return ", ".join(match[1] or f"{match[2]} {match[3]}" for match in _GO_FACTS.finditer(done.stdout))
