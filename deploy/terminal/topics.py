"""Topics as people read them: what they are like, and what is wrong with them. Must not look at them."""

from collections.abc import Sequence

from rich.text import Text

from deploy.terminal.output import print_table, say
from deploy.topics import TopicState
from schemas.topics import UNPACKED


def print_topics(states: Sequence[TopicState]) -> None:
    print_table(
        ("topic", "partitions", "replication", "min.insync.replicas", ""),
        [
            (
                s.name,
                s.partitions or "-",
                s.replication or "-",
                s.min_insync_replicas or "-",
                Text("fault", "red") if s.faults or not s.exists else Text("ok", "green"),
            )
            for s in states
        ],
    )


def print_topic_faults(states: Sequence[TopicState]) -> None:
    for state in states:
        for setting, value in state.faults.items():
            harm = "one record could stop whoever reads it" if setting in UNPACKED else "it could lose records"
            what = f"topic {state.name}: {setting} is {value!r}; {harm}"
            wanted = state.widening.get(setting)
            remedy = f": `redrive topics --apply` makes it {wanted!r}" if wanted else ""
            say(f"{what}{remedy}", "fault", "red")
