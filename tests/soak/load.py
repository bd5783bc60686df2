"""Deliveries at a rate, over raw connections, each sent again until it gets a 2xx. Must leave the machine to the stack.

A latency counts from the moment when the delivery was due, so a service that stalls can't hide behind a client that
waits for it.
"""

import asyncio
import random
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

import orjson

from tests.support.story import Webhook

ANSWER_SECONDS = 30.0
DELIVERIES_PER_CONNECTION = 500
"""Then a new one: a process that was started again gets its share."""


@dataclass(slots=True)
class Parcel:
    """One delivery, on its way."""

    number: int
    webhook: Webhook
    due: float


@dataclass
class Journal:
    """What was answered: webhook -> its record id (None where the answer names none), and how long answers took."""

    acknowledged: dict[int, str | None] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    deliveries: int = 0
    retries: int = 0
    surprises: list[str] = field(default_factory=list)
    phase: str = "load"
    seconds: dict[str, "array[float]"] = field(default_factory=dict)

    def note(self, parcel: Parcel, status: str, record_id: str | None) -> None:
        self.deliveries += 1
        self.answers[status] += 1
        if record_id is not None or parcel.number not in self.acknowledged:
            self.acknowledged[parcel.number] = record_id
        self.seconds.setdefault(self.phase, array("d")).append(time.monotonic() - parcel.due)

    def latencies(self) -> dict[str, dict[str, float]]:
        """Of each phase: deliveries, and milliseconds to the 2xx at the median, the 99th percentile and the worst."""
        found = {}
        for phase, seconds in self.seconds.items():
            each = sorted(seconds)
            at = {
                name: each[min(int(len(each) * share), len(each) - 1)] for name, share in (("p50", 0.5), ("p99", 0.99))
            }
            found[phase] = {"deliveries": len(each)} | {
                f"{name}_ms": round(value * 1000, 1) for name, value in (at | {"max": each[-1]}).items()
            }
        return found


class _Connection(asyncio.Protocol):
    """One request at a time; HTTP as far as the ingress speaks it to us."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        head = self._data[:end].lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(self._data) >= end + 4 + length:
            if b"connection: close" in head:
                self.close()
            body, self._data = self._data[end + 4 : end + 4 + length], b""
            self._answer.set_result((int(head[9:12]), body))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await asyncio.wait_for(self._answer, ANSWER_SECONDS)

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()


class Load:
    """`rate` deliveries a second, over so many connections."""

    def __init__(self, port: int, rate: float, connections: int, journal: Journal) -> None:
        self._port = port
        self._rate = rate
        self._connections = connections
        self._journal = journal
        self._queue: asyncio.Queue[Parcel] = asyncio.Queue()
        self._open = 0
        self._random = random.Random(0)

    async def run(self, deliveries: Iterator[tuple[int, Webhook]], is_on: Callable[[], bool] = lambda: True) -> None:
        """Returns when all have got their 2xx; begins no more of them once `is_on` says no."""
        couriers = [asyncio.create_task(self._carry()) for _ in range(self._connections)]
        pacing = asyncio.create_task(self._pace(deliveries, is_on))
        try:
            done, _ = await asyncio.wait([pacing, *couriers], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            while self._open and not any(courier.done() for courier in couriers):
                await asyncio.sleep(0.05)
        finally:
            for task in (pacing, *couriers):
                task.cancel()
            for outcome in await asyncio.gather(*couriers, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    async def _pace(self, deliveries: Iterator[tuple[int, Webhook]], is_on: Callable[[], bool]) -> None:
        started = time.monotonic()
        for count, (number, webhook) in enumerate(deliveries):
            due = started + count / self._rate
            if due > time.monotonic():
                # The clock is finer than the timer: those of the same few milliseconds leave together.
                await asyncio.sleep(max(due - time.monotonic(), 0.005))
            if not is_on():
                return
            self._open += 1
            self._queue.put_nowait(Parcel(number, webhook, due))

    async def _carry(self) -> None:
        connection, sent = _Connection(), 0
        while True:
            parcel = await self._queue.get()
            try:
                if not connection.is_open or sent >= DELIVERIES_PER_CONNECTION:
                    connection.close()
                    _, connection = await asyncio.get_running_loop().create_connection(
                        _Connection, "127.0.0.1", self._port
                    )
                    sent = self._random.randrange(DELIVERIES_PER_CONNECTION // 2)
                sent += 1
                status, body = await connection.ask(self._request(parcel.webhook))
            except (OSError, TimeoutError) as error:
                connection.close()
                self._again(parcel, type(error).__name__)
                continue
            if status == 200:
                self._open -= 1
                said = orjson.loads(body) if body.startswith(b"{") else {}
                self._journal.note(parcel, said.get("status", "twiml"), said.get("record_id"))
                continue
            if status != 503:
                self._journal.surprises.append(f"{parcel.webhook.path}: {status} {body[:200]!r}")
            self._again(parcel, str(status))

    def _again(self, parcel: Parcel, why: str) -> None:
        """As providers do, though sooner."""
        self._journal.retries += 1
        self._journal.answers[why] += 1
        asyncio.get_running_loop().call_later(0.2 + self._random.random() / 4, self._queue.put_nowait, parcel)

    def _request(self, webhook: Webhook) -> bytes:
        """Signed now."""
        host = f"127.0.0.1:{self._port}"
        headers = webhook.sign(f"http://{host}{webhook.path}", webhook.body, int(time.time()))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"POST {webhook.path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(webhook.body)}\r\n{lines}\r\n"
        return head.encode("latin-1") + webhook.body
