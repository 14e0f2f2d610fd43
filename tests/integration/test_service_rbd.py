"""The running service, a real broker, and a real Ceph: the right client is fenced, or none.

The service learns each client while all is well. What is in the image afterwards is the judge: the
blocks prove that never two wrote at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from consumer.demo.scenes import Stage
from consumer.ledger.periodic.fences import FenceState
from drivers.base import ClientInstance
from handlers.case import CaseState
from handlers.judgement.policy import BackendPolicy, Mode
from tests.bus import until
from tests.integration import oracle
from tests.integration.rbd_cloud import RbdCloud, put_on_images
from tests.integration.service_process import BRISK, ServiceProcess
from tests.integration.site import Broker, Site, earlier_attach, open_site
from tests.rbd import Rbd
from tests.services.ceph import PYTHON, Ceph
from tests.services.rbd_client import FENCED
from tests.services.rbd_clients import RbdClient, RbdClients

A, B = "compute-a", "compute-b"
START, END = "volume.force_detach.start", "volume.force_detach.end"
PARKED = "volume.force_detach.parked"
LONG = 90.0
# A look is a process of its own, and takes long where everybody else is at work too.
STEADY = dataclasses.replace(
    BRISK, look_timeout_seconds=8.0, call_timeout_seconds=20.0, late_horizon_seconds=1.0
)
BRIEF = dataclasses.replace(STEADY, look_timeout_seconds=4.0, call_timeout_seconds=4.0)

GATE = """#!/bin/sh
read -r question
case "$question" in
    *'"op": "release"'*)
        : > {arrived}
        while [ -e {closed} ]; do sleep 0.02; done ;;
esac
{{ printf '%s\n' "$question"; exec cat; }} | exec {python} "$@"
"""


class Gate:
    """A Python that waits where it is to change something, until it is let through."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._arrived, self._closed = directory / "arrived", directory / "closed"
        self.program = directory / "python"
        where = {"arrived": self._arrived, "closed": self._closed}
        self.program.write_text(GATE.format(python=PYTHON, **where))
        self.program.chmod(0o755)

    def close(self) -> None:
        """Have the next one wait."""
        self._closed.touch()

    def reached(self) -> bool:
        """Tell whether somebody is waiting, or has been."""
        return self._arrived.exists()

    def open(self) -> None:
        """Let everybody through."""
        self._closed.unlink()


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """A site whose volumes are images, its service with the driver for them."""

    site: Site
    on: RbdCloud
    gate: Gate

    def configure(
        self, policy: BackendPolicy = STEADY, *, looks: int = 600, **options: object
    ) -> None:
        """Write the service's configuration; ``options`` are the driver's."""
        own = {"conf": self.on.rbd.ceph.configuration, "python": self.gate.program}
        self.site.detachd.configure(
            policy,
            **{
                "backend_defaults": {"driver": "rbd"},
                "driver:rbd": {**own, **options},
                "learning": {"looks_per_minute": looks, "again_seconds": 1.0},
                "sweep": {
                    "enabled": True, "interval_seconds": 1.0, "in_use_interval_seconds": 1.0,
                },
            },
        )  # fmt: skip

    def attached(self, host: str, *, opens: bool = True, **how: object) -> Play:
        """Attach a volume to a server of a host, and have its guest write."""
        volume_id, server = self.on.volume(), self.site.cloud.boot_server(host=host)
        row = self.site.cloud.attach(volume_id, server)
        stage = Stage(self.site.cloud, volume_id, server, host)
        return Play(self, stage, row, self.on.opened(volume_id, host, **how) if opens else None)

    def introduce(self, *plays: Play) -> None:
        """Have the bus tell the connector of each host, by some earlier attach."""
        self.site.send(earlier_attach(play.stage) for play in plays)


@dataclasses.dataclass(frozen=True, slots=True)
class Play:
    """One attachment, and the client that its guest has."""

    ground: Ground
    stage: Stage
    row: str
    client: RbdClient | None

    @property
    def writer(self) -> RbdClient:
        """The guest's client."""
        assert self.client is not None
        return self.client

    @property
    def volume_id(self) -> str:
        """The volume."""
        return self.stage.volume_id

    @property
    def address(self) -> str:
        """The address of whoever has the image open."""
        (watcher,) = self.ground.on.rbd.ceph.watchers_of(self.ground.on.spec(self.volume_id))
        return str(watcher["address"])

    def learned(self) -> ClientInstance | None:
        """Return the client that the ledger has for the attachment."""
        return self.ground.site.ledger.learned.of_volume(self.volume_id).get(self.row)

    def delete_server(self) -> None:
        """Delete the server while Cinder fails: Nova swallows it, the row stays.

        Nova's record says that the compute ended the guest; its process lives, and writes.
        """
        self.stage.cloud.delete_server(self.stage.instance_id)
        row = self.stage.shown(self.row, "attached")
        story = self.stage.story()
        self.ground.site.send(story.cinder("detach.start", "in-use", row) for _ in range(5))

    def state(self) -> tuple[CaseState | None, str]:
        """Return the case's state and what Cinder says of the volume."""
        cases = self.ground.site.cases(self.volume_id)
        return cases[-1].case.state if cases else None, self.ground.site.status(self.volume_id)

    def mended(self) -> bool:
        """Tell whether the case is closed and the volume available."""
        return self.state() == (CaseState.CLOSED, "available")

    def parked(self) -> bool:
        """Tell whether the case is parked, and that was announced."""
        parked = self.state()[0] is CaseState.PARKED
        return parked and PARKED in self.ground.site.announced(self.volume_id)

    def reason(self) -> str:
        """Return why the case is as it is."""
        return self.ground.site.cases(self.volume_id)[-1].case.reason or ""

    def content(self) -> Path:
        """Return a copy of the image as it is now."""
        copy = self.ground.site.detachd.directory / f"content-{self.volume_id}"
        copy.unlink(missing_ok=True)
        spec = self.ground.on.spec(self.volume_id)
        self.ground.on.rbd.ceph.rbd("export", spec, str(copy), "--no-progress")
        return copy

    def is_written_by(self, writer: RbdClient) -> None:
        """Fail unless this writer goes once round the blocks, and no block is anybody else's."""
        already = writer.writes
        until(lambda: writer.writes > already + 150, LONG)
        writer.close()
        assert writer.missing_writes(self.content()) == []


@pytest.fixture
def ground(broker: Broker, tmp_path: Path, ceph: Ceph, rbd_clients: RbdClients) -> Iterator[Ground]:
    """Give a site on real images, in a pool's namespace of its own."""
    place = f"volumes/{tmp_path.name}"
    ceph.create_namespace(place)
    with open_site(broker, tmp_path) as site:
        made = Ground(
            site, put_on_images(site.cloud, Rbd(ceph, rbd_clients, place)), Gate(tmp_path / "gate")
        )
        for host in (A, B):
            made.on.host(host)
        made.configure(pools=place)
        yield made
        site.check_logs()


@contextlib.contextmanager
def served(ground: Ground, *plays: Play) -> Iterator[ServiceProcess]:
    """Run the service, once it has heard of the hosts, until it has learned these clients."""
    with ground.site.detachd.serve() as service:
        service.ready()
        ground.introduce(*plays)
        for play in plays:
            until(play.learned, LONG)
        yield service
        assert service.terminate() == 0
    oracle.nothing_harmed(ground.site)


def fenced(ground: Ground) -> set[str]:
    """Return the addresses that the cluster refuses."""
    return set(ground.on.rbd.ceph.blocklist())


def test_the_client_that_was_learned_is_fenced_and_nobody_else(ground: Ground) -> None:
    """A guest outlives its deleted server and writes -> fenced, and the volume is B's to write.

    The clients of other volumes, of the same host too, miss nothing.
    """
    play, neighbour, other = ground.attached(A), ground.attached(A), ground.attached(B)
    address, before = play.address, fenced(ground)
    with served(ground, play, neighbour, other):
        play.delete_server()
        until(play.mended, LONG)
        assert play.writer.ended() == FENCED
        assert play.writer.missing_writes(play.content()) == []
    assert fenced(ground) - before == {address}
    (fence,) = ground.site.ledger.fences.standing()
    assert (fence.address, fence.state, fence.host, fence.volume_id) == (
        address, FenceState.STANDING, A, play.volume_id,
    )  # fmt: skip
    assert ground.on.rbd.ceph.locks_of(ground.on.spec(play.volume_id)) == []
    assert ground.site.announced(play.volume_id) == [START, END]
    for one in (neighbour, other):
        assert one.writer.makes_progress()
        assert one.state() == (None, "in-use")
    play.is_written_by(ground.on.opened(play.volume_id, B, name="second"))


def test_a_client_that_nobody_learned_is_left_to_a_person(ground: Ground) -> None:
    """The host's connector came with the trouble, so nothing was learned -> parked; it writes."""
    # A slow look may begin before the trouble, and end when the connector is known.
    ground.configure(looks=0, pools=ground.on.rbd.place)
    play, before = ground.attached(A), fenced(ground)
    with ground.site.detachd.serve() as service:
        service.ready()
        play.delete_server()
        until(play.parked, LONG)
        assert service.terminate() == 0
    assert "never learned" in play.reason()
    assert play.writer.makes_progress()
    assert fenced(ground) <= before


@pytest.mark.parametrize("where", [A, B])
def test_a_client_that_came_instead_is_left_to_a_person(ground: Ground, where: str) -> None:
    """The learned client is gone, another one has the image -> parked, with its name; it writes."""
    play, before = ground.attached(A), fenced(ground)
    with served(ground, play):
        play.writer.close()
        ground.site.cloud.set_server(play.stage.instance_id, task_state="rebooting")
        new = ground.on.opened(play.volume_id, where, name="new")
        play.delete_server()
        until(play.parked, LONG)
    assert "client" in play.reason() or "connection" in play.reason()
    assert new.makes_progress()
    assert fenced(ground) <= before


def test_a_client_of_two_volumes_is_shown_before_it_is_fenced(ground: Ground) -> None:
    """One client has two volumes -> parked before the driver is asked; allowed: a person's yes."""
    second = ground.attached(A, opens=False)
    play = ground.attached(A, also=(f"volume-{second.volume_id}",))
    before, image = fenced(ground), ground.on.spec(second.volume_id)
    with served(ground, play):
        play.delete_server()
        until(play.parked, LONG)
        shown = ground.site.detachd.run("case", "show", case_of(play)).stdout
    assert "more other volumes open" in play.reason()
    assert image in "".join(shown.split()), "a line may be broken anywhere"
    assert ground.site.cases(play.volume_id)[-1].intents == ()
    assert play.writer.makes_progress()
    assert fenced(ground) <= before
    place = ground.on.rbd.place
    ground.configure(dataclasses.replace(STEADY, mode=Mode.APPROVE), pools=place, other_images=1)
    with ground.site.detachd.serve() as service:
        service.ready()
        ground.site.detachd.run("replay", "case", case_of(play), "--reason", "one may be lost")
        until(lambda: play.state()[0] is CaseState.AWAITING_APPROVAL, LONG)
        shown = ground.site.detachd.run("case", "show", case_of(play)).stdout
        assert f"alsoloses{image}" in "".join(shown.split())
        plan = ground.site.cases(play.volume_id)[-1].case.fingerprint or ""
        words = ("--plan", plan[:12], "--reason", "nobody needs it")
        ground.site.detachd.run("case", "approve", case_of(play), *words)
        until(play.mended, LONG)
        assert service.terminate() == 0
    assert play.writer.ended() == FENCED


def case_of(play: Play) -> str:
    """Return the id of the volume's case."""
    return play.ground.site.cases(play.volume_id)[-1].case.case_id


def test_nothing_is_learned_of_a_live_migration_and_nothing_fenced(ground: Ground) -> None:
    """Two hosts have the image, both right -> nothing is learned, nobody fenced, no case."""
    watched, before = ground.attached(A), fenced(ground)
    play = ground.attached(A)
    ground.site.cloud.set_server(play.stage.instance_id, task_state="migrating")
    there = ground.on.opened(play.volume_id, B, writes=0)
    with served(ground, watched):
        until(lambda: looked_at(play), LONG)
        assert play.learned() is None
    assert fenced(ground) <= before
    assert play.writer.makes_progress()
    assert there.running
    assert play.state() == (None, "in-use")


def looked_at(play: Play) -> bool:
    """Tell whether the service has looked at an attachment, apart from any case."""
    query = "SELECT attachment_id FROM learned_clients WHERE backend IS NOT NULL"  # after the look
    return play.row in oracle.column(play.ground.site, query)


@pytest.mark.parametrize("part", ["mon", "osd"])
def test_a_cluster_that_hangs_in_the_middle_of_a_fence(ground: Ground, part: str) -> None:
    """Monitor or OSD is frozen while the fence is on its way -> tried again, fenced, no harm."""
    ground.configure(BRIEF, pools=ground.on.rbd.place)
    play = ground.attached(A)
    address = play.address
    with served(ground, play):
        ground.gate.close()
        play.delete_server()
        until(ground.gate.reached, LONG)
        with ground.on.rbd.ceph.frozen(part):
            ground.gate.open()
            until(lambda: "indeterminate" in results(play), LONG)
        until(play.mended, LONG)
        assert play.writer.ended() == FENCED
    assert address in fenced(ground)
    play.is_written_by(ground.on.opened(play.volume_id, B, name="second"))


def results(play: Play) -> list[str]:
    """Return how the calls of the volume's cases ended."""
    cases = play.ground.site.cases(play.volume_id)
    return [intent.result.value for case in cases for intent in case.intents]
