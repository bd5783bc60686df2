"""The Faust app: which topics it reads, and the one agent that folds them."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiokafka.errors import KafkaError
from faust.auth import Credentials, SASLCredentials, SSLCredentials

from processors import metrics
from processors.compared_positions import ComparedPositions, read_records
from processors.failures import RETRYABLE
from processors.faust_transport import BatchApp, BatchSchema
from processors.partition_state import Batch
from processors.partition_tasks import Lanes
from processors.worker import Worker
from schemas.cluster import Cluster
from schemas.errors import Unavailable
from schemas.outage import Outage
from schemas.topics import FindTopicIds

WATCH_SECONDS: Final = 5.0
FETCH_BYTES: Final = 2 * 1024 * 1024
"""The most that one fetch returns of a partition: a batch. Kafka returns a larger record all the same."""


class TopicSubscription(NamedTuple):
    """A worker's group and topics: members of a `group` share the partitions. `member` names the place where the worker
    runs, in Kafka's description of the group.
    """

    topics: Sequence[str]
    group: str
    member: str


def create_app(
    cluster: Cluster, subscription: TopicSubscription, worker: Worker, topic_ids: FindTopicIds, folder: Path
) -> BatchApp:
    """One worker of the group. Start and stop it as a service; it sets no signal handlers."""
    positions, outage = ComparedPositions(partial(read_records, cluster), worker), Outage()
    app = BatchApp(
        subscription.group,
        # Faust would let some eighty variables of the environment (BROKER_URL, WEB_PORT, …) override these settings.
        env_prefix="REDRIVE_FAUST_",
        positions=positions,
        topic_ids=topic_ids,
        broker=[f"kafka://{server.strip()}" for server in cluster.servers.split(",")],
        broker_credentials=_credentials(cluster),
        # Faust makes it at start; nothing is kept in it.
        datadir=folder,
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES,
        # The time until an added partition, or a deleted or new topic, is assigned again.
        consumer_metadata_max_age_ms=int(WATCH_SECONDS * 1000),
        broker_client_id=subscription.member,
        # A revoked partition must not wait for a database that is away: its batch is a zombie's, and harmless.
        stream_wait_empty=False,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        broker_commit_interval=5.0,
    )
    topic = app.topic(*subscription.topics, schema=BatchSchema())

    async def fold(stream: Any) -> None:
        # Faust acknowledges what an agent raises on; without automatic acknowledgements it can't.
        events: AsyncIterator[Any] = stream.noack().events()
        async with asyncio.TaskGroup() as group:
            lanes = Lanes(fold_batch, group)
            async for event in events:
                lanes.put(event)

    async def fold_batch(batch: Batch) -> None:
        await worker.handle(batch, app.batches.rewind, reseek)

    def reseek() -> None:
        app.seek_in_background(set(app.batches.assignment()))

    async def watch() -> None:
        """Note the lag, and read again from the stored positions records that got lost, or whose topic was replaced.

        Also while no batch comes through: a fold without progress must not look as if it had caught up."""
        try:
            extents = await app.extents(app.batches.partitions(subscription.topics))
            assigned = app.batches.assignment()
            is_passed, at_rest = app.unreadable.passed(extents), app.unreadable.places
            reading = {
                tp: one.end
                for tp, one in extents.items()
                if tp in assigned and tp.topic not in app.resting and tp not in at_rest
            }
            # Kafka may have been restored while it was away; what was read since then has moved the positions.
            before = worker.last_positions(extents, assigned) if outage.is_on else {}
            restored = await positions.refold(before, extents)
            is_misplaced = await worker.look(extents)
            outage.ends(time.monotonic())
            if worker.has_stalled(reading) or is_misplaced or is_passed or restored:
                reseek()
        except (KafkaError, Unavailable, *RETRYABLE) as error:
            # A timer that raises would take the whole worker down; readiness says what is away.
            metrics.lag_unread(error)
            outage.begins(time.monotonic())
        else:
            metrics.lag_read()

    app.agent(topic, name="fold")(fold)
    app.timer(WATCH_SECONDS)(watch)
    return app


def _credentials(cluster: Cluster) -> Credentials | None:
    """`Cluster.client_options` in Faust's words, which it turns back into the client's."""
    if cluster.login is not None:
        return SASLCredentials(
            username=cluster.login.username,
            password=cluster.login.password.get_secret_value(),
            mechanism=cluster.login.mechanism,
            ssl_context=cluster.ssl_context,
        )
    return SSLCredentials(cluster.ssl_context) if cluster.ssl_context else None
