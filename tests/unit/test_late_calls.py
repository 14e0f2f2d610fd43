"""A call that gave no answer acts late, when somebody else may have the volume by then.

The ledger, recovery and a simulated cloud, without a bus. A user attaches the volume again, on the
same host, as soon as Cinder calls it available; then what was under way acts. The guest that runs
by then must keep its disk.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from consumer.ledger import Ledger, Timing
from consumer.ledger.database.tables import intents
from drivers.errors import IndeterminateError
from drivers.simulator import Cloud
from drivers.simulator.faults import Fault
from drivers.simulator.scenes import TERMINATE, Scene, attached, orphaned_attach
from handlers.case import CaseState, Outcome, StepKind, StepResult
from handlers.judgement.guards import Guard
from handlers.notification import Notification, Operation, Phase, Source
from handlers.recovery.recovery import Recovery
from tests.services import ledgers
from tests.unit.consumer.ledger.making import (
    accept,
    age_notifications,
    claim_one,
    make_due,
    seen,
    told,
)
from tests.unit.handlers.recovery.trial import LEASE_SECONDS, QUICK

NOVA = "nova-compute:compute-1"
LONG = QUICK.late_horizon_seconds + 1.0
AVAILABLE = "available"


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def ledger(tmp_path: Path, cloud: Cloud) -> Iterator[Ledger]:
    """Return a ledger that has heard how the host presents itself to storage."""
    ledger = Ledger(ledgers.sqlite_in(tmp_path), timing=Timing(error_settle_seconds=0.0))
    attachment = seen("attached", attachment_id="earlier", connector=cloud.connector("compute-1"))
    accept(
        ledger, told(Operation.ATTACH, Phase.END, volume_id="another", attachments=(attachment,))
    )
    yield ledger
    ledger.close()


def work(ledger: Ledger, cloud: Cloud) -> Outcome:
    """Work the one case that is due, as a worker does."""
    claim = claim_one(ledger, lease_seconds=LEASE_SECONDS)
    recovery = Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: QUICK)
    outcome = recovery.attempt(ledger.casefile(claim))
    ledger.finish(claim, outcome)
    return outcome


def time_passes(ledger: Ledger) -> None:
    """Let more than the late horizon pass since all that was heard and asked."""
    age_notifications(ledger, LONG)
    ago = timedelta(seconds=LONG)
    with ledger._database.engine.begin() as connection:
        for attachment in connection.execute(intents.select()).all():
            own = intents.update().where(intents.c.intent_id == attachment.intent_id)
            aged = {
                "intended_at": attachment.intended_at - ago,
                "result_at": attachment.result_at - ago,
            }
            connection.execute(own.values(aged))
    make_due(ledger)


def nova_says(
    scene: Scene, operation: Operation, phase: Phase, after_seconds: float, request_id: str
) -> Notification:
    """Return what Nova says of the scene, so long after it began."""
    return told(
        operation,
        phase,
        source=Source.NOVA_VERSIONED,
        publisher_id=NOVA,
        volume_id=scene.volume_id,
        instance_id=scene.instance_id,
        attachment_id=scene.attachment_id,
        request_id=request_id,
        own_request_id=request_id,
        published_at=datetime.now(UTC) + timedelta(seconds=after_seconds),
    )


def failed_detach(scene: Scene, *, took_seconds: float) -> list[Notification]:
    """Return what is heard of a detach through Nova whose five tries were not ended."""
    detach, request_id = Operation.DETACH, f"req-{uuid.uuid4()}"
    tries = [
        told(
            detach, Phase.START, volume_id=scene.volume_id, request_id=request_id,
            own_request_id=f"req-{uuid.uuid4()}",
        )
        for _ in range(5)
    ]  # fmt: skip
    return [
        nova_says(scene, detach, Phase.START, 0.0, request_id),
        *tries,
        nova_says(scene, detach, Phase.ERROR, took_seconds, request_id),
    ]


def status(cloud: Cloud, scene: Scene) -> str | None:
    """Return what Cinder says of the volume."""
    volume = cloud.cinder.volume(scene.volume_id, timeout_seconds=1.0)
    return volume.status if volume else None


def user_attaches_if_offered(cloud: Cloud, scene: Scene) -> None:
    """Attach the volume to another server on the same host, once Cinder calls it available."""
    if status(cloud, scene) == AVAILABLE:
        cloud.attach(scene.volume_id, cloud.boot_server(host=scene.host))


def nobody_is_cut_off(cloud: Cloud, scene: Scene) -> None:
    """Fail where a guest has the disk and its host is not let in any more."""
    guests = cloud.guests_holding(scene.volume_id)
    assert cloud.exported_to(scene.volume_id) == (scene.host,) or not guests
    assert cloud.hazards() == ()


def the_new_guest_keeps_its_disk(cloud: Cloud, scene: Scene) -> None:
    """Fail where no guest has the disk, or one that is not let in."""
    assert status(cloud, scene) == "in-use"
    assert cloud.guests_holding(scene.volume_id)
    nobody_is_cut_off(cloud, scene)


def test_a_release_waits_for_the_unanswered_call_of_another_case(
    cloud: Cloud, ledger: Ledger
) -> None:
    """The attach case's delete hangs, the detach case is due at once -> it waits it out too."""
    scene = orphaned_attach(cloud)
    cloud.script(Fault.late(TERMINATE, volume_id=scene.volume_id))
    accept(ledger, nova_says(scene, Operation.ATTACH, Phase.ERROR, 0.0, "req-attach"))
    work(ledger, cloud)
    (case,) = ledger.cases()
    made = [(i.kind, i.result) for i in ledger.case(case.case_id).intents]
    assert made[-1] == (StepKind.CINDER_DELETE_ATTACHMENT, StepResult.INDETERMINATE)

    accept(ledger, nova_says(scene, Operation.DETACH, Phase.ERROR, 0.0, "req-detach"))
    outcome = work(ledger, cloud)
    user_attaches_if_offered(cloud, scene)
    assert cloud.land_late(scene.volume_id) == 1
    nobody_is_cut_off(cloud, scene)
    assert Guard.OWN_CALL_UNANSWERED.sentence in outcome.reason

    time_passes(ledger)
    work(ledger, cloud)
    user_attaches_if_offered(cloud, scene)
    the_new_guest_keeps_its_disk(cloud, scene)


def test_a_detach_waits_for_nova_s_own_tries(cloud: Cloud, ledger: Ledger) -> None:
    """Nova's five tries hang -> the volume is not asked of Nova before none of them can act."""
    scene = attached(cloud)
    cloud.script(Fault.late(TERMINATE, volume_id=scene.volume_id, times=5))
    cloud.detach(scene.volume_id, scene.instance_id)
    accept(ledger, *failed_detach(scene, took_seconds=300.0))
    outcome = work(ledger, cloud)
    user_attaches_if_offered(cloud, scene)
    assert cloud.land_late(scene.volume_id) == 5
    nobody_is_cut_off(cloud, scene)
    assert Guard.LATE_DETACH.sentence in outcome.reason
    assert outcome.delay_seconds == pytest.approx(QUICK.late_horizon_seconds, abs=30.0)

    time_passes(ledger)
    work(ledger, cloud)
    user_attaches_if_offered(cloud, scene)
    the_new_guest_keeps_its_disk(cloud, scene)


def test_a_detach_that_was_refused_at_once_does_not_wait(cloud: Cloud, ledger: Ledger) -> None:
    """The array refused all five tries within a moment -> mended at the first look, as ever."""
    scene = attached(cloud)
    cloud.script(Fault.before(TERMINATE, volume_id=scene.volume_id, times=5))
    cloud.detach(scene.volume_id, scene.instance_id)
    accept(ledger, *failed_detach(scene, took_seconds=0.4))
    assert work(ledger, cloud).mended
    user_attaches_if_offered(cloud, scene)
    assert cloud.under_way() == ()
    the_new_guest_keeps_its_disk(cloud, scene)


def test_a_try_that_begins_after_the_claim_is_waited_out_too(cloud: Cloud, ledger: Ledger) -> None:
    """Another client's delete hangs while we look -> the volume is not given away under it."""
    scene = orphaned_attach(cloud)
    accept(ledger, nova_says(scene, Operation.ATTACH, Phase.ERROR, 0.0, "req-attach"))
    claim = claim_one(ledger, lease_seconds=LEASE_SECONDS)
    cloud.script(Fault.late(TERMINATE, volume_id=scene.volume_id))
    with pytest.raises(IndeterminateError):
        cloud.cinder.delete_attachment(
            scene.attachment_id, request_id="req-another", timeout_seconds=1.0
        )
    names = {"volume_id": scene.volume_id, "attachment_id": scene.attachment_id}
    ids = {"request_id": "req-another", "own_request_id": "req-another"}
    accept(ledger, told(Operation.DETACH, Phase.START, **names, **ids))
    recovery = Recovery(cloud.cinder, cloud.nova, cloud.driver, lambda _: QUICK)
    outcome = recovery.attempt(ledger.casefile(claim))
    ledger.finish(claim, outcome)
    user_attaches_if_offered(cloud, scene)
    assert cloud.land_late(scene.volume_id) == 1
    nobody_is_cut_off(cloud, scene)
    assert Guard.LATE_DETACH.sentence in outcome.reason


def test_the_end_is_not_told_while_our_own_call_may_act(cloud: Cloud, ledger: Ledger) -> None:
    """Our delete hangs and another hand frees the volume -> no end before the call cannot act.

    Whoever hears the end may take it for leave to use the volume.
    """
    scene = orphaned_attach(cloud)
    cloud.script(Fault.late(TERMINATE, volume_id=scene.volume_id))
    accept(ledger, nova_says(scene, Operation.ATTACH, Phase.ERROR, 0.0, "req-attach"))
    work(ledger, cloud)
    cloud.drop_attachment(scene.attachment_id)
    assert status(cloud, scene) == AVAILABLE
    make_due(ledger)
    outcome = work(ledger, cloud)
    assert (outcome.state, outcome.mended) == (CaseState.DUE, False)
    assert [a.event_type for a in outcome.announcements] == []

    cloud.land_late(scene.volume_id)
    time_passes(ledger)
    assert work(ledger, cloud).mended
