"""The client of Cinder: what it asks, and what it makes of what it is told."""

from __future__ import annotations

import dataclasses
import logging
import re
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from drivers.base import Connector
from drivers.control_plane import Cinder, CinderAttachment, ListedAttachment, ListedVolume
from drivers.errors import (
    ConflictError,
    IndeterminateError,
    NotFoundError,
    OutsideError,
    PermanentError,
    TransientError,
)
from drivers.openstack.cinder import CinderClient
from tests.openstack_api import HTML, PASSWORD, OpenStackApi, Reply, fault
from tests.unit.drivers.openstack import answers
from tests.unit.drivers.openstack.answers import BACKEND, COMPUTE, ROW, SERVER, VOLUME

LIMIT = 20.0
ACTION = f"POST /volumes/{VOLUME}/action"
CONNECTOR = Connector(host=COMPUTE, initiator="iqn.x", ip="192.0.2.1")
USED = f"ConflictNovaUsingAttachment: Detach volume from instance {SERVER} using the Compute API"
NOBODY = "ConflictNovaUsingAttachment: Detach volume from instance  using the Compute API"


def show(
    api: OpenStackApi,
    volume: dict[str, Any] | None = None,
    attachments: dict[str, Any] | None = None,
    services: dict[str, Any] | None = None,
) -> None:
    """Script a look at the volume."""
    api.script(f"GET /volumes/{VOLUME}", Reply(200, volume or answers.volume()))
    api.script("GET /attachments/detail", Reply(200, attachments or answers.attachments()))
    api.script("GET /os-services", Reply(200, services or answers.services()))


def test_it_meets_the_protocol(cinder: CinderClient) -> None:
    """Mypy holds the client to the protocol -> the same as the simulated cloud's."""
    met: Cinder = cinder
    assert met


def test_volume_with_attachments_in_every_status(api: OpenStackApi, cinder: CinderClient) -> None:
    """Rows of each attach_status -> all of them, the host of the attached one, no secret."""
    attachments = [
        answers.attachment(),
        answers.attachment(id="row-2", status="reserved", instance=None, connection_info=None),
        answers.attachment(id="row-3", status="error_attaching", connection_info={}),
        answers.attachment(id="row-4", status="attaching"),
        answers.attachment(id="row-5", status="attached", attach_mode="ro"),
    ]
    show(
        api,
        answers.volume(attachments=[answers.attached()], multiattach=True),
        answers.attachments(*attachments),
    )
    seen = cinder.volume(VOLUME, timeout_seconds=LIMIT)
    assert seen is not None
    assert seen.attachments == (
        CinderAttachment(
            ROW, "attached", SERVER, has_connection_info=True, host=COMPUTE, protocol="iscsi"
        ),
        CinderAttachment("row-2", "reserved", None, has_connection_info=False),
        CinderAttachment("row-3", "error_attaching", SERVER, has_connection_info=False),
        CinderAttachment("row-4", "attaching", SERVER, has_connection_info=True, protocol="iscsi"),
        CinderAttachment(
            "row-5", "attached", SERVER,
            has_connection_info=True, protocol="iscsi", read_only=True,
        ),
    )  # fmt: skip
    assert (seen.ref.backend, seen.ref.multiattach, seen.service_up) == (BACKEND, True, True)
    assert "canary-chap" not in repr(seen)


def test_what_protects_a_volume_is_shown(api: OpenStackApi, cinder: CinderClient) -> None:
    """Metadata and type -> the names that are set, without values, and the type; none is no answer.

    An answer without metadata is not Cinder's: it would show a protected volume as a free one.
    """
    metadata = {"keep": "true", "note": "canary-note", "old": "False", "empty": ""}
    show(api, answers.volume(metadata=metadata))
    seen = cinder.volume(VOLUME, timeout_seconds=LIMIT)
    assert seen is not None
    assert (seen.marks, seen.volume_type) == (frozenset({"keep", "note"}), "fast")
    assert "canary-note" not in repr(seen)
    show(api, answers.volume(metadata=None))
    with pytest.raises(OutsideError, match="metadata"):
        cinder.volume(VOLUME, timeout_seconds=LIMIT)


def test_attachments_are_asked_for_every_project_and_status(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """The question -> all projects, this volume, no filter by any status; pinned versions."""
    show(api)
    cinder.volume(VOLUME, timeout_seconds=LIMIT)
    assert api.asked() == [f"GET /volumes/{VOLUME}", "GET /attachments/detail", "GET /os-services"]
    assert api.requests[1].query == {"all_tenants": "1", "volume_id": VOLUME}
    versions = [r.headers["openstack-api-version"] for r in api.requests]
    assert versions == ["volume 3.61", "volume 3.27", "volume 3.7"]


def test_migrated_volume_is_known_by_its_other_name(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """name_id and a migration under way -> both are told."""
    columns = {"os-vol-mig-status-attr:name_id": "old", "migration_status": "migrating"}
    show(api, answers.volume(**columns))
    seen = cinder.volume(VOLUME, timeout_seconds=LIMIT)
    assert seen is not None
    assert (seen.ref.ids(), seen.migration_status) == (("old", VOLUME), "migrating")
    assert seen.ref.provider_location is None


@pytest.mark.parametrize(
    ("services", "up"),
    [
        (answers.services("down"), False),
        ({"services": []}, False),
        (answers.services(host="other@tgt"), False),
        (answers.services(binary="cinder-backup"), False),
        (answers.services(host="other@tgt", cluster="all@tgt"), True),
    ],
)
def test_heartbeat_is_that_of_the_volumes_own_backend_or_cluster(
    api: OpenStackApi, cinder: CinderClient, services: dict[str, Any], up: bool
) -> None:
    """Another backend's service up -> says nothing of ours; one of our cluster's does."""
    show(api, answers.volume(cluster_name="all@tgt"), services=services)
    seen = cinder.volume(VOLUME, timeout_seconds=LIMIT)
    assert seen is not None
    assert seen.service_up is up


def pool(name: str, protocol: object) -> dict[str, Any]:
    return {"name": name, "capabilities": {"storage_protocol": protocol, "free_capacity_gb": 1}}


@pytest.mark.parametrize(
    ("pools", "protocol"),
    [
        ([pool(f"{BACKEND}#one", "iSCSI")], "iscsi"),
        ([pool(f"{BACKEND}#one", "FC"), pool(f"{BACKEND}#two", "FC")], "fibre_channel"),
        ([pool("cluster@tgt#one", "NVMe-TCP")], "nvmeof"),
        ([pool(f"{BACKEND}#one", ["NVMe-oF", "NVMeOF", "nvmeof"])], "nvmeof"),
        ([pool(BACKEND, "ceph")], "rbd"),
        ([pool(f"{BACKEND}#one", "scaleio"), pool("other@tgt#one", "iSCSI")], "scaleio"),
        ([pool(f"{BACKEND}2#one", "iSCSI")], None),
        ([pool(f"{BACKEND}#one", "iSCSI"), pool(f"{BACKEND}#two", "FC")], None),
        ([pool(f"{BACKEND}#one", None)], None),
        ([pool(f"{BACKEND}#one", "iSCSI"), pool(f"{BACKEND}#two", None)], None),
        ([], None),
    ],
)
def test_protocol_is_that_of_all_pools_of_the_backend_or_not_known(
    api: OpenStackApi, cinder: CinderClient, pools: list[dict[str, Any]], protocol: str | None
) -> None:
    """The scheduler's pools, of this backend, its cluster and of others -> ours alone say it."""
    show(api, answers.volume(cluster_name="cluster@tgt"))
    volume = cinder.volume(VOLUME, timeout_seconds=LIMIT)
    assert volume is not None
    api.script("GET /scheduler-stats/get_pools", Reply(200, {"pools": pools}))
    assert cinder.protocol_of(volume, timeout_seconds=LIMIT) == protocol
    assert api.requests[-1].query == {"detail": "true"}


@pytest.mark.parametrize(
    "answer",
    [fault(403, "forbidden", "no"), Reply(200, {}), Reply(200, {"pools": [{"name": "a@b#c"}]})],
)
def test_protocol_that_cinder_refuses_or_garbles_is_an_error(
    api: OpenStackApi, cinder: CinderClient, answer: Reply
) -> None:
    """No right to ask, or an answer of another form -> an error, which is no protocol."""
    show(api, answers.volume(cluster_name="a@b"))
    volume = cinder.volume(VOLUME, timeout_seconds=LIMIT)
    assert volume is not None
    api.script("GET /scheduler-stats/get_pools", answer)
    with pytest.raises(OutsideError):
        cinder.protocol_of(volume, timeout_seconds=LIMIT)


def test_volume_that_is_gone(api: OpenStackApi, cinder: CinderClient) -> None:
    """Cinder's 404 names it, and another volume is shown as to an admin -> None."""
    gone = fault(404, "itemNotFound", f"VolumeNotFound: Volume {VOLUME} could not be found.")
    api.script(f"GET /volumes/{VOLUME}", gone)
    other = answers.volume(id="other")["volume"]
    api.script("GET /volumes/detail", Reply(200, {"volumes": [other]}))
    assert cinder.volume(VOLUME, timeout_seconds=LIMIT) is None


@pytest.mark.parametrize("status", [200, 403])
def test_404_to_somebody_who_is_no_admin_proves_nothing(
    api: OpenStackApi, cinder: CinderClient, status: int
) -> None:
    """No volume to compare with -> only who may list services believes a 404."""
    api.script(
        f"GET /volumes/{VOLUME}", fault(404, "itemNotFound", f"Volume {VOLUME} could not be found.")
    )
    api.script("GET /volumes/detail", Reply(200, {"volumes": []}))
    services = Reply(200, answers.services()) if status == 200 else fault(403, "forbidden", "no")
    api.script("GET /os-services", services)
    if status == 200:
        assert cinder.volume(VOLUME, timeout_seconds=LIMIT) is None
    else:
        with pytest.raises(PermanentError, match="role"):
            cinder.volume(VOLUME, timeout_seconds=LIMIT)


def test_404_where_another_volume_is_shown_as_to_a_member(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """The role is not admin -> said so; the volume is not taken for gone."""
    api.script(
        f"GET /volumes/{VOLUME}", fault(404, "itemNotFound", f"Volume {VOLUME} could not be found.")
    )
    own = answers.volume(id="own")["volume"]
    del own["migration_status"]
    api.script("GET /volumes/detail", Reply(200, {"volumes": [own]}))
    with pytest.raises(PermanentError, match=r"\[cinder\] needs the role admin"):
        cinder.volume(VOLUME, timeout_seconds=LIMIT)


def test_404_of_a_proxy_proves_nothing(api: OpenStackApi, cinder: CinderClient) -> None:
    """A 404 page that is not Cinder's -> transient."""
    api.script(f"GET /volumes/{VOLUME}", Reply(404, HTML))
    with pytest.raises(TransientError):
        cinder.volume(VOLUME, timeout_seconds=LIMIT)


@pytest.mark.parametrize("lacking", ["migration_status", "os-vol-host-attr:host"])
def test_volume_shown_as_to_a_member(api: OpenStackApi, cinder: CinderClient, lacking: str) -> None:
    """What only admins see is missing -> refused: other projects' rows would seem to be gone."""
    volume = answers.volume()
    del volume["volume"][lacking]
    show(api, volume)
    with pytest.raises(PermanentError, match="role admin"):
        cinder.volume(VOLUME, timeout_seconds=LIMIT)


@pytest.mark.parametrize(
    "answer",
    [
        HTML,
        b'{"volume": {"id": "vol-0001", "status": "in-u',
        b"[]",
        b"null",
        {"volume": []},
        {"volumes": []},
        answers.volume(id="another"),
        answers.volume(status=None),
        answers.volume(status=""),
        answers.volume(multiattach="no"),
        answers.volume(shared_targets=None),
        answers.volume(migration_status=5),
        answers.volume(**{"os-vol-host-attr:host": []}),
        answers.volume(**{"os-vol-mig-status-attr:name_id": {}}),
        answers.volume(attachments=None),
        answers.volume(attachments=["x"]),
    ],
)
def test_nonsense_for_a_volume_is_no_evidence(
    api: OpenStackApi, cinder: CinderClient, answer: Any
) -> None:
    """200 with HTML, half a JSON, wrong shapes -> transient, never a volume."""
    show(api)
    api.script(f"GET /volumes/{VOLUME}", Reply(200, answer))
    with pytest.raises(TransientError, match="cannot be used"):
        cinder.volume(VOLUME, timeout_seconds=LIMIT)


@pytest.mark.parametrize(
    "attachments",
    [
        HTML,
        {},
        {"attachments": None},
        {"attachments": [5]},
        answers.attachments(answers.attachment(id=None)),
        answers.attachments(answers.attachment(status=7)),
        answers.attachments(answers.attachment(volume_id="another")),
        answers.attachments(answers.attachment(instance=[])),
        answers.attachments(
            {k: v for k, v in answers.attachment().items() if k != "connection_info"}
        ),
    ],
)
def test_nonsense_for_the_attachments_is_no_evidence(
    api: OpenStackApi, cinder: CinderClient, attachments: Any
) -> None:
    """Rows in a wrong shape, or of another volume -> transient, never "no rows"."""
    show(api)
    api.script("GET /attachments/detail", Reply(200, attachments))
    with pytest.raises(TransientError, match="cannot be used"):
        cinder.volume(VOLUME, timeout_seconds=LIMIT)


def test_list_that_lacks_a_attachment_which_the_volume_names(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """The volume names an attached row, the list is empty -> transient, never "no rows"."""
    show(api, answers.volume(attachments=[answers.attached()]), answers.attachments())
    with pytest.raises(TransientError, match=f"lacks {ROW}"):
        cinder.volume(VOLUME, timeout_seconds=LIMIT)


@pytest.mark.parametrize("services", [HTML, {"services": [{"binary": "cinder-volume"}]}])
def test_nonsense_for_the_services_is_no_heartbeat(
    api: OpenStackApi, cinder: CinderClient, services: Any
) -> None:
    """The list of services cannot be read -> transient; nothing is assumed."""
    show(api)
    api.script("GET /os-services", Reply(200, services))
    with pytest.raises(TransientError):
        cinder.volume(VOLUME, timeout_seconds=LIMIT)


# -- writes ----------------------------------------------------------------------------------------


def test_simple_actions(api: OpenStackApi, cinder: CinderClient) -> None:
    """reserve, unreserve, roll_detaching -> one POST each with the id of the request."""
    api.script(ACTION, Reply(202))
    cinder.reserve(VOLUME, request_id="req-1", timeout_seconds=LIMIT)
    cinder.unreserve(VOLUME, request_id="req-2", timeout_seconds=LIMIT)
    cinder.roll_detaching(VOLUME, request_id="req-3", timeout_seconds=LIMIT)
    assert [r.body for r in api.requests] == [
        {"os-reserve": {}}, {"os-unreserve": {}}, {"os-roll_detaching": {}},
    ]  # fmt: skip
    assert [r.headers["x-openstack-request-id"] for r in api.requests] == [
        "req-1", "req-2", "req-3",
    ]  # fmt: skip


def test_reserve_of_a_volume_that_is_not_available(api: OpenStackApi, cinder: CinderClient) -> None:
    """Cinder's compare-and-swap fails -> a conflict, in Cinder's words."""
    words = "Invalid volume: Volume status must be available to reserve, but the status is in-use."
    api.script(ACTION, fault(400, "badRequest", words))
    with pytest.raises(ConflictError, match="the status is in-use"):
        cinder.reserve(VOLUME, request_id="req-1", timeout_seconds=LIMIT)


def test_complete(api: OpenStackApi, cinder: CinderClient) -> None:
    """os-complete -> on the row, at the microversion that has it; a row that is gone is told."""
    line = f"POST /attachments/{ROW}/action"
    api.script(line, Reply(204))
    cinder.complete(ROW, request_id="req-1", timeout_seconds=LIMIT)
    assert api.requests[-1].body == {"os-complete": {}}
    assert api.requests[-1].headers["openstack-api-version"] == "volume 3.44"
    words = f"Volume attachment could not be found with filter: attachment_id = {ROW}."
    api.script(line, fault(404, "itemNotFound", words))
    with pytest.raises(NotFoundError):
        cinder.complete(ROW, request_id="req-1", timeout_seconds=LIMIT)


def test_delete_attachment(api: OpenStackApi, cinder: CinderClient) -> None:
    """DELETE -> success; a row that is gone already -> success too."""
    line = f"DELETE /attachments/{ROW}"
    api.script(line, Reply(200, answers.attachments()))
    cinder.delete_attachment(ROW, request_id="req-1", timeout_seconds=LIMIT)
    words = f"VolumeAttachmentNotFound: ... with filter: attachment_id = {ROW}."
    api.script(line, fault(404, "itemNotFound", words))
    cinder.delete_attachment(ROW, request_id="req-1", timeout_seconds=LIMIT)


@pytest.mark.parametrize("reply", [Reply(404, HTML), fault(404, "itemNotFound", "No such route.")])
def test_delete_that_reached_somebody_else(
    api: OpenStackApi, cinder: CinderClient, reply: Reply
) -> None:
    """A 404 that does not name the row -> not success: the row may well be there."""
    api.script(f"DELETE /attachments/{ROW}", reply)
    with pytest.raises(PermanentError):
        cinder.delete_attachment(ROW, request_id="req-1", timeout_seconds=LIMIT)


@pytest.mark.parametrize("reply", [Reply(200, HTML), Reply(200, b""), Reply(202, b"{}")])
def test_delete_answered_by_a_page(api: OpenStackApi, cinder: CinderClient, reply: Reply) -> None:
    """A success that is not Cinder's -> indeterminate."""
    api.script(f"DELETE /attachments/{ROW}", reply)
    with pytest.raises(IndeterminateError):
        cinder.delete_attachment(ROW, request_id="req-1", timeout_seconds=LIMIT)


def test_guard_that_says_nova_uses_it(api: OpenStackApi, cinder: CinderClient) -> None:
    """Cinder's CVE-2023-2088 guard -> a conflict that names the instance, on all three calls."""
    refused = fault(409, "conflictingRequest", USED)
    api.script(f"DELETE /attachments/{ROW}", refused)
    api.script(ACTION, refused)
    with pytest.raises(ConflictError, match=SERVER):
        cinder.delete_attachment(ROW, request_id="req-1", timeout_seconds=LIMIT)
    with pytest.raises(ConflictError, match=SERVER):
        cinder.terminate_connection(VOLUME, CONNECTOR, request_id="req-1", timeout_seconds=LIMIT)
    with pytest.raises(ConflictError, match=SERVER):
        force_detach(cinder)


def force_detach(cinder: CinderClient, attachment_id: str | None = ROW) -> None:
    cinder.force_detach(VOLUME, attachment_id, CONNECTOR, request_id="req-1", timeout_seconds=LIMIT)


def test_force_detach_names_connector_and_attachment(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """With a row, and without one -> exactly these keys; the schema allows no others."""
    api.script(ACTION, Reply(202))
    force_detach(cinder)
    force_detach(cinder, None)
    connector = {"host": COMPUTE, "initiator": "iqn.x", "ip": "192.0.2.1"}
    assert [r.body for r in api.requests] == [
        {"os-force_detach": {"connector": connector, "attachment_id": ROW}},
        {"os-force_detach": {"connector": connector}},
    ]


def test_force_detach_of_an_unknown_attachment_has_ended_the_connection_already(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """409 without an instance, and at most one row -> indeterminate: terminate came first."""
    api.script(ACTION, fault(409, "conflictingRequest", NOBODY))
    api.script("GET /attachments", Reply(200, answers.attachments()))
    with pytest.raises(IndeterminateError, match="perhaps its connection too"):
        force_detach(cinder)
    assert api.requests[-1].query == {"all_tenants": "1", "volume_id": VOLUME}


def test_force_detach_with_several_attachments_did_nothing(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """409 in the same words, and two rows -> a conflict: Cinder's first half refused."""
    api.script(ACTION, fault(409, "conflictingRequest", NOBODY))
    api.script(
        "GET /attachments",
        Reply(200, answers.attachments(answers.attachment(), answers.attachment(id="row-2"))),
    )
    with pytest.raises(ConflictError, match="several attachments"):
        force_detach(cinder)


def test_force_detach_refused_and_nobody_says_why(api: OpenStackApi, cinder: CinderClient) -> None:
    """409 without an instance, and the rows cannot be read -> the worst is assumed."""
    api.script(ACTION, fault(409, "conflictingRequest", NOBODY))
    api.script("GET /attachments", Reply(503, HTML))
    with pytest.raises(IndeterminateError):
        force_detach(cinder)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("Invalid volume: The volume cannot be detached in maintenance mode.", IndeterminateError),
        ("Error force detaching volume - InvalidVolume: More than one", IndeterminateError),
        ("Invalid input received: Mismatched volume and attachment", IndeterminateError),
        ("Invalid input for field/attribute connector. Value: 5.", PermanentError),
    ],
)
def test_force_detach_refused_by_its_second_half(
    api: OpenStackApi, cinder: CinderClient, words: str, kind: type[Exception]
) -> None:
    """A 400 of the second half -> the first half has been done; one of the schema -> nothing."""
    api.script(ACTION, fault(400, "badRequest", words))
    with pytest.raises(kind) as caught:
        force_detach(cinder)
    assert type(caught.value) is kind


def test_terminate_connection_names_the_connector(api: OpenStackApi, cinder: CinderClient) -> None:
    """os-terminate_connection -> with the one connector, never without."""
    api.script(ACTION, Reply(202))
    cinder.terminate_connection(VOLUME, CONNECTOR, request_id="req-1", timeout_seconds=LIMIT)
    assert api.requests[-1].body["os-terminate_connection"]["connector"]["initiator"] == "iqn.x"


def test_500_of_a_write_may_still_be_carried_out(api: OpenStackApi, cinder: CinderClient) -> None:
    """Cinder's RPC timed out -> 500 -> indeterminate: the manager may be at it."""
    words = "The server has either erred or is incapable of performing the requested operation."
    api.script(ACTION, fault(500, "computeFault", words))
    with pytest.raises(IndeterminateError):
        cinder.terminate_connection(VOLUME, CONNECTOR, request_id="req-1", timeout_seconds=LIMIT)


# -- lists -----------------------------------------------------------------------------------------


def listed(*ids: str, status: str = "attaching") -> Reply:
    volumes = [answers.volume(id=one, status=status)["volume"] for one in ids]
    return Reply(200, {"volumes": volumes})


def test_volumes_in_a_status_by_page(api: OpenStackApi, cinder: CinderClient) -> None:
    """Cinder's own limit is lower than ours -> asked on until our page is full."""
    api.script("GET /volumes/detail", listed("a", "b"), listed("c"))
    page = cinder.volumes_in("attaching", after=None, limit=3, timeout_seconds=LIMIT)
    assert page[0] == ListedVolume("a", "attaching", BACKEND, "2026-11-22T10:00:00.000000")
    assert [one.volume_id for one in page] == ["a", "b", "c"]
    assert [r.query for r in api.requests] == [
        {"all_tenants": "1", "status": "attaching", "sort": "id:asc", "limit": "3"},
        {"all_tenants": "1", "status": "attaching", "sort": "id:asc", "limit": "1", "marker": "b"},
    ]


def test_volume_that_was_migrated_is_listed_with_its_name_on_the_backend(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """A name_id -> in the list too: the backend exports the volume under that."""
    listed = answers.volume(status="available")["volume"]
    listed |= {"os-vol-mig-status-attr:name_id": "other"}
    api.script("GET /volumes/detail", Reply(200, {"volumes": [listed]}))
    (page,) = cinder.volumes_in("available", after=None, limit=1, timeout_seconds=LIMIT)
    assert page.name_id == "other"


def test_only_an_empty_page_is_the_end(api: OpenStackApi, cinder: CinderClient) -> None:
    """Fewer than asked for -> asked once more, because Cinder cuts pages silently."""
    found = answers.attachments(answers.attachment(status="reserved"))
    api.script("GET /attachments", Reply(200, found), Reply(200, answers.attachments()))
    page = cinder.attachments_in("reserved", after=None, limit=5, timeout_seconds=LIMIT)
    assert page == (ListedAttachment(ROW, VOLUME, "reserved", SERVER),)
    assert api.requests[0].query["attach_status"] == "reserved"
    assert "status" not in api.requests[0].query
    assert len(api.requests) == 2


def test_rows_of_one_server(api: OpenStackApi, cinder: CinderClient) -> None:
    """The rows that name a server -> one request, by the server, in every attach_status."""
    found = answers.attachments(answers.attachment(status="error_detaching"))
    api.script("GET /attachments", Reply(200, found))
    rows = cinder.attachments_of(SERVER, timeout_seconds=LIMIT)
    assert rows == (ListedAttachment(ROW, VOLUME, "error_detaching", SERVER),)
    (request,) = api.requests
    assert (request.query["instance_id"], request.query["all_tenants"]) == (SERVER, "1")


def test_rows_of_other_servers(api: OpenStackApi, cinder: CinderClient) -> None:
    """Cinder drops the filter, and lists every row -> no answer: a healthy one is not left over."""
    found = answers.attachments(answers.attachment(), answers.attachment(instance="another"))
    api.script("GET /attachments", Reply(200, found))
    with pytest.raises(TransientError, match="not filtered"):
        cinder.attachments_of(SERVER, timeout_seconds=LIMIT)


@pytest.mark.parametrize(
    "reply", [listed("b", "a"), listed("a", "a"), listed("a", status="in-use"), Reply(200, HTML)]
)
def test_list_that_is_not_what_was_asked_for(
    api: OpenStackApi, cinder: CinderClient, reply: Reply
) -> None:
    """A filter or an order that was not heeded -> no list at all."""
    api.script("GET /volumes/detail", reply)
    with pytest.raises(TransientError):
        cinder.volumes_in("attaching", after=None, limit=5, timeout_seconds=LIMIT)


def test_list_that_begins_before_its_marker(api: OpenStackApi, cinder: CinderClient) -> None:
    """The marker was not heeded -> refused, instead of going round for ever."""
    api.script("GET /volumes/detail", listed("a"))
    with pytest.raises(TransientError, match="before its marker"):
        cinder.volumes_in("attaching", after="a", limit=5, timeout_seconds=LIMIT)


def test_marker_that_was_deleted(api: OpenStackApi, cinder: CinderClient) -> None:
    """The last volume of the page before is gone -> told, for the sweep to begin anew."""
    api.script("GET /volumes/detail", fault(404, "itemNotFound", "Volume a could not be found."))
    with pytest.raises(NotFoundError):
        cinder.volumes_in("attaching", after="a", limit=5, timeout_seconds=LIMIT)


def test_count_of_volumes(api: OpenStackApi, cinder: CinderClient) -> None:
    """GET /volumes/summary -> the number; anything else is none."""
    api.script("GET /volumes/summary", Reply(200, {"volume-summary": {"total_count": 42}}))
    assert cinder.count_volumes(timeout_seconds=LIMIT) == 42
    api.script("GET /volumes/summary", Reply(200, {"volume-summary": {"total_count": "42"}}))
    with pytest.raises(TransientError):
        cinder.count_volumes(timeout_seconds=LIMIT)


# -- tokens, versions, secrets ---------------------------------------------------------------------


def test_token_that_was_refused_is_renewed_once(api: OpenStackApi, cinder: CinderClient) -> None:
    """401, then 202 -> done, with a second token; 401 for ever -> the credentials."""
    api.script(ACTION, Reply(401), Reply(202))
    cinder.reserve(VOLUME, request_id="req-1", timeout_seconds=LIMIT)
    assert api.tokens == 2
    assert {r.headers["x-openstack-request-id"] for r in api.requests} == {"req-1"}
    api.script(ACTION, Reply(401))
    with pytest.raises(PermanentError, match="credentials are not accepted"):
        cinder.reserve(VOLUME, request_id="req-2", timeout_seconds=LIMIT)
    assert len(api.asked("POST")) == 4


def test_token_refused_to_two_at_once(api: OpenStackApi, cinder: CinderClient) -> None:
    """401 to two threads, the second while the first renews the token -> both go on with it."""
    api.script(ACTION, Reply(202))
    cinder.reserve(VOLUME, request_id="req-0", timeout_seconds=LIMIT)
    api.script(ACTION, Reply(401, hang_seconds=0.3), Reply(401, hang_seconds=0.6), Reply(202))
    renewed = {"X-Subject-Token": "canary-token-renewed"}
    renewal = dataclasses.replace(api.token(), headers=renewed, hang_seconds=0.6)
    api.replies["POST /identity/v3/auth/tokens"] = [renewal]
    with ThreadPoolExecutor() as pool:
        both = [
            pool.submit(cinder.reserve, VOLUME, request_id=name, timeout_seconds=LIMIT)
            for name in ("req-1", "req-2")
        ]
    for one in both:
        one.result()
    assert len(api.asked("POST")) == 5


def test_keystone_gone_when_the_token_has_to_be_renewed(
    api: OpenStackApi, cinder: CinderClient
) -> None:
    """401 to a write, and Keystone fails -> transient: a 401 did nothing."""
    api.script(ACTION, Reply(202))
    cinder.reserve(VOLUME, request_id="req-0", timeout_seconds=LIMIT)
    api.script(ACTION, Reply(401))
    api.replies["POST /identity/v3/auth/tokens"] = [Reply(reset=True)]
    with pytest.raises(TransientError):
        cinder.reserve(VOLUME, request_id="req-1", timeout_seconds=LIMIT)


def test_versions_are_negotiated_once(api: OpenStackApi, cinder: CinderClient) -> None:
    """An older Cinder -> the best that it speaks; one that is too old -> said so."""
    api.cinder_newest = "3.50"
    show(api)
    cinder.volume(VOLUME, timeout_seconds=LIMIT)
    assert api.requests[0].headers["openstack-api-version"] == "volume 3.48"


def test_cinder_that_is_too_old(api: OpenStackApi, cinder: CinderClient) -> None:
    """Microversions end below what a call needs -> said so, with the numbers."""
    api.cinder_newest = "3.40"
    with pytest.raises(PermanentError, match=re.escape("up to 3.40; 3.44 is needed")):
        cinder.complete(ROW, request_id="req-1", timeout_seconds=LIMIT)


def test_cinder_that_was_replaced_by_an_older_one(api: OpenStackApi, cinder: CinderClient) -> None:
    """406 -> the versions are asked anew before the next call."""
    show(api)
    api.script(f"GET /volumes/{VOLUME}", Reply(406), Reply(200, answers.volume()))
    with pytest.raises(PermanentError, match="microversion"):
        cinder.volume(VOLUME, timeout_seconds=LIMIT)
    assert cinder.volume(VOLUME, timeout_seconds=LIMIT) is not None


SEND = "[service_user]\nsend_service_user_token = true\n"


@pytest.mark.parametrize(("extra", "sent"), [("", False), (SEND, True)])
def test_service_token_goes_with_the_guarded_calls_only(
    api: OpenStackApi, tmp_path: Path, extra: str, sent: bool
) -> None:
    """Off by default; where it is on, with the three calls that Cinder guards and no others."""
    cinder = api.cinder(tmp_path, extra)
    show(api)
    api.script(ACTION, Reply(202))
    api.script(f"DELETE /attachments/{ROW}", Reply(200, answers.attachments()))
    api.script(f"POST /attachments/{ROW}/action", Reply(204))
    cinder.volume(VOLUME, timeout_seconds=LIMIT)
    for plain in (cinder.reserve, cinder.unreserve, cinder.roll_detaching):
        plain(VOLUME, request_id="req-1", timeout_seconds=LIMIT)
    cinder.complete(ROW, request_id="req-1", timeout_seconds=LIMIT)
    assert not any("x-service-token" in r.headers for r in api.requests)
    before = len(api.requests)
    cinder.delete_attachment(ROW, request_id="req-1", timeout_seconds=LIMIT)
    cinder.terminate_connection(VOLUME, CONNECTOR, request_id="req-1", timeout_seconds=LIMIT)
    force_detach(cinder)
    guarded = api.requests[before:]
    assert len(guarded) == 3
    assert all(("x-service-token" in r.headers) is sent for r in guarded)


CREDENTIALS = "[service_user]\nsend_service_user_token = false\n"


@pytest.mark.parametrize("ordered", [False, True])
def test_service_token_goes_with_the_call_that_asks_for_it(
    api: OpenStackApi, tmp_path: Path, ordered: bool
) -> None:
    """Configured and not for every call -> with the ordered call alone, and never with others."""
    cinder = api.cinder(tmp_path, CREDENTIALS)
    assert cinder.has_service_token()
    api.script(ACTION, Reply(202))
    api.script(f"DELETE /attachments/{ROW}", Reply(200, answers.attachments()))
    told: dict[str, Any] = {"request_id": "req-1", "timeout_seconds": LIMIT}
    cinder.delete_attachment(ROW, service_token=ordered, **told)
    cinder.force_detach(VOLUME, ROW, CONNECTOR, service_token=ordered, **told)
    checked = [r for r in api.requests if r.method in ("DELETE", "POST") and "token" not in r.path]
    assert [("x-service-token" in r.headers) for r in checked] == [ordered, ordered]
    cinder.terminate_connection(VOLUME, CONNECTOR, **told)
    assert "x-service-token" not in api.requests[-1].headers


def test_no_secret_leaves_the_client(
    api: OpenStackApi, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Everything logged at DEBUG, every error -> no CHAP password, no token, no password."""
    caplog.set_level(logging.DEBUG)
    cinder = api.cinder(tmp_path, SEND)
    show(
        api,
        answers.volume(attachments=[answers.attached()]),
        answers.attachments(answers.attachment()),
    )
    errors = [repr(cinder.volume(VOLUME, timeout_seconds=LIMIT))]
    leaky = fault(500, "computeFault", "driver said {'auth_password': 'canary-chap'}")
    api.script(ACTION, leaky)
    for reply in (
        leaky,
        Reply(401),
        Reply(200, [answers.attachment()]),
        Reply(reset=True),
        Reply(202, HTML),
    ):
        api.script(f"DELETE /attachments/{ROW}", reply)
        with pytest.raises(OutsideError) as caught:
            cinder.delete_attachment(ROW, request_id="req-1", timeout_seconds=LIMIT)
        errors.append("".join(traceback.format_exception(caught.value)))
    everything = caplog.text + "".join(errors)
    assert "driver said" in everything
    assert "canary" not in everything
    assert PASSWORD not in everything
