"""The lab's servers as the tests of behaviour, and the scenes of the service, use them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.lab.inside.faults import Fault
from tests.lab.openstack import OpenStack, until
from tests.lab.servers import Servers

STATUS = "SELECT status FROM cinder.volumes WHERE id = "
ATTACH_SECONDS = 180.0
# Cinder calls a volume available a moment before Nova forgets the block device of a detach.
NOT_YET_FORGOTTEN = "already attached to instances"
ACTIONS: dict[str, tuple[dict[str, Any], str, dict[str, Any]]] = {
    "paused": ({"pause": None}, "PAUSED", {"unpause": None}),
    "suspended": ({"suspend": None}, "SUSPENDED", {"resume": None}),
    "stopped": ({"os-stop": None}, "SHUTOFF", {"os-start": None}),
    "error": (
        {"os-resetState": {"state": "error"}},
        "ERROR",
        {"os-resetState": {"state": "active"}},
    ),
}


class LabServers:
    """Servers of the real Nova; the shared ones are booted once for the lab."""

    def __init__(self, lab: OpenStack) -> None:
        self._lab = lab
        self._servers = Servers(lab)
        self._shared: dict[str, str] = {}

    def shared(self, host: str) -> str:
        """Return a running server that a test leaves as it was."""
        if host not in self._shared:
            self._shared[host] = self.boot(host)
        return self._shared[host]

    def boot(self, host: str) -> str:
        """Boot a server of the test's own."""
        return self._servers.boot(host)

    def boot_in_vain(self, host: str, volume_id: str) -> str:
        """Ask for a server with a volume, whose guest does not start; blocks until Nova gave up."""
        server_id = self._servers.begin_boot(host, volume_id)
        self._lab.compute_faults[host].add(Fault("spawn", subject=server_id))
        assert self._servers.built(server_id) == "ERROR"
        return server_id

    def attach(self, volume_id: str, server_id: str) -> bool:
        """Attach through Nova and tell whether that went well."""
        self.begin_attach(volume_id, server_id)
        until(lambda: self._attach_is_over(volume_id, server_id), "Nova is done", ATTACH_SECONDS)
        return volume_id in self._servers.devices(server_id)

    def begin_attach(self, volume_id: str, server_id: str) -> None:
        """Ask Nova to attach, again while it ends an earlier detach, and wait for nothing else."""

        def accepted() -> bool:
            asked = self._servers.ask_attach(server_id, volume_id)
            assert asked.ok or NOT_YET_FORGOTTEN in str(asked.body), asked
            return asked.ok

        until(accepted, "Nova has forgotten the detach")

    def attach_in_vain(self, volume_id: str, server_id: str) -> None:
        """Ask Nova to attach on a host that does not answer; blocks until Nova gives that up."""
        asked = self._servers.ask_attach(server_id, volume_id)
        assert asked.status == 500, asked

    def ask_detach(self, volume_id: str, server_id: str) -> None:
        """Ask Nova to detach, and wait for nothing."""
        asked = self._servers.ask_detach(server_id, volume_id)
        assert asked.ok, asked

    def is_detach_taken(self, volume_id: str, server_id: str) -> bool:
        """Ask Nova to detach; tell whether it takes that, in the state that the volume is in."""
        asked = self._servers.ask_detach(server_id, volume_id)
        assert asked.ok or asked.status in (400, 404, 409), asked
        return asked.ok

    def has_device(self, volume_id: str, server_id: str) -> bool:
        """Tell whether Nova has a block device for a volume."""
        return volume_id in self._servers.devices(server_id)

    def is_free(self, volume_id: str, server_id: str) -> bool:
        """Tell whether Cinder and Nova have let a volume go."""
        gone = not self.has_device(volume_id, server_id)
        return gone and self._status(volume_id) == "available"

    def as_new(self, server_id: str, host: str) -> bool:
        """Tell whether a server is on that host, active, and has nothing but its root disk."""
        shown = self._servers.find(server_id)
        if shown is None or shown["status"] != "ACTIVE":
            return False
        here = shown["OS-EXT-SRV-ATTR:host"] == host and not shown["OS-EXT-STS:task_state"]
        return here and len(self._servers.devices(server_id)) == 1

    @contextlib.contextmanager
    def in_state(self, server_id: str, vm_state: str) -> Iterator[None]:
        """Make the action that leads there, and the one that leads back."""
        there, status, back = ACTIONS[vm_state]
        self._servers.act(server_id, there, status)
        yield
        self._servers.act(server_id, back, "ACTIVE")

    @contextlib.contextmanager
    def locked(self, server_id: str) -> Iterator[None]:
        """Lock it, and unlock it."""
        self._servers.act(server_id, {"lock": None}, "ACTIVE")
        yield
        self._servers.act(server_id, {"unlock": None}, "ACTIVE")

    def shelve(self, server_id: str) -> None:
        """Shelve a server and wait until Nova has forgotten its host, which it does last."""
        self._servers.act(server_id, {"shelve": None}, "SHELVED_OFFLOADED")
        host = "OS-EXT-SRV-ATTR:host"
        until(lambda: self._servers.show(server_id)[host] is None, "the server is on no host")

    def delete(self, server_id: str) -> None:
        """Delete a server."""
        self._servers.delete(server_id)

    def begin_delete(self, server_id: str) -> None:
        """Ask Nova to delete a server, and wait for nothing."""
        self._servers.begin_delete(server_id)

    def migrate(self, server_id: str, host: str) -> None:
        """Move a server to another host, live."""
        self._servers.act(server_id, _to(host), "ACTIVE")

    def begin_migrate(self, server_id: str, host: str) -> None:
        """Ask Nova to move a server to another host, live, and wait for nothing."""
        self._servers.ask(server_id, _to(host))

    def begin_shelve(self, server_id: str) -> None:
        """Ask Nova to shelve a server, and wait for nothing."""
        self._servers.ask(server_id, {"shelve": None})

    def begin_unshelve(self, server_id: str) -> None:
        """Ask Nova to bring a shelved server back, and wait for nothing."""
        self._servers.ask(server_id, {"unshelve": None})

    def begin_evacuate(self, server_id: str, host: str) -> None:
        """Ask Nova to rebuild a server of a dead host on another one, and wait for nothing."""
        self._servers.ask(server_id, {"evacuate": {"host": host}})

    def has_failed(self, server_id: str, event: str) -> bool:
        """Tell whether Nova says that something it did to a server failed."""
        return f"compute_{event}" in self._servers.failed(server_id)

    def holding(self, volume_id: str) -> tuple[str, ...]:
        """Return whose guests hold a volume."""
        return self._servers.holding(volume_id)

    def refuse_to_let_go(self, server_id: str) -> None:
        """Let the guest refuse the next detach."""
        host = self._servers.show(server_id)["OS-EXT-SRV-ATTR:host"]
        fault = Fault("detach_volume", error="DeviceDetachFailed")
        self._lab.compute_faults[host].add(fault)

    @contextlib.contextmanager
    def compute_down(self, host: str) -> Iterator[None]:
        """Let Nova take a compute service for down."""
        self._servers.force_down(host, down=True)
        try:
            yield
        finally:
            self._servers.force_down(host, down=False)

    def is_up(self, host: str) -> bool:
        """Tell whether Nova takes a compute service for up."""
        return self._servers.is_up(host)

    @contextlib.contextmanager
    def api_down(self) -> Iterator[None]:
        """Stop nova-api."""
        with self._lab.daemons["nova-api"].killed():
            yield

    def _attach_is_over(self, volume_id: str, server_id: str) -> bool:
        """Tell whether the block device is gone, or the guest has the disk and Cinder knows."""
        if not self.has_device(volume_id, server_id):
            return True
        return self._status(volume_id) == "in-use" and server_id in self.holding(volume_id)

    def _status(self, volume_id: str) -> str:
        ((status,),) = self._lab.mariadb.execute(f"{STATUS}'{volume_id}'")
        return str(status)


def _to(host: str) -> dict[str, Any]:
    return {"os-migrateLive": {"host": host, "block_migration": "auto"}}
