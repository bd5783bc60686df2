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


@pytest.mark.parametrize("type_id", NO_CLASSIC_NAME)
def test_a_type_without_a_classic_name_keeps_its_id(type_id: str) -> None:
    assert types_of(subscriptionType="object.creation", objectTypeId=type_id) == {type_id}
