"""Nova over its REST API: ``drivers.control_plane.Nova`` for a real cloud.

A look is four requests, three for a server that is on no host. Where the server is gone it is two,
and two more for the record of its actions. Facts about the API are from Nova 34
(nova/api/openstack/compute).

``holders`` finds the servers that may be using a volume on a compute host, where Cinder has no
record of them. Nova cannot be asked for the servers of a volume. So the servers of the host are
read, those that are being migrated, and the evacuations off the host. An empty list of Nova proves
little: the servers of a cell whose database does not answer are left out silently (``[api]
list_records_by_skipping_down_cells``), and those of a cell that fails in the middle are listed
without their volumes (nova/api/openstack/compute/views/servers.py). So:

1. Each answer needs a control. A server without one is asked about by itself.
2. The list is compared with the hypervisors' own (``_check_whole``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

from drivers.control_plane import (
    BlockDevice,
    DeletedServer,
    Server,
    ServersPage,
    ServerVolumes,
    Swap,
)
from drivers.errors import NotFoundError, PermanentError, TransientError
from drivers.openstack import nova_shapes
from drivers.openstack.endpoint import Call, Conversation, Endpoint
from drivers.openstack.nova_shapes import ListedServer
from drivers.openstack.shapes import items

T = TypeVar("T")

BASE = "2.79"
"""Block devices with and without an attachment. It needs 2.59 for migrations by page, 2.69 for a
cell that is down to show, and 2.75 for ``servers`` of a hypervisor even where there are none."""
WITH_ATTACHMENTS = "2.89"
"""Block devices by their attachment; those without one are hidden (bug 2160224)."""
ACTIONS = "2.62"
"""Actions of deleted servers (2.21), with the host of each event (2.62)."""
# Each is one request more.
DELETIONS = 3

# Nova's own limit of a page (``max_limit``) is 1000 by default.
PAGE_SIZE = 500
SOFT_DELETED = "1"
"""Any text at all: those in ``soft-delete`` keep their volumes, and are left out without it."""


def holders(asking: Conversation, volume_id: str, host: str) -> tuple[str, ...]:
    """Return all servers that may be using the volume on this host, or raise: never only some.

    Those on the host, in any state, that have a block device for it, named or not; those under live
    migration that have one, whose guest may be on the host before Nova's record says so; and those
    evacuated off the host whose old guest Nova has not recorded to be ended there, whatever volumes
    they have now. Raises the kinds of errors where an answer is missing, or may not be whole.
    """
    on_host = {"host": host, "soft_deleted": SOFT_DELETED}
    listed, holding = _listed(asking, volume_id, on_host, lambda s: s.host == host)
    # Nova moves the record last: the guest may be here while its server is still on another host.
    moving = {"task_state": nova_shapes.MIGRATING}
    _, also = _listed(asking, volume_id, moving, lambda s: s.task_state == nova_shapes.MIGRATING)
    # One that is on the host again has a guest there by its own record.
    evacuated = _evacuated(asking, host) - listed
    _check_whole(asking, host, listed)
    return tuple(dict.fromkeys([*holding, *also, *sorted(evacuated)]))


def _listed(
    asking: Conversation,
    volume_id: str,
    filters: dict[str, str],
    fits: Callable[[ListedServer], bool],
) -> tuple[set[str], list[str]]:
    """Return the ids of all servers that fit, and which of them have the volume."""
    listed: set[str] = set()
    holding: list[str] = []
    params = {"all_tenants": "1", **filters}
    for call, page in _pages(asking, "/servers/detail", params, nova_shapes.listed_servers):
        # Nova drops a filter that the user may not use, and lists everything.
        if not all(fits(server) for server in page):
            raise asking.unusable(call, "it was not filtered as asked")
        listed |= {server.instance_id for server in page}
        holding += _holding(asking, volume_id, page)
    return listed, holding


def _holding(asking: Conversation, volume_id: str, page: Sequence[ListedServer]) -> Iterator[str]:
    """Yield the servers of one page that have the volume.

    A host is of one cell, and a cell's block devices are read at once: where one server of a host
    shows a volume, the others of that page that show none have none.
    """
    # Only of a host: servers that are on none may be of any cell.
    answered = {server.host for server in page if server.volumes and server.host}
    for server in page:
        if server.volumes or server.host in answered:
            has_it = volume_id in server.volumes
        else:
            has_it = _server_has(asking, volume_id, server.instance_id)
        if has_it:
            yield server.instance_id


def _server_has(asking: Conversation, volume_id: str, instance_id: str) -> bool:
    path = f"/servers/{instance_id}/os-volume_attachments"
    call = Call("GET", path, asking.pin(BASE), (instance_id,))
    try:
        every = asking.read(call, lambda d: nova_shapes.volumes_of(d, instance_id))
    except NotFoundError as error:
        raise TransientError(f"{error}; it was deleted meanwhile") from None
    return volume_id in every


def _evacuated(asking: Conversation, host: str) -> set[str]:
    """Return the servers whose last evacuation off this host was not completed.

    A nova-compute that starts ends the guests that were evacuated off it, and only then has their
    evacuations completed (nova/compute/manager.py ``_destroy_evacuated_instances``). One that was
    cut off and comes back without a start leaves them running.
    """
    newest: dict[str, bool] = {}
    params = {"source_compute": host, "migration_type": nova_shapes.EVACUATION}
    for call, page in _pages(asking, "/os-migrations", params, nova_shapes.listed_evacuations):
        if not all(evacuation.source == host for evacuation in page):
            raise asking.unusable(call, "it was not filtered as asked")
        for evacuation in page:
            # Nova lists the newest first, and only the last one tells who is where.
            newest.setdefault(evacuation.instance_id, evacuation.completed)
    return {instance_id for instance_id, completed in newest.items() if not completed}


def _check_whole(asking: Conversation, host: str, listed: set[str]) -> None:
    """Compare the list with what the cell of the host reports itself; that fails where it is down.

    Asked last, so that the cell is shown to answer after the lists were made too.
    """
    # A hypervisor goes by its full name or by its short one; the answer is compared with the whole
    # host.
    pattern = host.partition(".")[0]
    params = {"hypervisor_hostname_pattern": pattern, "with_servers": "true"}
    call = Call("GET", "/os-hypervisors/detail", asking.pin(BASE), (pattern,), params)
    reported = asking.read(call, lambda document: nova_shapes.servers_on(document, host))
    if reported is None:
        raise PermanentError(f"Nova lists no hypervisor like {pattern} of the host {host}.")
    if missing := sorted(reported - listed):
        raise TransientError(f"Nova's list of the servers on {host} lacks {', '.join(missing)}.")


def _pages(
    asking: Conversation,
    path: str,
    filters: dict[str, str],
    read: Callable[[Any], tuple[Sequence[T], str | None]],
) -> Iterator[tuple[Call, Sequence[T]]]:
    """Yield page after page, as long as Nova links to a next one."""
    microversion, marker = asking.pin(BASE), None
    while True:
        params = {**filters, "limit": str(PAGE_SIZE)} | ({"marker": marker} if marker else {})
        call = Call("GET", path, microversion, params=params)
        page, following = asking.read(call, read)
        yield call, page
        if following is None:
            return
        # Otherwise a broken Nova would keep us reading for ever.
        if following == marker:
            raise asking.unusable(call, "the next page is the same")
        marker = following


class NovaClient:
    """Meets ``drivers.control_plane.Nova``. Thread-safe; connects to nothing until called.

    ``other_region`` says, within so many seconds, why this may be the Nova of another region than
    the volumes are in, or None; it may raise the kinds of errors.
    """

    def __init__(
        self, endpoint: Endpoint, other_region: Callable[[float], str | None] = lambda _: None
    ) -> None:
        self._endpoint = endpoint
        self._other_region = other_region

    def server(self, instance_id: str, volume_id: str, *, timeout_seconds: float) -> Server | None:
        """Return the server with all its block devices for the volume.

        None only where Nova's 404 names the server and Nova answers what it answers to admins: to
        other users another project's server does not exist either.
        """
        with self._endpoint.within(timeout_seconds) as asking:
            record = _shown(asking, instance_id, lambda record: record)
            if record is None:
                return None
            host = nova_shapes.host_of(record)
            up = _services(asking, host) if host else None
            try:
                devices = _block_devices(asking, instance_id, volume_id)
            except NotFoundError as error:
                raise TransientError(f"{error}; it was deleted meanwhile") from None
            return nova_shapes.assembled(record, devices, up=up)

    def compute_up(self, host: str, *, timeout_seconds: float) -> bool | None:
        """Tell whether the host's nova-compute is up and not forced down; None: not known."""
        with self._endpoint.within(timeout_seconds) as asking:
            return _services(asking, host)

    def deleted_server(self, instance_id: str, *, timeout_seconds: float) -> DeletedServer | None:
        """Return the record that Nova keeps of a server's actions, deleted ones' too (2.21).

        One request, and one more for each of its last deletions until one names the host that ended
        the guest; where none does, one for its creation. None where Nova's 404 names the server, or
        nothing is on record of it: its record was archived, or this Nova never had it.
        """
        path = f"/servers/{instance_id}/os-instance-actions"
        with self._endpoint.within(timeout_seconds) as asking:
            microversion = asking.pin(ACTIONS)
            call = Call("GET", path, microversion, (instance_id,))
            try:
                life = asking.read(call, nova_shapes.life)
            except NotFoundError:
                return None
            if life is None:
                return None

            def action(request_id: str) -> Call:
                return Call("GET", f"{path}/{request_id}", microversion, (instance_id,))

            for request_id in life.deletions[:DELETIONS]:
                host = asking.read(action(request_id), nova_shapes.ended_on)
                if host is not None:
                    return DeletedServer(instance_id, host, life.deletions)
            # Only where no deletion tells of a host: a server that was never built has no guest to
            # be ended.
            never_built = life.creation is not None and asking.read(
                action(life.creation), nova_shapes.came_to_no_compute
            )
            return DeletedServer(instance_id, None, life.deletions, never_built)

    def servers(self, *, after: str | None, limit: int, timeout_seconds: float) -> ServersPage:
        """Return one page of all servers with their volumes; one request."""
        params = {"all_tenants": "1", "soft_deleted": SOFT_DELETED, "limit": str(limit)}
        params |= {"marker": after} if after is not None else {}
        with self._endpoint.within(timeout_seconds) as asking:
            call = Call("GET", "/servers/detail", asking.pin(BASE), params=params)
            listed, following = asking.read(call, nova_shapes.listed_servers)
            if following is not None and following == after:
                raise asking.unusable(call, "the next page is the same")
        found = tuple(ServerVolumes(server.instance_id, server.volumes) for server in listed)
        return ServersPage(found, following)

    def volumes_of(self, instance_id: str, *, timeout_seconds: float) -> frozenset[str] | None:
        """Return the volumes of a server; one request. None as in ``server``, one request more."""
        with self._endpoint.within(timeout_seconds) as asking:
            return _shown(asking, instance_id, nova_shapes.volumes_shown)

    def swapping(self, instance_id: str, *, timeout_seconds: float) -> Swap:
        """Tell whether a swap of one of its volumes is under way, or failed; see ``Nova``.

        One request, and one more for each swap on record until one has not ended.
        """
        path = f"/servers/{instance_id}/os-instance-actions"
        with self._endpoint.within(timeout_seconds) as asking:
            microversion = asking.pin(ACTIONS)
            listed = Call("GET", path, microversion, (instance_id,))
            request_ids, newest = asking.read(listed, nova_shapes.swaps)
            found: list[Swap] = []
            for request_id in request_ids:
                call = Call("GET", f"{path}/{request_id}", microversion, (instance_id,))
                found.append(asking.read(call, nova_shapes.swap_came_to))
                if found[-1] is Swap.UNDER_WAY:
                    return Swap.UNDER_WAY
        return found[0] if newest else Swap.NONE

    def holders(self, volume_id: str, host: str, *, timeout_seconds: float) -> tuple[str, ...]:
        """Return the servers that may be using the volume on this host; see ``holders`` above.

        Four requests, one more for each further page and for each server whose volumes the list
        may have kept back. Raises PermanentError where the catalog says that this Nova is of
        another region: its hosts may have the same names, and their servers other volumes.
        """
        # Before anything is asked: an empty list of the wrong region looks like proof.
        if said := self._other_region(timeout_seconds):
            raise PermanentError(f"Nova's word for a host proves nothing: {said}.")
        with self._endpoint.within(timeout_seconds) as asking:
            return holders(asking, volume_id, host)

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
                raise asking.unusable(call, f"it is {answer.status}, not 202")


def _shown(
    asking: Conversation, instance_id: str, read: Callable[[nova_shapes.Record], T]
) -> T | None:
    """Return what is read of a server; None where it is not there, and an admin is told so."""
    call = Call("GET", f"/servers/{instance_id}", asking.pin(BASE), (instance_id,))
    try:
        return asking.read(call, lambda d: read(nova_shapes.server_record(d, instance_id)))
    except NotFoundError:
        _services(asking, None)
        return None


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
    with_attachments = None
    # First the one with names: a device that is added between the two is nameless then, and nothing
    # acts on it.
    if asking.pin(WITH_ATTACHMENTS, BASE) == WITH_ATTACHMENTS:
        with_attachments = asking.ask(Call("GET", path, WITH_ATTACHMENTS, subjects)).document

    def merged(every: Any) -> tuple[BlockDevice, ...]:
        return nova_shapes.block_devices(every, with_attachments, instance_id, volume_id)

    return asking.read(Call("GET", path, BASE, subjects), merged)
