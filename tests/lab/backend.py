"""What the lab's backend really does, asked of tgtd by hand."""

from __future__ import annotations

import dataclasses
import re

from tests.services.tgtd import Tgtd

VOLUME = re.compile(r"^Target (\d+): iqn\.2010-10\.org\.openstack:volume-(\S+)$", re.MULTILINE)
NEXUS = re.compile(r"^ {8}I_T nexus: \d+\n {12}Initiator: (\S+)", re.MULTILINE)
ACCESS = re.compile(r"^ {4}ACL information:\n((?: {8}[^\n]*\n)*)", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """One volume's target: who is let in, who holds a session, by initiator name."""

    number: int
    let_in: frozenset[str]
    sessions: tuple[str, ...]


def exports(tgtd: Tgtd) -> dict[str, Export]:
    """Return every volume that has a target, by its id.

    All of it is one answer of tgtd's: between two a target may go.
    """
    told = tgtd.adm("target", "show")
    return {found[2]: _export(int(found[1]), _part(told, found)) for found in VOLUME.finditer(told)}


def export(tgtd: Tgtd, volume_id: str) -> Export | None:
    """Return one volume's target, None where it has none."""
    return exports(tgtd).get(volume_id)


def _part(told: str, found: re.Match[str]) -> str:
    return told[found.end() :].split("\nTarget ", 1)[0] + "\n"


def _export(number: int, part: str) -> Export:
    access = ACCESS.search(part)
    entries = access[1].splitlines() if access else []
    return Export(number, frozenset(line.strip() for line in entries), tuple(NEXUS.findall(part)))
