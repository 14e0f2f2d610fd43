"""Stuck volumes that no notification tells of: the running service finds them in lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from consumer.demo.scenes import SCENES
from handlers.casefile import CaseState, Conclusion, Trigger
from tests.bus import until
from tests.integration import oracle
from tests.integration.service_process import BRISK, Installation, fetch
from tests.integration.site import Act, Site

pytestmark = [pytest.mark.integration, pytest.mark.slow]

SWEEP = {
    "interval_seconds": 1.0,
    "attaching_seconds": 1.0,
    "detaching_seconds": 1.0,
    "reserved_seconds": 1.0,
    "error_seconds": 1.0,
}
FOUND = ("UC1", "UC2", "UC3", "UC4", "healthy, put back")


def arrange(site: Site, *names: str) -> list[Act]:
    """Put these scenes on the stage; the bus tells the connector of each host, and nothing else."""
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
        assert (act.scene.name, record.summary.conclusion) == (act.scene.name, Conclusion.MENDED)
        assert [n.notification.source.value for n in record.notifications] == ["sweep"]
        assert site.status(act.volume_id) in ("available", "in-use")
    assert f"detachd_sweep_missed_by_bus_total {len(acts)}.0" in metrics


def concluded(site: Site, act: Act) -> bool:
    """Tell whether the scene's one case is closed."""
    return [r.summary.state for r in site.cases(act.volume_id)] == [CaseState.CLOSED]


def test_healthy_look_alikes_are_left_alone(site: Site) -> None:
    """A shelved server's reservation and healthy volumes -> looked at, nothing written."""
    site.detachd.configure(BRISK, sweep=SWEEP)
    cloud = site.cloud
    server = cloud.boot_server(host="compute-1")
    shelved = cloud.create_volume()
    cloud.set_status(shelved, "reserved", "reserved")
    row = cloud.add_row(shelved, "reserved", server)
    cloud.add_block_device(server, shelved, row)
    cloud.set_server(server, vm_state="shelved_offloaded", host=None)
    healthy = cloud.create_volume()
    with site.detachd.serve() as service:
        service.ready()
        until(lambda: [r.summary.state for r in site.cases(shelved)] == [CaseState.CLOSED])
        assert service.terminate() == 0
    (record,) = site.cases(shelved)
    assert (record.summary.conclusion, record.summary.trigger) == (
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
    assert record.summary.conclusion is Conclusion.MENDED
    oracle.nothing_harmed(site)
    oracle.announced_once(site)
