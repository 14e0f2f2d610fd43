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
from tests.conformance import blunders_in_listing as listing
from tests.conformance import blunders_in_releasing as releasing
from tests.conformance import blunders_in_seeing as seeing
from tests.conformance import blunders_in_trouble as trouble
from tests.conformance.blunders_in_fencing import FENCING
from tests.conformance.simulator_ground import SimulatorGround

Kind = type[SimulatorDriver] | type[CinderManagedDriver]

BREAKERS: dict[str, tuple[Kind, ...]] = {
    # what is seen
    "test_connected_hosts_are_seen_as_they_are": (
        seeing.SeesNoConnection, seeing.SeesTheFirstOnly, seeing.SeesItself, seeing.WithoutControl,
    ),
    "test_every_session_is_counted": (seeing.CountsHosts,),
    "test_every_host_of_a_crowd_is_seen": (seeing.SeesThreeHosts,),
    "test_names_that_differ_by_case_are_two_hosts": (seeing.FoldsCase,),
    "test_change_between_two_looks_is_seen": (seeing.RemembersLooks,),
    "test_access_without_a_session_is_seen": (seeing.SeesSessionsOnly,),
    "test_session_without_access_is_seen": (seeing.SeesAccessOnly,),
    "test_idle_volume_is_seen_idle": (seeing.SeesItself, seeing.WithoutControl),
    "test_migrated_volume_is_found": (seeing.KnowsOneName,),
    "test_unknown_volume_is_not_clean": (seeing.CallsTheUnknownClean, seeing.NotFoundByAnotherName),
    "test_wrong_place_is_not_clean": (seeing.CallsTheUnknownClean, seeing.NotFoundByAnotherName),
    "test_observe_changes_nothing": (seeing.TidiesUpWhileLooking,),
    # what is listed
    "test_list_agrees_with_observe": (
        listing.ListsNothing, listing.ListsNames, listing.ListsWithoutConnections,
        listing.ListsThree,
    ),
    "test_volume_of_many_hosts_is_listed_with_all": (listing.ListsEachHost,),
    "test_access_without_a_session_is_listed": (listing.ListsSessionsOnly,),
    "test_session_without_access_is_listed": (listing.ListsAccessOnly,),
    "test_two_lists_agree": (listing.ListsInTurns,),
    "test_idle_volume_is_not_listed_as_used": (listing.ListsIdleOnes,),
    "test_listing_changes_nothing": (listing.TidiesUpWhileListing,),
    "test_undeclared_list_is_refused": (listing.ListsUndeclared,),
    # who is released
    "test_released_host_is_gone": (
        releasing.SaysDoneAndDoesNothing, releasing.RemembersConnections,
        releasing.EndsSessionsOnly,
    ),
    "test_second_detach_is_success": (releasing.InsistsOnAConnection,),
    "test_never_attached_is_success": (releasing.InsistsOnAConnection, releasing.CutsEveryHost),
    "test_access_without_a_session_is_released": (releasing.ReleasesSessionsOnly,),
    "test_session_without_access_is_released": (releasing.ReleasesAccessOnly,),
    "test_every_session_is_ended": (releasing.EndsOneSession,),
    "test_migrated_volume_is_released": (releasing.ReleasesUnderOneName,),
    "test_host_that_comes_back_stays_out": (releasing.EndsSessionsOnly,),
    "test_host_that_came_back_later_is_released_again": (
        releasing.RemembersReleases, seeing.RemembersLooks,
    ),
    "test_request_id_is_passed_on_as_it_is": (
        releasing.MakesUpRequestIds, releasing.LogsAnotherRequestId,
    ),
    "test_stuck_session_is_not_called_clean": (
        releasing.TrustsItsOwnOrder, releasing.BlindToWhatIsLeft,
    ),
    # who is spared
    "test_bystander_keeps_its_access": (releasing.CutsEveryHost, releasing.DetachesEveryHost),
    "test_other_volume_of_the_host_keeps_its_access": (releasing.CutsTheHost,),
    "test_host_under_another_name_is_left_alone_and_told": (
        releasing.CutsEveryHost, releasing.CutsEveryNameOfTheHost, seeing.SeesWhomTheRecordsName,
    ),
    "test_host_of_another_case_keeps_its_access": (
        releasing.CutsEveryCase, releasing.ReleasesLowerCase,
    ),
    "test_without_connector_nobody_is_cut[terminate_connection]": (
        releasing.TakesNoConnectorForAll, releasing.SaysDoneAndDoesNothing,
    ),
    "test_without_connector_nobody_is_cut[detach]": (releasing.DetachesEveryHost,),
    "test_without_connector_nobody_is_cut[force_detach]": (
        releasing.TakesNoConnectorForAll, releasing.SaysDoneAndDoesNothing,
    ),
    "test_without_connector_everybody_is_released": (
        releasing.AcceptsAndRefuses, releasing.AcceptsAndIgnores,
    ),
    # what goes wrong
    "test_frozen_backend_is_bounded[observe]": (trouble.Patient, seeing.SwallowsTimeoutsOfLooks),
    "test_frozen_backend_is_bounded[list_exports]": (
        trouble.Patient, seeing.SwallowsTimeoutsOfLooks,
    ),
    "test_frozen_backend_is_bounded[terminate_connection]": (
        trouble.Patient, trouble.SwallowsTimeouts, releasing.SaysDoneAndDoesNothing,
    ),
    "test_frozen_backend_is_bounded[detach]": (trouble.Patient, trouble.RaisesItsOwn),
    "test_frozen_backend_is_bounded[force_detach]": (trouble.Patient, trouble.SwallowsTimeouts),
    "test_look_is_never_an_older_one[observe]": (
        seeing.RemembersLooks, seeing.RemembersInTrouble,
    ),
    "test_look_is_never_an_older_one[list_exports]": (
        seeing.RemembersLooks, seeing.RemembersInTrouble,
    ),
    "test_failed_request_is_not_made_again[observe]": (trouble.TriesAgain,),
    "test_failed_request_is_not_made_again[list_exports]": (trouble.TriesAgain,),
    "test_failed_request_is_not_made_again[terminate_connection]": (trouble.TriesAgain,),
    "test_failed_request_is_not_made_again[detach]": (trouble.TriesAgain,),
    "test_failed_request_is_not_made_again[force_detach]": (
        trouble.TriesAgain, trouble.CallsAnHalfDoneReleaseRefused,
    ),
    "test_terminate_and_detach_have_a_limit_each": (trouble.SharesTheLimit,),
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
        trouble.GivesUpAfterATimeout, releasing.RemembersConnections,
    ),
    "test_unknown_volume_is_not_released": (releasing.ReleasesTheUnknown,),
    "test_errors_carry_no_secret": (
        trouble.TellsItsKey, trouble.ChainsItsKey, trouble.LogsItsKey, trouble.ShowsItsKey,
    ),
    # threads
    "test_calls_at_once_have_a_limit_each": (trouble.KeepsTheLimit,),
    "test_looks_at_once_are_kept_apart": (seeing.KeepsTheVolume,),
    "test_releases_at_once_are_kept_apart": (
        trouble.KeepsTheAttachment, trouble.CutsEverybodyInACrowd,
    ),
    # what is declared
    "test_blind_driver_refuses_to_look": (seeing.SeesUnseen,),
    "test_hosts_are_told_only_where_declared": (seeing.SeesNamesOnly, seeing.DoesNotDeclareHosts),
    "test_sessions_are_told_only_where_declared": (
        seeing.SeesNoSessions, seeing.DoesNotDeclareThatItSeesSessions,
    ),
    "test_sessions_end_only_where_declared": (
        seeing.DoesNotDeclareSessions, releasing.SaysDoneAndDoesNothing,
    ),
    "test_access_goes_where_declared": (
        seeing.DoesNotDeclareAccess, releasing.SaysDoneAndDoesNothing,
    ),
    "test_driver_is_made_without_asking_the_backend": (seeing.AsksWhenMade,),
    "test_options_are_explained": (seeing.OptionWithoutHelp,),
    "test_secret_options_are_marked": (seeing.PasswordInTheOpen,),
}  # fmt: skip
GOOD: dict[str, Kind] = {
    "test_undeclared_list_is_refused": CinderManagedDriver,
    "test_blind_driver_refuses_to_look": CinderManagedDriver,
    "test_without_connector_everybody_is_released": releasing.TakesEverybody,
    "test_connected_hosts_are_seen_as_they_are": seeing.SeesAccessAndSaysSo,
    "test_sessions_are_told_only_where_declared": seeing.SeesAccessAndSaysSo,
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
    assert clauses == {*BREAKERS, *FENCING}
    assert all(BREAKERS.values())


def test_every_broken_driver_is_shown_to_be_caught() -> None:
    """A blunder was written down -> some clause catches it."""
    written = {
        kind
        for module in (seeing, listing, releasing, trouble)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__
    }
    used = {kind for kinds in BREAKERS.values() for kind in kinds} | {*GOOD.values()}
    assert written - used == {seeing.Sees, listing.Lists, releasing.Terminates}


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
