"""The last words of a proof say what the verdict does not: what is not folded."""

from datetime import UTC, datetime

import pytest

from replay.prove.certificate import Behind, Certificate, Counts, Verdict

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def certificate(verdict: Verdict, behind: int) -> Certificate:
    return Certificate(
        verdict=verdict,
        reasons=[],
        tables={},
        differences=[],
        differences_total=0,
        views=[],
        behind=Behind(records=behind, topics={"t": behind} if behind else {}, as_of=NOW),
        counts=Counts(records=0, events=0, duplicates=0, dead_letters=0),
        positions=[],
        generation=1,
        versions={},
        made_at=NOW,
        redrive="0",
    )


@pytest.mark.parametrize(
    ("verdict", "behind", "said"),
    [
        ("equal", 0, "equal"),
        ("equal", 1, "equal for what is folded; 1 record is on the log and not folded yet"),
        ("equal", 3204, "equal for what is folded; 3,204 records are on the log and not folded yet"),
        ("different", 2, "different; 2 records are on the log and not folded yet"),
    ],
)
def test_the_last_words_of_a_proof(verdict: Verdict, behind: int, said: str) -> None:
    assert certificate(verdict, behind).conclusion == said
