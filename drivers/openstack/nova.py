"""Nova over its REST API: ``drivers.control_plane.Nova`` for a real cloud.

A look is four requests, three for a server that is on no host. Where it is gone it is two, and two
more for what is on record of it. Facts about
the API are from Nova 34 (nova/api/openstack/compute).
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from drivers.control_plane import BlockDevice, DeletedServer, Server
from drivers.errors import NotFoundError, TransientError
from drivers.openstack import nova_holders, nova_shapes
from drivers.openstack.answers import Call
from drivers.openstack.endpoint import Conversation, Endpoint
from drivers.openstack.shapes import items

BASE = "2.79"
"""Block devices with and without an attachment; 2.69 and later: a cell that is down is told."""
NAMED = "2.89"
"""Block devices by their attachment; those without one are hidden (bug 2160224)."""
ACTIONS = "2.62"
"""Actions of deleted servers (2.21), with the host of each event (2.62)."""
DELETIONS = 3


class NovaClient:
    """Meets ``drivers.control_plane.Nova``. Thread-safe; connects to nothing until called."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def server(self, instance_id: str, volume_id: str, *, timeout_seconds: float) -> Server | None:
        """Return the server with all its block devices for the volume.

        None only where Nova's 404 names the server and Nova answers what it answers to admins: to
        anybody else another project's server does not exist either.
        """
        with self._endpoint.within(timeout_seconds) as asking:
            call = Call("GET", f"/servers/{instance_id}", asking.pin(BASE), (instance_id,))
            try:
                record = asking.read(call, lambda d: nova_shapes.server_record(d, instance_id))
            except NotFoundError:
                _services(asking, None)
                return None
            host = nova_shapes.host_of(record)
            up = _services(asking, host) if host else None
            try:
                devices = _block_devices(asking, instance_id, volume_id)
            except NotFoundError as error:
                raise TransientError(f"{error}; it went away meanwhile") from None
            return nova_shapes.assembled(record, devices, up=up)

    def compute_up(self, host: str, *, timeout_seconds: float) -> bool | None:
        """Tell whether the host's nova-compute is up and not forced down; None: not known."""
        with self._endpoint.within(timeout_seconds) as asking:
            return _services(asking, host)

    def deleted_server(self, instance_id: str, *, timeout_seconds: float) -> DeletedServer | None:
        """Return the record that Nova keeps of a server's actions, deleted ones' too (2.21).

        One request, and one more for each of its last deletions until one names the host that ended
        the guest. None where Nova's 404 names the server, or nothing is on record of it: its record
        was archived, or this Nova never had it.
        """
        path = f"/servers/{instance_id}/os-instance-actions"
        with self._endpoint.within(timeout_seconds) as asking:
            microversion = asking.pin(ACTIONS)
            call = Call("GET", path, microversion, (instance_id,))
            try:
                request_ids = asking.read(call, nova_shapes.deletions)
            except NotFoundError:
                return None
            if request_ids is None:
                return None
            for request_id in request_ids[:DELETIONS]:
                call = Call("GET", f"{path}/{request_id}", microversion, (instance_id,))
                if (host := asking.read(call, nova_shapes.ended_on)) is not None:
                    return DeletedServer(instance_id, host)
            return DeletedServer(instance_id)

    def holders(self, volume_id: str, host: str, *, timeout_seconds: float) -> tuple[str, ...]:
        """Return the servers that may be using the volume on this host; see ``nova_holders``.

        Four requests, one more for each further page and for each server whose volumes the list
        may have kept back.
        """
        with self._endpoint.within(timeout_seconds) as asking:
            return nova_holders.holders(asking, volume_id, host)

    def detach(
        self, instance_id: str, volume_id: str, *, request_id: str, timeout_seconds: float
    ) -> None:
        """``DELETE /servers/{id}/os-volume_attachments/{volume}``: 202, or a reason why not.

        409: locked, in a state that forbids it, or its compute down. 400: Cinder's status is not
        in-use (a conflict), or it is the root device (refused for good). 404: the server or its
        block device is gone.
        """
        with self._endpoint.within(timeout_seconds) as asking:
            call = Call(
                "DELETE",
                f"/servers/{instance_id}/os-volume_attachments/{volume_id}",
                asking.pin(BASE),
                (instance_id, volume_id),
                request_id=request_id,
            )
            answer = asking.ask(call)
            if answer.status != HTTPStatus.ACCEPTED:
                raise asking.nonsense(call, f"it is {answer.status}, not 202")


def _services(asking: Conversation, host: str | None) -> bool | None:
    """Ask for nova-compute services, which only admins may (403, a PermanentError, to others)."""
    params = {"binary": nova_shapes.COMPUTE} | ({"host": host} if host else {})
    call = Call("GET", "/os-services", asking.pin(BASE), params=params)
    if host is None:
        asking.read(call, lambda document: items(document, "services"))
        return None
    return asking.read(call, lambda document: nova_shapes.compute_up(document, host))


def _block_devices(
    asking: Conversation, instance_id: str, volume_id: str
) -> tuple[BlockDevice, ...]:
    """Ask at 2.89 and below it; of a Nova before 2.89 only below, and then none is named."""
    path, subjects = f"/servers/{instance_id}/os-volume_attachments", (instance_id,)
    named = None
    if asking.pin(NAMED, BASE) == NAMED:
        named = asking.ask(Call("GET", path, NAMED, subjects)).document

    def merged(every: Any) -> tuple[BlockDevice, ...]:
        return nova_shapes.block_devices(every, named, instance_id, volume_id)

    return asking.read(Call("GET", path, BASE, subjects), merged)
