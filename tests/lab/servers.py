"""Servers of the lab: booted, attached to, moved and broken, as an administrator does it."""

from __future__ import annotations

import json
import secrets
from typing import Any

from tests.lab.openstack import OpenStack, until
from tests.lab.rest import Answer, Rest

NEWEST = "2.90"
SERVICE_SHOWN = "3.48"
SECONDS = 180.0


class Servers:
    """The servers of one lab. Each boots from a volume of its own and has no network."""

    def __init__(self, lab: OpenStack) -> None:
        self._lab = lab
        self._rest: Rest = lab.rest("admin")
        self._flavor: str | None = None

    def boot(self, host: str) -> str:
        """Boot a server on a host and return its id; blocks for a few seconds."""
        server_id = self.begin_boot(host)
        assert self.built(server_id) == "ACTIVE", self.show(server_id)
        return server_id

    def begin_boot(self, host: str, *volumes: str) -> str:
        """Ask Nova for a server with these volumes, and wait for nothing; returns its id."""
        disks = [{"boot_index": 0, "uuid": self._root_disk(), "delete_on_termination": True}]
        disks += [{"boot_index": -1, "uuid": volume_id} for volume_id in volumes]
        kind = {"source_type": "volume", "destination_type": "volume"}
        wanted = {
            "name": f"server-{secrets.token_hex(3)}", "flavorRef": self._smallest(),
            "networks": "none", "host": host,
            "block_device_mapping_v2": [disk | kind for disk in disks],
        }  # fmt: skip
        return str(self._do("POST", "/servers", {"server": wanted})["server"]["id"])

    def built(self, server_id: str) -> str:
        """Wait until a server is built, or has failed to be; return its status."""
        until(lambda: self.status(server_id) != "BUILD", "the server is built", SECONDS)
        return self.status(server_id)

    def show(self, server_id: str) -> dict[str, Any]:
        """Return what Nova says of a server."""
        shown: dict[str, Any] = self._do("GET", f"/servers/{server_id}")["server"]
        return shown

    def find(self, server_id: str) -> dict[str, Any] | None:
        """Return the same, None where Nova knows no such server."""
        answer = self._ask("GET", f"/servers/{server_id}")
        assert answer.ok or answer.status == 404, answer
        return answer.body["server"] if answer.ok else None

    def status(self, server_id: str) -> str:
        """Return the status that users see: ACTIVE, SHELVED_OFFLOADED, MIGRATING, ERROR ..."""
        return str(self.show(server_id)["status"])

    def ask(self, server_id: str, body: dict[str, Any]) -> None:
        """Ask for an action of a server, which Nova goes about after it has answered."""
        self._do("POST", f"/servers/{server_id}/action", body)

    def failed(self, server_id: str) -> set[str]:
        """Return the events of a server's actions that failed: compute_detach_volume ..."""
        path = f"/servers/{server_id}/os-instance-actions"
        actions = self._do("GET", path)["instanceActions"]
        shown = (self._do("GET", f"{path}/{a['request_id']}")["instanceAction"] for a in actions)
        events = (event for action in shown for event in action["events"])
        return {event["event"] for event in events if event["result"] == "Error"}

    def act(self, server_id: str, body: dict[str, Any], status: str) -> None:
        """Make an action of a server and wait until it has that status and no task."""
        self.ask(server_id, body)

        def done() -> bool:
            shown = self.show(server_id)
            return shown["status"] == status and shown["OS-EXT-STS:task_state"] is None

        until(done, f"the server is {status}", SECONDS)

    def delete(self, server_id: str) -> None:
        """Delete a server and wait until it is gone."""
        self.begin_delete(server_id)
        path = f"/servers/{server_id}"
        until(lambda: self._ask("GET", path).status == 404, "the server is gone", SECONDS)

    def begin_delete(self, server_id: str) -> None:
        """Ask Nova to delete a server, and wait for nothing."""
        self._do("DELETE", f"/servers/{server_id}")

    def ask_attach(self, server_id: str, volume_id: str) -> Answer:
        """Ask Nova to attach a volume; it answers before that is done."""
        wanted = {"volumeAttachment": {"volumeId": volume_id}}
        return self._ask("POST", f"/servers/{server_id}/os-volume_attachments", wanted)

    def ask_detach(self, server_id: str, volume_id: str) -> Answer:
        """Ask Nova to detach a volume; it answers before that is done."""
        return self._ask("DELETE", f"/servers/{server_id}/os-volume_attachments/{volume_id}")

    def devices(self, server_id: str) -> dict[str, str | None]:
        """Return the attachment that the block device of each volume names, as Nova 2.89 tells."""
        path = f"/servers/{server_id}/os-volume_attachments"
        listed = self._do("GET", path)["volumeAttachments"]
        return {device["volumeId"]: device["attachment_id"] for device in listed}

    def guests(self, host: str) -> dict[str, Any]:
        """Return the guests that really run on a host, with the disks that they hold."""
        file = self._lab.computes_by_host[host].guests
        guests: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
        return guests

    def holding(self, volume_id: str) -> tuple[str, ...]:
        """Return the servers whose guests hold a volume."""
        return tuple(
            sorted(
                server_id
                for host in self._lab.computes
                for server_id, guest in self.guests(host).items()
                if volume_id in guest["disks"].values()
            )
        )

    def force_down(self, host: str, *, down: bool) -> None:
        """Make Nova take a compute service for down, whatever its heartbeat says, or no longer."""
        self._do("PUT", f"/os-services/{self._service(host)['id']}", {"forced_down": down})

    def is_up(self, host: str) -> bool:
        """Tell whether Nova takes a compute service for up."""
        return bool(self._service(host)["state"] == "up")

    def _service(self, host: str) -> dict[str, Any]:
        query = f"/os-services?host={host}&binary=nova-compute"
        (service,) = self._do("GET", query)["services"]
        return dict(service)

    def _root_disk(self) -> str:
        made = self._cinder("POST", "/volumes", {"volume": {"size": 1}})
        volume_id = str(made["volume"]["id"])
        path = f"/volumes/{volume_id}"
        until(lambda: self._is_made(volume_id), "it is made")
        self._cinder("POST", f"{path}/action", {"os-set_bootable": {"bootable": True}})
        return volume_id

    def _is_made(self, volume_id: str) -> bool:
        """Tell whether Cinder has written everything down, the service last (see ``LabGround``)."""
        shown = self._cinder("GET", f"/volumes/{volume_id}", version=SERVICE_SHOWN)["volume"]
        return bool(shown["status"] == "available" and shown["service_uuid"])

    def _smallest(self) -> str:
        if self._flavor is None:
            wanted = {"name": f"f-{secrets.token_hex(3)}", "ram": 64, "vcpus": 1, "disk": 0}
            self._flavor = str(self._do("POST", "/flavors", {"flavor": wanted})["flavor"]["id"])
        return self._flavor

    def _do(self, method: str, path: str, body: object = None) -> Any:
        return self._rest.do("compute", method, path, body, version=NEWEST)

    def _ask(self, method: str, path: str, body: object = None) -> Answer:
        return self._rest.ask("compute", method, path, body, version=NEWEST)

    def _cinder(self, method: str, path: str, body: object = None, **how: Any) -> Any:
        return self._rest.do("block-storage", method, path, body, **how)
