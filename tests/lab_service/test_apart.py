"""What Cinder and Nova do not agree on, and a Nova that is not the one of this Cinder.

A server is deleted while Cinder does not answer: Nova swallows that, and the volume stays in-use.
It is found by what the bus says of the server, and by the slow round where the bus said nothing. A
Nova of another region denies every server: nothing may be released on its word.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from consumer.ledger import CaseRecord
from handlers.case import Trigger
from tests.behaviour.ground import State
from tests.lab.openstack import until
from tests.lab.region import OTHER_REGION, other_region
from tests.lab_service import mending
from tests.lab_service.lab_site import Eyes, LabSite
from tests.lab_service.playing import HOST
from tests.lab_service.stage import CASE_SECONDS, TERMINATE, Stage, can_be_used_again
from tests.lab_service.use_cases import DELETE, FREE, leaked_untold

pytestmark = pytest.mark.timeout(600)
EYES = Eyes.SEEING
IN_USE = State("in-use", "attached", ("attached",), (HOST,))
LOOKS = {"ledger": {"second_looks_per_minute": 600, "second_look_seconds": 1.0}}
ROUNDS = {"sweep": {"in_use_interval_seconds": 5.0}}
NOTIFICATIONS = "detachd.notifications"


@pytest.fixture
def lent(site: LabSite) -> Iterator[ExitStack]:
    """Give what servers are lent to."""
    with ExitStack() as lent:
        yield lent


def on_stage(site: LabSite, lent: ExitStack) -> Stage:
    """Have a volume, and a server of its own."""
    return Stage(site, site.ground.volume(), lent.enter_context(site.cast.server(HOST)), HOST)


def test_deleted_while_cinder_is_down(site: LabSite, lent: ExitStack) -> None:
    """cinder-api is down while Nova deletes a server -> its volume is found by that, and mended."""
    stage = on_stage(site, lent)
    stage.attach()
    site.stop()  # else its one look may come too soon, and the next one is minutes later
    with site.lab.daemons["cinder-api"].killed():
        stage.delete_server()
    assert stage.look() == IN_USE
    site.serve_again(**LOOKS)
    stage.is_mended()
    _released(stage)


@dataclasses.dataclass(frozen=True, slots=True)
class Left:
    """Volumes that only a Nova which knows them can release.

    ``unheard``: of its server's deletion no message was heard. ``stuck``: what was heard of it made
    a case. ``ghost``: a host is let in, without a row and without a message.
    """

    unheard: Stage
    stuck: Stage
    ghost: Stage

    def all(self) -> tuple[Stage, ...]:
        """Return the three."""
        return self.unheard, self.stuck, self.ghost


def _left(site: LabSite, lent: ExitStack) -> Left:
    """Leave them while nobody listens."""
    left = Left(*(on_stage(site, lent) for _ in range(3)))
    left.unheard.attach()
    left.unheard.breaks(TERMINATE)
    left.unheard.delete_server()
    left.unheard.faults.clear(left.unheard.volume_id)
    until(lambda: _lost_to_the_end(left.unheard), "all that was told of the deletion is lost")
    mending.left_detaching(left.stuck)
    leaked_untold(left.ghost)
    return left


def _lost_to_the_end(stage: Stage) -> bool:
    """Take messages away until the one that says that the server is deleted was among them."""
    ends = [b"instance.delete.end", stage.server_id.encode()]
    bodies = stage.site.peer.take_all(NOTIFICATIONS)
    return any(all(end in body for end in ends) for body in bodies)


def test_nova_of_another_region(site: LabSite, lent: ExitStack) -> None:
    """[nova] is of another region -> said, no 404 believed, nothing released; right: all mended."""
    site.stop()
    left = _left(site, lent)
    before = [stage.look() for stage in left.all()]
    site.policy = dataclasses.replace(site.policy, max_failures=1000)  # nothing is parked meanwhile
    assert before == [IN_USE, mending.stuck(HOST), State("available", "detached", let_in=(HOST,))]
    with other_region(site.lab):
        site.serve_again(nova={"region_name": OTHER_REGION}, **ROUNDS)
        said = f"[nova] in region {OTHER_REGION}"
        until(lambda: said in site.service.log.read_text(), "it is said at the start")
        until(lambda: site.metric("detachd_sweep_strangers_total") >= 1, "the round denies it")
        mending.looked(left.stuck, 2)
        until(lambda: _looked_at(left.ghost), "the ghost was looked at", CASE_SECONDS)
        assert [stage.look() for stage in left.all()] == before
        assert [site.tried(stage.volume_id) for stage in left.all()] == [[], [], []]
        assert left.stuck.case().case.rule == "X2.nova-unknown"
        site.stop()
    site.serve_again(**ROUNDS)
    for stage in left.all():
        stage.is_mended()
    _released(left.unheard)
    assert left.unheard.case().case.trigger is Trigger.SWEEP


def _looked_at(stage: Stage) -> list[CaseRecord]:
    return [c for c in stage.site.cases(stage.volume_id) if c.case.attempts >= 2 and c.case.rule]


def _released(stage: Stage) -> None:
    """Fail unless it was released as what a deleted server left, and can be used again."""
    record = stage.case()
    assert (record.outbox[0].payload["rule"], stage.look()) == ("S3.deleted-with-server", FREE)
    assert [intent.kind.value for intent in record.intents] == ["backend.force_detach", DELETE]
    assert can_be_used_again(stage) > 0
