"""A case, its states, and ``CaseFile``: all that recovery may write about a case.

The ledger implements ``CaseFile``. Recovery knows nothing else of the ledger.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from drivers.base import ClientInstance, Connector
from handlers.brakes import Spending
from handlers.notification import Operation


class CaseState(enum.Enum):
    """What moves the case next. docs/states.md has a sentence for each state and each edge."""

    WAITING = "waiting"
    DUE = "due"
    SETTLING = "settling"
    AWAITING_APPROVAL = "awaiting-approval"
    PARKED = "parked"
    CLOSED = "closed"


FOR_A_PERSON = (CaseState.PARKED, CaseState.AWAITING_APPROVAL)
OPEN_STATES = (*FOR_A_PERSON, CaseState.DUE, CaseState.WAITING, CaseState.SETTLING)
"""All states but closed, those that wait for a person first."""


class Trigger(enum.Enum):
    """Why detachd looks at the case."""

    DEADLINE = "deadline"
    ERROR = "error"
    RELEASED_UNASKED = "released-unasked"
    END = "end"
    RESET = "reset"
    SIGNAL = "signal"
    SWEEP = "sweep"
    REPLAY = "replay"


class UseCase(enum.Enum):
    """The five use cases of the 2015 specification."""

    UC1 = "UC1"
    UC2 = "UC2"
    UC3 = "UC3"
    UC4 = "UC4"
    UC5 = "UC5"


class StepKind(enum.Enum):
    """Every write that detachd makes outside itself."""

    CINDER_RESERVE = "cinder.reserve"
    CINDER_UNRESERVE = "cinder.unreserve"
    CINDER_ROLL_DETACHING = "cinder.roll_detaching"
    CINDER_COMPLETE = "cinder.complete"
    CINDER_DELETE_ATTACHMENT = "cinder.delete_attachment"
    CINDER_FORCE_DETACH = "cinder.force_detach"
    BACKEND_FORCE_DETACH = "backend.force_detach"
    NOVA_DETACH = "nova.detach"


class Action(enum.Enum):
    """What only a person may order instead of what a plan asks for.

    ``DETACH``: Nova detaches what the plan would leave attached. ``SERVICE_TOKEN``: the call that
    Cinder's own check refused (CVE-2023-2088) is made with a service token, which ends that check.
    """

    DETACH = "detach"
    SERVICE_TOKEN = "service-token"  # noqa: S105 - a name


ORDERED_OF_PARKED = frozenset({Action.SERVICE_TOKEN})
"""What may be ordered of a parked case too: it parks because the call was refused."""


class StepResult(enum.Enum):
    """How a step ended; ``INTENDED`` is what a crash leaves behind.

    ``WITHHELD``: what the step rested on changed before the call, or a stop, a pause or too little
    left of the claim stood against it, so it was not made. Of these only
    INTENDED, DONE and INDETERMINATE may have acted.
    """

    INTENDED = "intended"
    DONE = "done"
    TRANSIENT = "transient"
    INDETERMINATE = "indeterminate"
    REFUSED = "refused"
    WITHHELD = "withheld"


class VerifiedBy(enum.Enum):
    """What shows that the backend is clean: our own look, or only its driver's report."""

    PROBE = "probe"
    DRIVER = "driver"


@dataclasses.dataclass(frozen=True, slots=True)
class Grounds:
    """Why a write was meant: the verdict and rule of the look that asked for it."""

    verdict: str
    rule: str
    use_case: UseCase | None


@dataclasses.dataclass(frozen=True, slots=True)
class Intent:
    """One write that was meant: what history holds of it, oldest first within a case.

    ``attachment_id`` is the one that the write was about, ``intended_at`` the database time when it
    was written down.
    """

    kind: StepKind
    result: StepResult
    request_id: str
    attempt: int
    attachment_id: str | None = None
    intended_at: datetime | None = None
    grounds: Grounds | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class LateCalls:
    """Calls on a volume that may still act although their callers may have given up.

    ``asked_at``: the latest time at which a call of ours, for any case of the volume, went out that
    can reach the backend and gave no answer: when we gave up waiting, or after a crash when the
    intent was recorded. ``detach_tried_at``: the last start of a detach without an end of Cinder's,
    by any client: Nova's tries, an attach's clean-up. ``attach_tried_at``: the last start of an
    attach, ended or not, as its end has another request id. Database time; None for never. As of
    the claim.
    """

    asked_at: datetime | None = None
    detach_tried_at: datetime | None = None
    attach_tried_at: datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Shown:
    """A row that the start of an operation showed, which did not say which of them it is about.

    ``unasked``: Cinder's API began it, which deletes such a row without asking the backend.
    """

    attachment_id: str
    instance_id: str | None = None
    host: str | None = None
    unasked: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class OtherCase:
    """Another open case of the volume, as of the claim."""

    case_id: str
    state: CaseState
    operation: Operation
    attachment_id: str | None
    end_seen: bool = False
    rule: str | None = None
    reason: str | None = None


class ReasonKind(enum.Enum):
    """What kind of reason a person is told: what parked a case, or what else is told of it once.

    ``RULE``: a rule asks for a person. ``GUARD``: a guard stands against the plan. ``REFUSED``: a
    call of the plan was refused for good. ``FAILED``: the attempts failed. ``WAITED``: it took
    longer than the patience. ``DANGER``: it waits, and another server may get the volume while a
    host is let in. ``INTERNAL``: an error of our own, or of the ledger.
    """

    RULE = "rule"
    GUARD = "guard"
    REFUSED = "refused"
    FAILED = "failed"
    WAITED = "waited"
    DANGER = "danger"
    INTERNAL = "internal"


class Conclusion(enum.Enum):
    """Why a case is closed.

    ``JOINED``: another case of its attachment is parked for the same. ``DISMISSED``: a person
    closed it.
    """

    HEALTHY = "healthy"
    ENDED = "ended"
    MENDED = "mended"
    GONE = "gone"
    JOINED = "joined"
    DISMISSED = "dismissed"


GATHERED: Mapping[str, Any] = {"gathered": True}
"""Marks what a claim gathers from elsewhere; every other field of a case is a column of its row."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One suspected attachment, from first sign to conclusion, as the ledger holds it.

    *What it is about.* ``host`` is the compute host of its attachment, ``backend`` Cinder's
    ``host@backend``, ``connector`` the one that a message of this very attachment carried.

    *What the bus said.* ``signal_seq`` grows with each notification of the case. ``starts`` counts
    Cinder's starts of the operation: more than one means that a try timed out or failed.
    ``nova_started`` and ``nova_ended``: Nova said so itself. ``end_seen``: an end of this operation
    on this attachment arrived. ``released_unasked``: UC5's signature was seen, or, of an older
    Cinder, the end of a detach that none began. ``shown`` are the rows among which the first start
    did not choose: its end tells which of them went, by those that are left.

    *Whether this Cinder has the volume.* ``volume_seen``: a look of ours saw it there, for this
    case or, in a case that is claimed, for another one. ``deletion_told``: Cinder told
    that it was deleted or unmanaged. Without either, a 404 of Cinder proves nothing.

    *What time moves.* It is looked at again at ``next_attempt_at`` (None: not by itself). A replay
    that found it at rest began a new round, at ``rearmed_at``.

    *What was done.* ``attempts`` counts claims, the one in hand included; ``failures`` the finished
    attempts that failed; ``crashes`` the claims in a row whose lease ran
    out. ``first_clean_at`` is the time of the first of the clean looks that closing after a timeout
    takes; an end that the bus told of, after no timeout, counts as one.
    ``mended_attempt`` is ``attempts`` at the time of the last recovery, 0 for never.
    ``rule``, ``verdict``, ``reason`` and ``fingerprint``, which names the plan, are those of the
    last finished attempt; ``told`` are the kinds of what a person was told of it, the last one
    last: while a person has the case, each kind once. ``approved_by`` said yes to the plan
    ``approved_fingerprint`` at ``approved_at``, and to no other; where that is a plan with what
    only a person may order, ``approved_action`` is that. ``acknowledged_by`` knows of it
    and wants to hear no more until ``acknowledged_until``, as long as ``acknowledged_rule`` says
    what is wrong.

    Times are the database's. ``intents``, oldest first, ``late``, which says what may still act on
    the volume, ``beside``, its other open cases, ``deletion_told`` and ``unseen_finding`` are not
    the row's: a case that is claimed has them, one that is listed does not. ``unseen_finding``: the
    first sweep found it, nothing else told of it, and no person has acknowledged the list of what
    the sweeps found, nor replayed the case.
    """

    case_id: str
    cloud: str
    volume_id: str
    operation: Operation

    attachment_id: str | None = None
    instance_id: str | None = None
    host: str | None = None
    backend: str | None = None
    connector: Connector | None = None

    trigger: Trigger
    request_ids: tuple[str, ...] = ()
    signal_seq: int
    starts: int = 0
    nova_started: bool = False
    nova_ended: bool = False
    end_seen: bool = False
    released_unasked: bool = False
    shown: tuple[Shown, ...] = ()
    volume_seen: bool = False

    state: CaseState
    opened_at: datetime
    rearmed_at: datetime | None = None
    updated_at: datetime
    closed_at: datetime | None = None
    next_attempt_at: datetime | None = None

    attempts: int = 0
    failures: int = 0
    crashes: int = 0
    first_clean_at: datetime | None = None
    mended_at: datetime | None = None
    mended_attempt: int = 0
    rule: str | None = None
    verdict: str | None = None
    reason: str | None = None
    told: tuple[ReasonKind, ...] = ()
    use_case: UseCase | None = None
    verified_by: VerifiedBy | None = None
    conclusion: Conclusion | None = None
    fingerprint: str | None = None
    approved_by: str | None = None
    approved_fingerprint: str | None = None
    approved_at: datetime | None = None
    approved_action: Action | None = None
    acknowledged_until: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_rule: str | None = None

    intents: tuple[Intent, ...] = dataclasses.field(default=(), metadata=GATHERED)
    late: LateCalls = dataclasses.field(default=LateCalls(), metadata=GATHERED)
    deletion_told: bool = dataclasses.field(default=False, metadata=GATHERED)
    unseen_finding: bool = dataclasses.field(default=False, metadata=GATHERED)
    beside: tuple[OtherCase, ...] = dataclasses.field(default=(), metadata=GATHERED)

    @property
    def open(self) -> bool:
        """Tell whether an event, a person or time can still move the case."""
        return self.state is not CaseState.CLOSED

    @property
    def failures_were_told(self) -> bool:
        """Tell whether a person has it and knows that it fails: it is announced if it succeeds."""
        return self.state is CaseState.PARKED and ReasonKind.FAILED in self.told

    @property
    def only_ended(self) -> bool:
        """Tell whether the bus said that it ended, and nobody has looked at it since.

        It is closed, or it settles until it is looked at.
        """
        unseen = self.state is CaseState.SETTLING and self.end_seen and self.attempts == 0
        return unseen or self.conclusion is Conclusion.ENDED

    @property
    def nova_is_at_it(self) -> bool:
        """Tell whether Nova said that it began and has not said that it ended."""
        return self.nova_started and not self.nova_ended

    @property
    def round_began_at(self) -> datetime:
        """When the present round began. The age of a case counts from here."""
        return self.rearmed_at or self.opened_at

    def about(self, target: Mapping[str, Any]) -> Case:
        """Return the case as it is once a write for this target is recorded.

        Where no message has named an attachment, the case is from then on about the one that we act
        on, and about its host: any other attachment belongs to another case.
        """
        if self.attachment_id is not None or target.get("attachment_id") is None:
            return self
        return dataclasses.replace(
            self,
            attachment_id=target["attachment_id"],
            instance_id=self.instance_id or target.get("instance_id"),
            host=target.get("host"),
        )


class Priority(enum.Enum):
    """The notification priority, which is the last part of the routing key."""

    INFO = "info"
    ERROR = "error"


@dataclasses.dataclass(frozen=True, slots=True)
class Announcement:
    """One notification of ours, before the outbox gives it its message_id.

    ``reached`` is the state that it says the case has come to: it is not sent if the case does not.
    """

    event_type: str
    priority: Priority
    payload: Mapping[str, Any]
    reached: CaseState | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What one attempt came to; ``ledger.finish`` writes all of it in one transaction.

    ``delay_seconds`` says when the case is due again (None: never by itself). ``failed`` counts the
    attempt against the case's budget; ``mended`` and ``clean`` set ``mended_at`` and
    ``first_clean_at`` (or clear the latter). ``volume_seen``: Cinder showed the volume.
    ``evidence`` is what history keeps: plain JSON values. ``held``: a person has the case, and the
    look shows nothing else to decide: what the person was told of it stays, unless ``reason_kind``
    is one that was not told yet. It is None where the reason is that of a mere look.
    """

    state: CaseState
    rule: str
    verdict: str
    reason: str
    delay_seconds: float | None
    conclusion: Conclusion | None
    use_case: UseCase | None
    verified_by: VerifiedBy | None
    failed: bool
    mended: bool
    clean: bool
    fingerprint: str | None
    evidence: Mapping[str, Any]
    announcements: tuple[Announcement, ...]
    attachment_id: str | None = None
    instance_id: str | None = None
    backend: str | None = None
    volume_seen: bool = False
    held: bool = False
    reason_kind: ReasonKind | None = None


class ClaimLostError(Exception):
    """The claim on this volume is no longer ours: its lease ran out, and another may have it."""


class PausedError(Exception):
    """A person wants nothing written now: detachd is paused, or the client's fence is lifted."""


class CrowdedError(Exception):
    """The backend has as many cases at work as may be; this one is due when one of them ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class OffWord:
    """A person's word that a compute host is powered off, until a time; database times."""

    host: str
    said_by: str
    said_at: datetime
    until: datetime
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class LearnedClient:
    """The client that has a volume open for an attachment, as a look saw it while all was well.

    ``host`` is the compute host, ``backend`` the one on which the volume was then.
    """

    attachment_id: str
    host: str
    backend: str
    client: ClientInstance


class CaseFile(Protocol):
    """What recovery may write about the one case that it works on. Each call is a transaction."""

    @property
    def case(self) -> Case:
        """The case as it was when claimed."""

    @property
    def now(self) -> datetime:
        """Database time when the case was claimed."""

    def locate(self, backend: str) -> None:
        """Record on which backend the volume is, as no message of the case has named it.

        Before its first intent: the case may be handed back for it. Raises ClaimLostError, and
        CrowdedError when as many cases of that backend are being worked as may be.
        """

    def spend(self, spending: Spending) -> None:
        """Count a plan that is about to be begun: nothing of it was written yet.

        Raises BrakedError if a brake holds it back.
        """

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
        """Record that a call is about to be made, and extend the lease so that it outlasts it.

        The case is then ``Case.about`` the target.

        Raises ClaimLostError when the claim is not ours any more, PausedError when detachd is
        paused. ``announcement`` (the attempt's ``start``) goes to the outbox with it.
        """

    def result(self, request_id: str, result: StepResult, detail: str) -> None:
        """Record how the call of that intent ended. Raises ClaimLostError."""

    def late(self) -> LateCalls:
        """Return what may still act on the volume, as of now; the case has it as of the claim."""

    def connector_of(self, host: str) -> Connector | None:
        """Return the connector last learned for a compute host from any attachment's message."""

    def off_word(self, host: str) -> OffWord | None:
        """Return a person's word that the host is powered off, if it stands now."""

    def word_counted(self, host: str) -> None:
        """Record that the word for this host counted in a look at the volume.

        From then on a session of that host on the volume would be a new one.
        """

    def heard_of(self, host: str, why: str, *, seen_anew: bool = False) -> None:
        """End the word for a host that was heard of again; a person is told.

        ``seen_anew``: only where the word has counted for this volume before.
        """

    def learned_clients(self) -> Mapping[str, ClientInstance]:
        """Return the clients that were learned for attachments of the volume, by attachment."""

    def learn(self, seen: LearnedClient) -> ClientInstance | None:
        """Keep which client an attachment has, as a look at a healthy one showed it.

        It replaces what was learned before. Returns that, where it was another client.
        """
