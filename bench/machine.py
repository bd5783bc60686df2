"""What the figures were taken on: they mean nothing without it."""

import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

import psutil

from deploy.embedded.kafka_jars import KAFKA

ROOT: Final = Path(__file__).resolve().parent.parent
_LIBRARIES: Final = ("aiohttp", "uvloop", "aiokafka", "faust-streaming", "asyncpg", "orjson", "pydantic")


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine at one time. `load` is the one-minute load average before the run started anything."""

    measured_at: str
    revision: str
    cores: int
    memory_gib: int
    cpu: str
    system: str
    python: str
    versions: dict[str, str]
    load: float

    @property
    def line(self) -> str:
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{self.measured_at}, revision {self.revision}: {self.cores} cores ({self.cpu}), {self.memory_gib} GiB, "
            f"{self.system}; Python {self.python}; {versions}; load average before: {self.load:.2f}."
        )


def describe(postgres_version: str, load: float) -> Machine:
    return Machine(
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        revision=_revision(),
        cores=psutil.cpu_count() or 1,
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        cpu=_cpu_model(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={
            **{name: version(name) for name in _LIBRARIES},
            "Kafka": KAFKA.rpartition(":")[2],
            "PostgreSQL": postgres_version.partition(" ")[0],
        },
        load=load,
    )


def _revision() -> str:
    """The commit, and whether the tree had changes of its own; a figure of neither can't be repeated."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        return commit + (" with changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()
