"""Bytewax, its Kafka source and a sink of its documented kind, into the keyed table. Argument: topic."""

import os
import sys
from typing import TypeAlias

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

from bench.peers.keyed_sink import KeyedSink

BATCH_RECORDS = 80_000
Message: TypeAlias = KafkaSourceMessage[bytes | None, bytes | None]


class KeyedPartition(StatelessSinkPartition[Message]):
    """What the source read at once is written at once: it reads one partition at a time."""

    def __init__(self) -> None:
        self._sink = KeyedSink(os.environ["DATABASE_URL"])

    def write_batch(self, items: list[Message]) -> None:
        last = items[-1]
        self._sink.write(last.topic, last.partition, last.offset + 1, (item.value for item in items))


class KeyedOutput(DynamicSink[Message]):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> KeyedPartition:
        return KeyedPartition()


def flow(topic: str) -> Dataflow:
    dataflow = Dataflow("keyed")
    source = KafkaSource([os.environ["KAFKA_BOOTSTRAP_SERVERS"]], [topic], batch_size=BATCH_RECORDS)
    op.output("table", op.input("log", dataflow, source), KeyedOutput())
    return dataflow


if __name__ == "__main__":
    cli_main(flow(sys.argv[1]))
