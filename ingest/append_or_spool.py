"""From a verified delivery to something durable: the log, or while it is away the spool. Must not verify, parse or know
HTTP: what becomes of a delivery is one value, a `DeliveryOutcome`.

Every content is appended once. Copies that come meanwhile wait for the first one's outcome, in this process by standing
behind it, in another by asking again; nobody waits without bound.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal, NamedTuple

from ingest import metrics
from ingest.dedupe.late_notes import LateNotes
from ingest.dedupe.window import Claim, ClaimedElsewhere, Content, DedupeWindow, Spooled, content_of
from ingest.log.event_log import EventLog
from ingest.log.record_batch import VerifiedRecord, record_of
from ingest.request_metrics import REQUESTS
from ingest.spool.segment import SpooledRecord
from ingest.spool.spool import Spool
from schemas.envelope import Identity, Location, VerifiedDelivery
from schemas.errors import Unavailable
from schemas.settings import Source

ASK_AGAIN_SECONDS: Final = 0.01


class DeliveryOutcome(NamedTuple):
    """The outcome of a delivery. `accepted` and `duplicate`: it is on the log, at `location`. `spooled`: it is durable
    here. Anything else is the code of an error: it is stored nowhere, as far as anybody knows.
    """

    status: Literal["accepted", "duplicate", "spooled", "log_unavailable", "internal_error"]
    record_id: str
    location: Location | None = None


EndDelivery = Callable[[DeliveryOutcome], None]


class Storing:
    """Stores deliveries. `wait_seconds` is how long a copy waits for another process. Until `is_caught_up`, the window
    does not know all of the log, and deliveries go to the spool.
    """

    def __init__(
        self,
        log: EventLog,
        window: DedupeWindow,
        spool: Spool,
        wait_seconds: float,
        is_caught_up: Callable[[], bool],
    ) -> None:
        self._window = window
        self._wait_seconds = wait_seconds
        self._in_flight: dict[Content, _Append] = {}
        self._stores = _Stores(log, window, spool, LateNotes(), is_caught_up, self._forget)

    def store(
        self,
        source: Source,
        verified: VerifiedDelivery,
        identity: Identity,
        end: EndDelivery,
        wait_until: float | None = None,
    ) -> None:
        """`end` hears the outcome once: now, or later. Where this raises, `end` hears nothing. `wait_until`, of
        `time.perf_counter`, bounds the wait of a copy that has waited for another process already.
        """
        content = content_of(source.topic, identity.record_id, identity.fingerprint)
        first = self._in_flight.get(content)
        if first is not None:
            first.wait(end)
            return
        # Before the claim: whatever can fail must not leave a claim behind.
        record = record_of(source.topic, verified, identity, source.provider.kept_headers)
        found = self._window.claim(content, verified.delivery.arrived_ms)
        if type(found) is Claim:
            append = _Append(self._stores, source.name, identity.record_id, (found, record), end)
            self._in_flight[content] = append
            try:
                append.begin()
            except Exception:
                append.abandon()
                raise
        elif type(found) is Location:
            metrics.duplicate(source.name, identity.record_id)
            end(DeliveryOutcome("duplicate", identity.record_id, found))
        elif type(found) is Spooled:
            metrics.duplicate(source.name, identity.record_id)
            end(DeliveryOutcome("spooled", identity.record_id))
        elif type(found) is ClaimedElsewhere:
            self._ask_again((source, verified, identity), end, wait_until)

    def _ask_again(
        self, delivery: tuple[Source, VerifiedDelivery, Identity], end: EndDelivery, wait_until: float | None
    ) -> None:
        """Another process is appending this content. If that process dies, its claim ends, and this copy takes over."""
        now = time.perf_counter()
        until = now + self._wait_seconds if wait_until is None else wait_until
        source, _, identity = delivery
        if now > until:
            _refuse(source.name, identity.record_id, end)
            return

        def ask() -> None:
            try:
                self.store(*delivery, end, until)
            except Exception:  # noqa: BLE001 - counted, logged, answered
                metrics.handler_failed(source.name)
                end(DeliveryOutcome("internal_error", identity.record_id))

        asyncio.get_running_loop().call_later(ASK_AGAIN_SECONDS, ask)

    def _forget(self, content: Content) -> None:
        self._in_flight.pop(content, None)


def _refuse(source: str, record_id: str, end: EndDelivery) -> None:
    metrics.rejected(source, "log_unavailable")
    end(DeliveryOutcome("log_unavailable", record_id))


@dataclass(frozen=True, slots=True)
class _Stores:
    """Where a content may go, and who hears that copies need not wait for it any more."""

    log: EventLog
    window: DedupeWindow
    spool: Spool
    late: LateNotes
    is_caught_up: Callable[[], bool]
    forget: Callable[[Content], None]


class _State(Enum):
    APPENDING = auto()
    SPOOLING = auto()
    SPOOLED = auto()
    REFUSED = auto()
    """Refused while the log may still take it."""
    DONE = auto()


class _Append:
    """A content on its way, and those who wait for it: the first, and copies that came meanwhile."""

    __slots__ = ("_claim", "_copies", "_end", "_is_in_doubt", "_record", "_record_id", "_source", "_state", "_stores")

    def __init__(
        self, stores: _Stores, source: str, record_id: str, taken: tuple[Claim, VerifiedRecord], end: EndDelivery
    ) -> None:
        self._stores = stores
        self._source = source
        self._record_id = record_id
        self._claim, self._record = taken
        self._end = end
        self._copies: list[EndDelivery] | None = None
        self._state = _State.APPENDING
        self._is_in_doubt = False
        """True while the log may still take the record, and report it later."""

    def wait(self, copy: EndDelivery) -> None:
        """A copy is refused where the first one was, and nobody knows yet what came of it."""
        if self._state is _State.REFUSED:
            _refuse(self._source, self._record_id, copy)
            return
        if self._copies is None:
            self._copies = []
        self._copies.append(copy)

    def begin(self) -> None:
        # A content that the window does not know yet may be on the log: append it only once that is known.
        if self._stores.is_caught_up():
            try:
                self._stores.log.append(self._record, self)
                self._is_in_doubt = True
                return
            except Unavailable:
                pass
        self._spool()

    def abandon(self) -> None:
        """It could not begin: the next copy may."""
        self._conclude(self._stores.window.release)

    def settled(self, location: Location | None) -> None:
        """However late. The log then also holds what was spooled meanwhile, and the drain leaves that out."""
        self._is_in_doubt = False
        state = self._state
        if location is None:
            if state is _State.APPENDING:
                self._spool()
            elif state is _State.REFUSED:
                self._conclude(self._stores.window.release)
        elif state is _State.SPOOLED:
            self._state = _State.DONE
            self._stores.late.note(self._stores.window.landed, self._claim, location)
        else:
            self._conclude(self._stores.window.settle, location)
            metrics.accepted(self._source, self._record_id, self._claim.arrived_ms, self._claim.is_conflict)
            if state is not _State.REFUSED:
                self._end_accepted(location)

    def overdue(self) -> None:
        if self._state is _State.APPENDING:
            self._spool()

    def _spool(self) -> None:
        self._state = _State.SPOOLING
        try:
            self._stores.spool.put(SpooledRecord(self._record, self._claim.content.fingerprint), self._spooled)
        except Unavailable:
            self._spooled(False)
        except Exception:  # noqa: BLE001 - those who wait must hear of it all the same
            metrics.handler_failed(self._source)
            self._spooled(False)

    def _spooled(self, is_kept: bool) -> None:
        if self._state is not _State.SPOOLING:
            # The log was faster after all.
            return
        if is_kept:
            self._leave()
            self._state = _State.SPOOLED
            try:
                self._stores.window.spooled(self._claim)
            except Unavailable:
                # Not later: the drain, which ends that word, may have been there by then.
                self._stores.late.note(self._stores.window.release, self._claim)
            metrics.spooled(self._source, self._record_id, self._claim.arrived_ms)
            self._end_all(DeliveryOutcome("spooled", self._record_id), "duplicate")
            return
        if self._is_in_doubt:
            self._state = _State.REFUSED
        else:
            self._conclude(self._stores.window.release)
        metrics.rejected(self._source, "log_unavailable")
        self._end_all(DeliveryOutcome("log_unavailable", self._record_id), "failed")

    def _end_accepted(self, location: Location) -> None:
        self._end(DeliveryOutcome("accepted", self._record_id, location))
        for copy in self._copies or ():
            metrics.duplicate(self._source, self._record_id)
            copy(DeliveryOutcome("duplicate", self._record_id, location))

    def _end_all(self, outcome: DeliveryOutcome, counted: str) -> None:
        """The first, then its copies, which count as something else."""
        self._end(outcome)
        for copy in self._copies or ():
            REQUESTS.count(self._source, counted)
            copy(outcome)

    def _leave(self) -> None:
        """Copies need not wait here any more."""
        self._state = _State.DONE
        self._stores.forget(self._claim.content)

    def _conclude(self, said: Callable[..., None], *location: Location) -> None:
        """The window knows what came of it."""
        self._leave()
        self._stores.late.note(said, self._claim, *location)
