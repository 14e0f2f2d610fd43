"""Evidence -> verdict: the rules are asked in order, and the first that holds decides. Pure."""

from __future__ import annotations

from drivers.base import ClientInstance
from drivers.control_plane import Volume
from handlers.case import Case
from handlers.judgement import accounting, facts, rules, writers
from handlers.judgement.evidence import Absent, Evidence, Fact, NoControl, Outage, Unknown
from handlers.judgement.facts import Predicate
from handlers.judgement.policy import LateAttach
from handlers.judgement.rule import RELEASING, Diagnosis, Rule, Verdict
from handlers.judgement.rules import (
    CINDER_UNKNOWN,
    CRASHES,
    PAGE,
    RULES,
    UNKNOWN_TO_CINDER,
    VOLUME_GONE,
)
from handlers.judgement.situation import Situation, situate

MAX_CRASHES = 3

_BY_ID = {rule.rule_id: rule for rule in RULES}


def rule_ids() -> tuple[str, ...]:
    """Return the id of every rule that a diagnosis can name, in the order they are asked."""
    return tuple(rule.rule_id for section in PAGE for rule in section.rules)


def facts_of(rule_id: str) -> tuple[str, ...]:
    """Return the names of the facts that this rule asks for; none of a rule before any look."""
    return tuple(fact.name for fact in _BY_ID[rule_id].when) if rule_id in _BY_ID else ()


def holds(rule_id: str, s: Situation) -> bool:
    """Tell whether the situation has what this rule asks for, whatever rules come before it."""
    return _holds(_BY_ID[rule_id], s)


def _holds(rule: Rule, s: Situation) -> bool:
    if not all(fact.holds(s) for fact in rule.when):
        return False
    return not any(_left_to(other, s) for other in rule.unless)


def _left_to(other: Predicate | str, s: Situation) -> bool:
    return holds(other, s) if isinstance(other, str) else other.holds(s)


def condemn(case: Case) -> Diagnosis | None:
    """Return the verdict on a case that must not even be looked at, or None. Pure.

    If something in the case crashes the process, it would do so again and again, and stop all other
    cases. A claim that a slow ledger took from us counts as well, so one or two are no proof.
    """
    if case.crashes < MAX_CRASHES:
        return None
    reason = (
        f"the lease ran out during each of the last {case.crashes} attempts, so the service "
        "process may have died"
    )
    return Diagnosis(Verdict.PARK, CRASHES, reason, None, None)


def diagnose(
    case: Case, evidence: Evidence, late_attach: LateAttach = LateAttach.KEEP
) -> Diagnosis:
    """Return the verdict of the first rule that holds. Pure; every evidence has one."""
    match evidence.volume:
        case NoControl(reason):
            return Diagnosis(Verdict.UNKNOWN, UNKNOWN_TO_CINDER, reason, None, None)
        case Unknown(reason):
            outage = isinstance(evidence.volume, Outage)
            return Diagnosis(Verdict.UNKNOWN, CINDER_UNKNOWN, reason, None, None, outage)
        case Absent(control):
            return Diagnosis(Verdict.GONE, VOLUME_GONE, control, None, None)
        case Fact(volume):
            situation = situate(case, volume, evidence, late_attach)
    # The last rule asks for nothing, so that there is always one.
    decides = next(rule for rule in RULES if _holds(rule, situation))
    said = decides.where_blind if situation.blind and decides.where_blind else decides.reason
    reason = said + _unseen(situation) + _users(situation) + _hosts(decides, situation)
    outage = any(isinstance(answer, Outage) for answer in _answers(situation))
    return Diagnosis(decides.verdict, decides.rule_id, reason, decides.use_case, situation, outage)


def _answers(s: Situation) -> tuple[object, ...]:
    holders = (asked.holders for asked in accounting.asked_of_hosts_let_go(s))
    return *s.servers.values(), *holders, s.swapping, s.pools, s.backend, s.reach


def hosts_to_ask_of(first: Diagnosis) -> tuple[str, ...]:
    """Return the hosts of which Nova has to say who uses the volume there, the first one first.

    Those whose access would be ended, then those that nothing explains. Pure.
    """
    s = first.situation
    if s is None or s.holding is not None:
        return ()
    going = accounting.hosts_let_go(s) if first.verdict in RELEASING else ()
    left = () if s.nameless else accounting.unexplained_hosts(s)
    # The order counts: a look asks of ``MOST_HOSTS`` hosts only.
    return tuple(dict.fromkeys((*going, *left)))


def server_to_ask_of(first: Diagnosis) -> str | None:
    """Return the server of which Nova has to say whether it swaps a volume, None for none. Pure.

    In a swap the new volume looks like an attach that never finished, and the old one like a detach
    that Nova does not carry out.
    """
    s = first.situation
    acts = first.verdict in (Verdict.RELEASE, Verdict.NOVA_DETACH)
    return s.instance_id if acts and s is not None and s.server is not None else None


def client_to_ask_of(first: Diagnosis) -> ClientInstance | None:
    """Return the client of which the backend has to say what else it has open, None for none. Pure.

    That is the learned one, where a release would end it.
    """
    s = first.situation
    ends = s is not None and first.verdict in RELEASING and s.learned_there
    return s.learned if s is not None and ends else None


def volume_to_ask_of(first: Diagnosis) -> Volume | None:
    """Return the volume of whose backend Cinder has to say the protocol, None for none. Pure.

    That is where a release may call the backend and no row tells how hosts reach the volume.
    """
    s = first.situation
    asks = s is not None and first.verdict in RELEASING and s.protocol is None
    return s.volume if s is not None and asks else None


def _unseen(s: Situation) -> str:
    """Return what could not be seen, in the sources' own words."""
    unknown = [answer.reason for answer in _answers(s) if isinstance(answer, Unknown)]
    return f" ({'; '.join(unknown)})" if unknown else ""


def _users(s: Situation) -> str:
    """Return the servers that may use the volume, where Nova could only be asked about the host."""
    servers = ", ".join(facts.holders(s))
    return f" (on {s.holding.host} by instance {servers})" if s.holding and servers else ""


def _hosts(decides: Rule, s: Situation) -> str:
    """Return the hosts that a rule about access speaks of, or the parties that one finds."""
    match decides.rule_id:
        case rules.TWO_WRITERS:
            records = (*accounting.servers_that_hold(s), *accounting.attachments(s))
            return f" ({' and '.join(writers.writers(s))}; {', '.join(records) or 'no record'})"
        case rules.ACCESS_LOST:
            hosts = writers.lost_access(s)
        case rules.OPEN_TO_OTHERS | rules.GIVEN_AWAY:
            hosts = (*accounting.hosts_let_in(s), *accounting.servers_that_hold(s))
        case rules.GUEST_NOT_ENDED:
            hosts = (s.attached_host or accounting.NO_HOST,)
        case rules.ANOTHER_USER | rules.UNEXPLAINED:
            hosts = tuple(party.words for party in accounting.may_hold(s))
        case rules.OTHER_UNEXPLAINED | rules.LEFT_OVER:
            hosts = tuple(party.words for party in accounting.unexplained(s))
        case _:
            return ""
    return f" ({' and '.join(hosts)})"
