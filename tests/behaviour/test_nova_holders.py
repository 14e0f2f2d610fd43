"""Who may be using a volume on a host, where no record of Cinder's says so: on both clouds."""

from __future__ import annotations

import contextlib

import pytest

from drivers.errors import OutsideError, TransientError
from tests.behaviour.ground import HOSTS, NO_COMPUTE, TIMEOUT_SECONDS, Ground, State
from tests.behaviour.states import call
from tests.behaviour.test_nova import FREE, attached, attachment_of, comes_to, detach, eventually

FIRST, SECOND = HOSTS


def may_use(ground: Ground, volume_id: str, host: str) -> tuple[str, ...]:
    """Ask Nova who may be using a volume on a host."""
    return ground.nova.holders(volume_id, host, timeout_seconds=TIMEOUT_SECONDS)


@pytest.mark.parametrize("vm_state", ["active", "stopped", "error"])
def test_server_on_the_host_in_any_state(ground: Ground, vm_state: str) -> None:
    """A block device -> its server, on its host only; detached -> nobody."""
    server_id = ground.servers.shared(FIRST)
    volume_id, other = attached(ground, server_id), ground.volume()
    with contextlib.ExitStack() as stack:
        if vm_state != "active":
            stack.enter_context(ground.servers.in_state(server_id, vm_state))
        assert may_use(ground, volume_id, FIRST) == (server_id,)
        assert may_use(ground, volume_id, SECOND) == ()
        assert may_use(ground, other, FIRST) == ()
    detach(ground, server_id, volume_id)
    eventually(ground, volume_id, FREE)
    comes_to(lambda: may_use(ground, volume_id, FIRST), ())


def test_status_that_was_reset_by_hand(ground: Ground) -> None:
    """Cinder says available, without a row, and the guest writes on -> its server."""
    server_id = ground.servers.boot(FIRST)
    volume_id = attached(ground, server_id)
    ground.others.reset_status(volume_id, "available", "detached")
    eventually(ground, volume_id, State("available", "detached", (), (FIRST,)), server_id)
    assert may_use(ground, volume_id, FIRST) == (server_id,)


def test_attachment_that_a_service_token_deleted(ground: Ground) -> None:
    """The row and the export are gone, Nova does not know -> its server all the same."""
    server_id = ground.servers.boot(FIRST)
    volume_id = attached(ground, server_id)
    attachment = attachment_of(ground, volume_id)
    ground.vouching.delete_attachment(attachment, **call())
    assert may_use(ground, volume_id, FIRST) == (server_id,)


def test_server_that_left_the_host(ground: Ground) -> None:
    """Shelved and offloaded, or deleted -> no guest of it is on the host."""
    shelved, deleted = ground.servers.boot(FIRST), ground.servers.boot(FIRST)
    volumes = attached(ground, shelved), attached(ground, deleted)
    ground.servers.shelve(shelved)
    ground.servers.delete(deleted)
    assert [may_use(ground, volume_id, FIRST) for volume_id in volumes] == [(), ()]


def test_live_migration_that_is_over(ground: Ground) -> None:
    """Moved -> the destination has it, the source has not."""
    server_id = ground.servers.boot(FIRST)
    volume_id = attached(ground, server_id)
    ground.servers.migrate(server_id, SECOND)
    moved = State("in-use", "attached", ("attached",), (SECOND,))
    eventually(ground, volume_id, moved, server_id)
    assert may_use(ground, volume_id, FIRST) == ()
    assert may_use(ground, volume_id, SECOND) == (server_id,)


def test_host_that_nova_does_not_know(ground: Ground) -> None:
    """No compute host, or nova-api down -> an error, and no "nobody"."""
    volume_id = ground.volume()
    assert ground.nova.compute_up(NO_COMPUTE, timeout_seconds=TIMEOUT_SECONDS) is None
    with pytest.raises(OutsideError):
        may_use(ground, volume_id, NO_COMPUTE)
    with ground.servers.api_down(), pytest.raises(TransientError):
        may_use(ground, volume_id, FIRST)
