"""The storage driver for RBD images of a Ceph cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drivers.base import (
    Attachment,
    Capabilities,
    ClientInstance,
    Export,
    Fences,
    Observation,
    Reach,
    StorageDriver,
    VolumeRef,
)
from drivers.child import Deadline
from drivers.errors import PermanentError
from drivers.rbd.cluster import Cluster
from drivers.rbd.fence import Release, reach
from drivers.rbd.image import (
    UnreadableError,
    exports_of,
    ip_of,
    names_of,
    nonce_of,
    observation,
    read_fences,
    read_sighting,
    require_image,
)
from drivers.rbd.options import OPTS, RbdOptions


class RbdDriver(StorageDriver):
    """Sees which clients of a Ceph cluster have a volume's image open to write, and fences one.

    It runs where the cluster's public network is reached and Ceph's bindings are installed. A host
    is recognised by the IP address of its clients, which has to be that of its connector.
    """

    opts = OPTS
    capabilities = Capabilities(
        sees_connections=True,
        sees_hosts=True,
        sees_sessions=True,
        lists_exports=True,
        # No ``revokes_access``: the host may open the image again with another client
        # (docs/decisions/0021).
        ends_sessions=True,
        by_learned_client=True,
    )

    def __init__(self, backend: str, options: Mapping[str, Any]) -> None:
        super().__init__(backend, options)
        self._options = RbdOptions.read(options)
        self._cluster = Cluster(self._options)

    def observe(self, volume: VolumeRef, *, timeout_seconds: float) -> Observation:
        """Return the clients that have the volume's image open to write, or a lock on it.

        Opens the image to be read, which leaves no watch. IndeterminateError where the cluster does
        not answer in time; NotFoundError where no image has a name of the volume.
        """
        names = names_of(volume, self._options)
        answer = self._cluster.look(names, Deadline.after(timeout_seconds))
        return observation(require_image(volume, read_sighting(answer), self._options))

    def how_reached(self, *, timeout_seconds: float) -> str:
        """Return the cluster's fsid, and which Python and libraries ask it."""
        told, options = self._cluster.about(Deadline.after(timeout_seconds)), self._options
        try:
            return (
                f"cluster {told['fsid']}, as client.{options.user}, through {options.python} "
                f"({told['python']}) with librados {told['librados']} and librbd {told['librbd']}"
            )
        except KeyError as error:
            raise UnreadableError(f"The cluster told no {error}.") from None

    def list_exports(self, *, timeout_seconds: float) -> tuple[Export, ...]:
        """Return every image that a client has open to write or has locked.

        Opens each image of the pools to be read: some milliseconds for each.
        """
        answer = self._cluster.list_images(Deadline.after(timeout_seconds))
        return exports_of(read_sighting(answer), self._options)

    def reach_of(
        self, volume: VolumeRef, client: ClientInstance, *, timeout_seconds: float
    ) -> Reach:
        """Return the other images of the cluster that this client has open to write, or locked.

        Of every pool and namespace, those of other backends too, where the user may look. Opens
        each image to be read. A kernel's client has all that its host has mapped.
        """
        answer = self._cluster.everywhere(Deadline.after(timeout_seconds))
        return reach(read_sighting(answer), names_of(volume, self._options), client, self._options)

    def fences(self, *, timeout_seconds: float) -> Fences:
        """Return the entries of the OSDs' blocklist that are of one client each."""
        return read_fences(self._cluster.fences(Deadline.after(timeout_seconds)))

    def renew_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        """Have the OSDs refuse this client for ``fence_seconds`` from now.

        An entry that there is keeps its time (src/osd/OSDMap.cc, ``apply_incremental``: insert).
        """
        _refuse_without_nonce(address)
        seconds, deadline = self._options.fence_seconds, Deadline.after(timeout_seconds)
        return read_fences(self._cluster.fence(address, seconds, deadline))

    def lift_fence(self, address: str, *, timeout_seconds: float) -> Fences:
        """Remove this client's entry, as the user of the option ``lift_user``."""
        _refuse_without_nonce(address)
        return read_fences(self._cluster.lift(address, Deadline.after(timeout_seconds)))

    def terminate_connection(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Fence the learned client, remove its lock, look until both are seen.

        PermanentError, with nothing done, where no client was learned and somebody has the volume
        open, where another client has it, where the client is a kernel's, or has more other images
        open than the option allows. TransientError where the cluster did not answer before.
        """
        learned = attachment.learned
        if attachment.connector is None:
            raise PermanentError(
                "Refused, nothing done: without a connector no host is meant, and so no client."
            )
        # The connector says which host is meant. A client that was learned before the host got
        # another address is nobody's.
        if learned and ip_of(learned.address) not in attachment.connector.addresses():
            raise PermanentError(
                f"Refused, nothing done: the learned client is at {learned.address}, which is no "
                f"address of host {attachment.connector.host}."
            )
        deadline = Deadline.after(timeout_seconds)
        Release(self._cluster, self._options, volume, learned, request_id, deadline).run()

    def detach(
        self, volume: VolumeRef, attachment: Attachment, *, request_id: str, timeout_seconds: float
    ) -> None:
        """Do nothing: an image has nothing that is made for an attachment."""


def _refuse_without_nonce(address: str) -> None:
    """Raise PermanentError for an address that would be more than one client's."""
    # Ceph takes the nonce 0 for every client of the address.
    if nonce_of(address) == 0:
        raise PermanentError(
            f"Refused, nothing done: {address} is not the full address of one client, with its "
            "nonce, so that a fence would be of its whole host."
        )
