"""Samples, medians and paired ratios. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `cpu_per_1k` is CPU seconds (user + system) of the subject's process per 1,000 units of work.

    `case` is the load that subjects share; `details` are further figures, by column title.
    """

    subject: str
    case: str
    round: int
    per_second: float
    cpu_per_1k: float
    details: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Comparison:
    """`subject` divided by `baseline`, in the same round and case."""

    subject: str
    baseline: str


@dataclass(frozen=True, slots=True)
class Spread:
    """A median between its extremes."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What a suite found. `unit` is that of `per_second`, and the thing that `cpu_per_1k` counts.

    CPU is shown per `cpu_thousands` thousand of them, so that a figure has digits that matter.
    """

    name: str
    title: str
    unit: str
    samples: tuple[Sample, ...]
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()
    cpu_thousands: int = 1

    @property
    def cases(self) -> list[str]:
        return list(dict.fromkeys(sample.case for sample in self.samples))

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(sample.subject for sample in self.samples))

    @property
    def rounds(self) -> int:
        return len({sample.round for sample in self.samples})

    def of(self, subject: str, case: str) -> list[Sample]:
        return [sample for sample in self.samples if sample.subject == subject and sample.case == case]

    def ratios(self, comparison: Comparison, case: str) -> list[float]:
        """One per round in which both were measured."""
        baseline = {sample.round: sample.per_second for sample in self.of(comparison.baseline, case)}
        subject = self.of(comparison.subject, case)
        return [sample.per_second / baseline[sample.round] for sample in subject if sample.round in baseline]

    def as_document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "rounds": self.rounds,
            "samples": [asdict(sample) for sample in self.samples],
            "ratios": [
                {
                    "case": case,
                    "subject": comparison.subject,
                    "baseline": comparison.baseline,
                    "rounds": found,
                    "median": median(found),
                }
                for comparison in self.comparisons
                for case in self.cases
                if (found := self.ratios(comparison, case))
            ],
        }


def spread(values: Sequence[float]) -> Spread:
    return Spread(median(values), min(values), max(values))
