"""Every fault at every step, and a world that moves: nothing is made worse, all comes to rest.

The simulated cloud judges each of our calls by what really happens in it (``Cloud.hazards``): who
is let in, which guest has the disk open. A user attaches the volume anew the moment Cinder says
that it is available, and late calls land up to 300 seconds after they were made.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import ConflictError, IndeterminateError, PermanentError
from drivers.simulator import Cloud, Fault
from handlers.case import CaseState, Conclusion
from tests.unit.handlers.recovery.stuck import STUCK, Stuck, name_of, named
from tests.unit.handlers.recovery.trial import Trial, assert_unharmed, recovery_on

Case = tuple[Stuck, str, str]

LATE_SECONDS = 300.0
METHODS = {
    "backend.force_detach": ("driver.terminate_connection", "driver.detach"),
    "cinder.delete_attachment": (
        "cinder.delete_attachment", "backend.terminate_connection", "backend.remove_export",
    ),
}  # fmt: skip
FAULTS: dict[str, Callable[[str], Fault]] = {
    "fails before, once": Fault.before,
    "fails before, always": lambda m: Fault.before(m, times=1000),
    "may have failed before": lambda m: Fault.before(m, IndeterminateError),
    "may have failed before, always": lambda m: Fault.before(m, IndeterminateError, times=1000),
    "loses the answer": Fault.after,
    "loses every answer": lambda m: Fault.after(m, times=1000),
    "finishes late": Fault.late,
    "finishes late, twice": lambda m: Fault.late(m, times=2),
    "finishes late, always": lambda m: Fault.late(m, times=1000),
    "conflicts, once": lambda m: Fault.before(m, ConflictError),
    "conflicts, always": lambda m: Fault.before(m, ConflictError, times=1000),
    "is refused, once": lambda m: Fault.before(m, PermanentError),
    "is refused, always": lambda m: Fault.before(m, PermanentError, times=1000),
    "is slow": lambda m: Fault.slow(m, 0.01),
}
BELOW = ("backend.terminate_connection", "backend.remove_export")
LOOKS = ("cinder.volume", "nova.server", "driver.observe")
MOST_LOOKS = 6
GHOST_LOOKS = ("cinder.volume", "nova.compute_up", "nova.holders", "driver.observe")
FAILED_LOOKS = ("fails before, once", "may have failed before", "finishes late")
LOOKED_AT = [
    (stuck, method, words)
    for stuck in STUCK
    for method in (GHOST_LOOKS if "ghost" in stuck.name else LOOKS)
    for words in FAILED_LOOKS
]


def struck(stuck: Stuck) -> Iterator[str]:
    """Return every method that the stuck case's plan comes to."""
    for step in stuck.steps_left:
        # Cinder keeps an export that another row's host still needs.
        shared = {"backend.remove_export"} if stuck.hosts else set()
        yield from (m for m in METHODS.get(step, (step,)) if m not in shared)


UNANSWERED = ("may have", "loses", "late")
CASES = [
    (stuck, method, words)
    for stuck in STUCK
    for method in dict.fromkeys(struck(stuck))
    for words in FAULTS
    if method not in BELOW or not ("conflicts" in words or "refused" in words)
]


class World:
    """What goes on around the service: late calls land, and a user is waiting for the volume."""

    def __init__(self, cloud: Cloud, trial: Trial, *, eager: bool) -> None:
        self.cloud, self.trial, self.eager = cloud, trial, eager
        self.under_way: dict[int, float] = {}
        self.attached = 0

    def moves(self, seconds: float) -> None:
        """Let time go by: land what has had its time, and let the user have a try."""
        if self.eager:
            self.user_attaches()
        waited = 0.0
        while waited < seconds and self.cloud.under_way():
            waited += LATE_SECONDS
            if waited <= seconds or seconds >= LATE_SECONDS:
                self.cloud.land_late()

    def user_attaches(self) -> None:
        """Attach the volume, to the same server, as soon as Cinder lets it."""
        volume_id, instance_id = self.trial.kept.volume_id, self.trial.scene.instance_id
        volume = self.cloud.cinder.volume(volume_id, timeout_seconds=1)
        gone = self.cloud.nova.server(instance_id, volume_id, timeout_seconds=1) is None
        if volume and volume.status == "available" and not gone and not self.attached:
            with contextlib.suppress(PermanentError):
                self.cloud.attach(volume_id, instance_id)
                self.attached += 1


def assert_orders(cloud: Cloud, stuck: Stuck, since: int) -> None:
    """Fail where Cinder was told before the backend was released, within what each look allowed."""
    names = [c.name for c in cloud.journal[since:] if c.asked.writes]
    frees = {"cinder.unreserve", "cinder.delete_attachment", "cinder.force_detach"}
    for n, name in enumerate(names):
        if name in frees and "backend.force_detach" in stuck.steps:
            before = names[:n]
            assert "driver.terminate_connection" in before


@given(st.sampled_from(CASES))
def test_a_fault_at_a_step_makes_nothing_worse(case: Case) -> None:
    """A fault at a step -> mended, or a person is asked; no healthy access cut, nothing freed."""
    step_fails(*case)


@pytest.mark.slow
@pytest.mark.parametrize("stuck", STUCK, ids=name_of)
def test_no_fault_at_any_step_makes_anything_worse(stuck: Stuck) -> None:
    """Every fault at every step, each in turn -> the same."""
    for case in CASES:
        if case[0] is stuck:
            step_fails(*case)


def step_fails(stuck: Stuck, method: str, words: str) -> None:
    """Run one case while one of its calls fails in this way."""
    # What gave no answer may act on whoever has the volume next: there the user is waiting.
    eager = any(word in words for word in UNANSWERED)
    with named(method, words), Cloud() as cloud:
        assert_withstands(cloud, stuck, FAULTS[words](method), eager=eager)


def assert_withstands(cloud: Cloud, stuck: Stuck, fault: Fault, *, eager: bool) -> None:
    """Run one case with one fault."""
    trial = stuck.trial(cloud)
    since = len(cloud.journal)
    cloud.script(fault)
    world = World(cloud, trial, eager=eager)
    trial.between = world.moves
    outcome = trial.run(recovery_on(cloud), most=120)
    assert cloud.faults_left() != (fault,), "the fault never struck"
    cloud.clear_faults()
    cloud.land_late()
    assert_unharmed(cloud, trial)
    assert_orders(cloud, stuck, since)
    if outcome.state is CaseState.CLOSED and not world.attached and outcome.rule != "H2.attached":
        stuck.assert_recovered(cloud, trial)


@given(st.sampled_from(LOOKED_AT), st.integers(0, MOST_LOOKS - 1))
def test_a_look_that_fails_holds_nothing_up_for_long(case: Case, skip: int) -> None:
    """One look of many fails -> mended all the same."""
    look_fails(*case, skip)


@pytest.mark.slow
@pytest.mark.parametrize("stuck", STUCK, ids=name_of)
def test_no_look_that_fails_holds_anything_up_for_long(stuck: Stuck) -> None:
    """Each of many looks fails, each in turn -> the same."""
    for case, skip in itertools.product(LOOKED_AT, range(MOST_LOOKS)):
        if case[0] is stuck:
            look_fails(*case, skip)


def look_fails(stuck: Stuck, method: str, words: str, skip: int) -> None:
    """Run one case while one look fails in this way, after ``skip`` that did not."""
    with named(method, words, str(skip)), Cloud() as cloud:
        trial = stuck.trial(cloud)
        fault = FAULTS[words](method)
        cloud.script(Fault(method, fault.effect, fault.error, skip=skip))
        assert trial.run(recovery_on(cloud)).conclusion is Conclusion.MENDED
        cloud.clear_faults()
        stuck.assert_recovered(cloud, trial)
        assert_unharmed(cloud, trial)
