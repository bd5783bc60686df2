"""`make fuzz`: every target under atheris, and odd deliveries on a real Postgres; or those that are named. Exit 1 on a
crash.

`FUZZ_RUNS` is the number of executions for each target, `FUZZ_SEED` where they begin, `FUZZ_JOBS` how many targets run
at a time, `ODD_DELIVERIES` how many are made of each provider. What a target learns is kept in `.fuzz/`; an input that crashes it is put into its corpus, which `make test`
replays.
"""

import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.targets import CORPUS, MAX_BYTES, TARGETS

LEARNT = Path(".fuzz")
SLOWEST_SECONDS = 25
ODD = "odd-deliveries"
_EXECUTIONS = re.compile(r"stat::number_of_executed_units: (\d+)")


def fuzz(name: str, runs: int, seed: int) -> tuple[int, str | None]:
    """(executions, the end of the report of a crash)."""
    target, corpus, learnt = TARGETS[name], CORPUS / name, LEARNT / name
    for folder in (corpus, learnt):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        seeds = Path(scratch)
        for number, one in enumerate(target.seeds()):
            (seeds / str(number)).write_bytes(one)
        options = {
            "runs": runs // 100 if target.is_slow else runs,
            "seed": seed,
            "max_len": MAX_BYTES,
            "timeout": SLOWEST_SECONDS,
            "print_final_stats": 1,
            "artifact_prefix": f"{corpus}/",
        }
        command = [
            sys.executable,
            "-m",
            "tests.fuzz.fuzzer",
            name,
            *(f"-{key}={value}" for key, value in options.items()),
        ]
        done = subprocess.run([*command, str(learnt), str(corpus), str(seeds)], capture_output=True, check=False)
    report = (done.stdout + done.stderr).decode("utf-8", "replace")
    counted = _EXECUTIONS.search(report)
    return int(counted[1]) if counted else 0, report[-4000:] if done.returncode else None


def fold_odd_deliveries(seed: int) -> bool:
    """Whether they dragged something good along, as `tests/property/test_odd_deliveries.py` tells it."""
    count = os.environ.get("ODD_DELIVERIES", "300")
    command = [sys.executable, "-m", "pytest", "--timeout", "0", "tests/property/test_odd_deliveries.py"]
    environment = {**os.environ, "ODD_DELIVERIES": count, "FUZZ_SEED": str(seed)}
    is_broken = subprocess.run(command, env=environment, check=False).returncode != 0
    print(f"{ODD:24} {count:>10} of each provider, seed {seed}{' CRASHED' if is_broken else ''}", flush=True)
    return is_broken


def main() -> None:
    if find_spec("atheris") is None:
        sys.exit("atheris is missing: `make fuzz` installs it")
    runs, seed = int(os.environ.get("FUZZ_RUNS", "100000")), int(os.environ.get("FUZZ_SEED", "1"))
    asked = sys.argv[1:] or [*TARGETS, ODD]
    names = [name for name in asked if name != ODD]
    total, crashed = 0, [ODD] if ODD in asked and fold_odd_deliveries(seed) else []
    with ThreadPoolExecutor(int(os.environ.get("FUZZ_JOBS", "2"))) as jobs:
        for name, (executions, crash) in zip(names, jobs.map(lambda name: fuzz(name, runs, seed), names), strict=True):
            total += executions
            print(f"{name:24} {executions:>10} executions{' CRASHED' if crash else ''}", flush=True)
            if crash:
                crashed.append(name)
                print(crash, file=sys.stderr, flush=True)
    print(
        f"{len(asked)} targets, {total} executions, seed {seed}: {', '.join(crashed) or 'nothing'} outside the taxonomy"
    )
    sys.exit(1 if crashed else 0)


if __name__ == "__main__":
    main()
