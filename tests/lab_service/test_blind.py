"""The service as it comes, blind and acting through Cinder, on a real Cinder, Nova and Keystone.

UC1-UC5 and the faults that strike one volume are on the lab at once; detachd hears of them through
the lab's own bus. What strikes everybody comes after that, one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import ExitStack

import pytest

from handlers.case import CaseState, VerifiedBy
from tests.lab.inside.faults import ALWAYS, Fault
from tests.lab.openstack import until
from tests.lab.users import Users
from tests.lab_service import mending, use_cases
from tests.lab_service.lab_site import LATE_RPC_TIMEOUTS, Eyes, LabSite
from tests.lab_service.playing import Played, came_out_right
from tests.lab_service.stage import Stage
from tests.lab_service.striking import mended_after_all, stuck_while
from tests.lab_service.use_cases import Scene

Strike = Callable[[Callable[[], object]], Stage]

pytestmark = pytest.mark.timeout(900)  # the first test of a play waits for it to be arranged
EYES = Eyes.BLIND
USE_CASES = [scene for scene in use_cases.SCENES if EYES in scene.eyes]
SCENES = [*USE_CASES, *mending.SCENES]


def name_of(scene: Scene) -> str:
    """Return what a test is called by."""
    return scene.name


@pytest.mark.parametrize("scene", USE_CASES, ids=name_of)
def test_use_case(play: Mapping[str, Future[Played]], scene: Scene) -> None:
    """A volume is stuck -> mended by just the steps it takes, then attached anew and written to."""
    played = play[scene.name].result()
    came_out_right(played)
    if played.after.status == "available":
        assert played.verified_by == VerifiedBy.DRIVER.value


@pytest.mark.parametrize("scene", mending.SCENES, ids=name_of)
def test_fault_while_mending(play: Mapping[str, Future[Played]], scene: Scene) -> None:
    """The call that mends goes wrong -> nothing is made worse; mended when the fault has gone."""
    came_out_right(play[scene.name].result())


@pytest.fixture
def struck(site: LabSite, play: Mapping[str, Future[Played]]) -> Iterator[Strike]:
    """Give what strikes the cloud while a volume is stuck, once every scene of the play is over."""
    wait(play.values())
    with ExitStack() as stack:
        yield lambda strike: stack.enter_context(stuck_while(site, strike))


def _when_no_try_acts(site: LabSite, strike: Callable[[], object]) -> None:
    """Strike when none of Nova's tries can act any more: so that it strikes our own call.

    Before that nothing is asked of Cinder, and by then its volume service is known to be down.
    """
    time.sleep(LATE_RPC_TIMEOUTS * site.lab.settings.rpc_seconds)
    strike()


def test_volume_service_frozen(site: LabSite, struck: Strike) -> None:
    """cinder-volume is frozen -> no answer, all as it was, not parked; thawed: mended."""
    volume_service = site.lab.daemons["cinder-volume"]
    try:
        stage = struck(lambda: _when_no_try_acts(site, volume_service.pause))
        mending.failed(stage)
        assert stage.look() == mending.stuck(stage.host)
    finally:
        volume_service.resume()
    mended_after_all(stage)


def test_driver_uninitialised(site: LabSite, struck: Strike) -> None:
    """Cinder's driver cannot be set up -> each try fails, all as it was; set up: mended."""
    faults, volume_service = site.lab.storage_faults, site.lab.daemons["cinder-volume"]
    try:
        stage = struck(lambda: _when_no_try_acts(site, lambda: _restart_uninitialised(site)))
        mending.failed(stage)
        assert stage.look() == mending.stuck(stage.host)
    finally:
        faults.clear()
        volume_service.restart()
    mended_after_all(stage)


def _restart_uninitialised(site: LabSite) -> None:
    site.lab.storage_faults.add(Fault("check_for_setup_error", times=ALWAYS))
    site.lab.daemons["cinder-volume"].restart()


def test_nova_api_down(site: LabSite, struck: Strike) -> None:
    """nova-api is down -> nobody says who holds it: not a call is made; up again: mended."""
    api = site.lab.daemons["nova-api"]
    try:
        stage = struck(api.kill)
        mending.looked(stage, 3)
        record = stage.case()
        assert (record.case.rule, record.intents) == ("X2.nova-unknown", ())
        assert stage.look() == mending.stuck(stage.host)
    finally:
        api.start()
    mended_after_all(stage)


def test_cinder_api_down(site: LabSite, struck: Strike) -> None:
    """cinder-api is down -> nothing is known, not a call is made; up again: mended."""
    api = site.lab.daemons["cinder-api"]
    try:
        stage = struck(api.kill)
        mending.looked(stage, 3)
        record = stage.case()
        assert (record.case.rule, record.intents) == ("X1.cinder-unknown", ())
    finally:
        api.start()
    mended_after_all(stage)


def test_token_revoked(site: LabSite, struck: Strike) -> None:
    """Every token of our user is revoked -> logged in anew at once: no attempt fails."""
    keystone = Users(site.lab)
    token = keystone.token_of("detachd")
    assert keystone.is_valid(token)

    def revoke() -> None:
        keystone.revoke_tokens("detachd")
        assert not keystone.is_valid(token)
        keystone.forgotten_by_the_apis()

    stage = struck(revoke)
    mended_after_all(stage)
    assert stage.case().case.failures == 0


def test_user_disabled(site: LabSite, struck: Strike) -> None:
    """Keystone does not let our user in -> nothing is known, not a call is made; let in: mended."""
    keystone = Users(site.lab)

    def lock_out() -> None:
        keystone.enable("detachd", yes=False)
        keystone.forgotten_by_the_apis()

    try:
        stage = struck(lock_out)
        mending.looked(stage, 3)
        record = stage.case()
        assert (record.case.rule, record.intents) == ("X1.cinder-unknown", ())
        assert stage.look() == mending.stuck(stage.host)
    finally:
        keystone.enable("detachd", yes=True)
    mended_after_all(stage)


def test_everything_is_closed(site: LabSite) -> None:
    """All that has been here -> each case closed in the end, none for a person."""
    closed = CaseState.CLOSED
    until(lambda: all(c.state is closed for c in site.ledger.cases(limit=10_000)), "all is closed")
