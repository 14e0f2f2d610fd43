"""Evidence -> verdict: one decision table, read from the top; the first rule that holds decides.

Pure. Time is no argument of any rule. The order is the safety: danger is told first, what is in
flight or cannot be seen is turned away and what is healthy recognised, and only then may a rule
act. Whatever no rule knows is for a person. docs/rules.md explains each rule and is checked against
this table.

What evidence can mean.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable

from handlers.case import Case, UseCase
from handlers.judgement import facts, writers
from handlers.judgement.evidence import Absent, Evidence, Fact, Unknown
from handlers.judgement.policy import LateAttach
from handlers.judgement.situation import Situation, situate


class Verdict(enum.Enum):
    """What the evidence means for the case's attachment."""

    HEALTHY = "healthy"
    """It is attached, and rightly so."""
    CLEAN = "clean"
    """It is not attached and nothing of it is left over."""
    GONE = "gone"
    """The volume does not exist any more."""
    IN_FLIGHT = "in-flight"
    """Somebody else's operation on the volume or the server is under way."""
    UNKNOWN = "unknown"
    """A source that should see could not."""
    RELEASE = "release"
    """The attachment is dead: release the backend, then Cinder."""
    TERMINATE = "terminate"
    """Cinder has let go already; one connection is left on the backend."""
    ROLL_FORWARD = "roll-forward"
    """It is attached in truth; Cinder has to be told."""
    NOVA_DETACH = "nova-detach"
    """The wish to detach is on record; Nova has to carry it out."""
    PARK = "park"
    """For a person."""


ACTING = frozenset({Verdict.RELEASE, Verdict.TERMINATE, Verdict.ROLL_FORWARD, Verdict.NOVA_DETACH})


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """A verdict, the rule that said so, and why in words for a person.

    ``situation`` is None only where Cinder did not show a volume.
    """

    verdict: Verdict
    rule: str
    reason: str
    use_case: UseCase | None
    situation: Situation | None


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table: the sign that it asks for and what it then says."""

    rule_id: str
    verdict: Verdict
    holds: Callable[[Situation], bool]
    sentence: str
    use_case: UseCase | None = None


CINDER_UNKNOWN = "X1.cinder-unknown"
VOLUME_GONE = "G1.volume-gone"
CRASHES = "P11.crashes"
MAX_CRASHES = 3


def rule_ids() -> tuple[str, ...]:
    """Return the id of every rule that a diagnosis can name, in the order they are asked."""
    return (CRASHES, CINDER_UNKNOWN, VOLUME_GONE, *(rule.rule_id for rule in RULES))


def condemn(case: Case) -> Diagnosis | None:
    """Return the verdict on a case that must not even be looked at, or None. Pure.

    Whatever in it ends the process would end it again and again, and everybody else's cases with
    it. A claim that a slow ledger took from us counts too, so one or two are no proof.
    """
    if case.crashes < MAX_CRASHES:
        return None
    reason = f"the process ended without a word in each of the last {case.crashes} attempts"
    return Diagnosis(Verdict.PARK, CRASHES, reason, None, None)


def diagnose(
    case: Case, evidence: Evidence, late_attach: LateAttach = LateAttach.KEEP
) -> Diagnosis:
    """Return the verdict of the first rule that holds. Pure; every evidence has one."""
    match evidence.volume:
        case Unknown(reason):
            return Diagnosis(Verdict.UNKNOWN, CINDER_UNKNOWN, reason, None, None)
        case Absent(control):
            return Diagnosis(Verdict.GONE, VOLUME_GONE, control, None, None)
        case Fact(volume):
            situation = situate(case, volume, evidence, late_attach)
    rule = next(rule for rule in RULES if rule.holds(situation))
    reason = rule.sentence + _unseen(situation) + _held(situation) + _hosts(rule, situation)
    return Diagnosis(rule.verdict, rule.rule_id, reason, rule.use_case, situation)


def _unseen(s: Situation) -> str:
    """Return what could not be seen, in the sources' own words."""
    holders = s.holding.holders if s.holding else None
    answers = (*s.servers.values(), holders, s.backend)
    unknown = [answer.reason for answer in answers if isinstance(answer, Unknown)]
    return f" ({'; '.join(unknown)})" if unknown else ""


def _held(s: Situation) -> str:
    """Return who may be using it, where only the host could be asked about."""
    named = ", ".join(facts.holders(s))
    return f" (on {s.holding.host} by instance {named})" if s.holding and named else ""


def _hosts(rule: Rule, s: Situation) -> str:
    """Return the hosts that a rule of access speaks of."""
    if rule.holds is facts.two_writers:
        return f" ({' and '.join(writers.writers(s))})"
    return f" ({' and '.join(writers.lost_access(s))})" if rule.holds is facts.access_lost else ""


# fmt: off
RULES: tuple[Rule, ...] = (
    # Danger, whichever attachment the case is about.
    Rule("P15.two-writers", Verdict.PARK, facts.two_writers,
         "critical: several hosts may be writing to the volume at once, which destroys its data"),
    # Somebody else is at work, or we cannot see who holds it.
    Rule("P1.volume-error", Verdict.PARK, facts.volume_in_error,
         "the volume is in an error or maintenance status"),
    Rule("B1.volume-busy", Verdict.IN_FLIGHT, facts.volume_busy,
         "another operation works on the volume"),
    Rule("X2.nova-unknown", Verdict.UNKNOWN, facts.nova_unknown,
         "Nova could not say who holds the volume"),
    Rule("B2.server-busy", Verdict.IN_FLIGHT, facts.server_busy,
         "a task of Nova's is under way on a server that has the volume"),
    # Healthy, whatever the backend says; but for what contradicts itself.
    Rule("H1.shelved", Verdict.HEALTHY, facts.shelved_reservation,
         "a shelved server keeps its volume, and may for months"),
    Rule("H2.attached", Verdict.HEALTHY, facts.attached_and_named,
         "Cinder says attached and Nova's block device names this attachment"),
    Rule("H3.attached-the-old-way", Verdict.HEALTHY, facts.attached_the_old_way,
         "Cinder says attached and Nova has a block device of the kind that names no attachment"),
    Rule("P2.names-the-wrong-row", Verdict.PARK, facts.named_by_the_wrong_row,
         "Nova's block device names one row of two of the same server, and its guest may be "
         "running on the other one's host"),
    # From here on a rule may act, so everything must have been seen and be unambiguous.
    Rule("X3.backend-unknown", Verdict.UNKNOWN, facts.backend_unknown,
         "the backend could not be seen"),
    Rule("P3.ambiguous", Verdict.PARK, facts.ambiguous,
         "several attachments of the volume may be meant and no message says which"),
    Rule("P4.no-instance", Verdict.PARK, facts.instance_unnamed,
         "no instance is known for the attachment, so Nova cannot be asked who holds the volume"),
    Rule("B3.other-attachment", Verdict.IN_FLIGHT, facts.other_attachment_in_the_making,
         "another attachment of the volume is being made or ended"),
    Rule("B4.compute-down", Verdict.IN_FLIGHT, facts.compute_not_up,
         "the compute service of the server's host is not known to be up, and its guest may hold "
         "the volume"),
    Rule("B5.nova-detaching", Verdict.IN_FLIGHT, facts.nova_detach_accepted,
         "Nova has accepted the detach and is carrying it out"),
    Rule("B6.detach-asked-since", Verdict.IN_FLIGHT, facts.detach_of_another_case,
         "the attach ended, and a detach has been asked for since"),
    Rule("B7.source-down", Verdict.IN_FLIGHT, facts.left_on_a_host_that_is_down,
         "the row is on a host that its server has left and whose compute service is not known to "
         "be up: after an evacuation its old guest may be running on"),
    # The five use cases.
    Rule("UC2.late-first-try", Verdict.ROLL_FORWARD, facts.ended_then_attaching,
         "the attach had ended well, then a first try that finished late put the volume back to "
         "attaching", UseCase.UC2),
    Rule("UC2.attached", Verdict.ROLL_FORWARD, facts.attaching_and_named,
         "the backend and Nova's block device have it attached, only Cinder was not told",
         UseCase.UC2),
    Rule("UC2.completed", Verdict.NOVA_DETACH, facts.completed_for_detach,
         "an attach that only Cinder did not know of was completed, and the operator wants such to "
         "be detached", UseCase.UC2),
    Rule("UC4.wish-on-record", Verdict.NOVA_DETACH, facts.detaching_and_named,
         "Cinder has the wish to detach on record and Nova has not carried it out", UseCase.UC4),
    Rule("UC4.rolled", Verdict.NOVA_DETACH, facts.rolled_for_detach,
         "the wish to detach was rolled back to in-use so that Nova can carry it out",
         UseCase.UC4),
    Rule("P10.whose-wish", Verdict.PARK, facts.whose_wish,
         "Cinder says detaching of a volume with several attachments, and not of which"),
    Rule("P5.server-deleted", Verdict.PARK, facts.guest_may_outlive,
         "the server is deleted but its row is left, and neither the backend nor Nova's record of "
         "the deletion proves that its guest is not running on with it"),
    Rule("UC1.unfinished", Verdict.RELEASE, facts.unfinished_attach,
         "the attach never finished and Nova holds nothing", UseCase.UC1),
    Rule("UC5.held", Verdict.TERMINATE, facts.held_by_us,
         "new attachments are kept out by our own reserve while a left-over connection goes",
         UseCase.UC5),
    Rule("UC1.bare-reserve", Verdict.RELEASE, facts.bare_reserve,
         "the volume is reserved in the way that makes no row, and Nova holds nothing",
         UseCase.UC1),
    Rule("UC3.released-in-nova", Verdict.RELEASE, facts.detached_in_nova,
         "Nova has let the volume go, Cinder still says detaching", UseCase.UC3),
    Rule("UC5.leaked", Verdict.TERMINATE, facts.leaked,
         "Cinder says available and Nova holds nothing, but the backend lets the host in",
         UseCase.UC5),
    Rule("UC5.ghost", Verdict.TERMINATE, facts.ghost,
         "Cinder says available and names nobody, the backend lets one compute host in, and Nova "
         "proves that no server may be using it there", UseCase.UC5),
    Rule("UC5.leaked-beside-others", Verdict.TERMINATE, facts.leaked_beside_others,
         "the attachment is gone but the backend lets its host in, beside others that are right",
         UseCase.UC5),
    # Left-overs of live migrations and of multiattach.
    Rule("S1.stray-row", Verdict.RELEASE, facts.stray_row,
         "an unfinished row that no block device names, beside good ones"),
    Rule("S2.left-on-source", Verdict.RELEASE, facts.left_on_source,
         "the source's row was left behind by a live migration that went well"),
    Rule("S3.deleted-with-server", Verdict.RELEASE, facts.deleted_with_server,
         "the server is deleted, its guest is proven to be gone, only the row was left behind"),
    # Nothing to do, or nothing that a program should do.
    Rule("P8.access-lost", Verdict.PARK, facts.access_lost,
         "Cinder and Nova say attached and the guest runs, but the backend does not let its host "
         "in"),
    Rule("P6.guest-holds", Verdict.PARK, facts.guest_holds,
         "Nova has the volume, or may have it, in use although Cinder has let it go: the guest may "
         "be writing"),
    Rule("P9.unfinished-sibling", Verdict.PARK, facts.unfinished_sibling,
         "beside the attached row its server has an unfinished one that no task is working on"),
    Rule("P16.shelved-and-let-in", Verdict.PARK, facts.shelved_and_let_in,
         "the server is shelved and offloaded, so that it has no guest, and its attachment has a "
         "host, or the backend lets one in"),
    Rule("P12.no-guest-to-ask", Verdict.PARK, facts.no_guest_to_ask,
         "Nova's block device names it, and the server never ran or is in a state in which Nova "
         "detaches nothing: whoever deletes, resets or unshelves the server decides"),
    Rule("P13.broke-off", Verdict.PARK, facts.begun_and_left,
         "Nova's block device names a row that is not attached, and nobody is seen to be let in: "
         "an attach or a shelving broke off, and its guest has no disk, or is gone"),
    Rule("P14.status-alone", Verdict.PARK, facts.status_disagrees,
         "the volume's only row and Nova say attached and its status does not: a status that was "
         "set by hand, which resetting it to in-use puts right"),
    Rule("C1.nothing-left", Verdict.CLEAN, facts.nothing_left,
         "Cinder has let go, Nova holds nothing and the backend is clean"),
    Rule("C2.nothing-left-blind", Verdict.CLEAN, facts.nothing_left_blind,
         "Cinder has let go through its driver and Nova holds nothing; this backend cannot be "
         "seen"),
    Rule("P7.foreign-connection", Verdict.PARK, facts.foreign_connection,
         "the backend lets somebody in whom no record explains"),
    Rule("P0.not-understood", Verdict.PARK, facts.always,
         "no rule knows this combination"),
)
# fmt: on
