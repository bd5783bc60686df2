"""`GET /api/quarantine`, `GET /api/quarantine/{partition}/{offset}` and `POST /api/quarantine/release`."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from typing import Final

import asyncpg
from aiohttp import web

from replay.api.documents import QuarantineList, Released, ShownDelivery
from replay.api.events import answering, reveal_of
from replay.api.fields import (
    Nothing,
    OffsetNumber,
    Parameters,
    PartitionNumber,
    Reasoned,
    Revealing,
    Text,
    Texts,
    Window,
)
from replay.api.route import Endpoint, Route, RouteCall, answer
from replay.operations.quarantine import QuarantineReader, of_source
from replay.operations.release import AuthorizedRelease, ReleaseSelection, release
from replay.operations.sources import UnknownSource
from replay.ports import Append, Connection
from schemas.settings import Source


@dataclass(frozen=True, slots=True)
class QuarantineDoors:
    """To read it, and to append what is released. Both raise `Unavailable`."""

    open: Callable[[Connection], AbstractAsyncContextManager[QuarantineReader]]
    appending: Callable[[], AbstractAsyncContextManager[Append]]


class QuarantineQuery(Window):
    """A list of the quarantine."""

    source: Text | None = None
    """One source."""


class QuarantinePath(Parameters):
    """A quarantined delivery."""

    partition: PartitionNumber
    """A partition of `webhooks.quarantine`."""
    offset: OffsetNumber
    """There."""


class ReleaseOrder(Reasoned):
    """`clock_off_seconds`: how far our clock was ahead, negative if behind; then a `reason` is needed."""

    source: Texts
    clock_off_seconds: float = 0.0
    dry_run: bool = False

    def wanted(self, configured: Mapping[str, Source]) -> ReleaseSelection:
        """Raises `InvalidSelection` or `UnknownSource`."""
        for name in self.source:
            if name not in configured:
                raise UnknownSource(f"No source is called {name!r}.")
        return ReleaseSelection(self.source, self.clock_off_seconds)


LIST: Final = Route(
    "get", "/api/quarantine", "Count the quarantined deliveries", Nothing, QuarantineQuery, {200: QuarantineList}
)
SHOW: Final = Route(
    "get",
    "/api/quarantine/{partition}/{offset}",
    "One quarantined delivery, and whether it verifies now",
    QuarantinePath,
    Revealing,
    {200: ShownDelivery},
    ("not_found",),
)
RELEASE: Final = Route(
    "post",
    "/api/quarantine/release",
    "Bring back what verifies now",
    Nothing,
    ReleaseOrder,
    {200: Released},
    ("append_in_doubt", "unknown_source"),
)


def quarantine_routes(
    pool: "asyncpg.Pool[asyncpg.Record]", doors: QuarantineDoors, sources: Callable[[], Mapping[str, Source]]
) -> list[Endpoint]:
    """`sources` are today's."""

    async def list_all(call: RouteCall[Nothing, QuarantineQuery]) -> web.Response:
        query = call.given
        async with pool.acquire() as connection, doors.open(connection) as quarantine:
            found = await quarantine.holdings(_unheard, query.from_ms, query.to_ms)
        if query.source is not None:
            found = of_source(found, query.source, sources())
        return answer({"sources": {name: one.as_document() for name, one in found.items()}})

    async def show(call: RouteCall[QuarantinePath, Revealing]) -> web.Response:
        reveal, path = reveal_of(call), call.path
        async with answering(), pool.acquire() as connection, doors.open(connection) as quarantine:
            return answer(await quarantine.show(path.partition, path.offset, reveal))

    async def release_all(call: RouteCall[Nothing, ReleaseOrder]) -> web.Response:
        order, wanted, author = call.given, call.given.wanted(sources()), call.author(call.given.reason)
        async with pool.acquire() as connection, doors.open(connection) as quarantine:
            if order.dry_run:
                done = await release(quarantine, wanted, None, _unheard)
            else:
                async with doors.appending() as append:
                    done = await release(quarantine, wanted, AuthorizedRelease(author, append), _unheard)
        return answer({**asdict(done), "dry_run": order.dry_run})

    return [LIST.to(list_all), SHOW.to(show), RELEASE.to(release_all)]


def _unheard(_: int) -> None:
    """Nobody watches the progress of a request."""
