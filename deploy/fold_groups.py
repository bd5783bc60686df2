"""The consumer groups of processors on a Kafka, as it describes them. Must not join one."""

import hashlib
import socket
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, LiteralString
from uuid import UUID

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata
from aiokafka.errors import KafkaError, for_code

from replay.answering import while_answering
from replay.log.broker import Broker
from schemas.cluster import Cluster
from schemas.errors import LogUnavailable, Unavailable
from schemas.masking import reason_of
from schemas.topics import FOLD_GROUP, fold_group

INSTALLATION: Final[LiteralString] = "SELECT id FROM redrive.installation"
ASK_MS: Final = 5000
_FOLDER_DIGITS: Final = 8


@dataclass(frozen=True, slots=True)
class Member:
    """A process that folds. `place` is the host and the data folder that it said, `address` where Kafka sees it."""

    place: str
    address: str
    topics: frozenset[str]

    def __str__(self) -> str:
        return f"{self.place} ({self.address})"


Groups = Mapping[str, Sequence[Member]]
"""Every group of processors that has a member."""


def place_of(data: Path) -> str:
    """The name of this host and data folder: processes that have it in common are of one service."""
    folder = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:_FOLDER_DIGITS]
    return f"{FOLD_GROUP}@{socket.gethostname()}/{folder}"


async def find_groups(cluster: Cluster) -> dict[str, list[Member]]:
    """Raises `Unavailable`, also where this login may not ask for groups."""
    client = AIOKafkaAdminClient(**cluster.client_options(), request_timeout_ms=ASK_MS)
    try:
        async with while_answering(Broker(cluster)):
            await client.start()
            names = [name for name, *_ in await client.list_consumer_groups() if name.startswith(FOLD_GROUP)]
            # One by one: aiokafka 0.14 reads an answer about several groups wrongly.
            answers = [answer for name in names for answer in await client.describe_consumer_groups([name])]
        groups = [group for answer in answers for group in answer.to_object()["groups"]]
    except KafkaError as error:
        raise LogUnavailable(f"Kafka does not list the consumer groups: {reason_of(error)}") from error
    finally:
        await client.close()
    for group in groups:
        if group["error_code"]:
            raise Unavailable(f"Kafka does not list the consumer groups: {for_code(group['error_code']).__name__}")
    found = {group["group"]: [_member(one) for one in group["members"]] for group in groups}
    return {name: members for name, members in found.items() if members}


def _member(found: Mapping[str, Any]) -> Member:
    metadata = found["member_metadata"]
    # In the midst of a rebalance, a member has said nothing yet.
    topics = ConsumerProtocolMemberMetadata.decode(metadata).subscription if metadata else ()
    return Member(found["client_id"], found["client_host"].lstrip("/"), frozenset(topics))


def warn_of_others(groups: Groups, installation: UUID, topics: Collection[str], place: str | None = None) -> list[str]:
    """Allowed states that may be mistakes: others in the group of this database, and other groups over its topics.

    Without a `place` of one's own, members of one place are not others.
    """
    warnings = []
    own = fold_group(installation)
    places = defaultdict[str, set[str]](set)
    for member in groups.get(own, ()):
        places[member.place].add(str(member))
    others = {name: named for name, named in places.items() if name != place}
    if others and (place is not None or len(others) > 1):
        named = ", ".join(sorted(set[str]().union(*others.values())))
        warnings.append(
            f"several places fold for this database, and share its partitions (group {own}): {named}. Hosts of one"
            " installation do; one with a copy of the database must not: `docs/runbooks/two-installations.md`"
        )
    return warnings + name_other_readers(groups, installation, topics)


def name_other_readers(groups: Groups, installation: UUID, topics: Collection[str]) -> list[str]:
    """A sentence for each group of another database that reads some of these topics."""
    own, sentences = fold_group(installation), []
    for name, members in sorted(groups.items()):
        shared = sorted(set[str]().union(*(member.topics for member in members)) & set(topics))
        if name == own or not shared:
            continue
        named = ", ".join(sorted({str(member) for member in members}))
        who = (
            "processors of an earlier version, of this installation or another,"
            if name == FOLD_GROUP
            else ("another installation")
        )
        sentences.append(f"{who} also reads {', '.join(shared)} of this Kafka (group {name}): {named}")
    return sentences
