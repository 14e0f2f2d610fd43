"""Each clause of the conformance suite catches the drivers that break it, and passes a good one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.cinder_managed import CinderManagedDriver
from drivers.conformance import StorageDriverConformance
from drivers.errors import OutsideError
from drivers.simulator import Cloud, SimulatorDriver
from tests.conformance import blunders_in_trouble as trouble
from tests.conformance import blunders_of_eyes as eyes
from tests.conformance import blunders_of_hands as hands
from tests.conformance.simulator_ground import SimulatorGround

Kind = type[SimulatorDriver] | type[CinderManagedDriver]

BREAKERS: dict[str, tuple[Kind, ...]] = {
    # what is seen
    "test_connected_hosts_are_seen_as_they_are": (
        eyes.SeesNobody, eyes.SeesTheFirstOnly, eyes.SeesItself, eyes.WithoutControl,
    ),
    "test_every_session_is_counted": (eyes.CountsHosts,),
    "test_access_without_a_session_is_seen": (eyes.SeesSessionsOnly,),
    "test_session_without_access_is_seen": (eyes.SeesAccessOnly,),
    "test_idle_volume_is_seen_idle": (eyes.SeesItself, eyes.WithoutControl),
    "test_migrated_volume_is_found": (eyes.KnowsOneName,),
    "test_unknown_volume_is_not_clean": (eyes.CallsTheUnknownClean, eyes.NotFoundByAnotherName),
    "test_wrong_place_is_not_clean": (eyes.CallsTheUnknownClean, eyes.NotFoundByAnotherName),
    "test_observe_changes_nothing": (eyes.TidiesUpWhileLooking,),
    # what is listed
    "test_list_agrees_with_observe": (
        eyes.ListsNothing, eyes.ListsNames, eyes.ListsWithoutConnections,
    ),
    "test_listing_changes_nothing": (eyes.TidiesUpWhileListing,),
    "test_undeclared_list_is_refused": (eyes.ListsUndeclared,),
    # who is released
    "test_released_host_is_gone": (
        hands.SaysDoneAndDoesNothing, hands.RemembersConnections, hands.EndsSessionsOnly,
    ),
    "test_second_detach_is_success": (hands.InsistsOnAConnection,),
    "test_never_attached_is_success": (hands.InsistsOnAConnection, hands.CutsEverybody),
    "test_access_without_a_session_is_released": (hands.ReleasesSessionsOnly,),
    "test_session_without_access_is_released": (hands.ReleasesAccessOnly,),
    "test_every_session_is_ended": (hands.EndsOneSession,),
    "test_migrated_volume_is_released": (hands.ReleasesUnderOneName,),
    "test_host_that_comes_back_stays_out": (hands.EndsSessionsOnly,),
    "test_stuck_session_is_not_called_clean": (
        hands.TrustsItsOwnOrder, hands.BlindToWhatIsLeft,
    ),
    # who is spared
    "test_bystander_keeps_its_access": (hands.CutsEverybody, hands.DetachesEverybody),
    "test_other_volume_of_the_host_keeps_its_access": (hands.CutsTheHost,),
    "test_host_under_another_name_is_left_alone_and_told": (
        hands.CutsEverybody, hands.CutsEveryNameOfTheHost, eyes.SeesWhomTheRecordsName,
    ),
    "test_without_connector_nobody_is_cut[terminate_connection]": (
        hands.TakesNoConnectorForAll, hands.SaysDoneAndDoesNothing,
    ),
    "test_without_connector_nobody_is_cut[detach]": (hands.DetachesEverybody,),
    "test_without_connector_nobody_is_cut[force_detach]": (
        hands.TakesNoConnectorForAll, hands.SaysDoneAndDoesNothing,
    ),
    "test_without_connector_everybody_is_released": (
        hands.AcceptsAndRefuses, hands.AcceptsAndIgnores,
    ),
    # what goes wrong
    "test_frozen_backend_is_bounded[observe]": (trouble.Patient, eyes.SwallowsTimeoutsOfLooks),
    "test_frozen_backend_is_bounded[list_exports]": (
        trouble.Patient, eyes.SwallowsTimeoutsOfLooks,
    ),
    "test_frozen_backend_is_bounded[terminate_connection]": (
        trouble.Patient, trouble.SwallowsTimeouts, hands.SaysDoneAndDoesNothing,
    ),
    "test_frozen_backend_is_bounded[detach]": (trouble.Patient, trouble.RaisesItsOwn),
    "test_frozen_backend_is_bounded[force_detach]": (trouble.Patient, trouble.SwallowsTimeouts),
    "test_nothing_is_done_where_an_error_says_so[terminate_connection]": (
        trouble.CallsTimeoutsTransient, trouble.CallsTimeoutsRefused,
    ),
    "test_nothing_is_done_where_an_error_says_so[detach]": (
        trouble.CallsTimeoutsTransient, trouble.CallsTimeoutsRefused,
    ),
    "test_nothing_is_done_where_an_error_says_so[force_detach]": (
        trouble.CallsTimeoutsTransient, trouble.CallsTimeoutsRefused,
    ),
    "test_release_goes_through_after_a_thaw": (
        trouble.GivesUpAfterATimeout, hands.RemembersConnections,
    ),
    "test_unknown_volume_is_not_released": (hands.ReleasesTheUnknown,),
    "test_errors_carry_no_secret": (
        trouble.TellsItsKey, trouble.ChainsItsKey, trouble.LogsItsKey, trouble.ShowsItsKey,
    ),
    # threads
    "test_looks_at_once_are_kept_apart": (eyes.KeepsTheVolume,),
    "test_releases_at_once_are_kept_apart": (
        trouble.KeepsTheAttachment, trouble.CutsEverybodyInACrowd,
    ),
    # what is declared
    "test_blind_driver_refuses_to_look": (eyes.SeesUnseen,),
    "test_hosts_are_told_only_where_declared": (eyes.SeesNamesOnly, eyes.DoesNotDeclareHosts),
    "test_sessions_end_only_where_declared": (
        eyes.DoesNotDeclareSessions, hands.SaysDoneAndDoesNothing,
    ),
    "test_access_goes_where_declared": (
        eyes.DoesNotDeclareAccess, hands.SaysDoneAndDoesNothing,
    ),
    "test_driver_is_made_without_asking_the_backend": (eyes.AsksWhenMade,),
    "test_options_are_explained": (eyes.OptionWithoutHelp,),
    "test_secret_options_are_marked": (eyes.PasswordInTheOpen,),
}  # fmt: skip
GOOD: dict[str, Kind] = {
    "test_undeclared_list_is_refused": CinderManagedDriver,
    "test_blind_driver_refuses_to_look": CinderManagedDriver,
    "test_without_connector_everybody_is_released": hands.TakesEverybody,
}
"""What passes the clauses that are about a driver which declares something else than most."""

Run = Callable[[str, Kind], None]


@pytest.fixture
def run(caplog: pytest.LogCaptureFixture) -> Iterator[Run]:
    """Return what runs one clause against a driver class, on a cloud of its own."""
    suite = StorageDriverConformance()
    suite.timeout_seconds, suite.settle_seconds = 0.3, 0.02
    with Cloud() as cloud:

        def run(clause: str, kind: Kind) -> None:
            name, _, method = clause.removesuffix("]").partition("[")
            caplog.clear()
            ground = SimulatorGround(cloud, kind)
            scene: dict[str, Any] = {"ground": ground, "caplog": caplog, "method": method}
            test = getattr(suite, name)
            wanted = inspect.signature(test).parameters
            if "driver" in wanted:
                scene["driver"] = ground.driver()
            test(**{parameter: scene[parameter] for parameter in wanted})

        yield run


@pytest.mark.parametrize("clause", BREAKERS)
def test_good_driver_passes(run: Run, clause: str) -> None:
    """A driver keeps the clause -> it passes, and is not skipped."""
    try:
        run(clause, GOOD.get(clause, SimulatorDriver))
    except pytest.skip.Exception as skipped:
        pytest.fail(f"the clause did not run: {skipped}")


@pytest.mark.parametrize(
    ("clause", "kind"),
    [(clause, kind) for clause, kinds in BREAKERS.items() for kind in kinds],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_broken_driver_is_caught(run: Run, clause: str, kind: Kind) -> None:
    """A driver breaks the clause -> the clause fails; being skipped would not be enough."""
    try:
        run(clause, kind)
    except (pytest.fail.Exception, OutsideError, KeyError, RuntimeError):
        return
    except pytest.skip.Exception as skipped:
        pytest.fail(f"the clause did not run: {skipped}")
    pytest.fail(f"{kind.__name__} got through: {kind.__doc__}")


def test_every_clause_has_a_driver_that_breaks_it() -> None:
    """The suite's clauses, each for each method -> none is left that cannot fail."""
    clauses = set(clauses_of(StorageDriverConformance))
    assert clauses == set(BREAKERS)
    assert all(BREAKERS.values())


def test_every_broken_driver_is_shown_to_be_caught() -> None:
    """A blunder was written down -> some clause catches it."""
    written = {
        kind
        for module in (eyes, hands, trouble)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__
    }
    used = {kind for kinds in BREAKERS.values() for kind in kinds} | {*GOOD.values()}
    assert written - used == {eyes.Sees, hands.Terminates}


def clauses_of(suite: type) -> Iterator[str]:
    """Return the names of the clauses, with the method that each is about in brackets."""
    for name, clause in inspect.getmembers(suite, inspect.isfunction):
        if not name.startswith("test_"):
            continue
        marks = [m for m in getattr(clause, "pytestmark", ()) if m.name == "parametrize"]
        if not marks:
            yield name
        for mark in marks:
            yield from (f"{name}[{value}]" for value in mark.args[1])
