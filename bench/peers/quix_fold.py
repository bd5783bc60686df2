"""Quix Streams and a sink of its documented kind (`BatchingSink`) into the keyed table. Arguments: topic, group.

Its own PostgreSQL sink upserts whatever comes last, without a guard: where a key is in several partitions, that leaves
other rows.
"""

import os
import sys

from quixstreams import Application
from quixstreams.sinks import BatchingSink, SinkBatch

from bench.peers.keyed_sink import KeyedSink

COMMIT_RECORDS = 80_000


class KeyedOutput(BatchingSink):
    def setup(self) -> None:
        self._sink = KeyedSink(os.environ["DATABASE_URL"])

    def write(self, batch: SinkBatch) -> None:
        items = list(batch)
        self._sink.write(batch.topic, batch.partition, items[-1].offset + 1, (item.value for item in items))


def main(name: str, group: str) -> None:
    app = Application(
        os.environ["KAFKA_BOOTSTRAP_SERVERS"],
        consumer_group=group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        commit_every=COMMIT_RECORDS,
        state_dir=os.environ["REDRIVE_DATA"],
    )
    topic = app.topic(name, key_deserializer="bytes", value_deserializer="bytes")
    app.dataframe(topic).sink(KeyedOutput())
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:3])
