"""A crash at any place: the next process ends in the same state, and nothing is lost or harmed."""

from __future__ import annotations

import pytest

from drivers.simulator import Cloud
from handlers.announcement import Event
from handlers.case import CaseState, Conclusion
from handlers.judgement.rule import ACTING, Verdict
from tests.unit.handlers.recovery.stuck import STUCK, STUCK_BY_NAME, Stuck
from tests.unit.handlers.recovery.trial import Trial, assert_unharmed, recovery_on


def places_of(stuck: Stuck) -> int:
    """Return at how many places a crash makes a difference in the whole life of the case."""
    with Cloud() as cloud:
        trial = stuck.trial(cloud)
        trial.run(recovery_on(cloud))
        return trial.places


def acted_on(trial: Trial) -> set[Verdict]:
    """Return the verdicts that the announced ends name."""
    ends = (told for told in trial.announced if told.event_type == Event.END.value)
    return {Verdict(told.payload["verdict"]) for told in ends}


@pytest.mark.parametrize("stuck", STUCK, ids=[s.name for s in STUCK])
def test_a_crash_at_any_place_ends_in_the_same_state(stuck: Stuck) -> None:
    """Kill -9 before or after every write, and before the finish -> the same end, nothing lost."""
    places = places_of(stuck)
    assert places >= 4 * len(stuck.steps_left)
    for place in range(1, places + 1):
        with Cloud() as cloud:
            trial = stuck.trial(cloud)
            trial.crash_at = place
            outcome = trial.run(recovery_on(cloud))
            assert trial.crash_at is None
            assert outcome.conclusion is Conclusion.MENDED, place
            assert "end" in trial.events()
            assert acted_on(trial) <= ACTING, "the end names what was done, not the clean look"
            stuck.assert_recovered(cloud, trial)
            assert_unharmed(cloud, trial)


@pytest.mark.parametrize("name", ["UC1", "UC4, guest runs", "UC5", "UC2"])
def test_two_crashes_anywhere_end_in_the_same_state(name: str) -> None:
    """Any two crashes -> the same end."""
    stuck = STUCK_BY_NAME[name]
    places = places_of(stuck)
    for first in range(1, places + 1):
        for second in range(1, places + 1, 3):
            with Cloud() as cloud:
                trial = stuck.trial(cloud)
                recovery = recovery_on(cloud)
                trial.crash_at = first
                assert trial.attempt(recovery) is None or trial.crash_at is not None
                trial.crash_at = trial.places + second
                assert trial.run(recovery).conclusion is Conclusion.MENDED
                stuck.assert_recovered(cloud, trial)
                assert_unharmed(cloud, trial)


def test_a_crash_in_every_attempt_parks_it(cloud: Cloud) -> None:
    """Something in the case ends the process each time -> parked after the third."""
    trial = STUCK_BY_NAME["UC5"].trial(cloud)
    recovery = recovery_on(cloud)
    for _ in range(3):
        trial.crash_at = trial.places + 1
        assert trial.attempt(recovery) is None
    outcome = trial.attempt(recovery)
    assert outcome is not None
    assert (outcome.state, outcome.rule) == (CaseState.PARKED, "P11.crashes")
    assert cloud.hazards() == ()
