"""A portal's contacts and deals are created, changed, deleted, restored and merged, told in batches of any cut."""

import json
from dataclasses import dataclass, field

from tests.support import signing_hubspot as signing
from tests.support.story.base import Author, Row, Webhook

GENERIC = {"contact": "0-1", "company": "0-2", "deal": "0-3", "ticket": "0-5", "product": "0-7", "line_item": "0-8"}
SUBSCRIPTIONS = {"creation": 101, "propertyChange": 102, "deletion": 103, "restore": 104, "merge": 105}
VALUES = ("Zoé 👋", "", "1200", "customer", "REDACTED", None)


@dataclass
class Thing:
    """A CRM object as it is after what has been told of it."""

    type: str
    id: int
    exists: bool = True
    properties: dict[str, str | None] = field(default_factory=dict)


class Portal:
    """Writes down what happens, in the order in which it happens.

    `eventId`s count up within a millisecond and start anywhere in the next: they are not unique, their numbers grow
    past powers of ten where text would not, and only time orders two of different milliseconds.
    """

    def __init__(self, author: Author) -> None:
        self.author = author
        self.random = author.random
        self.id = author.random.getrandbits(40)
        self.events: list[tuple[str, Row]] = []
        self._at_ms = author.moment() * 1000 + author.random.randrange(1000)
        self._event_id = 8

    def pass_time(self) -> None:
        """To a later millisecond."""
        self._at_ms += self.random.choice([1, 1, 999, 60_000])
        self._event_id = self.random.choice([8, 98, 998, 3_816_279_478])

    def happens(self, verb: str, object_type: str, target: Row, property_name: str = "", is_new: bool = True) -> None:
        """One event. `is_new`: with an `eventId` of its own, not that of the event before."""
        self._event_id += is_new
        is_generic = object_type not in GENERIC or self.random.random() < 0.3
        subscription = SUBSCRIPTIONS.get(verb, 106)
        event: Row = {
            "eventId": self._event_id,
            "subscriptionId": subscription,
            "portalId": self.id,
            "appId": 54321,
            "occurredAt": self._at_ms,
            "subscriptionType": f"{'object' if is_generic else object_type}.{verb}",
            "attemptNumber": 0,
            **target,
        }
        if is_generic:
            event["objectTypeId"] = GENERIC.get(object_type, object_type)
        about = target["objectId"] if "objectId" in target else f"{target['fromObjectId']}%3E{target['toObjectId']}"
        parts = (self.id, subscription, about, self._event_id, self._at_ms, property_name)
        self.events.append((":".join(map(str, parts)), event))

    def create(self, object_type: str) -> Thing:
        """The creation of some was before the time of this story."""
        thing = Thing(object_type, self.random.getrandbits(40))
        if self.random.random() < 0.7:
            self.exists(thing, "creation", True)
        return thing

    def exists(self, thing: Thing, verb: str, exists: bool) -> None:
        self.happens(verb, thing.type, {"objectId": thing.id})
        thing.exists = exists

    def change(self, thing: Thing) -> None:
        """One edit changes one or two properties, and then both have the same `eventId`."""
        names = self.random.sample(["firstname", "phone", "note"], self.random.randrange(1, 3))
        for number, name in enumerate(names):
            value = self.random.choice(VALUES)
            changed: Row = {"objectId": thing.id, "propertyName": name, "propertyValue": value}
            if value is None and self.random.random() < 0.5:
                del changed["propertyValue"]
            self.happens("propertyChange", thing.type, changed, name, is_new=number == 0)
            thing.properties[name] = value

    def expect(self, *things: Thing) -> None:
        for thing in things:
            key = ("hubspot", str(self.id), thing.type, str(thing.id))
            self.author.world.expect("crm_objects", key, exists=thing.exists, properties=thing.properties)


def tell(author: Author) -> None:
    portal = Portal(author)
    for object_type in (*GENERIC, "2-3453932"):
        _live(portal, object_type)
    _merge(portal)
    _associate(portal)
    if author.random.random() < 0.1:
        _import(portal)
    _deliver(author, portal.events)


def _live(portal: Portal, object_type: str) -> None:
    thing = portal.create(object_type)
    for _ in range(portal.random.randrange(1, 5)):
        if portal.random.random() < 0.5:
            portal.pass_time()
        portal.change(thing)
    _end(portal, thing)
    portal.expect(thing)


def _end(portal: Portal, thing: Thing) -> None:
    """Of what happens within one millisecond the deletion counts, whatever the order."""
    ending = portal.random.choice(["none", "deleted", "restored", "restored at once", "deleted at once"])
    if ending == "none":
        return
    portal.pass_time()
    if ending == "deleted at once":
        portal.exists(thing, "restore", True)
    verb = "privacyDeletion" if thing.type == "contact" and portal.random.random() < 0.5 else "deletion"
    portal.exists(thing, verb, False)
    if ending == "restored":
        portal.pass_time()
        portal.exists(thing, "restore", True)
    elif ending == "restored at once":
        portal.exists(thing, "restore", False)
    if portal.random.random() < 0.5:
        # A late change of what is gone is known, and does not bring it back.
        portal.pass_time()
        portal.change(thing)


def _merge(portal: Portal) -> None:
    """The primary object stays, unless the merge makes a new one; it stays known then as well."""
    primary, *merged = (portal.create("contact") for _ in range(portal.random.randrange(2, 4)))
    for thing in (primary, *merged):
        portal.change(thing)
    portal.pass_time()
    found: Row = {
        "objectId": primary.id,
        "primaryObjectId": primary.id,
        "mergedObjectIds": [thing.id for thing in merged],
    }
    for thing in merged:
        thing.exists = False
    outcome = portal.random.choice(["older form", "primary", "new"])
    if outcome != "older form":
        found["newObjectId"] = primary.id
    if outcome == "new":
        new = Thing("contact", portal.random.getrandbits(40))
        found["newObjectId"] = new.id
        portal.expect(new)
    portal.happens("merge", "contact", found)
    portal.expect(primary, *merged)


def _associate(portal: Portal) -> None:
    """Indexed, and nothing else: neither end has to be known."""
    portal.pass_time()
    ends = {"fromObjectId": portal.random.getrandbits(40), "toObjectId": portal.random.getrandbits(40)}
    portal.happens("associationChange", "deal", {**ends, "associationType": "DEAL_TO_CONTACT"})


def _import(portal: Portal) -> None:
    """Enough for full batches, all within one millisecond."""
    portal.pass_time()
    for _ in range(100):
        thing = Thing("contact", portal.random.getrandbits(40))
        portal.change(thing)
        portal.expect(thing)


def _deliver(author: Author, events: list[tuple[str, Row]]) -> None:
    """In any order and cut; some are sent again, in other company and with other attempt numbers."""
    again = [
        (name, {**event, "attemptNumber": author.random.randrange(1, 10)})
        for name, event in author.random.sample(events, len(events) // 3)
    ]
    for pending in (events, again):
        author.random.shuffle(pending)
        while pending:
            count = min(author.random.choice([1, 3, 10, 100]), len(pending))
            batch, pending = pending[:count], pending[count:]
            _batch(author, batch)
            if author.random.random() < 0.1:
                _batch(author, [(name, {**event, "attemptNumber": 9}) for name, event in batch])


def _batch(author: Author, batch: list[tuple[str, Row]]) -> None:
    # Raw UTF-8 without spaces, as HubSpot sends it.
    body = json.dumps([event for _, event in batch], ensure_ascii=False, separators=(",", ":")).encode()
    webhook = Webhook("/webhooks/hubspot", body, signing.hubspot)
    author.tells(webhook, "hubspot", *(name for name, _ in batch))
