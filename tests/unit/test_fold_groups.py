"""Who else folds is told: another place with the same database, and other groups over the same topics."""

from uuid import UUID

import pytest

from deploy.fold_groups import Groups, Member, warn_of_others
from schemas.topics import FOLD_GROUP, fold_group

OURS, THEIRS = UUID(int=1 << 120), UUID(int=2 << 120)
TOPICS = ["webhooks.stripe", "webhooks.twilio"]


def at(place: str, *topics: str) -> Member:
    return Member(place, "10.0.0.5", frozenset(topics or TOPICS))


@pytest.mark.parametrize(
    ("groups", "place", "said"),
    [
        ({}, None, []),
        ({fold_group(OURS): [at("a"), at("a")]}, None, []),
        ({fold_group(OURS): [at("a"), at("b")]}, None, ["a (10.0.0.5), b (10.0.0.5)"]),
        ({fold_group(OURS): [at("a"), at("a")]}, "a", []),
        ({fold_group(OURS): [at("a"), at("b")]}, "a", [": b (10.0.0.5)."]),
        ({fold_group(THEIRS): [at("c")]}, "a", ["another installation also reads webhooks.stripe, webhooks.twilio"]),
        ({fold_group(THEIRS): [at("c", "webhooks.twilio", "webhooks.x")]}, "a", ["also reads webhooks.twilio of this"]),
        ({fold_group(THEIRS): [at("c", "webhooks.x")]}, "a", []),
        ({FOLD_GROUP: [at("c")]}, None, ["an earlier version"]),
    ],
)
def test_others_are_named_and_nobody_else(groups: Groups, place: str | None, said: list[str]) -> None:
    found = warn_of_others(groups, OURS, TOPICS, place)
    assert len(found) == len(said), found
    assert [text in warning for text, warning in zip(said, found, strict=True)] == [True] * len(said), found


def test_the_group_is_named_after_the_installation() -> None:
    assert fold_group(UUID("0123456789abcdef0123456789abcdef")) == "redrive-processors-0123456789ab"
