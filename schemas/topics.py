"""Names and required settings of every topic."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Final
from uuid import UUID

TopicPartition = tuple[str, int]
"""(topic, partition); aiokafka's class of this name is one, too."""

FindTopicIds = Callable[[Collection[str]], Awaitable[Mapping[str, UUID | None]]]
"""Finds Kafka's ids of the topics among these that exist; None if this Kafka gives no id. Raises `Unavailable`."""

SOURCE_NAME: Final = re.compile(r"^[a-z][a-z0-9_-]{0,39}$")
RESERVED_NAMES: Final = frozenset({"quarantine", "dead-letter", "operator", "control"})

PREFIX: Final = "webhooks."
DEAD_LETTER: Final = "webhooks.dead-letter"
QUARANTINE: Final = "webhooks.quarantine"
OPERATOR: Final = "webhooks.operator"
CONTROL: Final = "webhooks.control"
WINDOW: Final = "redrive.window"
"""The new ids that the hosts of one log share for the dedupe window; no webhooks, and nothing that can't be lost."""

FOLD_GROUP: Final = "redrive-processors"
"""The consumer group of the processors of earlier versions, and what the names of all groups of ours begin with."""

PROVIDER_OF: Final[dict[str, str]] = {}
"""Source -> the provider that the configuration gives it; a source that is not configured is not here. Like the
registry of providers, it is filled when a process reads its configuration.
"""

DEFAULT_PARTITIONS: Final = 12
MAX_RECORD_BYTES: Final = 6 * 1024 * 1024
"""Meta sends bodies of up to 3 MB; the headers and the protocol come on top."""

UNPACKED: Final[dict[str, str]] = {"compression.type": "uncompressed"}
"""A setting of every topic. The broker unpacks compressed batches, and bounds their unpacked size: otherwise a record
of a megabyte could be a gigabyte to its readers, or of a codec that they do not have installed.
"""

LOG_CONFIG: Final[dict[str, str]] = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "max.message.bytes": str(MAX_RECORD_BYTES),
    "message.timestamp.type": "CreateTime",
    **UNPACKED,
}
"""The settings of `webhooks.<source>` and `webhooks.operator`: the log is the truth, so nothing may expire from it."""

TIMESTAMP_LIMITS: Final = {
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.after.max.ms": str(2**63 - 1),
}
"""Given to topics that we create: spooled records keep an arrival of days ago, and a wrong clock refuses nothing."""

SIDE_CONFIG: Final[dict[str, dict[str, str]]] = {
    DEAD_LETTER: LOG_CONFIG,
    QUARANTINE: {
        "retention.ms": str(7 * 24 * 3600 * 1000),
        # Nothing is pushed out by what comes after it: the ingress bounds what it lets in.
        "retention.bytes": "-1",
        # Only whole segments expire.
        "segment.bytes": str(32 * 1024 * 1024),
        "cleanup.policy": "delete",
        "max.message.bytes": str(MAX_RECORD_BYTES),
        # By the broker's clock: where ours is wrong, what it keeps out of the log would expire at once, or never.
        "message.timestamp.type": "LogAppendTime",
        **UNPACKED,
    },
    OPERATOR: LOG_CONFIG,
    CONTROL: {"cleanup.policy": "compact", "max.message.bytes": str(MAX_RECORD_BYTES), **UNPACKED},
    WINDOW: {
        "retention.ms": str(3600 * 1000),
        "segment.bytes": str(32 * 1024 * 1024),
        "cleanup.policy": "delete",
        "max.message.bytes": str(MAX_RECORD_BYTES),
        # The broker's timestamp of a record shows a host whether its own clock is right.
        "message.timestamp.type": "LogAppendTime",
        **UNPACKED,
    },
}

WIDENED: Final[dict[str, dict[str, str]]] = {
    QUARANTINE: {"retention.bytes": "-1", "message.timestamp.type": "LogAppendTime"},
    WINDOW: {"message.timestamp.type": "LogAppendTime"},
}
"""Settings that side topics of older versions lack, and that `redrive topics --apply` sets, beside `UNPACKED` of every
topic. It can cost no record.
"""


def is_folded(topic: str) -> bool:
    """True if a topic is part of the log that the tables are made of: those of sources, and the corrections."""
    return topic.startswith(PREFIX) and (topic == OPERATOR or topic not in SIDE_CONFIG)


def fold_group(installation: UUID) -> str:
    """The consumer group of the processors that fold into a database: `redrive.installation` has its id."""
    return f"{FOLD_GROUP}-{installation.hex[:12]}"


def topic_of(source: str) -> str:
    return PREFIX + source


def source_of(topic: str) -> str:
    return topic.removeprefix(PREFIX)


def is_source_name(name: str) -> bool:
    return bool(SOURCE_NAME.match(name)) and name not in RESERVED_NAMES
