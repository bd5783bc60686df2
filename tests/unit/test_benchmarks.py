"""The figures of a benchmark's page: ratios within a round, medians between extremes, and what may stand beside them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner

from bench import __main__ as command
from bench import peer_programs, report
from bench.events import KEYS, keyed_rows, small_event, small_key
from bench.machine import Machine
from bench.options import Options
from bench.results import Comparison, Findings, Sample
from bench.suites import peers_ingest
from schemas.errors import Unavailable

OURS, PEER = "ours", "peer"


MACHINE = Machine("today", "0b7c", 2, 4, "a CPU", "a system", "3.11", {}, 0.0)


def sample(subject: str, round: int, per_second: float, cpu: float = 0.01) -> Sample:
    return Sample(subject, "64 connections", round, per_second, cpu, {"p99 ms": per_second / 100})


def findings(*samples: Sample) -> Findings:
    return Findings("peers-ingest", "Ingress", "requests", samples, (Comparison(OURS, PEER),), ("A note.",))


THREE_ROUNDS = findings(
    sample(OURS, 1, 100), sample(PEER, 1, 200), sample(OURS, 2, 300), sample(PEER, 2, 300),
    sample(OURS, 3, 900, cpu=0.03), sample(PEER, 3, 300),
)  # fmt: skip


def test_a_ratio_is_taken_within_a_round_and_then_the_median() -> None:
    assert THREE_ROUNDS.ratios(Comparison(OURS, PEER), "64 connections") == [0.5, 1.0, 3.0]
    text = report.section(THREE_ROUNDS, MACHINE, "again")
    # The ratio of the medians is 1.00, too; that of the means is 1.63.
    assert "| 64 connections | ours ÷ peer | **1.00** | 0.50–3.00 |" in text


def test_a_round_that_one_side_lacks_has_no_ratio() -> None:
    found = findings(sample(OURS, 1, 100), sample(PEER, 1, 50), sample(OURS, 2, 100))
    assert found.ratios(Comparison(OURS, PEER), "64 connections") == [2.0]


@pytest.mark.parametrize(("thousands", "column", "cell"), [(1, "1k", "0.0100"), (100, "100k", "1.0000")])
def test_cpu_is_shown_per_so_many_thousand(thousands: int, column: str, cell: str) -> None:
    text = report.section(replace(THREE_ROUNDS, cpu_thousands=thousands), MACHINE, "again")
    assert f"CPU s per {column} requests" in text
    assert f"| 64 connections | ours | 300 | 100–900 | {cell} | 3.00 |" in text


def test_findings_without_a_baseline_have_no_table_of_ratios() -> None:
    assert "ratio" not in report.section(replace(THREE_ROUNDS, comparisons=()), MACHINE, "again")


def test_fewer_than_three_rounds_are_called_no_result() -> None:
    few = findings(sample(OURS, 1, 100), sample(PEER, 1, 50))
    assert "a smoke run, no result" in report.section(few, MACHINE, "again")
    assert "a smoke run, no result" not in report.section(THREE_ROUNDS, MACHINE, "again")


def test_a_run_replaces_its_own_section_and_no_other(tmp_path: Path) -> None:
    page = replace(report.PEERS, path=tmp_path / "page.md")
    report.write(page, {"peers-fold": "Before.\n"})
    report.write(page, {"peers-ingest": "Ingress.\n", "peers-fold": "Fold.\n"})
    report.write(page, {"peers-copy": "Copy.\n"})
    text = page.path.read_text()
    assert text.startswith(report.PEERS.introduction)
    assert "Before" not in text
    assert text.index("Ingress.") < text.index("Fold.") < text.index("Copy.")


def test_every_suite_has_its_place_on_one_page() -> None:
    placed = [name for page in command.PAGES.values() for name in page.suites]
    assert sorted(placed) == sorted(command.SUITES)


def test_the_command_of_a_section_is_one_that_the_program_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    options = Options(rounds=5, seconds=20, connections=(64, 256), events=600, stock_events=60, seed=7)
    seen = []

    async def measure(names: Sequence[str], given: Options) -> NoReturn:
        seen.append((tuple(names), given))
        raise Unavailable("enough")

    monkeypatch.setattr(command, "_measure", measure)
    arguments = options.command("peers-ingest").removeprefix("python -m bench ").split()
    result = CliRunner().invoke(command.main, arguments)
    assert seen == [(("peers-ingest",), options)]
    assert (result.exit_code, result.output) == (69, "Error: enough\n")


async def test_peers_that_are_not_installed_are_told_with_the_way_to_install_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(peer_programs, "ROOT", tmp_path)
    monkeypatch.setattr(peer_programs, "PYTHON", tmp_path / "bin" / "python")
    options = Options(rounds=1, seconds=1, connections=(64,), events=6, stock_events=1, seed=1)
    no_stack: Any = None
    with pytest.raises(Unavailable, match=r"^bin/python is missing: `make bench-peers` installs the peers$"):
        await peers_ingest.measure(no_stack, options)


def test_keyed_rows_are_the_greatest_value_of_each_key() -> None:
    count = 2 * KEYS + 17
    greatest = {}
    for number in range(count):
        greatest[small_key(number)] = number
    assert keyed_rows(count) == [(key, value, "counter.set") for key, value in sorted(greatest.items())]
    assert len(keyed_rows(3)) == 3


def test_a_small_event_says_what_its_row_shows() -> None:
    (row,) = keyed_rows(1)
    assert small_event(0).body == b'{"id":"evt_0","key":%d,"type":"%s","value":%d}' % (row[0], row[2].encode(), row[1])
