"""A volume that Nova is swapping for another one looks stuck, on both sides of the swap."""

from __future__ import annotations

import pytest

from drivers.control_plane import Swap
from drivers.simulator import Cloud, Fault, scenes
from handlers.case import CaseState
from handlers.judgement.diagnosis import server_to_ask_of
from handlers.judgement.evidence import Fact, Unknown
from handlers.judgement.rule import Verdict
from tests.unit.handlers.judgement.acting_pictures import (
    ATTACHED,
    ENDED,
    STRAY,
    UC1,
    UC1_LEGACY,
    UC1_RESERVED,
    UC3,
    UC4,
)
from tests.unit.handlers.judgement.pictures import BLIND, Picture, X
from tests.unit.handlers.recovery.stuck import ATTACH, DETACH
from tests.unit.handlers.recovery.trial import QUICK, Trial, recovery_on

ALIKE = (UC1, UC1_RESERVED, UC1_LEGACY, UC1.but(backend=BLIND), STRAY, UC3, UC4)


@pytest.mark.parametrize("picture", ALIKE)
def test_neither_volume_of_a_swap_is_touched(picture: Picture) -> None:
    """Nova has a swap of the server's on record that has not ended -> it is waited for."""
    assert server_to_ask_of(picture.diagnosis) == X
    told = picture.but(swapping=Fact(Swap.UNDER_WAY)).diagnosis
    assert (told.rule, told.verdict) == ("B2.server-busy", Verdict.IN_FLIGHT)
    unknown = picture.but(swapping=Unknown("Nova: 503")).diagnosis
    assert (unknown.rule, unknown.verdict) == ("X2.nova-unknown", Verdict.UNKNOWN)
    assert "503" in unknown.reason
    assert picture.but(swapping=Fact(Swap.NONE)).diagnosis.rule == picture.diagnosis.rule


@pytest.mark.parametrize("picture", [ATTACHED, ENDED, UC1.but(servers=(), unseen=(X,))])
def test_nova_is_asked_of_swaps_only_before_something_is_done_to_a_server(picture: Picture) -> None:
    """Healthy, unknown, or the server is deleted -> one question less."""
    assert server_to_ask_of(picture.diagnosis) is None


def test_the_new_volume_of_a_swap_keeps_its_access(cloud: Cloud) -> None:
    """A swap that takes longer than any deadline, access alone is seen -> nothing is done.

    Nor where Nova does not say. When the swap has failed and left the row behind, it is released.
    """
    scene = scenes.uc1(cloud)
    cloud.export(scene.volume_id, scene.host, sessions=0)
    cloud.set_server(scene.instance_id, swapping=True)
    for operation in (ATTACH, DETACH):
        outcome = Trial(scene, operation).attempt(recovery_on(cloud))
        assert outcome is not None
        assert (outcome.rule, outcome.state) == ("B2.server-busy", CaseState.DUE)
    cloud.set_server(scene.instance_id, swapping=False)
    cloud.script(Fault.before("nova.swapping", times=2 * QUICK.tries))
    trial = Trial(scene, ATTACH)
    outcome = trial.attempt(recovery_on(cloud))
    assert outcome is not None
    assert outcome.rule == "X2.nova-unknown"
    assert cloud.exported_to(scene.volume_id) == (scene.host,)
    cloud.clear_faults()
    assert trial.run(recovery_on(cloud)).state is CaseState.CLOSED
    assert cloud.exported_to(scene.volume_id) == ()
