"""A Cinder whose own check cannot ask Nova, and a person's order of a service token, for real.

cinder.conf names a region in which there is no Nova. detachd's own [nova] is right, so it proves
what Cinder cannot see.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import pytest

from drivers.cinder_managed import CinderManagedDriver
from drivers.simulator.scenes import Scene
from handlers.case import Action, CaseState, Conclusion, StepResult
from handlers.judgement.policy import BackendPolicy, Mode
from handlers.notification import Operation
from handlers.recovery.recovery import Recovery
from tests.behaviour.ground import HOSTS
from tests.behaviour.on_lab import LabGround
from tests.behaviour.test_nova import ATTACHED, FREE, TRIES, attached, attachment_of, eventually
from tests.lab.openstack import OpenStack
from tests.unit.handlers.recovery.trial import Trial

HOST = HOSTS[0]
POLICY = BackendPolicy(mode=Mode.AUTO, trust_blind=True, tries=1, max_failures=1)


@pytest.fixture
def ground(openstack: OpenStack) -> Iterator[LabGround]:
    """Give the lab as the behaviour suite has it."""
    made = LabGround(openstack)
    yield made
    made.clean_up()


@contextlib.contextmanager
def asking_nowhere(lab: OpenStack) -> Iterator[None]:
    """Have cinder-api look for Nova in a region that there is not."""
    api = lab.daemons["cinder-api"]
    file = api.directory / "cinder.conf"
    right = file.read_text()
    before, _, nova = right.partition("[nova]\n")
    file.write_text(f"{before}[nova]\n{nova.replace('region_name = RegionOne', 'region_name = X')}")
    try:
        api.restart()
        yield
    finally:
        file.write_text(right)
        api.restart()


def left_by_a_deleted_server(ground: LabGround) -> Trial:
    """Delete a server while the backend fails: Nova has let go, the row and the export stay."""
    server_id = ground.servers.boot(HOST)
    volume_id = attached(ground, server_id)
    attachment = attachment_of(ground, volume_id)
    ground.break_backend("terminate_connection", volume_id, times=TRIES)
    ground.servers.delete(server_id)
    eventually(ground, volume_id, ATTACHED)
    scene = Scene(volume_id, server_id, attachment, HOST)
    trial = Trial(scene, Operation.DETACH, backend=None)
    trial.known.clear()  # Cinder has the connector of the row
    return trial


def test_an_ordered_token_recovers_what_cinder_cannot_check(
    openstack: OpenStack, ground: LabGround
) -> None:
    """500 from Cinder's check, nothing changed; one yes -> row, export and status are gone."""
    trial = left_by_a_deleted_server(ground)
    cinder = ground.vouching_on_order
    driver = CinderManagedDriver("lab", {}, cinder=cinder)
    recovery = Recovery(cinder, ground.nova, lambda _: driver, lambda _: POLICY)
    with asking_nowhere(openstack):
        outcome = trial.run(recovery)
        assert (outcome.state, outcome.verdict) == (CaseState.PARKED, "release")
        assert trial.kept.intents[-1].result is StepResult.INDETERMINATE
        eventually(ground, trial.case.volume_id, ATTACHED)
        told = outcome.evidence["instead"][Action.SERVICE_TOKEN.value]
        assert set(told["guards"]["held"]) == {"OWN_CALL_UNANSWERED"}
        order = {
            "approved_by": "alice", "approved_at": trial.now,
            "approved_action": Action.SERVICE_TOKEN,
            "approved_fingerprint": told["guards"]["fingerprint"],
        }  # fmt: skip
        trial.kept = dataclasses.replace(trial.kept, **order, state=CaseState.DUE)
        assert trial.run(recovery).conclusion is Conclusion.MENDED
        eventually(ground, trial.case.volume_id, FREE)
