"""Reads the reported situations, and sets each on the simulated cloud, with ids of its own.

The same report can be played beside several drivers at once: each playing has a backend, a volume,
servers and hosts that no other has. Notifications get the time of the playing, in their order.
"""

from __future__ import annotations

import dataclasses
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from consumer.demo.scenes import Stage
from consumer.demo.wire import TIME_FORMAT, Message
from drivers.base import Connector
from drivers.simulator import DEFAULT_BACKEND, Cloud, Service
from tests.cases.variants import VARIANTS

DATA = Path(__file__).parent / "data"
NAMES = tuple(sorted(file.stem for file in DATA.glob("*.json")))
PURPOSE = "a backup"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_RENAMED = re.compile(r"\b(compute|glance)-\d+x(\d+)")
_HOST = re.compile(r"\b(compute|glance)-(\d+)")


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """One reported situation, as its file has it or with the ids and hosts of one playing."""

    name: str
    situation: str
    expected: str
    sweep: bool
    cinder: Mapping[str, Any] | None
    backend: Sequence[Mapping[str, Any]]
    nova: Sequence[Mapping[str, Any]]
    guests: frozenset[str]
    notifications: Sequence[Mapping[str, Any]]

    @property
    def volume_id(self) -> str | None:
        """The volume that the notifications are about; None where none says which."""
        payloads = (sent["message"]["payload"] for sent in self.notifications)
        told = (_data(p).get("volume_id") for p in payloads if isinstance(p, dict))
        return next((volume_id for volume_id in told if volume_id), None)


@dataclasses.dataclass(frozen=True, slots=True)
class Cast:
    """A report on the stage: its volume there, and what the bus is going to tell.

    ``rename`` gives a host of the report's file the name that it has here.
    """

    report: Report
    cloud: Cloud
    volume_id: str
    messages: tuple[Message, ...]
    rename: Callable[[str], str]

    def plain(self, text: str) -> str:
        """Give the hosts in a text the names that they have in the file."""
        return _RENAMED.sub(r"\1-\2", text)

    @property
    def stages(self) -> Iterator[Stage]:
        """Yield a stage on each compute host of the report."""
        hosts = {s["host"] for s in self.report.nova} | {b["host"] for b in self.report.backend}
        rows = self.report.cinder["rows"] if self.report.cinder else ()
        hosts |= {row["host"] for row in rows}
        for host in sorted(host for host in hosts if host and _is_compute(self.cloud, host)):
            yield Stage(self.cloud, self.volume_id, "", host)


def read(name: str) -> Report:
    """Read one report, or a variant of one."""
    return _report(_told(name))


def _told(name: str) -> dict[str, Any]:
    like, change = VARIANTS.get(name, (name, None))
    told: dict[str, Any] = json.loads((DATA / f"{like}.json").read_text())
    if change is not None:
        change(told)
    return told


def cast(cloud: Cloud, name: str, *, number: int, backend: str) -> Cast:
    """Set a report on the stage, on this backend, with ids and hosts that only this number has."""

    def rename(text: str) -> str:
        return _HOST.sub(rf"\1-{number}x\2", text)

    text = rename(json.dumps(_told(name))).replace(DEFAULT_BACKEND, backend)
    space = uuid.uuid5(uuid.NAMESPACE_OID, str(number))
    report = _report(json.loads(_UUID.sub(lambda m: str(uuid.uuid5(space, m[0])), text)))
    volume_id = report.volume_id or str(uuid.uuid5(space, "volume"))
    _arrange(cloud, report, volume_id, backend)
    playing = Cast(report, cloud, volume_id, tuple(_messages(report)), rename)
    for arrange in ARRANGED.get(report.name, ()):
        arrange(playing)
    return playing


def _report(told: Mapping[str, Any]) -> Report:
    states = told["states before"]
    return Report(
        name=told["name"],
        situation=told["situation"],
        expected=told["expected"],
        sweep=told["config"]["sweep"],
        cinder=states["cinder"] if isinstance(states["cinder"], dict) else None,
        backend=states.get("backend", ()),
        nova=states["nova"],
        guests=frozenset(states.get("guests really holding the disk", ())),
        notifications=told["notifications"],
    )


# -- the notifications -----------------------------------------------------------------------------


def _messages(report: Report) -> Iterator[Message]:
    first = datetime.now(UTC) - timedelta(milliseconds=len(report.notifications))
    for number, sent in enumerate(report.notifications):
        at = first + timedelta(milliseconds=number)
        message = {**sent["message"], "timestamp": at.strftime(TIME_FORMAT)}
        envelope = {"oslo.version": "2.0", "oslo.message": json.dumps(message)}
        yield Message(sent["exchange"], sent["routing_key"], json.dumps(envelope).encode())


def _data(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    data: Mapping[str, Any] = payload.get("nova_object.data", payload)
    return data


# -- the three sides -------------------------------------------------------------------------------


def _arrange(cloud: Cloud, report: Report, volume_id: str, backend: str) -> None:
    for server in report.nova:
        _boot(cloud, server, report)
    if report.cinder is None:
        return
    columns = {k: report.cinder[k] for k in ("migration_status", "multiattach")}
    cloud.create_volume(volume_id, backend=backend, **columns)
    for row in report.cinder["rows"]:
        cloud.add_attachment(
            volume_id, row["status"], row["instance"],
            host=row["host"], has_connection_info=row["has_connection_info"],
            attachment_id=row["id"],
        )  # fmt: skip
    cloud.set_status(volume_id, report.cinder["status"], report.cinder["attach_status"])
    for link in report.backend:
        cloud.export(volume_id, link["host"], sessions=link["sessions"])
        if not link["access"]:
            cloud.withdraw(volume_id, cloud.connector(link["host"]))
    for server in report.nova:
        for device in server["devices"]:
            cloud.add_block_device(server["id"], volume_id, device["attachment"])
    cloud.set_volume(volume_id, opened_by=set(report.guests))


def _boot(cloud: Cloud, server: Mapping[str, Any], report: Report) -> None:
    columns = {k: server[k] for k in ("deleted", "vm_state", "task_state", "ended_on")}
    runs = server["id"] in report.guests or not server["deleted"]
    cloud.boot_server(server["id"], host=server["host"], guest_running=runs, **columns)
    if server["host"] and server["compute_up"] is False:
        cloud.set_compute(server["host"], up=False)


def _is_compute(cloud: Cloud, host: str) -> bool:
    return cloud.nova.compute_up(host, timeout_seconds=1.0) is not None


# -- what a report tells in words alone ------------------------------------------------------------


def _no_compute(host: str) -> Callable[[Cast], None]:
    def arrange(playing: Cast) -> None:
        playing.cloud.set_compute(playing.rename(host), up=None)

    return arrange


def _backed_up(playing: Cast) -> None:
    """Name the temporary volume as Cinder does, and have its source be backed up.

    Cinder, cinder/volume/driver.py ``_create_temp_volume``: ``backup-vol-`` and the source's id.
    """
    cloud = playing.cloud
    source = cloud.create_volume(status="backing-up", attach_status="attached")
    _copied(playing, f"backup-vol-{source}")


def _reverted(playing: Cast) -> None:
    """Name it as Cinder does that copies a snapshot back (``_revert_to_snapshot_generic``)."""
    playing.cloud.create_volume(status="reverting", attach_status="detached")
    _copied(playing, f"[revert] temporary volume created from snapshot {uuid.uuid4()}")


def _copied(playing: Cast, name: str) -> None:
    cloud = playing.cloud
    cloud.set_volume(playing.volume_id, display_name=name)
    (link,) = playing.report.backend
    cloud.unexport(playing.volume_id, link["host"])
    cloud.export(playing.volume_id, link["host"], sessions=link["sessions"], purpose=PURPOSE)


def _service_removed(playing: Cast) -> None:
    volume = playing.cloud.cinder.volume(playing.volume_id, timeout_seconds=1.0)
    assert volume is not None
    playing.cloud.set_service(Service.DOWN, volume.ref.backend or "")


def _backend_knows_nothing(playing: Cast) -> None:
    playing.cloud.forget_on_backend(playing.volume_id)


def _never_had(playing: Cast) -> None:
    """Have this Nova deny the server as one that it never had: it is another region's."""
    (server,) = playing.report.nova
    playing.cloud.set_server(server["id"], on_record=False)


def _ended_where_it_was(playing: Cast) -> None:
    """Have Nova's record say what the report does: the guest was ended on that host."""
    (server,) = playing.report.nova
    playing.cloud.set_server(server["id"], ended_on=server["host"])


def _deleted_by_the_api(playing: Cast) -> None:
    """Have Nova's record name the request that Cinder's messages carry, as it does."""
    (server,) = playing.report.nova
    sent = next(s for s in playing.report.notifications if s["exchange"] == "cinder")
    request = sent["message"]["_context_global_request_id"]
    playing.cloud.set_server(server["id"], deleted_by=(request,))


def _of_vmware(playing: Cast) -> None:
    """Have the host present itself by the address of its vCenter, as Nova's VMware driver does."""
    (row,), (link,) = playing.report.cinder["rows"], playing.report.backend
    known = playing.cloud.connector(link["host"])
    vcenter = Connector(host=row["host"], initiator=known.initiator, ip=row["host"])
    playing.cloud.set_attachment(row["id"], connector=vcenter, attached_host=row["host"])


ARRANGED: Mapping[str, Sequence[Callable[[Cast], None]]] = MappingProxyType(
    {
        "backup_temp_volume": (_no_compute("compute-1-backup"), _backed_up),
        "backup_temp_volume_hci": (_backed_up,),
        "clean_but_service_removed": (_service_removed,),
        "evacuated_host_removed": (_no_compute("compute-2"),),
        "failed_over": (_backend_knows_nothing,),
        "glance_store_attached": (_no_compute("glance-1"),),
        "host_attach_detaching_clean": (_no_compute("compute-5-other"),),
        "local_delete_guest_runs": (_deleted_by_the_api,),
        "ironic_node_attached": (_no_compute("compute-16-other"),),
        "ironic_node_session": (_no_compute("compute-15-other"),),
        "other_region_opened_no_session": (_never_had,),
        "reverted_temp_volume_hci": (_reverted,),
        "unshelve_then_deleted": (_ended_where_it_was,),
        "vmware_host": (_of_vmware,),
    }
)

OF_THE_BACKEND = ("clean_but_service_removed",)
"""Situations that befall a whole backend, and so have one of their own."""
