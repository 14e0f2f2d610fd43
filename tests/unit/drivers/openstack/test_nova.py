"""The client of Nova: what it asks, and what it makes of what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from drivers.control_plane import BlockDevice, DeletedServer, Nova, Swap
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.openstack.nova import NovaClient
from tests.openstack_api import HTML, OpenStackApi, Reply, fault
from tests.unit.drivers.openstack import answers
from tests.unit.drivers.openstack.answers import COMPUTE, ROW, SERVER, VOLUME

LIMIT = 20.0
SHOW = f"GET /servers/{SERVER}"
DEVICES = f"{SHOW}/os-volume_attachments"
ACTIONS = f"{SHOW}/os-instance-actions"
DETACH = f"DELETE /servers/{SERVER}/os-volume_attachments/{VOLUME}"
GONE = fault(404, "itemNotFound", f"Instance {SERVER} could not be found.")
NO_DEVICE = f"Instance {SERVER} is not attached to volume {VOLUME}"


def show(
    api: OpenStackApi,
    server: dict[str, Any] | None = None,
    computes: dict[str, Any] | None = None,
    every: dict[str, Any] | None = None,
    named: dict[str, Any] | None = None,
) -> None:
    """Script a look at the server: block devices below 2.89, then at it."""
    api.script(SHOW, Reply(200, server or answers.server()))
    api.script("GET /nova/os-services", Reply(200, computes or answers.computes()))
    api.script(
        DEVICES,
        Reply(200, named or answers.devices(answers.device(ROW))),
        Reply(200, every or answers.devices(answers.device())),
    )


def test_it_meets_the_protocol(nova: NovaClient) -> None:
    """Mypy holds the client to the protocol -> the same as the simulated cloud's."""
    met: Nova = nova
    assert met


def test_server_with_its_block_device(api: OpenStackApi, nova: NovaClient) -> None:
    """A running server -> its states, host, compute and the attachment that it names."""
    show(api)
    seen = nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)
    assert seen is not None
    assert (seen.vm_state, seen.task_state, seen.host) == ("active", None, COMPUTE)
    assert (seen.compute_up, seen.launched) == (True, True)
    assert seen.block_devices == (BlockDevice(ROW, "/dev/vdb"),)
    assert api.requests[1].query == {"binary": "nova-compute", "host": COMPUTE}
    versions = [r.headers["x-openstack-nova-api-version"] for r in api.requests]
    assert versions == ["2.79", "2.79", "2.89", "2.79"]


@pytest.mark.parametrize(
    ("every", "named", "devices"),
    [
        ((), (), ()),
        ((answers.device(),), (), (BlockDevice(None, "/dev/vdb"),)),
        ((answers.device(volume_id="other"),), (answers.device("r", "other"),), ()),
        (
            (answers.device(), answers.device(device="/dev/vdc")),
            (answers.device(ROW),),
            (BlockDevice(ROW, "/dev/vdb"), BlockDevice(None, "/dev/vdc")),
        ),
        # Gone between the two questions: what may be there is told.
        ((), (answers.device(ROW),), (BlockDevice(ROW, "/dev/vdb"),)),
        # Not plugged in yet: neither has a name.
        ((answers.device(device=""),), (answers.device(ROW, device=""),), (BlockDevice(ROW, ""),)),
    ],
)
def test_block_devices_that_nova_hides(
    api: OpenStackApi, nova: NovaClient, every: Any, named: Any, devices: Any
) -> None:
    """Asked below 2.89 and at it -> those without an attachment are found too."""
    show(api, every=answers.devices(*every), named=answers.devices(*named))
    seen = nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)
    assert seen is not None
    assert seen.block_devices == devices


def test_nova_that_names_no_attachment(api: OpenStackApi, nova: NovaClient) -> None:
    """A Nova before 2.89 -> the block device is there, and names nothing."""
    api.nova_newest = "2.88"
    show(api, named=answers.devices(answers.device()))
    seen = nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)
    assert seen is not None
    assert seen.block_devices == (BlockDevice(None, "/dev/vdb"),)
    assert len(api.asked("os-volume_attachments")) == 1


@pytest.mark.parametrize(
    ("computes", "up"),
    [
        (answers.computes("up"), True),
        (answers.computes("down"), False),
        (answers.computes("up", forced_down=True), False),
        (answers.computes(None), None),
        ({"services": []}, None),
    ],
)
def test_compute_of_the_server(
    api: OpenStackApi, nova: NovaClient, computes: dict[str, Any], up: bool | None
) -> None:
    """Forced down -> down; a service that is not told of, or whose cell is down -> unknown."""
    show(api, computes=computes)
    seen = nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)
    assert seen is not None
    assert seen.compute_up is up


def test_compute_of_any_host(api: OpenStackApi, nova: NovaClient) -> None:
    """Asked for by its host -> up or down; a host that Nova does not list -> not known."""
    api.script("GET /nova/os-services", Reply(200, answers.computes("down")))
    assert nova.compute_up(COMPUTE, timeout_seconds=LIMIT) is False
    assert nova.compute_up("elsewhere", timeout_seconds=LIMIT) is None
    assert api.requests[-1].query == {"binary": "nova-compute", "host": "elsewhere"}


@pytest.mark.parametrize(
    ("power_state", "off"),
    [(1, False), (3, False), (4, True), (6, False), (0, False), ("4", False)],
)
def test_server_whose_guest_is_off(
    api: OpenStackApi, nova: NovaClient, power_state: object, off: bool
) -> None:
    """Shut down, though the server is active -> off; crashed, paused or not known -> not."""
    show(api, answers.server(**{"OS-EXT-STS:power_state": power_state}))
    seen = nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)
    assert seen is not None
    assert seen.powered_off is off


def test_server_that_is_on_no_host_and_never_ran(api: OpenStackApi, nova: NovaClient) -> None:
    """Shelved, or failed before it was placed -> no compute is asked about."""
    columns = {"OS-EXT-SRV-ATTR:host": None, "OS-SRV-USG:launched_at": None}
    show(api, answers.server(**columns))
    seen = nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)
    assert seen is not None
    assert (seen.host, seen.compute_up, seen.launched) == (None, None, False)
    assert api.asked("os-services") == []


def test_server_that_is_gone(api: OpenStackApi, nova: NovaClient) -> None:
    """Nova's 404 names it, and we may list services -> None."""
    api.script(SHOW, GONE)
    api.script("GET /nova/os-services", Reply(200, answers.computes()))
    assert nova.server(SERVER, VOLUME, timeout_seconds=LIMIT) is None


def test_404_to_somebody_who_is_no_admin(api: OpenStackApi, nova: NovaClient) -> None:
    """The services are not shown to us -> the server may be another project's: refused."""
    api.script(SHOW, GONE)
    api.script("GET /nova/os-services", fault(403, "forbidden", "Policy doesn't allow it."))
    with pytest.raises(PermanentError, match="role"):
        nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)


def test_404_of_a_proxy_is_no_deleted_server(api: OpenStackApi, nova: NovaClient) -> None:
    """A 404 page -> transient; a server that is there would seem to be deleted."""
    api.script(SHOW, Reply(404, HTML))
    with pytest.raises(TransientError):
        nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)


def test_server_whose_cell_is_down(api: OpenStackApi, nova: NovaClient) -> None:
    """Nova shows id and status UNKNOWN -> transient: nobody knows what it holds."""
    partial = {"server": {"id": SERVER, "status": "UNKNOWN", "tenant_id": "t", "created": "c"}}
    show(api, partial)
    with pytest.raises(TransientError, match="cell"):
        nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)


def test_server_shown_as_to_a_member(api: OpenStackApi, nova: NovaClient) -> None:
    """Without the host -> the role is not admin."""
    member = answers.server()
    del member["server"]["OS-EXT-SRV-ATTR:host"]
    show(api, member)
    with pytest.raises(PermanentError, match=r"\[nova\] needs the role admin"):
        nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)


def test_server_deleted_between_the_questions(api: OpenStackApi, nova: NovaClient) -> None:
    """404 for its block devices -> transient, asked anew; never "no block devices"."""
    show(api)
    api.script(DEVICES, GONE)
    with pytest.raises(TransientError):
        nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)


@pytest.mark.parametrize(
    ("line", "body"),
    [
        (SHOW, HTML),
        (SHOW, b'{"server": {"id": '),
        (SHOW, answers.server(id="other")),
        (SHOW, answers.server(**{"OS-EXT-STS:vm_state": None})),
        (SHOW, answers.server(**{"OS-EXT-STS:task_state": 3})),
        ("GET /nova/os-services", HTML),
        ("GET /nova/os-services", {"services": [{"binary": "nova-compute", "host": COMPUTE,
                                                 "state": 1}]}),
        (DEVICES, HTML),
        (DEVICES, {"volumeAttachments": None}),
        (DEVICES, answers.devices(answers.device(serverId="other"))),
        (DEVICES, answers.devices(answers.device(volumeId=None))),
        (DEVICES, answers.devices(answers.device() | {"attachment_id": 5})),
    ],
)  # fmt: skip
def test_nonsense_is_no_evidence(api: OpenStackApi, nova: NovaClient, line: str, body: Any) -> None:
    """HTML, half a JSON, wrong shapes, another server -> transient, never "nothing there"."""
    show(api)
    api.script(line, Reply(200, body))
    with pytest.raises(TransientError):
        nova.server(SERVER, VOLUME, timeout_seconds=LIMIT)


# -- what is on record of a deleted server ---------------------------------------------------------


def on_record(nova: NovaClient) -> DeletedServer | None:
    return nova.deleted_server(SERVER, timeout_seconds=LIMIT)


def event(**columns: Any) -> dict[str, Any]:
    answer = {"event": "compute_terminate_instance", "result": "Success", "host": COMPUTE}
    return {"instanceAction": {"action": "delete", "events": [answer | columns]}}


BUILT = Reply(200, event(event="compute__do_build_and_run_instance"))


def deletion(*request_ids: str, action: str = "delete") -> Reply:
    actions = [{"action": action, "request_id": one} for one in request_ids]
    return Reply(200, {"instanceActions": [*actions, {"action": "create", "request_id": "c"}]})


def test_host_that_ended_the_guest(api: OpenStackApi, nova: NovaClient) -> None:
    """nova-compute carried the deletion out well -> its host."""
    api.script(ACTIONS, deletion("r"))
    api.script(f"{ACTIONS}/r", Reply(200, event()))
    assert on_record(nova) == DeletedServer(SERVER, COMPUTE, ("r",))


@pytest.mark.parametrize(
    "document",
    [
        event(result="Error"),
        event(result=None),
        event(event="compute_stop_instance"),
        event(host=None),
        {"instanceAction": {"action": "delete", "events": []}},
    ],
)
def test_deletion_that_no_compute_carried_out(
    api: OpenStackApi, nova: NovaClient, document: dict[str, Any]
) -> None:
    """Failed, still running, or nova-api deleted the record alone -> no proof."""
    api.script(ACTIONS, deletion("r"))
    api.script(f"{ACTIONS}/r", Reply(200, document))
    api.script(f"{ACTIONS}/c", BUILT)
    assert on_record(nova) == DeletedServer(SERVER, None, ("r",))


def test_second_deletion_that_went_well(api: OpenStackApi, nova: NovaClient) -> None:
    """The first failed, a forced one ended it -> its host."""
    api.script(ACTIONS, deletion("new", "old", action="forceDelete"))
    api.script(f"{ACTIONS}/new", Reply(200, event(result="Error")))
    api.script(f"{ACTIONS}/old", Reply(200, event()))
    assert on_record(nova) == DeletedServer(SERVER, COMPUTE, ("new", "old"))


def test_server_that_never_came_to_a_compute(api: OpenStackApi, nova: NovaClient) -> None:
    """No event of a compute in its creation -> never built; one that failed there -> built."""
    for names, never in (
        ([], True),
        (["conductor_schedule_and_build_instances"], True),
        (["compute__do_build_and_run_instance"], False),
    ):
        events = [{"event": name, "result": "Error", "host": COMPUTE} for name in names]
        document = {"instanceAction": {"action": "create", "events": events}}
        api.script(ACTIONS, deletion("r"))
        api.script(f"{ACTIONS}/r", Reply(200, event(result="Error")))
        api.script(f"{ACTIONS}/c", Reply(200, document))
        assert on_record(nova) == DeletedServer(SERVER, None, ("r",), never_built=never)


def test_creation_that_is_not_on_record_shows_nothing(api: OpenStackApi, nova: NovaClient) -> None:
    """Nova kept the deletion alone -> not taken for a server that was never built."""
    actions = {"instanceActions": [{"action": "delete", "request_id": "r"}]}
    api.script(ACTIONS, Reply(200, actions))
    api.script(f"{ACTIONS}/r", Reply(200, event(result="Error")))
    assert on_record(nova) == DeletedServer(SERVER, None, ("r",))


@pytest.mark.parametrize("body", [HTML, {"instanceAction": {}}, {"instanceAction": {"events": 1}}])
def test_creation_without_its_events_is_no_answer(
    api: OpenStackApi, nova: NovaClient, body: Any
) -> None:
    """The events are hidden or broken -> no answer, never "no compute had it"."""
    api.script(ACTIONS, deletion())
    api.script(f"{ACTIONS}/c", Reply(200, body))
    with pytest.raises(TransientError):
        on_record(nova)


def test_server_that_this_nova_never_had(api: OpenStackApi, nova: NovaClient) -> None:
    """Its actions are not found, or there are none -> no control that this Nova ever had it."""
    api.script(ACTIONS, GONE)
    assert on_record(nova) is None
    api.script(ACTIONS, Reply(200, {"instanceActions": []}))
    assert on_record(nova) is None


def test_server_whose_deletion_is_not_on_record(api: OpenStackApi, nova: NovaClient) -> None:
    """Its creation is on record -> this Nova had it; nobody is known to have ended its guest."""
    api.script(ACTIONS, deletion())
    api.script(f"{ACTIONS}/c", BUILT)
    assert on_record(nova) == DeletedServer(SERVER)


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(404, HTML), TransientError),
        (fault(404, "itemNotFound", "The resource could not be found."), PermanentError),
        (fault(403, "forbidden", "Policy doesn't allow it"), PermanentError),
        (fault(500, "computeFault", "Unexpected API Error."), TransientError),
        (Reply(503, HTML), TransientError),
    ],
)
def test_404_of_somebody_else_or_an_outage_is_no_answer(
    api: OpenStackApi, nova: NovaClient, reply: Reply, kind: type[OutsideError]
) -> None:
    """A 404 that does not name the server, a policy, an outage -> raised, neither yes nor no."""
    api.script(ACTIONS, reply)
    with pytest.raises(kind) as caught:
        on_record(nova)
    assert type(caught.value) is kind


def test_control_and_who_ended_the_guest_come_of_two_requests(
    api: OpenStackApi, nova: NovaClient
) -> None:
    """A deleted server -> its actions and its deletion are asked for once each."""
    api.script(ACTIONS, deletion("r"))
    api.script(f"{ACTIONS}/r", Reply(200, event()))
    on_record(nova)
    lines = [r.line for r in api.requests]
    assert [line.rpartition("/v2.1")[2] for line in lines] == [
        line.removeprefix("GET ") for line in (ACTIONS, f"{ACTIONS}/r")
    ]


@pytest.mark.parametrize("body", [HTML, {"instanceActions": [{"action": "delete"}]}])
def test_nonsense_about_the_deletion(api: OpenStackApi, nova: NovaClient, body: Any) -> None:
    """What cannot be read -> transient, no proof."""
    api.script(ACTIONS, Reply(200, body))
    with pytest.raises(TransientError):
        on_record(nova)


# -- swaps of volumes ------------------------------------------------------------------------------


def test_volumes_of_a_server(api: OpenStackApi, nova: NovaClient) -> None:
    """Two volumes -> both by one request; a server that is not there -> None, told to an admin."""
    shown = {"server": answers.listed(SERVER, VOLUME, "other")}
    api.script(SHOW, Reply(200, shown), Reply(200, answers.server()), GONE)
    api.script("GET /nova/os-services", Reply(200, answers.computes()))
    assert nova.volumes_of(SERVER, timeout_seconds=LIMIT) == {VOLUME, "other"}
    assert api.asked() == [SHOW]
    with pytest.raises(TransientError):  # nothing is said of volumes
        nova.volumes_of(SERVER, timeout_seconds=LIMIT)
    assert nova.volumes_of(SERVER, timeout_seconds=LIMIT) is None
    api.script("GET /nova/os-services", fault(403, "forbidden", "Policy doesn't allow it"))
    with pytest.raises(PermanentError):
        nova.volumes_of(SERVER, timeout_seconds=LIMIT)


def swapping(nova: NovaClient) -> Swap:
    return nova.swapping(SERVER, timeout_seconds=LIMIT)


def swap(finish_time: str | None, **columns: Any) -> Reply:
    event = {"event": "compute_swap_volume", "finish_time": finish_time, "result": None}
    return Reply(200, {"instanceAction": {"action": "swap_volume", "events": [event | columns]}})


def test_server_without_a_swap(api: OpenStackApi, nova: NovaClient) -> None:
    """Its creation alone is on record -> no, in one request."""
    api.script(ACTIONS, deletion())
    assert swapping(nova) is Swap.NONE
    assert [r.line for r in api.requests if "actions" in r.line]


def test_swap_is_under_way_until_its_compute_has_recorded_the_end(
    api: OpenStackApi, nova: NovaClient
) -> None:
    """No event yet, or one that has not finished -> yes; finished, well or not -> no."""
    api.script(ACTIONS, deletion("new", "old", action="swap_volume"))
    api.script(f"{ACTIONS}/old", swap("2026-11-27T10:00:00.000000", result="Error"))
    not_begun = Reply(200, {"instanceAction": {"action": "swap_volume", "events": []}})
    for reply in (swap(None), not_begun, swap("2026-11-27T10:00:00.000000", event="another")):
        api.script(f"{ACTIONS}/new", reply)
        assert swapping(nova) is Swap.UNDER_WAY
    api.script(f"{ACTIONS}/new", swap("2026-11-27T12:00:00.000000", result="Success"))
    assert swapping(nova) is Swap.NONE
    api.script(f"{ACTIONS}/old", swap(None))
    assert swapping(nova) is Swap.UNDER_WAY


@pytest.mark.parametrize(
    ("actions", "result", "expected"),
    [
        (("swap_volume", "create"), "Error", Swap.FAILED),
        (("swap_volume", "detach_volume", "create"), "Error", Swap.FAILED),
        (("attach_volume", "swap_volume", "create"), "Error", Swap.FAILED),
        (("detach_volume", "swap_volume", "create"), "Error", Swap.NONE),
        (("swap_volume", "create"), "Success", Swap.NONE),
    ],
)
def test_last_swap_that_failed(
    api: OpenStackApi, nova: NovaClient, actions: tuple[str, ...], result: str, expected: Swap
) -> None:
    """Its compute recorded an error -> failed, unless a detach was asked for since."""
    listed = [{"action": action, "request_id": f"r-{action}"} for action in actions]
    api.script(ACTIONS, Reply(200, {"instanceActions": listed}))
    api.script(f"{ACTIONS}/r-swap_volume", swap("2026-11-27T12:00:00.000000", result=result))
    assert swapping(nova) is expected


@pytest.mark.parametrize(
    "reply", [Reply(503, HTML), Reply(200, {"instanceActions": []}), Reply(200, HTML)]
)
def test_swaps_that_nova_does_not_tell_of(
    api: OpenStackApi, nova: NovaClient, reply: Reply
) -> None:
    """An outage, nonsense, or no action at all, of which each server has one -> no answer."""
    api.script(ACTIONS, reply)
    with pytest.raises(TransientError):
        swapping(nova)


# -- detach ----------------------------------------------------------------------------------------


def detach(nova: NovaClient) -> None:
    nova.detach(SERVER, VOLUME, request_id="req-1", timeout_seconds=LIMIT)


def test_detach_that_nova_accepts(api: OpenStackApi, nova: NovaClient) -> None:
    """202 -> the wish is Nova's now, under our request id."""
    api.script(DETACH, Reply(202))
    detach(nova)
    assert api.requests[-1].headers["x-openstack-request-id"] == "req-1"


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (
            fault(400, "badRequest", "Invalid input received: Invalid volume: Unable to detach "
                  "volume. Volume status must be 'in-use' and attach_status must be 'attached'."),
            ConflictError, "must be 'in-use'",
        ),
        (fault(400, "badRequest", "Cannot detach a root device volume"), PermanentError, "root"),
        (fault(409, "conflictingRequest", f"Instance {SERVER} is locked"), ConflictError, "locked"),
        (
            fault(409, "conflictingRequest", "Service is unavailable at this time."),
            ConflictError, "unavailable",
        ),
        (
            fault(409, "conflictingRequest", "Cannot 'detach_volume' instance while it is in "
                  "vm_state error"),
            ConflictError, "vm_state error",
        ),
        (GONE, NotFoundError, "could not be found"),
        (fault(404, "itemNotFound", NO_DEVICE), NotFoundError, "is not attached"),
        (
            fault(404, "itemNotFound", f"Volume {VOLUME} could not be found."),
            NotFoundError, "could not be found",
        ),
        (fault(403, "forbidden", "Policy doesn't allow it"), PermanentError, "role"),
        (Reply(404, HTML), PermanentError, "404"),
        (fault(500, "computeFault", "Unexpected API Error."), IndeterminateError, "500"),
        (Reply(504, HTML), IndeterminateError, "504"),
        (Reply(200, HTML), IndeterminateError, "cannot be used"),
    ],
)  # fmt: skip
def test_detach_that_nova_does_not_accept(
    api: OpenStackApi, nova: NovaClient, reply: Reply, kind: type[OutsideError], words: str
) -> None:
    """Each refusal -> its kind, with Nova's reason kept."""
    api.script(DETACH, reply)
    with pytest.raises(kind, match=words) as caught:
        detach(nova)
    assert type(caught.value) is kind
