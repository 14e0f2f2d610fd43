"""The ledger as the rest of detachd calls it: where each transaction begins and ends.

What every method promises, so that no docstring below repeats it (docs/decisions/0013):

1. When it returns, what it wrote is committed.
2. It writes all or nothing: it is one transaction, unless its docstring says several.
3. It may raise LedgerUnavailableError. Then it is unknown whether it was written. It may be called
   again; ``finish`` then needs ``repeated``.
4. It blocks for the database: usually milliseconds, at most about a minute if it has to wait for
   locks or the network.
5. No transaction is open when it returns, and no caller ever has a connection. So no transaction is
   open during a call to Cinder, Nova, a backend or the broker.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime

from consumer.body_state import BodyState
from consumer.ledger.database import schema
from consumer.ledger.database.address import Tls
from consumer.ledger.database.engine import Database, PartOfLedger, database_now
from consumer.ledger.database.schema import Upgraded
from consumer.ledger.decisions import approving, off_words, pausing
from consumer.ledger.decisions.decisions import Decision, Word, take_unlogged
from consumer.ledger.decisions.off_words import SaidOff
from consumer.ledger.decisions.pausing import Pause
from consumer.ledger.history import reading
from consumer.ledger.history.archive import Archived, Pruned, archive, prune
from consumer.ledger.history.reading import CaseRecord, Filter, Listing, StateCount
from consumer.ledger.intake import quarantine
from consumer.ledger.intake.accept import Accepted, Arrival, Intake, accept
from consumer.ledger.intake.quarantine import QuarantinedBody
from consumer.ledger.intake.replay import Replay, Replayed, accept_replay
from consumer.ledger.intake.second_looks import SecondLooks
from consumer.ledger.periodic import replicas
from consumer.ledger.periodic.fences import Fences
from consumer.ledger.periodic.learned import Learned
from consumer.ledger.periodic.replicas import Replica, ReplicaSeen
from consumer.ledger.periodic.rounds import Rounds
from consumer.ledger.periodic.server_looks import ServerLooks
from consumer.ledger.periodic.sweeps import Sweeps
from consumer.ledger.work import allowances, breakers, claims, dismissing, finish, late, outbox
from consumer.ledger.work.allowances import Brake
from consumer.ledger.work.casefile import LedgerCaseFile, connector_of
from consumer.ledger.work.claims import Claim, ClaimRequest
from consumer.ledger.work.on_record import OnRecord, on_record
from consumer.ledger.work.outbox import Outgoing
from drivers.base import Connector
from handlers.brakes import UNLIMITED, Breaker, Limits
from handlers.case import Action, Case, CaseFile, CaseState, OffWord, Outcome
from handlers.correlation.matching import Timing
from handlers.notification import Notification


class Ledger(PartOfLedger):
    """The ledger of one cloud in one database. Thread-safe; connects at the first call.

    Raises LedgerUrlError for a URL other than sqlite:///FILE, postgresql://... and mariadb://...,
    and for files of ``tls`` that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        cloud: str = "default",
        timing: Timing | None = None,
        second_looks_per_minute: int = 0,
        tls: Tls | None = None,
    ) -> None:
        super().__init__(Database(url, tls), cloud)
        self._intake = Intake(cloud, timing or Timing(), SecondLooks(second_looks_per_minute))
        self.sweeps = Sweeps(self._database, cloud)
        self.rounds = Rounds(self._database, cloud)
        self.learned = Learned(self._database, cloud)
        self.fences = Fences(self._database, cloud)
        self.server_looks = ServerLooks(self._database, cloud)

    def __repr__(self) -> str:
        return f"Ledger({self._database.name!r}, cloud={self._cloud!r})"

    @property
    def name(self) -> str:
        """The URL without its password and options: safe to log and show."""
        return self._database.name

    # --- the database itself --------------------------------------------------------------------

    def check_schema(self) -> None:
        """Raise SchemaBehindError or SchemaAheadError unless the tables fit this program.

        Raises ClusterUnfitError if the database is a cluster that cannot keep a ledger.
        """
        schema.check_schema(self._database)

    def upgrade(self) -> Upgraded:
        """Migrate the tables; safe to repeat. Raises SchemaAheadError, ClusterUnfitError."""
        from consumer.ledger.database import upgrade  # noqa: PLC0415 - alembic takes its time

        return upgrade.upgrade(self._database)

    def close(self) -> None:
        """Close the pool of connections."""
        self._database.close()

    # --- notifications --------------------------------------------------------------------------

    def accept(self, arrivals: Sequence[Arrival]) -> Accepted:
        """Store a batch of notifications. Duplicates are only counted.

        One transaction, unless the database refuses a row: then the batch is bisected until that
        row is alone, and the row is returned in ``rejected``.
        """
        return accept(self._database, self._intake, arrivals)

    def quarantine(  # noqa: PLR0917 - the order is that of the broker's delivery
        self,
        bus: str,
        routing_key: str,
        body_sha256: str,
        size: int,
        reason: str,
        excerpt: str,
    ) -> None:
        """Record a body that cannot be parsed. The same body again is only counted.

        ``excerpt`` is shown to people: the caller has removed secrets from it.
        """
        body = quarantine.Unreadable(bus, routing_key, body_sha256, size, reason, excerpt)
        self._write(quarantine.record, body)

    def quarantined(
        self, *, state: BodyState | None = None, limit: int | None = None
    ) -> tuple[QuarantinedBody, ...]:
        """List the quarantined bodies, the most recent first."""
        return self._read(quarantine.list_bodies, state, limit)

    def quarantined_body(self, body_sha256: str) -> QuarantinedBody:
        """Return one, by its hash or the beginning of it. Raises NoSuchBodyError."""
        return self._read(quarantine.one_body, body_sha256)

    def decide_quarantined(
        self, body: QuarantinedBody, state: BodyState, *, actor: str, decision: str
    ) -> bool:
        """Record a decision on a body; return False if it arrived again after it was read."""
        return self._write(quarantine.decide, body, state, actor=actor, decision=decision)

    def replay(self, replay: Replay, what: str | Notification) -> Replayed:
        """Replay a case, by its id or by a notification: it is due at once.

        The same ``delivery_id`` again does nothing. Raises NoSuchCaseError, ReplayRefusedError.
        """
        return accept_replay(self._database, self._cloud, replay, what)

    def spare_looks(self) -> int:
        """Return how many more looks the budget allows now. Blocks on nothing."""
        return self._intake.looks.spare()

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

        ``room`` returns how many cases of a backend may be claimed ("": the backend is unknown).

        ``deadlines`` False skips the cases that wait for their end: the end may be among messages
        that are not stored yet. Each claim counts as an attempt.
        """
        request = ClaimRequest(
            self._cloud, owner, limit, lease_seconds, deadlines, tuple(exclude_backends), room
        )
        return self._database.write(lambda c: claims.claim(c, request))

    def casefile(
        self,
        claim: Claim,
        *,
        located: Callable[[str], None] = lambda _: None,
        limits: Limits = UNLIMITED,
        renewed: Callable[[float], None] = lambda _: None,
    ) -> CaseFile:
        """Return what recovery writes through while it works on the claimed case.

        ``located`` is called with the backend of the case when recovery has found it. ``limits``
        are the brakes, which hold for all replicas together. ``renewed`` is called with the seconds
        for which an intent has renewed the lease.
        """
        return LedgerCaseFile(self._database, claim, located, limits, renewed)

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

    def release(self, claim: Claim, *, delay_seconds: float = 0.0) -> None:
        """Release a claim unused: the case is due after the delay; the attempt does not count.

        Raises ClaimLostError.
        """
        self._database.write(lambda c: claims.release_case(c, claim, delay_seconds))

    def keep_under_way(self, request_ids: Collection[str]) -> int:
        """Record that these writes, which were given up, are still under way; return how many are.

        Their late horizon begins anew. Needs no claim: it decides nothing.
        """
        return self._database.write(lambda c: late.keep_under_way(c, request_ids))

    def came_back(self, owner: str, request_id: str, how: str) -> str | None:
        """Record that such a write has returned, and look at its volume; return the case's id."""
        return self._database.write(lambda c: late.came_back(c, owner, request_id, how))

    # --- announcements --------------------------------------------------------------------------

    def outbox_lease(self, owner: str, *, limit: int, lease_seconds: float) -> tuple[Outgoing, ...]:
        """Lease announcements to publish, the oldest first, at most one for each case."""
        return self._write(outbox.lease, owner, limit=limit, lease_seconds=lease_seconds)

    def outbox_sent(self, ids: Collection[int]) -> None:
        """Mark these as sent: the broker confirmed them."""
        self._database.write(lambda c: outbox.mark_sent(c, ids))

    def outbox_unrouted(self, ids: Collection[int]) -> None:
        """Mark these as unrouted: no queue was bound for them. They are not sent again."""
        self._database.write(lambda c: outbox.mark_unrouted(c, ids))

    def outbox_failed(self, outbox_id: int, error: str, delay_seconds: float) -> None:
        """Record that a publication failed; it is due again after the delay."""
        self._database.write(lambda c: outbox.mark_failed(c, outbox_id, error, delay_seconds))

    def unrouted(self, *, since: datetime | None, limit: int) -> tuple[Outgoing, ...]:
        """Return announcements that reached no queue, the oldest first."""
        return self._read(outbox.unrouted, since, limit)

    def resend(
        self,
        message_ids: Collection[str] | None,
        actor: str,
        reason: str,
        *,
        since: datetime | None = None,
    ) -> int:
        """Send unrouted announcements again, all of them for None; return how many there are."""
        return self._write(outbox.resend, message_ids, since, Word(actor, reason))

    def outbox_pending(self) -> tuple[int, float]:
        """Return how many announcements are not sent, and the age in seconds of the oldest."""
        return self._read(outbox.pending)

    # --- replicas -------------------------------------------------------------------------------

    def beat(self, replica: Replica) -> None:
        """Write the heartbeat of this service."""
        self._write(replicas.beat, replica)

    def leave(self, owner: str) -> None:
        """Remove a service that has stopped normally."""
        self._database.write(lambda c: replicas.leave(c, owner))

    def claiming_at(self, place: str) -> tuple[str, ...]:
        """Return which services of this place have claims whose leases have not ended."""
        return self._read(replicas.claiming_at, place)

    def end_leases(self, owner: str) -> int:
        """End the leases of a service that is proven dead; return how many there were."""
        return self._write(claims.end_leases, owner)

    def replicas(self) -> tuple[ReplicaSeen, ...]:
        """List the services that work on this ledger, or did in the last week."""
        return self._read(replicas.list_replicas)

    # --- finished cases -------------------------------------------------------------------------

    def archive(self, archive_seconds: float, *, limit: int) -> Archived:
        """Move cases that were finished longer ago to the archive, up to ``limit`` of them.

        Two short transactions; safe while others use the ledger, as ``prune`` is. Messages that
        have belonged to no case for that long are deleted.
        """
        return archive(self._database, self._cloud, archive_seconds, limit)

    def prune(self, retention_seconds: float, *, limit: int) -> Pruned:
        """Delete what was finished longer ago, up to ``limit`` of each kind.

        Five short transactions; safe while others use the ledger, other replicas' pruning included.
        Cases that are not closed and announcements that are not sent are never deleted.
        """
        return prune(self._database, self._cloud, retention_seconds, limit)

    def brakes(self, since_seconds: float) -> tuple[Brake, ...]:
        """Return the brakes that held a plan back in the last seconds, the latest first."""
        return self._read(allowances.held_since, since_seconds)

    def open_breakers(self) -> Mapping[str, Breaker]:
        """Return the circuit breakers that are not closed, by backend."""
        return self._read(breakers.open_breakers)

    # --- what people do and see -----------------------------------------------------------------

    def pause(self, actor: str, reason: str, *, backend: str | None = None) -> None:
        """Refuse new intents, so that nothing is written to Cinder, Nova or a backend.

        With ``backend``, only for the volumes of that one.
        """
        self._write(pausing.pause, Word(actor, reason), backend)

    def resume(self, actor: str, reason: str = "", *, backend: str | None = None) -> None:
        """End the pause of all, or of one backend, if there is one."""
        self._write(pausing.resume, Word(actor, reason), backend)

    def paused(self, backend: str | None = None) -> Pause | None:
        """Return the pause of all, else that of this backend, or None."""
        return self._database.read(
            lambda c: pausing.paused(c, self._cloud, backend), one_statement=True
        )

    def pauses(self) -> tuple[Pause, ...]:
        """Return all pauses that last now, of all and of single backends."""
        return self._database.read(lambda c: pausing.pauses_now(c, self._cloud), one_statement=True)

    def approve(
        self, case_id: str, actor: str, reason: str, *, plan: str, action: Action | None = None
    ) -> str:
        """Approve the plan that was shown; return the full case id.

        ``plan`` is its fingerprint, or the beginning of it; ``action`` is what is ordered instead,
        and ``plan`` then that of the plan with it. Raises NoSuchCaseError, WrongStateError
        unless the case awaits approval, and PlanChangedError where the case has another plan now or
        the same plan on other evidence.
        """
        return self._write(approving.approve, case_id, plan, Word(actor, reason), action=action)

    def close_case(self, case_id: str, actor: str, reason: str) -> str:
        """Close a case that a person has; return its full id. The next sign opens a new case.

        Raises NoSuchCaseError, and WrongStateError where a person does not have it, a worker is at
        it, or what it wrote may still act.
        """
        return self._write(dismissing.close, case_id, Word(actor, reason))

    def acknowledge(
        self, case_id: str, until: datetime | float, actor: str, reason: str
    ) -> tuple[str, datetime]:
        """Leave a case that a person has out of the counts until then; return its id and the time.

        ``until`` is a time, or seconds from now. It ends earlier where a look finds danger, or
        another rule. Raises NoSuchCaseError, WrongStateError.
        """
        return self._write(dismissing.acknowledge, case_id, until, Word(actor, reason))

    def end_acknowledgement(self, case_id: str, actor: str, reason: str) -> str:
        """Count a case again; return its full id. Raises NoSuchCaseError, WrongStateError."""
        return self._write(dismissing.end_acknowledgement, case_id, Word(actor, reason))

    def write_note(self, case_id: str, actor: str, reason: str) -> str:
        """Write into the history of a case; return its full id.

        Raises NoSuchCaseError, and WrongStateError for a case in the archive.
        """
        return self._write(dismissing.write_note, case_id, Word(actor, reason))

    def attest_off(self, host: str, until: datetime | float, actor: str, reason: str) -> OffWord:
        """Write down a person's word that a host is powered off until then; return it.

        An earlier word for it ends. ``until`` is a time, or seconds from now. Raises
        WrongStateError for a time that is past or more than 30 days off.
        """
        return self._write(off_words.attest, host, until, Word(actor, reason))

    def revoke_off(self, host: str, actor: str, reason: str) -> None:
        """End the word for a host. Raises NoSuchHostError where none stands."""
        self._write(off_words.revoke, host, Word(actor, reason))

    def hosts_off(self) -> tuple[OffWord, ...]:
        """Return the words that stand now."""
        return self._read(off_words.standing)

    def off_word(self, host: str) -> OffWord | None:
        """Return the word that stands now for a host."""
        return self._read(off_words.of_host, host)

    def off_words(self, *, limit: int = 100) -> tuple[SaidOff, ...]:
        """Return the words on record, the newest first, also those that have ended."""
        return self._read(off_words.every, limit)

    def knows_host(self, host: str) -> bool:
        """Tell whether a notification or a connector ever named this compute host."""
        return self._read(off_words.known, host)

    def heard_of(self, host: str, why: str) -> bool:
        """End the word for a host that was heard of again; return whether there was one."""
        return self._write(off_words.heard_of, host, why)

    def take_ended_words(self) -> tuple[SaidOff, ...]:
        """Return words that ended by themselves and that nobody was told of; no other gets them."""
        return self._write(off_words.take_untold)

    def take_decisions(self) -> tuple[Decision, ...]:
        """Return some decisions of people that no service has logged yet; no other gets them."""
        return self._write(take_unlogged)

    def cases(
        self,
        *,
        state: CaseState | None = None,
        volume_id: str | None = None,
        limit: int = 100,
    ) -> tuple[Case, ...]:
        """List cases, the newest first."""
        states = (state,) if state else ()
        wanted = Filter(states=states, volume_id=volume_id, limit=limit)
        return self._read(reading.list_cases, wanted)

    def list_cases(self, wanted: Filter) -> Listing:
        """List cases as a person needs them: those for a person first, the closed ones last."""
        return self._read(reading.list_urgent, wanted)

    def now(self) -> datetime:
        """Return the time by the database's clock."""
        return self._database.read(database_now)

    def last_heard(self) -> Mapping[tuple[str, str], datetime]:
        """Return when the last notification came from each source on each bus. Reads them all."""
        return self._read(reading.last_heard)

    def backends_on_record(self) -> tuple[str, ...]:
        """Return the backends of which there is or was a case, in order."""
        return self._read(reading.backends)

    def case(self, case_id: str) -> CaseRecord:
        """Return one case, by its id or the beginning of it. Raises NoSuchCaseError."""
        return self._read(reading.show_case, case_id)

    def on_record(self, volume_id: str, case_id: str | None = None) -> OnRecord:
        """Return what is known of a volume and its open cases, or of one case; changes nothing.

        Raises NoSuchCaseError.
        """
        return self._read(on_record, volume_id, case_id)

    def connector_of(self, host: str) -> Connector | None:
        """Return the connector last learned for a compute host from any attachment's message."""
        return self._database.read(lambda c: connector_of(c, self._cloud, host), one_statement=True)

    def counts(self) -> dict[CaseState, StateCount]:
        """Count the open cases, with every open state in it; the acknowledged ones apart."""
        return self._read(reading.count_cases)

    def counts_by_backend(self) -> dict[str | None, dict[CaseState, StateCount]]:
        """Count the open cases of each backend that has any; the acknowledged ones apart."""
        return self._read(reading.count_by_backend)
