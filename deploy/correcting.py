"""What a correction needs of the processors and of Kafka, for the command and for the console."""

from collections.abc import Collection

from deploy.appending import append_correction
from deploy.folding import LiveFolding
from replay.log.reader import LogReader
from replay.operations.corrections import Desk
from schemas.cluster import Cluster
from schemas.corrections import Correction
from schemas.envelope import Location


def correction_desk(cluster: Cluster, sources: Collection[str]) -> Desk:
    """`sources` are the names of those that are configured now."""

    async def append(correction: Correction) -> Location:
        return await append_correction(cluster, correction)

    return Desk(tuple(sources), lambda: LogReader(cluster), LiveFolding.open, append)
