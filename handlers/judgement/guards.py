"""May we act now? Named reasons not to, each saying what then becomes of the case. Pure."""

from __future__ import annotations

import dataclasses
import enum
from datetime import datetime

from drivers.base import Capabilities
from handlers import intents, late
from handlers.case import StepKind
from handlers.judgement import facts
from handlers.judgement.evidence import Fact
from handlers.judgement.plan import Step, cinder_skips_backend
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.judgement.situation import Situation
from handlers.notification import Operation

BACKEND = StepKind.BACKEND_FORCE_DETACH
FREES_IN_CINDER = frozenset(
    {
        StepKind.CINDER_DELETE_ATTACHMENT,
        StepKind.CINDER_FORCE_DETACH,
        StepKind.CINDER_UNRESERVE,
    }
)


GIVES_AWAY = FREES_IN_CINDER | {StepKind.NOVA_DETACH}
"""What lets somebody else have the volume, sooner or later: Nova's detach ends like ours."""
UNDOES_ATTACH = FREES_IN_CINDER | {BACKEND}


class Guard(enum.Enum):
    """A reason not to act; its value is the sentence that a person reads."""

    NO_CONNECTOR = (
        "no connector of the attachment's host was ever seen on the bus, so the one connection to "
        "end cannot be named"
    )
    NAMELESS_CONNECTION = (
        "the backend lets somebody in, and its driver cannot tell whom: a release could cut off "
        "somebody else"
    )
    CANNOT_REVOKE = "the driver cannot keep the host from coming back, and the backend is not clean"
    SEVERAL_ATTACHMENTS = (
        "the volume has several attachments, and Cinder's API does not end the one connection that "
        "its delete would skip: it refuses, or ends those of the others too"
    )
    FOREIGN_CONNECTION = "the backend also lets in somebody whom no record explains"
    LIVE_SESSION = (
        "the host holds a live session although Nova has no record of it: its guest may be using "
        "the disk"
    )
    BLIND_NOT_TRUSTED = (
        "this backend cannot be seen; set trust_blind for it to act on its driver's word"
    )
    SHARED_TARGETS = "other volumes may be behind the same session, which the driver would end"
    COMES_BACK = "it was mended and came back, and that for very long"
    SERVICE_DOWN = "cinder-volume of this backend is not up"
    OWN_CALL_UNANSWERED = (
        "a call of our own gave no answer and may still act; until it cannot, the volume is kept "
        "from everybody else"
    )
    LATE_DETACH = (
        "a try to detach it was begun and not ended, and may still act; until it cannot, the "
        "volume is given to nobody else"
    )
    LATE_ATTACH_UNSEEN = (
        "the attach may still finish late, and this backend could not be seen doing it"
    )
    OBSERVE = "the mode is observe"
    APPROVE = "the mode is approve, and nobody has approved this plan"


PARKS = frozenset(
    {
        Guard.NO_CONNECTOR,
        Guard.NAMELESS_CONNECTION,
        Guard.CANNOT_REVOKE,
        Guard.SEVERAL_ATTACHMENTS,
        Guard.FOREIGN_CONNECTION,
        Guard.LIVE_SESSION,
        Guard.BLIND_NOT_TRUSTED,
        Guard.SHARED_TARGETS,
        Guard.COMES_BACK,
        Guard.OBSERVE,
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Objection:
    """A guard that holds; ``wait_seconds`` is how long it will, where that is known."""

    guard: Guard
    wait_seconds: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Means:
    """What the plan would be carried out with, and under what: driver, operator's word, time."""

    capabilities: Capabilities
    policy: BackendPolicy
    now: datetime
    fingerprint: str


def guard(s: Situation, steps: tuple[Step, ...], means: Means) -> Objection | None:
    """Return the first reason not to carry out ``steps`` now, or None.

    What only a person can lift comes first, then what passes by itself, then what the operator's
    mode asks for: so that observe and approve never hide a deeper reason.
    """
    if reason := _for_a_person(s, steps, means):
        return Objection(reason)
    if not s.volume.service_up and any(step.kind is not BACKEND for step in steps):
        return Objection(Guard.SERVICE_DOWN)
    return _too_early(s, steps, means) or _not_allowed(s, means)


def _for_a_person(s: Situation, steps: tuple[Step, ...], means: Means) -> Guard | None:
    kinds = {step.kind for step in steps}
    releases = BACKEND in kinds or bool(kinds & FREES_IN_CINDER)
    if releases and (reason := _unsafe_release(s, kinds, means)):
        return reason
    if StepKind.NOVA_DETACH in kinds and s.stranger:
        return Guard.FOREIGN_CONNECTION
    age_seconds = (means.now - s.case.opened_at).total_seconds()
    again = s.case.mended_attempt > 0 and age_seconds > means.policy.patience_seconds
    return Guard.COMES_BACK if again else None


def _unsafe_release(s: Situation, kinds: set[StepKind], means: Means) -> Guard | None:
    if s.blind and not means.policy.trust_blind:
        return Guard.BLIND_NOT_TRUSTED
    if reason := _unsure_of_the_host(s, kinds, means):
        return reason
    if _host_could_return(s, kinds, means):
        return Guard.CANNOT_REVOKE
    if s.guest_may_write or (s.live_sessions and not means.capabilities.ends_sessions):
        return Guard.LIVE_SESSION
    direct = BACKEND in kinds and not means.capabilities.acts_through_cinder
    if direct and s.volume.ref.shared_targets and means.capabilities.ends_sessions:
        return Guard.SHARED_TARGETS
    return None


def _unsure_of_the_host(s: Situation, kinds: set[StepKind], means: Means) -> Guard | None:
    if _may_release_every_host(s, means):
        return None
    if s.connector is None and _must_name_the_host(s, kinds):
        return Guard.NO_CONNECTOR
    if means.capabilities.acts_through_cinder and s.others and kinds & intents.TERMINATES:
        return Guard.SEVERAL_ATTACHMENTS
    if s.nameless:
        return Guard.NAMELESS_CONNECTION
    return Guard.FOREIGN_CONNECTION if s.foreign else None


def _may_release_every_host(s: Situation, means: Means) -> bool:
    """Tell whether the driver may be called without a connector, which means every host.

    By the operator's word for this backend, and only where every host is one: idle access for the
    only attachment that there is.
    """
    allowed = means.capabilities.accepts_no_connector and means.policy.allow_no_connector
    return allowed and s.connector is None and s.sole


def _host_could_return(s: Situation, kinds: set[StepKind], means: Means) -> bool:
    """Tell whether somebody is let in whom the driver cannot keep out.

    Cinder's own delete may do it, or may do nothing; its success would free the volume unproven.
    """
    able = means.capabilities.revokes_access or means.capabilities.acts_through_cinder
    return not able and (BACKEND in kinds or bool(s.own))


def _must_name_the_host(s: Situation, kinds: set[StepKind]) -> bool:
    """Tell whether a step takes the connector, or the backend is not clean without one."""
    takes_it = bool(kinds & {BACKEND, StepKind.CINDER_FORCE_DETACH})
    return takes_it or isinstance(s.backend, Fact) or (s.blind and cinder_skips_backend(s))


def _too_early(s: Situation, steps: tuple[Step, ...], means: Means) -> Objection | None:
    kinds = {step.kind for step in steps}
    unseen = s.blind and s.case.operation is Operation.ATTACH
    waits = (
        (Guard.OWN_CALL_UNANSWERED, kinds & GIVES_AWAY, late.own_seconds),
        (Guard.LATE_DETACH, kinds & GIVES_AWAY, late.detach_seconds),
        (Guard.LATE_ATTACH_UNSEEN, unseen and kinds & UNDOES_ATTACH, late.attach_seconds),
    )
    horizon = means.policy.late_horizon_seconds
    for reason, applies, seconds in waits:
        if applies and (left := seconds(s.case, horizon, means.now)):
            return Objection(reason, left)
    return None


def _not_allowed(s: Situation, means: Means) -> Objection | None:
    """Ask the operator's mode. What was approved and begun is carried on without being asked."""
    if means.policy.mode is Mode.OBSERVE:
        return Objection(Guard.OBSERVE)
    approval = s.case.approval
    begun = facts.held_by_us(s) or facts.rolled_for_detach(s)
    approved = approval is not None and (begun or approval.fingerprint == means.fingerprint)
    asks = means.policy.mode is Mode.APPROVE and not approved
    return Objection(Guard.APPROVE) if asks else None
