"""`python -m tests.simulation`: seeds by the thousand, side by side. A failing one is printed, and reproduces by itself."""

import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import click
from rich.progress import track

from tests.simulation.world import Outcome, simulate


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seeds", type=int, default=lambda: int(os.environ.get("SIM_SEEDS", "5000")), help="How many; SIM_SEEDS."
)
@click.option("--first", type=int, default=lambda: time.time_ns() % 2**32, help="The first; default: a new one.")
@click.option("--jobs", type=int, default=os.cpu_count(), show_default=True)
def main(seeds: int, first: int, jobs: int) -> None:
    """Simulate histories. One seed again: `--first SEED --seeds 1`."""
    click.echo(f"seeds {first} to {first + seeds - 1}")
    started = time.monotonic()
    events: Counter[str] = Counter()
    failed: list[Outcome] = []
    with ProcessPoolExecutor(jobs) as pool:
        outcomes = pool.map(simulate, range(first, first + seeds), chunksize=10)
        for outcome in track(outcomes, "simulating", total=seeds):
            events += outcome.events
            if outcome.failures:
                failed.append(outcome)
                click.echo(f"seed {outcome.seed}: " + "; ".join(outcome.failures))
    seconds = time.monotonic() - started
    click.echo(f"{seeds} seeds in {seconds:.0f} s ({seeds / seconds * 60:.0f} a minute), {len(failed)} failed")
    click.echo(", ".join(f"{count} {name}" for name, count in events.most_common()))
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
