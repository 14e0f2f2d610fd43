"""The driver: eyes and hands on one shelf."""

from __future__ import annotations

import logging
import time
from typing import Any

from oslo_config import cfg

from detachd_shelf.client import Deadline, ask
from drivers.base import (
    Attachment,
    Capabilities,
    Connection,
    Export,
    Observation,
    StorageDriver,
    VolumeRef,
    id_in,
)
from drivers.errors import IndeterminateError, NotFoundError, PermanentError, TransientError

LOG = logging.getLogger(__name__)
POLL_SECONDS = 0.01


class ShelfDriver(StorageDriver):
    """Sees and acts on a shelf through its daemon's control socket."""

    capabilities = Capabilities(
        sees_connections=True,
        sees_hosts=True,
        sees_sessions=True,
        lists_exports=True,
        revokes_access=True,
        ends_sessions=True,
    )
    opts = (
        cfg.StrOpt("socket", required=True, help="The path of the daemon's control socket."),
        cfg.StrOpt("password", secret=True, help="What the daemon asks its administrators for."),
        cfg.StrOpt(
            "volume_name_template",
            default="volume-%s",
            help="Cinder's volume_name_template as this backend has it.",
        ),
    )

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Return access and sessions; that the daemon knows the volume is the control."""
        name, shown = self._find(volume, Deadline(timeout_seconds))
        return Observation(_connections(shown), f"{self.options['socket']} answered and has {name}")

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        """List every volume that a host has access to or a session with."""
        listed = self._ask(Deadline(timeout_seconds), "list")["volumes"]
        template = self.options["volume_name_template"]
        exports = (
            Export(n, id_in(n, template), _connections(shown)) for n, shown in listed.items()
        )
        return tuple(export for export in exports if export.connections)

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Revoke first, or the host would be back at once; then end its sessions; then look."""
        if attachment.connector is None or not attachment.connector.names():
            raise PermanentError("refused: no connector says which host to release")
        deadline = Deadline(timeout_seconds)
        name, _ = self._find(volume, deadline)
        for initiator in sorted(attachment.connector.names()):
            LOG.info("%s: %s loses %s", request_id, initiator, name)
        try:
            self._release(name, attachment.connector.names(), deadline)
        except (TransientError, PermanentError) as error:
            # Both say that nothing was done, which nobody can say once the first request is out.
            raise IndeterminateError(f"released in part, then: {error}") from error

    def _release(self, name: str, initiators: frozenset[str], deadline: Deadline) -> None:
        for initiator in sorted(initiators):
            self._ask(deadline, "revoke", volume=name, initiator=initiator)
            self._ask(deadline, "kick", volume=name, initiator=initiator)
        while any(c.name in initiators for c in self._seen(name, deadline)):
            if deadline.over():
                raise IndeterminateError(f"a session of {name} did not end in time")
            time.sleep(POLL_SECONDS)

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Nothing is left once the connection is gone: a shelf makes nothing for an attachment."""

    def _find(self, volume: VolumeRef, deadline: Deadline) -> tuple[str, dict[str, Any]]:
        """Return the name by which the daemon has the volume, and what it shows of it."""
        names = volume.names(self.options["volume_name_template"])
        for name in names:
            try:
                return name, self._ask(deadline, "show", volume=name)
            except NotFoundError:
                continue
        raise NotFoundError(f"{self.options['socket']} has no volume {' or '.join(names)}")

    def _seen(self, name: str, deadline: Deadline) -> tuple[Connection, ...]:
        return _connections(self._ask(deadline, "show", volume=name))

    def _ask(self, deadline: Deadline, op: str, **about: str) -> dict[str, Any]:
        request = {"op": op, "password": self.options["password"], **about}
        return ask(self.options["socket"], request, deadline, acts=op in ("revoke", "kick"))


def _connections(shown: dict[str, Any]) -> tuple[Connection, ...]:
    """Return a connection for each host that has access, a session, or both."""
    names = sorted({*shown["allowed"], *shown["sessions"]})
    return tuple(
        Connection(name, access=name in shown["allowed"], sessions=shown["sessions"].get(name, 0))
        for name in names
    )
