"""Kafka, asked whether it answers, and a client of its that is stopped while it does not. Must not read the log."""

import asyncio
from contextlib import suppress
from typing import Final

from aiokafka import AIOKafkaConsumer
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from replay.answering import ASK_SECONDS, TRY_SECONDS
from schemas.cluster import Cluster
from schemas.errors import LogUnavailable

_NO_ANSWER: Final = (OSError, KafkaError, TimeoutError)


class Broker:
    """A cluster as a `Server`: whichever of its brokers answers."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def ask(self) -> None:
        hosts = [(host, port) for host, port, _ in collect_hosts(self._cluster.servers)]
        questions = [asyncio.ensure_future(self._ask_again(host, port)) for host, port in hosts]
        try:
            await asyncio.wait(questions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in questions:
                one.cancel()

    async def _ask_again(self, host: str, port: int) -> None:
        while True:
            with suppress(*_NO_ANSWER):
                return await ask_broker(self._cluster, host, port)
            await asyncio.sleep(ASK_SECONDS)

    def silence(self, seconds: float) -> LogUnavailable:
        return LogUnavailable(f"Kafka does not answer at {self._cluster.servers}: it has been silent for {seconds:g} s")


async def ask_broker(cluster: Cluster, host: str, port: int) -> None:
    """Ask it for nothing, to hear that it answers. Raises what the client does, and `TimeoutError`."""
    options = cluster.client_options()
    del options["bootstrap_servers"]
    connection = await create_conn(
        host, port, client_id="redrive", request_timeout_ms=int(TRY_SECONDS * 1000), **options
    )
    try:
        # A listener that wants a login lets anybody connect, and hangs up on the first question.
        await connection.send(MetadataRequest([]))
    finally:
        connection.close()


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Also while its broker is silent."""
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        # A fetch that waits for its broker ends the client's `stop` with its own cancellation, before its end.
        await consumer._client.close()
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
