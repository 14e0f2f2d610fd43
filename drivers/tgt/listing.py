"""What ``tgtadm`` shows, read strictly, and what that proves for one volume. Pure.

The form is that of tgt 1.0.85 (usr/target.c ``tgt_target_show_all``, usr/iscsi/target.c
``iscsi_target_show_connections``).

1. A text that is not exactly of this form is an UnreadableError: an overlooked line could be the
   one session that is left.
2. A text that was cut after a whole target, or in the last access list, cannot be recognised here.
   ``drivers/tgt/tgtadm.py`` excludes it: it has seen the command end well.
3. No target proves that the volume is not exported only where the control target is listed.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator

from drivers.base import Connection, Export, Observation, VolumeRef, id_in
from drivers.errors import NotFoundError, PermanentError
from drivers.tgt.options import ISCSI_NAME, TgtOptions

CONTROLLER = "controller"
SHOWN_CHARACTERS = 80

# One pattern for a whole target: a line that it does not know makes it unreadable, and is not
# skipped.
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
    """One target. ``rules`` is its access list: initiator names and addresses, in one list."""

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
    # Both are unique in a tgtd: a text that repeats one is not one listing.
    if min(len({t.tid for t in targets}), len({t.name for t in targets})) < len(targets):
        raise UnreadableError("tgtadm showed two targets of one number or one name.")
    return targets


def read_connections(text: str) -> tuple[OpenConnection, ...]:
    """Read ``--mode conn --op show --tid N``; no text is no connection. Raises UnreadableError."""
    return tuple(OpenConnection(int(m[1]), int(m[2]), m[3]) for m in _matches(CONNECTION, text))


def _target(match: re.Match[str]) -> Target:
    tid, name, nexuses, units, rules = match.groups()
    luns = (m.groups() for m in _matches(LUN, units))
    return Target(
        tid=int(tid),
        name=name,
        nexuses=tuple(Nexus(int(m[1]), m[2], m[3]) for m in _matches(NEXUS, nexuses)),
        disks=tuple(Disk(int(lun), path) for lun, kind, path in luns if kind != CONTROLLER),
        # Not stripped: a name may end with a blank, and it would be another one.
        rules=tuple(rule[8:] for rule in rules.split("\n")[:-1]),
    )


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Match again and again from where the last match ended, to the very end of the text."""
    place = 0
    while place < len(text):
        # ``match`` and not ``search``, which would pass over what it does not know.
        match = pattern.match(text, place)
        if match is None:
            shown = text[place : place + SHOWN_CHARACTERS]
            raise UnreadableError(f"tgtadm showed what this driver cannot read, from {shown!r} on.")
        yield match
        place = match.end()


class ElsewhereError(PermanentError):
    """The volume is behind a target whose name it should not have."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sighting:
    """The volume's targets in one listing, none where it is not exported, and the control."""

    targets: tuple[Target, ...]
    control: str

    def observation(self) -> Observation:
        """Return it as the contract has it: the connections of all the targets."""
        connections = (c for target in self.targets for c in connections_of(target))
        return Observation(tuple(connections), self.control)


def sight(volume: VolumeRef, listed: tuple[Target, ...], options: TgtOptions) -> Sighting:
    """Find the volume's targets under every name that it may have.

    No target at all is an answer only where the control target is listed and no other target so
    much as mentions the volume; else NotFoundError. ElsewhereError where one beside its own does.
    """
    names = {*volume.names(options.target_template), *_located(volume.provider_location)}
    own = tuple(t for t in listed if t.name in names)
    # Under another name the volume may be exported too, and that export would be overlooked.
    mentions = [t for t in listed if t.name not in names and _mentions(t, volume)]
    # Also where its own target is there: the other one is a second way to the same disk.
    if mentions:
        raise ElsewhereError(
            f"Volume {volume.volume_id} is behind target {mentions[0].name} at {options.place}, "
            f"but its target should be called {' or '.join(sorted(names))}: the option "
            "target_template is wrong, or the volume is exported by hand."
        )
    if own:
        have = ", ".join(t.name for t in own)
        return Sighting(own, f"tgtd at {options.place} answered and has target {have}")
    return Sighting((), _control(volume, names, listed, options))


def connections_of(target: Target) -> tuple[Connection, ...]:
    """Return the hosts that have access to a target or a session with it.

    A rule that is no initiator's name (ALL, an address, a network) gives access to every host that
    comes from there. It is returned as a connection of its own, which no record explains; and while
    it is there, every initiator in session counts as having access.
    """
    rules = open_rules(target)
    by_name = [r for r in target.rules if r not in rules]
    # In the order of the listing, each once.
    initiators = dict.fromkeys([*by_name, *(n.initiator for n in target.nexuses)])
    hosts = tuple(
        _connection(target, initiator, access=initiator in by_name or bool(rules))
        for initiator in initiators
    )
    return hosts + tuple(Connection(name=in_words(rule), address=rule) for rule in rules)


def open_rules(target: Target) -> tuple[str, ...]:
    """Return the rules that are no initiator's name; tgtd lists them all in one."""
    return tuple(rule for rule in target.rules if not ISCSI_NAME.fullmatch(rule))


def in_words(rule: str) -> str:
    """Return a rule in words, also one with an empty name."""
    return f"any host by the rule {rule or '(an empty name)'}"


def exports_of(listed: Iterable[Target], options: TgtOptions) -> tuple[Export, ...]:
    """Return the targets that some host has access to or a session with."""
    return tuple(
        Export(target.name, id_in(target.name, options.target_template), connections)
        for target in listed
        if (connections := connections_of(target))
    )


def _connection(target: Target, initiator: str, *, access: bool) -> Connection:
    nexuses = [n for n in target.nexuses if n.initiator == initiator]
    return Connection(
        name=initiator,
        # Of several sessions the first: it is shown to a person, and decides nothing.
        address=nexuses[0].address if nexuses else None,
        access=access,
        sessions=len(nexuses),
    )


def _located(provider_location: str | None) -> list[str]:
    """Return the target's name in Cinder's ``PORTAL,TAG IQN LUN`` (cinder/volume/targets)."""
    return [word for word in (provider_location or "").split() if ISCSI_NAME.fullmatch(word)]


def _mentions(target: Target, volume: VolumeRef) -> bool:
    return any(
        # The path of a disk tells it where the name does not: LVM's has the volume's id.
        volume_id in target.name or any(volume_id in disk.path for disk in target.disks)
        for volume_id in volume.ids()
    )


def _control(
    volume: VolumeRef, names: set[str], listed: tuple[Target, ...], options: TgtOptions
) -> str:
    looked = f"tgtd at {options.place} has no target {' or '.join(sorted(names))}"
    if options.control_target is None:
        raise NotFoundError(
            f"Volume {volume.volume_id} was not found: {looked}. Either it is not exported, or the "
            "wrong tgtd was asked. To distinguish them detachd needs the option control_target, "
            "which is not set."
        )
    # The wrong daemon, and one that lost its targets in a restart, look the same from here.
    if options.control_target not in {t.name for t in listed}:
        raise NotFoundError(
            f"Volume {volume.volume_id} was not found: {looked}, nor the control target "
            f"{options.control_target}: the wrong tgtd was asked, or it has lost its targets."
        )
    return f"{looked}; it answered and has the control target {options.control_target}"
