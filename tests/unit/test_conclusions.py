"""The last words of a proof say what the verdict does not: what is not folded, and what is lost."""

from datetime import UTC, datetime

import pytest

from replay.prove.certificate import Behind, Certificate, Counts, Loss, LossState, ProofVerdict

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def certificate(verdict: ProofVerdict, behind: int, states: tuple[LossState, ...]) -> Certificate:
    return Certificate(
        verdict=verdict,
        reasons=[],
        tables={},
        differences=[],
        differences_total=0,
        views=[],
        losses=[
            Loss(topic="t", partition=n, first_offset=5, end_offset=9, state=state, operator="ada", reason="why")
            for n, state in enumerate(states)
        ],
        behind=Behind(records=behind, topics={"t": behind} if behind else {}, as_of=NOW),
        counts=Counts(records=0, events=0, duplicates=0, dead_letters=0),
        positions=[],
        generation=1,
        versions={},
        made_at=NOW,
        redrive="0",
    )


@pytest.mark.parametrize(
    ("verdict", "behind", "states", "said"),
    [
        ("equal", 0, (), "equal"),
        ("equal", 0, ("recovered",), "equal"),
        ("equal", 1, (), "equal for what is folded; 1 record is on the log and not folded yet"),
        ("equal", 3204, (), "equal for what is folded; 3,204 records are on the log and not folded yet"),
        ("different", 2, (), "different; 2 records are on the log and not folded yet"),
        ("incomplete", 0, ("open", "accepted"), "incomplete; the log lost 4 offsets, which was accepted"),
        (
            "equal",
            2,
            ("accepted", "accepted"),
            "equal for what is folded; 2 records are on the log and not folded yet; the log lost 8 offsets, which was"
            " accepted",
        ),
    ],
)
def test_the_last_words_of_a_proof(
    verdict: ProofVerdict, behind: int, states: tuple[LossState, ...], said: str
) -> None:
    assert certificate(verdict, behind, states).conclusion == said
