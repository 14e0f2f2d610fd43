"""Cinder's answers to each call: what a real 29.0.0 was seen to do, and what its code says."""

import dataclasses
import functools

import pytest

from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    TransientError,
)
from drivers.simulator import Cloud, Effect, Exporting, Fault, Service

HOST = "compute-1"
CALL = {"request_id": "req-test", "timeout_seconds": 1.0}


@dataclasses.dataclass(frozen=True)
class Case:
    """A volume as it stands, a call, and what comes of it."""

    status: str
    attach_status: str
    attachment: str | None
    after: tuple[str, str]
    attachments_left: int = 0
    exported: bool = True
    still_exported: bool = False
    connector: bool = True
    connection_info: bool = True
    block_device: str | None = None
    error: type[OutsideError] | None = None


def arrange(cloud: Cloud, case: Case) -> tuple[str, str | None]:
    """Put the volume of a case on the stage."""
    volume, server = cloud.create_volume(), cloud.boot_server(host=HOST)
    cloud.set_status(volume, case.status, case.attach_status)
    attachment = None
    if case.attachment:
        attachment = cloud.add_attachment(
            volume,
            case.attachment,
            server,
            host=HOST if case.connector else None,
            has_connection_info=case.connection_info and case.connector,
        )
    if case.block_device:
        named = attachment if case.block_device == "same" else case.block_device
        cloud.add_block_device(server, volume, named)
    if case.exported:
        cloud.export(volume, HOST)
    return volume, attachment


def check(cloud: Cloud, volume: str, case: Case) -> None:
    """Compare what came of it."""
    assert cloud.statuses(volume) == case.after
    assert len(cloud.cinder.volume(volume, timeout_seconds=1).attachments) == case.attachments_left
    assert cloud.exported_to(volume) == ((HOST,) if case.still_exported else ())


FREE = ("available", "detached")
FORCE_DETACH = {
    "UC5: available and exported": Case(*FREE, None, FREE),
    "os-reserve only": Case("attaching", "detached", None, FREE),
    "attaching, API had timed out (no connection info)": Case(
        "attaching", "attaching", "attaching", FREE, connection_info=False, block_device="same"
    ),
    "attaching, nobody names the row": Case("attaching", "attaching", "attaching", FREE),
    "attaching, Nova names the row": Case(
        "attaching", "attaching", "attaching", ("attaching", "attaching"), attachments_left=1,
        still_exported=True, block_device="same", error=ConflictError,
    ),
    "attaching, Nova names another row": Case(
        "attaching", "attaching", "attaching", FREE, block_device="another"
    ),
    "reserved: a shelved server's reservation is lost": Case(
        "reserved", "reserved", "reserved", FREE, connector=False, exported=False,
        block_device="same",
    ),
    "detaching, nobody names the row": Case("detaching", "attached", "attached", FREE),
    "detaching, Nova names the row": Case(
        "detaching", "attached", "attached", ("detaching", "attached"), attachments_left=1,
        still_exported=True, block_device="same", error=ConflictError,
    ),
    "detaching without a row": Case("detaching", "attached", None, FREE),
    "error_detaching row": Case("detaching", "attached", "error_detaching", FREE),
    "error_attaching row beside available": Case(
        *FREE, "error_attaching", FREE, connection_info=False
    ),
    "in-use, nobody names the row": Case("in-use", "attached", "attached", FREE),
    "in-use, Nova names the row": Case(
        "in-use", "attached", "attached", ("in-use", "attached"), attachments_left=1,
        still_exported=True, block_device="same", error=ConflictError,
    ),
    "error, no rows: written whatever it was": Case("error", "detached", None, FREE),
    "deleting, no rows: written whatever it was": Case("deleting", "detached", None, FREE),
    "backing-up, no rows: written whatever it was": Case("backing-up", "detached", None, FREE),
    "uploading keeps its status": Case(
        "uploading", "attached", "attached", ("uploading", "detached")
    ),
    "maintenance: refused after terminate has run": Case(
        "maintenance", "detached", None, ("maintenance", "detached"), error=IndeterminateError
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORCE_DETACH.values(), ids=FORCE_DETACH)
def test_force_detach_with_connector(cloud: Cloud, case: Case) -> None:
    """os-force_detach on a volume as it stands -> status, rows and export as a real Cinder's."""
    volume, _ = arrange(cloud, case)
    if case.error:
        with pytest.raises(case.error):
            cloud.cinder.force_detach(volume, None, cloud.connector(HOST), **CALL)
    else:
        cloud.cinder.force_detach(volume, None, cloud.connector(HOST), **CALL)
    check(cloud, volume, case)


def test_force_detach_with_unknown_attachment_id(cloud: Cloud) -> None:
    """An attachment id that does not exist -> indeterminate: terminate and unreserve have run."""
    volume = cloud.create_volume()
    cloud.set_status(volume, "attaching")
    cloud.export(volume, HOST)
    with pytest.raises(IndeterminateError):
        cloud.cinder.force_detach(volume, "nobody's", cloud.connector(HOST), **CALL)
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "available"
    assert cloud.exported_to(volume) == ()


def test_force_detach_with_unknown_id_and_service_token(cloud: Cloud) -> None:
    """The same with a service token -> success that moves a detaching volume to in-use."""
    volume, server = cloud.create_volume(), cloud.boot_server(host=HOST)
    cloud.attach(volume, server)
    cloud.begin_detaching(volume)
    cloud.set_service_token(sent=True)
    cloud.cinder.force_detach(volume, "nobody's", cloud.connector(HOST), **CALL)
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "in-use"
    assert cloud.exported_to(volume) == ()


@pytest.mark.parametrize("named", [False, True])
def test_force_detach_with_two_attachments_is_refused(cloud: Cloud, named: bool) -> None:
    """Two rows -> 409 before anything is done, even with the attachment named."""
    volume, first, _ = two_servers(cloud)
    with pytest.raises(ConflictError):
        cloud.cinder.force_detach(volume, first if named else None, cloud.connector(HOST), **CALL)
    assert cloud.exported_to(volume) == (HOST, "compute-2")


def test_force_detach_with_two_attachments_and_service_token(cloud: Cloud) -> None:
    """Two rows, service token, no id -> the backend is changed, then 400: the record is not."""
    volume, _, _ = two_servers(cloud)
    cloud.set_service_token(sent=True)
    with pytest.raises(IndeterminateError):
        cloud.cinder.force_detach(volume, None, cloud.connector(HOST), **CALL)
    assert cloud.exported_to(volume) == ("compute-2",)
    assert len(cloud.cinder.volume(volume, timeout_seconds=1).attachments) == 2


DELETE = {
    "reserved: the backend is not asked": Case(
        "reserved", "reserved", "reserved", FREE, connector=False, still_exported=True
    ),
    "attaching": Case("attaching", "attaching", "attaching", FREE),
    "in-use": Case("in-use", "attached", "attached", FREE),
    "in-use, Nova names the row": Case(
        "in-use", "attached", "attached", ("in-use", "attached"), attachments_left=1,
        still_exported=True, block_device="same", error=ConflictError,
    ),
    "detaching": Case("detaching", "attached", "attached", FREE),
    "legacy row without connector: the backend is skipped, a leak": Case(
        "in-use", "attached", "attached", FREE, connector=False, still_exported=True
    ),
    "not conditional on the status": Case("backing-up", "attached", "attached", FREE),
}  # fmt: skip


@pytest.mark.parametrize("case", DELETE.values(), ids=DELETE)
def test_delete_attachment(cloud: Cloud, case: Case) -> None:
    """DELETE of a row as it stands -> status, rows and export as a real Cinder's."""
    volume, attachment = arrange(cloud, case)
    if case.error:
        with pytest.raises(case.error):
            cloud.cinder.delete_attachment(attachment, **CALL)
    else:
        cloud.cinder.delete_attachment(attachment, **CALL)
    check(cloud, volume, case)


def test_guard_does_not_see_a_device_without_id(cloud: Cloud) -> None:
    """Nova's block device carries no attachment id -> Cinder's guard misses it, as the real one."""
    volume, attachment = arrange(cloud, Case("in-use", "attached", "attached", FREE))
    server = cloud.cinder.volume(volume, timeout_seconds=1).attachments[0].instance_id
    cloud.add_block_device(server, volume, None)
    cloud.cinder.delete_attachment(attachment, **CALL)
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "available"


def test_guard_passes_for_a_deleted_server(cloud: Cloud) -> None:
    """Nova no longer knows the server -> the row may be deleted."""
    volume, server = cloud.create_volume(), cloud.boot_server(host=HOST)
    attachment = cloud.attach(volume, server)
    cloud.delete_server(server)
    cloud.cinder.delete_attachment(attachment, **CALL)
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "available"


def test_guard_with_nova_down_changes_nothing(cloud: Cloud) -> None:
    """Cinder cannot ask Nova -> 500, and nothing has changed."""
    volume, attachment = arrange(cloud, Case("in-use", "attached", "attached", FREE))
    cloud.set_apis(nova_up=False)
    with pytest.raises(IndeterminateError):
        cloud.cinder.delete_attachment(attachment, **CALL)
    assert cloud.exported_to(volume) == (HOST,)
    assert len(cloud.cinder.volume(volume, timeout_seconds=1).attachments) == 1


def test_deleting_a_attachment_that_is_gone_is_success(cloud: Cloud) -> None:
    """The row is gone (404) -> success, nothing changes."""
    volume, attachment = arrange(cloud, Case("in-use", "attached", "attached", FREE))
    cloud.cinder.delete_attachment(attachment, **CALL)
    before = cloud.cinder.volume(volume, timeout_seconds=1)
    cloud.cinder.delete_attachment(attachment, **CALL)
    assert cloud.cinder.volume(volume, timeout_seconds=1) == before


def test_deleting_one_of_two_attachments_spares_the_other(cloud: Cloud) -> None:
    """A multiattach volume on two hosts -> the other row, its access and in-use stay."""
    volume, first, second = two_servers(cloud)
    cloud.set_service_token(sent=True)
    cloud.cinder.delete_attachment(first, **CALL)
    told = cloud.cinder.volume(volume, timeout_seconds=1)
    assert (told.status, [r.attachment_id for r in told.attachments]) == ("in-use", [second])
    assert cloud.exported_to(volume) == ("compute-2",)


def test_deleting_one_of_two_attachments_on_one_host_keeps_its_access(cloud: Cloud) -> None:
    """Two servers on one host -> the host's connection is shared and stays."""
    volume = cloud.create_volume(multiattach=True)
    first, _ = (cloud.attach(volume, cloud.boot_server(host=HOST)) for _ in range(2))
    cloud.set_service_token(sent=True)
    cloud.cinder.delete_attachment(first, **CALL)
    assert cloud.exported_to(volume) == (HOST,)


TERMINATE = {
    "attaching with a row becomes in-use": Case(
        "attaching", "attaching", "attaching", ("in-use", "attaching"), attachments_left=1
    ),
    "attaching without a row becomes available": Case("attaching", "detached", None, FREE),
    "in-use stays": Case("in-use", "attached", "attached", ("in-use", "attached"),
        attachments_left=1),
    "detaching stays": Case(
        "detaching", "attached", "attached", ("detaching", "attached"), attachments_left=1
    ),
    "available stays": Case(*FREE, None, FREE),
    "Nova names the row: refused": Case(
        "in-use", "attached", "attached", ("in-use", "attached"), attachments_left=1,
        still_exported=True, block_device="same", error=ConflictError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TERMINATE.values(), ids=TERMINATE)
def test_terminate_connection(cloud: Cloud, case: Case) -> None:
    """os-terminate_connection -> the export goes, rows stay, attaching is given up."""
    volume, _ = arrange(cloud, case)
    if case.error:
        with pytest.raises(case.error):
            cloud.cinder.terminate_connection(volume, cloud.connector(HOST), **CALL)
    else:
        cloud.cinder.terminate_connection(volume, cloud.connector(HOST), **CALL)
    check(cloud, volume, case)


@dataclasses.dataclass(frozen=True)
class Swap:
    """A status, a conditional call, and the next status or what is raised."""

    status: str
    call: str
    after: str | type[OutsideError]
    attachment: bool = False
    multiattach: bool = False


@pytest.mark.parametrize(
    "swap",
    [
        Swap("available", "reserve", "attaching"),
        Swap("in-use", "reserve", "attaching", attachment=True, multiattach=True),
        Swap("in-use", "reserve", ConflictError, attachment=True),
        Swap("attaching", "reserve", ConflictError),
        Swap("attaching", "unreserve", "available"),
        Swap("attaching", "unreserve", "in-use", attachment=True),
        Swap("detaching", "unreserve", "detaching", attachment=True),
        Swap("available", "unreserve", "available"),
        Swap("detaching", "roll_detaching", "in-use", attachment=True),
        Swap("detaching", "roll_detaching", "in-use"),
        Swap("available", "roll_detaching", "available"),
    ],
    ids=str,
)
def test_compare_and_swaps(cloud: Cloud, swap: Swap) -> None:
    """A conditional call on a status -> the next one, no change, or ConflictError."""
    volume = cloud.create_volume(multiattach=swap.multiattach)
    cloud.set_status(volume, swap.status)
    if swap.attachment:
        cloud.add_attachment(volume, "attached")
    call = getattr(cloud.cinder, swap.call)
    if isinstance(swap.after, str):
        call(volume, **CALL)
        assert cloud.cinder.volume(volume, timeout_seconds=1).status == swap.after
    else:
        with pytest.raises(swap.after):
            call(volume, **CALL)
        assert cloud.cinder.volume(volume, timeout_seconds=1).status == swap.status


def test_complete_puts_the_attachment_right(cloud: Cloud) -> None:
    """os-complete on an attaching row -> row attached, volume in-use; on a gone one: not found."""
    volume, attachment = arrange(cloud, Case("attaching", "attaching", "attaching", FREE))
    cloud.cinder.complete(attachment, **CALL)
    told = cloud.cinder.volume(volume, timeout_seconds=1)
    assert (told.status, told.attachments[0].status) == ("in-use", "attached")
    with pytest.raises(NotFoundError):
        cloud.cinder.complete("gone", **CALL)


def test_volume_tells_all_attachments_and_who_asks_for_none_gets_none(cloud: Cloud) -> None:
    """A volume with rows in any state -> all are told; an unknown volume is None."""
    volume = cloud.create_volume(name_id="other-name", project_id="p", display_name="disk")
    cloud.add_attachment(volume, "reserved", "i-1")
    cloud.add_attachment(volume, "error_attaching", "i-2", host=HOST, has_connection_info=False)
    told = cloud.cinder.volume(volume, timeout_seconds=1)
    assert told.ref.ids() == ("other-name", volume)
    assert (told.project_id, told.display_name, told.service_up) == ("p", "disk", True)
    assert [(r.status, r.instance_id, r.has_connection_info) for r in told.attachments] == [
        ("reserved", "i-1", False),
        ("error_attaching", "i-2", False),
    ]
    assert cloud.cinder.volume("nobody's", timeout_seconds=1) is None


DETACHING = Case("detaching", "attached", "attached", FREE)


@pytest.mark.parametrize(
    ("fault", "by_force", "exported"),
    [
        (Fault.before("backend.terminate_connection"), True, True),
        (Fault.before("backend.terminate_connection"), False, True),
        (Fault.after("backend.terminate_connection"), True, False),
        (Fault.after("backend.terminate_connection"), False, False),
        (Fault.before("backend.remove_export"), True, False),
        (Fault.late("backend.terminate_connection"), False, True),
    ],
)
def test_backend_fails_while_cinder_mends(
    cloud: Cloud, fault: Fault, by_force: bool, exported: bool
) -> None:
    """The driver below Cinder fails or hangs -> 500, record unchanged, export maybe gone."""
    volume, attachment = arrange(cloud, DETACHING)
    cloud.script(fault)
    call = functools.partial(cloud.cinder.delete_attachment, attachment, **CALL)
    if by_force:
        connector = cloud.connector(HOST)
        call = functools.partial(cloud.cinder.force_detach, volume, attachment, connector, **CALL)
    with pytest.raises(IndeterminateError):
        call()
    told = cloud.cinder.volume(volume, timeout_seconds=1)
    assert (told.status, len(told.attachments)) == ("detaching", 1)
    assert cloud.exported_to(volume) == ((HOST,) if exported else ())


def test_late_terminate_does_not_touch_the_record(cloud: Cloud) -> None:
    """A terminate that hung lands -> the export goes, the volume stays detaching with its row."""
    volume, attachment = arrange(cloud, DETACHING)
    cloud.script(Fault.late("backend.terminate_connection"))
    with pytest.raises(IndeterminateError):
        cloud.cinder.delete_attachment(attachment, **CALL)
    assert cloud.land_late(volume) == 1
    assert cloud.exported_to(volume) == ()
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "detaching"


def test_swallowed_remove_export_failure(cloud: Cloud) -> None:
    """remove_export fails in a DELETE -> 200 and available, and the backend still lets the host in.

    On a backend where remove_export is what ends access.
    """
    cloud.add_backend("storage-2@lvm", Exporting.WHOLE_VOLUME)
    volume, server = cloud.create_volume(backend="storage-2@lvm"), cloud.boot_server(host=HOST)
    attachment = cloud.attach(volume, server)
    cloud.delete_server(server)
    cloud.script(Fault.before("backend.remove_export"))
    cloud.cinder.delete_attachment(attachment, **CALL)
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "available"
    assert cloud.exported_to(volume) == (HOST,)


def test_failing_initialize_drops_the_first_hosts_access(cloud: Cloud) -> None:
    """Initialize fails for a second server -> Cinder's remove_export cuts the first one off."""
    volume = cloud.create_volume(multiattach=True)
    cloud.attach(volume, cloud.boot_server(host=HOST))
    cloud.script(Fault.before("backend.initialize_connection", times=5))
    with pytest.raises(OutsideError):
        cloud.attach(volume, cloud.boot_server(host="compute-2"))
    assert cloud.exported_to(volume) == ()
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "in-use"


@pytest.mark.parametrize(("state", "late_export"), [(Service.DOWN, (HOST,)), (Service.FROZEN, ())])
def test_volume_service_gives_no_answer(
    cloud: Cloud, state: Service, late_export: tuple[str, ...]
) -> None:
    """cinder-volume is down or frozen -> no answer; a down one forgets, a frozen one acts late."""
    volume, attachment = arrange(cloud, DETACHING)
    cloud.set_service(state)
    with pytest.raises(IndeterminateError):
        cloud.cinder.delete_attachment(attachment, **CALL)
    assert not cloud.cinder.volume(volume, timeout_seconds=1).service_up
    assert cloud.exported_to(volume) == (HOST,)
    cloud.set_service(Service.UP)
    assert cloud.exported_to(volume) == late_export
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "detaching"


def test_reserve_needs_no_volume_service(cloud: Cloud) -> None:
    """cinder-volume is down -> calls that cinder-api answers alone still work."""
    volume = cloud.create_volume()
    cloud.set_service(Service.DOWN)
    cloud.cinder.reserve(volume, **CALL)
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "attaching"


def test_cinder_api_down_surely_did_nothing(cloud: Cloud) -> None:
    """cinder-api refuses the connection -> TransientError."""
    volume = cloud.create_volume()
    cloud.set_apis(cinder_up=False)
    with pytest.raises(TransientError):
        cloud.cinder.reserve(volume, **CALL)
    with pytest.raises(TransientError):
        cloud.cinder.volume(volume, timeout_seconds=1)


def test_crash_inside_the_driver_call(cloud: Cloud) -> None:
    """cinder-volume dies after the driver acted -> exported, the record as before, for good."""
    volume, server = cloud.create_volume(), cloud.boot_server(host=HOST)
    cloud.script(Fault.hang("backend.initialize_connection", 0.01, effect=Effect.NOW, times=5))
    with pytest.raises(OutsideError):
        cloud.attach(volume, server)
    assert cloud.exported_to(volume) == (HOST,)
    assert cloud.cinder.volume(volume, timeout_seconds=1).status == "available"
    assert cloud.under_way() == ()


def two_servers(cloud: Cloud) -> tuple[str, str, str]:
    """Attach a multiattach volume to servers on two hosts."""
    volume = cloud.create_volume(multiattach=True)
    first = cloud.attach(volume, cloud.boot_server(host=HOST))
    second = cloud.attach(volume, cloud.boot_server(host="compute-2"))
    return volume, first, second


def test_listing_comes_in_pages(cloud: Cloud) -> None:
    """More volumes in a status than fit a page -> page after page, each volume once."""
    ids = sorted(cloud.create_volume() for _ in range(5))
    for volume in ids[:4]:
        cloud.set_status(volume, "attaching", "detached")
    first = cloud.cinder.volumes_in("attaching", after=None, limit=3, timeout_seconds=1.0)
    rest = cloud.cinder.volumes_in(
        "attaching", after=first[-1].volume_id, limit=3, timeout_seconds=1.0
    )
    assert [v.volume_id for v in (*first, *rest)] == ids[:4]
    assert (len(first), len(rest)) == (3, 1)
    assert cloud.cinder.count_volumes(timeout_seconds=1.0) == 5


def test_listing_goes_on_after_a_volume_that_has_moved_on(cloud: Cloud) -> None:
    """The last of a page changes its status -> the next page begins where it would have been."""
    ids = sorted(cloud.create_volume() for _ in range(3))
    for volume in ids:
        cloud.set_status(volume, "reserved", "reserved")
    cloud.set_status(ids[0], "available", "detached")
    rest = cloud.cinder.volumes_in("reserved", after=ids[0], limit=3, timeout_seconds=1.0)
    assert [v.volume_id for v in rest] == ids[1:]


def test_listing_after_what_is_gone_is_not_found(cloud: Cloud) -> None:
    """The last of a page was deleted -> NotFoundError, never an end of the listing."""
    with pytest.raises(NotFoundError):
        cloud.cinder.volumes_in("reserved", after="gone", limit=3, timeout_seconds=1.0)


def test_listing_of_attachments_is_by_their_own_status(cloud: Cloud) -> None:
    """A row in error on an available volume -> found by the row's status."""
    volume, server = cloud.create_volume(), cloud.boot_server(host=HOST)
    attachment = cloud.add_attachment(volume, "error_attaching", server)
    listed = cloud.cinder.attachments_in(
        "error_attaching", after=None, limit=9, timeout_seconds=1.0
    )
    assert [(r.attachment_id, r.volume_id, r.instance_id) for r in listed] == [
        (attachment, volume, server)
    ]


def test_volume_that_moves_has_another_updated_at(cloud: Cloud) -> None:
    """A volume that changes -> its updated_at is another one; that of a resting one stays."""
    volume = cloud.create_volume()

    def seen() -> str | None:
        (listed,) = cloud.cinder.volumes_in("available", after=None, limit=9, timeout_seconds=1.0)
        return listed.updated_at

    before = seen()
    assert seen() == before
    cloud.add_attachment(volume, "error_attaching", None)
    assert seen() != before
