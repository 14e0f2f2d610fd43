"""Evidence as history, the command line and a person get it: plain JSON values, no secret.

What can be looked up by an id is kept as the id: the sentences of rules, facts and guards are not
here (``explanation`` has them).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_never

from drivers.base import Connection
from drivers.control_plane import Server, Swap, Volume
from handlers.case import Action, Grounds, UseCase
from handlers.judgement import off
from handlers.judgement.diagnosis import facts_of
from handlers.judgement.evidence import (
    Absent,
    BackendEvidence,
    Blind,
    Evidence,
    Fact,
    Holding,
    ProtocolEvidence,
    ReachEvidence,
    ServerEvidence,
    SwapEvidence,
    Unknown,
    VolumeEvidence,
)
from handlers.judgement.guards import Guard, Objection
from handlers.judgement.parties import Accounted, parties
from handlers.judgement.plan import Step
from handlers.judgement.rule import Diagnosis
from handlers.judgement.situation import Situation


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """What the guards said of a plan with this fingerprint: the first objection decides.

    ``instead`` are the plans that a person may order instead, each as it is judged.
    """

    fingerprint: str
    objections: tuple[Objection, ...] = ()
    instead: tuple[Instead, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Instead:
    """A plan that only a person may order."""

    action: Action
    steps: tuple[Step, ...]
    judged: Judged


def summarise(
    evidence: Evidence,
    diagnosis: Diagnosis,
    steps: tuple[Step, ...] = (),
    *,
    judged: Judged | None = None,
    asked_at: Mapping[str, datetime] | None = None,
) -> dict[str, Any]:
    """Return one look, its diagnosis and the plan that followed from it.

    ``asked_at`` says when each of cinder, nova and backend was asked; one that was not is left out.
    """
    s = diagnosis.situation
    return {
        "asked_at": {
            side: at.isoformat(timespec="seconds") for side, at in (asked_at or {}).items()
        },
        "cinder": _volume(evidence.volume),
        "nova": {instance_id: _server(answer) for instance_id, answer in evidence.servers},
        "ended_on": dict(evidence.ended_on),
        "deleted_by": {i: list(requests) for i, requests in evidence.deleted_by},
        "never_built": list(evidence.never_built),
        "computes": dict(evidence.computes),
        "holding": _holding(evidence.holding),
        "elsewhere": [_holding(holding) for holding in evidence.elsewhere],
        **_swaps(evidence.swapping),
        "protocol": _protocol(evidence.protocol),
        "backend": _backend(evidence.backend),
        "verdict": diagnosis.verdict.value,
        "rule": diagnosis.rule,
        "use_case": diagnosis.use_case.value if diagnosis.use_case else None,
        "reason": diagnosis.reason,
        "facts": list(facts_of(diagnosis.rule)),
        "parties": [_party(party) for party in parties(s)] if s else [],
        "plan": [_step(step) for step in steps],
        "guards": _guards(judged) if judged else None,
        **_instead(judged.instead if judged else ()),
        **_off(s),
        **_learned(s),
    }


def _learned(s: Situation | None) -> dict[str, Any]:
    """Return the client that was learned for the attachment, and what else it has open."""
    if s is None or s.learned is None:
        return {}
    learned = {
        "client": s.learned.client,
        "address": s.learned.address,
        "seen_at": s.learned.seen_at.isoformat(timespec="seconds"),
        "there": s.learned_there,
    }
    return {"learned": learned, **_reach(s.reach)}


def _reach(answer: ReachEvidence | None) -> dict[str, Any]:
    match answer:
        case Fact(reach):
            lists = {"others": list(reach.others), "unseen": list(reach.unseen)}
            return {"reach": dataclasses.asdict(reach) | lists}
        case Unknown(reason):
            return {"reach": {"unknown": reason}}
        case None:
            return {}
        case _:
            assert_never(answer)


def _off(s: Situation | None) -> dict[str, Any]:
    """Return which hosts persons say are powered off, and whether that counted; else nothing."""
    if s is None or not s.off:
        return {}
    counted, against = off.counts(s), dict(off.contradicted(s))
    return {
        "off": [
            {
                "host": word.host,
                "said_by": word.said_by,
                "said_at": word.said_at.isoformat(timespec="seconds"),
                "until": word.until.isoformat(timespec="seconds"),
                "reason": word.reason,
                "counts": word.host in counted,
                "against": against.get(word.host),
            }
            for word in s.off
        ]
    }


def _instead(plans: tuple[Instead, ...]) -> dict[str, Any]:
    """Return what a person may order instead, by its name; nothing where there is no such."""
    told = {
        one.action.value: {
            "plan": [_step(step) for step in one.steps],
            "guards": _guards(one.judged),
        }
        for one in plans
    }
    return {"instead": told} if told else {}


def _party(party: Accounted) -> dict[str, Any]:
    """Return who it is and which record explains it, if one does."""
    shown = {"who": party.words}
    if party.by is None:
        return shown
    of = {} if party.of is None or party.of in party.words else {"of": party.of}
    return shown | {"by": party.by.value} | of


def _step(step: Step) -> dict[str, Any]:
    connector = step.attachment.connector
    # The names of its keys alone: an initiator's name is no secret, but it serves nobody here.
    keys = list(connector.to_mapping()) if connector else []
    return {"step": step.kind.value} | step.target() | {"connector": keys}


def _guards(judged: Judged) -> dict[str, Any]:
    """Return the guards that hold, with how many seconds each will; all others do not hold."""
    held = {held.guard.name: held.wait_seconds for held in judged.objections}
    # ``asked`` tells a later version how many guards there were, so that it invents no answers.
    return {"fingerprint": judged.fingerprint, "asked": len(Guard), "held": held}


def grounds(look: Mapping[str, Any]) -> Grounds | None:
    """Return why a write was meant, of a look that ``summarise`` made; None where it says none."""
    if "rule" not in look:
        return None
    use_case = look.get("use_case")
    return Grounds(look["verdict"], look["rule"], UseCase(use_case) if use_case else None)


def _volume(answer: VolumeEvidence) -> dict[str, Any]:
    match answer:
        case Fact(volume):
            return _volume_facts(volume)
        case Absent(control):
            return {"absent": control}
        case Unknown(reason):
            return {"unknown": reason}
        case _:
            assert_never(answer)


def _volume_facts(volume: Volume) -> dict[str, Any]:
    return {
        "status": volume.status,
        "migration_status": volume.migration_status,
        "backend": volume.ref.backend,
        "service_up": volume.service_up,
        "attachments": [dataclasses.asdict(attachment) for attachment in volume.attachments],
    }


def _server(answer: ServerEvidence) -> dict[str, Any]:
    match answer:
        case Fact(server):
            return _server_facts(server)
        case Absent(control):
            return {"absent": control}
        case Unknown(reason):
            return {"unknown": reason}
        case _:
            assert_never(answer)


def _server_facts(server: Server) -> dict[str, Any]:
    facts = dataclasses.asdict(server)
    facts["block_devices"] = [dataclasses.asdict(device) for device in server.block_devices]
    return facts


def _holding(holding: Holding | None) -> dict[str, Any] | None:
    if holding is None:
        return None
    shown = {"host": holding.host, "compute_up": holding.compute_up}
    match holding.holders:
        case Fact(holders):
            return shown | {"holders": list(holders)}
        case Unknown(reason):
            return shown | {"unknown": reason}
        case None:
            return shown
        case _:
            assert_never(holding.holders)


def _swaps(answer: SwapEvidence | None) -> dict[str, Any]:
    match answer:
        case Fact(swap):
            failed = {"swap_failed": True} if swap is Swap.FAILED else {}
            return {"swapping": swap is Swap.UNDER_WAY} | failed
        case Unknown(reason):
            return {"swapping": {"unknown": reason}}
        case None:
            return {"swapping": None}
        case _:
            assert_never(answer)


def _protocol(answer: ProtocolEvidence | None) -> dict[str, Any] | str | None:
    match answer:
        case Fact(value):
            return value
        case Unknown(reason):
            return {"unknown": reason}
        case None:
            return None
        case _:
            assert_never(answer)


def _backend(answer: BackendEvidence) -> dict[str, Any]:
    match answer:
        case Fact(observation):
            connections = [_connection(c) for c in observation.connections]
            return {"connections": connections, "control": observation.control}
        case Absent(control):
            return {"connections": [], "control": control}
        case Unknown(reason):
            return {"unknown": reason}
        case Blind(driver):
            return {"blind": driver}
        case _:
            assert_never(answer)


def _connection(connection: Connection) -> dict[str, Any]:
    return connection.to_mapping()
