"""Invariant 9: of a batch, what can't be read is dead alone."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.fold import combine, fold_record
from tests.support.damage import DAMAGES, ITEMS, NO_ITEMS, batch_record


@st.composite
def batches(draw: st.DrawFn, provider: str) -> list[tuple[Any, bool]]:
    """(item, whether it is damaged)."""
    found: list[tuple[Any, bool]] = []
    for number in range(draw(st.integers(1, 12))):
        item = ITEMS[provider](number)
        if draw(st.booleans()):
            found.append((item, False))
        else:
            damage = draw(st.sampled_from([*DAMAGES[provider], *[lambda _, one=one: one for one in NO_ITEMS]]))
            found.append((damage(item), True))
    return found


@pytest.mark.parametrize("provider", ITEMS)
@settings(max_examples=60)
@given(data=st.data())
def test_every_good_event_of_a_batch_has_its_rows_and_every_damaged_one_is_a_dead_letter(
    provider: str, data: st.DataObject
) -> None:
    batch = data.draw(batches(provider))
    good = [item for item, is_damaged in batch if not is_damaged]
    folded = fold_record(batch_record(provider, [item for item, _ in batch]))
    damaged = [ordinal for ordinal, (_, is_damaged) in enumerate(batch, start=1) if is_damaged]
    assert [letter.ordinal for letter in folded.letters] == damaged
    assert len({letter.event.event_id for letter in folded.letters}) == len(damaged)
    assert not {letter.event.event_id for letter in folded.letters} & {event.event_id for event in folded.events}
    assert {letter.reason for letter in folded.letters} <= {"invalid_payload"}
    if good:
        alone = fold_record(batch_record(provider, good))
        assert [event.event_id for event in folded.events] == [event.event_id for event in alone.events]
        assert combine([folded]).tables == combine([alone]).tables
    else:
        assert not folded.events


@pytest.mark.parametrize("provider", ITEMS)
def test_a_dead_event_that_has_an_id_is_found_by_it_and_any_other_by_its_place(provider: str) -> None:
    for damage in DAMAGES[provider]:
        damaged = batch_record(provider, [ITEMS[provider](1), damage(ITEMS[provider](2))])
        (letter,) = fold_record(damaged).letters
        name = letter.event.event_id
        assert "#" not in name or name == f"{letter.event.record_id}#2"
    damaged = batch_record(provider, [ITEMS[provider](1), None])
    (letter,) = fold_record(damaged).letters
    assert letter.event.event_id == f"{letter.event.record_id}#2"
    assert letter == fold_record(damaged).letters[0], "a retry has the same name"


@pytest.mark.parametrize("provider", ITEMS)
def test_a_damaged_copy_of_an_event_does_not_hide_behind_it(provider: str) -> None:
    item = ITEMS[provider](1)
    for damage in DAMAGES[provider]:
        folded = fold_record(batch_record(provider, [item, damage(item), damage(item)]))
        assert [letter.ordinal for letter in folded.letters] == [2, 3]
        names = [one.event_id for one in (*folded.events, *(letter.event for letter in folded.letters))]
        assert len(set(names)) == 3
