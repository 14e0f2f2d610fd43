"""Fences of a real Ceph are renewed, lifted, and outlasted: what a client does that comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from consumer.ledger import Ledger
from consumer.ledger.periodic.fences import Fence, FenceState
from consumer.periodic.fences import FenceWatch
from drivers.base import ClientInstance, VolumeRef
from drivers.child import Deadline
from drivers.errors import IndeterminateError, PermanentError
from drivers.rbd.cluster import OwnedLock
from drivers.rbd.image import read_sighting
from handlers.case import StepKind, StepResult
from handlers.judgement.policy import BackendPolicy, Mode
from tests.bus import new_ledger, until
from tests.rbd import BACKEND, Rbd, connector_of
from tests.services.ceph import PYTHON, Ceph
from tests.services.rbd_client import FENCED
from tests.services.rbd_clients import RbdClient, RbdClients
from tests.unit.consumer.ledger.making import claim_one, due_case

A, B = "compute-a", "compute-b"
SECONDS = 30.0
HOUR = 3600
"""Longer than all the tests: what ends in the middle of another one looks as if it were lifted."""

pytestmark = pytest.mark.parallel


@pytest.fixture
def rbd(ceph: Ceph, rbd_clients: RbdClients) -> Rbd:
    """Return a backend on the shared cluster."""
    return Rbd(ceph, rbd_clients)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Give an empty ledger."""
    with new_ledger(tmp_path) as one:
        yield one


def client_of(rbd: Rbd, volume: VolumeRef, host: str) -> ClientInstance:
    """Return the client that has the volume for a host."""
    seen = rbd.driver().observe(volume, timeout_seconds=SECONDS)
    client = seen.client_of(connector_of(host), datetime.now(UTC))
    assert client is not None
    return client


def fence(rbd: Rbd, address: str, seconds: int) -> None:
    """Have the administrator fence a client, which was not fenced before."""
    rbd.ceph.ceph("osd", "blocklist", "add", address, str(seconds))


def recorded(ledger: Ledger, client: ClientInstance) -> Fence:
    """Write down a fence of this client, as a release of a case does."""
    due_case(ledger)
    file = ledger.casefile(claim_one(ledger))
    file.locate(BACKEND)
    target = {
        "attachment_id": "att-1", "instance_id": "inst-1", "host": A, "initiator": None,
        "client": client.address, "client_number": client.client, "also_loses": [],
    }  # fmt: skip
    kind, evidence = StepKind.BACKEND_FORCE_DETACH, {"reason": "its server is deleted"}
    file.intend(
        kind, request_id="req-1", target=target, evidence=evidence, lease_seconds=60.0,
        announcement=None,
    )  # fmt: skip
    file.result("req-1", StepResult.DONE, "")
    (one,) = ledger.fences.standing()
    return one


def watch(rbd: Rbd, ledger: Ledger, *, held: bool = False) -> FenceWatch:
    """Return what a service watches the fences with."""
    driver = rbd.driver()
    return FenceWatch(
        ledger,
        lambda _: driver,
        lambda _: BackendPolicy(mode=Mode.AUTO),
        held=lambda _: held,
        count=lambda _: None,
    )


def stopped_and_fenced(rbd: Rbd, volume: VolumeRef, seconds: int) -> tuple[RbdClient, str]:
    """Have a client stop in the middle of writing, and fence it for so long; return both."""
    writer = rbd.opened(volume, A)
    address = client_of(rbd, volume, A).address
    writer.pause()
    fence(rbd, address, seconds)
    return writer, address


def goes_on(writer: RbdClient) -> bool:
    """Let a stopped client go on; tell whether it writes, and so is not refused."""
    before = writer.writes
    writer.resume()
    until(lambda: writer.writes > before + 5 or not writer.running)
    return writer.writes > before + 5


def test_a_client_that_knows_nothing_of_its_fence_writes_when_it_is_over(rbd: Rbd) -> None:
    """Stopped while it was fenced, another has the image, the fence ran out -> both write.

    It is a fact of Ceph, and why a fence stands until its client is known not to run any more. The
    lock is removed as a release does it: whoever broke it would fence the owner for an hour.
    """
    volume = rbd.volume()
    writer, address = stopped_and_fenced(rbd, volume, 3)
    release(rbd, volume)
    until(lambda: address not in rbd.ceph.blocklist())
    second = rbd.opened(volume, B)
    assert goes_on(writer)
    assert second.makes_progress()


def release(rbd: Rbd, volume: VolumeRef) -> None:
    """Remove the lock that the fenced client left, as a release that has fenced it does."""
    cluster, names = rbd.driver()._cluster, volume.names()
    seen = read_sighting(cluster.look(names, Deadline.after(SECONDS)))
    locks = [
        OwnedLock(image.place, image.image_id, lock.client, lock.cookie)
        for image in seen.images
        for lock in image.locks
    ]
    cluster.release(names, None, 0.0, locks, Deadline.after(SECONDS))


def test_ceph_does_not_prolong_a_fence(rbd: Rbd) -> None:
    """A client is fenced twice, the second time for longer or shorter -> the first time counts.

    It is a fact of Ceph, and why a fence is made for years, and made again only when it is over.
    """
    address = "127.9.9.9:0/1004"
    fence(rbd, address, HOUR)
    first = rbd.ceph.blocklist()[address]
    for seconds in (86_400, 60):
        fence(rbd, address, seconds)
        assert rbd.ceph.blocklist()[address] == first


def test_a_fence_that_is_made_again_outlasts_its_client(rbd: Rbd, ledger: Ledger) -> None:
    """Stopped, fenced by somebody for seconds only, released -> watched; the client is refused."""
    volume = rbd.volume()
    writer = rbd.opened(volume, A)
    record = recorded(ledger, client := client_of(rbd, volume, A))
    writer.pause()
    fence(rbd, client.address, 2)
    release(rbd, volume)
    watching = watch(rbd, ledger)
    assert watching.watch_once(), "it is about to run out, and is looked at again soon"
    until(lambda: watching.watch_once() is False)
    assert ledger.fences.one(record.fence_id).renewed_at is not None
    second = rbd.opened(volume, B)
    assert not goes_on(writer)
    assert writer.ended() == FENCED
    assert second.makes_progress()


def test_a_fence_that_ran_out_while_nobody_watched_is_made_again(rbd: Rbd, ledger: Ledger) -> None:
    """The service was away, the fence is over -> made again at a look; not while it is paused."""
    volume = rbd.volume()
    writer = rbd.opened(volume, A)
    record = recorded(ledger, client := client_of(rbd, volume, A))
    writer.pause()
    fence(rbd, client.address, 2)
    watch(rbd, ledger, held=True).watch_once()
    until(lambda: client.address not in rbd.ceph.blocklist())
    later = ledger.fences.one(record.fence_id).until
    assert later is not None
    watch(rbd, ledger, held=True).watch_once()
    assert client.address not in rbd.ceph.blocklist()
    watch(rbd, ledger).watch_once()
    assert client.address in rbd.ceph.blocklist()
    assert not goes_on(writer)
    now = ledger.fences.one(record.fence_id)
    assert (now.state, now.cluster) == (FenceState.STANDING, rbd.ceph.fsid)
    assert now.until is not None
    assert now.until > later


def test_a_fence_is_lifted_alone_and_with_a_right_of_its_own(rbd: Rbd) -> None:
    """Two clients are fenced, one is let in again -> that one; the service's user may not do it."""
    addresses = ("127.9.9.9:0/1001", "127.9.9.9:0/1002")
    for address in addresses:
        fence(rbd, address, HOUR)
    with pytest.raises(PermanentError, match=r"refused client\.detachd"):
        rbd.driver().lift_fence(addresses[0], timeout_seconds=SECONDS)
    assert set(addresses) <= set(rbd.ceph.blocklist())
    left = rbd.driver(lift_user="lifter").lift_fence(addresses[0], timeout_seconds=SECONDS)
    assert set(addresses) & set(left.until) == {addresses[1]}
    again = rbd.driver(lift_user="lifter").lift_fence(addresses[0], timeout_seconds=SECONDS)
    assert addresses[0] not in again.until


def test_a_fence_says_until_when_and_of_which_cluster(rbd: Rbd) -> None:
    """A client is fenced for an hour -> the driver tells that time; its own fence is of years."""
    address, other = "127.9.9.9:0/1003", "127.9.9.9:0/1005"
    fence(rbd, address, HOUR)
    driver, now = rbd.driver(), datetime.now(UTC)
    seen = driver.fences(timeout_seconds=SECONDS)
    assert seen.cluster == rbd.ceph.fsid
    assert 3500 < (seen.until[address] - now).total_seconds() < 3700
    renewed = driver.renew_fence(other, timeout_seconds=SECONDS)
    assert (renewed.until[other] - now).days in {1094, 1095}


@pytest.mark.parametrize("address", ["127.9.9.9", "127.9.9.9:0/0", "127.9.9.9:0", "127.9.9.9/32"])
def test_no_more_than_one_client_is_renewed_or_lifted(rbd: Rbd, address: str) -> None:
    """An address that is a whole host's -> refused before the cluster is asked."""
    for change in (rbd.driver().renew_fence, rbd.driver(lift_user="lifter").lift_fence):
        with pytest.raises(PermanentError, match="Refused, nothing done"):
            change(address, timeout_seconds=SECONDS)
    assert not [fenced for fenced in rbd.ceph.blocklist() if fenced.endswith("/0")]


def test_a_cluster_that_hangs_is_asked_again(rbd: Rbd, ledger: Ledger) -> None:
    """The monitor is frozen at the look -> the record stays as it is; thawed: it is noted."""
    volume = rbd.volume()
    rbd.opened(volume, A)
    client = client_of(rbd, volume, A)
    record = recorded(ledger, client)
    fence(rbd, client.address, HOUR)
    with rbd.ceph.frozen("mon"), pytest.raises(IndeterminateError):
        rbd.driver().fences(timeout_seconds=1.0)
    assert ledger.fences.one(record.fence_id) == record
    watch(rbd, ledger).watch_once()
    assert ledger.fences.one(record.fence_id).until is not None


def test_it_is_told_by_what_the_cluster_is_reached(rbd: Rbd) -> None:
    """A person asks which cluster it is -> its fsid, the user, the Python, and the versions."""
    told = rbd.driver().how_reached(timeout_seconds=SECONDS)
    words = (rf"cluster {rbd.ceph.fsid}, as client\.detachd, through {PYTHON} "
             r"\(3\.[0-9.]+\) with librados [0-9.]+ and librbd [0-9.]+")  # fmt: skip
    assert re.fullmatch(words, told)
