"""The lab as a ground."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.base import Connector
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
)
from tests.behaviour.ground import State
from tests.lab import backend, clients
from tests.lab.inside.faults import Fault, How, When
from tests.lab.openstack import OpenStack, until
from tests.lab.rest import Answer, Rest
from tests.lab.servers import Servers

INITIATOR = "iqn.1993-08.org.debian:01:"
NEWEST = "3.71"
ROWS = "SELECT attach_status FROM cinder.volume_attachment WHERE NOT deleted AND volume_id = "
STATUSES = "SELECT status, attach_status FROM cinder.volumes WHERE id = "
ATTACH_SECONDS = 180.0
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
KINDS: dict[int, type[OutsideError]] = {
    400: ConflictError, 404: NotFoundError, 409: ConflictError, 500: IndeterminateError,
}  # fmt: skip


def refuse(answer: Answer) -> Any:
    """Return the body of a success; raise the kind that an error is."""
    if answer.ok:
        return answer.body
    raise KINDS.get(answer.status, PermanentError)(f"{answer.status} {answer.body}")


def _unheard(act: Callable[[], None]) -> None:
    with contextlib.suppress(OutsideError):
        act()


class LabOthers:
    """What others ask of the real Cinder, as an administrator without a service token."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest

    def create_attachment(self, volume_id: str, instance_id: str | None) -> str:
        """``POST /attachments``."""
        wanted = {"volume_uuid": volume_id, "instance_uuid": instance_id}
        made = self._ask("POST", "/attachments", {"attachment": wanted})
        return str(made["attachment"]["id"])

    def update_attachment(self, attachment_id: str, connector: Connector) -> None:
        """``PUT /attachments/{id}``."""
        body = {"attachment": {"connector": connector.to_mapping()}}
        self._ask("PUT", f"/attachments/{attachment_id}", body)

    def initialize_connection(self, volume_id: str, connector: Connector) -> None:
        """``os-initialize_connection``."""
        argument = {"connector": connector.to_mapping()}
        self._act(volume_id, {"os-initialize_connection": argument})

    def attach(self, volume_id: str, instance_id: str) -> None:
        """``os-attach``."""
        argument = {"instance_uuid": instance_id, "mountpoint": "/dev/vdb", "mode": "rw"}
        self._act(volume_id, {"os-attach": argument})

    def begin_detaching(self, volume_id: str) -> None:
        """``os-begin_detaching``."""
        self._act(volume_id, {"os-begin_detaching": {}})

    def detach(self, volume_id: str, attachment_id: str | None) -> None:
        """``os-detach``."""
        argument = {"attachment_id": attachment_id} if attachment_id else {}
        self._act(volume_id, {"os-detach": argument})

    def reset_status(self, volume_id: str, status: str, attach_status: str | None = None) -> None:
        """``os-reset_status``."""
        argument = {"status": status} | ({"attach_status": attach_status} if attach_status else {})
        self._act(volume_id, {"os-reset_status": argument})

    def _act(self, volume_id: str, body: object) -> None:
        self._ask("POST", f"/volumes/{volume_id}/action", body)

    def _ask(self, method: str, path: str, body: object) -> Any:
        return refuse(self._rest.ask("block-storage", method, path, body, version=NEWEST))


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

    def attach(self, volume_id: str, server_id: str) -> bool:
        """Attach through Nova and tell whether that went well."""
        self.begin_attach(volume_id, server_id)
        until(lambda: self._attach_is_over(volume_id, server_id), "Nova is done", ATTACH_SECONDS)
        return volume_id in self._servers.devices(server_id)

    def begin_attach(self, volume_id: str, server_id: str) -> None:
        """Ask Nova to attach, and wait for nothing."""
        asked = self._servers.ask_attach(server_id, volume_id)
        assert asked.ok, asked

    def ask_detach(self, volume_id: str, server_id: str) -> None:
        """Ask Nova to detach, and wait for nothing."""
        asked = self._servers.ask_detach(server_id, volume_id)
        assert asked.ok, asked

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

    def migrate(self, server_id: str, host: str) -> None:
        """Move a server to another host, live."""
        body = {"os-migrateLive": {"host": host, "block_migration": "auto"}}
        self._servers.act(server_id, body, "ACTIVE")

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
        yield
        self._servers.force_down(host, down=False)

    @contextlib.contextmanager
    def api_down(self) -> Iterator[None]:
        """Stop nova-api."""
        api = self._lab.daemons["nova-api"]
        api.kill()
        yield
        api.start()

    def _attach_is_over(self, volume_id: str, server_id: str) -> bool:
        """Tell whether the block device is gone, or the guest has the disk and Cinder knows."""
        if not self.has_device(volume_id, server_id):
            return True
        return self._status(volume_id) == "in-use" and server_id in self.holding(volume_id)

    def _status(self, volume_id: str) -> str:
        ((status, _),) = self._lab.mariadb.execute(f"{STATUSES}'{volume_id}'")
        return str(status)


class LabGround:
    """A running lab; faults are cleared when a test is done with it."""

    def __init__(self, lab: OpenStack) -> None:
        self.lab = lab
        self.servers = LabServers(lab)
        self.admin = lab.rest("admin")
        self.others = LabOthers(self.admin)
        user, service = lab.credentials("detachd"), lab.credentials("detachd-service")
        self.cinder = clients.cinder(user)
        self.vouching = clients.cinder(user, vouching=service)
        self.nova = clients.nova(user)

    def clean_up(self) -> None:
        """Take back the faults that a test has set, and end what hangs."""
        self.lab.storage_faults.clear()
        for faults in self.lab.compute_faults.values():
            faults.clear()

    def connector(self, host: str) -> Connector:
        """Return the connector of a host, as the lab's nova-compute presents it."""
        return Connector(host=host, initiator=f"{INITIATOR}{host}", ip="127.0.0.1")

    def volume(self, *, multiattach: bool = False) -> str:
        """Make an available volume."""
        wanted: dict[str, Any] = {"size": 1}
        if multiattach:
            wanted["volume_type"] = self._multiattach_type()
        made = self.admin.do("block-storage", "POST", "/volumes", {"volume": wanted})
        volume_id = str(made["volume"]["id"])
        until(lambda: self._made(volume_id), "the volume is made")
        return volume_id

    def delete_volume(self, volume_id: str) -> None:
        """Delete a volume that nobody has; blocks until it is gone."""
        path = f"/volumes/{volume_id}"
        self.admin.do("block-storage", "DELETE", path)
        until(lambda: self.admin.ask("block-storage", "GET", path).status == 404, "it is gone")

    def look(self, volume_id: str) -> State:
        """Look at a volume from all sides: at Cinder's tables and at tgtd."""
        rows = self.lab.mariadb.execute(f"{ROWS}'{volume_id}'")
        export = backend.export(self.lab.tgtd, volume_id)
        let_in = (name.removeprefix(INITIATOR) for name in export.let_in) if export else ()
        return State(
            *self._statuses(volume_id),
            tuple(sorted(str(status) for (status,) in rows)),
            tuple(sorted(let_in)),
        )

    def busy_backend(
        self, method: str, volume_id: str, act: Callable[[], None]
    ) -> Callable[[], None]:
        """Let the driver hang; its caller gives up after Cinder's RPC timeout."""
        faults = self.lab.storage_faults
        faults.add(Fault(method, How.HANG, volume_id=volume_id))
        with pytest.raises(IndeterminateError):
            act()
        assert faults.hanging() == 1

        def finish() -> None:
            faults.release()
            until(lambda: self._ended(method, volume_id), "the driver is done")
            self._settle(volume_id)

        return finish

    def impatient(self, volume_id: str, act: Callable[[], None]) -> Callable[[], None]:
        """Let the driver hang; nobody waits for the answer."""
        faults = self.lab.storage_faults
        faults.add(Fault("initialize_connection", How.HANG, volume_id=volume_id))
        calling = threading.Thread(target=_unheard, args=(act,))
        calling.start()
        until(faults.hanging, "the driver hangs")

        def finish() -> None:
            faults.release()
            calling.join()

        return finish

    def frozen(self, volume_id: str, act: Callable[[], None]) -> Callable[[], None]:
        """Stop the process (SIGSTOP)."""
        service = self.lab.daemons["cinder-volume"]
        service.pause()
        try:
            with pytest.raises(IndeterminateError):
                act()
        except BaseException:
            service.resume()
            raise

        def thaw() -> None:
            service.resume()
            self._settle(volume_id)

        return thaw

    def break_backend(
        self, method: str, volume_id: str, *, times: int = 1, acts: bool = False
    ) -> None:
        """Let the driver raise."""
        when = When.AFTER if acts else When.BEFORE
        fault = Fault(method, when=when, times=times, volume_id=volume_id)
        self.lab.storage_faults.add(fault)

    def faults_left(self) -> bool:
        """Tell whether a fault has not struck yet."""
        boxes = [self.lab.storage_faults, *self.lab.compute_faults.values()]
        return any(box.left() for box in boxes)

    def _made(self, volume_id: str) -> bool:
        """Tell whether Cinder has written everything down.

        It says available a moment before it says by which service: an attach within that moment
        fails in os-brick (Cinder, cinder/volume/manager.py ``create_volume``).
        """
        query = f"SELECT service_uuid FROM cinder.volumes WHERE id = '{volume_id}'"
        ((service,),) = self.lab.mariadb.execute(query)
        return service is not None and self._statuses(volume_id)[0] == "available"

    def _ended(self, method: str, volume_id: str) -> bool:
        calls = self.lab.storage_faults.calls()
        mine = [c for c in calls if (c["method"], c["volume_id"]) == (method, volume_id)]
        return bool(mine[-1]["phase"] == "end")

    def _settle(self, volume_id: str) -> None:
        """Wait until Cinder's tables stay as they are for a second."""
        seen, since = self.look(volume_id), time.monotonic()
        while time.monotonic() - since < 1.0:
            time.sleep(0.1)
            if (now := self.look(volume_id)) != seen:
                seen, since = now, time.monotonic()

    def _statuses(self, volume_id: str) -> tuple[str, str]:
        ((status, attach_status),) = self.lab.mariadb.execute(f"{STATUSES}'{volume_id}'")
        return str(status), str(attach_status)

    @functools.cache  # noqa: B019  # as long-lived as the lab, and there is one
    def _multiattach_type(self) -> str:
        specs = {"multiattach": "<is> True"}
        wanted = {"name": f"multiattach-{time.time_ns()}", "extra_specs": specs}
        made = self.admin.do("block-storage", "POST", "/types", {"volume_type": wanted})
        return str(made["volume_type"]["id"])
