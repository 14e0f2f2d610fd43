"""A simulated storage backend: who may reach which volume, and who does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from drivers.base import Connector, Export, Observation
from drivers.errors import NotFoundError
from drivers.simulator.state import Exporting, ExportRecord, Link

Note = Callable[[str, Link, bool], None]


@dataclasses.dataclass(slots=True)
class Backend:
    """One ``host@backend``; its volumes go by the backend's own names.

    ``note(volume, link, granted)`` is called for each access that is given or revoked.
    """

    name: str
    exporting: Exporting
    note: Note
    exports: dict[str, ExportRecord] = dataclasses.field(default_factory=dict)

    def export(self, names: tuple[str, ...]) -> ExportRecord:
        """Return the record under the first name that is known, else NotFoundError."""
        for name in names:
            if name in self.exports:
                return self.exports[name]
        raise NotFoundError(f"Backend {self.name} knows no volume {' or '.join(names)}.")

    def observe(self, names: Iterable[str]) -> Observation:
        """Say who has access or a session, with the volume having been found as the control."""
        record = self.export(tuple(names))
        return Observation(
            connections=tuple(link.seen() for link in record.links.values()),
            control=f"simulated backend {self.name} answered and holds volume {record.name}",
        )

    def initialize(self, name: str, link: Link) -> None:
        """Give a host access; the same host again keeps its sessions, as a real driver does."""
        record = self.export((name,))
        record.target = True
        if (present := record.links.get(link.name)) is None:
            record.links[link.name] = link
            self.note(name, link, True)
        else:
            present.instance_id = link.instance_id or present.instance_id
            self._give_access_again(record, present, link.granted)

    def terminate(self, name: str, connector: Connector) -> None:
        """Do what a Cinder driver's ``terminate_connection`` does; absent is success."""
        # Drivers such as LVM's and RBD's do nothing here, and report success.
        if self.exporting is Exporting.PER_HOST:
            self.revoke((name,), connector)

    def revoke(self, names: Iterable[str], connector: Connector) -> None:
        """Take access from the connector's host, then end its sessions."""
        record = self.export(tuple(names))
        for link in [k for k in record.links.values() if k.seen().belongs_to(connector)]:
            self._drop(record, link)

    def remove_export(self, name: str) -> None:
        """Drop the volume's target and with it every host's access."""
        record = self.export((name,))
        for link in list(record.links.values()):
            self._drop(record, link)
        record.target = False

    def retire(self, names: Iterable[str]) -> None:
        """Drop the target if no host has access or a session any more."""
        record = self.export(tuple(names))
        if not record.links:
            record.target = False

    def listing(self) -> tuple[Export, ...]:
        """Return what is exported to a host; the backend's names are Cinder's ids as they are."""
        return tuple(
            Export(name, name, tuple(link.seen() for link in record.links.values()))
            for name, record in self.exports.items()
            if record.links
        )

    def shared(self, name: str, *, other_attachments: bool) -> bool:
        """Tell whether a host still needs the export, which keeps Cinder from removing it.

        LVM's driver goes by Cinder's other rows, a driver with mappings of hosts by its mappings.
        """
        if self.exporting is Exporting.WHOLE_VOLUME:
            return other_attachments
        return any(link.access for link in self.export((name,)).links.values())

    def _give_access_again(self, record: ExportRecord, link: Link, granted: int) -> None:
        if not link.access:
            link.access, link.granted = True, granted
            self.note(record.name, link, True)

    def _drop(self, record: ExportRecord, link: Link) -> None:
        if link.access:
            self.note(record.name, link, False)
        link.access = False
        # A session with hanging I/O stays listed when its access is gone, as in tgtd.
        if not link.stuck:
            link.sessions = 0
            del record.links[link.name]
