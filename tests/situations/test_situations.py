"""Each of the thirty situations, through the whole service: what was decided, done, and left."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.situations import arrangements
from tests.situations.theatre import Ended, Situation, play

pytestmark = pytest.mark.slow

SILENT = (
    arrangements.compute_dies_after_begin_detaching,
    arrangements.remove_export_swallowed,
    arrangements.shelved,
)
TERMINATE = ("cinder.reserve", "backend.force_detach", "cinder.unreserve")
RELEASE = ("backend.force_detach", "cinder.delete_attachment")
NOVA_DETACH = ("cinder.roll_detaching", "nova.detach")

Play = Mapping[Situation, Ended]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Play the situations that the bus tells of."""
    every = arrangements.ALL
    return play(
        tmp_path_factory.mktemp("told"), [one for one in every if one not in SILENT], told=True
    )


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Play:
    """Play those of which nobody says a word."""
    return play(tmp_path_factory.mktemp("silent"), SILENT, told=False)


def test_situation_01_retry_that_won_is_left_alone(told: Play) -> None:
    """A slow backend, and a second try that went well -> healthy, nothing is done."""
    ended = told[arrangements.slow_initialize_retry_wins]
    assert ended.decided == ("healthy", "H2.attached", "closed")
    assert ended.done == ()
    assert ended.holds == ("in-use", ("attached",), ("HOST",), ("attached",))


def test_situation_02_leak_after_a_timeout_is_terminated(told: Play) -> None:
    """Nova gave up and the backend finished after that -> that one connection is ended, no more."""
    ended = told[arrangements.uc5_modern_leak]
    assert ended.decided == ("terminate", "UC5.leaked", "closed")
    assert ended.done == TERMINATE
    assert ended.holds == ("available", (), (), ())


def test_situation_03_attach_whose_cleanup_failed_is_released(told: Play) -> None:
    """cinder-api was away when Nova cleaned up -> the backend is released, then the row dropped."""
    ended = told[arrangements.attach_and_cleanup_fail]
    assert ended.decided == ("release", "UC1.unfinished", "closed")
    assert ended.done == RELEASE
    assert ended.holds == ("available", (), (), ())


def test_situation_04_what_nova_cleaned_up_is_clean(told: Play) -> None:
    """The attach got through and was undone -> clean at two looks, nothing is done."""
    ended = told[arrangements.finished_late_and_cleaned_up]
    assert ended.decided == ("clean", "C1.nothing-left", "closed")
    assert ended.done == ()
    assert ended.holds == ("available", (), (), ())


def test_situation_05_detach_that_cinder_failed_is_asked_of_nova_again(told: Play) -> None:
    """The guest let go, the backend did not -> the wish is given to Nova once more."""
    ended = told[arrangements.detach_terminate_fails]
    assert ended.decided == ("nova-detach", "UC4.wish-on-record", "closed")
    assert ended.done == NOVA_DETACH
    assert ended.holds == ("available", (), (), ())


def test_situation_06_dead_compute_is_waited_for(silent: Play) -> None:
    """The compute died with the wish in hand, unheard -> found by the sweep, and waited for."""
    ended = silent[arrangements.compute_dies_after_begin_detaching]
    assert ended.decided == ("in-flight", "B4.compute-down", "due")
    assert ended.done == ()
    assert ended.holds == ("detaching", ("attached",), ("HOST",), ("attached",))


def test_situation_07_export_left_by_a_swallowed_failure_is_ended(silent: Play) -> None:
    """All say detached and the backend still exports -> found by the sweep, one connection ended.

    No message says whose it was; Nova says that no server of the host may be using it.
    """
    ended = silent[arrangements.remove_export_swallowed]
    assert ended.decided == ("terminate", "UC5.ghost", "closed")
    assert ended.done == ("cinder.reserve", "backend.force_detach", "cinder.unreserve")
    assert ended.announced == ("start", "end")
    assert ended.holds == ("available", (), (), ())


def test_situation_08_guest_that_refuses_is_healthy(told: Play) -> None:
    """The guest kept the disk and Nova took the wish back -> healthy, nothing is done."""
    ended = told[arrangements.guest_refuses]
    assert ended.decided == ("healthy", "H2.attached", "closed")
    assert ended.done == ()
    assert ended.holds == ("in-use", ("attached",), ("HOST",), ("attached",))


def test_situation_09_live_migration_is_left_alone(told: Play) -> None:
    """Two rows of one server while it moves -> in flight, nothing is done."""
    ended = told[arrangements.live_migration_under_way]
    assert ended.decided == ("in-flight", "B2.server-busy", "due")
    assert ended.done == ()
    assert ended.holds == (
        "in-use",
        ("attached", "attached"),
        ("HOST", "HOST-destination"),
        ("attached",),
    )


def test_situation_10_stray_attachment_of_an_unknown_host_is_for_a_person(told: Play) -> None:
    """A failed migration's row, whose host no message named -> for a person, nothing is done."""
    ended = told[arrangements.live_migration_destination_times_out]
    assert ended.decided == ("release", "S1.stray-row", "parked")
    assert ended.done == ()
    assert ended.holds == (
        "attaching",
        ("attached", "attaching"),
        ("HOST", "HOST-destination"),
        ("attached",),
    )


def test_situation_11_attachment_left_on_the_source_is_released(told: Play) -> None:
    """The guest has moved, the source's row stayed -> that row alone is released."""
    ended = told[arrangements.live_migration_source_attachment_stays]
    assert ended.decided == ("release", "S2.left-on-source", "closed")
    assert ended.done == RELEASE
    assert ended.holds == ("in-use", ("attached",), ("HOST-destination",), ("attached",))


def test_situation_12_shelved_server_keeps_its_reservation(silent: Play) -> None:
    """A reserved row of a shelved server, for long -> the sweep has it looked at: healthy."""
    ended = silent[arrangements.shelved]
    assert ended.decided == ("healthy", "H1.shelved", "closed")
    assert ended.done == ()
    assert ended.holds == ("reserved", ("reserved",), (), ("reserved",))


def test_situation_13_unshelving_that_broke_off_is_for_a_person(told: Play) -> None:
    """Attaching, exported and named, and no task goes on -> for a person."""
    ended = told[arrangements.unshelve_breaks_off]
    assert ended.decided == ("park", "P12.no-guest-to-ask", "parked")
    assert ended.done == ()
    assert ended.holds == ("attaching", ("attaching",), ("HOST",), ("attaching",))


def test_situation_14_server_that_never_ran_is_for_a_person(told: Play) -> None:
    """Clean, but an ERROR server's record names a row that is gone -> for a person."""
    ended = told[arrangements.boot_from_volume_fails]
    assert ended.decided == ("park", "P6.guest-holds", "parked")
    assert ended.done == ()
    assert ended.holds == ("available", (), (), ("gone",))


def test_situation_15_attachment_of_a_deleted_server_is_released(told: Play) -> None:
    """The server was deleted, and Nova says that its compute ended the guest -> released."""
    ended = told[arrangements.server_deleted_while_detach_fails]
    assert ended.decided == ("release", "S3.deleted-with-server", "closed")
    assert ended.done == RELEASE
    assert ended.holds == ("available", (), (), ())


def test_situation_16_server_deleted_while_its_compute_was_down_is_for_a_person(told: Play) -> None:
    """Its guest may run on where nobody can ask -> for a person, nothing is done."""
    ended = told[arrangements.server_deleted_with_compute_down]
    assert ended.decided == ("park", "P5.server-deleted", "parked")
    assert ended.done == ()
    assert ended.holds == ("in-use", ("attached",), ("HOST",), ())


def test_situation_17_dead_host_of_an_evacuation_is_waited_for(told: Play) -> None:
    """The old host's compute is down -> waited for: its guest may run; nobody's row is touched."""
    ended = told[arrangements.evacuated_old_host_left]
    assert ended.decided == ("in-flight", "B7.source-down", "due")
    assert ended.done == ()
    assert ended.holds == (
        "in-use",
        ("attached", "attached"),
        ("HOST", "HOST-other"),
        ("attached",),
    )


def test_situation_18_cinder_volume_that_is_down_is_waited_for(told: Play) -> None:
    """cinder-volume is down -> waited for, no try is wasted on it."""
    ended = told[arrangements.cinder_volume_down]
    assert ended.decided == ("release", "UC1.unfinished", "due")
    assert ended.done == ()
    assert ended.holds == ("reserved", ("reserved",), (), ())


def test_situation_19_export_of_a_crashed_cinder_volume_is_released(told: Play) -> None:
    """Exported, and the row still says reserved -> the driver releases it, then the row goes."""
    ended = told[arrangements.cinder_volume_crashes_in_the_call]
    assert ended.decided == ("release", "UC1.unfinished", "closed")
    assert ended.done == RELEASE
    assert ended.holds == ("available", (), (), ())


def test_situation_20_failed_second_attach_is_released_alone(told: Play) -> None:
    """One of two servers failed -> its row alone is released, the other keeps its disk."""
    ended = told[arrangements.multiattach_second_fails]
    assert ended.decided == ("release", "S1.stray-row", "closed")
    assert ended.done == RELEASE
    assert ended.holds == ("in-use", ("attached",), ("HOST-other",), ())


def test_situation_21_shared_connection_of_one_host_is_kept(told: Play) -> None:
    """Two servers of one host, one failed -> its row goes, the connection that both use stays."""
    ended = told[arrangements.multiattach_same_host_twice]
    assert ended.decided == ("release", "S1.stray-row", "closed")
    assert ended.done == ("cinder.delete_attachment",)
    assert ended.holds == ("in-use", ("attached",), ("HOST",), ())


def test_situation_22_encrypted_volume_without_its_key_is_clean(told: Play) -> None:
    """The key could not be had and Nova cleaned up -> clean at two looks, nothing is done."""
    ended = told[arrangements.encrypted_key_cannot_be_had]
    assert ended.decided == ("clean", "C1.nothing-left", "closed")
    assert ended.done == ()
    assert ended.holds == ("available", (), (), ())


def test_situation_23_retype_is_left_alone(told: Play) -> None:
    """Cinder migrates the volume -> in flight, nothing is done."""
    ended = told[arrangements.in_use_migration]
    assert ended.decided == ("in-flight", "B1.volume-busy", "due")
    assert ended.done == ()
    assert ended.holds == ("retyping", ("attached",), ("HOST",), ("attached",))


def test_situation_24_backup_is_left_alone(told: Play) -> None:
    """Mapped to a Cinder host by a backup -> in flight, nothing is done."""
    ended = told[arrangements.backup]
    assert ended.decided == ("in-flight", "B1.volume-busy", "due")
    assert ended.done == ()
    assert ended.holds == ("backing-up", (), ("cinder-backup-1",), ())


def test_situation_25_attached_again_meanwhile_is_left_alone(told: Play) -> None:
    """Attached to another server meanwhile -> the old attach is clean, the new one is kept."""
    ended = told[arrangements.attached_again_by_the_user]
    assert ended.decided == ("clean", "C1.nothing-left", "closed")
    assert ended.done == ()
    assert ended.holds == ("in-use", ("attached",), ("HOST-other",), ())


def test_situation_26_order_and_repeats_change_nothing(told: Play) -> None:
    """The messages of a healthy attach twice and in any order -> healthy, nothing is done."""
    ended = told[arrangements.duplicated_and_reordered]
    assert ended.decided == ("healthy", "H2.attached", "closed")
    assert ended.done == ()
    assert ended.holds == ("in-use", ("attached",), ("HOST",), ("attached",))


def test_situation_27_half_reset_is_for_a_person(told: Play) -> None:
    """Available by hand while the guest writes -> for a person, never detached."""
    ended = told[arrangements.half_reset]
    assert ended.decided == ("park", "P6.guest-holds", "parked")
    assert ended.done == ()
    assert ended.holds == ("available", ("attached",), ("HOST",), ("attached",))


def test_situation_28_legacy_attachment_is_healthy(told: Play) -> None:
    """A record that names no attachment -> seen all the same: healthy, nothing is done."""
    ended = told[arrangements.legacy_attachment]
    assert ended.decided == ("healthy", "H3.attached-the-old-way", "closed")
    assert ended.done == ()
    assert ended.holds == ("in-use", ("attached",), ("HOST",), ("none",))


def test_situation_29_deleted_volume_ends_its_case(told: Play) -> None:
    """The volume was deleted meanwhile -> the case is closed, nothing is done."""
    ended = told[arrangements.volume_deleted]
    assert ended.decided == ("gone", "G1.volume-gone", "closed")
    assert ended.done == ()
    assert ended.holds == ("gone", (), (), ())


def test_situation_30_maintenance_is_for_a_person(told: Play) -> None:
    """Kept in maintenance -> for a person, before the first call."""
    ended = told[arrangements.in_maintenance]
    assert ended.decided == ("park", "P1.volume-error", "parked")
    assert ended.done == ()
    assert ended.holds == ("maintenance", ("attaching",), ("HOST",), ())
