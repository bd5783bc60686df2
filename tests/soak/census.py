"""Memory of every process of the stack, over time. Must not change anything."""

import contextlib
import time
from dataclasses import dataclass, field

import psutil

from tests.support.processes import Installation

MEBIBYTE = 2**20
WARM_UP_SHARE = 0.2


def role_of(process: psutil.Process) -> str | None:
    """Which part of the stack a process is; None for what is none of its own: Postgres' backends."""
    line = process.cmdline()
    if line[2:3] == ["deploy.services.worker"]:
        return f"{line[3]}-{line[4]}"
    if "kafka.Kafka" in line:
        return "kafka"
    if line and line[0].endswith("/postgres") and "-D" in line:
        return "postgres"
    return line[-1] if line[1:3] == ["-m", "deploy"] else None


def by_role(installation: Installation) -> dict[str, psutil.Process]:
    found = {}
    for child in installation.children():
        # One that has just been killed has no command line any more.
        with contextlib.suppress(psutil.Error):
            role = role_of(child)
            if role is not None:
                found[role] = child
    return found


def _bytes_of(role: str, process: psutil.Process) -> int:
    """Resident bytes; of Postgres what its processes do not share, all together."""
    if role != "postgres":
        return int(process.memory_info().rss)
    found = 0
    for one in [process, *process.children()]:
        with contextlib.suppress(psutil.Error):
            memory = one.memory_info()
            found += memory.rss - memory.shared
    return found


@dataclass
class Census:
    """Samples of each role: (seconds since the start, pid, bytes)."""

    installation: Installation
    samples: dict[str, list[tuple[float, int, int]]] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    def take(self) -> None:
        for role, process in by_role(self.installation).items():
            with contextlib.suppress(psutil.Error):
                sample = (time.monotonic() - self.started, process.pid, _bytes_of(role, process))
                self.samples.setdefault(role, []).append(sample)

    def report(self) -> dict[str, dict[str, float | list[float]]]:
        """Of each role the greatest size, and of the process that lived longest its life, its size at each tenth of it and,
        once warm, its growth."""
        found: dict[str, dict[str, float | list[float]]] = {}
        for role, samples in sorted(self.samples.items()):
            lives: dict[int, list[tuple[float, int]]] = {}
            for at, pid, size in samples:
                lives.setdefault(pid, []).append((at, size))
            longest = max(lives.values(), key=lambda life: life[-1][0] - life[0][0])
            seconds = longest[-1][0] - longest[0][0]
            warm = [one for one in longest if one[0] - longest[0][0] >= seconds * WARM_UP_SHARE]
            found[role] = {
                "processes": len(lives),
                "max_mib": round(max(size for _, _, size in samples) / MEBIBYTE, 1),
                "longest_life_s": round(seconds),
                "first_warm_mib": round(warm[0][1] / MEBIBYTE, 1),
                "last_mib": round(warm[-1][1] / MEBIBYTE, 1),
                "growth_mib_per_hour": round(_slope(warm) * 3600 / MEBIBYTE, 1),
                "tenths_mib": [
                    round(longest[(len(longest) - 1) * tenth // 10][1] / MEBIBYTE, 1) for tenth in range(1, 11)
                ],
            }
        return found


def _slope(points: list[tuple[float, int]]) -> float:
    """Bytes a second, by least squares."""
    middle = sum(at for at, _ in points) / len(points)
    mean = sum(size for _, size in points) / len(points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * (size - mean) for at, size in points) / spread if spread else 0.0
