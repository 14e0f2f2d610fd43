"""The lab's second backend: Cinder's own RBD driver, images on a real Ceph."""

from __future__ import annotations

import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.behaviour.ground import State
from tests.behaviour.on_ceph import CephGround
from tests.behaviour.on_lab import LabGround
from tests.lab.ceph_backend import CephBackend, bindings
from tests.lab.environment import LabMissingError
from tests.lab.openstack import OpenStack, address_of, until
from tests.services.rbd_clients import RbdClients

HOST = "lab-compute-1"
ROW = "SELECT connection_info, connector FROM cinder.volume_attachment WHERE NOT deleted AND "


def test_another_python_is_said_to_have_no_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab's Python is not of Debian's minor version -> a reason to skip, no failing Cinder."""
    monkeypatch.setattr(sysconfig, "get_config_var", lambda _: ".cpython-399-x86_64-linux-gnu.so")
    with pytest.raises(LabMissingError, match=r"rados\.cpython-399.*are for the Python of Debian"):
        bindings()


@pytest.fixture(scope="module")
def ground(openstack: OpenStack, ceph_backend: CephBackend) -> Iterator[CephGround]:
    """Give the lab as the behaviour suite has it."""
    ground = CephGround(openstack, ceph_backend)
    yield ground
    ground.clean_up()


@pytest.fixture(scope="module")
def server_id(ground: CephGround) -> str:
    """Boot one server for all tests here."""
    return ground.servers.boot(HOST)


def test_connection_is_cinder_s_own_and_lets_nobody_in(ground: CephGround, server_id: str) -> None:
    """Nova attaches a volume -> Cinder tells where the image is, and nobody has it open by that."""
    volume_id = ground.volume()
    assert ground.servers.attach(volume_id, server_id)
    assert ground.look(volume_id) == State("in-use", "attached", ("attached",))
    ((told, given),) = ground.lab.mariadb.execute(f"{ROW}volume_id = '{volume_id}'")
    connection, connector = json.loads(str(told)), json.loads(str(given))
    assert connection["driver_volume_type"] == "rbd"
    assert connection["name"] == ground.backend.image(volume_id)
    assert (connector["host"], connector["ip"]) == (HOST, address_of(HOST))


def test_detach_of_cinder_s_driver_ends_no_client(
    ground: CephGround, server_id: str, tmp_path: Path
) -> None:
    """A client goes on when Nova and Cinder have detached -> available, and it writes on."""
    volume_id = ground.volume()
    assert ground.servers.attach(volume_id, server_id)
    with RbdClients(ground.backend.ceph, tmp_path) as clients:
        client = clients.start(ground.backend.image(volume_id), address=address_of(HOST)).opened()
        ground.servers.ask_detach(volume_id, server_id)
        left = State("available", "detached", let_in=(HOST,))
        until(lambda: ground.look(volume_id) == left, "Cinder has let it go")
        assert client.makes_progress()


def test_whoever_does_not_ask_for_it_gets_the_other_backend(
    openstack: OpenStack, ground: CephGround
) -> None:
    """A volume without a zone -> it is no image."""
    volume_id = LabGround(openstack).volume()
    assert f"volume-{volume_id}" not in ground.backend.ceph.rbd("ls", "volumes")
