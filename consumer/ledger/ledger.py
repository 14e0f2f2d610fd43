"""The ledger as the rest of detachd calls it: where each transaction begins and ends.

What every method promises, so that no docstring below repeats it (docs/decisions/0013):

1. When it returns, what it wrote is committed.
2. It writes all or nothing: it is one transaction, unless its docstring counts several.
3. It may raise LedgerUnavailableError. Nobody knows then whether it was written, and it may be
   called again; ``finish`` is told so.
4. It blocks for the database: milliseconds as a rule, about a minute at most where its locks or the
   network do not come.
5. No transaction is open when it returns, and no caller ever has a connection. So none is open
   during a call outside.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from consumer.ledger.database import schema
from consumer.ledger.database.address import Tls
from consumer.ledger.database.engine import Database
from consumer.ledger.database.schema import Upgraded
from consumer.ledger.history import reading
from consumer.ledger.history.archive import Archived, Pruned, archive, prune
from consumer.ledger.history.reading import CaseRecord, Filter, StateCount
from consumer.ledger.intake import quarantine
from consumer.ledger.intake.accept import Accepted, Arrival, accept
from consumer.ledger.intake.quarantine import BodyState, QuarantinedBody
from consumer.ledger.intake.replay import Replay, Replayed, accept_replay
from consumer.ledger.work import claims, control, finish, outbox, replicas
from consumer.ledger.work.casefile import LedgerCaseFile
from consumer.ledger.work.claims import Claim, ClaimRequest
from consumer.ledger.work.control import Pause
from consumer.ledger.work.outbox import Outgoing
from consumer.ledger.work.replicas import Replica, ReplicaSeen
from consumer.ledger.work.sweeps import Sweeps
from handlers.case import Case, CaseFile, CaseState, Outcome
from handlers.correlation.matching import Timing
from handlers.notification import Notification


class Ledger:
    """One cloud's cases in one database. Thread-safe; nothing is connected before the first call.

    Raises LedgerUrlError for a URL that is none of sqlite:///FILE, postgresql://..., mariadb://...,
    and for files of ``tls`` that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        cloud: str = "default",
        timing: Timing | None = None,
        tls: Tls | None = None,
    ) -> None:
        self._database = Database(url, tls)
        self._cloud = cloud
        self._timing = timing or Timing()
        self.sweeps = Sweeps(self._database, cloud)

    def __repr__(self) -> str:
        return f"Ledger({self._database.name!r}, cloud={self._cloud!r})"

    @property
    def name(self) -> str:
        """The URL without its password and options: safe to log and show."""
        return self._database.name

    # --- the database itself --------------------------------------------------------------------

    def check_schema(self) -> None:
        """Raise SchemaBehindError or SchemaAheadError unless the tables are this program's."""
        schema.check_schema(self._database)

    def upgrade(self) -> Upgraded:
        """Bring the tables up to date; doing it twice does no harm. Raises SchemaAheadError."""
        return schema.upgrade(self._database)

    def close(self) -> None:
        """Close the pool of connections."""
        self._database.close()

    # --- notifications --------------------------------------------------------------------------

    def accept(self, arrivals: Sequence[Arrival]) -> Accepted:
        """Take in a batch of notifications: durable when this returns. Duplicates are counted.

        One transaction, unless the database refuses a row: then the batch is bisected until that
        row is alone, and it is returned in ``rejected``.
        """
        return accept(self._database, self._cloud, self._timing, arrivals)

    def quarantine(  # noqa: PLR0917 - the order is that of the broker's delivery
        self,
        bus: str,
        routing_key: str,
        body_sha256: str,
        size: int,
        reason: str,
        excerpt: str,
    ) -> None:
        """Record a body that should parse and does not; the same body again is only counted.

        ``excerpt`` is shown to people: the caller has scrubbed it of secrets.
        """
        body = quarantine.Unreadable(bus, routing_key, body_sha256, size, reason, excerpt)
        self._database.write(lambda c: quarantine.record(c, self._cloud, body))

    def quarantined(
        self, *, state: BodyState | None = None, limit: int | None = None
    ) -> tuple[QuarantinedBody, ...]:
        """List the bodies that were quarantined, those that came last first."""
        return self._database.read(lambda c: quarantine.list_bodies(c, self._cloud, state, limit))

    def quarantined_body(self, body_sha256: str) -> QuarantinedBody:
        """Return one, by its hash or the beginning of it. Raises NoSuchBodyError."""
        return self._database.read(lambda c: quarantine.one_body(c, self._cloud, body_sha256))

    def decide_quarantined(
        self, body: QuarantinedBody, state: BodyState, *, actor: str, decision: str
    ) -> bool:
        """Note what was decided of a body; False where it came again since ``body`` was read."""
        return self._database.write(
            lambda c: quarantine.decide(c, self._cloud, body, state, actor=actor, decision=decision)
        )

    def replay(self, replay: Replay, what: str | Notification) -> Replayed:
        """Send a case round again, due at once: by its id, or by a notification of it.

        The same ``delivery_id`` again does nothing. Raises NoSuchCaseError, ReplayRefusedError.
        """
        return accept_replay(self._database, self._cloud, replay, what)

    # --- attempts -------------------------------------------------------------------------------

    def claim(
        self,
        owner: str,
        *,
        limit: int,
        lease_seconds: float,
        deadlines: bool,
        exclude_backends: Collection[str] = (),
        room: Callable[[str], int] | None = None,
    ) -> tuple[Claim, ...]:
        """Claim up to ``limit`` due cases, the oldest first, never two of one volume.

        ``room`` says how many of a backend at most ("" stands for one that nobody has named).

        ``deadlines`` False leaves alone the cases that wait for their end: while messages are still
        unread, silence says nothing. Each claim counts an attempt.
        """
        request = ClaimRequest(
            self._cloud, owner, limit, lease_seconds, deadlines, tuple(exclude_backends), room
        )
        return self._database.write(lambda c: claims.claim(c, request))

    def casefile(
        self, claim: Claim, *, located: Callable[[str], None] = lambda _: None
    ) -> CaseFile:
        """Return what recovery writes through while it works on the claimed case.

        ``located`` is told of the backend that the case is found to be of, once it is written.
        """
        return LedgerCaseFile(self._database, claim, located)

    def finish(self, claim: Claim, outcome: Outcome, *, repeated: bool = False) -> None:
        """Write state, history and announcements, and free the volume. Raises ClaimLostError.

        ``repeated``: an earlier call raised LedgerUnavailableError, but may have been committed.
        If a signal of the case came after it was claimed, the case is left due at once instead.
        """
        self._database.write(
            lambda c: finish.finish(c, claim, outcome),
            done=lambda c: finish.finished(c, claim),
            repeated=repeated,
        )

    def release(self, claim: Claim) -> None:
        """Free the volume, the case due at once, the attempt not counted. Raises ClaimLostError."""
        self._database.write(lambda c: claims.release_case(c, claim))

    # --- announcements --------------------------------------------------------------------------

    def outbox_lease(self, owner: str, *, limit: int, lease_seconds: float) -> tuple[Outgoing, ...]:
        """Take announcements to publish, the oldest first and at most one a case."""
        return self._database.write(
            lambda c: outbox.lease(c, self._cloud, owner, limit=limit, lease_seconds=lease_seconds)
        )

    def outbox_sent(self, ids: Collection[int]) -> None:
        """Note that the broker confirmed these."""
        self._database.write(lambda c: outbox.mark_sent(c, ids))

    def outbox_unrouted(self, ids: Collection[int]) -> None:
        """Note that no queue was bound for these; they are not sent again."""
        self._database.write(lambda c: outbox.mark_unrouted(c, ids))

    def outbox_failed(self, outbox_id: int, error: str, delay_seconds: float) -> None:
        """Note that sending failed; the announcement is due again after the delay."""
        self._database.write(lambda c: outbox.mark_failed(c, outbox_id, error, delay_seconds))

    def outbox_pending(self) -> tuple[int, float]:
        """Return how many announcements are not sent, and the age in seconds of the oldest."""
        return self._database.read(lambda c: outbox.pending(c, self._cloud))

    # --- replicas -------------------------------------------------------------------------------

    def beat(self, replica: Replica) -> None:
        """Note that this service lives."""
        self._database.write(lambda c: replicas.beat(c, self._cloud, replica))

    def leave(self, owner: str) -> None:
        """Forget a service that has ended in good order."""
        self._database.write(lambda c: replicas.leave(c, owner))

    def replicas(self) -> tuple[ReplicaSeen, ...]:
        """List the services that work on this ledger, or did in the last week."""
        return self._database.read(lambda c: replicas.list_replicas(c, self._cloud))

    # --- what is over ---------------------------------------------------------------------------

    def archive(self, archive_seconds: float, *, limit: int) -> Archived:
        """Move what is finished for longer than that out of the way, up to ``limit`` cases.

        Two transactions, each short; safe beside everything else, as ``prune`` is. Messages that
        were kept without a case for longer are forgotten.
        """
        return archive(self._database, self._cloud, archive_seconds, limit)

    def prune(self, retention_seconds: float, *, limit: int) -> Pruned:
        """Forget what is finished for longer than that, up to ``limit`` of each kind.

        Four transactions, each short; safe beside everything else, other replicas' pruning
        included. Cases that are not closed and announcements not sent are never forgotten.
        """
        return prune(self._database, self._cloud, retention_seconds, limit)

    # --- what people do and see -----------------------------------------------------------------

    def pause(self, actor: str, reason: str) -> None:
        """Let no further intent be written, so that nothing outside is written either."""
        self._database.write(lambda c: control.pause(c, self._cloud, actor, reason))

    def resume(self, actor: str) -> None:
        """End the pause, if there is one."""
        self._database.write(lambda c: control.resume(c, self._cloud, actor))

    def paused(self) -> Pause | None:
        """Return the pause that holds now."""
        return self._database.read(lambda c: control.paused(c, self._cloud), one_statement=True)

    def approve(self, case_id: str, actor: str, reason: str) -> str:
        """Approve the plan that the case has now; return the full case id.

        Raises NoSuchCaseError, and WrongStateError unless the case awaits approval.
        """
        return self._database.write(
            lambda c: control.approve(c, self._cloud, case_id, actor, reason)
        )

    def cases(
        self,
        *,
        state: CaseState | None = None,
        backend: str | None = None,
        volume_id: str | None = None,
        limit: int = 100,
    ) -> tuple[Case, ...]:
        """List cases, the newest first."""
        request = Filter(state, backend, volume_id, limit)
        return self._database.read(lambda c: reading.list_cases(c, self._cloud, request))

    def case(self, case_id: str) -> CaseRecord:
        """Return one case, by its id or the beginning of it. Raises NoSuchCaseError."""
        return self._database.read(lambda c: reading.show_case(c, self._cloud, case_id))

    def counts(self) -> dict[CaseState, StateCount]:
        """Count the open cases, with every open state in it."""
        return self._database.read(lambda c: reading.count_cases(c, self._cloud))
