"""What Cinder, Nova and the backend said in a look, in words. Pure.

Of a look as ``summary`` keeps it. The four answers read differently in every text; a secret is not
among them, as none is in a look.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any

NOT_LOOKED = "not looked at"
NO_LOOK = "no look is on record"


class AnswerKind(enum.Enum):
    """The four answers of a source; and that it was not asked, which is none of them."""

    FACT = "fact"
    ABSENT = "absent"
    UNKNOWN = "unknown"
    BLIND = "blind"
    NOT_ASKED = "not asked"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a source, in words."""

    kind: AnswerKind
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """What one of the three said. ``asked_at``: when it was asked first, ISO 8601, if recorded."""

    name: str
    asked_at: str | None
    answers: tuple[Answer, ...]


def of(look: Mapping[str, Any]) -> tuple[Side, ...]:
    """Return Cinder, Nova and the backend, in this order."""
    asked = look.get("asked_at") or {}
    return (
        Side("Cinder", asked.get("cinder"), (*_cinder(look.get("cinder") or {}), *_protocol(look))),
        Side("Nova", asked.get("nova"), tuple(_nova(look)) or (_not_asked("no server is known"),)),
        Side("backend", asked.get("backend"), (*_backend(look), *_learned(look))),
    )


def _not_asked(why: str) -> Answer:
    return Answer(AnswerKind.NOT_ASKED, f"not asked: {why}")


def _absent(what: str, control: str) -> Answer:
    return Answer(AnswerKind.ABSENT, f"{what}, proven: {control}")


def _unknown(reason: str, what: str = "") -> Answer:
    if reason == NOT_LOOKED:
        return _not_asked("an answer before it was missing")
    return Answer(AnswerKind.UNKNOWN, f"{what}UNKNOWN: {reason}")


def _cinder(volume: Mapping[str, Any]) -> Iterator[Answer]:
    match volume:
        # An empty mapping would match every pattern below that asks for no key.
        case _ if not volume:
            yield _not_asked(NO_LOOK)
        case {"unknown": reason}:
            yield _unknown(reason)
        case {"absent": control}:
            yield _absent("no such volume", control)
        case _:
            yield Answer(AnswerKind.FACT, _status(volume))
            rows = volume.get("attachments")
            for row in rows or ():
                yield Answer(AnswerKind.FACT, _row(row))
            # None where an older version kept no list: then it is not known that there is none.
            if rows == []:
                yield Answer(AnswerKind.FACT, "no attachment")


def _protocol(look: Mapping[str, Any]) -> Iterator[Answer]:
    match look.get("protocol"):
        case None:
            return
        case {"unknown": reason}:
            yield _unknown(reason, "the backend's protocol: ")
        case protocol:
            yield Answer(AnswerKind.FACT, f"the pools of the backend have the protocol {protocol}")


def _status(volume: Mapping[str, Any]) -> str:
    up = volume.get("service_up")
    service = "not told" if up is None else "up" if up else "NOT up"
    moving = volume.get("migration_status")
    more = f", migration {moving}" if moving and moving != "none" else ""
    return f"{volume['status']}{more}; cinder-volume of {volume.get('backend')} is {service}"


def _row(row: Mapping[str, Any]) -> str:
    owner = f"of server {row['instance_id']}" if row.get("instance_id") else "of no server"
    host = f" on {row['host']}" if row.get("host") else ""
    return f"attachment {row['attachment_id']} {row['status']} {owner}{host}"


def _nova(look: Mapping[str, Any]) -> Iterator[Answer]:
    ended = look.get("ended_on") or {}
    for instance_id, server in (look.get("nova") or {}).items():
        yield _server(instance_id, server, ended.get(instance_id))
    for host, up in (look.get("computes") or {}).items():
        yield Answer(AnswerKind.FACT, f"nova-compute of {host} is {_up(up)}")
    for asked in (look.get("holding"), *(look.get("elsewhere") or ())):
        if asked is not None:
            yield _holding(asked)
    for word in look.get("off") or ():
        yield _off(word)
    swapping = look.get("swapping")
    if swapping is True:
        yield Answer(AnswerKind.FACT, "a volume of the server is being swapped")
    elif look.get("swap_failed"):
        yield Answer(
            AnswerKind.FACT, "its last swap of a volume failed, and no detach was asked for since"
        )
    elif isinstance(swapping, Mapping):
        yield _unknown(swapping["unknown"], "whether a volume is being swapped: ")


def _off(word: Mapping[str, Any]) -> Answer:
    """Return what a person says of a host: no answer of Nova's, and beside its answers."""
    said = f"{word['said_by']} says that {word['host']} is powered off, until {word['until']}"
    if word["counts"]:
        return Answer(AnswerKind.FACT, f"{said}; this counts")
    why = word.get("against") or "nothing rests on it in this look"
    return Answer(AnswerKind.FACT, f"{said}; this does NOT count: {why}")


def _server(instance_id: str, server: Mapping[str, Any], ended_on: str | None) -> Answer:
    match server:
        case {"unknown": reason}:
            return _unknown(reason, f"server {instance_id}: ")
        case {"absent": control}:
            answer = _absent(f"server {instance_id} does not exist", control)
            on = f"; its guest was ended on {ended_on}" if ended_on else ""
            return dataclasses.replace(answer, text=answer.text + on)
        case _:
            return Answer(AnswerKind.FACT, _server_facts(instance_id, server))


def _server_facts(instance_id: str, server: Mapping[str, Any]) -> str:
    host, up = server.get("host"), _up(server.get("compute_up"))
    where = f" on {host}, compute {up}" if host else ""
    task = f", task {server['task_state']} under way" if server.get("task_state") else ""
    ran = ", never ran" if server.get("launched") is False else ""
    facts = f"server {instance_id} {server.get('vm_state')}{where}{task}{ran}"
    devices = server.get("block_devices")
    if devices is None:
        return facts
    named = "; ".join(map(_device, devices)) or "no block device for the volume"
    return f"{facts}; {named}"


def _device(device: Mapping[str, Any]) -> str:
    row = device["attachment_id"]
    return f"block device names attachment {row}" if row else "block device names no attachment"


def _up(answer: object) -> str:
    """Return what Nova says of a compute service: None where it does not say."""
    return "not known to be up" if answer is None else "up" if answer else "DOWN"


def _holding(asked: Mapping[str, Any]) -> Answer:
    host, users = asked["host"], asked.get("holders")
    if "unknown" in asked:
        return _unknown(asked["unknown"], f"who uses it on {host}: ")
    if users is None:
        up = "is down" if asked["compute_up"] is False else "is no compute that Nova knows"
        return Answer(AnswerKind.FACT, f"{host} {up}")
    if not users:
        return _absent(f"no server uses the volume on {host}", "Nova listed the host in full")
    names = ", ".join(users)
    return Answer(AnswerKind.FACT, f"on {host} the volume may be used by server {names}")


def _backend(look: Mapping[str, Any]) -> Iterator[Answer]:
    backend: Mapping[str, Any] = look.get("backend") or {}
    match backend:
        case _ if not backend:
            yield _not_asked(NO_LOOK)
        case {"blind": driver}:
            yield Answer(AnswerKind.BLIND, f"CANNOT BE SEEN: {driver} has no sight of it")
        case {"unknown": reason}:
            yield _unknown(reason)
        # Absent is said with its control; only a record of an older version has none.
        case {"connections": [], "control": control}:
            yield _absent("no connection", control)
        case {"connections": connections}:
            for connection in connections:
                yield Answer(AnswerKind.FACT, _connection(connection))


def _learned(look: Mapping[str, Any]) -> Iterator[Answer]:
    """Yield which client was learned while all was well, and what else it has open."""
    if (learned := look.get("learned")) is None:
        return
    there = "has the volume now" if learned["there"] else "does NOT have it now"
    yield Answer(
        AnswerKind.FACT,
        f"{learned['client']} at {learned['address']} had the volume for this attachment while all "
        f"was well, last seen so at {learned['seen_at']}; it {there}",
    )
    match look.get("reach"):
        case {"unknown": reason}:
            yield _unknown(reason, "what else it has open: ")
        case {"others": others, "whole_host": whole_host}:
            yield Answer(AnswerKind.FACT, _reach(others, whole_host=whole_host))
            if unseen := look["reach"].get("unseen"):
                why = f"detachd's user may not look at {', '.join(unseen)}"
                yield _unknown(why, "what else it has open there: ")


def _reach(others: list[str], *, whole_host: bool) -> str:
    if whole_host:
        return "it is the one client of its whole host: all that is mapped there is behind it"
    return f"it has other volumes open: {', '.join(others)}" if others else "it has no other open"


def _connection(connection: Mapping[str, Any]) -> str:
    name, host = connection["name"], connection["host"]
    who = f"{host} ({name})" if host and host != name else name
    access = "has access" if connection["access"] else "has no access"
    return f"{who} {access}, {_sessions(connection['sessions'])}"


def _sessions(count: int | None) -> str:
    if count is None:
        return "sessions are not shown"
    return f"{count} live session{'s' if count != 1 else ''}" if count else "no live session"
