"""The default storage driver: it acts through Cinder's API, and cannot see.

It works with every backend that Cinder has a driver for, because Cinder's own driver does the work.
What it cannot do is look: whether a connection is gone it knows from Cinder's answer alone, so it
acts only on backends for which the operator has set ``trust_blind``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.base import Attachment, Capabilities, Observation, StorageDriver, VolumeRef
from drivers.control_plane import Cinder
from drivers.errors import PermanentError


class ThroughCinder(StorageDriver):
    """A driver that acts through Cinder's API: it is made with the client that the service has.

    A driver of one's own that sees for itself and acts through Cinder subclasses this.
    """

    def __init__(self, backend: str, options: Mapping[str, Any], *, cinder: Cinder) -> None:
        super().__init__(backend, options)
        self.cinder = cinder

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """``os-terminate_connection`` with the attachment's connector, never without one.

        Cinder refuses it for a volume with several rows (a conflict), ends it with an os-unreserve,
        and touches no row.
        """
        # Cinder takes a missing connector for all hosts, and many of its drivers then end every
        # connection.
        if attachment.connector is None:
            raise PermanentError(
                "Refused, nothing done: without a connector every host would lose its access."
            )
        # Not os-force_detach: this one touches no row. The row goes last, by a call that is
        # conditional.
        self.cinder.terminate_connection(
            volume.volume_id,
            attachment.connector,
            request_id=request_id,
            timeout_seconds=timeout_seconds,
        )

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Nothing: Cinder removes the export when the attachment's row goes."""


class CinderManagedDriver(ThroughCinder):
    """Acts through Cinder's API on any backend; cannot see its connections."""

    capabilities = Capabilities(sees_connections=False, acts_through_cinder=True)

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Refuse: a blind driver is never asked."""
        raise PermanentError(
            f"This driver cannot see connections, and was asked to look at {volume.volume_id} "
            f"(within {timeout_seconds:g} s)."
        )
