"""The rbd driver fences one client of a real Ceph. What is in the image afterwards is the judge."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Attachment, ClientInstance, Connector, VolumeRef
from drivers.child import Deadline
from drivers.errors import IndeterminateError, PermanentError, TransientError
from drivers.rbd.cluster import Answer, Cluster
from drivers.rbd.fence import AnotherClientError, NotLearnedError, OtherImagesError, Release
from tests.bus import until
from tests.rbd import Rbd, connector_of, own_user
from tests.services.ceph import Ceph
from tests.services.rbd_client import FENCED
from tests.services.rbd_clients import RbdClient, RbdClients

YEARS = 94_608_000
A, B = "compute-a", "compute-b"
SECONDS = 30.0

pytestmark = pytest.mark.parallel


@pytest.fixture
def rbd(ceph: Ceph, rbd_clients: RbdClients) -> Rbd:
    """Return a backend on the shared cluster."""
    return Rbd(ceph, rbd_clients)


def learned(rbd: Rbd, volume: VolumeRef, host: str) -> Attachment:
    """Return the attachment with the client that the driver sees now, while all is well."""
    connector = connector_of(host)
    seen = rbd.driver().observe(volume, timeout_seconds=SECONDS)
    client = seen.client_of(connector, datetime.now(UTC))
    assert client is not None
    return Attachment(volume.volume_id, "row", "server", connector, client)


def release(rbd: Rbd, volume: VolumeRef, attachment: Attachment, **options: object) -> None:
    """Have a driver release it."""
    rbd.driver(**options).force_detach(
        volume, attachment, request_id="req-test", timeout_seconds=SECONDS
    )


def content(rbd: Rbd, volume: VolumeRef, directory: Path) -> Path:
    """Return a copy of the image as it is now."""
    copy = directory / f"content-{volume.volume_id}"
    copy.unlink(missing_ok=True)
    rbd.ceph.rbd("export", rbd.spec(volume), str(copy), "--no-progress")
    return copy


def must_have_written_alone(
    rbd: Rbd, volume: VolumeRef, second: RbdClient, directory: Path
) -> None:
    """Have the second writer go once round the blocks; no block is anybody else's afterwards."""
    until(lambda: second.writes > 150, seconds=60)
    second.close()
    assert second.missing_writes(content(rbd, volume, directory)) == []


# -- the fence -------------------------------------------------------------------------------------


def test_fenced_writer_gets_its_error_and_nobody_else_does(
    rbd: Rbd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The learned client is fenced -> its write fails; others of its host and image write on.

    All that it was told is written is there, and whoever opens the image next writes alone.
    """
    volume, other = rbd.volume(), rbd.volume()
    writer, neighbour = rbd.opened(volume, A), rbd.opened(other, A, name="neighbour")
    attachment = learned(rbd, volume, A)
    assert attachment.learned is not None
    with caplog.at_level(logging.INFO):
        release(rbd, volume, attachment)
    assert writer.ended() == FENCED
    assert writer.missing_writes(content(rbd, volume, tmp_path)) == []
    assert neighbour.makes_progress()
    until_when = rbd.ceph.blocklist()[attachment.learned.address]
    assert (datetime.fromisoformat(until_when) - datetime.now(UTC)).days in {1094, 1095}
    assert f"Fenced {attachment.learned.address} until {until_when} (req-test)" in caplog.text
    assert rbd.ceph.locks_of(rbd.spec(volume)) == []
    assert rbd.driver().observe(volume, timeout_seconds=SECONDS).connections == ()
    must_have_written_alone(rbd, volume, rbd.opened(volume, B), tmp_path)


def test_host_that_hung_and_goes_on_does_not_write(rbd: Rbd, tmp_path: Path) -> None:
    """A host hangs in the middle of writing, is fenced, and goes on -> none of it gets through."""
    volume = rbd.volume()
    hung = rbd.opened(volume, A)
    attachment = learned(rbd, volume, A)
    hung.pause()
    release(rbd, volume, attachment)
    second = rbd.opened(volume, B)
    hung.resume()
    assert hung.ended() == FENCED
    must_have_written_alone(rbd, volume, second, tmp_path)


def test_lock_of_a_killed_client_is_removed(rbd: Rbd, tmp_path: Path) -> None:
    """The learned client was killed, its watch has ended -> fenced all the same, its lock goes."""
    volume = rbd.volume()
    with rbd.ceph.forgetful(2):
        killed = rbd.opened(volume, A)
    attachment = learned(rbd, volume, A)
    killed.kill()
    until(lambda: rbd.ceph.watchers_of(rbd.spec(volume)) == [])
    release(rbd, volume, attachment)
    assert rbd.ceph.locks_of(rbd.spec(volume)) == []
    assert attachment.learned is not None
    assert attachment.learned.address in rbd.ceph.blocklist()
    must_have_written_alone(rbd, volume, rbd.opened(volume, B), tmp_path)


def test_lock_of_a_fenced_client_is_removed_without_a_fence(rbd: Rbd) -> None:
    """Somebody fenced it for years and left its lock -> it goes, although nobody was learned."""
    volume = rbd.volume()
    fenced = rbd.opened(volume, A)
    (watcher,) = rbd.ceph.watchers_of(rbd.spec(volume))
    rbd.ceph.ceph("osd", "blocklist", "add", watcher["address"], str(YEARS))
    assert fenced.ended() == FENCED
    before = set(rbd.ceph.blocklist())
    release(rbd, volume, Attachment(volume.volume_id, None, None, connector_of(A)))
    assert rbd.ceph.locks_of(rbd.spec(volume)) == []
    assert not rbd.ceph.blocklist().keys() - before  # those of other tests run out meanwhile


def test_lock_of_a_client_that_was_fenced_for_seconds_is_not_spent(rbd: Rbd) -> None:
    """A stopped client was fenced for seconds only, its watch ended -> shown, and not released.

    The fence ends and the client goes on: it writes, and would write to the next one's volume.
    """
    volume = rbd.volume()
    with rbd.ceph.forgetful(1):
        stopped = rbd.opened(volume, A)
    (watcher,) = rbd.ceph.watchers_of(rbd.spec(volume))
    stopped.pause()
    rbd.ceph.ceph("osd", "blocklist", "add", watcher["address"], "4")
    until(lambda: rbd.ceph.watchers_of(rbd.spec(volume)) == [])
    (connection,) = rbd.driver().observe(volume, timeout_seconds=SECONDS).connections
    assert connection.belongs_to(connector_of(A))
    with pytest.raises(NotLearnedError):
        release(rbd, volume, Attachment(volume.volume_id, "row", "server", connector_of(A)))
    until(lambda: watcher["address"] not in rbd.ceph.blocklist())
    stopped.resume()
    assert stopped.makes_progress()


# -- who is not fenced -----------------------------------------------------------------------------


def refused(rbd: Rbd, volume: VolumeRef, attachment: Attachment, **options: object) -> str:
    """Have a driver refuse; return its words. Nobody was fenced."""
    before = set(rbd.ceph.blocklist())
    with pytest.raises(PermanentError, match="Refused, nothing done") as raised:
        release(rbd, volume, attachment, **options)
    assert not rbd.ceph.blocklist().keys() - before  # those of other tests run out meanwhile
    return f"{type(raised.value).__name__}: {raised.value}"


def test_volume_that_has_moved_is_left_alone(rbd: Rbd) -> None:
    """The learned client closed the image and another host opened it -> that one writes on."""
    volume = rbd.volume()
    old = rbd.opened(volume, A)
    attachment = learned(rbd, volume, A)
    old.close()
    new = rbd.opened(volume, B)
    assert AnotherClientError.__name__ in refused(rbd, volume, attachment)
    assert new.makes_progress()


def test_client_that_was_never_learned_is_left_alone(rbd: Rbd) -> None:
    """A client has the image, and none was learned -> refused, with the evidence; it writes on."""
    volume = rbd.volume()
    writer = rbd.opened(volume, A)
    words = refused(rbd, volume, dataclasses.replace(learned(rbd, volume, A), learned=None))
    assert NotLearnedError.__name__ in words
    assert rbd.ceph.watchers_of(rbd.spec(volume))[0]["address"] in words
    assert writer.makes_progress()


def test_client_of_many_images_is_left_alone(rbd: Rbd) -> None:
    """One client has another image open -> refused, with its name; the option allows it: fenced."""
    volume, other = rbd.volume(), rbd.volume()
    writer = rbd.opened(volume, A, also=(other.names()[0],))
    attachment = learned(rbd, volume, A)
    words = refused(rbd, volume, attachment)
    assert OtherImagesError.__name__ in words
    assert rbd.spec(other) in words
    assert writer.makes_progress()
    release(rbd, volume, attachment, other_images=1)
    assert writer.ended() == FENCED


@pytest.mark.parametrize("elsewhere", ["images", "images/of-another"])
def test_images_of_another_backend_count_too(rbd: Rbd, elsewhere: str) -> None:
    """The client has an image of a pool or namespace of another backend -> refused, told."""
    volume = rbd.volume()
    if "/" in elsewhere:
        rbd.ceph.create_namespace(elsewhere)
    other = dataclasses.replace(rbd, place=elsewhere)
    name = other.spec(other.volume())
    writer = rbd.opened(volume, A, also=(name,))
    attachment = learned(rbd, volume, A)
    words = refused(rbd, volume, attachment)
    assert OtherImagesError.__name__ in words
    assert name in words
    assert writer.makes_progress()
    assert attachment.learned is not None
    reach = rbd.driver().reach_of(volume, attachment.learned, timeout_seconds=30)
    assert (reach.others, reach.unseen, reach.goes_too_far) == ((name,), (), True)


def test_pools_that_may_not_be_looked_at_are_told(rbd: Rbd, tmp_path: Path) -> None:
    """The user may look at one pool -> the others are named, and their namespaces."""
    volume = rbd.volume()
    rbd.opened(volume, A)
    rights = "allow rx pool=volumes"
    conf, _ = own_user(rbd, tmp_path, "one-pool", osd=rights)
    client = learned(rbd, volume, A).learned
    assert client is not None
    driver = rbd.driver(conf=conf, user="one-pool")
    reach = driver.reach_of(volume, client, timeout_seconds=30)
    assert (reach.others, reach.unseen) == ((), ("images", "namespaces of images"))


@pytest.mark.parametrize(
    "connector", [None, connector_of(B), Connector(host=A, initiator="iqn.1994-05.com.redhat:a")]
)
def test_client_of_no_known_host_is_left_alone(rbd: Rbd, connector: Connector | None) -> None:
    """The learned client is at no address of the attachment's host -> refused; it writes on."""
    volume = rbd.volume()
    writer = rbd.opened(volume, A)
    attachment = dataclasses.replace(learned(rbd, volume, A), connector=connector)
    refused(rbd, volume, attachment)
    assert writer.makes_progress()


# -- trouble in the middle -------------------------------------------------------------------------


@pytest.fixture
def frozen_later() -> Iterator[ExitStack]:
    """Give what thaws, at the latest when the test ends."""
    with ExitStack() as stack:
        yield stack


@dataclasses.dataclass(frozen=True, slots=True)
class FreezingCluster(Cluster):
    """A cluster of which a part freezes right before the request that changes something."""

    ceph: Ceph
    part: str
    thaw: ExitStack

    def release(self, *about: Any) -> Answer:
        """Freeze it, then ask."""
        self.thaw.enter_context(self.ceph.frozen(self.part))
        return Cluster.release(self, *about)


@pytest.mark.parametrize("part", ["mon", "osd"])
def test_frozen_in_the_middle_is_perhaps_done_and_done_the_next_time(
    rbd: Rbd, part: str, frozen_later: ExitStack
) -> None:
    """Monitor or OSD freezes with the fence on its way -> IndeterminateError; thawed: released."""
    volume = rbd.volume()
    writer = rbd.opened(volume, A)
    attachment, options = learned(rbd, volume, A), rbd.driver()._options
    cluster = FreezingCluster(options, rbd.ceph, part, frozen_later)
    deadline = Deadline.after(8.0)
    with pytest.raises(IndeterminateError, match="Perhaps done"):
        Release(cluster, options, volume, attachment.learned, "req-test", deadline).run()
    frozen_later.close()
    release(rbd, volume, attachment)
    assert writer.ended() == FENCED
    assert rbd.ceph.locks_of(rbd.spec(volume)) == []


def test_frozen_before_is_nothing_done(rbd: Rbd) -> None:
    """The monitor is frozen at the first look -> TransientError in time; it writes on."""
    volume = rbd.volume()
    writer = rbd.opened(volume, A)
    attachment = learned(rbd, volume, A)
    with rbd.ceph.frozen("mon"), pytest.raises(TransientError, match="Nothing done"):
        rbd.driver().force_detach(volume, attachment, request_id="req-test", timeout_seconds=1.0)
    assert writer.makes_progress()


def test_client_that_changes_between_two_looks_is_left_alone(rbd: Rbd) -> None:
    """The learned client closes the image after the first look -> nobody is fenced."""
    volume = rbd.volume()
    old = rbd.opened(volume, A)
    attachment, options = learned(rbd, volume, A), rbd.driver()._options
    new: list[RbdClient] = []

    class Moving(Cluster):
        def everywhere(self, deadline: Deadline) -> Answer:
            old.close()
            new.append(rbd.opened(volume, B))
            return super().everywhere(deadline)

    before = set(rbd.ceph.blocklist())
    deadline = Deadline.after(SECONDS)
    with pytest.raises(AnotherClientError):
        Release(Moving(options), options, volume, attachment.learned, "req-1", deadline).run()
    assert not rbd.ceph.blocklist().keys() - before  # those of other tests run out meanwhile
    assert new[0].makes_progress()


def test_learned_address_is_not_believed_without_its_nonce(rbd: Rbd) -> None:
    """A learned client without a nonce -> refused, before the cluster's own key would."""
    volume = rbd.volume()
    writer = rbd.opened(volume, A)
    attachment = learned(rbd, volume, A)
    whole = f"{connector_of(A).ip}:0/0"
    learned_whole = ClientInstance(whole, "client.1", 1, datetime.now(UTC))
    refused(rbd, volume, dataclasses.replace(attachment, learned=learned_whole))
    assert writer.makes_progress()
