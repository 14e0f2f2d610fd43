"""detachd's clients against the real Cinder, Nova and Keystone."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.behaviour.ground import HOSTS, TIMEOUT_SECONDS
from tests.behaviour.on_lab import LabGround
from tests.behaviour.states import call
from tests.lab import clients
from tests.lab.openstack import OpenStack, until
from tests.lab.users import Users

HOST = HOSTS[0]
THREADS = 6


@pytest.fixture
def ground(openstack: OpenStack) -> Iterator[LabGround]:
    """Give the lab as the behaviour suite has it."""
    ground = LabGround(openstack)
    yield ground
    ground.clean_up()


def test_our_request_id_is_in_their_logs(openstack: OpenStack, ground: LabGround) -> None:
    """A write with our request id -> Cinder's log has it, and with Nova's detach Cinder's too."""
    volume_id, asked = ground.volume(), call()
    ground.cinder.reserve(volume_id, **asked)
    _wait_for_word_in_log(openstack, "cinder-api", asked["request_id"])
    ground.cinder.unreserve(volume_id, **call())
    server_id = ground.servers.shared(HOST)
    assert ground.servers.attach(volume_id, server_id)
    asked = call()
    ground.nova.detach(server_id, volume_id, **asked)
    for name in ("nova-api", HOST, "cinder-api"):
        _wait_for_word_in_log(openstack, name, asked["request_id"])


def _wait_for_word_in_log(lab: OpenStack, name: str, word: str) -> None:
    log = lab.daemons[name].directory / "log"
    until(lambda: word in log.read_text(), f"{name} has logged {word}")


def test_block_device_without_attachment_is_seen(openstack: OpenStack, ground: LabGround) -> None:
    """Nova's record names no attachment, and hides at 2.89 -> our client sees it all the same."""
    server_id, volume_id = ground.servers.boot(HOST), ground.volume()
    assert ground.servers.attach(volume_id, server_id)
    openstack.mariadb.execute(
        "UPDATE nova.block_device_mapping SET attachment_id = NULL "
        f"WHERE NOT deleted AND volume_id = '{volume_id}'"
    )
    assert not ground.servers.has_device(volume_id, server_id)
    server = ground.nova.server(server_id, volume_id, timeout_seconds=TIMEOUT_SECONDS)
    assert server is not None
    assert [device.attachment_id for device in server.block_devices] == [None]


def test_lists_are_whole_page_by_page(ground: LabGround) -> None:
    """Three volumes and three rows in transition, pages of one -> each is listed, once."""
    reserved = {ground.volume() for _ in range(3)}
    for volume_id in reserved:
        ground.cinder.reserve(volume_id, **call())
    volumes = [ground.volume() for _ in range(3)]
    rows = {ground.others.create_attachment(v, str(uuid.uuid4())) for v in volumes}

    def volumes_after(after: str | None) -> list[str]:
        page = ground.cinder.volumes_in(
            "attaching", after=after, limit=1, timeout_seconds=TIMEOUT_SECONDS
        )
        return [listed.volume_id for listed in page]

    def rows_after(after: str | None) -> list[str]:
        page = ground.cinder.attachments_in(
            "reserved", after=after, limit=1, timeout_seconds=TIMEOUT_SECONDS
        )
        return [listed.attachment_id for listed in page]

    listed = _all_pages(volumes_after)
    assert [listed.count(volume_id) for volume_id in reserved] == [1, 1, 1]
    listed = _all_pages(rows_after)
    assert [listed.count(row) for row in rows] == [1, 1, 1]
    assert ground.cinder.count_volumes(timeout_seconds=TIMEOUT_SECONDS) >= 6


def _all_pages(page_after: Callable[[str | None], list[str]]) -> list[str]:
    listed: list[str] = []
    while page := page_after(listed[-1] if listed else None):
        listed += page
    return listed


def test_tokens_revoked(openstack: OpenStack, ground: LabGround) -> None:
    """Every token of our user is revoked, several threads ask at once -> each gets its answer."""
    user = openstack.credentials("detachd")
    cinder, nova = clients.cinder(user), clients.nova(user)
    keystone, volume_id = Users(openstack), ground.volume()
    server_id = ground.servers.shared(HOST)

    def look() -> tuple[object, object]:
        return (
            cinder.volume(volume_id, timeout_seconds=TIMEOUT_SECONDS),
            nova.server(server_id, volume_id, timeout_seconds=TIMEOUT_SECONDS),
        )

    before = look()
    keystone.revoke_tokens("detachd")
    keystone.forgotten_by_the_apis()
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: look(), range(THREADS)))
    assert [answer[1] for answer in answers] == [before[1]] * THREADS
    assert all(answer[0] is not None for answer in answers)
    cinder.reserve(volume_id, **call())
