"""Design §6: a CRM object is one object, whether HubSpot calls its type by its classic name or by its id."""

import json
from typing import Any

import pytest

from tests.support.records import record
from tests.support.rows import rows_of

TYPES = {
    "0-1": "contact",
    "0-2": "company",
    "0-3": "deal",
    "0-5": "ticket",
    "0-7": "product",
    "0-8": "line_item",
}
NO_CLASSIC_NAME = (
    "0-4",
    "0-14",
    "0-18",
    "0-48",
    "0-53",
    "0-101",
    "0-123",
    "0-136",
    "0-421",
    "2-3453932",
    "0-10",
    "1-1",
)


def types_of(**fields: Any) -> set[str]:
    """The object types of the rows that one event makes."""
    event = {"portalId": 1, "eventId": 1, "occurredAt": 1_795_950_000_000, "objectId": 9, **fields}
    body = json.dumps([event]).encode()
    return {row["object_type"] for _, row in rows_of(record("webhooks.hubspot", "hubspot", body))}


@pytest.mark.parametrize(("type_id", "name"), TYPES.items())
@pytest.mark.parametrize("verb", ["creation", "propertyChange", "deletion", "restore", "merge"])
def test_the_id_and_the_classic_name_of_a_type_are_one(type_id: str, name: str, verb: str) -> None:
    fields = {"propertyName": "x", "propertyValue": "1", "primaryObjectId": 9, "mergedObjectIds": [8]}
    assert types_of(subscriptionType=f"{name}.{verb}", **fields) == {name}
    for said in (type_id, name, name.upper()):
        assert types_of(subscriptionType=f"object.{verb}", objectTypeId=said, **fields) == {name}


@pytest.mark.parametrize(
    ("fields", "exists"),
    [
        ({"primaryObjectId": 1, "mergedObjectIds": [2]}, {"1": None, "2": False}),
        ({"primaryObjectId": 1, "mergedObjectIds": [1, 2]}, {"1": None, "2": False}),
        ({"primaryObjectId": 1, "mergedObjectIds": ["2", "1"]}, {"1": None, "2": False}),
        ({"primaryObjectId": 1, "mergedObjectIds": [2, None]}, {"1": None, "2": False}),
        ({"primaryObjectId": 1, "mergedObjectIds": [1, 2], "newObjectId": 3}, {"1": False, "2": False, "3": True}),
        ({"primaryObjectId": 1, "mergedObjectIds": [1, 2, 3], "newObjectId": 3}, {"1": False, "2": False, "3": True}),
        ({"primaryObjectId": 1, "mergedObjectIds": [1, 2], "newObjectId": 1}, {"1": None, "2": False}),
    ],
)
def test_who_survives_a_merge_exists_although_it_is_listed_among_the_merged(
    fields: dict[str, Any], exists: dict[str, bool | None]
) -> None:
    event = {"portalId": 1, "eventId": 1, "occurredAt": 1_795_950_000_000, "subscriptionType": "contact.merge"}
    body = json.dumps([{**event, **fields}]).encode()
    found = rows_of(record("webhooks.hubspot", "hubspot", body))
    assert {row["object_id"]: row.get("exists") for _, row in found} == exists


@pytest.mark.parametrize("said", ["1795950000000", 1_795_950_000_000])
def test_a_time_is_a_number_or_its_text(said: Any) -> None:
    assert types_of(subscriptionType="contact.creation", occurredAt=said) == {"contact"}


@pytest.mark.parametrize("type_id", NO_CLASSIC_NAME)
def test_a_type_without_a_classic_name_keeps_its_id(type_id: str) -> None:
    assert types_of(subscriptionType="object.creation", objectTypeId=type_id) == {type_id}
