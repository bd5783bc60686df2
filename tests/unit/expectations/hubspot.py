"""What the fixtures of hubspot become: of every object a row, and of every property one."""

from typing import Any

from tests.unit.expectations.base import Expected

PORTAL = {"source": "hubspot", "portal_id": "62515"}
ZOE = {**PORTAL, "object_type": "contact", "object_id": "1246965"}
DEAL = {**PORTAL, "object_type": "deal", "object_id": "9822112"}


def change(thing: dict[str, Any], name: str, value: str) -> list[tuple[str, dict[str, Any]]]:
    """A property change says nothing of whether the object exists."""
    return [
        ("crm_objects", {**thing, "exists": None}),
        ("crm_properties", {**thing, "name": name, "is_set": True, "value": value}),
    ]


EXPECTED: Expected = {
    "hubspot/batch.contact_and_deal.json": [
        ("crm_objects", {**ZOE, "exists": True}),
        *change(ZOE, "firstname", "Zoé"),
        *change(ZOE, "lifecyclestage", "customer"),
        ("crm_objects", {**DEAL, "exists": True}),
        *change(DEAL, "dealstage", "closedwon"),
    ],
    # The same change as in the batch above, delivered again in another one.
    "hubspot/retry.attempt1.json": change(ZOE, "firstname", "Zoé"),
    "hubspot/contact.deletion_and_merge.json": [
        ("crm_objects", {**ZOE, "object_id": "1246970", "exists": False}),
        ("crm_objects", {**ZOE, "exists": None}),
        ("crm_objects", {**ZOE, "object_id": "1246966", "exists": False}),
        ("crm_objects", {**ZOE, "object_id": "1246999", "exists": True}),
    ],
    # 0-1 is a contact, and 0-3 a deal.
    "hubspot/generic.object_events.json": [
        ("crm_objects", {**ZOE, "exists": True}),
        *change(DEAL, "amount", "1200"),
    ],
    "hubspot/deal.associationChange.json": [],
    # An import: 37 contacts, whose phone numbers change again and again.
    "hubspot/batch.100.json": [
        fact
        for number in range(100)
        for fact in change({**ZOE, "object_id": str(2000000 + number % 37)}, "phone", f"+3361234{number:04d}")
    ],
}  # fmt: skip
