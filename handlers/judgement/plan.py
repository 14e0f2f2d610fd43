"""Verdict + evidence + what the driver can do -> the ordered steps, and what each needs to hold.

The only place that orders the calls to Cinder, Nova and the driver. Pure.

1. The backend is released before Cinder's record changes.
2. The call that changes Cinder's status is the last one.
3. Each step names the statuses and conditions that must hold right before its call.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, assert_never

from drivers.base import Attachment, Capabilities, Reach
from handlers import intents
from handlers.case import Action, StepKind
from handlers.judgement import accounting, facts
from handlers.judgement.diagnosis import holds
from handlers.judgement.evidence import Fact
from handlers.judgement.rule import Diagnosis, Verdict
from handlers.judgement.situation import Situation
from handlers.notification import Operation


class Condition(enum.Enum):
    """What must hold right before a step's call, beside status and rows being as planned."""

    LET_GO = "Nova holds nothing of the attachment"
    UNUSED = "Nova lists who uses the volume on the host whose access ends"
    QUIET = "the attachment's host holds no live session that a guest may be using"
    NAMED = "Nova's block device names the attachment"
    ALONE = "a record explains each connection on the backend"
    SOLE = "the backend has one connection alone, for the only attachment"
    CLEAN = "the backend is clean of the attachment"
    HELD = "the reserve that keeps others out is our own"


UNHELD = (Condition.LET_GO, Condition.UNUSED)


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """One write: what, on which attachment, in which status of the volume, on what condition.

    ``host`` is the one that the attachment is on, whether its connector is known or not. ``reach``
    is what the client that is ended has beside the volume, where single clients are ended.
    ``service_token``: a person ordered that the call carries one, so that Cinder asks Nova nothing.
    """

    kind: StepKind
    attachment: Attachment
    statuses: frozenset[str]
    conditions: frozenset[Condition]
    host: str | None = None
    reach: Reach | None = None
    service_token: bool = False

    def target(self) -> dict[str, Any]:
        """Return what history keeps of the step: plain JSON values, no secret."""
        connector = self.attachment.connector
        return {
            "volume_id": self.attachment.volume_id,
            "attachment_id": self.attachment.attachment_id,
            "instance_id": self.attachment.instance_id,
            "host": self.host,
            "initiator": connector.initiator if connector else None,
            **self._client(),
            **({"service_token": True} if self.service_token else {}),
        }

    def _client(self) -> dict[str, Any]:
        """Return which client is ended, and what it loses beside the volume; else nothing."""
        if (learned := self.attachment.learned) is None:
            return {}
        others = list(self.reach.others) if self.reach else None
        return {"client": learned.address, "client_number": learned.client, "also_loses": others}


def make_plan(diagnosis: Diagnosis, capabilities: Capabilities) -> tuple[Step, ...]:
    """Return the steps that the verdict asks for, in order; none where it asks for none. Pure."""
    s = diagnosis.situation
    if s is None:
        return ()
    match diagnosis.verdict:
        case Verdict.RELEASE:
            return _release(s, capabilities)
        case Verdict.TERMINATE:
            return _terminate(s, capabilities)
        case Verdict.ROLL_FORWARD:
            return (_step(s, StepKind.CINDER_COMPLETE, {"attaching"}, Condition.NAMED),)
        case Verdict.NOVA_DETACH:
            return _nova_detach(s)
        case (
            Verdict.HEALTHY
            | Verdict.CLEAN
            | Verdict.GONE
            | Verdict.IN_FLIGHT
            | Verdict.UNKNOWN
            | Verdict.PARK
        ):
            return ()
        case _:
            assert_never(diagnosis.verdict)


def ordered(diagnosis: Diagnosis, capabilities: Capabilities, action: Action) -> tuple[Step, ...]:
    """Return the plan with what a person may order instead; none where there is no such. Pure.

    ``DETACH``: an attach that would be rolled forward, and so stay, is completed and then detached
    by Nova, which is told of a detach only of what Cinder calls in-use. ``SERVICE_TOKEN``: a
    release whose call Cinder refused is made with a service token, and is the same otherwise.
    """
    s = diagnosis.situation
    if s is None:
        return ()
    match action:
        case Action.DETACH:
            attaches = diagnosis.verdict is Verdict.ROLL_FORWARD
            if not attaches or s.case.operation is not Operation.ATTACH:
                return ()
            return (*make_plan(diagnosis, capabilities), _detach_in_use(s))
        case Action.SERVICE_TOKEN:
            if diagnosis.verdict is not Verdict.RELEASE or not _refused_by_cinder(s):
                return ()
            return _with_token(make_plan(diagnosis, capabilities))
        case _:
            assert_never(action)


def action_of(steps: tuple[Step, ...]) -> Action | None:
    """Return what a person has to order for these steps to be made, None for nothing."""
    if is_ordered_detach(steps):
        return Action.DETACH
    return Action.SERVICE_TOKEN if any(step.service_token for step in steps) else None


def _refused_by_cinder(s: Situation) -> bool:
    return s.attachment is not None and intents.cinder_refused(s.case, s.attachment.attachment_id)


def _with_token(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps with a service token for the calls that Cinder checks; none without such."""
    checked = intents.CHECKED_BY_CINDER
    told = tuple(dataclasses.replace(step, service_token=step.kind in checked) for step in steps)
    return told if any(step.service_token for step in told) else ()


def of_one_round(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Return the steps that one round makes: a detach that was ordered comes in the next one.

    It rests on a look that saw the attachment completed, and every guard is asked of it anew.
    """
    return steps[:1] if is_ordered_detach(steps) else steps


def is_ordered_detach(steps: tuple[Step, ...]) -> bool:
    """Tell whether these are the steps of an attach that a person ordered to be detached."""
    kinds = [step.kind for step in steps]
    return kinds == [StepKind.CINDER_COMPLETE, StepKind.NOVA_DETACH]


def _release(s: Situation, capabilities: Capabilities) -> tuple[Step, ...]:
    if _one_call_for_both(s, capabilities):
        kind = StepKind.CINDER_FORCE_DETACH
        # No look comes between the backend and Cinder here, so all is asked for before the one
        # call.
        conditions = (*UNHELD, Condition.QUIET, Condition.CLEAN)
        return (_step(s, kind, {s.status}, *conditions),)
    last = _release_in_cinder(s)
    if not _needs_backend_call(s, capabilities):
        return (_step(s, last, {s.status}, *UNHELD, Condition.CLEAN),)
    # Without a connector the call ends every connection, so there must be this one alone.
    needs = [*UNHELD, Condition.QUIET] + ([] if s.connector else [Condition.SOLE])
    return (
        _step(s, StepKind.BACKEND_FORCE_DETACH, {s.status}, *needs),
        # Cinder's record goes last, and only where the look after the driver's call shows nothing
        # left.
        _step(s, last, _left_by_driver(s, capabilities), *UNHELD, Condition.CLEAN),
    )


def _one_call_for_both(s: Situation, capabilities: Capabilities) -> bool:
    """Tell whether Cinder is asked for all of it: ``os-force_detach`` with row and connector.

    It ends the connection, removes the export and drops the row, in this order. Where no look is
    possible in between, two calls would be no safer, and the second one would skip the removal of
    the export, which is all that some drivers do (LVM's; ``DELETE /attachments/{id}`` of a row
    that is still reserved). Cinder refuses it for a volume with several rows.
    """
    blind = capabilities.acts_through_cinder and s.blind
    identified = s.attachment is not None and s.connector is not None
    return blind and identified and _needs_backend_call(s, capabilities)


def _release_in_cinder(s: Situation) -> StepKind:
    if s.attachment is not None:
        return StepKind.CINDER_DELETE_ATTACHMENT
    return StepKind.CINDER_UNRESERVE if s.status == "attaching" else StepKind.CINDER_FORCE_DETACH


def _left_by_driver(s: Situation, capabilities: Capabilities) -> set[str]:
    """Return the statuses that the volume may be in after the driver's call.

    ``os-terminate_connection`` ends with what os-unreserve does: attaching becomes in-use where
    rows are and available where none is (Cinder, cinder/volume/api.py).
    """
    if not capabilities.acts_through_cinder or s.status != "attaching":
        return {s.status}
    return {s.status, "in-use" if s.volume.attachments else "available"}


def _needs_backend_call(s: Situation, capabilities: Capabilities) -> bool:
    """Tell whether the backend has to be released by a call of its own, before Cinder's.

    Not without a connector to name the host by, unless there is no other host and the driver takes
    that; nor where another server of the same host needs, or may need, the same connection; nor
    where nobody is let in to a volume that is free, which its host may be given anew meanwhile. A
    driver that acts through Cinder is called only where Cinder's own delete would skip the backend,
    one that cannot keep the host out not at all; one that ends single clients where the learned one
    is there, whoever else is on its host.
    """
    if s.connector is None:
        return s.sole and capabilities.accepts_no_connector
    if capabilities.by_learned_client:
        return s.learned_there
    if s.shared_host or (s.status == "available" and s.clean):
        return False
    if capabilities.acts_through_cinder:
        return cinder_skips_backend(s)
    return capabilities.revokes_access


def cinder_skips_backend(s: Situation) -> bool:
    """Tell whether Cinder's own delete of the subject's row may leave the backend as it is.

    It does so for a row that is still reserved (cinder/volume/api.py ``attachment_delete``) and for
    one without a connector: of an attach that failed early, or of the old way. No API shows the
    connector; connection info is stored after it, by the API, which may have given up by then. So a
    row without it may have a connector or not, unless it is ``attaching`` beside other rows: the
    volume manager writes that after the connector, and the old way makes no second row.
    """
    if s.attachment is None or s.attachment.status in ("reserved", "error_attaching"):
        return True
    has_one = s.attachment.status == "attaching" and bool(s.others)
    return not (s.attachment.has_connection_info or has_one)


def _terminate(s: Situation, capabilities: Capabilities) -> tuple[Step, ...]:
    force = StepKind.BACKEND_FORCE_DETACH
    # Only what is available is reserved meanwhile; ``attaching`` here is our own reserve.
    if s.status not in ("available", "attaching"):
        return (_step(s, force, {s.status}, *UNHELD, Condition.QUIET),)
    release = _step(s, force, {"attaching"}, *UNHELD, Condition.QUIET, Condition.HELD)
    unreserve = _step(
        s,
        StepKind.CINDER_UNRESERVE,
        {"attaching", "available"} if capabilities.acts_through_cinder else {"attaching"},
        Condition.LET_GO,
        Condition.CLEAN,
    )
    if s.status == "available":
        # First, so that nobody attaches the volume while the driver ends the old connection.
        reserve = _step(s, StepKind.CINDER_RESERVE, {"available"}, *UNHELD, Condition.QUIET)
        return (reserve, release, unreserve)
    return (unreserve,) if _released(s) else (release, unreserve)


def _released(s: Situation) -> bool:
    """Tell whether only our own reserve is left of it: the backend is clean already."""
    return intents.released_by_driver(s.case) if s.blind else s.clean


DETACH_NEEDS = (Condition.NAMED, Condition.ALONE)


def _nova_detach(s: Situation) -> tuple[Step, ...]:
    detach = _detach_in_use(s)
    if s.status == "in-use":
        return (detach,)
    # Nova's API refuses to detach what Cinder calls detaching already (400).
    return (_step(s, StepKind.CINDER_ROLL_DETACHING, {"detaching"}, *DETACH_NEEDS), detach)


def _detach_in_use(s: Situation) -> Step:
    return _step(s, StepKind.NOVA_DETACH, {"in-use"}, *DETACH_NEEDS)


def _step(s: Situation, kind: StepKind, statuses: set[str], *conditions: Condition) -> Step:
    # A row that is not there must not be named to os-force_detach: it would refuse that only after
    # it has ended the connection (Cinder, ``attachment_deletion_allowed``).
    gone = None if kind is StepKind.CINDER_FORCE_DETACH else s.case.attachment_id
    ends = s.learned if kind is StepKind.BACKEND_FORCE_DETACH else None
    attachment = Attachment(
        volume_id=s.case.volume_id,
        attachment_id=s.attachment.attachment_id if s.attachment else gone,
        instance_id=s.instance_id,
        connector=s.connector,
        learned=ends,
    )
    reach = s.reach.value if ends is not None and isinstance(s.reach, Fact) else None
    return Step(
        kind, attachment, frozenset(statuses), frozenset(conditions), s.attached_host, reach
    )


def unmet(step: Step, planned: Diagnosis, now: Diagnosis) -> str | None:
    """Return why the step must not be made on what was just read, or None. Pure.

    The table is asked anew: a step is made only while it still says what the plan was made for.
    """
    before, s = planned.situation, now.situation
    if before is None or s is None:
        return f"Cinder could not be read again before the call: {now.reason}"
    # First what is plainly another thing: its sentence tells a person more than that of a rule.
    if reason := _changed(step, before, s) or _client_changed(step, s):
        return reason
    if now.verdict is not planned.verdict and not _carries_on(step, now):
        return f"the picture changed ({now.rule}): {now.reason}"
    if holds("B4.compute-down", s):
        return (
            "the compute service of a host that may use the volume is not known to be up any more"
        )
    broken = [c.value for c in Condition if c in step.conditions and not _met(c, s)]
    return f"a condition of the step does not hold any more: {broken[0]}" if broken else None


def _changed(step: Step, before: Situation, s: Situation) -> str | None:
    if s.volume.ref != before.volume.ref:
        return "the volume moved, or others share its target now"
    if s.volume.replication_status != before.volume.replication_status:
        return "the volume's replication changed: Cinder's driver may act on another array now"
    if _subject(s) != _subject(before):
        return "the case is about another attachment now"
    if s.status not in step.statuses:
        return f"the volume's status became {s.status}"
    return "the volume's attachments changed" if _attachments(s) != _attachments(before) else None


def _client_changed(step: Step, s: Situation) -> str | None:
    """Return why the one client that the step ends must not be ended any more."""
    ends = step.attachment.learned
    if ends is None:
        return None
    same = s.learned_there and any(connection.is_of(ends) for connection in s.own)
    if not same or s.another_client:
        return "the client that was learned has the volume no more, or another one has it too"
    if not isinstance(s.reach, Fact) or s.reach.value != step.reach:
        return "what else the client has open changed, or is not known any more"
    return None


def _subject(s: Situation) -> str | None:
    return s.attachment.attachment_id if s.attachment else None


def _carries_on(step: Step, now: Diagnosis) -> bool:
    """Tell whether all is well already, but for our own reserve, which this step gives back."""
    return step.kind is StepKind.CINDER_UNRESERVE and now.verdict is Verdict.CLEAN


def _attachments(s: Situation) -> frozenset[tuple[str, str]]:
    return frozenset(
        (attachment.attachment_id, attachment.status) for attachment in s.volume.attachments
    )


def _met(condition: Condition, s: Situation) -> bool:
    match condition:
        case Condition.LET_GO:
            met = nova_let_go(s)
        case Condition.UNUSED:
            met = not accounting.let_go_unproven(s)
        case Condition.QUIET:
            met = not s.guest_may_write and not facts.backend_unknown(s)
        case Condition.NAMED:
            met = s.named_by_device
        case Condition.ALONE:
            met = not accounting.has_unexplained_connection(s)
        case Condition.SOLE:
            met = s.sole
        case Condition.CLEAN:
            met = s.blind or s.clean
        case Condition.HELD:
            met = holds("UC5.held", s)
        case _:
            assert_never(condition)
    return met


def nova_let_go(s: Situation) -> bool:
    """Tell whether Nova spoke of the attachment, and holds nothing of it."""
    return _answered(s) and not s.named_by_device and not s.devices_without_attachment


def _answered(s: Situation) -> bool:
    """Tell whether Nova spoke of the attachment; of one that is no server's it has nothing to say.

    Then the backend's word stands alone: nobody is let in.
    """
    of_a_host = facts.attachment_is_of_no_server(s) and facts.no_connection(s)
    return s.server is not None or s.server_gone or facts.host_uses_nothing(s) or of_a_host
