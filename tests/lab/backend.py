"""What the lab's backend really does, asked of tgtd by hand."""

from __future__ import annotations

import dataclasses
import re

from tests.services.tgtd import Tgtd

VOLUME = re.compile(r"^Target (\d+): iqn\.2010-10\.org\.openstack:volume-(\S+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True, slots=True)
class Export:
    """One volume's target: who is let in, who holds a session, by initiator name."""

    number: int
    let_in: frozenset[str]
    sessions: tuple[str, ...]


def exports(tgtd: Tgtd) -> dict[str, Export]:
    """Return every volume that has a target, by its id."""
    return {
        volume_id: _export(tgtd, int(number))
        for number, volume_id in VOLUME.findall(tgtd.adm("target", "show"))
    }


def export(tgtd: Tgtd, volume_id: str) -> Export | None:
    """Return one volume's target, None where it has none."""
    for number, name in VOLUME.findall(tgtd.adm("target", "show")):
        if name == volume_id:
            return _export(tgtd, int(number))
    return None


def _export(tgtd: Tgtd, number: int) -> Export:
    let_in = frozenset(tgtd.access_list(number))
    return Export(number, let_in, tuple(tgtd.sessions(number)))
