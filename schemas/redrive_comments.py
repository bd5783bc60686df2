"""What each table of the schema `redrive` holds, and its columns, with their units. See `comments`."""

from collections.abc import Mapping
from typing import Final

_PLACE: Final = {
    "topic": "Kafka's topic",
    "partition": "the topic's partition",
    "record_offset": "the record's offset in the partition",
}
_AUTHOR: Final = {"operator": "who wanted it", "reason": "why"}

BOOKKEEPING: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "installation": (
        "Which installation this database belongs to. One row.",
        {"is_only": "always true: there is one row", "id": "names the installation, and its consumer group"},
    ),
    "generation": (
        "Which generation is live. One row.",
        {
            "is_only": "always true: there is one row",
            "live": "the generation that the views read",
            "previous": "the one that was live before, kept for a rollback",
            "is_rolled_back": "whether the last flip was a rollback",
        },
    ),
    "generations": (
        "Every generation of fact tables: who made it and why, and how far it is.",
        {
            **_AUTHOR,
            "generation": "its number: its tables are in the schema gen_<number>",
            "state": "building, ready or dropped",
            "only_tables": "where only some tables were folded anew: which; NULL for all",
            "cut": "positions at which the other tables were copied: [topic, partition, offset] each",
            "copied_from": "the generation whose other tables were copied",
            "to_redrive": "events to re-drive once it is live: dead or all; NULL when none is left",
            "created_at": "when it was begun",
            "ready_at": "when it was folded",
            "dropped_at": "when it was dropped",
        },
    ),
    "generation_versions": (
        "The least version of each projection that folded into a generation.",
        {"generation": "its number", "projection": "the provider's name", "version": "the projection's VERSION"},
    ),
    "scratches": (
        "States of the past, each in the schema scratch_<name>.",
        {
            **_AUTHOR,
            "name": "its name",
            "state": "building or ready",
            "as_of": "the moment that it shows, by arrival",
            "created_at": "when it was begun",
        },
    ),
    "positions": (
        "How far each generation has folded each partition.",
        {
            **_PLACE,
            "generation": "the generation's number",
            "next_offset": "the first offset that is not folded",
            "topic_id": "Kafka's id of the topic that was folded; NULL: not known",
        },
    ),
    "lost_ranges": (
        "Offsets that the log dropped before they were folded.",
        {
            **_PLACE,
            "generation": "the generation that lacks them",
            "first_offset": "the first offset of the range",
            "end_offset": "the offset behind its last",
            "noticed_at": "when that was noticed",
        },
    ),
    "event_index": (
        "The index of the log: one row per event and location. The view webhook_events shows an event once.",
        {
            **_PLACE,
            "source": "the source whose topic holds it",
            "event_id": "the event's id, parts percent-encoded and joined with :",
            "record_id": "the id of its record",
            "fingerprint": "SHA-256 of the delivery without the provider's volatile fields",
            "provider": "the provider of the source",
            "type": "the event's type",
            "occurred_at": "the provider's time",
            "received_at": "when the ingress took the delivery",
            "status": "dead, ignored or applied",
            "error": "why it is dead or ignored; begins with the reason's code",
            "ordinal": "its place in its record, from 1; 0 where the event is the record",
        },
    ),
    "price_tiers": (
        "[price_tiers] of redrive.toml.",
        {"price_id": "the provider's id of a price", "name": "the tier's name"},
    ),
    "replays": (
        "The ledger of replays.",
        {
            **_AUTHOR,
            "id": "the replay's id",
            "state": "planned, running, paused, done, cancelled or failed",
            "selection": "what was asked for",
            "plan": "the offsets that it reads, pinned when it was planned",
            "target": "where the records go; NULL: the projections",
            "rate": "records a second at most; NULL: no limit",
            "generation": "the generation that was live when it was planned",
            "records": "records of earlier versions; those of this one are in replay_progress",
            "events": "events, likewise",
            "rows_changed": "fact rows written, likewise",
            "dead": "events that no projection could apply, likewise",
            "total": "records of the plan",
            "gone": "what the selection means and the log does not hold",
            "records_gone": "how many records that is",
            "left_to_live": "offsets that the live workers had not reached",
            "runner": "host and process id of who runs it, or ran it last",
            "slowed_by": "why it is slow or what it waits for; NULL at full pace",
            "error": "why it failed",
            "created_at": "when it was planned",
            "started_at": "when it was first run",
            "finished_at": "when it ended",
        },
    ),
    "replay_progress": (
        "How far a replay is in each partition.",
        {
            **_PLACE,
            "replay": "the replay's id",
            "next_offset": "the first offset that it has not read",
            "end_offset": "the offset at which it ends",
            "offsets": "offsets of the plan in this partition",
            "done": "how many of them were read",
            "records": "records re-driven",
            "events": "events in them",
            "rows_changed": "fact rows written",
            "dead": "events that no projection could apply",
            "failed": "records that failed at the target",
        },
    ),
    "replay_outcomes": (
        "What became of each record that a replay sent to a target; of copies into a topic, failures alone.",
        {
            **_PLACE,
            "replay": "the replay's id",
            "outcome": "delivered or failed",
            "status": "the HTTP status of the answer",
            "attempts": "how often it was sent",
            "error": "why it failed",
            "at": "when it was last sent",
        },
    ),
    "proofs": (
        "Proofs that were asked for over HTTP.",
        {
            **_AUTHOR,
            "id": "the proof's id",
            "state": "running, done or failed",
            "progress": "how much of the log was folded, from 0 to 1",
            "certificate": "what it came to; NULL until it is done",
            "error": "why it failed",
            "created_at": "when it was asked for",
            "finished_at": "when it ended",
        },
    ),
    "releases": (
        "Records of the quarantine that were released.",
        {
            "partition": "of the quarantine's topic",
            "record_offset": "of the quarantine's topic",
            "source": "the source that the delivery was for",
            "record_id": "the id of the record",
            "fingerprint": "SHA-256 of the delivery without the provider's volatile fields",
            "location": "where on the log it is, topic/partition/offset; NULL for a further copy",
            "released_at": "when it was released",
        },
    ),
    "requeues": (
        "Dead letters that were folded again.",
        {
            **_PLACE,
            "ordinal": "the event's place in its record, from 1; 0 where the event is the record",
            "source": "the source whose topic holds it",
            "event_id": "the event's id",
            "provider": "the provider of the source",
            "type": "the event's type",
            "received_at": "when the ingress took the delivery",
            "first_error": "why it was dead at first",
            "first_at": "when it was first folded again",
            "attempts": "how often it was folded again",
            "outcome": "revived, dead or gone",
            "last_error": "why it was dead at the last try",
            "last_at": "when the last try was",
            "operator": "who tried last",
        },
    ),
    "audit": (
        "What operators did, and looked at.",
        {
            **_AUTHOR,
            "id": "in the order of writing",
            "at": "when",
            "action": "what, such as replay.run",
            "details": "what it was about",
        },
    ),
    "migration_checksum": (
        "The migrations that were applied.",
        {"migration": "its name", "sha256": "SHA-256 of its file, hexadecimal"},
    ),
}
