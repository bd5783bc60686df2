"""From a verified delivery to something durable: the log, or while it is away the spool. Must not verify or parse.

Every content is appended once. Copies that come meanwhile wait for the first one's outcome, in this process by standing
behind it, in another by asking again; nobody waits without bound.
"""

import asyncio
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from ingest import metrics
from ingest.dedupe.late_notes import LateNotes
from ingest.dedupe.window import Claim, ClaimedElsewhere, Content, DedupeWindow, Spooled, content_of
from ingest.http import responses
from ingest.http.connection import Reply
from ingest.http.limits import Limits
from ingest.http.responses import HttpAnswer
from ingest.log.event_log import EventLog
from ingest.log.record_batch import VerifiedRecord, record_of
from ingest.request_metrics import REQUESTS
from ingest.spool.segment import SpooledRecord
from ingest.spool.spool import Spool
from schemas.envelope import Identity, Location, VerifiedDelivery
from schemas.errors import Unavailable
from schemas.settings import Source

ASK_AGAIN_SECONDS: Final = 0.01


class Exchange:
    """A request and the answer that it is owed."""

    __slots__ = ("_held", "_limits", "_reply", "started")

    def __init__(self, reply: Reply) -> None:
        self.started = time.perf_counter()
        self._reply = reply
        self._held = 0
        self._limits: Limits | None = None

    def hold(self, limits: Limits, size: int) -> None:
        """Count its body among what is in flight, until it is answered. Raises `overloaded`."""
        limits.hold(size)
        self._limits = limits
        self._held = size

    def finish(self, answer: HttpAnswer) -> None:
        REQUESTS.observe(time.perf_counter() - self.started)
        if self._limits is not None:
            self._limits.free(self._held)
        self._reply(answer)


class Storing:
    """Where deliveries go. `wait_seconds` is how long a copy waits for another process."""

    def __init__(self, log: EventLog, window: DedupeWindow, spool: Spool, wait_seconds: float) -> None:
        self.log = log
        self.window = window
        self.spool = spool
        self.wait_seconds = wait_seconds
        self.in_flight: dict[Content, _Append] = {}
        self.late = LateNotes()
        self.is_caught_up: Callable[[], bool] = lambda: False

    def store(self, source: Source, verified: VerifiedDelivery, identity: Identity, exchange: Exchange) -> None:
        """Answers now or later. Raises `Unavailable`, and then answers nothing."""
        content = content_of(source.topic, identity.record_id, identity.fingerprint)
        first = self.in_flight.get(content)
        if first is not None:
            first.wait(exchange)
            return
        # Before the claim: whatever can fail must not leave a claim behind.
        record = record_of(source.topic, verified, identity, source.provider.kept_headers)
        found = self.window.claim(content, verified.delivery.arrived_ms)
        if type(found) is Claim:
            append = _Append(self, source, identity.record_id, (found, record), exchange)
            self.in_flight[content] = append
            try:
                append.begin()
            except Exception:
                append.abandon()
                raise
        elif type(found) is Location:
            metrics.duplicate(source.name, identity.record_id)
            exchange.finish(responses.stored(source.answer, "duplicate", identity.record_id, found))
        elif type(found) is Spooled:
            metrics.duplicate(source.name, identity.record_id)
            exchange.finish(responses.spooled(source.answer, identity.record_id))
        elif type(found) is ClaimedElsewhere:
            self._ask_again(source, verified, identity, exchange)

    def _ask_again(self, source: Source, verified: VerifiedDelivery, identity: Identity, exchange: Exchange) -> None:
        """Another process is appending this content. If that process dies, its claim ends, and this copy takes over."""
        if time.perf_counter() - exchange.started > self.wait_seconds:
            raise Unavailable("another process is appending this content, and the outcome is in doubt")

        def ask() -> None:
            try:
                self.store(source, verified, identity, exchange)
            except Unavailable:
                metrics.rejected(source.name, "log_unavailable", 503)
                exchange.finish(responses.problem("log_unavailable"))
            except Exception:  # noqa: BLE001 - counted, logged, answered
                metrics.handler_failed(source.name)
                exchange.finish(responses.problem("internal_error"))

        asyncio.get_running_loop().call_later(ASK_AGAIN_SECONDS, ask)


class _State(Enum):
    APPENDING = auto()
    SPOOLING = auto()
    SPOOLED = auto()
    REFUSED = auto()
    """Answered 503 while the log may still take it."""
    DONE = auto()


class _Append:
    """A content on its way, and those who wait for it: the first, and copies that came meanwhile."""

    __slots__ = ("_claim", "_copies", "_exchange", "_is_in_doubt", "_record", "_record_id", "_source", "_state", "_to")

    def __init__(
        self, to: Storing, source: Source, record_id: str, taken: tuple[Claim, VerifiedRecord], exchange: Exchange
    ) -> None:
        self._to = to
        self._source = source
        self._record_id = record_id
        self._claim, self._record = taken
        self._exchange = exchange
        self._copies: list[Exchange] | None = None
        self._state = _State.APPENDING
        self._is_in_doubt = False
        """True while the log may still take the record, and report it later."""

    def wait(self, copy: Exchange) -> None:
        """Raises `Unavailable` where the first has been refused, and nobody knows yet what came of it."""
        if self._state is _State.REFUSED:
            raise Unavailable("the append is in doubt")
        if self._copies is None:
            self._copies = []
        self._copies.append(copy)

    def begin(self) -> None:
        # A content that the window does not know yet may be on the log: append it only once that is known.
        if self._to.is_caught_up():
            try:
                self._to.log.append(self._record, self)
                self._is_in_doubt = True
                return
            except Unavailable:
                pass
        self._spool()

    def abandon(self) -> None:
        """It could not begin: the next copy may."""
        self._end(self._to.window.release)

    def settled(self, location: Location | None) -> None:
        """However late. The log then also holds what was spooled meanwhile, and the drain leaves that out."""
        self._is_in_doubt = False
        state = self._state
        if location is None:
            if state is _State.APPENDING:
                self._spool()
            elif state is _State.REFUSED:
                self._end(self._to.window.release)
        elif state is _State.SPOOLED:
            self._state = _State.DONE
            self._to.late.note(self._to.window.landed, self._claim, location)
        else:
            self._end(self._to.window.settle, location)
            metrics.accepted(self._source.name, self._record_id, self._claim.arrived_ms, self._claim.is_conflict)
            if state is not _State.REFUSED:
                self._answer_accepted(location)

    def overdue(self) -> None:
        if self._state is _State.APPENDING:
            self._spool()

    def _spool(self) -> None:
        self._state = _State.SPOOLING
        try:
            self._to.spool.put(SpooledRecord(self._record, self._claim.content.fingerprint), self._spooled)
        except Unavailable:
            self._spooled(False)
        except Exception:  # noqa: BLE001 - those who wait must hear of it all the same
            metrics.handler_failed(self._source.name)
            self._spooled(False)

    def _spooled(self, is_kept: bool) -> None:
        if self._state is not _State.SPOOLING:
            # The log was faster after all.
            return
        if is_kept:
            self._close()
            self._state = _State.SPOOLED
            try:
                self._to.window.spooled(self._claim)
            except Unavailable:
                # Not later: the drain, which ends that word, may have been there by then.
                self._to.late.note(self._to.window.release, self._claim)
            metrics.spooled(self._source.name, self._record_id, self._claim.arrived_ms)
            self._answer_all(responses.spooled(self._source.answer, self._record_id))
            return
        if self._is_in_doubt:
            self._state = _State.REFUSED
        else:
            self._end(self._to.window.release)
        metrics.rejected(self._source.name, "log_unavailable", 503)
        self._answer_all(responses.problem("log_unavailable"))

    def _close(self) -> None:
        """Copies need not wait here any more."""
        self._state = _State.DONE
        self._to.in_flight.pop(self._claim.content, None)

    def _end(self, said: Callable[..., None], *location: Location) -> None:
        """The window knows what came of it."""
        self._close()
        self._to.late.note(said, self._claim, *location)

    def _answer_accepted(self, location: Location) -> None:
        shape = self._source.answer
        self._exchange.finish(responses.stored(shape, "accepted", self._record_id, location))
        for copy in self._copies or ():
            metrics.duplicate(self._source.name, self._record_id)
            copy.finish(responses.stored(shape, "duplicate", self._record_id, location))

    def _answer_all(self, answer: HttpAnswer) -> None:
        self._exchange.finish(answer)
        for copy in self._copies or ():
            REQUESTS.count(self._source.name, "duplicate" if answer.status == 200 else "failed")
            copy.finish(answer)
