"""The lab itself: what it puts on the bus, whom its backend lets in, what survives what."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import amqp
import pytest

from drivers.errors import IndeterminateError, PermanentError
from tests.behaviour.on_lab import INITIATOR, LabGround
from tests.behaviour.states import call, detaching
from tests.lab import clients, usage
from tests.lab.inside.faults import ALWAYS, Fault
from tests.lab.openstack import OpenStack, until
from tests.lab.servers import Servers
from tests.services.initiator import Initiators

HOST = "lab-compute-2"
KEYS = [
    f"{topic}.{priority}"
    for topic in ("notifications", "versioned_notifications")
    for priority in ("info", "error")
]


@pytest.fixture(scope="module")
def servers(openstack: OpenStack) -> Servers:
    """Give the servers of the lab."""
    return Servers(openstack)


@pytest.fixture(scope="module")
def server_id(servers: Servers) -> str:
    """Boot one server for all tests here."""
    return servers.boot(HOST)


@pytest.fixture
def ground(openstack: OpenStack) -> Iterator[LabGround]:
    """Give the lab as the behaviour suite has it."""
    ground = LabGround(openstack)
    yield ground
    ground.clean_up()


@contextmanager
def heard(lab: OpenStack) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Listen to both exchanges; what was said is in the list when the block is left."""
    said: list[tuple[str, dict[str, Any]]] = []
    with amqp.Connection(f"127.0.0.1:{lab.rabbitmq.port}") as connection:
        channel = connection.channel()
        queue = channel.queue_declare(exclusive=True).queue
        for exchange in ("cinder", "nova"):
            for key in KEYS:
                channel.queue_bind(queue, exchange, key)
        yield said
        while (message := channel.basic_get(queue, no_ack=True)) is not None:
            inner = json.loads(json.loads(message.body)["oslo.message"])
            said.append((message.delivery_info["exchange"], inner))


def test_an_attach_is_heard_in_every_format(
    openstack: OpenStack, servers: Servers, server_id: str, ground: LabGround
) -> None:
    """A volume is attached -> Cinder's and Nova's messages, in order, tied by the request id."""
    volume_id = ground.volume()
    with heard(openstack) as said:
        assert ground.servers.attach(volume_id, server_id)
        until(lambda: not servers.show(server_id)["OS-EXT-STS:task_state"], "Nova is done")
    wanted = {
        ("nova", "instance.volume_attach.start"),
        ("cinder", "volume.attach.start"),
        ("cinder", "volume.attach.end"),
        ("nova", "compute.instance.volume.attach"),
        ("nova", "instance.volume_attach.end"),
    }
    mine = [(exchange, inner) for exchange, inner in said if _about(inner, volume_id)]
    assert [(exchange, inner["event_type"]) for exchange, inner in mine][:3] == [
        ("nova", "instance.volume_attach.start"),
        ("cinder", "volume.attach.start"),
        ("cinder", "volume.attach.end"),
    ]
    assert {(exchange, inner["event_type"]) for exchange, inner in mine} == wanted
    ids = {inner["_context_request_id"] for exchange, inner in mine if exchange == "nova"}
    assert len(ids) == 1
    assert ids == {
        inner["_context_global_request_id"] for exchange, inner in mine if exchange == "cinder"
    }


def _about(inner: dict[str, Any], volume_id: str) -> bool:
    payload = inner["payload"]
    if inner["event_type"].startswith("volume.create"):  # Cinder may tell of it a moment late
        return False
    return volume_id in (
        payload.get("volume_id"),
        payload.get("nova_object.data", {}).get("volume_id"),
    )


def test_only_who_is_let_in_can_log_in(
    openstack: OpenStack, server_id: str, ground: LabGround, initiators: Initiators
) -> None:
    """Attached -> its host logs in and writes, a stranger is refused; detached -> it is cut off."""
    volume_id = ground.volume()
    assert ground.servers.attach(volume_id, server_id)
    target, name = f"iqn.2010-10.org.openstack:volume-{volume_id}", f"{INITIATOR}{HOST}"
    host = initiators.start(openstack.tgtd.url, target, name).logged_in()
    stranger = initiators.start(openstack.tgtd.url, target, "iqn.2026-01.lab:stranger")
    assert stranger.ended() == 3
    export = openstack.export(volume_id)
    assert export is not None
    assert export.let_in == {name}
    assert export.sessions == (name,)
    ground.nova.detach(server_id, volume_id, **call())
    assert host.ended() == 4
    until(lambda: openstack.export(volume_id) is None, "the target is gone")


def test_guests_survive_the_death_of_their_compute(
    openstack: OpenStack, servers: Servers, server_id: str, ground: LabGround
) -> None:
    """nova-compute is killed -> its guests run on with their disks; started again it knows them."""
    volume_id = ground.volume()
    assert ground.servers.attach(volume_id, server_id)
    compute = openstack.daemons[HOST]
    compute.kill()
    compute.start()
    assert servers.holding(volume_id) == (server_id,)
    assert servers.status(server_id) == "ACTIVE"
    until(lambda: _compute_is_up(ground, server_id, volume_id), "Nova has heard from the compute")
    ground.nova.detach(server_id, volume_id, **call())
    until(lambda: servers.holding(volume_id) == (), "the guest lets go")


def _compute_is_up(ground: LabGround, server_id: str, volume_id: str) -> bool:
    server = ground.nova.server(server_id, volume_id, timeout_seconds=30)
    return server is not None and server.compute_up is True


def test_a_root_disk_stays(servers: Servers, server_id: str, ground: LabGround) -> None:
    """Nova asked to detach the root disk -> refused for good, which is no conflict."""
    (root,) = [volume for volume in servers.devices(server_id) if _is_root(ground, volume)]
    with pytest.raises(PermanentError) as refused:
        ground.nova.detach(server_id, root, **call())
    assert type(refused.value) is PermanentError


def _is_root(ground: LabGround, volume_id: str) -> bool:
    shown = ground.admin.do("block-storage", "GET", f"/volumes/{volume_id}")
    return bool(shown["volume"]["bootable"] == "true")


def test_uninitialised_driver(openstack: OpenStack, ground: LabGround) -> None:
    """The driver cannot be set up -> DELETE changes nothing, os-detach marks the row; mended later.

    Cinder's services list says ``up`` all the while.
    """
    deleted, marked = detaching(ground), detaching(ground)
    service = openstack.daemons["cinder-volume"]
    openstack.storage_faults.add(Fault("check_for_setup_error", times=ALWAYS))
    try:
        _restart(service)
        with pytest.raises(IndeterminateError):
            ground.cinder.delete_attachment(deleted.attachment, **call())
        assert ground.look(deleted.volume_id).attachments == ("attached",)
        with pytest.raises(IndeterminateError):
            ground.others.detach(marked.volume_id, None)
        assert ground.look(marked.volume_id).attachments == ("error_detaching",)
        volume = ground.cinder.volume(marked.volume_id, timeout_seconds=30)
        assert volume is not None
        assert volume.service_up
    finally:
        openstack.storage_faults.clear()
        _restart(service)
    ground.cinder.delete_attachment(deleted.attachment, **call())
    connector = ground.connector("lab-compute-1")
    ground.cinder.force_detach(marked.volume_id, marked.attachment, connector, **call())
    for scene in (deleted, marked):
        assert ground.look(scene.volume_id).status == "available"


def _restart(service: Any) -> None:
    service.kill()
    service.start()


def test_a_member_sees_its_own_only(openstack: OpenStack, ground: LabGround) -> None:
    """A user without the role admin -> detachd's client says so, and sees no empty cloud."""
    member = clients.cinder(openstack.credentials("member"))
    with pytest.raises(PermanentError, match="role"):
        member.volume(ground.volume(), timeout_seconds=30)
    with pytest.raises(PermanentError, match="role"):
        member.volume(str(uuid.uuid4()), timeout_seconds=30)


def test_the_page_of_make_lab(openstack: OpenStack, tmp_path: Path) -> None:
    """What make lab writes -> for its owner only; Cinder's own command works with it."""
    usage.write(openstack, tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert "1.json" in (tmp_path / usage.FILE).read_text()
    script = f". {tmp_path / 'openrc'} && {openstack.environment / 'bin' / 'cinder'} service-list"
    shown = subprocess.run(
        ["/bin/sh", "-c", script], check=True, capture_output=True, text=True, env=dict(os.environ)
    )
    assert "lab-storage@tgt" in shown.stdout
