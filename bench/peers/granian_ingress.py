"""granian, a server in Rust, and aiokafka: a body on the log before its 200. It neither verifies nor dedupes."""

import asyncio
import os
from typing import Any

from aiokafka import AIOKafkaProducer
from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops

HEADERS = [("content-type", "application/json")]
MAX_BATCH_BYTES = 1024 * 1024


class Ingress:
    """An application in RSGI, granian's own interface, which is its fastest."""

    def __init__(self) -> None:
        self._topic = os.environ["BENCH_TOPIC"]
        self._producer: AIOKafkaProducer

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.run_until_complete(self._start())

    async def _start(self) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"],
            acks="all",
            enable_idempotence=True,
            max_batch_size=MAX_BATCH_BYTES,
        )
        await self._producer.start()

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        body = await protocol()
        if scope.path != "/readyz":
            await self._producer.send_and_wait(self._topic, body)
        protocol.response_bytes(200, HEADERS, b"{}")


ingress = Ingress()

if __name__ == "__main__":
    Granian(
        "bench.peers.granian_ingress:ingress",
        address=os.environ["INGEST_HOST"],
        port=int(os.environ["INGEST_PORT"]),
        workers=int(os.environ["INGEST_WORKERS"]),
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        loop=Loops.uvloop,
        websockets=False,
    ).serve()
