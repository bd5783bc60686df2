"""Findings as Markdown. A run replaces the sections of the suites that it ran, and leaves the others as they were."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.machine import Machine
from bench.results import Findings, spread

MIN_ROUNDS: Final = 3
_HEADER: Final = """\
Everything (load generator, broker, database, subject) shares one machine, so only ratios carry over to another one.
Subjects take turns in rounds; a ratio is taken within a round, and the medians over the rounds are shown with their
extremes. CPU is that of all processes of the subject: not the broker's, nor that of Postgres.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """Where the sections of some suites stand, in this order, below an introduction."""

    path: Path
    introduction: str
    suites: tuple[str, ...]


CEILINGS: Final = Page(
    Path("docs/reference/benchmarks.md"),
    "# Benchmarks\n\nWritten by `make bench` (see `bench/`). [Other people's programs](benchmarks-peers.md) have a page"
    " of their own.\n",
    ("ingest", "processors", "replay", "prove", "live", "window", "flood"),
)
PEERS: Final = Page(
    Path("docs/reference/benchmarks-peers.md"),
    "# Benchmarks: peers\n\nredrive beside programs that do a part of its work. Written by `make bench-peers` (see"
    " `bench/peers/`), which needs\nGo and wrk; `make bench-peers BENCH_OPTIONS='--rounds 5 --seconds 20'` measures for"
    " longer.\n",
    ("peers-ingest", "peers-fold", "peers-copy"),
)


def write(page: Page, sections: Mapping[str, str]) -> None:
    known = {**(_sections(page.path.read_text()) if page.path.exists() else {}), **sections}
    page.path.parent.mkdir(parents=True, exist_ok=True)
    parts = [_fenced(name, known[name]) for name in page.suites if name in known]
    page.path.write_text("\n".join([page.introduction, _HEADER, *parts]))


def _fenced(name: str, text: str) -> str:
    return f"<!-- bench:{name} -->\n{text}<!-- /bench:{name} -->\n"


def _sections(text: str) -> dict[str, str]:
    found = re.finditer(r"<!-- bench:([\w-]+) -->\n(.*?)<!-- /bench:\1 -->", text, re.DOTALL)
    return {match[1]: match[2] for match in found}


def section(found: Findings, machine: Machine, command: str) -> str:
    """`command` measures the same again."""
    rounds = f"{found.rounds} rounds."
    if found.rounds < MIN_ROUNDS:
        rounds = f"**{found.rounds} round(s): a smoke run, no result.**"
    parts = [
        f"## {found.title}\n",
        f"{machine.line} {rounds}\n",
        _samples_table(found),
        _ratios_table(found),
        *(f"- {note}" for note in found.notes),
        f"- Again: `{command}`",
    ]
    return "\n".join(parts) + "\n"


def _samples_table(found: Findings) -> str:
    details = list(dict.fromkeys(name for sample in found.samples for name in sample.details))
    head = ["case", "subject", f"{found.unit}/s", "min–max", f"CPU s per {found.cpu_thousands}k {found.unit}", *details]
    rows = []
    for case in found.cases:
        for subject in found.subjects:
            samples = found.of(subject, case)
            if not samples:
                continue
            rate = spread([sample.per_second for sample in samples])
            cpu = median(sample.cpu_per_1k for sample in samples) * found.cpu_thousands
            extra = [
                _number(median(values)) if (values := [s.details[name] for s in samples if name in s.details]) else ""
                for name in details
            ]
            extremes = f"{rate.low:,.0f}–{rate.high:,.0f}"
            rows.append([case, subject, f"{rate.median:,.0f}", extremes, f"{cpu:.4f}", *extra])
    return table(head, rows)


def _ratios_table(found: Findings) -> str:
    if not found.comparisons:
        return ""
    rows = []
    for comparison in found.comparisons:
        for case in found.cases:
            ratios = found.ratios(comparison, case)
            if ratios:
                ratio = spread(ratios)
                name = f"{comparison.subject} ÷ {comparison.baseline}"
                rows.append([case, name, f"**{ratio.median:.2f}**", f"{ratio.low:.2f}–{ratio.high:.2f}"])
    return table(["case", "ratio of throughputs", "median", "min–max"], rows)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
