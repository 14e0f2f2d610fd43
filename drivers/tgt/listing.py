"""What ``tgtadm`` shows, read strictly. Pure.

The form is that of tgt 1.0.85 (usr/target.c ``tgt_target_show_all``, usr/iscsi/target.c
``iscsi_target_show_connections``). Whatever is not exactly of it is an UnreadableError, because a
line that was overlooked could be the one session that is still there. No grammar can tell that a
text ends too early where it ends after a whole target, or after a whole line of the last access
list; that it does not is for ``drivers/tgt/tgtadm.py``, which has seen the command end well.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from drivers.errors import PermanentError

CONTROLLER = "controller"
SHOWN_CHARACTERS = 80

TARGET = re.compile(
    r"Target (\d+): (.+)\n"
    r" {4}System information:\n"
    r" {8}Driver: .+\n"
    r" {8}State: .+\n"
    r"(?: {8}\S.*\n)*"
    r" {4}I_T nexus information:\n"
    r"((?: {8}.*\n)*)"
    r" {4}LUN information:\n"
    r"((?: {8}.*\n)*)"
    r"(?: {4}Account information:\n(?: {8}.*\n)*)?"
    r" {4}ACL information:\n"
    r"((?: {8}.*\n)*)"
)
NEXUS = re.compile(
    r" {8}I_T nexus: (\d+)\n"
    r" {12}Initiator: (\S+) alias: .*\n"
    r" {12}Connection: \d+\n"
    r" {16}(?:RDMA )?IP Address: (.*)\n"
)
LUN = re.compile(
    r" {8}LUN: (\d+)\n"
    r" {12}Type: (.+)\n"
    r"(?: {12}(?!Backing store path)[A-Z].*\n)+"
    r" {12}Backing store path: (.+)\n"
    r" {12}Backing store flags: .*\n"
)
CONNECTION = re.compile(
    r"Session: (\d+)\n"
    r" {4}Connection: (\d+)\n"
    r" {8}Initiator: (\S+)\n"
    r" {8}(?:RDMA )?IP Address: .*\n"
)


class UnreadableError(PermanentError):
    """``tgtadm`` showed something of a form that this driver does not know."""


@dataclasses.dataclass(frozen=True, slots=True)
class Nexus:
    """One session: its number, which lasts as long as the daemon, and who holds it.

    ``address`` is that of the session's first connection.
    """

    session: int
    initiator: str
    address: str


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """A logical unit behind a target that is not the target's own controller."""

    lun: int
    path: str


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """One target. ``rules`` is its access list: initiator names and addresses, not told apart."""

    tid: int
    name: str
    nexuses: tuple[Nexus, ...]
    disks: tuple[Disk, ...]
    rules: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class OpenConnection:
    """One TCP connection of a session, by the two numbers that it is ended by."""

    session: int
    connection: int
    initiator: str


def read_targets(text: str) -> tuple[Target, ...]:
    """Read ``--mode target --op show``; no text is no target. Raises UnreadableError."""
    targets = tuple(_target(match) for match in _matches(TARGET, text))
    if min(len({t.tid for t in targets}), len({t.name for t in targets})) < len(targets):
        raise UnreadableError("tgtadm showed two targets of one number or one name.")
    return targets


def read_connections(text: str) -> tuple[OpenConnection, ...]:
    """Read ``--mode conn --op show --tid N``; no text is nobody. Raises UnreadableError."""
    return tuple(OpenConnection(int(m[1]), int(m[2]), m[3]) for m in _matches(CONNECTION, text))


def _target(match: re.Match[str]) -> Target:
    tid, name, nexuses, units, rules = match.groups()
    luns = (m.groups() for m in _matches(LUN, units))
    return Target(
        tid=int(tid),
        name=name,
        nexuses=tuple(Nexus(int(m[1]), m[2], m[3]) for m in _matches(NEXUS, nexuses)),
        disks=tuple(Disk(int(lun), path) for lun, kind, path in luns if kind != CONTROLLER),
        rules=tuple(rule[8:] for rule in rules.split("\n")[:-1]),
    )


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Match again and again from where the last match ended, to the very end of the text."""
    place = 0
    while place < len(text):
        match = pattern.match(text, place)
        if match is None:
            shown = text[place : place + SHOWN_CHARACTERS]
            raise UnreadableError(f"tgtadm showed what this driver cannot read, from {shown!r} on.")
        yield match
        place = match.end()
