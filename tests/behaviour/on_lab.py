"""The lab as a ground."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Mapping
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
from tests.behaviour.lab_servers import LabServers
from tests.lab import backend, clients
from tests.lab.inside.faults import Fault, How, When
from tests.lab.openstack import OpenStack, address_of, until
from tests.lab.rest import Answer, Rest

INITIATOR = "iqn.1993-08.org.debian:01:"
NEWEST = "3.71"
ROWS = "SELECT attach_status FROM cinder.volume_attachment WHERE NOT deleted AND volume_id = "
STATUSES = "SELECT status, attach_status FROM cinder.volumes WHERE id = "
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


class LabGround:
    """A running lab; faults are cleared when a test is done with it.

    ``wanted`` is what is asked of Cinder besides a size when a volume is made.
    """

    wanted: Mapping[str, Any] = {}

    def __init__(self, lab: OpenStack) -> None:
        self.lab = lab
        self.servers = LabServers(lab)
        self.admin = lab.rest("admin")
        self.others = LabOthers(self.admin)
        user, service = lab.credentials("detachd"), lab.credentials("detachd-service")
        self.cinder = clients.cinder(user)
        self.vouching = clients.cinder(user, vouching=service)
        self.vouching_on_order = clients.cinder(user, vouching=service, always=False)
        self.nova = clients.nova(user)

    def clean_up(self) -> None:
        """Take back the faults that a test has set, and end what hangs."""
        self.lab.storage_faults.clear()
        for faults in self.lab.compute_faults.values():
            faults.clear()

    def forget_volumes(self) -> None:
        """Take what other tests left out of Cinder's database, where a sweep would find it.

        Their servers are gone as well, so that whoever looks has to ask about each again and again.
        """
        tables = ("volume_attachment", "volumes")
        self.lab.mariadb.execute(
            *(f"UPDATE cinder.{table} SET deleted = 1 WHERE NOT deleted" for table in tables)
        )

    def connector(self, host: str) -> Connector:
        """Return the connector of a host, as the lab's nova-compute presents it."""
        return Connector(host=host, initiator=f"{INITIATOR}{host}", ip=address_of(host))

    def volume(self, *, multiattach: bool = False) -> str:
        """Make an available volume."""
        wanted: dict[str, Any] = {"size": 1, **self.wanted}
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
        """Look at a volume from all sides: at Cinder's tables and at the backend."""
        attachments = self.lab.mariadb.execute(f"{ROWS}'{volume_id}'")
        return State(
            *self._statuses(volume_id),
            tuple(sorted(str(status) for (status,) in attachments)),
            self.let_in(volume_id),
        )

    def let_in(self, volume_id: str) -> tuple[str, ...]:
        """Return the hosts that tgtd lets in."""
        export = backend.export(self.lab.tgtd, volume_id)
        let_in = (name.removeprefix(INITIATOR) for name in export.let_in) if export else ()
        return tuple(sorted(let_in))

    def busy_backend(
        self, method: str, volume_id: str, act: Callable[[], None]
    ) -> Callable[[], None]:
        """Let the driver hang; its caller gives up after Cinder's RPC timeout."""
        faults = self.lab.storage_faults
        faults.add(Fault(method, How.HANG, subject=volume_id))
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
        faults.add(Fault("initialize_connection", How.HANG, subject=volume_id))
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
        fault = Fault(method, when=when, times=times, subject=volume_id)
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
        mine = [c for c in calls if (c["method"], c["subject"]) == (method, volume_id)]
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
