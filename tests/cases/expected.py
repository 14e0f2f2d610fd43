"""What each reported situation must come to.

The first word of each entry says it: NOTHING (nobody is told of anything), LEFT (nothing is done),
WAITS, PARKED (for a person, as one case and at once), MENDED.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from types import MappingProxyType


class Ends(enum.Enum):
    """What becomes of the cases of a situation."""

    NOTHING = "no case is open, nothing is done or announced"
    LEFT = "nothing is done, and whether a person is asked is not judged"
    UNALARMED = "nothing is done or announced, and no person is asked"
    UNKNOWN = "one case is open and says that it is not known; nothing is done or announced"
    WAITS = "one case waits; nothing is done or announced"
    PARKED = "one case is parked and announced as that alone; nothing is done"
    WARNED = "one case waits, and its danger was told once; nothing is done"
    MENDED = "each case is closed; the steps are done, their start and end are announced"
    EACH = "each case is closed; of each that was mended the start and the end are announced"
    ROLLED = "at most rolled back, and no end is announced: parked, or said to be attached"


Held = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Cinder's status of the volume, the statuses of its rows, the hosts on the backend."""


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """What a situation must come to.

    ``holds``: what is held afterwards, None for what was held before. ``steps``: the ways to it
    that are right. ``lets_go``: how many guests lose the disk by Nova's own detach. ``says`` and
    ``never_says``: words in the reason of the case.
    """

    ends: Ends
    holds: Held | None = None
    steps: tuple[tuple[str, ...], ...] = ((),)
    says: tuple[str, ...] = ()
    never_says: tuple[str, ...] = ()
    lets_go: int = 0


DELETE = ("cinder.delete_attachment",)
RELEASE = ("backend.force_detach", "cinder.delete_attachment")
TERMINATE = ("cinder.reserve", "backend.force_detach", "cinder.unreserve")
ACCESS_ALONE = ("backend.force_detach",)
NOVA_DETACH = ("cinder.roll_detaching", "nova.detach")
FREE: Held = ("available", (), ())

NOTHING = Expected(Ends.NOTHING)
LEFT = Expected(Ends.LEFT)
UNALARMED = Expected(Ends.UNALARMED)
WAITS = Expected(Ends.WAITS)
WARNED = Expected(Ends.WARNED, says=("danger", "a record is left"))
PARKED = Expected(Ends.PARKED)
TWO_WRITERS = Expected(Ends.PARKED, says=("critical", "compute-2", "compute-2-other"))
RELEASED = Expected(Ends.MENDED, FREE, (DELETE, RELEASE))
DETACHED_BY_NOVA = Expected(Ends.MENDED, FREE, (NOVA_DETACH,))
ROLLED_BACK = Expected(Ends.ROLLED, steps=((), ("cinder.roll_detaching",)), says=("attached",))


def _parked(*says: str) -> Expected:
    return dataclasses.replace(PARKED, says=says)


def _one_left(host: str, *steps: tuple[str, ...]) -> Expected:
    return Expected(Ends.MENDED, ("in-use", ("attached",), (host,)), steps)


SEEING: Mapping[str, Expected] = MappingProxyType(
    {
        # Row deleted (backend proven clean, Nova proves nothing).
        "available_error_detaching": RELEASED,
        # Leave, no alarm.
        "backup_temp_volume": UNALARMED,
        # Leave.
        "backup_temp_volume_hci": UNALARMED,
        # Close.
        "clean_but_service_removed": NOTHING,
        # A person (Nova refuses 400).
        "conductor_died": _parked("broke off"),
        # Row deleted, available.
        "deleted_in_building": RELEASED,
        # Closed.
        "deleted_in_detach": NOTHING,
        # Found (sweep or Nova's delete events), then S3: release.
        "deleted_while_cinder_down_clean": RELEASED,
        # Nothing.
        "detach_from_shelved": NOTHING,
        # Released.
        "detaching_error_detaching": RELEASED,
        # Leave; tell truly.
        "device_without_id_reserved": dataclasses.replace(PARKED, never_says=("writing",)),
        # Found, told.
        "device_without_row": PARKED,
        # B's row released alone.
        "double_reserve": _one_left("compute-9-other", DELETE, RELEASE),
        # Wait, then a person.
        "evacuated_host_removed": _parked("host", "old guest"),
        # Unknown, then a person.
        "failed_over": _parked("backend"),
        # Do not touch.
        "glance_store_attached": LEFT,
        # Nothing.
        "healthy_evacuated": NOTHING,
        # Nothing.
        "healthy_live_migration": NOTHING,
        # Nothing.
        "healthy_multiattach_detach_one": NOTHING,
        # Nothing.
        "healthy_multiattach_two": NOTHING,
        # Nothing.
        "healthy_resize": NOTHING,
        # Nothing.
        "healthy_server_deleted": NOTHING,
        # Row released: nobody can write.
        "host_attach_detaching_clean": RELEASED,
        # Tell.
        "in_use_error_detaching_named": PARKED,
        # Leave it.
        "ironic_node_attached": dataclasses.replace(LEFT, never_says=("server is deleted",)),
        # Park.
        "ironic_node_session": PARKED,
        # Park now: the next owner gets a disk that another host can write.
        "leak_then_transfer": PARKED,
        # A person at once: anybody may attach it now.
        "local_delete_guest_runs": _parked("session"),
        # Highest alarm.
        "local_delete_then_attached_elsewhere": TWO_WRITERS,
        # Nothing.
        "loser_of_a_race": NOTHING,
        # Nothing.
        "migration_aborted_clean": NOTHING,
        # That access ended.
        "migration_aborted_dest_access_left": _one_left("compute-23", ACCESS_ALONE),
        # That access ended.
        "migration_done_source_access_left": _one_left("compute-4-destination", ACCESS_ALONE),
        # Wait, then a person.
        "migration_never_completed": PARKED,
        # roll_detaching and Nova's detach of the one that the messages name.
        "multiattach_detach_fails": _one_left("compute-5-other", NOVA_DETACH),
        # That row alone released (DELETE attachment).
        "multiattach_nova_let_go": _one_left("compute-6-other", RELEASE),
        # Leave.
        "multiattach_one_shelved": NOTHING,
        # That row alone released.
        "multiattach_server_deleted": _one_left("compute-7-other", RELEASE),
        # Unknown: no positive control that this Nova ever had it.
        "other_region_opened_no_session": Expected(Ends.UNKNOWN, never_says=("server is deleted",)),
        # P6.
        "rescheduled_with_dead_row": _parked("guest may be writing"),
        # Park, or roll back and say that it is attached.
        "rescued_detach": ROLLED_BACK,
        # P6.
        "reset_available_detached": _parked("guest may be writing"),
        # P6 at once (reset_status is on the bus) or by the sweep.
        "reset_available_only": _parked("guest may be writing"),
        # P6.
        "reset_in_detach": _parked("guest may be writing"),
        # Tell a person.
        "reset_in_use_nobody": PARKED,
        # Leave; tell.
        "resize_fails": PARKED,
        # Wait, then a person.
        "retype_temp_left": WAITS,
        # Never 'clean'; a person.
        "session_left": _parked("live session"),
        # Nothing.
        "shelved_deleted": NOTHING,
        # A loud park; never 'ended'.
        "source_row_deleted_access_kept": _parked("guest may be writing"),
        # Nova's detach again.
        "stopped_server_detach": DETACHED_BY_NOVA,
        # Park, or roll back and say that it is attached.
        "suspended_detach": ROLLED_BACK,
        # Park with both hosts.
        "two_writers_looked_at": TWO_WRITERS,
        # Seeing: terminate. Blind: suspected leak, terminate or park.
        "uc5_without_detach_start": Expected(Ends.MENDED, FREE, (TERMINATE,)),
        # Say so: unknown, an alert after some.
        "unknown_to_this_cinder": Expected(Ends.UNKNOWN, says=("cinder", "region")),
        # Released: the only connection is of a learned host, where Nova ended the guest.
        "unshelve_then_deleted": RELEASED,
        # Nova's detach again.
        "vmware_host": dataclasses.replace(DETACHED_BY_NOVA, lets_go=1),
    }
)
VARIANTS: Mapping[str, Expected] = MappingProxyType(
    {
        "available_error_attaching": RELEASED,
        "building_came_to_a_compute": RELEASED,
        "host_detach_let_in": _parked("no instance"),
        "host_detach_row_in_error": RELEASED,
        "let_go_on_one_host": _parked("same host"),
        "local_delete_of_no_host": _parked("session"),
        "migration_done_and_deleted": Expected(Ends.MENDED, FREE, (TERMINATE,)),
        "migration_done_source_down": WAITS,
        "migration_done_source_session": _parked("critical", "compute-4-destination"),
        "multiattach_detach_both": dataclasses.replace(LEFT, says=("several attachments",)),
        "multiattach_detach_on_one_host": _parked("same host"),
        "row_in_error_in_use": RELEASED,
        "source_row_deleted_then_attached": TWO_WRITERS,
        "uc5_without_start_then_attached": _one_left("compute-3-other", ACCESS_ALONE),
        "deleted_while_cinder_down_let_in": RELEASED,
        "error_server_detach": PARKED,
        "ironic_node_let_in": Expected(Ends.UNKNOWN, never_says=("server is deleted",)),
        "local_delete_compute_back": _parked("live session"),
        "migration_aborted_dest_session_left": PARKED,
        "other_region_opened_session": Expected(Ends.UNKNOWN, never_says=("server is deleted",)),
        "reset_available_detached_told": _parked("guest may be writing"),
        "shelved_server_detach": DETACHED_BY_NOVA,
        "soft_deleted_server_detach": DETACHED_BY_NOVA,
        "source_row_deleted_access_gone": _parked("guest may be writing"),
        "double_reserve_beside_shelved": Expected(
            Ends.MENDED,
            ("in-use", ("attached", "reserved"), ("compute-9-other",)),
            (DELETE, RELEASE),
        ),
        "given_back_by_hand": RELEASED,
        "multiattach_all_deleted": Expected(Ends.EACH, FREE, ((*RELEASE, *RELEASE),)),
        "reverted_temp_volume_hci": UNALARMED,
        "two_writers_ended": TWO_WRITERS,
        "another_is_getting_it": NOTHING,
        "rescued_and_unused": NOTHING,
        "reset_with_compute_down": _parked("danger", "compute-12"),
        "row_left_then_transfer": _parked("danger", "transfer"),
        "wish_beside_a_shelved_one": Expected(
            Ends.MENDED,
            ("in-use", ("attached", "reserved"), ("compute-5-other",)),
            (NOVA_DETACH,),
        ),
    }
)
"""Near relatives of the reported ones, which ``variants.py`` makes."""

BLIND: Mapping[str, Expected] = MappingProxyType(
    {
        "detach_from_shelved": NOTHING,
        "local_delete_compute_back": _parked("danger", "compute-1"),
        "local_delete_guest_runs": _parked("danger", "compute-1"),
        "local_delete_of_no_host": _parked("danger", "compute-1"),
        "reset_available_detached": PARKED,
        "reset_available_only": PARKED,
        "reset_with_compute_down": WARNED,
        "row_left_then_transfer": _parked("danger"),
        "shelved_deleted": NOTHING,
        "uc5_without_detach_start": _parked("may be left"),
    }
)
"""The default driver, which sees nothing, and whose word is not trusted."""

TRUSTED: Mapping[str, Expected] = MappingProxyType(
    {
        "building_came_to_a_compute": _parked("no connector"),
        "deleted_in_building": RELEASED,
        "detach_from_shelved": NOTHING,
        "given_back_by_hand": PARKED,
        "multiattach_all_deleted": Expected(Ends.EACH, FREE, ((*DELETE, *DELETE),)),
        "reset_with_compute_down": WARNED,
        "row_in_error_in_use": RELEASED,
        "row_left_then_transfer": _parked("danger"),
        "shelved_deleted": NOTHING,
        "uc5_without_start_then_attached": _parked("may be left"),
        "uc5_without_detach_start": Expected(Ends.MENDED, FREE, (TERMINATE,)),
    }
)
"""The same driver, with ``trust_blind``."""
