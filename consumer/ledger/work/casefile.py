"""What recovery writes while it works on a case. Each call is one transaction.

1. Each write about the case has an effect only while the claim is valid (``OWN``): one that another
   worker has taken over refuses it with ClaimLostError.
2. An intent is on record before its call is made, under a request id that was never used before.
   The same statement renews the lease, and refuses while detachd or the backend is paused.
3. Tokens are taken for a whole plan or not at all, and none where the circuit breaker holds it.
4. A call that is to fence a client is on record as a fence from its intent on (``fences``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from consumer.ledger.database.cases import HistoryKind, note
from consumer.ledger.database.engine import Database, database_now
from consumer.ledger.database.prepared import Prepared
from consumer.ledger.database.tables import cases, claims, connectors, intents
from consumer.ledger.decisions import off_words
from consumer.ledger.decisions.pausing import PAUSED, check_not_paused
from consumer.ledger.periodic import fences, learned
from consumer.ledger.work.allowances import CollidedError, take
from consumer.ledger.work.breakers import count, hold, try_one
from consumer.ledger.work.claims import OWN, RENEWAL, Claim, lock_claim, own, renew, renewed
from consumer.ledger.work.late import late_calls
from consumer.ledger.work.outbox import announce
from drivers.base import ClientInstance, Connector
from handlers.brakes import BrakedError, BreakerLimits, Held, Limits, Spending
from handlers.case import (
    Announcement,
    Case,
    LateCalls,
    LearnedClient,
    OffWord,
    StepKind,
    StepResult,
)

# Made once: making a statement costs more than running it on SQLite.
_CONNECTOR_OF_HOST = sa.select(connectors.c.connector).where(
    connectors.c.cloud == sa.bindparam("cloud"), connectors.c.host == sa.bindparam("host")
)
_SAME_REQUEST = sa.select(intents.c.request_id).where(
    intents.c.request_id == sa.bindparam("request_id")
)
_USED = Prepared(_SAME_REQUEST)
_KIND = sa.select(intents.c.kind).where(intents.c.request_id == sa.bindparam("request_id"))
# One statement for all conditions, because with many threads each further statement costs time.
_RENEWED = Prepared(RENEWAL.where(~PAUSED, ~sa.exists(_SAME_REQUEST)))
_INTENDED = Prepared.insert(intents)
_LOCATED = Prepared(
    cases.update()
    .where(
        cases.c.case_id == sa.bindparam("located_case_id"),
        cases.c.backend.is_(None),
        sa.exists(sa.select(claims.c.fence).where(*OWN)),
    )
    .values(backend=sa.bindparam("backend"))
)
_SUBJECT_FOUND = (
    cases.update()
    .where(cases.c.case_id == sa.bindparam("subject_case_id"), cases.c.attachment_id.is_(None))
    .values({n: sa.bindparam(n) for n in ("attachment_id", "instance_id", "host")})
)
_OWN = [
    intents.c[name] == sa.bindparam(f"own_{name}") for name in ("request_id", "case_id", "fence")
]
_FOUND = Prepared(sa.select(intents.c.request_id).where(*_OWN))
_ENDED = Prepared(
    intents.update()
    .where(*_OWN, sa.exists(sa.select(claims.c.fence).where(*OWN)))
    .values({name: sa.bindparam(name) for name in ("result", "detail", "result_at")})
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Intended:
    kind: StepKind
    request_id: str
    target: Mapping[str, Any]
    evidence: Mapping[str, Any]
    lease_seconds: float
    announcement: Announcement | None
    backend: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """How the call of an intent ended; ``client`` is the one that it was to end."""

    request_id: str
    result: StepResult
    detail: str
    client: str | None = None


class LedgerCaseFile:
    """The ledger's ``handlers.case.CaseFile`` for one claim."""

    def __init__(
        self,
        database: Database,
        claim: Claim,
        located: Callable[[str], None],
        limits: Limits,
        renewed: Callable[[float], None],
    ) -> None:
        self._database = database
        self._renewed = renewed
        self._claim = claim
        self._cloud, self._volume_id = claim.case.cloud, claim.case.volume_id
        self._located = located
        self._limits = limits
        self._backend = claim.case.backend
        self._fencing: dict[str, str] = {}

    @property
    def case(self) -> Case:
        """The case as it was when it was claimed."""
        return self._claim.case

    @property
    def now(self) -> datetime:
        """The database time at which the case was claimed."""
        return self._claim.claimed_at

    def locate(self, backend: str) -> None:
        """Record the backend of the volume, unless the case has one; then call ``located``.

        Raises ClaimLostError, LedgerUnavailableError, and what ``located`` raises.
        """
        self._database.write(lambda connection: _locate(connection, self._claim, backend))
        self._backend = backend
        self._located(backend)

    def spend(self, spending: Spending) -> None:
        """Count a plan that is about to be begun. Raises BrakedError, LedgerUnavailableError."""
        cloud, limits = self._cloud, self._limits
        # As Cinder names it; the case may have had the name of a message.
        self._backend = spending.backend

        def take_all(connection: sa.Connection) -> Held | None:
            backend, breaker = spending.backend, limits.breaker
            # The breaker first: a plan that it holds back must not use up tokens.
            held = hold(connection, cloud, backend, breaker)
            held = held or take(connection, cloud, limits, spending)
            if held is None and (lost := try_one(connection, cloud, backend, breaker)) is not None:
                # An error and no answer, so that the tokens that were just taken are rolled back.
                raise CollidedError(lost)
            return held

        try:
            held = self._database.write(take_all)
        except CollidedError as collided:
            held = collided.held
        if held is not None:
            raise BrakedError(held)

    def intend(
        self,
        kind: StepKind,
        *,
        request_id: str,
        target: Mapping[str, Any],
        evidence: Mapping[str, Any],
        lease_seconds: float,
        announcement: Announcement | None,
    ) -> None:
        """Record that a call is about to be made, and renew the lease for ``lease_seconds``.

        Raises ClaimLostError, PausedError, LedgerUnavailableError, and ValueError for a request id
        that was used before. Then nothing is written.
        """
        step = _Intended(
            kind, request_id, target, evidence, lease_seconds, announcement, self._backend
        )
        if (client := target.get(fences.CLIENT)) is not None:
            self._fencing[request_id] = client
        self._database.write(
            lambda connection: _intend(connection, self._claim, step),
            # After a lost commit the intent may be there: writing it again would be refused as a
            # used request id.
            done=lambda connection: _find(connection, self._claim, request_id),
        )
        # After the commit: a lease that was not written must not be counted on.
        self._renewed(lease_seconds)

    def result(self, request_id: str, result: StepResult, detail: str) -> None:
        """Record the result of the call of an intent.

        Raises ClaimLostError if the volume was claimed again since, and KeyError for a request id
        without an intent of this claim.
        """
        ended = Ended(request_id, result, detail, client=self._fencing.get(request_id))
        self._database.write(
            lambda c: _result(c, self._claim, ended, self._backend, self._limits.breaker)
        )

    def late(self) -> LateCalls:
        """Return the late calls as of now. The case has those at the time of its claim.

        What this claim has intended and not ended is not among them.
        """
        # An intent is written before its call, and would hold up that very call.
        own = (self.case.case_id, self._claim.fence)
        of_volumes = self._database.read(
            lambda c: late_calls(c, self._cloud, [self._volume_id], intending=own)
        )
        return of_volumes[self._volume_id]

    def connector_of(self, host: str) -> Connector | None:
        """Return the newest connector of a compute host that a notification contained."""
        return self._database.read(lambda c: connector_of(c, self._cloud, host), one_statement=True)

    def off_word(self, host: str) -> OffWord | None:
        """Return a person's word that the host is powered off, if it stands now."""
        return self._database.read(lambda c: off_words.of_host(c, self._cloud, host))

    def word_counted(self, host: str) -> None:
        """Record that the word for this host counted in a look at the volume."""
        self._database.write(lambda c: off_words.counted(c, self._cloud, host, self._volume_id))

    def heard_of(self, host: str, why: str, *, seen_anew: bool = False) -> None:
        """End the word for a host that was heard of again."""
        volume_id = self._volume_id if seen_anew else None
        self._database.write(lambda c: off_words.heard_of(c, self._cloud, host, why, volume_id))

    def learned_clients(self) -> Mapping[str, ClientInstance]:
        """Return the clients that were learned for attachments of the volume, by attachment."""
        return self._database.read(
            lambda c: learned.of_volume(c, self._cloud, self._volume_id), one_statement=True
        )

    def learn(self, seen: LearnedClient) -> ClientInstance | None:
        """Keep which client an attachment has; return the one before where it was another."""
        return self._database.write(lambda c: learned.learn(c, self._cloud, self._volume_id, seen))


def connector_of(connection: sa.Connection, cloud: str, host: str) -> Connector | None:
    """Return the newest connector of a compute host that a notification contained."""
    found = connection.execute(_CONNECTOR_OF_HOST, {"cloud": cloud, "host": host}).scalar()
    return None if found is None else Connector.from_mapping(found)


def _find(connection: sa.Connection, claim: Claim, request_id: str) -> str | None:
    """Return the request id if this claim has intended it."""
    return request_id if _FOUND.finds(connection, _own(claim, request_id)) else None


def _own(claim: Claim, request_id: str) -> dict[str, Any]:
    return {
        "own_request_id": request_id,
        "own_case_id": claim.case.case_id,
        "own_fence": claim.fence,
    }


def _locate(connection: sa.Connection, claim: Claim, backend: str) -> None:
    _lock_unless_sqlite(connection, claim)
    located = {"located_case_id": claim.case.case_id, "backend": backend}
    # Nothing changed: the case had a backend, which is well, or the claim is lost, which lock_claim
    # tells.
    if _LOCATED.run(connection, located | own(claim)) != 1:
        lock_claim(connection, claim)


def _lock_unless_sqlite(connection: sa.Connection, claim: Claim) -> None:
    """Lock the volume's row. SQLite needs no lock, because it has one writer."""
    if connection.dialect.name != "sqlite":
        lock_claim(connection, claim)


def _intend(connection: sa.Connection, claim: Claim, step: _Intended) -> str:
    now = database_now(connection)
    values = {
        "cloud": claim.case.cloud, "request_id": step.request_id, "paused_backend": step.backend,
    }  # fmt: skip
    if _RENEWED.run(connection, renewed(claim, now, step.lease_seconds) | values) != 1:
        _renew_or_refuse(connection, claim, step)
    _INTENDED.run(connection, _row(claim, step, now))
    # A step names the attachment that it is about: from then on the case is about that one and no
    # other.
    if (subject := claim.case.about(step.target)) is not claim.case:
        connection.execute(_SUBJECT_FOUND, _subject_of(subject))
    note(
        connection, claim.case.case_id, HistoryKind.INTENDED, claim.owner, now,
        fence=claim.fence, reason=step.kind.value, detail={"request_id": step.request_id},
    )  # fmt: skip
    if step.target.get(fences.CLIENT) is not None and step.backend is not None:
        reason = str(step.evidence.get("reason", ""))
        made = fences.Made(step.target, step.request_id, reason)
        fences.intend(connection, claim.case, step.backend, made, now)
    # "start" is announced with the first intent: neither without the other.
    if step.announcement is not None:
        announce(connection, claim.case.cloud, claim.case.case_id, [step.announcement], now)
    return step.request_id


def _subject_of(case: Case) -> dict[str, Any]:
    names = {name: getattr(case, name) for name in ("attachment_id", "instance_id", "host")}
    return {"subject_case_id": case.case_id} | names


def _renew_or_refuse(connection: sa.Connection, claim: Claim, step: _Intended) -> None:
    """Raise the reason why the intent was refused; it may not exist any more."""
    # In this order: whoever lost the claim has to stop, whatever else holds.
    renew(connection, claim, step.lease_seconds)
    check_not_paused(connection, claim.case.cloud, step.backend)
    if _USED.finds(connection, {"request_id": step.request_id}):
        raise ValueError(f"the request id {step.request_id} was used for an intent before")


def _row(claim: Claim, step: _Intended, now: datetime) -> dict[str, Any]:
    return {
        "request_id": step.request_id,
        "case_id": claim.case.case_id,
        "fence": claim.fence,
        "attempt": claim.case.attempts,
        "kind": step.kind.value,
        "target": dict(step.target),
        "evidence": dict(step.evidence),
        "intended_at": now,
        "result": StepResult.INTENDED.value,
    }


def _result(
    connection: sa.Connection,
    claim: Claim,
    ended: Ended,
    backend: str | None,
    limits: BreakerLimits,
) -> None:
    _lock_unless_sqlite(connection, claim)
    now, request_id, result = database_now(connection), ended.request_id, ended.result
    values = {"result": result.value, "detail": ended.detail, "result_at": now}
    if _ENDED.run(connection, _own(claim, request_id) | own(claim) | values) != 1:
        lock_claim(connection, claim)
        # The claim is valid, so there is no such intent of it: a bug of the caller.
        raise KeyError(request_id)
    if ended.client is not None:
        fences.ended(connection, claim.case.cloud, request_id, ended.client, result)
    note(
        connection, claim.case.case_id, HistoryKind.RESULT, claim.owner, now, fence=claim.fence,
        reason=f"{result.value}: {ended.detail}", detail={"request_id": request_id},
    )  # fmt: skip
    if backend is not None and limits.failures:
        kind = StepKind(connection.execute(_KIND, {"request_id": request_id}).scalar_one())
        count(connection, claim.case.cloud, backend, (kind, result), limits)
