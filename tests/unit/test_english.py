"""`make check` names each form that the guide to the English in CONTRIBUTING rules out, and nothing else."""

import pytest

from tests.english import faults, of_code, of_document

HABITS = (
    "What is damaged is kept.",
    "The file is kept. Of the others nothing is.",
    "Whether it is kept.",
    "So long without a commit, and nobody folds it.",
    "The word is no time.",
    "The port is none.",
    "Make the topic anew.",
    "It is gone on with later.",
    "It is outside of the limits.",
    "The loss is told.",
    "Mending it helps.".lower(),
    "Written by hand of a person.",
    "Give it room.".lower(),
    "The value stands in the row.",
    "Another process has it in hand.",
)
GOOD = (
    "The spool keeps damaged files.",
    "What is damaged? See the log.",
    "There is no time left, and a retry is no longer possible.",
    "The two masks can be told apart.",
    "It takes the outside route, so long as it can.",
)


@pytest.mark.parametrize("text", HABITS)
@pytest.mark.parametrize("place", ['"""{}"""\n', 'raise ValueError("{}")\n', 'f"{{x}}: {}"\n', "x = 1  # {}\ny = 2\n"])
def test_a_habit_is_named_with_its_line_wherever_it_is_in_code(place: str, text: str) -> None:
    assert [line for line, _ in faults(of_code("\n" + place.format(text)))] == [2]


@pytest.mark.parametrize("text", HABITS)
@pytest.mark.parametrize("place", ["{}\n", "- {}\n", "| {} | x |\n", "1. {}\n"])
def test_a_habit_is_named_with_its_line_wherever_it_is_in_a_document(place: str, text: str) -> None:
    assert [line for line, _ in faults(of_document("# A title\n\n" + place.format(text)))] == [3]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_sentence_is_not_named(text: str) -> None:
    assert list(faults(of_code(f'"""{text}"""\n'))) == list(faults(of_document(text))) == []


def test_a_habit_across_lines_is_found_and_paragraphs_are_separate() -> None:
    assert len(list(faults(of_code('"""It is\n    no time.\n\n    What is kept.\n    """\n')))) == 2
    assert len(list(faults(of_code("# It is\n# no time.\nx = 1\n")))) == 1


def test_headings_code_and_addresses_of_a_document_are_not_read() -> None:
    text = "## What you see\n\n```\nit is no time\n```\n\nThe `is none` of [roles](0020-granted-anew.md).\n"
    assert list(faults(of_document(text))) == []
