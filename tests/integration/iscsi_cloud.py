"""A simulated cloud whose one backend is real: its exports are targets of a private tgtd.

Cinder's and Nova's part stays simulated. What Cinder's driver is asked to do is done with tgtadm,
and who is let in or in session is what tgtd says, so that the cloud's judge of hazards goes by it.
"""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import Any

from drivers.base import Connector
from drivers.simulator import DEFAULT_BACKEND, Cloud
from drivers.simulator.backend import Backend
from drivers.simulator.state import ExportRecord, Link
from tests.iscsi import TEMPLATE, Iscsi
from tests.services.service import ServiceFailedError
from tests.services.tgtd import Tgtd

PREFIX = "iqn.2010-10.org.openstack:"


class Exports(dict[str, ExportRecord]):
    """The backend's records, each brought up to date by tgtd whenever it is read."""

    def __init__(self, tgtd: Tgtd) -> None:
        super().__init__()
        self._tgtd = tgtd

    def __getitem__(self, name: str) -> ExportRecord:
        return self._current(super().__getitem__(name))

    def get(self, name: str, default: Any = None) -> Any:
        """Return the record as it is now."""
        record = super().get(name)
        return default if record is None else self._current(record)

    def _current(self, record: ExportRecord) -> ExportRecord:
        tid = self._tgtd.tid(TEMPLATE % record.name)
        record.target = tid is not None
        entries = self._tgtd.access_list(tid) if tid is not None else []
        sessions = self._tgtd.sessions(tid) if tid is not None else []
        for name in dict.fromkeys([*entries, *sessions]):
            host = name.removeprefix(PREFIX)
            link = record.links.setdefault(name, Link(name, host))
            link.access, link.sessions = name in entries, sessions.count(name)
        for name in set(record.links) - {*entries, *sessions}:
            del record.links[name]
        return record


@dataclasses.dataclass(slots=True)
class TargetBackend(Backend):
    """What Cinder's driver does on such a backend: a target a volume, an entry a host.

    ``disks`` are those of volumes that are not to be on a file of their own.
    """

    iscsi: Iscsi = dataclasses.field(kw_only=True)
    disks: dict[str, Path] = dataclasses.field(default_factory=dict)

    def initialize(self, name: str, link: Link) -> None:
        """Make the target if there is none, and let the host in."""
        self._let_in(name, link.name)
        self.note(name, link, True)
        self._remember(self.exports[name].links[link.name], link)

    def revoke(self, names: Any, connector: Connector) -> None:
        """Take the host from the access list; its sessions go on, as with Cinder's own driver."""
        record = self.export(tuple(names))
        tid = self.iscsi.tgtd.tid(TEMPLATE % record.name)
        for link in [k for k in record.links.values() if k.seen().belongs_to(connector)]:
            if tid is not None and link.access:
                rule = ("--tid", str(tid), "--initiator-name", link.name)
                self.iscsi.tgtd.adm("target", "unbind", *rule)
                self.note(record.name, link, False)

    def remove_export(self, name: str) -> None:
        """Drop the target with everybody's access and sessions."""
        for link in self.exports[name].links.values():
            if link.access:
                self.note(name, link, False)
        if (tid := self.iscsi.tgtd.tid(TEMPLATE % name)) is not None:
            self.iscsi.tgtd.remove_target(tid)

    def _let_in(self, name: str, initiator: str) -> None:
        tgtd, target = self.iscsi.tgtd, TEMPLATE % name
        if (tid := tgtd.tid(target)) is None:
            disk = self.disks.setdefault(name, self.iscsi.image())
            tid = tgtd.add_target(target, disk)
        with suppress(ServiceFailedError):  # it may be let in already
            tgtd.let_in(tid, initiator)

    @staticmethod
    def _remember(mine: Link, link: Link) -> None:
        mine.host, mine.address, mine.granted = link.host, link.address, link.granted
        mine.purpose = link.purpose
        mine.instance_id = link.instance_id or mine.instance_id


def put_on_targets(cloud: Cloud, iscsi: Iscsi) -> TargetBackend:
    """Replace the cloud's one backend, which must be empty, by a real one."""
    simulated = cloud._estate.backends[DEFAULT_BACKEND]
    exports = Exports(iscsi.tgtd)
    real = TargetBackend(simulated.name, simulated.exporting, simulated.note, exports, iscsi=iscsi)
    cloud._estate.backends[DEFAULT_BACKEND] = real
    return real
