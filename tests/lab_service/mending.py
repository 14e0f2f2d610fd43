"""Faults that strike while a blind service mends: nothing is made worse, and it mends afterwards.

All begin alike: a server was deleted while the backend let nobody go, so that Cinder says detaching
and the host is let in. What mends it is one ``DELETE /attachments/{id}``, and that goes wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from handlers.case import CaseState
from tests.behaviour.ground import State
from tests.lab.openstack import until
from tests.lab_service.lab_site import Eyes
from tests.lab_service.stage import CASE_SECONDS, REMOVE, TERMINATE, Stage
from tests.lab_service.use_cases import DELETE, Expected, Scene

TRYING = (CaseState.DUE, CaseState.SETTLING)
RULE = "UC3.released-in-nova"


def stuck(host: str) -> State:
    """Return what ``left_detaching`` leaves: nothing of it has changed while a fault is there."""
    return State("detaching", "attached", ("attached",), (host,))


def left_detaching(stage: Stage) -> None:
    """Detach and delete the server while the backend fails, then let the backend work again."""
    stage.attach()
    stage.breaks(TERMINATE)
    stage.begin_detach()
    stage.was_called(TERMINATE)
    stage.delete_server()
    stage.faults.withdraw(stage.volume_id)


def failed(stage: Stage, times: int = 1) -> None:
    """Wait until attempts at the case have failed; it must go on trying."""
    until(lambda: _failures(stage) >= times, f"{times} attempts failed", CASE_SECONDS)
    assert stage.case().case.state in TRYING, stage.case().case


def looked(stage: Stage, times: int) -> None:
    """Wait until the case was looked at that often in vain: an outage is no failure of a case."""
    until(lambda: _attempts(stage) >= times, f"looked {times} times", CASE_SECONDS)
    assert stage.case().case.state in TRYING, stage.case().case


def _attempts(stage: Stage) -> int:
    return max(
        (c.case.attempts for c in stage.site.cases(stage.volume_id) if c.case.rule), default=0
    )


def _failures(stage: Stage) -> int:
    return max((c.case.failures for c in stage.site.cases(stage.volume_id)), default=0)


def _arranged(fault: Callable[[Stage], None]) -> Callable[[Stage], None]:
    def arrange(stage: Stage) -> None:
        left_detaching(stage)
        fault(stage)

    return arrange


def _raises_until_taken_back(stage: Stage) -> None:
    failed(stage)
    assert stage.look() == stuck(stage.host)
    stage.faults.clear(stage.volume_id)


def _raises_after_acting(stage: Stage) -> None:
    failed(stage)
    assert stage.look() == State("detaching", "attached", ("attached",))
    stage.faults.clear(stage.volume_id)


def _hangs_until_released(stage: Stage) -> None:
    failed(stage)
    assert stage.look() == stuck(stage.host)
    assert stage.faults.hanging(stage.volume_id) == 1
    stage.faults.clear(stage.volume_id)


def _hangs_when_let_go(stage: Stage) -> None:
    failed(stage)
    assert stage.look().let_in == ()
    assert stage.look().status in ("detaching", "available")
    stage.faults.clear(stage.volume_id)


def _scene(
    name: str,
    title: str,
    fault: Callable[[Stage], None],
    later: Callable[[Stage], None] | None,
    *steps: str,
) -> Scene:
    def expected(_: Eyes, host: str) -> Expected:
        return Expected(stuck(host), RULE, steps, told=None)

    return Scene(name, title, _arranged(fault), expected, later, (Eyes.BLIND,))


SCENES: tuple[Scene, ...] = (
    _scene(
        "terminate raises",
        "each try fails until the fault is taken back",
        lambda stage: stage.breaks(TERMINATE),
        _raises_until_taken_back,
        DELETE,
    ),
    _scene(
        "terminate raises after acting",
        "the host is shut out, and Cinder says 500 all the same",
        lambda stage: stage.breaks(TERMINATE, acts=True),
        _raises_after_acting,
        DELETE,
    ),
    _scene(
        "terminate hangs",
        "no answer; the backend acts late, and Cinder is asked again when it cannot any more",
        lambda stage: stage.hangs(TERMINATE),
        _hangs_until_released,
        DELETE,
    ),
    _scene(
        "remove_export raises",
        "Cinder swallows it and says 200: nobody is let in, an empty target stays",
        lambda stage: stage.breaks(REMOVE, times=1),
        None,
        DELETE,
    ),
    _scene(
        "remove_export hangs",
        "no answer; the host is shut out already",
        lambda stage: stage.hangs(REMOVE),
        _hangs_when_let_go,
        DELETE,
    ),
)
