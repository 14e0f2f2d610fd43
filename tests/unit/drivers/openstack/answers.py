"""What Cinder and Nova say of one volume and one server, as they say it; tests change what matters.

The forms are those of Cinder 29 and Nova 34.
"""

from __future__ import annotations

from typing import Any

VOLUME, ROW, SERVER = "vol-0001", "row-0001", "srv-0001"
BACKEND = "storage-1@tgt"
COMPUTE = "compute-1"


def volume(**columns: Any) -> dict[str, Any]:
    """Return the answer to ``GET /volumes/{id}`` by an admin."""
    fields = {
        "id": VOLUME, "status": "in-use", "size": 1, "name": "data", "availability_zone": "nova",
        "updated_at": "2026-11-22T10:00:00.000000", "multiattach": False, "attachments": [],
        "migration_status": None, "user_id": "user", "volume_type": "fast",
        "os-vol-host-attr:host": f"{BACKEND}#pool", "os-vol-tenant-attr:tenant_id": "project",
        "os-vol-mig-status-attr:migstat": None, "os-vol-mig-status-attr:name_id": None,
        "shared_targets": False, "service_uuid": "s", "cluster_name": None, "provider_id": None,
        "metadata": {},
    }  # fmt: skip
    return {"volume": fields | columns}


def attached(attachment_id: str = ROW, host: str | None = COMPUTE) -> dict[str, Any]:
    """Return one of the ``attachments`` of a volume."""
    return {
        "id": VOLUME, "attachment_id": attachment_id, "volume_id": VOLUME, "server_id": SERVER,
        "host_name": host, "device": "/dev/vdb", "attached_at": "2026-11-22T10:00:00.000000",
    }  # fmt: skip


def attachment(**columns: Any) -> dict[str, Any]:
    """Return one of the list of ``GET /attachments/detail``."""
    secret = {"driver_volume_type": "iscsi", "auth_password": "canary-chap"}
    fields = {
        "id": ROW, "status": "attached", "instance": SERVER, "volume_id": VOLUME,
        "attached_at": "", "detached_at": "", "attach_mode": "rw", "connection_info": secret,
    }  # fmt: skip
    return fields | columns


def attachments(*found: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to ``GET /attachments/detail``."""
    return {"attachments": list(found)}


def services(state: str = "up", **columns: Any) -> dict[str, Any]:
    """Return the answer to Cinder's ``GET /os-services``."""
    fields = {"binary": "cinder-volume", "host": BACKEND, "state": state, "status": "enabled",
            "cluster": None}  # fmt: skip
    return {"services": [fields | columns]}


def server(**columns: Any) -> dict[str, Any]:
    """Return the answer to ``GET /servers/{id}`` by an admin."""
    fields = {
        "id": SERVER, "status": "ACTIVE", "OS-EXT-STS:vm_state": "active",
        "OS-EXT-STS:task_state": None, "OS-EXT-SRV-ATTR:host": COMPUTE,
        "OS-SRV-USG:launched_at": "2026-11-22T09:00:00.000000",
    }  # fmt: skip
    return {"server": fields | columns}


def computes(state: str | None = "up", *, forced_down: bool = False) -> dict[str, Any]:
    """Return the answer to Nova's ``GET /os-services``; no state: the cell is down."""
    fields: dict[str, Any] = {"binary": "nova-compute", "host": COMPUTE, "status": "UNKNOWN"}
    if state is not None:
        fields |= {"status": "enabled", "state": state, "forced_down": forced_down}
    return {"services": [fields]}


def device(
    attachment_id: str | None = None, volume_id: str = VOLUME, **more: Any
) -> dict[str, Any]:
    """Return a block device as microversion 2.89 (with an attachment) or 2.79 tells it."""
    fields: dict[str, Any] = {"serverId": SERVER, "volumeId": volume_id, "device": "/dev/vdb"}
    key = {"attachment_id": attachment_id} if attachment_id else {"id": volume_id}
    return fields | key | more


def devices(*found: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to ``GET /servers/{id}/os-volume_attachments``."""
    return {"volumeAttachments": list(found)}


def listed(server_id: str = SERVER, *volumes: str, **columns: Any) -> dict[str, Any]:
    """Return one of the list of ``GET /servers/detail`` by an admin, with its volumes."""
    shown = [{"id": v, "delete_on_termination": False} for v in volumes]
    more: dict[str, Any] = {"id": server_id, "os-extended-volumes:volumes_attached": shown}
    fields: dict[str, Any] = server(**more)["server"]
    return fields | columns


def servers(*found: dict[str, Any], more: bool = False) -> dict[str, Any]:
    """Return a page of ``GET /servers/detail``; ``more`` links to a next one."""
    links = [{"rel": "next", "href": "http://wrong.test/servers/detail?marker=x"}]
    return {"servers": list(found)} | ({"servers_links": links} if more else {})


def hypervisor(*server_ids: str, host: str = COMPUTE, name: str = COMPUTE) -> dict[str, Any]:
    """Return one of the list of ``GET /os-hypervisors/detail``, asked with its servers."""
    there = [{"name": f"instance-{s}", "uuid": s} for s in server_ids]
    return {
        "id": f"id-of-{name}", "hypervisor_hostname": name, "state": "up", "status": "enabled",
        "service": {"id": "s", "host": host, "disabled_reason": None}, "servers": there,
    }  # fmt: skip


def hypervisors(*found: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to ``GET /os-hypervisors/detail``."""
    return {"hypervisors": list(found)}


def evacuation(server_id: str, status: str = "completed", **columns: Any) -> dict[str, Any]:
    """Return one of the list of ``GET /os-migrations``."""
    fields = {
        "id": 7, "uuid": f"migration-of-{server_id}", "instance_uuid": server_id, "status": status,
        "migration_type": "evacuation", "source_compute": COMPUTE, "dest_compute": "compute-2",
    }  # fmt: skip
    return fields | columns


def migrations(*found: dict[str, Any], more: bool = False) -> dict[str, Any]:
    """Return a page of ``GET /os-migrations``; ``more`` links to a next one."""
    links = [{"rel": "next", "href": "http://wrong.test/os-migrations?marker=x"}]
    return {"migrations": list(found)} | ({"migrations_links": links} if more else {})
