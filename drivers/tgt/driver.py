"""The storage driver for iSCSI targets of tgtd."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from drivers.base import Attachment, Capabilities, Export, Observation, StorageDriver, VolumeRef
from drivers.child import Deadline
from drivers.errors import PermanentError
from drivers.tgt.listing import Sighting, exports_of, read_targets, sight
from drivers.tgt.options import ISCSI_NAME, OPTS, TgtOptions
from drivers.tgt.release import Release
from drivers.tgt.tgtadm import Tgtadm

LOG = logging.getLogger(__name__)


class TgtDriver(StorageDriver):
    """Sees and ends the sessions of one tgtd, through ``tgtadm`` on the daemon's own machine.

    It runs where that tgtd runs: tgtadm reaches it by a Unix socket, and only for the daemon's own
    user and group. The time limit of a call is that of all the commands together that it runs.
    """

    opts = OPTS
    capabilities = Capabilities(
        sees_connections=True,
        sees_hosts=True,
        sees_sessions=True,
        lists_exports=True,
        revokes_access=True,
        ends_sessions=True,
    )

    def __init__(self, backend: str, options: Mapping[str, Any]) -> None:
        super().__init__(backend, options)
        self._options = TgtOptions.read(options)
        self._tgtadm = Tgtadm(self._options)

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Return who has access to the volume's targets or a session with them: one command.

        Without a target the volume is not exported. That counts only where the control target is
        listed; else NotFoundError. PermanentError where the volume is behind another target too.
        """
        return self._look(volume, Deadline.after(timeout_seconds)).observation()

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        """Return every target that some host has access to or a session with: one command."""
        listed = self._tgtadm.show_targets(Deadline.after(timeout_seconds))
        return exports_of(read_targets(listed), self._options)

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Revoke the access of the host's initiator, end its sessions, look until none is left.

        PermanentError, with nothing done, where the connector has no initiator, where a rule by
        address would give it access again, and where other disks are behind the same target.
        IndeterminateError where a session stays until the time is up.
        """
        initiator = _initiator(attachment)
        deadline = Deadline.after(timeout_seconds)
        LOG.info("Releasing volume %s from %s (%s)", volume.volume_id, initiator, request_id)
        Release(self._tgtadm, lambda: self._look(volume, deadline), initiator, deadline).run()

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Do nothing: what is left is the volume's own target, to which that host has no access.

        Cinder's remove_export drops it; another host may be in session with it.
        """

    def _look(self, volume: VolumeRef, deadline: Deadline) -> Sighting:
        return sight(volume, read_targets(self._tgtadm.show_targets(deadline)), self._options)


def _initiator(attachment: Attachment) -> str:
    """Return the name by which tgtd knows the attachment's host; PermanentError without one."""
    initiator = attachment.connector.initiator if attachment.connector else None
    if initiator is None:
        raise PermanentError(
            "Refused, nothing done: the connector has no initiator, so the sessions of its host "
            "cannot be distinguished from those of other hosts."
        )
    # It goes into a request of tgtadm, where a comma begins another parameter.
    if not ISCSI_NAME.fullmatch(initiator):
        raise PermanentError(
            f"Refused, nothing done: {initiator!r} is not the name of an iSCSI initiator."
        )
    return initiator
