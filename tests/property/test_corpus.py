"""Invariants 3 and 9: what the fuzzer found, and what it begins with, is a verdict or a dead letter. `make fuzz` adds."""

import pytest

from tests.fuzz.targets import CORPUS, TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_fuzzer_found_stays_harmless(name: str) -> None:
    target = TARGETS[name]
    replayed = 0
    for label, data in target.inputs(name):
        try:
            target.check(data)
        except BaseException as error:
            error.add_note(f"tests/corpus/{name}/{label}")
            raise
        replayed += 1
    assert replayed


def test_the_corpus_is_small_and_has_no_other_targets() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} <= set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 300_000
