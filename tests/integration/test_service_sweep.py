"""Stuck volumes that no notification tells of: the running service finds them in lists."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from consumer.demo.scenes import SCENES, Expected, Scene, Stage
from consumer.demo.wire import Message
from consumer.ledger import CaseRecord
from handlers.case import CaseState, Conclusion, Trigger
from handlers.judgement.policy import Mode
from tests.bus import until
from tests.integration import oracle
from tests.integration.service_process import BRISK, UNHURRIED, Installation, fetch
from tests.integration.site import Act, Site

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SWEEP = {
    "enabled": True,
    "interval_seconds": 1.0,
    "attaching_seconds": 1.0,
    "detaching_seconds": 1.0,
    "reserved_seconds": 1.0,
    "error_seconds": 1.0,
}
FOUND = ("UC1", "UC2", "UC3", "UC4", "healthy, reset")


def arrange(site: Site, *names: str) -> list[Act]:
    """Put these scenes on the stage; the bus tells the connector of each host, and nothing else."""
    site.ledger.sweeps.acknowledge("a person", "all of them are meant to be found")
    acts = site.arrange([s for s in SCENES if s.name.startswith(names)])
    site.introduce(acts)
    return acts


def test_what_no_event_told_of_is_found_and_mended(site: Site) -> None:
    """UC1 to UC4 and the late first try, all in silence -> cases by the sweep, each mended."""
    site.detachd.configure(BRISK, sweep=SWEEP)
    with site.detachd.serve() as service:
        service.ready()
        acts = arrange(site, *FOUND)
        assert len(acts) == len(FOUND)
        until(lambda: all(concluded(site, act) for act in acts), 60.0)
        metrics = fetch(site.detachd.port, "/metrics")[1]
        assert service.terminate() == 0
    oracle.nothing_harmed(site)
    for act in acts:
        (record,) = site.cases(act.volume_id)
        assert (act.scene.name, record.case.conclusion) == (act.scene.name, Conclusion.MENDED)
        assert [n.notification.source.value for n in record.notifications] == ["sweep"]
        assert site.status(act.volume_id) in ("available", "in-use")
    assert f"detachd_sweep_missed_by_bus_total {len(acts)}.0" in metrics


def concluded(site: Site, act: Act) -> bool:
    """Tell whether the scene's one case is closed."""
    return [r.case.state for r in site.cases(act.volume_id)] == [CaseState.CLOSED]


def test_healthy_look_alikes_are_left_alone(site: Site) -> None:
    """A shelved server's reservation and healthy volumes -> looked at, nothing written."""
    site.detachd.configure(BRISK, sweep=SWEEP)
    cloud = site.cloud
    server = cloud.boot_server(host="compute-1")
    shelved = cloud.create_volume()
    cloud.set_status(shelved, "reserved", "reserved")
    row = cloud.add_attachment(shelved, "reserved", server)
    cloud.add_block_device(server, shelved, row)
    cloud.set_server(server, vm_state="shelved_offloaded", host=None)
    healthy = cloud.create_volume()
    with site.detachd.serve() as service:
        service.ready()
        until(lambda: [r.case.state for r in site.cases(shelved)] == [CaseState.CLOSED])
        assert service.terminate() == 0
    (record,) = site.cases(shelved)
    assert (record.case.conclusion, record.case.trigger) == (
        Conclusion.HEALTHY, Trigger.SWEEP,
    )  # fmt: skip
    assert site.writes(shelved) == site.writes(healthy) == []
    assert site.cases(healthy) == []


def test_two_replicas_make_one_case(site: Site, tmp_path: Path) -> None:
    """Two services on one ledger, both sweeping -> one case, mended once."""
    site.detachd.configure(BRISK, sweep=SWEEP)
    other = Installation(tmp_path / "other", site.detachd.places)
    other.configure(BRISK, sweep=SWEEP)
    with site.detachd.serve() as first, other.serve() as second:
        first.ready()
        second.ready()
        (act,) = arrange(site, "UC1")
        until(lambda: concluded(site, act), 60.0)
        assert [second.terminate(), first.terminate()] == [0, 0]
    (record,) = site.cases(act.volume_id)
    assert record.case.conclusion is Conclusion.MENDED
    oracle.nothing_harmed(site)
    oracle.announced_once(site)


# -- available, and exported all the same ----------------------------------------------------------

GHOST_STEPS = ("cinder.reserve", "backend.force_detach", "cinder.unreserve")
ENDED = Expected("terminate", "UC5.ghost", GHOST_STEPS, ("start", "end"), "available", (), "closed")
HELD = Expected("park", "P6.guest-holds", (), ("parked",), "available", ("HOST",), "parked")


def left_behind(stage: Stage) -> Sequence[Message]:
    """Leave an export behind, of which no message ever told."""
    stage.cloud.export(stage.volume_id, stage.host)
    return ()


def reset_by_hand(stage: Stage) -> Sequence[Message]:
    """Have an operator reset an attached volume, whose guest writes on."""
    row = stage.attached()
    stage.cloud.drop_attachment(row)
    stage.cloud.set_status(stage.volume_id, "available", "detached")
    return ()


def ghosts(site: Site, policy_mode: Mode, *scenes: Scene) -> list[CaseRecord]:
    """Sweep until each scene, of which the bus tells nothing but the host's connector, rests."""
    policy = dataclasses.replace(UNHURRIED, mode=policy_mode)
    site.detachd.configure(policy, sweep=SWEEP)
    with site.detachd.serve() as service:
        service.ready()
        acts = site.arrange(scenes)
        site.introduce(acts)
        oracle.wait_until_over(site, acts)
        assert service.terminate() == 0
    oracle.nothing_harmed(site)
    oracle.announced_once(site)
    records = [site.cases(act.volume_id) for act in acts]
    assert [len(found) for found in records] == [1] * len(acts)
    return [found[0] for found in records]


def test_ghost_is_ended_and_announced_as_the_fifth_use_case(site: Site) -> None:
    """Mode auto, one compute host let in that no server uses it on -> ended, mended, told."""
    (record,) = ghosts(site, Mode.AUTO, Scene("ghost", "left behind", left_behind, ENDED))
    volume_id = record.case.volume_id
    assert record.case.conclusion is Conclusion.MENDED
    assert [n.notification.event_type for n in record.notifications] == ["sweep.exported"]
    assert [i.kind.value for i in record.intents] == [*GHOST_STEPS]
    assert (site.status(volume_id), site.cloud.exported_to(volume_id)) == ("available", ())
    assert site.announced(volume_id) == [
        "volume.force_detach.start", "volume.force_detach.end",
    ]  # fmt: skip
    for told in record.outbox:
        assert (told.payload["rule"], told.payload["use_case"]) == ("UC5.ghost", "UC5")
        assert told.payload["instance_uuid"] is None


def test_ghost_is_parked_with_its_plan_in_mode_observe(site: Site) -> None:
    """Mode observe -> parked with what would have been done, and nothing is done."""
    observed = dataclasses.replace(ENDED, announced=("parked",), state="parked")
    (record,) = ghosts(site, Mode.OBSERVE, Scene("ghost", "left behind", left_behind, observed))
    volume_id = record.case.volume_id
    assert (record.case.state, record.case.rule) == (CaseState.PARKED, "UC5.ghost")
    assert "the mode is observe" in (record.case.reason or "")
    (parked,) = record.outbox
    assert parked.payload["use_case"] == "UC5"
    look = next(h.detail["evidence"] for h in record.history if h.detail and h.rule == "UC5.ghost")
    assert [step["step"] for step in look["plan"]] == [*GHOST_STEPS]
    assert look["holding"] == {"host": record.case.host, "compute_up": True, "holders": []}
    assert site.writes(volume_id) == []
    assert site.cloud.exported_to(volume_id) == (record.case.host,)


def test_ghost_waits_for_a_yes_in_mode_approve(site: Site) -> None:
    """Mode approve -> waits; `detachd case approve` -> ended as in mode auto."""
    scene = Scene("ghost", "left behind", left_behind, ENDED)
    site.detachd.configure(dataclasses.replace(UNHURRIED, mode=Mode.APPROVE), sweep=SWEEP)
    with site.detachd.serve() as service:
        service.ready()
        (act,) = site.arrange([scene])
        site.introduce([act])
        until(lambda: waiting_for_a_yes(site, act), 60.0)
        assert site.writes(act.volume_id) == []
        case = site.cases(act.volume_id)[0].case
        plan = ("--plan", case.fingerprint or "")
        site.detachd.run("case", "approve", case.case_id, *plan, "--reason", "nobody has it")
        oracle.wait_until_over(site, [act])
        assert service.terminate() == 0
    assert concluded(site, act)
    assert site.cloud.exported_to(act.volume_id) == ()
    oracle.nothing_harmed(site)


def waiting_for_a_yes(site: Site, act: Act) -> bool:
    """Tell whether the scene's one case asks a person."""
    states = [r.case.state for r in site.cases(act.volume_id)]
    return states == [CaseState.AWAITING_APPROVAL]


def test_volume_that_a_guest_still_has_is_no_ghost(site: Site) -> None:
    """Reset by hand, and Nova holds a server of the host to have it -> parked with its name."""
    (record,) = ghosts(site, Mode.AUTO, Scene("reset", "by hand", reset_by_hand, HELD))
    assert (record.case.state, record.case.rule) == (CaseState.PARKED, "P6.guest-holds")
    (holder,) = site.cloud.guests_holding(record.case.volume_id)
    assert holder in (record.case.reason or "")
    assert site.writes(record.case.volume_id) == []
    assert site.cloud.exported_to(record.case.volume_id) == (record.case.host,)
