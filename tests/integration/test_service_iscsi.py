"""The running service, a real broker, and real iSCSI: hosts that write are cut or are spared.

A session that the service sees is ended only where Nova says that its guest has ended: else a guest
may be using the disk. What it can meet all the same is a host that logs in between its last look
and its revoke. The gate holds the revoke back for that.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from consumer.demo.scenes import Expected, Scene, Stage
from consumer.demo.wire import Message
from handlers.case import CaseState
from handlers.judgement.policy import BackendPolicy
from tests.bus import until
from tests.integration import oracle
from tests.integration.gate import Gate
from tests.integration.iscsi_cloud import TargetBackend, put_on_targets
from tests.integration.service_process import BRISK, ServiceProcess
from tests.integration.site import REPEATABLE, Act, Broker, Site, earlier_attach, open_site
from tests.iscsi import CONTROL_TARGET, TEMPLATE, Iscsi
from tests.services.fuse_disk import FuseDisk
from tests.services.initiator import Initiator, Initiators
from tests.services.tgtd import Tgtd

pytestmark = pytest.mark.integration

START, END = "volume.force_detach.start", "volume.force_detach.end"
PARKED = "volume.force_detach.parked"
LONG = 90.0

# A command takes some milliseconds, and much longer where everybody else is at work too.
STEADY = dataclasses.replace(
    BRISK, look_timeout_seconds=3.0, call_timeout_seconds=20.0, late_horizon_seconds=1.0
)
SHORT = dataclasses.replace(STEADY, call_timeout_seconds=6.0)


@pytest.fixture
def iscsi(tgtd: Tgtd, initiators: Initiators, tmp_path: Path) -> Iscsi:
    """Give a backend with its control target."""
    made = Iscsi(tgtd, initiators, tmp_path)
    made.add_control_target()
    return made


@pytest.fixture
def gate(iscsi: Iscsi, tmp_path: Path) -> Gate:
    """Give a gate before the revoke."""
    return Gate(tmp_path / "gate", iscsi.tgtd.tgtadm, "unbind")


@pytest.fixture
def site(broker: Broker, tmp_path: Path, iscsi: Iscsi, gate: Gate) -> Iterator[Site]:
    """Give a site on real targets, its service with the driver for them, through the gate."""
    with open_site(broker, tmp_path) as made:
        configure(made, iscsi, gate)
        yield made
        made.check_logs()


@pytest.fixture
def backend(site: Site, iscsi: Iscsi) -> TargetBackend:
    """Put the site's cloud on real targets."""
    return put_on_targets(site.cloud, iscsi)


def configure(site: Site, iscsi: Iscsi, gate: Gate, policy: BackendPolicy = STEADY) -> None:
    """Write the service's configuration."""
    options = iscsi.options(control_target=CONTROL_TARGET, tgtadm=str(gate.program))
    sections = {"backend_defaults": {"driver": "tgt"}, "driver:tgt": options}
    site.detachd.configure(policy, **sections)


# -- what is told and played -----------------------------------------------------------------------


def orphaned(stage: Stage) -> list[Message]:
    """Fail an attach after the export: Cinder goes on saying attaching, Nova holds nothing."""
    attach = stage.cloud.begin_attach(stage.volume_id, stage.instance_id).advance()
    attach.abandon()
    stage.cloud.drop_block_device(stage.instance_id, stage.volume_id)
    story = stage.story()
    return [
        story.nova("attach.start"),
        story.cinder("attach.start", "reserved", stage.shown(attach.attachment_id, "reserved")),
        story.nova_legacy_error("attach_volume", "CinderConnectionFailed", attach.attachment_id),
        story.nova_exception("CinderConnectionFailed"),
    ]


def deleted_server(stage: Stage) -> list[Message]:
    """Delete the server while the backend fails: Nova swallows it, the row and the export stay."""
    attachment_id = stage.attached()
    stage.cloud.delete_server(stage.instance_id)
    row = stage.shown(attachment_id, "attached")
    return [stage.story().cinder("detach.start", "in-use", row) for _ in range(5)]


def reset_and_attached_to_b(stage: Stage) -> list[Message]:
    """Drop A's row by hand, A's guest writing on, and attach to B; the end of that is lost."""
    cloud = stage.cloud
    cloud.drop_attachment(stage.attached())
    server_b = cloud.boot_server(host="compute-b")
    row = cloud.attach(stage.volume_id, server_b)
    there = Stage(cloud, stage.volume_id, server_b, "compute-b")
    return [there.story().cinder("attach.start", "reserved", there.shown(row, "reserved"))]


def both_go_on(*writers: Initiator) -> None:
    """Fail unless each host writes on in its one session."""
    for writer in writers:
        assert writer.makes_progress()
        assert writer.counts().logins == 1


MENDED = Expected("release", "UC1.unfinished", (), (START, END), "available", (), "closed")
STUCK = Scene("stuck", "an attach that never finished", orphaned, MENDED)


@dataclasses.dataclass(frozen=True, slots=True)
class Play:
    """One stuck volume with its host A, and host B at work on another volume."""

    site: Site
    iscsi: Iscsi
    act: Act
    server_b: str
    writer_b: Initiator

    @property
    def volume_id(self) -> str:
        """The stuck volume."""
        return self.act.volume_id

    @property
    def host_a(self) -> str:
        """The host of the attach that never finished."""
        return self.act.stage.host

    def log_in(self, host: str, volume_id: str | None = None, **how: bool) -> Initiator:
        """Start a host that logs in to the volume and writes."""
        return log_in(self.site, self.iscsi, host, volume_id or self.volume_id, **how)

    def state(self) -> tuple[CaseState | None, str]:
        """Return the case's state and what Cinder says of the volume."""
        cases = self.site.cases(self.volume_id)
        return cases[-1].case.state if cases else None, self.site.status(self.volume_id)

    def mended(self) -> bool:
        """Tell whether the case is closed and the volume available."""
        return self.state() == (CaseState.CLOSED, "available")

    def attach_to_b(self) -> Initiator:
        """Attach the volume to B, healthily; return B's session, which has written to it."""
        self.site.cloud.attach(self.volume_id, self.server_b)
        return self.log_in("compute-b").logged_in()

    def b_missed_nothing(self, backend: TargetBackend) -> None:
        """Fail unless B still writes in its one session, and each write is on its disk."""
        assert self.writer_b.makes_progress()
        self.writer_b.pause()
        time.sleep(0.3)
        assert self.writer_b.counts().logins == 1
        (disk,) = (d for name, d in backend.disks.items() if name != self.volume_id)
        assert self.writer_b.missing_writes(disk) == []


def log_in(site: Site, iscsi: Iscsi, host: str, volume_id: str, **how: bool) -> Initiator:
    """Start a host's initiator, by the name that the cloud's connector has."""
    name = site.cloud.connector(host).initiator or ""
    return iscsi.initiators.start(iscsi.tgtd.url, TEMPLATE % volume_id, name, **how)


def begin(
    site: Site,
    iscsi: Iscsi,
    backend: TargetBackend,
    disk: Path | None = None,
    arrange: Callable[[Stage], Sequence[Message]] = orphaned,
) -> Play:
    """Set the scene: B attached to a volume of its own and writing, A's attachment left behind."""
    cloud = site.cloud
    server_b, volume_b = cloud.boot_server(host="compute-b"), cloud.create_volume()
    cloud.attach(volume_b, server_b)
    writer_b = log_in(site, iscsi, "compute-b", volume_b).logged_in()
    scene = dataclasses.replace(STUCK, arrange=arrange)
    if disk is not None:
        scene = dataclasses.replace(STUCK, arrange=lambda stage: on_disk(stage, backend, disk))
    (act,) = site.arrange([scene])
    return Play(site, iscsi, act, server_b, writer_b)


def on_disk(stage: Stage, backend: TargetBackend, disk: Path) -> list[Message]:
    """Orphan an attach of a volume that is on a given disk."""
    backend.disks[stage.volume_id] = disk
    return orphaned(stage)


def finish(play: Play, service: ServiceProcess) -> None:
    """Wait until all is mended and closed, and stop the service."""
    until(play.mended, LONG)
    assert service.terminate() == 0
    oracle.nothing_harmed(play.site)


# -- the tests -------------------------------------------------------------------------------------


def test_scenes_of_the_demo_end_alike_on_real_targets(
    site: Site, backend: TargetBackend, gate: Gate
) -> None:
    """Use cases and look-alikes, the backend a real tgtd -> the same steps, the same end."""
    gate.open()
    acts = site.arrange(REPEATABLE)
    with site.detachd.serve() as service:
        service.ready()
        site.publish(acts)
        oracle.wait_until_over(site, acts, LONG)
        assert service.terminate() == 0
    assert backend.exports
    for act in acts:
        oracle.as_in_the_demo(site, act)
    oracle.all_is_well(site, acts)


@pytest.mark.parametrize("how", ["once", "for ever", "stopped"])
def test_writer_is_cut_and_the_volume_goes_to_another_host(
    site: Site, iscsi: Iscsi, backend: TargetBackend, gate: Gate, how: str
) -> None:
    """A logs in at the last moment and writes -> cut for good; B misses nothing, then has it."""
    play = begin(site, iscsi, backend)
    with site.detachd.serve() as service:
        service.ready()
        site.publish([play.act])
        until(gate.reached, LONG)
        writer_a = play.log_in(play.host_a, for_ever=how == "for ever").logged_in()
        if how == "stopped":
            writer_a.pause()
        gate.open()
        finish(play, service)
    assert site.announced(play.volume_id) == [START, END]
    if how == "stopped":
        writer_a.resume()
    if how != "for ever":
        assert writer_a.ended() == 4
        assert play.log_in(play.host_a).ended() == 3
    written = writer_a.counts().writes
    writer_b = play.attach_to_b()
    assert writer_b.makes_progress()
    if how == "for ever":
        refused = writer_a.counts().refusals
        until(lambda: writer_a.counts().refusals > refused + 3, LONG)
    assert writer_a.counts().writes == written
    play.b_missed_nothing(backend)


@pytest.mark.parametrize("how", ["once", "for ever", "stopped"])
def test_login_that_outlived_its_deleted_server_is_cut(
    site: Site, iscsi: Iscsi, backend: TargetBackend, gate: Gate, how: str
) -> None:
    """Server deleted, Cinder's part failed, A is in session and writes -> cut for good; B has it.

    Nova's record says that A's compute ended the guest: what writes is a login left behind.
    """
    gate.open()
    play = begin(site, iscsi, backend, arrange=deleted_server)
    writer_a = play.log_in(play.host_a, for_ever=how == "for ever").logged_in()
    assert writer_a.makes_progress()
    if how == "stopped":
        writer_a.pause()
    with site.detachd.serve() as service:
        service.ready()
        site.publish([play.act])
        finish(play, service)
    (case,) = site.cases(play.volume_id)
    assert case.outbox[0].payload["rule"] == "S3.deleted-with-server"
    if how == "stopped":
        writer_a.resume()
    if how != "for ever":
        assert writer_a.ended() == 4
        assert play.log_in(play.host_a).ended() == 3
    written = writer_a.counts().writes
    assert play.attach_to_b().makes_progress()
    assert writer_a.counts().writes == written
    play.b_missed_nothing(backend)


def test_writer_beside_another_on_the_same_volume(
    site: Site, iscsi: Iscsi, backend: TargetBackend, gate: Gate
) -> None:
    """A multiattach volume, B attached and writing -> A's stray row and A go, B misses nothing."""
    cloud = site.cloud
    server_b = cloud.boot_server(host="compute-b")

    def beside(stage: Stage) -> list[Message]:
        cloud.set_volume(stage.volume_id, multiattach=True)
        cloud.attach(stage.volume_id, server_b)
        return orphaned(stage)

    (act,) = site.arrange([dataclasses.replace(STUCK, arrange=beside)])
    writer_b = log_in(site, iscsi, "compute-b", act.volume_id).logged_in()
    with site.detachd.serve() as service:
        service.ready()
        site.send([earlier_attach(Stage(cloud, act.volume_id, server_b, "compute-b"))])
        site.publish([act])
        until(gate.reached, LONG)
        writer_a = iscsi.initiators.start(
            iscsi.tgtd.url,
            TEMPLATE % act.volume_id,
            cloud.connector(act.stage.host).initiator or "",
            first_block=8192,
        ).logged_in()
        gate.open()
        until(lambda: site.cases(act.volume_id)[0].case.state is CaseState.CLOSED, LONG)
        assert service.terminate() == 0
    assert (site.status(act.volume_id), site.announced(act.volume_id)) == ("in-use", [START, END])
    assert writer_a.ended() == 4
    assert cloud.exported_to(act.volume_id) == ("compute-b",)
    assert writer_b.makes_progress()
    writer_b.pause()
    time.sleep(0.3)
    assert writer_b.counts().logins == 1
    assert writer_b.missing_writes(backend.disks[act.volume_id]) == []
    oracle.nothing_harmed(site)


def test_writer_that_is_seen_is_left_to_a_person(
    site: Site, iscsi: Iscsi, backend: TargetBackend, gate: Gate
) -> None:
    """A is in session at the look -> parked, not cut; its host stopped, replayed: mended."""
    gate.open()
    play = begin(site, iscsi, backend)
    writer_a = play.log_in(play.host_a, for_ever=True).logged_in()
    with site.detachd.serve() as service:
        service.ready()
        site.publish([play.act])
        until(lambda: play.state()[0] is CaseState.PARKED, LONG)
        (case,) = site.cases(play.volume_id)
        assert "live session" in (case.case.reason or "")
        until(lambda: site.announced(play.volume_id) == [PARKED], LONG)
        assert play.state()[1] == "attaching"
        assert writer_a.makes_progress()
        assert writer_a.counts().logins == 1
        writer_a.kill()
        site.detachd.run("replay", "case", case.case.case_id, "--reason", "host A was stopped")
        finish(play, service)
    assert play.log_in(play.host_a).ended() == 3
    assert play.attach_to_b().makes_progress()
    play.b_missed_nothing(backend)


def test_two_hosts_that_write_are_both_left_to_a_person(
    site: Site, iscsi: Iscsi, backend: TargetBackend, gate: Gate
) -> None:
    """A reset, B attached well while A writes on -> parked, critical; both write on."""
    gate.open()
    play = begin(site, iscsi, backend, arrange=reset_and_attached_to_b)
    writer_a = play.log_in(play.host_a).logged_in()
    second = iscsi.initiators.start(
        iscsi.tgtd.url,
        TEMPLATE % play.volume_id,
        site.cloud.connector("compute-b").initiator or "",
        first_block=8192,
    ).logged_in()
    with site.detachd.serve() as service:
        service.ready()
        site.publish([play.act])
        until(lambda: play.state()[0] is CaseState.PARKED, LONG)
        until(lambda: site.announced(play.volume_id) == [PARKED], LONG)
        assert service.terminate() == 0
    (case,) = site.cases(play.volume_id)
    assert case.case.rule == "P15.two-writers"
    reason = case.case.reason or ""
    assert [word in reason for word in ("critical", play.host_a, "compute-b")] == [True] * 3
    both_go_on(writer_a, second)
    assert site.writes(play.volume_id) == []
    oracle.nothing_harmed(site)


def test_host_of_a_server_that_this_nova_never_had_writes_on(
    site: Site, iscsi: Iscsi, backend: TargetBackend, gate: Gate
) -> None:
    """Attaching, Nova denies the server and never had it, its host writes -> nothing is done."""
    gate.open()
    play = begin(site, iscsi, backend)
    site.cloud.set_server(play.act.stage.instance_id, on_record=False)
    writer_a = play.log_in(play.host_a).logged_in()
    with site.detachd.serve() as service:
        service.ready()
        site.publish([play.act])
        until(lambda: play.state()[0] is CaseState.PARKED, LONG)
        assert service.terminate() == 0
    (case,) = site.cases(play.volume_id)
    assert case.case.rule == "X2.nova-unknown"
    assert "check the region" in (case.case.reason or "")
    both_go_on(writer_a, play.writer_b)
    assert (site.status(play.volume_id), site.writes(play.volume_id)) == ("attaching", [])
    oracle.nothing_harmed(site)


def test_hanging_io_is_never_called_clean(
    site: Site, iscsi: Iscsi, gate: Gate, fuse_disk: FuseDisk, backend: TargetBackend
) -> None:
    """A's I/O hangs in the backend -> not available while its session stays; thawed: mended."""
    configure(site, iscsi, gate, SHORT)
    play = begin(site, iscsi, backend, fuse_disk.disk)
    with site.detachd.serve() as service:
        service.ready()
        site.publish([play.act])
        until(gate.reached, LONG)
        writer_a = play.log_in(play.host_a).logged_in()
        fuse_disk.pause()
        try:
            gate.open()
            until(lambda: play.state()[0] is CaseState.PARKED, LONG)
            assert "live session" in (site.cases(play.volume_id)[0].case.reason or "")
            assert play.state()[1] == "attaching"
            assert END not in site.announced(play.volume_id)
            assert site.cloud.exported_to(play.volume_id) == (play.host_a,)
        finally:
            fuse_disk.resume()
        assert writer_a.ended() == 4
        until(lambda: site.cloud.exported_to(play.volume_id) == ())
        (case,) = site.cases(play.volume_id)
        site.detachd.run("replay", "case", case.case.case_id, "--reason", "the disk is mended")
        finish(play, service)
    assert writer_a.missing_writes(fuse_disk.content) == []
    assert play.attach_to_b().makes_progress()
    play.b_missed_nothing(backend)


def test_frozen_in_the_midst(site: Site, iscsi: Iscsi, gate: Gate, backend: TargetBackend) -> None:
    """The daemon freezes with our revoke in it -> nothing is said of Cinder; thawed: mended."""
    configure(site, iscsi, gate, SHORT)
    play = begin(site, iscsi, backend)
    with site.detachd.serve() as service:
        service.ready()
        site.publish([play.act])
        until(gate.reached, LONG)
        with iscsi.frozen():
            gate.open()
            until(lambda: any(c.case.failures for c in site.cases(play.volume_id)), LONG)
            (case,) = site.cases(play.volume_id)
            assert case.intents[0].result.value == "indeterminate"
            assert site.writes(play.volume_id) == []
            assert END not in site.announced(play.volume_id)
        finish(play, service)
    assert play.log_in(play.host_a).ended() == 3
    assert play.attach_to_b().makes_progress()
    play.b_missed_nothing(backend)


def test_killed_in_the_midst(site: Site, iscsi: Iscsi, gate: Gate, backend: TargetBackend) -> None:
    """Kill -9 of the daemon, started again without targets -> unknown; restored: mended."""
    play = begin(site, iscsi, backend)
    target = TEMPLATE % play.volume_id
    name = site.cloud.connector(play.host_a).initiator or ""
    with site.detachd.serve() as service:
        service.ready()
        site.publish([play.act])
        until(gate.reached, LONG)
        iscsi.tgtd.kill()
        gate.open()
        until(lambda: any(c.case.failures for c in site.cases(play.volume_id)), LONG)
        iscsi.tgtd.start()
        (case,) = site.cases(play.volume_id)
        until(lambda: site.cases(play.volume_id)[0].case.attempts > case.case.attempts + 1, LONG)
        assert "was not found" in (site.cases(play.volume_id)[0].case.reason or "")
        assert (play.state()[1], site.writes(play.volume_id)) == ("attaching", [])
        iscsi.add_control_target()
        iscsi.tgtd.add_target(target, backend.disks[play.volume_id], initiators=(name,))
        finish(play, service)
    assert play.log_in(play.host_a).ended() == 3
    assert play.attach_to_b().makes_progress()
