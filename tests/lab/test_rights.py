"""``detachd doctor --try-writes`` on the real Cinder: which writes tell a policy, and how."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.cli.installation import rights
from consumer.cli.installation.rights import TRIAL_MARK
from consumer.cloud import control_plane
from consumer.findings import Level
from consumer.settings.configuration import load
from drivers.errors import NotFoundError, PermanentError
from tests.behaviour.ground import HOSTS
from tests.behaviour.on_lab import LabGround
from tests.behaviour.states import call
from tests.behaviour.test_nova import attached, attachment_of
from tests.lab import clients
from tests.lab.openstack import OpenStack

POLICY = """\
"volume_extension:volume_actions:reserve": "!"
"volume:attachment_delete": "!"
"volume:attachment_complete": "!"
"""
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def ground(openstack: OpenStack) -> Iterator[LabGround]:
    """Give the lab as the behaviour suite has it."""
    made = LabGround(openstack)
    yield made
    made.clean_up()


@contextlib.contextmanager
def forbidding(lab: OpenStack) -> Iterator[None]:
    """Have Cinder refuse some of our writes to everybody."""
    api = lab.daemons["cinder-api"]
    file = api.directory / "policy.yaml"
    file.write_text(POLICY)
    try:
        api.restart()
        yield
    finally:
        file.unlink()
        api.restart()


def on_trial(ground: LabGround) -> str:
    """Make a volume as a person makes one for this."""
    volume_id = ground.volume()
    body = {"metadata": {TRIAL_MARK: "true"}}
    ground.admin.do("block-storage", "POST", f"/volumes/{volume_id}/metadata", body)
    return volume_id


def test_roles_of_the_service_user_are_told(openstack: OpenStack, tmp_path: Path) -> None:
    """The lab's service user, and one with a wrong password -> its roles, and an error."""
    path = tmp_path / "detachd.conf"
    user, service = (openstack.credentials(n) for n in ("detachd", "detachd-service"))
    for password, levels in ((service.password, [Level.GOOD]), ("wrong", [Level.ERROR])):
        vouching = dataclasses.replace(service, password=password)
        path.write_text(clients.sections(user, vouching, always=False))
        found = list(rights.of_service_user(control_plane(load([path]))))
        assert [f.level for f in found] == levels
    assert "check the credentials in [cinder] and [service_user]" in found[0].said


def test_writes_are_tried_on_a_volume_that_was_made_for_it(ground: LabGround) -> None:
    """An admin -> each is permitted, and the volume is as it was."""
    volume_id = on_trial(ground)
    before = ground.look(volume_id)
    found = list(rights._writes(ground.cinder, volume_id))
    assert [f.level for f in found] == [Level.GOOD] * 3
    assert ground.look(volume_id) == before
    ground.delete_volume(volume_id)


def test_cinder_asks_its_policy_after_the_lookup_and_before_the_status(
    openstack: OpenStack, ground: LabGround
) -> None:
    """Forbidden -> 403 of what exists, in any status; a made-up id is 404, so it tells nothing."""
    server_id, volume_id = ground.servers.boot(HOSTS[0]), on_trial(ground)
    used = attached(ground, server_id)
    row = attachment_of(ground, used)
    before = ground.look(used)
    with forbidding(openstack):
        levels = [f.level for f in rights._writes(ground.cinder, volume_id)]
        assert levels == [Level.GOOD, Level.ERROR, Level.NOTE]
        for forbidden in (
            lambda: ground.cinder.reserve(used, **call()),
            lambda: ground.cinder.delete_attachment(row, **call()),
            lambda: ground.cinder.complete(row, **call()),
        ):
            with pytest.raises(PermanentError, match="403"):
                forbidden()
        for tells_nothing in (
            lambda: ground.cinder.reserve(NOBODY, **call()),
            lambda: ground.cinder.complete(NOBODY, **call()),
        ):
            with pytest.raises(NotFoundError):
                tells_nothing()
        ground.cinder.delete_attachment(NOBODY, **call())  # a row that is gone is success
    assert ground.look(used) == before
    ground.delete_volume(volume_id)
