"""Nova's answers, and what an attach or a detach through it leaves, on both clouds."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import pytest

from drivers.control_plane import BlockDevice, CinderAttachment, DeletedServer, Server
from drivers.errors import ConflictError, IndeterminateError, NotFoundError, TransientError
from tests.behaviour.ground import HOSTS, TIMEOUT_SECONDS, Ground, State
from tests.behaviour.states import call

FIRST, SECOND = HOSTS
FREE = State("available", "detached")
ATTACHED = State("in-use", "attached", ("attached",), (FIRST,))
STUCK = State("detaching", "attached", ("attached",), (FIRST,))
TRIES = 5


def eventually(ground: Ground, volume_id: str, state: State, *holders: str) -> None:
    """Wait until a volume is in a state, guests hold it or not, and every fault has struck."""
    ends_at = time.monotonic() + TIMEOUT_SECONDS
    while True:
        seen = (ground.look(volume_id), ground.servers.holding(volume_id), ground.faults_left())
        if seen == (state, holders, False):
            return
        assert time.monotonic() < ends_at, seen
        time.sleep(0.1)


def comes_to(ask: Callable[[], object], wanted: object) -> None:
    """Ask until this is the answer: Nova forgets a block device after Cinder calls it free."""
    ends_at = time.monotonic() + TIMEOUT_SECONDS
    while (answer := ask()) != wanted:
        assert time.monotonic() < ends_at, answer
        time.sleep(0.1)


def devices_of(ground: Ground, server_id: str, volume_id: str) -> tuple[BlockDevice, ...]:
    """Ask Nova for the block devices that a server has for a volume."""
    return told(ground, server_id, volume_id).block_devices


def told(ground: Ground, server_id: str, volume_id: str) -> Server:
    """Ask Nova for a server that is there."""
    server = ground.nova.server(server_id, volume_id, timeout_seconds=TIMEOUT_SECONDS)
    assert server is not None
    return server


def attachment_of(ground: Ground, volume_id: str) -> str:
    """Return the only row of a volume."""
    volume = ground.cinder.volume(volume_id, timeout_seconds=TIMEOUT_SECONDS)
    assert volume is not None
    (attachment,) = volume.attachments
    return attachment.attachment_id


def attached(ground: Ground, server_id: str) -> str:
    """Attach a new volume to a server."""
    volume_id = ground.volume()
    assert ground.servers.attach(volume_id, server_id)
    return volume_id


def detach(ground: Ground, server_id: str, volume_id: str) -> None:
    """Ask Nova to detach."""
    ground.nova.detach(server_id, volume_id, **call())


def test_attached_then_detached(ground: Ground) -> None:
    """The healthy way -> Nova names the row; then nobody has anything, Nova names nothing."""
    server_id = ground.servers.shared(FIRST)
    volume_id = attached(ground, server_id)
    eventually(ground, volume_id, ATTACHED, server_id)
    server = told(ground, server_id, volume_id)
    (device,) = server.block_devices
    volume = ground.cinder.volume(volume_id, timeout_seconds=TIMEOUT_SECONDS)
    assert volume is not None
    assert volume.service_up
    (attachment,) = volume.attachments
    assert attachment == CinderAttachment(
        str(device.attachment_id),
        "attached",
        server_id,
        has_connection_info=True,
        host=FIRST,
        protocol=attachment.protocol,
    )
    assert attachment.protocol in (None, "iscsi")  # the simulated cloud has no protocols
    assert (server.vm_state, server.task_state, server.launched) == ("active", None, True)
    assert (server.host, server.compute_up) == (FIRST, True)
    detach(ground, server_id, volume_id)
    eventually(ground, volume_id, FREE)
    comes_to(lambda: devices_of(ground, server_id, volume_id), ())


def test_nova_knows_no_such_server(ground: Ground) -> None:
    """An instance that never was -> None, nothing on record; a detach from it -> not found."""
    nobody, volume_id = str(uuid.uuid4()), ground.volume()
    assert ground.nova.server(nobody, volume_id, timeout_seconds=TIMEOUT_SECONDS) is None
    assert ground.nova.deleted_server(nobody, timeout_seconds=TIMEOUT_SECONDS) is None
    assert ground.nova.volumes_of(nobody, timeout_seconds=TIMEOUT_SECONDS) is None
    with pytest.raises(NotFoundError):
        detach(ground, nobody, volume_id)


def test_detach_of_what_nova_does_not_have(ground: Ground) -> None:
    """A server without the volume -> not found."""
    with pytest.raises(NotFoundError):
        detach(ground, ground.servers.shared(FIRST), ground.volume())


def test_detach_of_what_nobody_has(ground: Ground) -> None:
    """A volume that does not exist, as `detachd doctor` asks -> not found, and all stays."""
    server_id = ground.servers.shared(FIRST)
    volume_id = attached(ground, server_id)
    eventually(ground, volume_id, ATTACHED, server_id)
    held = ground.nova.volumes_of(server_id, timeout_seconds=TIMEOUT_SECONDS)
    with pytest.raises(NotFoundError):
        detach(ground, server_id, str(uuid.uuid4()))
    assert ground.nova.volumes_of(server_id, timeout_seconds=TIMEOUT_SECONDS) == held
    assert held is not None
    assert volume_id in held
    assert ground.look(volume_id) == ATTACHED
    assert ground.servers.holding(volume_id) == (server_id,)
    assert told(ground, server_id, volume_id).task_state is None


@pytest.mark.parametrize("status", ["available", "attaching", "reserved", "error", "maintenance"])
def test_detach_refused_by_the_volumes_status(ground: Ground, status: str) -> None:
    """Cinder's status is not in-use -> refused as a conflict, and nothing has changed."""
    server_id = ground.servers.shared(FIRST)
    volume_id = attached(ground, server_id)
    ground.others.reset_status(volume_id, status)
    with pytest.raises(ConflictError):
        detach(ground, server_id, volume_id)
    before = State(status, "attached", ("attached",), (FIRST,))
    eventually(ground, volume_id, before, server_id)


def test_detach_asked_twice(ground: Ground) -> None:
    """A detach that got stuck -> the second one is refused, until it is rolled back."""
    server_id = ground.servers.shared(FIRST)
    volume_id = attached(ground, server_id)
    ground.break_backend("terminate_connection", volume_id, times=TRIES)
    detach(ground, server_id, volume_id)
    eventually(ground, volume_id, STUCK)
    assert len(told(ground, server_id, volume_id).block_devices) == 1
    with pytest.raises(ConflictError):
        detach(ground, server_id, volume_id)
    ground.cinder.roll_detaching(volume_id, **call())
    detach(ground, server_id, volume_id)
    eventually(ground, volume_id, FREE)


def test_nova_tries_five_times(ground: Ground) -> None:
    """The backend fails four times -> the fifth try detaches."""
    server_id = ground.servers.shared(FIRST)
    volume_id = attached(ground, server_id)
    ground.break_backend("terminate_connection", volume_id, times=TRIES - 1)
    detach(ground, server_id, volume_id)
    eventually(ground, volume_id, FREE)


def test_guest_refuses(ground: Ground) -> None:
    """The guest does not let go -> in-use again, everything as it was."""
    server_id = ground.servers.shared(FIRST)
    volume_id = attached(ground, server_id)
    ground.servers.refuse_to_let_go(server_id)
    detach(ground, server_id, volume_id)
    eventually(ground, volume_id, ATTACHED, server_id)
    detach(ground, server_id, volume_id)
    eventually(ground, volume_id, FREE)


@pytest.mark.parametrize("vm_state", ["paused", "stopped"])
def test_detach_in_a_state_that_allows_it(ground: Ground, vm_state: str) -> None:
    """A server that is paused or stopped -> detached as ever."""
    server_id = ground.servers.shared(FIRST)
    volume_id = attached(ground, server_id)
    with ground.servers.in_state(server_id, vm_state):
        assert told(ground, server_id, volume_id).vm_state == vm_state
        detach(ground, server_id, volume_id)
        eventually(ground, volume_id, FREE)


@pytest.mark.parametrize("vm_state", ["suspended", "error"])
def test_detach_in_a_state_that_forbids_it(ground: Ground, vm_state: str) -> None:
    """A server that is suspended or in error -> refused, nothing has changed."""
    server_id = ground.servers.shared(FIRST)
    volume_id = attached(ground, server_id)
    with ground.servers.in_state(server_id, vm_state):
        with pytest.raises(ConflictError):
            detach(ground, server_id, volume_id)
        eventually(ground, volume_id, ATTACHED, server_id)


def test_detach_from_a_locked_server(ground: Ground) -> None:
    """A lock -> does not stop an administrator, which detachd is."""
    server_id = ground.servers.shared(FIRST)
    volume_id = attached(ground, server_id)
    with ground.servers.locked(server_id):
        detach(ground, server_id, volume_id)
        eventually(ground, volume_id, FREE)


def test_detach_with_the_compute_down(ground: Ground) -> None:
    """Its compute service is down -> Nova says so, and refuses."""
    server_id = ground.servers.shared(SECOND)
    volume_id = attached(ground, server_id)
    there = State("in-use", "attached", ("attached",), (SECOND,))
    with ground.servers.compute_down(SECOND):
        assert told(ground, server_id, volume_id).compute_up is False
        with pytest.raises(ConflictError):
            detach(ground, server_id, volume_id)
        eventually(ground, volume_id, there, server_id)
    detach(ground, server_id, volume_id)
    eventually(ground, volume_id, FREE)


def test_shelved_server_keeps_its_reservation(ground: Ground) -> None:
    """Shelved -> reserved with one reserved row, which Nova names, on no host; that is healthy."""
    server_id = ground.servers.boot(FIRST)
    volume_id = attached(ground, server_id)
    ground.servers.shelve(server_id)
    eventually(ground, volume_id, State("reserved", "reserved", ("reserved",)))
    server = told(ground, server_id, volume_id)
    assert (server.vm_state, server.host, server.compute_up) == ("shelved_offloaded", None, None)
    assert server.block_devices[0].attachment_id == attachment_of(ground, volume_id)


def test_detach_from_a_shelved_server(ground: Ground) -> None:
    """Nova asked to detach from a shelved server -> it does, whatever Cinder's status is."""
    server_id = ground.servers.boot(FIRST)
    volume_id = attached(ground, server_id)
    ground.servers.shelve(server_id)
    detach(ground, server_id, volume_id)
    eventually(ground, volume_id, FREE)
    comes_to(lambda: devices_of(ground, server_id, volume_id), ())


def test_attach_fails_at_the_backend(ground: Ground) -> None:
    """The backend refuses five times -> Nova has cleaned up: nothing is left anywhere."""
    server_id, volume_id = ground.servers.shared(FIRST), ground.volume()
    ground.break_backend("initialize_connection", volume_id, times=TRIES)
    assert not ground.servers.attach(volume_id, server_id)
    eventually(ground, volume_id, FREE)
    comes_to(lambda: devices_of(ground, server_id, volume_id), ())


def test_server_deleted(ground: Ground) -> None:
    """The server is deleted -> the volume is free, Nova knows no server; a host ended its guest."""
    server_id = ground.servers.boot(FIRST)
    volume_id = attached(ground, server_id)
    ground.servers.delete(server_id)
    eventually(ground, volume_id, FREE)
    assert ground.nova.server(server_id, volume_id, timeout_seconds=TIMEOUT_SECONDS) is None
    on_record = ground.nova.deleted_server(server_id, timeout_seconds=TIMEOUT_SECONDS)
    assert on_record is not None
    assert (on_record.ended_on, on_record.never_built) == (FIRST, False)


def test_server_that_is_there_is_on_record_too(ground: Ground) -> None:
    """A server that Nova shows -> Nova has its actions: the control sees what it should see."""
    server_id = ground.servers.shared(FIRST)
    on_record = ground.nova.deleted_server(server_id, timeout_seconds=TIMEOUT_SECONDS)
    assert on_record == DeletedServer(server_id)


def test_server_deleted_while_the_backend_fails(ground: Ground) -> None:
    """Deleted, and the backend lets nobody go -> in-use, let in, no server; a DELETE mends it."""
    server_id = ground.servers.boot(FIRST)
    volume_id = attached(ground, server_id)
    ground.break_backend("terminate_connection", volume_id, times=TRIES)
    ground.servers.delete(server_id)
    eventually(ground, volume_id, ATTACHED)
    assert ground.nova.server(server_id, volume_id, timeout_seconds=TIMEOUT_SECONDS) is None
    ground.cinder.delete_attachment(attachment_of(ground, volume_id), **call())
    eventually(ground, volume_id, FREE)


def test_live_migration(ground: Ground) -> None:
    """A live migration that goes well -> one row, the destination is let in, the source is not."""
    server_id = ground.servers.boot(FIRST)
    volume_id = attached(ground, server_id)
    ground.servers.migrate(server_id, SECOND)
    moved = State("in-use", "attached", ("attached",), (SECOND,))
    eventually(ground, volume_id, moved, server_id)
    server = told(ground, server_id, volume_id)
    assert server.host == SECOND
    assert server.block_devices[0].attachment_id == attachment_of(ground, volume_id)


def test_live_migration_leaves_the_source(ground: Ground) -> None:
    """The source's row cannot be deleted -> two rows, both hosts let in, Nova names one of them."""
    server_id = ground.servers.boot(FIRST)
    volume_id = attached(ground, server_id)
    before = attachment_of(ground, volume_id)
    ground.break_backend("terminate_connection", volume_id, times=TRIES)
    ground.servers.migrate(server_id, SECOND)
    both = State("in-use", "attached", ("attached", "attached"), HOSTS)
    eventually(ground, volume_id, both, server_id)
    (device,) = told(ground, server_id, volume_id).block_devices
    assert device.attachment_id != before
    with pytest.raises(ConflictError):
        ground.cinder.delete_attachment(str(device.attachment_id), **call())
    ground.cinder.delete_attachment(before, **call())
    left = State("in-use", "attached", ("attached",), (SECOND,))
    eventually(ground, volume_id, left, server_id)


class TestGuard:
    """Cinder's guard (CVE-2023-2088), with Nova's block device naming the row."""

    def test_refuses_while_nova_names_the_attachment(self, ground: Ground) -> None:
        """No service token -> each of the three calls is refused, and nothing has changed."""
        server_id = ground.servers.shared(FIRST)
        volume_id = attached(ground, server_id)
        attachment, connector = attachment_of(ground, volume_id), ground.connector(FIRST)
        with pytest.raises(ConflictError):
            ground.cinder.delete_attachment(attachment, **call())
        with pytest.raises(ConflictError):
            ground.cinder.force_detach(volume_id, None, connector, **call())
        with pytest.raises(ConflictError):
            ground.cinder.force_detach(volume_id, attachment, connector, **call())
        with pytest.raises(ConflictError):
            ground.cinder.terminate_connection(volume_id, connector, **call())
        eventually(ground, volume_id, ATTACHED, server_id)

    def test_lets_a_service_token_pass(self, ground: Ground) -> None:
        """A service token -> the row goes, although the guest holds the disk: hence no default."""
        server_id = ground.servers.boot(FIRST)
        volume_id = attached(ground, server_id)
        attachment = attachment_of(ground, volume_id)
        ground.vouching.delete_attachment(attachment, **call())
        eventually(ground, volume_id, FREE, server_id)

    def test_lets_a_service_token_pass_that_was_ordered(self, ground: Ground) -> None:
        """Configured, and not for every call -> refused without the order, carried out with it."""
        server_id = ground.servers.boot(FIRST)
        volume_id = attached(ground, server_id)
        attachment, cinder = attachment_of(ground, volume_id), ground.vouching_on_order
        assert cinder.has_service_token()
        with pytest.raises(ConflictError):
            cinder.delete_attachment(attachment, **call())
        cinder.delete_attachment(attachment, **call(), service_token=True)
        eventually(ground, volume_id, FREE, server_id)

    def test_does_not_look_at_a_reserved_attachment(self, ground: Ground) -> None:
        """A shelved server's row, without connection info -> not guarded: its reservation goes."""
        server_id = ground.servers.boot(FIRST)
        volume_id = attached(ground, server_id)
        ground.servers.shelve(server_id)
        ground.cinder.delete_attachment(attachment_of(ground, volume_id), **call())
        eventually(ground, volume_id, FREE)
        assert len(told(ground, server_id, volume_id).block_devices) == 1

    def test_is_blind_without_nova(self, ground: Ground) -> None:
        """nova-api is down -> 500 and no change; a service token needs no Nova."""
        server_id = ground.servers.boot(FIRST)
        volume_id = attached(ground, server_id)
        attachment, connector = attachment_of(ground, volume_id), ground.connector(FIRST)
        with ground.servers.api_down():
            with pytest.raises(TransientError):
                ground.nova.server(server_id, volume_id, timeout_seconds=TIMEOUT_SECONDS)
            with pytest.raises(IndeterminateError):
                ground.cinder.delete_attachment(attachment, **call())
            with pytest.raises(IndeterminateError):
                ground.cinder.force_detach(volume_id, attachment, connector, **call())
            with pytest.raises(IndeterminateError):
                ground.cinder.terminate_connection(volume_id, connector, **call())
            eventually(ground, volume_id, ATTACHED, server_id)
            ground.vouching.delete_attachment(attachment, **call())
            eventually(ground, volume_id, FREE, server_id)
