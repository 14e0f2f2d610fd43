"""Evidence as history, the command line and a person get it: plain JSON values, no secret."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, assert_never

from drivers.base import Connection
from drivers.control_plane import Server, Volume
from handlers.case import Grounds, UseCase
from handlers.judgement.evidence import (
    Absent,
    BackendEvidence,
    Blind,
    Evidence,
    Fact,
    Holding,
    ServerEvidence,
    SwapEvidence,
    Unknown,
    VolumeEvidence,
)
from handlers.judgement.plan import Step
from handlers.judgement.rule import Diagnosis


def summarise(
    evidence: Evidence, diagnosis: Diagnosis, steps: tuple[Step, ...] = ()
) -> dict[str, Any]:
    """Return one look, its diagnosis and the plan that followed from it."""
    return {
        "cinder": _volume(evidence.volume),
        "nova": {instance_id: _server(answer) for instance_id, answer in evidence.servers},
        "ended_on": dict(evidence.ended_on),
        "deleted_by": {i: list(requests) for i, requests in evidence.deleted_by},
        "never_built": list(evidence.never_built),
        "computes": dict(evidence.computes),
        "holding": _holding(evidence.holding),
        "elsewhere": [_holding(holding) for holding in evidence.elsewhere],
        "swapping": _swapping(evidence.swapping),
        "backend": _backend(evidence.backend),
        "verdict": diagnosis.verdict.value,
        "rule": diagnosis.rule,
        "use_case": diagnosis.use_case.value if diagnosis.use_case else None,
        "reason": diagnosis.reason,
        "plan": [{"step": step.kind.value} | step.target() for step in steps],
    }


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


def _swapping(answer: SwapEvidence | None) -> dict[str, Any] | bool | None:
    match answer:
        case Fact(swapping):
            return swapping
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
    return dataclasses.asdict(connection)
